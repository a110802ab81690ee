//! Which file system a directory is on, and how it is mounted.

use crate::Root;
use std::io;
use std::path::{Path, PathBuf};

/// A mounted file system (`/proc/self/mountinfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub point: PathBuf,
    /// `major:minor` of what is mounted; 0 as major for file systems without a device of their own.
    pub device: String,
    /// Such as `ext4`.
    pub kind: String,
    /// Such as `/dev/nvme0n1p2`.
    pub source: String,
    /// Options of the mount and of the file system.
    pub options: Vec<String>,
}

impl Mount {
    /// Whether it was mounted with this option: `name` or `name=..`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// What comes behind `name=`; empty for an option without a value.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|option| {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            (key == name).then_some(value)
        })
    }
}

/// The file system that holds `dir`, an absolute path without links.
///
/// # Errors
/// The kernel does not tell its mounts, or none of them holds it.
pub fn of(root: &Root, dir: &Path) -> io::Result<Mount> {
    let list = root.text("/proc/self/mountinfo")?;
    // Of several on one point the last one is seen.
    let holding = list
        .lines()
        .filter_map(parse)
        .filter(|mount| dir.starts_with(&mount.point));
    holding
        .max_by_key(|mount| mount.point.components().count())
        .ok_or_else(|| io::Error::other(format!("no mounted file system holds {}", dir.display())))
}

/// `27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard`
fn parse(line: &str) -> Option<Mount> {
    let (mount, system) = line.split_once(" - ")?;
    let mount: Vec<&str> = mount.split(' ').collect();
    let mut system = system.split(' ');
    let (kind, source) = (system.next()?, system.next()?);
    let own = mount.get(5)?.split(',');
    let all = own.chain(system.next().unwrap_or_default().split(','));
    Some(Mount {
        point: PathBuf::from(unescaped(mount.get(4)?)),
        device: (*mount.get(2)?).to_owned(),
        kind: kind.to_owned(),
        source: unescaped(source),
        options: all
            .filter(|option| !option.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

/// The kernel writes white space and backslashes as `\040`.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let code = escape
            .get(1..4)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (shown, length) = code.map_or(('\\', 1), |code| (char::from(code), 4));
        out.push(shown);
        rest = escape.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The nearest directory that exists, as an absolute path without links: a data directory may not have been made yet.
///
/// # Errors
/// Nothing on the way to it exists, or may be looked at.
pub fn existing(dir: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(dir)?;
    let found = absolute
        .ancestors()
        .find_map(|path| match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            result => Some(result),
        });
    found.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const LIST: &str = "\
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard,data=ordered
broken line
30 27 0:40 / /data\\040dir rw,noatime - xfs /dev/mapper/a rw
31 27 0:41 / /data rw - tmpfs none rw
";

    #[test]
    fn the_deepest_mount_holds_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        fs::write(dir.path().join("proc/self/mountinfo"), LIST).unwrap();
        let root = Root::at(dir.path());
        let kind = |path: &str| of(&root, Path::new(path)).unwrap().kind;
        assert_eq!(kind("/data/x"), "tmpfs");
        assert_eq!(kind("/data dir/x"), "xfs");
        assert_eq!(kind("/datax"), "ext4");
        let mount = of(&root, Path::new("/")).unwrap();
        assert_eq!(mount.value("data"), Some("ordered"));
        assert!(mount.has("discard") && !mount.has("noatime"));
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_looked_for_upwards() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        assert_eq!(existing(&base.join("a/b")).unwrap(), base);
    }

    #[test]
    fn this_machine_has_a_file_system_for_its_root() {
        assert_eq!(
            of(&Root::system(), Path::new("/")).unwrap().point,
            Path::new("/")
        );
    }
}
