//! Waking up on time. tokio's timers have a resolution of a millisecond, which is ten times the latencies that are measured
//! here; a timerfd in its event loop has that of the kernel.

use anyhow::Context as _;
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// The alarm of one thread. Somebody has to run [`Alarm::ring`].
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    /// Ascending.
    sleepers: RefCell<VecDeque<(Instant, Waker)>>,
    first_sleeper: Notify,
}

impl Alarm {
    /// Within a runtime.
    ///
    /// # Errors
    /// When the kernel has no timer for us.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("timerfd")?;
        #[allow(
            deprecated,
            reason = "its successor is unsafe; what it asks for holds here: an OwnedFd stays open and the same until it is dropped"
        )]
        let timer = AsyncFd::new(timer).context("timerfd")?;
        Ok(Self {
            timer,
            sleepers: RefCell::default(),
            first_sleeper: Notify::new(),
        })
    }

    /// Sleeps until `at`. Calls have to come with ascending times.
    pub(crate) async fn sleep_until(&self, at: Instant) {
        let mut asleep = false;
        poll_fn(|context| {
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            if !asleep {
                asleep = true;
                let mut sleepers = self.sleepers.borrow_mut();
                if sleepers.is_empty() {
                    self.first_sleeper.notify_one();
                }
                sleepers.push_back((at, context.waker().clone()));
            }
            Poll::Pending
        })
        .await;
    }

    /// Wakes sleepers, for ever.
    pub(crate) async fn ring(&self) {
        loop {
            let next = self.wake_due();
            let Some(next) = next else {
                self.first_sleeper.notified().await;
                continue;
            };
            if self.set(next).is_err() {
                // Late rather than never; the report shows by how much.
                tokio::time::sleep_until(next.into()).await;
                continue;
            }
            if let Ok(mut ready) = self.timer.readable().await {
                // Setting it again takes the expirations back, so nobody has to read them.
                ready.clear_ready();
            }
        }
    }

    /// The first moment for which it is too early.
    fn wake_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut sleepers = self.sleepers.borrow_mut();
        while let Some((at, _)) = sleepers.front() {
            if *at > now {
                return Some(*at);
            }
            if let Some((_, waker)) = sleepers.pop_front() {
                waker.wake();
            }
        }
        None
    }

    fn set(&self, at: Instant) -> rustix::io::Result<()> {
        // Zero would switch it off.
        let left = at
            .saturating_duration_since(Instant::now())
            .max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once).map(drop)
    }
}
