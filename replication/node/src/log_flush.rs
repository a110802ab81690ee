//! What makes a write to the log durable on this machine: chosen once, at start, from file system and drive.
//!
//! | file system | drive | choice |
//! |---|---|---|
//! | ext4, XFS | no volatile write cache | the O_DIRECT write alone: blocks were written before, so no metadata changes |
//! | ext4, XFS | a volatile one, and FUA | `RWF_DSYNC`: one command to the drive, and no thread of the kernel has to run |
//! | ext4, XFS | a volatile one, no FUA | whichever of `RWF_DSYNC` and `fdatasync` takes less time at present |
//! | others | | `fdatasync` behind the write, on a worker of the ring |
//!
//! Without FUA the kernel flushes for an `RWF_DSYNC` write on a worker that is bound to one CPU: where nobody else works there it
//! spares two wake-ups, and 50 writers get a third more; where somebody does it has to wait, and they get a third of what they
//! get with `fdatasync`, whose workers run on any CPU. So the ring measures both.
//!
//! What the kernel says is that of the device which is mounted: a volume or RAID tells what holds for all that it is made of. A
//! drive that says "write through" and has a cache that loses its contents without power is a broken drive, or a host that hides
//! one; `log.flush` overrules what was found.

use crate::config::FlushSetting;
use pegasus_host::Root;
use pegasus_host::mount::{self, Mount};
use pegasus_net::LogFlush;
use std::fmt;
use std::io;
use std::path::Path;

/// File systems whose O_DIRECT writes are known to honour `RWF_DSYNC`, and to change no metadata when they overwrite.
const KNOWN_FILE_SYSTEMS: [&str; 4] = ["ext4", "ext3", "ext2", "xfs"];

/// What the kernel says about the cache of a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteCache {
    /// What was written is durable.
    Through,
    /// What was written is durable only after a flush, unless the write itself asked to be (force unit access).
    BackWithFua,
    /// What was written is durable only after a flush.
    Back,
    /// There is no drive to ask, as with network file systems, or it does not tell.
    Unknown,
}

/// Where a log lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDevice {
    /// Such as `ext4`.
    pub file_system: String,
    pub write_cache: WriteCache,
}

impl fmt::Display for WriteCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Back => "write back",
            Self::BackWithFua => "write back with FUA",
            Self::Through => "write through",
            Self::Unknown => "unknown",
        })
    }
}

impl LogDevice {
    /// Looks at file system and drive of `dir`.
    ///
    /// # Errors
    /// No mounted file system is known to hold the directory.
    pub fn of(root: &Root, dir: &Path) -> io::Result<Self> {
        let mount = mount::of(root, &mount::existing(dir)?)?;
        let write_cache = cache_of(root, &mount);
        // Then O_DIRECT is only a hint, and data goes through the page cache.
        let is_journaled = mount.value("data") == Some("journal");
        Ok(Self {
            file_system: if is_journaled {
                format!("{} with data=journal", mount.kind)
            } else {
                mount.kind
            },
            write_cache,
        })
    }

    /// What makes writes durable here, unless an operator knows better.
    #[must_use]
    pub fn flush(&self, setting: FlushSetting) -> LogFlush {
        let is_known = KNOWN_FILE_SYSTEMS.contains(&self.file_system.as_str());
        match setting {
            FlushSetting::Fdatasync => LogFlush::Fdatasync,
            FlushSetting::Dsync => LogFlush::Dsync,
            FlushSetting::WriteThrough => LogFlush::WriteThrough,
            FlushSetting::Auto if !is_known => LogFlush::Fdatasync,
            FlushSetting::Auto => match self.write_cache {
                WriteCache::Through => LogFlush::WriteThrough,
                WriteCache::BackWithFua => LogFlush::Dsync,
                WriteCache::Back => LogFlush::Fastest,
                WriteCache::Unknown => LogFlush::Fdatasync,
            },
        }
    }
}

fn cache_of(root: &Root, mount: &Mount) -> WriteCache {
    let Ok(device) = root.resolve(format!("/sys/dev/block/{}", mount.device)) else {
        return WriteCache::Unknown;
    };
    // A partition lies within its drive, which has the queue.
    let whole = match device.parent() {
        Some(drive) if root.has(device.join("partition")) => drive,
        _ => &device,
    };
    let has_fua = root
        .number(whole.join("queue/fua"))
        .is_ok_and(|count| count > 0);
    match root.text(whole.join("queue/write_cache")).as_deref() {
        Ok("write back") if has_fua => WriteCache::BackWithFua,
        Ok("write back") => WriteCache::Back,
        Ok("write through") => WriteCache::Through,
        _ => WriteCache::Unknown,
    }
}

/// Chooses for the data directory and says what was chosen.
#[must_use]
pub fn choose(dir: &Path, setting: FlushSetting) -> LogFlush {
    let device = LogDevice::of(&Root::system(), dir).unwrap_or_else(|error| {
        tracing::warn!(%error, "the file system of the log is not known");
        LogDevice {
            file_system: "unknown".to_owned(),
            write_cache: WriteCache::Unknown,
        }
    });
    let flush = device.flush(setting);
    let LogDevice {
        file_system,
        write_cache,
    } = &device;
    if flush == LogFlush::WriteThrough && *write_cache != WriteCache::Through {
        tracing::warn!(
            file_system, %write_cache,
            "log.flush = write-through, but the drive does not say so: if it has a volatile cache, a power cut loses \
             acknowledged writes"
        );
    } else {
        tracing::info!(file_system, %write_cache, ?flush, "how log writes are made durable");
    }
    flush
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A machine with a file system on partition 8:1 of a drive; files of its queue with their text.
    fn machine(kind: &str, options: &str, queue: &[(&str, &str)]) -> TempDir {
        let dir = TempDir::new().unwrap();
        let drive = dir.path().join("sys/devices/sda");
        for path in [
            "proc/self",
            "sys/devices/sda/sda1",
            "sys/devices/sda/queue",
            "sys/dev/block",
        ] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let mounts = format!("27 1 8:1 / / rw - {kind} /dev/sda1 {options}\n");
        fs::write(dir.path().join("proc/self/mountinfo"), mounts).unwrap();
        fs::write(drive.join("sda1/partition"), "1\n").unwrap();
        for (file, text) in queue {
            fs::write(drive.join("queue").join(file), text).unwrap();
        }
        let by_number = dir.path().join("sys/dev/block/8:1");
        symlink("../../devices/sda/sda1", by_number).unwrap();
        dir
    }

    const THROUGH: [(&str, &str); 2] = [("write_cache", "write through\n"), ("fua", "0\n")];
    const BACK: [(&str, &str); 2] = [("write_cache", "write back\n"), ("fua", "0\n")];
    const FUA: [(&str, &str); 2] = [("write_cache", "write back\n"), ("fua", "1\n")];

    fn chosen(kind: &str, queue: &[(&str, &str)], setting: FlushSetting) -> LogFlush {
        let machine = machine(kind, "rw", queue);
        let device = LogDevice::of(&Root::at(machine.path()), Path::new("/")).unwrap();
        assert_eq!(device.file_system, kind);
        device.flush(setting)
    }

    #[test]
    fn a_flush_is_left_out_only_where_file_system_and_drive_are_known_to_need_none() {
        let auto = |kind, queue: &[_]| chosen(kind, queue, FlushSetting::Auto);
        for kind in ["ext4", "xfs"] {
            assert_eq!(auto(kind, &THROUGH), LogFlush::WriteThrough);
            assert_eq!(auto(kind, &FUA), LogFlush::Dsync);
            assert_eq!(auto(kind, &BACK), LogFlush::Fastest);
            let new = [("write_cache", "something new\n"), ("fua", "1\n")];
            assert_eq!(auto(kind, &new), LogFlush::Fdatasync);
        }
        for queue in [THROUGH, FUA, BACK] {
            assert_eq!(auto("btrfs", &queue), LogFlush::Fdatasync);
        }
    }

    #[test]
    fn a_file_system_that_writes_data_into_its_journal_is_flushed() {
        let machine = machine("ext4", "rw,data=journal", &THROUGH);
        let device = LogDevice::of(&Root::at(machine.path()), Path::new("/")).unwrap();
        assert_eq!(device.flush(FlushSetting::Auto), LogFlush::Fdatasync);
    }

    #[test]
    fn an_operator_overrules_what_was_found() {
        for (setting, expected) in [
            (FlushSetting::Fdatasync, LogFlush::Fdatasync),
            (FlushSetting::Dsync, LogFlush::Dsync),
            (FlushSetting::WriteThrough, LogFlush::WriteThrough),
        ] {
            assert_eq!(chosen("btrfs", &BACK, setting), expected);
            assert_eq!(chosen("ext4", &THROUGH, setting), expected);
        }
    }

    #[test]
    fn a_file_system_without_a_drive_is_flushed() {
        let machine = machine("ext4", "rw", &THROUGH);
        fs::remove_file(machine.path().join("sys/dev/block/8:1")).unwrap();
        let device = LogDevice::of(&Root::at(machine.path()), Path::new("/")).unwrap();
        assert_eq!(device.write_cache, WriteCache::Unknown);
        assert_eq!(device.flush(FlushSetting::Auto), LogFlush::Fdatasync);
    }
}
