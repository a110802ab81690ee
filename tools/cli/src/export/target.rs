//! Where an export goes: a file that is there complete or not at all, or something that takes bytes as they come.

use anyhow::{Context as _, bail};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// What `--out` names.
pub(super) enum Target {
    /// A file, absent or to be replaced.
    Whole(Part),
    /// A pipe or a device: it cannot be replaced, and must not be.
    Stream(File),
}

impl Target {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let named = || path.display().to_string();
        match fs::metadata(path) {
            Ok(there) if there.is_file() => {
                // Behind a symbolic link the file is replaced, not the link.
                Part::create(&fs::canonicalize(path).with_context(named)?).map(Self::Whole)
            }
            Ok(there) if there.is_dir() => bail!("{}: is a directory", path.display()),
            Ok(_) => {
                let file = OpenOptions::new().write(true).open(path);
                Ok(Self::Stream(file.with_context(named)?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Part::create(path).map(Self::Whole)
            }
            Err(error) => Err(error).with_context(named),
        }
    }
}

/// A file under a name of its own until it is complete; removed if it never is.
pub(super) struct Part {
    pub(super) file: File,
    path: PathBuf,
    target: PathBuf,
    kept: bool,
}

impl Part {
    fn create(target: &Path) -> anyhow::Result<Self> {
        let mut name = target
            .file_name()
            .with_context(|| format!("{}: not a file name", target.display()))?
            .to_owned();
        name.push(format!(".part-{}", std::process::id()));
        let path = target.with_file_name(name);
        let file = File::create(&path)
            .with_context(|| format!("{}: cannot write there", target.display()))?;
        Ok(Self {
            file,
            path,
            target: target.to_owned(),
            kept: false,
        })
    }

    /// Gives the file its name, durably.
    pub(super) fn keep(mut self) -> anyhow::Result<()> {
        let named = || self.target.display().to_string();
        self.file.sync_all().with_context(named)?;
        fs::rename(&self.path, &self.target).with_context(named)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::{FileTypeExt as _, symlink};

    fn part(path: &Path) -> Part {
        match Target::open(path).unwrap() {
            Target::Whole(part) => part,
            Target::Stream(_) => panic!("{} is no stream", path.display()),
        }
    }

    fn write(path: &Path, content: &[u8]) {
        let part = part(path);
        (&part.file).write_all(content).unwrap();
        part.keep().unwrap();
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_and_the_old_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out.tsv");
        fs::write(&target, "old").unwrap();
        drop(part(&target));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        write(&target, b"new");
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link_and_the_file_behind_it_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (link, file) = (dir.path().join("link"), dir.path().join("file"));
        fs::write(&file, "old").unwrap();
        symlink(&file, &link).unwrap();
        write(&link, b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }

    #[test]
    fn a_device_is_written_to_and_never_replaced() {
        let null = Path::new("/dev/null");
        assert!(matches!(Target::open(null).unwrap(), Target::Stream(_)));
        assert!(fs::metadata(null).unwrap().file_type().is_char_device());
    }

    #[test]
    fn a_directory_or_a_place_that_is_not_there_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Target::open(dir.path()).is_err());
        assert!(Target::open(&dir.path().join("absent/file")).is_err());
        assert!(Target::open(Path::new("/")).is_err());
    }
}
