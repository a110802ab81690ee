//! The one io_uring ring of a core: sockets, log writes and wake-ups, and how the core waits for them.
//!
//! The rest of the package asks in safe terms ("receive on this socket", "write this buffer") and gets [`Completion`]s.
//! What an operation points to (buffers, addresses, the file itself) is owned by its entry in `Operations` until the
//! kernel has reported its last completion, so no caller can free it early; that is what the unsafe blocks rely on.
//!
//! The ring is SINGLE_ISSUER and DEFER_TASKRUN: completions are worked out on this thread, when it asks for them.

mod buffers;
mod flush_choice;
mod operations;
mod poll_budget;
mod probe;
mod socket;

pub(crate) use buffers::Chunk;
pub use probe::{StartError, probe};
pub(crate) use socket::set_local_ports;

use crate::aligned::{AlignedBuf, BLOCK_BYTES};
use crate::clock;
use crate::options::{LogFlush, NetOptions, PollPolicy};
use crate::waker::Waker;
use buffers::{BUFFER_GROUP, ReceiveBuffers};
use flush_choice::FlushChoice;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use operations::{LogWrite, Operation, Operations};
use poll_budget::PollBudget;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What has ended. `token` is what the caller gave when it asked.
#[derive(Debug)]
pub(crate) enum Completion {
    /// A new connection of a listener. `armed` is false when the listener has to be asked again.
    Accepted {
        token: u64,
        result: io::Result<OwnedFd>,
        armed: bool,
    },
    /// Received bytes; an empty chunk is the end of the stream. Give the chunk back by [`Ring::consume`].
    Received {
        token: u64,
        result: io::Result<Chunk>,
        /// When the core found it, by [`clock::now_ns`].
        at_ns: u64,
    },
    /// All of the buffer has been taken by the kernel, or never will be.
    Sent {
        token: u64,
        result: io::Result<()>,
        buffer: Vec<u8>,
        /// When the core found it, by [`clock::now_ns`].
        at_ns: u64,
    },
    Connected {
        token: u64,
        result: io::Result<()>,
    },
    LogWritten {
        id: u64,
        result: io::Result<()>,
        buffer: AlignedBuf,
    },
}

/// What turns have brought and nobody has looked at yet, in the order it came.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    /// Log writes, which go before everything else.
    pub(crate) log: VecDeque<Completion>,
    pub(crate) others: VecDeque<Completion>,
}

impl Completions {
    pub(crate) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.others.is_empty()
    }

    fn push(&mut self, completion: Completion) {
        match completion {
            Completion::LogWritten { .. } => self.log.push_back(completion),
            _ => self.others.push_back(completion),
        }
    }
}

/// Names an operation in flight, to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OperationId(u64);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RingCounters {
    pub(crate) system_calls: u64,
    pub(crate) sleeps: u64,
}

pub(crate) struct Ring {
    uring: IoUring,
    operations: Operations,
    buffers: ReceiveBuffers,
    waker: Waker,
    poll: PollPolicy,
    poll_budget: PollBudget,
    poll_log_write: Duration,
    flush_choice: FlushChoice,
    /// Until then somebody else has work for this CPU, by [`clock::now_ns`].
    is_shared_until_ns: u64,
    /// By [`clock::now_ns`].
    last_event_ns: u64,
    log_writes: usize,
    counters: RingCounters,
    /// Completions that had to be taken between two turns, to make room.
    early: Completions,
    /// Kept to spare an allocation in each turn.
    reaped: Vec<(u64, i32, u32)>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("in_flight", &self.operations.len())
            .field("poll", &self.poll)
            .finish_non_exhaustive()
    }
}

const SUBMISSION_ENTRIES: u32 = 1024;
const COMPLETION_ENTRIES: u32 = 8192;
/// The second half of a log write: its flush.
const FLUSH_BIT: u64 = 1;
/// Bytes of one send: that the kernel has taken a piece is how progress of a slow reader shows.
const SEND_BYTES_MAX: usize = 1 << 20;
/// `IORING_RECVSEND_POLL_FIRST`: nothing is there to read yet most of the time, so do not try before polling.
const POLL_FIRST: u16 = 1;
/// Whoever gives the CPU away and waits so long for it shares it with more than the kernel's short works.
const YIELD_TIME_MAX_NS: u64 = 200_000;
/// So long a core that shares its CPU sleeps beside log writes: a sleeper gets the CPU at once when it is woken.
const SHARED_TIME_NS: u64 = 20_000_000;
const DROP_WAIT_MAX: Duration = Duration::from_secs(5);

impl Ring {
    /// The ring of the calling thread, which alone may use it.
    pub(crate) fn new(options: &NetOptions, waker: Waker) -> Result<Self, StartError> {
        let uring = probe::build(SUBMISSION_ENTRIES, COMPLETION_ENTRIES)?;
        probe::check_operations(&uring)?;
        probe::spread_io_workers(&uring, &options.io_worker_cpus)?;
        let buffers = ReceiveBuffers::register(&uring, options.receive_buffers)?;
        let mut ring = Self {
            uring,
            operations: Operations::default(),
            buffers,
            waker,
            poll: options.poll,
            poll_budget: PollBudget::new(nanos(options.poll_after_event)),
            poll_log_write: options.poll_log_write,
            flush_choice: FlushChoice::new(options.log_flush),
            is_shared_until_ns: 0,
            last_event_ns: clock::now_ns(),
            log_writes: 0,
            counters: RingCounters::default(),
            early: Completions::default(),
            reaped: Vec::new(),
        };
        ring.arm_wake();
        Ok(ring)
    }

    /// Accepts connections of `listener` until a completion says `armed: false`.
    pub(crate) fn accept(&mut self, listener: &Rc<OwnedFd>, token: u64) {
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        let id = self.operations.insert(Operation::Accept {
            token,
            _listener: Rc::clone(listener),
        });
        // SAFETY: the entry points to no memory; the descriptor is kept open by the operation.
        unsafe { self.push(entry.user_data(id)) };
    }

    /// Receives once into a buffer of the pool.
    pub(crate) fn receive(&mut self, socket: &Rc<OwnedFd>, token: u64) {
        let entry = opcode::Recv::new(types::Fd(socket.as_raw_fd()), std::ptr::null_mut(), 0)
            .buf_group(BUFFER_GROUP)
            .ioprio(POLL_FIRST)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        let id = self.operations.insert(Operation::Receive {
            token,
            _socket: Rc::clone(socket),
        });
        // SAFETY: the kernel picks a buffer of the registered pool, which lives as long as the ring; the descriptor is
        // kept open by the operation.
        unsafe { self.push(entry.user_data(id)) };
    }

    /// Sends all of `buffer` (not empty).
    pub(crate) fn send(&mut self, socket: &Rc<OwnedFd>, buffer: Vec<u8>, token: u64) {
        let id = self.operations.insert(Operation::Send {
            token,
            socket: Rc::clone(socket),
            buffer,
            sent: 0,
            since_ns: clock::now_ns(),
        });
        self.push_send(id);
    }

    /// Tokens of sends of which the kernel has taken no piece since `before_ns`, by [`clock::now_ns`].
    pub(crate) fn stalled_sends(&self, before_ns: u64) -> Vec<u64> {
        let stalled = self
            .operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::Send {
                    token, since_ns, ..
                } if *since_ns < before_ns => Some(*token),
                _ => None,
            });
        stalled.collect()
    }

    /// Connects `socket` to `address`.
    pub(crate) fn connect(
        &mut self,
        socket: &Rc<OwnedFd>,
        address: socket2::SockAddr,
        token: u64,
    ) -> OperationId {
        let address = Box::new(address);
        let entry = opcode::Connect::new(
            types::Fd(socket.as_raw_fd()),
            address.as_ptr().cast(),
            address.len(),
        )
        .build();
        let id = self.operations.insert(Operation::Connect {
            token,
            _socket: Rc::clone(socket),
            _address: address,
        });
        // SAFETY: the boxed address and the descriptor are owned by the operation until it has completed.
        unsafe { self.push(entry.user_data(id)) };
        OperationId(id)
    }

    /// Ends an operation early; it still completes, with an error.
    pub(crate) fn cancel(&mut self, operation: OperationId) {
        let id = self.operations.insert(Operation::Cancel);
        // SAFETY: the entry points to no memory.
        unsafe { self.push(opcode::AsyncCancel::new(operation.0).build().user_data(id)) };
    }

    /// Writes whole blocks at `offset` and makes them durable; one `LogWritten` for both.
    pub(crate) fn write_log(&mut self, file: &Arc<File>, offset: u64, buffer: AlignedBuf, id: u64) {
        assert!(!buffer.is_empty(), "empty log write {id}");
        assert!(
            buffer.len().is_multiple_of(BLOCK_BYTES),
            "log write {id} of {} bytes is not whole blocks",
            buffer.len()
        );
        assert!(
            offset.is_multiple_of(BLOCK_BYTES as u64),
            "log write {id} at {offset} is not at a block"
        );
        let length = u32::try_from(buffer.len()).expect("a log write is far below 4 GiB");
        let fd = types::Fd(file.as_raw_fd());
        let write = opcode::Write::new(fd, buffer.as_slice().as_ptr(), length).offset(offset);
        let since_ns = clock::now_ns();
        let way = self.flush_choice.choose(since_ns);
        let parts = match way {
            LogFlush::Dsync | LogFlush::WriteThrough => 1,
            LogFlush::Fdatasync | LogFlush::Fastest => 2,
        };
        let log = LogWrite {
            id,
            way,
            since_ns,
            _file: Arc::clone(file),
            buffer,
            missing: parts,
            error: None,
        };
        let user_data = self.operations.insert(Operation::Log(log));
        self.log_writes += 1;
        let write = match way {
            LogFlush::Dsync => write.rw_flags(libc::RWF_DSYNC).build(),
            LogFlush::WriteThrough => write.build(),
            LogFlush::Fdatasync | LogFlush::Fastest => write.build().flags(squeue::Flags::IO_LINK),
        };
        let flush = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC);
        let entries = [
            write.user_data(user_data),
            flush.build().user_data(user_data | FLUSH_BIT),
        ];
        // SAFETY: buffer and file are owned by the operation until all parts of it have completed; the buffer's bytes are
        // on the heap and do not move with it.
        unsafe { self.push_all(&entries[..parts.into()]) };
    }

    pub(crate) const fn log_writes_in_flight(&self) -> usize {
        self.log_writes
    }

    /// When completions were last found, by [`clock::now_ns`].
    pub(crate) const fn last_event_ns(&self) -> u64 {
        self.last_event_ns
    }

    pub(crate) const fn counters(&self) -> RingCounters {
        self.counters
    }

    /// Shows the received bytes to `read`, then gives the buffer back to the pool.
    pub(crate) fn consume<R>(&mut self, chunk: Chunk, read: impl FnOnce(&[u8]) -> R) -> R {
        let result = read(self.buffers.bytes(&chunk));
        self.buffers.give_back(chunk);
        result
    }

    /// Submits what was asked for, waits up to `wait` as the poll policy has it, and adds what has completed.
    /// Returns early when the waker was used.
    pub(crate) fn turn(&mut self, wait: Duration, completions: &mut Completions) -> io::Result<()> {
        let wait = if self.early.is_empty() {
            wait
        } else {
            Duration::ZERO
        };
        completions.log.append(&mut self.early.log);
        completions.others.append(&mut self.early.others);
        if wait.is_zero() {
            self.submit_and_flush()?;
            self.reap(completions);
            return Ok(());
        }
        if !self.sleeps_at_once() {
            self.submit_and_flush()?;
            if self.spin(wait)? {
                self.reap(completions);
                return Ok(());
            }
        }
        let (is_alone, before) = (self.log_writes == 0, self.last_event_ns);
        self.sleep(wait)?;
        self.reap(completions);
        // Log writes take their own time, which says nothing of when requests come.
        if is_alone {
            let found = self.last_event_ns;
            let until = if found > before {
                found
            } else {
                clock::now_ns()
            };
            self.poll_budget.slept(until.saturating_sub(before));
        }
        Ok(())
    }

    fn sleeps_at_once(&self) -> bool {
        self.poll == PollPolicy::Sleep
            || self.log_writes > 0 && clock::now_ns() < self.is_shared_until_ns
    }

    /// Polls until something has happened (true), or until it is time to sleep.
    fn spin(&mut self, wait: Duration) -> io::Result<bool> {
        let (started, wait) = (clock::now_ns(), nanos(wait));
        let mut now = started;
        loop {
            if !self.uring.completion().is_empty() || self.waker.is_notified() {
                return Ok(true);
            }
            if self.has_deferred_work() {
                self.enter(0, None)?;
                continue;
            }
            if now.saturating_sub(started) >= wait {
                return Ok(true);
            }
            if now.saturating_sub(self.last_event_ns) >= self.poll_time_ns() {
                return Ok(false);
            }
            let before = now;
            if self.log_writes > 0 {
                // The flush may have to be completed by a kernel thread on this very CPU.
                std::thread::yield_now();
                now = clock::now_ns();
                if now.saturating_sub(before) >= YIELD_TIME_MAX_NS {
                    self.is_shared_until_ns = now + SHARED_TIME_NS;
                    return Ok(false);
                }
            } else {
                std::hint::spin_loop();
                now = clock::now_ns();
            }
        }
    }

    /// How long to poll after the last event.
    fn poll_time_ns(&self) -> u64 {
        match self.poll {
            _ if self.log_writes > 0 => nanos(self.poll_log_write),
            PollPolicy::Busy => u64::MAX,
            PollPolicy::Adaptive => self.poll_budget.ns(),
            PollPolicy::Sleep => 0,
        }
    }

    /// Submits and waits in one system call.
    fn sleep(&mut self, wait: Duration) -> io::Result<()> {
        if !self.uring.completion().is_empty() || !self.waker.prepare_to_park() {
            return self.submit_and_flush();
        }
        self.counters.sleeps += 1;
        self.enter(1, Some(wait))
    }

    /// Without waiting; no system call when there is nothing to submit and nothing deferred.
    fn submit_and_flush(&mut self) -> io::Result<()> {
        if self.uring.submission().is_empty() && !self.has_deferred_work() {
            return Ok(());
        }
        self.enter(0, None)
    }

    fn has_deferred_work(&mut self) -> bool {
        let queue = self.uring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    fn enter(&mut self, want: usize, wait: Option<Duration>) -> io::Result<()> {
        self.counters.system_calls += 1;
        let result = match wait {
            None => self.uring.submit_and_wait(want),
            Some(wait) => {
                let timespec = types::Timespec::new()
                    .sec(wait.as_secs())
                    .nsec(wait.subsec_nanos());
                self.uring
                    .submitter()
                    .submit_with_args(want, &types::SubmitArgs::new().timespec(&timespec))
            }
        };
        match result {
            Ok(_) => Ok(()),
            // Timed out, a signal, or completions to be reaped first: the turn goes on.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn reap(&mut self, completions: &mut Completions) {
        let mut reaped = std::mem::take(&mut self.reaped);
        reaped.extend(
            self.uring
                .completion()
                .map(|entry| (entry.user_data(), entry.result(), entry.flags())),
        );
        if !reaped.is_empty() {
            self.last_event_ns = clock::now_ns();
        }
        for (user_data, result, flags) in reaped.drain(..) {
            if let Some(completion) = self.complete(user_data, result, flags) {
                completions.push(completion);
            }
        }
        self.reaped = reaped;
    }

    /// Turns one entry of the completion queue into what the caller waits for, if that was all of it.
    fn complete(&mut self, user_data: u64, result: i32, flags: u32) -> Option<Completion> {
        let id = user_data & !FLUSH_BIT;
        match self.operations.get_mut(id)? {
            Operation::Accept { token, .. } => {
                let (token, armed) = (*token, cqueue::more(flags));
                if !armed {
                    self.operations.remove(id);
                }
                let result = check(result).map(|fd| {
                    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
                    unsafe { OwnedFd::from_raw_fd(fd) }
                });
                Some(Completion::Accepted {
                    token,
                    result,
                    armed,
                })
            }
            Operation::Receive { token, .. } => {
                let token = *token;
                self.operations.remove(id);
                Some(Completion::Received {
                    token,
                    result: self.received(result, flags),
                    at_ns: self.last_event_ns,
                })
            }
            Operation::Send { .. } => self.complete_send(id, result),
            Operation::Connect { token, .. } => {
                let token = *token;
                self.operations.remove(id);
                Some(Completion::Connected {
                    token,
                    result: check(result).map(drop),
                })
            }
            Operation::Log(_) => self.complete_log(id, user_data & FLUSH_BIT != 0, result),
            Operation::Wake { .. } => {
                self.operations.remove(id);
                // Cancelled only when the ring is being dropped.
                if result != -libc::ECANCELED {
                    self.arm_wake();
                }
                None
            }
            Operation::Cancel => {
                self.operations.remove(id);
                None
            }
        }
    }

    fn received(&mut self, result: i32, flags: u32) -> io::Result<Chunk> {
        let chunk = self.buffers.chunk(
            cqueue::buffer_select(flags),
            u32::try_from(result).unwrap_or(0),
        );
        match check(result) {
            Ok(_) => Ok(chunk),
            Err(error) => {
                self.buffers.give_back(chunk);
                Err(error)
            }
        }
    }

    fn complete_send(&mut self, id: u64, result: i32) -> Option<Completion> {
        let Some(Operation::Send {
            buffer,
            sent,
            since_ns,
            ..
        }) = self.operations.get_mut(id)
        else {
            return None;
        };
        let result = check(result).and_then(|count| match usize::try_from(count) {
            Ok(0) | Err(_) => Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => Ok(count),
        });
        if let Ok(count) = result {
            *sent += count;
            if *sent < buffer.len() {
                *since_ns = clock::now_ns();
                self.push_send(id);
                return None;
            }
        }
        let Some(Operation::Send { token, buffer, .. }) = self.operations.remove(id) else {
            return None;
        };
        Some(Completion::Sent {
            token,
            result: result.map(drop),
            buffer,
            at_ns: self.last_event_ns,
        })
    }

    fn complete_log(&mut self, id: u64, is_flush: bool, result: i32) -> Option<Completion> {
        let Some(Operation::Log(log)) = self.operations.get_mut(id) else {
            return None;
        };
        log.note(is_flush, check(result));
        if log.missing > 0 {
            return None;
        }
        self.log_writes -= 1;
        let Some(Operation::Log(log)) = self.operations.remove(id) else {
            return None;
        };
        if log.error.is_none() {
            let took_ns = self.last_event_ns.saturating_sub(log.since_ns);
            self.flush_choice.note(log.way, took_ns);
        }
        Some(Completion::LogWritten {
            id: log.id,
            result: log.error.map_or(Ok(()), Err),
            buffer: log.buffer,
        })
    }

    fn arm_wake(&mut self) {
        let mut value = Box::new([0_u8; 8]);
        let fd = types::Fd(self.waker.eventfd().as_raw_fd());
        let entry = opcode::Read::new(fd, value.as_mut_ptr(), 8).build();
        let id = self.operations.insert(Operation::Wake {
            _value: value,
            _waker: self.waker.clone(),
        });
        // SAFETY: the boxed value and the eventfd (inside the waker) are owned by the operation until it has completed.
        unsafe { self.push(entry.user_data(id)) };
    }

    /// Sends what is left of an operation's buffer.
    fn push_send(&mut self, id: u64) {
        let Some(Operation::Send {
            socket,
            buffer,
            sent,
            ..
        }) = self.operations.get_mut(id)
        else {
            return;
        };
        let rest = &buffer[*sent..];
        let length = u32::try_from(rest.len().min(SEND_BYTES_MAX)).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(socket.as_raw_fd()), rest.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        // SAFETY: buffer and descriptor are owned by the operation until it has completed; the buffer is not touched
        // while it is in flight.
        unsafe { self.push(entry.user_data(id)) };
    }

    /// # Safety
    /// What the entry points to must stay valid until its last completion.
    unsafe fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: passed on to the caller.
        unsafe { self.push_all(std::slice::from_ref(&entry)) };
    }

    /// Linked entries have to enter the queue together.
    ///
    /// # Safety
    /// As for `push`.
    unsafe fn push_all(&mut self, entries: &[squeue::Entry]) {
        // SAFETY: passed on to the caller.
        while unsafe { self.uring.submission().push_multiple(entries) }.is_err() {
            // The queue is full: the kernel takes all of it in one call, if completions do not stand in its way. An error
            // other than a passing one cannot happen here without having happened in a turn.
            self.enter(0, None).expect("the kernel takes submissions");
            let mut early = std::mem::take(&mut self.early);
            self.reap(&mut early);
            self.early.log.append(&mut early.log);
            self.early.others.append(&mut early.others);
        }
    }

    /// Waits for `done` with a bound; only for the ring's end.
    fn drain_until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + DROP_WAIT_MAX;
        let mut ignored = Completions::default();
        while !done(self) {
            if Instant::now() >= deadline
                || self.enter(1, Some(Duration::from_millis(100))).is_err()
            {
                return false;
            }
            self.reap(&mut ignored);
        }
        true
    }
}

impl Drop for Ring {
    /// The kernel must be done with our memory before it is freed: log writes run to their end, everything else is
    /// cancelled. If that takes too long the memory is leaked.
    fn drop(&mut self) {
        let written = self.drain_until(|ring| ring.log_writes == 0);
        let id = self.operations.insert(Operation::Cancel);
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::any())
            .build()
            .user_data(id);
        // SAFETY: the entry points to no memory.
        unsafe { self.push(cancel) };
        let ended = self.drain_until(|ring| ring.operations.is_empty());
        if !(written && ended) {
            tracing::warn!(
                in_flight = self.operations.len(),
                "ring dropped with operations in flight"
            );
            self.operations.leak();
            self.buffers.leak();
        }
        self.buffers.unregister(&self.uring);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A completion's result as the kernel codes it: negative = error number.
fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::from_raw_os_error(-result))
    } else {
        Ok(result)
    }
}
