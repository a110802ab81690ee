//! The directory of a core's database: ours or not, and of which format.

use super::OpenError;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Name of the file that says what the directory is.
const FORMAT_FILE: &str = "FORMAT";

/// What stands in it before the version.
const FORMAT_NAME: &str = "pegasus-engine";

/// The version of column families, rows and markers that this code reads and writes.
const FORMAT_VERSION: u32 = 1;

/// Longest format file that is looked at.
const FORMAT_BYTES_MAX: u64 = 64;

/// Makes `directory` ours if it is missing or empty, and refuses it if it is somebody else's or of a later format.
pub(super) fn claim(directory: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::Io {
        directory: directory.to_owned(),
        error,
    };
    fs::create_dir_all(directory).map_err(io)?;
    let path = directory.join(FORMAT_FILE);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() > FORMAT_BYTES_MAX => Err(OpenError::Foreign {
            directory: directory.to_owned(),
        }),
        Ok(_) => check(directory, &fs::read(&path).map_err(io)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::read_dir(directory)
                .map_err(io)?
                .next()
                .is_some_and(|entry| !is_left_over(entry.as_ref()))
            {
                return Err(OpenError::Foreign {
                    directory: directory.to_owned(),
                });
            }
            write(directory).map_err(io)
        }
        Err(error) => Err(io(error)),
    }
}

fn check(directory: &Path, content: &[u8]) -> Result<(), OpenError> {
    let foreign = || OpenError::Foreign {
        directory: directory.to_owned(),
    };
    let text = std::str::from_utf8(content).map_err(|_| foreign())?;
    let (name, version) = text.trim_end().split_once(' ').ok_or_else(foreign)?;
    let version: u32 = version.parse().map_err(|_| foreign())?;
    if name != FORMAT_NAME {
        return Err(foreign());
    }
    if version != FORMAT_VERSION {
        return Err(OpenError::Version {
            directory: directory.to_owned(),
            version,
            known: FORMAT_VERSION,
        });
    }
    Ok(())
}

/// The temporary file of a first start that was interrupted.
fn is_left_over(entry: Result<&fs::DirEntry, &io::Error>) -> bool {
    entry.is_ok_and(|entry| entry.file_name().to_str() == Some(&temporary_name()))
}

fn temporary_name() -> String {
    format!("{FORMAT_FILE}.tmp")
}

/// Durable before anything else is in the directory.
fn write(directory: &Path) -> io::Result<()> {
    let temporary = directory.join(temporary_name());
    let mut file = File::create(&temporary)?;
    writeln!(file, "{FORMAT_NAME} {FORMAT_VERSION}")?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(FORMAT_FILE))?;
    sync(directory)
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_is_claimed_and_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("db");
        claim(&directory).unwrap();
        claim(&directory).unwrap();
        assert_eq!(
            fs::read(directory.join(FORMAT_FILE)).unwrap(),
            b"pegasus-engine 1\n"
        );
    }

    #[test]
    fn a_first_start_that_was_interrupted_is_repeated() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT.tmp"), b"peg").unwrap();
        claim(dir.path()).unwrap();
    }

    #[test]
    fn foreign_and_later_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("something"), b"").unwrap();
        assert!(matches!(claim(dir.path()), Err(OpenError::Foreign { .. })));
        fs::write(dir.path().join(FORMAT_FILE), b"other-store 1\n").unwrap();
        assert!(matches!(claim(dir.path()), Err(OpenError::Foreign { .. })));
        fs::write(dir.path().join(FORMAT_FILE), b"pegasus-engine 2\n").unwrap();
        let error = claim(dir.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("has engine format 2, this build reads 1"),
            "{error}"
        );
    }
}
