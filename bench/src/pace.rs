//! When a worker starts its next operation: at once (closed loop), or at a moment that does not depend on the server
//! (open loop).

use crate::alarm::Alarm;
use crate::arrival::Schedule;
use crate::record::Recorder;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shared by the workers of a thread.
#[derive(Clone, Debug)]
pub(crate) enum Pace {
    Closed(Arc<Until>),
    Open(Rc<Gate>),
}

/// When a closed loop is over.
#[derive(Debug)]
pub(crate) enum Until {
    Time(Arc<End>),
    /// Operations that are left, for all workers together.
    Operations(AtomicU64),
}

/// The end of a run that goes by time, which whoever watches it may bring forward.
#[derive(Debug)]
pub(crate) struct End {
    planned: Instant,
    is_stopped: AtomicBool,
}

impl End {
    pub(crate) fn at(planned: Instant) -> Self {
        Self {
            planned,
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Nothing is started any more.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Whether nothing is to start at this moment, or later.
    pub(crate) fn is_before(&self, moment: Instant) -> bool {
        moment >= self.planned || self.is_stopped.load(Ordering::Relaxed)
    }
}

/// The open loop of one thread.
#[derive(Debug)]
pub(crate) struct Gate {
    schedule: RefCell<Schedule>,
    alarm: Alarm,
    end: Arc<End>,
    /// An operation that was meant to start longer ago has failed before it began.
    timeout: Duration,
    recorder: Rc<RefCell<Recorder>>,
}

impl Pace {
    /// Waits for the next operation's time, and gives the moment it was meant to start: now, or at most a deadline ago.
    /// `None`: the run is over.
    pub(crate) async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed(until) => until.take(),
            Self::Open(gate) => gate.next().await,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }
}

impl Until {
    fn take(&self) -> Option<Instant> {
        let now = Instant::now();
        let goes_on = match self {
            Self::Time(end) => !end.is_before(now),
            Self::Operations(left) => left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok(),
        };
        goes_on.then_some(now)
    }
}

impl Gate {
    pub(crate) fn new(
        schedule: Schedule,
        end: Arc<End>,
        timeout: Duration,
        recorder: Rc<RefCell<Recorder>>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            schedule: RefCell::new(schedule),
            alarm: Alarm::new()?,
            end,
            timeout,
            recorder,
        })
    }

    /// Has to run beside the workers.
    pub(crate) async fn ring(&self) {
        self.alarm.ring().await;
    }

    async fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let oldest = now.checked_sub(self.timeout).unwrap_or(now);
        let intended = self.take(oldest)?;
        if intended > now {
            self.alarm.sleep_until(intended).await;
        }
        (!self.end.is_before(intended)).then_some(intended)
    }

    fn take(&self, oldest: Instant) -> Option<Instant> {
        let turn = self.schedule.borrow_mut().take(oldest, |skipped| {
            if !self.end.is_before(skipped) {
                self.recorder.borrow_mut().never_sent(skipped);
            }
        });
        (!self.end.is_before(turn.intended)).then_some(turn.intended)
    }
}
