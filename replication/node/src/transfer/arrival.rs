//! A file that arrives from another node: written past the page cache, in small pieces.
//!
//! The drive is shared with the logs of the cores. Pages that gather and are flushed together are waited for by every log
//! write that comes behind them, and each flush of a growing file commits metadata besides; small direct writes leave room
//! in between (`docs/decisions/0017-learning-in-the-background.md`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of one write.
const PIECE_BYTES: usize = 128 << 10;
/// Of memory, offset and length, as direct writes need it on every drive.
const ALIGNMENT: usize = 4096;

/// Under another name until it is whole. Each part is written at its place: a cancelled attempt of another thread may still
/// be writing the same bytes.
#[derive(Debug)]
pub(super) struct ArrivingFile {
    part: PathBuf,
    file: File,
    /// Handed over to the drive, a multiple of the alignment.
    written: u64,
    buffer: AlignedBuffer,
}

/// A piece that has not been written yet.
#[derive(Debug)]
struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl ArrivingFile {
    /// Goes on where an earlier attempt has ended.
    ///
    /// # Errors
    /// Among others where the file system has no O_DIRECT.
    pub(super) fn open(part: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&part)?;
        let length = file.metadata()?.len();
        Ok(Self {
            part,
            file,
            written: length - length % ALIGNMENT as u64,
            buffer: AlignedBuffer::new(),
        })
    }

    /// How far it is: the offset of the next byte.
    pub(super) const fn length(&self) -> u64 {
        self.written + self.buffer.length as u64
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// The drive's; the file can be opened again.
    pub(super) fn append(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            data = self.buffer.take(data);
            if self.buffer.length == PIECE_BYTES {
                self.write_whole_blocks()?;
            }
        }
        Ok(())
    }

    fn write_whole_blocks(&mut self) -> io::Result<()> {
        let whole = self.buffer.length - self.buffer.length % ALIGNMENT;
        let (blocks, rest) = self.buffer.bytes().split_at(whole);
        self.file.write_all_at(blocks, self.written)?;
        let rest = rest.to_vec();
        self.written += whole as u64;
        self.buffer.length = 0;
        self.buffer.take(&rest);
        Ok(())
    }

    /// Gives it its name, which it has only when all of its `bytes` are durable.
    ///
    /// # Errors
    /// The drive's, or its length is another: nothing has the name then.
    pub(super) fn finish(mut self, bytes: u64, path: &Path) -> io::Result<()> {
        self.write_whole_blocks()?;
        if self.buffer.length > 0 {
            // Not padded and cut to size: somebody else may have finished the same file already.
            let tail = OpenOptions::new().write(true).open(&self.part)?;
            tail.write_all_at(self.buffer.bytes(), self.written)?;
        }
        let found = self.file.metadata()?.len();
        if found != bytes {
            let message = format!("a file of {bytes} bytes has {found}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.file.sync_all()?;
        fs::rename(&self.part, path)
    }
}

impl AlignedBuffer {
    fn new() -> Self {
        let memory = vec![0; PIECE_BYTES + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        assert!(start < ALIGNMENT, "bytes can be aligned");
        Self {
            memory,
            start,
            length: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    /// Takes what fits and returns the rest.
    fn take<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        let (fits, rest) = data.split_at(data.len().min(PIECE_BYTES - self.length));
        let from = self.start + self.length;
        self.memory[from..from + fits.len()].copy_from_slice(fits);
        self.length += fits.len();
        rest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    fn noise(bytes: usize) -> Vec<u8> {
        let next = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 24) as u8)
        };
        std::iter::repeat_n((), bytes)
            .scan(1_u32, |state, ()| next(state))
            .collect()
    }

    #[test]
    fn files_of_all_lengths_are_what_was_sent_in_pieces_of_all_lengths() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [
            0,
            1,
            ALIGNMENT,
            PIECE_BYTES,
            PIECE_BYTES + 1,
            3 * PIECE_BYTES - 5,
        ] {
            for step in [1000, PIECE_BYTES, 4 * PIECE_BYTES] {
                let sent = noise(bytes);
                let mut file = ArrivingFile::open(dir.path().join("a.part")).unwrap();
                for piece in sent.chunks(step) {
                    file.append(piece).unwrap();
                }
                assert_eq!(file.length(), bytes as u64);
                file.finish(bytes as u64, &dir.path().join("a")).unwrap();
                assert!(
                    fs::read(dir.path().join("a")).unwrap() == sent,
                    "{bytes} in {step}"
                );
                assert!(!dir.path().join("a.part").exists());
            }
        }
    }

    #[test]
    fn an_interrupted_file_goes_on_at_a_whole_block() {
        let dir = tempfile::tempdir().unwrap();
        let (part, path) = (dir.path().join("a.part"), dir.path().join("a"));
        let sent = noise(2 * PIECE_BYTES + 77);
        fs::write(&part, &sent[..PIECE_BYTES + 99]).unwrap();
        let mut file = ArrivingFile::open(part).unwrap();
        assert_eq!(file.length(), PIECE_BYTES as u64);
        file.append(&sent[PIECE_BYTES..]).unwrap();
        file.finish(sent.len() as u64, &path).unwrap();
        assert!(fs::read(path).unwrap() == sent);
    }

    #[test]
    fn a_file_of_another_length_gets_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let (part, path) = (dir.path().join("a.part"), dir.path().join("a"));
        let mut file = ArrivingFile::open(part).unwrap();
        file.append(&noise(10)).unwrap();
        assert!(file.finish(9, &path).is_err());
        assert!(!path.exists());
    }
}
