//! The power disk through the kernel: what the tests of durability rest on.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::has_root;
use e2e::power_disk::{Faults, PowerDisk};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

fn disk() -> (tempfile::TempDir, PowerDisk) {
    let directory = tempfile::tempdir().unwrap();
    let disk = PowerDisk::mount(directory.path(), 64 << 20).unwrap();
    (directory, disk)
}

#[test]
fn only_what_was_flushed_outlives_the_power() {
    if !has_root("only_what_was_flushed_outlives_the_power") {
        return;
    }
    let (_directory, mut disk) = disk();
    let root = disk.path().to_owned();
    let mut kept = File::create(root.join("kept")).unwrap();
    kept.write_all(&[1; 10_000]).unwrap();
    kept.sync_data().unwrap();
    let mut lost = File::create(root.join("lost")).unwrap();
    for _ in 0..64 {
        lost.write_all(&[2; 512]).unwrap();
    }
    drop(lost);
    File::open(&root).unwrap().sync_all().unwrap();
    fs::write(root.join("unnamed"), b"no name on disk").unwrap();
    assert_eq!(fs::read(root.join("lost")).unwrap(), [2; 64 * 512]);
    drop(kept);

    // The page cache must not bring back what the disk has dropped.
    disk.cut_power(1).unwrap();
    assert_eq!(fs::read(root.join("kept")).unwrap(), [1; 10_000]);
    assert_ne!(fs::read(root.join("lost")).unwrap(), [2; 64 * 512]);
    assert!(!root.join("unnamed").exists());
    assert_eq!(disk.totals().power_cuts, 1);
}

#[test]
fn a_frozen_disk_fails_writes_and_flushes_and_a_full_one_says_so() {
    if !has_root("a_frozen_disk_fails_writes_and_flushes_and_a_full_one_says_so") {
        return;
    }
    let (_directory, disk) = disk();
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(disk.path().join("a"))
        .unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    disk.set_faults(Faults {
        flushes_until_eio: Some(1),
        ..Faults::default()
    });
    file.sync_data().unwrap();
    assert_eq!(
        file.sync_data().unwrap_err().raw_os_error(),
        Some(libc::EIO)
    );
    disk.set_faults(Faults::default());
    disk.set_capacity(8192);
    assert_eq!(
        file.write_all_at(&[1; 8192], 4096)
            .unwrap_err()
            .raw_os_error(),
        Some(libc::ENOSPC)
    );
    disk.freeze();
    assert_eq!(
        file.write_all_at(&[2; 4096], 0).unwrap_err().raw_os_error(),
        Some(libc::EIO)
    );
}

#[test]
fn direct_writes_reach_the_disk_in_whole_blocks() {
    if !has_root("direct_writes_reach_the_disk_in_whole_blocks") {
        return;
    }
    let (_directory, mut disk) = disk();
    let path = disk.path().join("direct");
    // tempfile-backed buffers are not aligned; a page-aligned one comes from an over-long vector.
    let storage = vec![5u8; 3 * 4096];
    let start = storage.as_ptr().align_offset(4096);
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .unwrap();
    file.write_all_at(&storage[start..start + 4096], 0).unwrap();
    file.sync_data().unwrap();
    File::open(disk.path()).unwrap().sync_all().unwrap();
    drop(file);
    disk.cut_power(9).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [5; 4096]);
}
