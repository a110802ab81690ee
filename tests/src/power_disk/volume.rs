//! The files of a power disk: what is there now, and what would be there after a power cut.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

pub(super) const ROOT: u64 = 1;
/// What a drive writes at once or not at all.
const SECTOR_BYTES: usize = 512;

/// What a power cut does to changes that were not flushed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    Everything,
    /// Each is dropped, torn or kept, as the seed decides.
    Seeded(u64),
}

/// A POSIX error number.
pub(super) type Failure = i32;
pub(super) type Outcome<T> = Result<T, Failure>;

/// What has happened since the disk was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub writes: u64,
    pub flushes: u64,
    pub power_cuts: u64,
    /// Unflushed writes that a power cut dropped or tore.
    pub writes_lost: u64,
    /// Names created, moved or removed and not flushed that a power cut undid.
    pub names_lost: u64,
}

#[derive(Debug, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

/// A change of `now` that a flush has not made durable.
#[derive(Debug)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    Resize { length: usize },
}

#[derive(Debug, Default)]
struct Directory {
    now: BTreeMap<OsString, u64>,
    durable: BTreeMap<OsString, u64>,
}

#[derive(Debug)]
enum Inode {
    File(File),
    Directory(Directory),
}

/// Kind and size of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stat {
    File { length: u64 },
    Directory,
}

#[derive(Debug)]
pub(super) struct Volume {
    inodes: BTreeMap<u64, Inode>,
    open: BTreeMap<u64, u64>,
    next_inode: u64,
    capacity: u64,
    used: u64,
    totals: Totals,
}

impl Volume {
    pub(super) fn new(capacity: u64) -> Self {
        let inodes = BTreeMap::from([(ROOT, Inode::Directory(Directory::default()))]);
        Self {
            inodes,
            open: BTreeMap::new(),
            next_inode: ROOT + 1,
            capacity,
            used: 0,
            totals: Totals::default(),
        }
    }

    pub(super) fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// Capacity and bytes in use.
    pub(super) fn space(&self) -> (u64, u64) {
        (self.capacity, self.used)
    }

    pub(super) fn stat(&self, inode: u64) -> Outcome<Stat> {
        match self.inodes.get(&inode).ok_or(libc::ENOENT)? {
            Inode::File(file) => Ok(Stat::File {
                length: file.now.len() as u64,
            }),
            Inode::Directory(_) => Ok(Stat::Directory),
        }
    }

    pub(super) fn lookup(&self, parent: u64, name: &OsStr) -> Outcome<u64> {
        self.directory(parent)?
            .now
            .get(name)
            .copied()
            .ok_or(libc::ENOENT)
    }

    pub(super) fn list(&self, inode: u64) -> Outcome<Vec<(OsString, u64)>> {
        Ok(self
            .directory(inode)?
            .now
            .iter()
            .map(|(name, inode)| (name.clone(), *inode))
            .collect())
    }

    pub(super) fn create_file(&mut self, parent: u64, name: &OsStr) -> Outcome<u64> {
        self.create(parent, name, Inode::File(File::default()))
    }

    pub(super) fn create_directory(&mut self, parent: u64, name: &OsStr) -> Outcome<u64> {
        self.create(parent, name, Inode::Directory(Directory::default()))
    }

    pub(super) fn link(&mut self, inode: u64, parent: u64, name: &OsStr) -> Outcome<()> {
        self.file(inode)?;
        let directory = self.directory_mut(parent)?;
        if directory.now.contains_key(name) {
            return Err(libc::EEXIST);
        }
        directory.now.insert(name.to_owned(), inode);
        Ok(())
    }

    pub(super) fn unlink(&mut self, parent: u64, name: &OsStr) -> Outcome<()> {
        let inode = self.lookup(parent, name)?;
        self.file(inode).map_err(|_| libc::EISDIR)?;
        self.directory_mut(parent)?.now.remove(name);
        self.collect();
        Ok(())
    }

    pub(super) fn remove_directory(&mut self, parent: u64, name: &OsStr) -> Outcome<()> {
        let inode = self.lookup(parent, name)?;
        if !self.directory(inode)?.now.is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        self.directory_mut(parent)?.now.remove(name);
        self.collect();
        Ok(())
    }

    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Outcome<()> {
        let inode = self.lookup(from.0, from.1)?;
        if let Ok(target) = self.lookup(to.0, to.1)
            && let Ok(directory) = self.directory(target)
            && !directory.now.is_empty()
        {
            return Err(libc::ENOTEMPTY);
        }
        self.directory(to.0)?;
        self.directory_mut(from.0)?.now.remove(from.1);
        self.directory_mut(to.0)?.now.insert(to.1.to_owned(), inode);
        self.collect();
        Ok(())
    }

    pub(super) fn open(&mut self, inode: u64) -> Outcome<()> {
        self.stat(inode)?;
        *self.open.entry(inode).or_default() += 1;
        Ok(())
    }

    pub(super) fn close(&mut self, inode: u64) {
        if let Some(count) = self.open.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&inode);
                self.collect();
            }
        }
    }

    pub(super) fn read(&self, inode: u64, offset: u64, length: usize) -> Outcome<&[u8]> {
        let now = &self.file(inode)?.now;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(now.len());
        let end = start.saturating_add(length).min(now.len());
        Ok(&now[start..end])
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) -> Outcome<()> {
        let offset = usize::try_from(offset).map_err(|_| libc::EFBIG)?;
        let end = offset.checked_add(bytes.len()).ok_or(libc::EFBIG)?;
        let length = self.file(inode)?.now.len();
        self.take_space(end.saturating_sub(length))?;
        let file = self.file_mut(inode)?;
        overwrite(&mut file.now, offset, bytes);
        file.pending.push(Pending::Write {
            offset,
            bytes: bytes.to_owned(),
        });
        self.totals.writes += 1;
        Ok(())
    }

    pub(super) fn resize(&mut self, inode: u64, length: u64) -> Outcome<()> {
        let length = usize::try_from(length).map_err(|_| libc::EFBIG)?;
        let before = self.file(inode)?.now.len();
        self.take_space(length.saturating_sub(before))?;
        self.used -= before.saturating_sub(length) as u64;
        let file = self.file_mut(inode)?;
        file.now.resize(length, 0);
        file.pending.push(Pending::Resize { length });
        Ok(())
    }

    /// Reserves space; the file grows only without `keep_size`.
    pub(super) fn allocate(&mut self, inode: u64, end: u64, keep_size: bool) -> Outcome<()> {
        let Stat::File { length } = self.stat(inode)? else {
            return Err(libc::EISDIR);
        };
        if keep_size || end <= length {
            return Ok(());
        }
        self.resize(inode, end)
    }

    /// Everything of this file, or every name of this directory, is durable.
    pub(super) fn flush(&mut self, inode: u64) -> Outcome<()> {
        self.totals.flushes += 1;
        match self.inodes.get_mut(&inode).ok_or(libc::ENOENT)? {
            Inode::File(file) => file.flush(),
            Inode::Directory(directory) => {
                directory.durable.clone_from(&directory.now);
                self.collect();
            }
        }
        Ok(())
    }

    pub(super) fn flush_all(&mut self) {
        for inode in self.inodes.values_mut() {
            match inode {
                Inode::File(file) => file.flush(),
                Inode::Directory(directory) => directory.durable.clone_from(&directory.now),
            }
        }
        self.collect();
    }

    pub(super) fn lose_power(&mut self, loss: Loss) {
        let mut random = match loss {
            Loss::Everything => None,
            Loss::Seeded(seed) => Some(SmallRng::seed_from_u64(seed)),
        };
        self.totals.power_cuts += 1;
        self.open.clear();
        for inode in self.inodes.values_mut() {
            match inode {
                Inode::File(file) => self.totals.writes_lost += file.lose_power(random.as_mut()),
                Inode::Directory(directory) => self.totals.names_lost += directory.lose_power(),
            }
        }
        self.collect();
        self.used = self.inodes.values().map(Inode::bytes).sum();
    }

    fn create(&mut self, parent: u64, name: &OsStr, inode: Inode) -> Outcome<u64> {
        let number = self.next_inode;
        let directory = self.directory_mut(parent)?;
        if directory.now.contains_key(name) {
            return Err(libc::EEXIST);
        }
        directory.now.insert(name.to_owned(), number);
        self.inodes.insert(number, inode);
        self.next_inode += 1;
        Ok(number)
    }

    fn take_space(&mut self, bytes: usize) -> Outcome<()> {
        let bytes = bytes as u64;
        if bytes > 0 && self.used + bytes > self.capacity {
            return Err(libc::ENOSPC);
        }
        self.used += bytes;
        Ok(())
    }

    /// Forgets inodes that no name, now or after a power cut, and no open file leads to.
    fn collect(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut waiting = vec![ROOT];
        waiting.extend(self.open.keys().filter(|inode| reached.insert(**inode)));
        while let Some(number) = waiting.pop() {
            if let Some(Inode::Directory(directory)) = self.inodes.get(&number) {
                let names = directory.now.values().chain(directory.durable.values());
                waiting.extend(names.filter(|inode| reached.insert(**inode)));
            }
        }
        let used = &mut self.used;
        self.inodes.retain(|number, inode| {
            let keep = reached.contains(number);
            if !keep {
                *used -= inode.bytes();
            }
            keep
        });
    }

    fn file(&self, inode: u64) -> Outcome<&File> {
        match self.inodes.get(&inode).ok_or(libc::ENOENT)? {
            Inode::File(file) => Ok(file),
            Inode::Directory(_) => Err(libc::EISDIR),
        }
    }

    fn file_mut(&mut self, inode: u64) -> Outcome<&mut File> {
        match self.inodes.get_mut(&inode).ok_or(libc::ENOENT)? {
            Inode::File(file) => Ok(file),
            Inode::Directory(_) => Err(libc::EISDIR),
        }
    }

    fn directory(&self, inode: u64) -> Outcome<&Directory> {
        match self.inodes.get(&inode).ok_or(libc::ENOENT)? {
            Inode::Directory(directory) => Ok(directory),
            Inode::File(_) => Err(libc::ENOTDIR),
        }
    }

    fn directory_mut(&mut self, inode: u64) -> Outcome<&mut Directory> {
        match self.inodes.get_mut(&inode).ok_or(libc::ENOENT)? {
            Inode::Directory(directory) => Ok(directory),
            Inode::File(_) => Err(libc::ENOTDIR),
        }
    }
}

impl Inode {
    fn bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.now.len() as u64,
            Self::Directory(_) => 0,
        }
    }
}

impl File {
    fn flush(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
        debug_assert_eq!(
            self.durable.len(),
            self.now.len(),
            "a flushed file has one length"
        );
    }

    /// Returns how many unflushed changes were dropped or torn.
    fn lose_power(&mut self, mut random: Option<&mut SmallRng>) -> u64 {
        let mut lost = 0;
        for change in self.pending.drain(..) {
            let Some(random) = random.as_deref_mut() else {
                lost += 1;
                continue;
            };
            match random.random_range(0..3) {
                0 => lost += 1,
                1 => {
                    lost += 1;
                    change.apply_torn(&mut self.durable, random);
                }
                _ => change.apply(&mut self.durable),
            }
        }
        self.now.clone_from(&self.durable);
        lost
    }
}

impl Directory {
    fn lose_power(&mut self) -> u64 {
        let changed = |a: &BTreeMap<OsString, u64>, b: &BTreeMap<OsString, u64>| {
            a.iter()
                .filter(|(name, inode)| b.get(*name) != Some(inode))
                .count() as u64
        };
        let lost = changed(&self.now, &self.durable) + changed(&self.durable, &self.now);
        self.now.clone_from(&self.durable);
        lost
    }
}

impl Pending {
    fn apply(self, durable: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => overwrite(durable, offset, &bytes),
            Self::Resize { length } => durable.resize(length, 0),
        }
    }

    /// Each sector of a write reaches the disk or does not, in no order.
    fn apply_torn(self, durable: &mut Vec<u8>, random: &mut SmallRng) {
        let Self::Write { offset, bytes } = self else {
            return;
        };
        let mut start = 0;
        while start < bytes.len() {
            let end = bytes
                .len()
                .min((offset + start) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - offset);
            if random.random_bool(0.5) {
                overwrite(durable, offset + start, &bytes[start..end]);
            }
            start = end;
        }
    }
}

fn overwrite(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    #[test]
    fn flushed_bytes_under_a_flushed_name_survive_every_power_cut() {
        for seed in 0..50 {
            let mut volume = Volume::new(1 << 20);
            let file = volume.create_file(ROOT, name("a")).expect("create");
            volume.write(file, 0, b"promised").expect("write");
            volume.flush(file).expect("flush file");
            volume.flush(ROOT).expect("flush directory");
            volume.write(file, 8, &[7; 2048]).expect("write");
            volume.lose_power(Loss::Seeded(seed));
            assert_eq!(volume.read(file, 0, 8).expect("read"), b"promised");
        }
    }

    #[test]
    fn an_unflushed_name_and_unflushed_bytes_are_lost_under_some_seed() {
        let mut volume = Volume::new(1 << 20);
        let file = volume.create_file(ROOT, name("a")).expect("create");
        volume.flush(file).expect("flush");
        volume.lose_power(Loss::Seeded(1));
        assert_eq!(volume.lookup(ROOT, name("a")), Err(libc::ENOENT));

        let lost = (0..50).any(|seed| {
            let mut volume = Volume::new(1 << 20);
            let file = volume.create_file(ROOT, name("a")).expect("create");
            volume.flush(ROOT).expect("flush");
            volume.write(file, 0, b"never promised").expect("write");
            volume.lose_power(Loss::Seeded(seed));
            volume.read(file, 0, 14).expect("read") != b"never promised"
        });
        assert!(lost);
    }

    #[test]
    fn a_removed_name_comes_back_until_its_directory_is_flushed() {
        let mut volume = Volume::new(1 << 20);
        let file = volume.create_file(ROOT, name("a")).expect("create");
        volume.write(file, 0, b"x").expect("write");
        volume.flush(file).expect("flush");
        volume.flush(ROOT).expect("flush");
        volume.unlink(ROOT, name("a")).expect("unlink");
        volume.lose_power(Loss::Seeded(3));
        assert_eq!(volume.lookup(ROOT, name("a")), Ok(file));
        volume.unlink(ROOT, name("a")).expect("unlink");
        volume.flush(ROOT).expect("flush");
        assert_eq!(volume.space().1, 0);
    }

    #[test]
    fn growth_beyond_the_capacity_is_refused_and_space_comes_back() {
        let mut volume = Volume::new(100);
        let file = volume.create_file(ROOT, name("a")).expect("create");
        assert_eq!(volume.write(file, 0, &[1; 101]), Err(libc::ENOSPC));
        volume.write(file, 0, &[1; 100]).expect("write");
        assert_eq!(volume.resize(file, 101), Err(libc::ENOSPC));
        volume.resize(file, 0).expect("shrink");
        volume.write(file, 0, &[1; 100]).expect("write");
    }
}
