use crate::harness::{Core, options};
use pegasus_net::aligned::AlignedBuf;
use pegasus_net::{CoreIo, IoEvent, LogFlush, NetOptions, PollPolicy, Waker};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Beside the test binary: `/tmp` may be a file system without O_DIRECT.
fn directory() -> TempDir {
    let beside = std::env::current_exe().unwrap();
    TempDir::new_in(beside.parent().unwrap()).unwrap()
}

/// `None` if the file system refuses O_DIRECT; the test then says so and ends.
fn open(directory: &TempDir) -> Option<Arc<File>> {
    let path = directory.path().join("segment");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path);
    if let Err(error) = &file {
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
        eprintln!("skipped: no O_DIRECT on this file system");
    }
    file.ok().map(Arc::new)
}

fn block(io: &mut CoreIo, byte: u8, length: usize) -> AlignedBuf {
    let mut buffer = io.log_buffer(length);
    buffer.extend_from_slice(&vec![byte; length]);
    buffer.pad_to_block();
    buffer
}

fn written(core: &Core) -> (u64, std::io::Result<()>) {
    match core.event() {
        IoEvent::LogWritten { id, result } => (id, result),
        event => panic!("{event:?}"),
    }
}

#[test]
fn a_log_write_completes_once_and_its_bytes_are_in_the_file() {
    let directory = directory();
    let Some(file) = open(&directory) else { return };
    let core = Core::start(options(), |_, _, _| ());
    core.run(move |io| {
        let first = block(io, 1, 5000);
        io.write_log(&file, 0, first, 11);
        let second = block(io, 2, 4096);
        io.write_log(&file, 8192, second, 12);
        assert_eq!(io.log_writes_in_flight(), 2);
    });
    let mut ids: Vec<u64> = (0..2)
        .map(|_| {
            let (id, result) = written(&core);
            result.unwrap();
            id
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [11, 12]);
    assert_eq!(core.run(|io| io.log_writes_in_flight()), 0);
    let bytes = std::fs::read(directory.path().join("segment")).unwrap();
    assert_eq!(bytes[..5000], [1; 5000]);
    assert_eq!(bytes[5000..8192], [0; 3192]);
    assert_eq!(bytes[8192..12288], [2; 4096]);
}

#[test]
fn many_writes_reuse_buffers_and_all_complete() {
    let directory = directory();
    let Some(file) = open(&directory) else { return };
    let core = Core::start(options(), |_, _, _| ());
    for id in 0..200 {
        let file = Arc::clone(&file);
        core.run(move |io| {
            let buffer = block(io, id as u8, 4096);
            io.write_log(&file, id % 256 * 4096, buffer, id);
        });
        let (seen, result) = written(&core);
        result.unwrap();
        assert_eq!(seen, id);
    }
    assert_eq!(core.counters().log_writes, 200);
}

/// Every way of making writes durable, and every way of waiting for them.
fn every_option() -> Vec<NetOptions> {
    let flushes = [LogFlush::Fdatasync, LogFlush::Dsync, LogFlush::WriteThrough];
    let polls = [PollPolicy::Sleep, PollPolicy::Adaptive, PollPolicy::Busy];
    let with = |log_flush| {
        polls.map(|poll| NetOptions {
            poll,
            log_flush,
            ..options()
        })
    };
    flushes.into_iter().flat_map(with).collect()
}

#[test]
fn a_write_completes_once_however_it_is_made_durable_and_waited_for() {
    let directory = directory();
    let Some(file) = open(&directory) else { return };
    for (options, byte) in every_option().into_iter().zip(1..) {
        let core = Core::start(options, |_, _, _| ());
        for id in 0..20 {
            let file = Arc::clone(&file);
            core.run(move |io| {
                let buffer = block(io, byte, 4096);
                io.write_log(&file, id * 4096, buffer, id);
            });
            let (seen, result) = written(&core);
            result.unwrap();
            assert_eq!(seen, id);
        }
        assert_eq!(core.run(|io| io.log_writes_in_flight()), 0);
        let bytes = std::fs::read(directory.path().join("segment")).unwrap();
        assert_eq!(bytes[..20 * 4096], [byte; 20 * 4096]);
    }
}

#[test]
fn a_failed_write_fails_however_it_is_made_durable() {
    let directory = directory();
    drop(open(&directory));
    let file = Arc::new(File::open(directory.path().join("segment")).unwrap());
    for options in every_option() {
        let core = Core::start(options, |_, _, _| ());
        let file = Arc::clone(&file);
        core.run(move |io| {
            let buffer = block(io, 1, 4096);
            io.write_log(&file, 0, buffer, 1);
        });
        let (_, result) = written(&core);
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}

#[test]
fn a_failed_write_is_reported_with_its_own_error_not_the_flushes() {
    let directory = directory();
    drop(open(&directory));
    // Open for reading only: the kernel refuses the write, and so cancels the flush.
    let file = Arc::new(File::open(directory.path().join("segment")).unwrap());
    let core = Core::start(options(), |_, _, _| ());
    core.run(move |io| {
        let buffer = block(io, 1, 4096);
        io.write_log(&file, 0, buffer, 1);
    });
    let (_, result) = written(&core);
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn a_full_disk_is_an_error_of_the_write() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        return;
    };
    let full = Arc::new(full);
    let core = Core::start(options(), |_, _, _| ());
    core.run(move |io| {
        let buffer = block(io, 1, 4096);
        io.write_log(&full, 0, buffer, 1);
    });
    assert_eq!(
        written(&core).1.unwrap_err().raw_os_error(),
        Some(libc::ENOSPC)
    );
}

#[test]
fn a_core_that_ends_waits_for_its_log_writes() {
    let directory = directory();
    let Some(file) = open(&directory) else { return };
    let mut io = CoreIo::new(options(), Waker::new().unwrap()).unwrap();
    for id in 0..16 {
        let buffer = block(&mut io, 7, 65_536);
        io.write_log(&file, id * 65_536, buffer, id);
    }
    io.poll(Duration::ZERO, &mut Vec::new()).unwrap();
    drop(io);
    assert_eq!(
        std::fs::read(directory.path().join("segment")).unwrap(),
        vec![7; 1 << 20]
    );
    assert_eq!(Arc::strong_count(&file), 1);
}

#[test]
fn an_idle_core_ends_at_once_with_connections_open() {
    let core = Core::start(options(), |_, _, _| ());
    let client = core.connect();
    core.wait_for("the connection", |counters| counters.connections == 1);
    drop(core);
    drop(client);
}
