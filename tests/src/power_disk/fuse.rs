//! The kernel's side of a power disk: FUSE requests to calls of the volume.

use super::volume::{Outcome, Stat, Volume};
use super::{Faults, Shared};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const BLOCK_BYTES: u32 = 4096;
const WRITE_BYTES_MAX: u32 = 1 << 20;
/// Names and attributes are asked again each time: the kernel keeps nothing that a power cut would have to undo.
const NO_CACHE: Duration = Duration::ZERO;

pub(super) fn mount(shared: Arc<Shared>, mount_point: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("power-disk".into()),
        MountOption::NoAtime,
    ];
    config.acl = SessionACL::Owner;
    // A delayed flush of one node must not hold up another request.
    config.n_threads = Some(4);
    fuser::spawn_mount(PowerFilesystem { shared }, mount_point, &config)
}

struct PowerFilesystem {
    shared: Arc<Shared>,
}

impl PowerFilesystem {
    /// Runs a change of the volume unless the disk is frozen.
    fn change<T>(&self, change: impl FnOnce(&mut Volume) -> Outcome<T>) -> Result<T, Errno> {
        if self.shared.faults().frozen {
            return Err(Errno::from_i32(libc::EIO));
        }
        change(&mut self.shared.volume()).map_err(Errno::from_i32)
    }

    fn flush_inode(&self, inode: INodeNo) -> Result<(), Errno> {
        let Faults {
            flush_delay,
            flushes_lie,
            ..
        } = self.admit_flush()?;
        if !flush_delay.is_zero() {
            std::thread::sleep(flush_delay);
        }
        if flushes_lie {
            return Ok(());
        }
        self.change(|volume| volume.flush(inode.0))
    }

    fn admit_flush(&self) -> Result<Faults, Errno> {
        let mut faults = self.shared.faults();
        match &mut faults.flushes_until_eio {
            Some(0) => return Err(Errno::from_i32(libc::EIO)),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(faults.clone())
    }

    fn attributes(&self, inode: u64) -> Result<FileAttr, Errno> {
        let stat = self.shared.volume().stat(inode).map_err(Errno::from_i32)?;
        Ok(attributes_of(inode, stat))
    }

    fn entry(&self, made: Result<u64, Errno>, reply: ReplyEntry) {
        match made.and_then(|inode| self.attributes(inode)) {
            Ok(attributes) => reply.entry(&NO_CACHE, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }
}

fn attributes_of(inode: u64, stat: Stat) -> FileAttr {
    let (kind, size, perm) = match stat {
        Stat::File { length } => (FileType::RegularFile, length, 0o644),
        Stat::Directory => (FileType::Directory, 0, 0o755),
    };
    FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

fn finish(outcome: Result<(), Errno>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for PowerFilesystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Refusing only means smaller writes.
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self
            .shared
            .volume()
            .lookup(parent.0, name)
            .map_err(Errno::from_i32);
        self.entry(found, reply);
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.attributes(inode.0) {
            Ok(attributes) => reply.attr(&NO_CACHE, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = match size {
            Some(length) => self.change(|volume| volume.resize(inode.0, length)),
            None => Ok(()),
        };
        match resized.and_then(|()| self.attributes(inode.0)) {
            Ok(attributes) => reply.attr(&NO_CACHE, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        self.entry(
            self.change(|volume| volume.create_directory(parent.0, name)),
            reply,
        );
    }

    fn create(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.change(|volume| {
            let inode = volume.create_file(parent.0, name)?;
            volume.open(inode)?;
            Ok(inode)
        });
        match made.and_then(|inode| self.attributes(inode)) {
            Ok(attributes) => {
                reply.created(
                    &NO_CACHE,
                    &attributes,
                    Generation(0),
                    FileHandle(0),
                    FopenFlags::empty(),
                );
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        finish(self.change(|volume| volume.unlink(parent.0, name)), reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        finish(
            self.change(|volume| volume.remove_directory(parent.0, name)),
            reply,
        );
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        finish(
            self.change(|volume| volume.rename((parent.0, name), (new_parent.0, new_name))),
            reply,
        );
    }

    fn link(
        &self,
        _request: &Request,
        inode: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let linked = self.change(|volume| volume.link(inode.0, parent.0, name));
        self.entry(linked.map(|()| inode.0), reply);
    }

    fn open(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.shared.volume().open(inode.0) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(Errno::from_i32(error)),
        }
    }

    fn release(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.shared.volume().close(inode.0);
        reply.ok();
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.shared.volume().read(inode.0, offset, size as usize) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(Errno::from_i32(error)),
        }
    }

    fn write(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.change(|volume| volume.write(inode.0, offset, data)) {
            Ok(()) => {
                reply.written(u32::try_from(data.len()).expect("FUSE bounds a write at 1 MiB"))
            }
            Err(error) => reply.error(error),
        }
    }

    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // close(2), which promises nothing.
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        finish(self.flush_inode(inode), reply);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        finish(self.flush_inode(inode), reply);
    }

    fn readdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let volume = self.shared.volume();
        let names = match volume.list(inode.0) {
            Ok(names) => names,
            Err(error) => return reply.error(Errno::from_i32(error)),
        };
        for (position, (name, number)) in (1u64..)
            .zip(names)
            .skip(usize::try_from(offset).unwrap_or(usize::MAX))
        {
            let kind = match volume.stat(number) {
                Ok(Stat::Directory) => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(number), position, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let (capacity, used) = self.shared.volume().space();
        let blocks = capacity / u64::from(BLOCK_BYTES);
        let free = capacity.saturating_sub(used) / u64::from(BLOCK_BYTES);
        reply.statfs(
            blocks,
            free,
            free,
            1 << 20,
            1 << 20,
            BLOCK_BYTES,
            255,
            BLOCK_BYTES,
        );
    }

    fn fallocate(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
            return reply.error(Errno::from_i32(libc::EOPNOTSUPP));
        }
        let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        finish(
            self.change(|volume| {
                volume.allocate(inode.0, offset.saturating_add(length), keep_size)
            }),
            reply,
        );
    }
}
