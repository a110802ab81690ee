//! Where `/sys` and `/proc` are read: below `/`, or below a directory that looks like one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// More than the largest of the kernel's lists: `/proc/interrupts` of some hundred CPUs has a few MiB.
const BYTES_MAX: u64 = 32 << 20;

/// A file system that holds `sys` and `proc`. Paths are given as the kernel names them: `/sys/..`, `/proc/..`.
#[derive(Clone, Debug)]
pub struct Root {
    base: PathBuf,
}

impl Root {
    /// This machine.
    #[must_use]
    pub fn system() -> Self {
        Self::at("/")
    }

    /// A directory with a `sys` and a `proc` in it: a fake machine, or a copy of another one's.
    #[must_use]
    pub fn at(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into() }
    }

    /// Whether it is this machine.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.base == Path::new("/")
    }

    /// Where `path` is for other programs.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.base.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a small file, without white space around it.
    ///
    /// # Errors
    /// It is not there, may not be read, or is not text.
    pub fn text(&self, path: impl AsRef<Path>) -> io::Result<String> {
        let mut text = String::new();
        File::open(self.path(path))?
            .take(BYTES_MAX)
            .read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    }

    /// The whole number in a file.
    ///
    /// # Errors
    /// Those of [`Root::text`], and `InvalidData` for another text.
    pub fn number(&self, path: impl AsRef<Path>) -> io::Result<u64> {
        let text = self.text(path)?;
        let refused =
            || io::Error::new(io::ErrorKind::InvalidData, format!("`{text}` is no number"));
        text.parse().map_err(|_| refused())
    }

    /// Names in a directory, sorted; empty where there is none.
    #[must_use]
    pub fn names(&self, dir: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(dir)) else {
            return Vec::new();
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// Whether there is such a file or directory.
    #[must_use]
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// What `path` is when all links are followed, as the kernel names it.
    ///
    /// # Errors
    /// It is not there, or a link leads out of this root.
    pub fn resolve(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let resolved = self.path(path).canonicalize()?;
        let base = self.base.canonicalize()?;
        let inner = resolved.strip_prefix(&base).map_err(io::Error::other)?;
        Ok(Path::new("/").join(inner))
    }

    /// Writes a setting of the kernel: the file must be there already.
    ///
    /// # Errors
    /// It is not there, may not be written, or the kernel refuses the value.
    pub fn write(&self, path: impl AsRef<Path>, value: &str) -> io::Result<()> {
        // A file of the kernel ignores it; of any other nothing of a longer value may stay behind.
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.path(path))?
            .write_all(value.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_kernel_below_the_base() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sys/a/b")).unwrap();
        fs::write(dir.path().join("sys/a/n"), " 17\n").unwrap();
        std::os::unix::fs::symlink("a/b", dir.path().join("sys/link")).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("sys/out")).unwrap();
        let root = Root::at(dir.path());
        assert_eq!(root.number("/sys/a/n").unwrap(), 17);
        assert_eq!(root.names("/sys/a"), ["b", "n"]);
        assert_eq!(root.resolve("/sys/link").unwrap(), Path::new("/sys/a/b"));
        assert!(root.resolve("/sys/out").is_err());
        assert!(root.number("/sys/link").is_err());
        assert!(root.names("/proc").is_empty());
    }

    #[test]
    fn a_setting_is_replaced_whole_and_never_made() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x"), "long value\n").unwrap();
        let root = Root::at(dir.path());
        root.write("/x", "1").unwrap();
        assert_eq!(root.text("/x").unwrap(), "1");
        assert!(root.write("/y", "1").is_err());
        assert!(!root.has("/y"));
    }
}
