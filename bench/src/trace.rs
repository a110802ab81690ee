//! The raw trace: one line for each measured operation, so that percentiles can be computed by anything else.
//!
//! A file of records of 32 bytes, all integers little-endian. The first is the header:
//!
//! | offset | size | field of the header | field of an operation |
//! |---|---|---|---|
//! | 0 | 8 | `PGTRACE1` | intended start, nanoseconds from the begin of the measured time |
//! | 8 | 8 | begin of the measured time, nanoseconds since 1970 | actual start; 2^64 - 1 if it was never sent |
//! | 16 | 8 | 0 | end; 2^64 - 1 if it was never sent |
//! | 24 | 1 | 0 | kind: 0 read, 1 update, 2 insert, 3 scan, 4 read-modify-write; 255 if never sent |
//! | 25 | 1 | 0 | 0 done, 1 found nothing, 2 failed and not executed, 3 failed with unknown outcome, 4 never sent |
//! | 26 | 2 | 0 | thread |
//! | 28 | 4 | 0 | 0 |
//!
//! Latencies in reports are end - intended start, of operations with code 0 or 1. Operations are in no particular order.

use crate::workload::Kind;
use anyhow::Context as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const RECORD_BYTES: usize = 32;
/// A thread hands its operations on when it has so many bytes of them.
const BUFFER_BYTES: usize = 1 << 18;

/// The file, shared by all threads.
#[derive(Debug)]
pub(crate) struct TraceFile {
    path: PathBuf,
    /// And the first thing that went wrong.
    file: Mutex<(File, Option<std::io::Error>)>,
}

/// One thread's way to it.
#[derive(Debug)]
pub(crate) struct Trace {
    file: Arc<TraceFile>,
    thread: u16,
    buffer: Vec<u8>,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceCode {
    Done = 0,
    Missing = 1,
    NotExecuted = 2,
    Unknown = 3,
    NeverSent = 4,
}

/// One operation; times are nanoseconds from the begin of the measured time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traced {
    pub(crate) intended: u64,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    /// `None` if it was never sent, and so never chosen.
    pub(crate) kind: Option<Kind>,
    pub(crate) code: TraceCode,
}

impl TraceFile {
    /// `began_unix_ns`: begin of the measured time.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(crate) fn create(path: &Path, began_unix_ns: u64) -> anyhow::Result<Arc<Self>> {
        let named = || path.display().to_string();
        let mut header = [0; RECORD_BYTES];
        header[..8].copy_from_slice(b"PGTRACE1");
        header[8..16].copy_from_slice(&began_unix_ns.to_le_bytes());
        let mut file = File::create(path).with_context(named)?;
        file.write_all(&header).with_context(named)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            file: Mutex::new((file, None)),
        }))
    }

    pub(crate) fn of_thread(self: &Arc<Self>, thread: usize) -> Trace {
        Trace {
            file: Arc::clone(self),
            thread: u16::try_from(thread).unwrap_or(u16::MAX),
            buffer: Vec::with_capacity(BUFFER_BYTES),
        }
    }

    /// What went wrong, if anything did.
    ///
    /// # Errors
    /// Names the file.
    pub(crate) fn finish(&self) -> anyhow::Result<()> {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match guard.1.take() {
            Some(error) => Err(error).with_context(|| self.path.display().to_string()),
            None => Ok(()),
        }
    }

    fn append(&self, bytes: &[u8]) {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, failed) = &mut *guard;
        if failed.is_none() {
            *failed = file.write_all(bytes).err();
        }
    }
}

impl Trace {
    pub(crate) fn add(&mut self, traced: Traced) {
        for time in [traced.intended, traced.started, traced.ended] {
            self.buffer.extend_from_slice(&time.to_le_bytes());
        }
        let kind = traced.kind.map_or(u8::MAX, |kind| {
            u8::try_from(kind.index()).unwrap_or(u8::MAX)
        });
        self.buffer.extend_from_slice(&[kind, traced.code as u8]);
        self.buffer.extend_from_slice(&self.thread.to_le_bytes());
        self.buffer.extend_from_slice(&[0; 4]);
        if self.buffer.len() + RECORD_BYTES > BUFFER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.file.append(&self.buffer);
        self.buffer.clear();
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.flush();
    }
}
