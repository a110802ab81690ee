//! Whether a core runs, as far as its page and its process tell.

use crate::local::process;
use pegasus_fbs::stats_page::Snapshot;
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a core does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Running,
    /// Its node has been started again and has not opened this core yet; the page is of the life before.
    Starting,
    /// It has ended as it should.
    Stopped,
    /// Its process is gone without that.
    Dead,
    /// Its process is there and publishes nothing, or is paused.
    Stuck,
    /// Nothing could be read: its node does not answer, and its page is not here.
    Silent,
}

/// A core publishes at least once a second.
const STUCK_AFTER_US: u64 = 3_000_000;

impl State {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
            Self::Stuck => "stuck",
            Self::Silent => "silent",
        }
    }

    /// What the state means, and what to do where something is to be done.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Running => "it runs",
            Self::Starting => {
                "its node has been started again and has not opened this core yet (it replays its log); these are the last numbers of the life before"
            }
            Self::Stopped => "its node was stopped; these are its last numbers",
            Self::Dead => {
                "its process is gone without a stop: killed, or failed (the node's log tells); these are its last numbers. Start the node again with the same directory"
            }
            Self::Stuck => {
                "its process is there and has published nothing for seconds, or is paused (SIGSTOP): the node's log names the phase it hangs in; these are its last numbers"
            }
            Self::Silent => "nothing can be read of it",
        }
    }

    /// Of a page on this machine.
    pub(crate) fn of_page(page: &Snapshot) -> Self {
        Self::of(
            page,
            unix_us(SystemTime::now()),
            process::sight(page.identity().pid),
        )
    }

    /// Of a page that the node itself has told, at `now_us` of that machine's clock.
    pub(crate) fn of_answer(page: &Snapshot, now_us: u64) -> Self {
        let silent_us = now_us.saturating_sub(page.published_unix_us());
        match page.is_stopped() {
            true => Self::Stopped,
            false if silent_us < STUCK_AFTER_US => Self::Running,
            false => Self::Stuck,
        }
    }

    /// `process`: the one of the page's number, `None` if there is none.
    fn of(page: &Snapshot, now_us: u64, process: Option<process::Sight>) -> Self {
        /// A process is older than its page; the clocks of the two readings may differ by this much.
        const SLACK: Duration = Duration::from_secs(10);
        if page.is_stopped() {
            return Self::Stopped;
        }
        let Some(process) = process else {
            return Self::Dead;
        };
        if !process.is_paused && now_us.saturating_sub(page.published_unix_us()) < STUCK_AFTER_US {
            return Self::Running;
        }
        let page_age_us = now_us.saturating_sub(page.identity().started_unix_us);
        if process.age + SLACK < Duration::from_micros(page_age_us) {
            // Another process has got its number.
            Self::Dead
        } else {
            Self::Stuck
        }
    }
}

fn unix_us(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{snapshot, stopped};
    use super::*;

    #[test]
    fn a_core_is_running_stopped_dead_or_stuck() {
        let now = snapshot(2, 1, 1_000_000);
        let seen = |seconds, is_paused| {
            Some(process::Sight {
                age: Duration::from_secs(seconds),
                is_paused,
            })
        };
        assert_eq!(
            State::of(&now, 2_000_000, seen(3_600, false)),
            State::Running
        );
        assert_eq!(State::of(&now, 2_000_000, seen(3_600, true)), State::Stuck);
        assert_eq!(State::of(&now, 4_000_000, seen(3_600, false)), State::Stuck);
        assert_eq!(State::of(&now, 2_000_000, None), State::Dead);
        assert_eq!(State::of(&now, 90_000_000, seen(5, false)), State::Dead);
        let stopped = stopped(2, 1, 5_000_000);
        assert_eq!(State::of(&stopped, 99_000_000, None), State::Stopped);
        assert_eq!(State::of_answer(&stopped, 5_000_000), State::Stopped);
    }
}
