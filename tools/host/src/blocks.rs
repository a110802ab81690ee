//! Files that are read and written past the page cache, as the log of a core is.

use rustix::fs::{Mode, OFlags, fdatasync};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What drives and file systems want offsets, lengths and addresses to be multiples of.
pub const BLOCK_BYTES: usize = 4096;

/// Memory at an address that is a multiple of [`BLOCK_BYTES`].
#[derive(Debug)]
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    offset: usize,
    length: usize,
}

impl AlignedBuffer {
    /// So many bytes of a value that does not compress to nothing.
    ///
    /// # Errors
    /// No part of the memory is aligned; the standard library may always say that.
    pub fn new(length: usize) -> io::Result<Self> {
        // A multiplicative sequence: neither zeros, which some drives do not store, nor random numbers to wait for.
        let bytes: Vec<u8> = (0..length.saturating_add(BLOCK_BYTES))
            .map(|index| {
                (index as u64)
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                    .to_be_bytes()[1]
            })
            .collect();
        let offset = bytes.as_ptr().align_offset(BLOCK_BYTES);
        if offset > BLOCK_BYTES {
            return Err(io::Error::other("no aligned memory"));
        }
        Ok(Self {
            bytes,
            offset,
            length,
        })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.offset..self.offset + self.length]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.offset..self.offset + self.length]
    }
}

/// A file opened with O_DIRECT that does not outlive this value.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    /// None for a file that never had, or has no more, a name.
    path: Option<PathBuf>,
}

impl DirectFile {
    /// A file without a name in `dir`: nothing is left behind, however the process ends.
    ///
    /// # Errors
    /// The directory cannot be written, or its file system does not know O_DIRECT.
    pub fn unnamed(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
        match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Self {
                file: file.into(),
                path: None,
            }),
            // The file system has no files without a name: one with a name that goes at once.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
                let named = Self::named(&dir.join(format!("drive-{}.tmp", std::process::id())))?;
                named.remove();
                Ok(named)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A new file that is deleted when this is dropped.
    ///
    /// # Errors
    /// Those of [`DirectFile::unnamed`], or the file is there already.
    pub fn named(path: &Path) -> io::Result<Self> {
        let direct = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .custom_flags(direct)
            .open(path)?;
        Ok(Self {
            file,
            path: Some(path.into()),
        })
    }

    /// Writes all of `buffer` at `offset`, a multiple of [`BLOCK_BYTES`] as its length is.
    ///
    /// # Errors
    /// Those of the drive, or a full file system.
    pub fn write_at(&self, buffer: &AlignedBuffer, offset: u64) -> io::Result<()> {
        self.file.write_all_at(buffer.bytes(), offset)
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// Those of the drive, or the file ends before.
    pub fn read_at(&self, buffer: &mut AlignedBuffer, offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer.bytes_mut(), offset)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// Those of the drive.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(&self.file)?)
    }

    fn remove(&self) {
        if let Some(path) = &self.path {
            // A name that is left behind is untidy; there is nobody to tell.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for DirectFile {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Below the package: unlike /tmp it never is a memory file system without O_DIRECT.
    fn disk() -> tempfile::TempDir {
        tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap()
    }

    #[test]
    fn what_was_written_is_read_back_and_no_name_stays_behind() {
        let dir = disk();
        let written = AlignedBuffer::new(2 * BLOCK_BYTES).unwrap();
        let named = dir.path().join("x");
        for file in [
            DirectFile::unnamed(dir.path()).unwrap(),
            DirectFile::named(&named).unwrap(),
        ] {
            file.write_at(&written, BLOCK_BYTES as u64).unwrap();
            file.sync().unwrap();
            let mut read = AlignedBuffer::new(2 * BLOCK_BYTES).unwrap();
            read.bytes_mut().fill(0);
            file.read_at(&mut read, BLOCK_BYTES as u64).unwrap();
            assert_eq!(read.bytes(), written.bytes());
            assert!(file.read_at(&mut read, 2 * BLOCK_BYTES as u64).is_err());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_there_is_not_touched() {
        let dir = disk();
        let path = dir.path().join("x");
        std::fs::write(&path, "mine").unwrap();
        assert!(DirectFile::named(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
