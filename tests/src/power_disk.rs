//! A disk whose power can be cut: what was not flushed is lost, torn, or kept, as a seed decides.
//!
//! A FUSE file system in this process, held in memory. A write stays volatile until its file is flushed (`fsync`,
//! `fdatasync`); a name stays volatile until its directory is flushed. `kill -9` alone keeps the page cache and proves
//! nothing about flushing; this does: freeze the disk, kill the processes, cut the power, and what comes back is only
//! what a drive had promised. It also injects EIO, a full disk, and slow flushes.

mod fuse;
mod volume;

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
pub use volume::Totals;
use volume::{Loss, Volume};

/// What goes wrong from now on. The default is a healthy disk.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Every write and flush fails with EIO and changes nothing: the moment before the power goes.
    pub frozen: bool,
    /// Flushes fail with EIO once this many more have succeeded.
    pub flushes_until_eio: Option<u64>,
    /// Each flush takes this much longer.
    pub flush_delay: Duration,
    /// Flushes answer that all is well and make nothing durable: what a program that never flushes would see.
    pub flushes_lie: bool,
}

#[derive(Debug)]
struct Shared {
    volume: Mutex<Volume>,
    faults: Mutex<Faults>,
}

impl Shared {
    fn volume(&self) -> MutexGuard<'_, Volume> {
        self.volume.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One such disk, mounted until dropped.
#[derive(Debug)]
pub struct PowerDisk {
    mount_point: PathBuf,
    shared: Arc<Shared>,
    session: Option<fuser::BackgroundSession>,
}

impl PowerDisk {
    /// Mounts an empty disk of `capacity` bytes at `mount_point`, an existing empty directory. Needs root and /dev/fuse.
    pub fn mount(mount_point: &Path, capacity: u64) -> Result<Self> {
        let shared = Arc::new(Shared {
            volume: Mutex::new(Volume::new(capacity)),
            faults: Mutex::default(),
        });
        let mut disk = Self {
            mount_point: mount_point.to_owned(),
            shared,
            session: None,
        };
        disk.attach()?;
        Ok(disk)
    }

    /// Moves the content of `directory`, in which nobody works, onto a fresh disk mounted in its place.
    pub fn replace(directory: &Path, capacity: u64) -> Result<Self> {
        let aside = directory.with_extension("before");
        std::fs::rename(directory, &aside).with_context(|| directory.display().to_string())?;
        std::fs::create_dir(directory).with_context(|| directory.display().to_string())?;
        let disk = Self::mount(directory, capacity)?;
        let copied = Command::new("cp")
            .arg("-R")
            .arg(aside.join("."))
            .arg(directory)
            .status()?;
        ensure!(copied.success(), "cp {}: {copied}", aside.display());
        disk.flush_all();
        Ok(disk)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Replaces the faults in force.
    pub fn set_faults(&self, faults: Faults) {
        *self.shared.faults() = faults;
    }

    /// Changes the size; below what is in use, every further growth is ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.volume().set_capacity(bytes);
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.volume().space().1
    }

    /// Counters since the mount.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.shared.volume().totals()
    }

    /// Everything written so far is durable, as after `sync`.
    pub fn flush_all(&self) {
        self.shared.volume().flush_all();
    }

    /// Nothing written or flushed from here on takes effect, and every attempt fails.
    pub fn freeze(&self) {
        self.shared.faults().frozen = true;
    }

    /// The power is gone and comes back. Nobody may have a file open any more. Unflushed writes are dropped, torn at
    /// 512 bytes, or kept, by `seed`; the page cache is gone with the mount. Faults are cleared.
    pub fn cut_power(&mut self, seed: u64) -> Result<()> {
        self.lose_power(Loss::Seeded(seed))
    }

    /// The same, and nothing unflushed survives.
    pub fn cut_power_losing_everything(&mut self) -> Result<()> {
        self.lose_power(Loss::Everything)
    }

    fn lose_power(&mut self, loss: Loss) -> Result<()> {
        self.detach()?;
        self.shared.volume().lose_power(loss);
        *self.shared.faults() = Faults::default();
        self.attach()
    }

    fn attach(&mut self) -> Result<()> {
        let session = fuse::mount(Arc::clone(&self.shared), &self.mount_point)
            .with_context(|| format!("mount a FUSE disk at {}", self.mount_point.display()))?;
        self.session = Some(session);
        Ok(())
    }

    fn detach(&mut self) -> Result<()> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        session
            .umount_and_join()
            .with_context(|| format!("unmount {}", self.mount_point.display()))
    }
}

impl Drop for PowerDisk {
    /// Processes that still have files open, as those of a test that has failed, do not keep the mount.
    fn drop(&mut self) {
        if self.detach().is_ok() {
            return;
        }
        let lazily = Command::new("umount")
            .arg("-l")
            .arg(&self.mount_point)
            .status();
        if !lazily.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.mount_point.display());
        }
    }
}
