//! Waking a core thread from another thread, without a system call while it runs.
//!
//! ```text
//!            wake                      prepare_to_park fails: stay awake
//!  RUNNING --------> NOTIFIED ------------------------------------------+
//!     ^  |                                                              |
//!     |  | prepare_to_park        wake: write the eventfd               |
//!     |  +---------------> PARKED -------------------------> NOTIFIED   |
//!     +---------------------- take_notification <-----------------------+
//! ```

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const RUNNING: u32 = 0;
const NOTIFIED: u32 = 1;
const PARKED: u32 = 2;

/// Wakes one core. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU32,
    eventfd: OwnedFd,
}

impl Waker {
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self {
            shared: Arc::new(Shared {
                state: AtomicU32::new(RUNNING),
                eventfd,
            }),
        })
    }

    /// Makes the core's next `poll` return at once with `IoEvent::Woken`. Whatever was published before this call is
    /// visible to the core after that event. One system call if the core is parked, none otherwise.
    pub fn wake(&self) {
        if self.shared.state.swap(NOTIFIED, Ordering::AcqRel) == PARKED {
            // An eventfd write fails only when the counter is full, and then the core is awake anyway.
            let _ = rustix::io::write(&self.shared.eventfd, &1u64.to_ne_bytes());
        }
    }

    /// The core is about to sleep. False: there is a notification, do not.
    pub(crate) fn prepare_to_park(&self) -> bool {
        self.shared
            .state
            .compare_exchange(RUNNING, PARKED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The core runs again. True: somebody called `wake` since the last time.
    pub(crate) fn take_notification(&self) -> bool {
        self.shared.state.swap(RUNNING, Ordering::AcqRel) == NOTIFIED
    }

    pub(crate) fn is_notified(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == NOTIFIED
    }

    /// Read by the core's ring, so that a write ends its sleep.
    pub(crate) fn eventfd(&self) -> &OwnedFd {
        &self.shared.eventfd
    }
}
