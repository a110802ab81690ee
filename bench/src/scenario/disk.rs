//! A disk that becomes slow: the kernel lets a process do only so many reads and writes a second on the device of its data
//! (a control group; needs root). Flushes are not counted, but wait for the writes before them.

use anyhow::{Context as _, bail, ensure};
use rustix::process::Pid;
use std::fs;
use std::path::{Path, PathBuf};

/// A process on a slow disk, until this is dropped.
#[derive(Debug)]
pub(super) struct SlowDisk {
    group: PathBuf,
    home: PathBuf,
    pid: Pid,
}

/// The two ways in which kernels do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

const ROOT: &str = "/sys/fs/cgroup";

impl SlowDisk {
    /// At most `operations` reads, and as many writes, a second for a process on the device that `directory` is on.
    ///
    /// # Errors
    /// When the kernel does not offer it here, or we may not: what is missing.
    pub(super) fn begin(pid: Pid, directory: &Path, operations: u32) -> anyhow::Result<Self> {
        let (version, root) = hierarchy(Path::new(ROOT))?;
        let device = device(directory)?;
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_pid()))?;
        let home = root.join(home(&groups, version).context("the process is in no control group")?);
        let group = root.join(format!("pegasus-bench-{}", pid.as_raw_pid()));
        let needs_root = || format!("{} (a slow disk needs root)", group.display());
        fs::create_dir(&group).with_context(needs_root)?;
        let slow = Self { group, home, pid };
        for (file, line) in limits(version, &device, operations) {
            let path = slow.group.join(file);
            fs::write(&path, line).with_context(|| path.display().to_string())?;
        }
        slow.join(&slow.group)?;
        Ok(slow)
    }

    fn join(&self, group: &Path) -> anyhow::Result<()> {
        let path = group.join("cgroup.procs");
        fs::write(&path, self.pid.as_raw_pid().to_string())
            .with_context(|| path.display().to_string())
    }
}

impl Drop for SlowDisk {
    /// The process goes home; a group in which a process has just ended can be removed a moment later only, and an empty
    /// one that stays does nothing.
    fn drop(&mut self) {
        if self.join(&self.home).is_ok() {
            let _ = fs::remove_dir(&self.group);
        }
    }
}

fn hierarchy(root: &Path) -> anyhow::Result<(Version, PathBuf)> {
    let first = root.join("blkio");
    if first.join("blkio.throttle.write_iops_device").exists() {
        return Ok((Version::One, first));
    }
    let controllers = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
    if controllers.split_whitespace().any(|word| word == "io") {
        return Ok((Version::Two, root.to_owned()));
    }
    bail!(
        "no control group for block devices below {}: mount blkio (version 1), or enable `io` in cgroup.subtree_control (version 2)",
        root.display()
    )
}

/// `major:minor` of the whole device that a directory is on.
fn device(directory: &Path) -> anyhow::Result<String> {
    let named = || directory.display().to_string();
    let device = rustix::fs::stat(directory).with_context(named)?.st_dev;
    let number = format!(
        "{}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    );
    let known = fs::canonicalize(format!("/sys/dev/block/{number}"));
    let known = known.with_context(|| {
        format!(
            "{}: its file system is on no block device ({number})",
            directory.display()
        )
    })?;
    if !known.join("partition").exists() {
        return Ok(number);
    }
    let whole = known.parent().with_context(named)?.join("dev");
    Ok(fs::read_to_string(whole)?.trim().to_owned())
}

/// The path of a process' group within the hierarchy, from `/proc/PID/cgroup`.
fn home(groups: &str, version: Version) -> Option<&str> {
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = match version {
            Version::One => controllers.split(',').any(|name| name == "blkio"),
            Version::Two => controllers.is_empty(),
        };
        is_it.then(|| path.trim_start_matches('/'))
    })
}

/// Files of a group and what to write there.
fn limits(version: Version, device: &str, operations: u32) -> Vec<(&'static str, String)> {
    match version {
        Version::One => [
            "blkio.throttle.write_iops_device",
            "blkio.throttle.read_iops_device",
        ]
        .map(|file| (file, format!("{device} {operations}")))
        .to_vec(),
        Version::Two => vec![(
            "io.max",
            format!("{device} riops={operations} wiops={operations}"),
        )],
    }
}

/// # Errors
/// When the number is one that would stop everything.
pub(super) fn check(operations: u32) -> anyhow::Result<()> {
    ensure!(
        (10..=1_000_000).contains(&operations),
        "--disk-operations {operations}: 10 to 1000000 a second are allowed"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_process_is_found_in_both_sorts_of_groups() {
        let first = "8:pids:/\n7:blkio:/jobs/a\n0::/other\n";
        assert_eq!(home(first, Version::One), Some("jobs/a"));
        assert_eq!(home(first, Version::Two), Some("other"));
        assert_eq!(home("0::/\n", Version::Two), Some(""));
        assert_eq!(home("0::/\n", Version::One), None);
        assert_eq!(home("nonsense", Version::Two), None);
    }

    #[test]
    fn limits_are_written_as_each_sort_wants_them() {
        assert_eq!(
            limits(Version::One, "254:0", 300),
            [
                ("blkio.throttle.write_iops_device", "254:0 300".to_owned()),
                ("blkio.throttle.read_iops_device", "254:0 300".to_owned())
            ]
        );
        assert_eq!(
            limits(Version::Two, "254:0", 300),
            [("io.max", "254:0 riops=300 wiops=300".to_owned())]
        );
    }

    #[test]
    fn the_hierarchy_is_found_or_what_to_do_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let error = hierarchy(dir.path()).unwrap_err().to_string();
        assert!(error.contains("mount blkio"), "{error}");
        fs::write(dir.path().join("cgroup.subtree_control"), "cpu io\n").unwrap();
        assert_eq!(hierarchy(dir.path()).unwrap().0, Version::Two);
        fs::create_dir(dir.path().join("blkio")).unwrap();
        fs::write(
            dir.path().join("blkio/blkio.throttle.write_iops_device"),
            "",
        )
        .unwrap();
        assert_eq!(hierarchy(dir.path()).unwrap().0, Version::One);
    }
}
