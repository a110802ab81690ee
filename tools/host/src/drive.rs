//! The drives below a file system, and how the kernel treats them.

use crate::Root;
use crate::mount::Mount;
use std::io;
use std::path::{Path, PathBuf};

/// Stacked devices (LVM, RAID, encryption) end far above this.
const DEPTH_MAX: usize = 8;
const DRIVES_MAX: usize = 64;

/// A drive as `/sys/block` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    /// Such as `nvme0n1`.
    pub name: String,
}

impl Drive {
    /// A file of its request queue.
    #[must_use]
    pub fn queue(&self, file: &str) -> String {
        format!("/sys/block/{}/queue/{file}", self.name)
    }

    /// Bytes it holds.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn bytes(&self, root: &Root) -> io::Result<u64> {
        // In units of 512 bytes, whatever its blocks are.
        let sectors = root.number(format!("/sys/block/{}/size", self.name))?;
        Ok(sectors.saturating_mul(512))
    }

    /// Where its hardware is in `/sys`.
    ///
    /// # Errors
    /// It has none: a loop device, a RAM disk.
    pub fn hardware(&self, root: &Root) -> io::Result<PathBuf> {
        root.resolve(format!("/sys/block/{}/device", self.name))
    }
}

/// The drives that hold a file system: one, or those that a stacked device is made of.
///
/// # Errors
/// It has no drive of this machine (memory, network, overlay), or the kernel does not tell.
pub fn of(root: &Root, mount: &Mount) -> io::Result<Vec<Drive>> {
    let by_number = format!("/sys/dev/block/{}", mount.device);
    let found = root.resolve(by_number).or_else(|error| {
        // Some file systems (btrfs) have a number of their own, and name a device as their source.
        let name = Path::new(&mount.source)
            .file_name()
            .filter(|_| mount.source.starts_with("/dev/"));
        let name = name.ok_or(error)?;
        root.resolve(Path::new("/sys/class/block").join(name))
    });
    let found = found.map_err(|_| {
        io::Error::other(format!(
            "{} on {} has no drive of this machine",
            mount.kind, mount.source
        ))
    })?;
    let mut drives = Vec::new();
    collect(root, &found, DEPTH_MAX, &mut drives);
    Ok(drives)
}

fn collect(root: &Root, device: &Path, depth: usize, drives: &mut Vec<Drive>) {
    let whole = match root.has(device.join("partition")) {
        true => device.parent().unwrap_or(device),
        false => device,
    };
    let parts = root.names(whole.join("slaves"));
    for part in parts.iter().filter(|_| depth > 0) {
        if let Ok(part) = root.resolve(Path::new("/sys/class/block").join(part)) {
            collect(root, &part, depth - 1, drives);
        }
    }
    let name = whole.file_name().and_then(|name| name.to_str());
    if let Some(name) = name.filter(|_| parts.is_empty()) {
        let drive = Drive {
            name: name.to_owned(),
        };
        if !drives.contains(&drive) && drives.len() < DRIVES_MAX {
            drives.push(drive);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn mount(device: &str, source: &str) -> Mount {
        Mount {
            point: "/".into(),
            device: device.to_owned(),
            kind: "ext4".to_owned(),
            source: source.to_owned(),
            options: Vec::new(),
        }
    }

    /// An NVMe drive with a partition, and a logical volume on that and on a second drive.
    fn machine() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path().join("sys");
        for path in [
            "devices/nvme0n1/nvme0n1p1",
            "devices/sdb",
            "devices/dm-0/slaves/nvme0n1p1",
            "devices/dm-0/slaves/sdb",
            "dev/block",
            "class/block",
        ] {
            fs::create_dir_all(sys.join(path)).unwrap();
        }
        fs::write(sys.join("devices/nvme0n1/nvme0n1p1/partition"), "1\n").unwrap();
        for (link, to) in [
            ("dev/block/259:1", "../../devices/nvme0n1/nvme0n1p1"),
            ("dev/block/253:0", "../../devices/dm-0"),
            ("class/block/nvme0n1p1", "../../devices/nvme0n1/nvme0n1p1"),
            ("class/block/sdb", "../../devices/sdb"),
        ] {
            symlink(to, sys.join(link)).unwrap();
        }
        dir
    }

    #[test]
    fn partitions_and_volumes_lead_to_their_drives() {
        let dir = machine();
        let root = Root::at(dir.path());
        let names = |device: &str, source: &str| -> Vec<String> {
            let drives = of(&root, &mount(device, source)).unwrap();
            drives.into_iter().map(|drive| drive.name).collect()
        };
        assert_eq!(names("259:1", "/dev/nvme0n1p1"), ["nvme0n1"]);
        assert_eq!(names("253:0", "/dev/mapper/vg"), ["nvme0n1", "sdb"]);
        assert_eq!(names("0:33", "/dev/sdb"), ["sdb"]);
    }

    #[test]
    fn memory_and_network_have_no_drive() {
        let dir = machine();
        let root = Root::at(dir.path());
        for source in ["tmpfs", "server:/export", "/dev/none"] {
            let error = of(&root, &mount("0:44", source)).unwrap_err().to_string();
            assert!(error.contains("no drive"), "{error}");
        }
    }
}
