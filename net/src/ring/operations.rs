//! Operations in flight, each with everything that the kernel may still touch on its behalf.

use crate::aligned::AlignedBuf;
use crate::options::LogFlush;
use crate::waker::Waker;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

/// Fields with an underscore are only held, so that they outlive the operation.
#[derive(Debug)]
pub(super) enum Operation {
    Accept {
        token: u64,
        _listener: Rc<OwnedFd>,
    },
    Receive {
        token: u64,
        _socket: Rc<OwnedFd>,
    },
    Send {
        token: u64,
        socket: Rc<OwnedFd>,
        buffer: Vec<u8>,
        sent: usize,
        /// When the kernel was last given a piece of it, by `clock::now_ns`.
        since_ns: u64,
    },
    Connect {
        token: u64,
        _socket: Rc<OwnedFd>,
        _address: Box<socket2::SockAddr>,
    },
    Log(LogWrite),
    Wake {
        _value: Box<[u8; 8]>,
        _waker: Waker,
    },
    Cancel,
}

/// A write and what makes it durable.
#[derive(Debug)]
pub(super) struct LogWrite {
    pub(super) id: u64,
    /// What makes it durable.
    pub(super) way: LogFlush,
    /// When it was asked for, by `clock::now_ns`.
    pub(super) since_ns: u64,
    pub(super) _file: Arc<File>,
    pub(super) buffer: AlignedBuf,
    /// Completions still to come.
    pub(super) missing: u8,
    /// The first error; a flush cancelled because its write failed is not one of its own.
    pub(super) error: Option<io::Error>,
}

impl LogWrite {
    pub(super) fn note(&mut self, is_flush: bool, result: io::Result<i32>) {
        self.missing -= 1;
        let error = match result {
            Ok(count) if !is_flush && usize::try_from(count) != Ok(self.buffer.len()) => {
                let length = self.buffer.len();
                Some(io::Error::new(
                    io::ErrorKind::WriteZero,
                    format!("short write: {count} of {length} bytes"),
                ))
            }
            Ok(_) => None,
            Err(error) => Some(error),
        };
        // The flush's cancellation may be reported before the failure of the write that caused it.
        if let Some(error) = error
            && self.error.as_ref().is_none_or(is_cancelled)
        {
            self.error = Some(error);
        }
    }
}

fn is_cancelled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECANCELED)
}

/// Slots by number; the number travels through the kernel, shifted by one bit for the two halves of a log write.
#[derive(Debug, Default)]
pub(super) struct Operations {
    slots: Vec<Option<Operation>>,
    free: Vec<usize>,
}

impl Operations {
    pub(super) fn insert(&mut self, operation: Operation) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[index] = Some(operation);
        (index as u64) << 1
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Operation> {
        self.slots.get_mut(usize::try_from(id >> 1).ok()?)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Operation> {
        let index = usize::try_from(id >> 1).ok()?;
        let operation = self.slots.get_mut(index)?.take()?;
        self.free.push(index);
        Some(operation)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Operation> {
        self.slots.iter().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives up the memory of all operations for ever.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.slots));
        self.free.clear();
    }
}
