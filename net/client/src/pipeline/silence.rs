//! How long a server that owes answers has said nothing.
//!
//! Time is counted by regular looks, not by the clock between two messages: a connection on which nobody waits is silent
//! for a good reason, and a look that comes late because this process stood still counts as two at most, so that a client
//! that was paused does not blame its servers.

use std::time::Duration;
use tokio::time::Instant;

/// How often a connection on which somebody waits is looked at.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A silent server is asked for a sign of life once: the socket delivers in order, so a second question tells no more.
const PROBE_AFTER: Duration = Duration::from_millis(200);
/// From then on somebody else may be primary of what the server owes.
const SILENT_AFTER: Duration = Duration::from_millis(300);
/// Then the connection is given up. Without it a host that vanished would look like a slow one until TCP gives up, a
/// quarter of an hour later.
const DEAD_AFTER: Duration = Duration::from_secs(3);

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Alive,
    /// It is time to ask for a sign of life.
    Probe,
    /// Neither answers nor a sign of life for 300 ms.
    Silent,
    Dead,
}

#[derive(Debug)]
pub(super) struct Silence {
    lasted: Duration,
    looked_at: Instant,
    /// Something came since the last look, which will start to count.
    heard: bool,
    probed: bool,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            lasted: Duration::ZERO,
            looked_at: now,
            heard: false,
            probed: false,
        }
    }

    /// Somebody waits again. What silence there was before the pause still counts: requests that end at their deadlines
    /// one after the other are as unanswered as one that waits.
    pub(super) fn begin(&mut self, now: Instant) {
        self.looked_at = now;
        self.heard = false;
    }

    /// Something came; says whether the server was thought silent.
    pub(super) fn end(&mut self) -> bool {
        let was_silent = self.is_silent();
        self.lasted = Duration::ZERO;
        self.heard = true;
        self.probed = false;
        was_silent
    }

    pub(super) fn is_silent(&self) -> bool {
        self.lasted >= SILENT_AFTER
    }

    pub(super) fn look(&mut self, now: Instant) -> Finding {
        let passed = now.saturating_duration_since(self.looked_at);
        self.looked_at = now;
        if std::mem::take(&mut self.heard) {
            return Finding::Alive;
        }
        self.lasted += passed.min(2 * LOOK_INTERVAL);
        if self.lasted >= DEAD_AFTER {
            Finding::Dead
        } else if self.is_silent() {
            Finding::Silent
        } else if self.lasted >= PROBE_AFTER && !self.probed {
            self.probed = true;
            Finding::Probe
        } else {
            Finding::Alive
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(silence: &mut Silence, now: &mut Instant, count: u32) -> Vec<Finding> {
        (0..count)
            .map(|_| {
                *now += LOOK_INTERVAL;
                silence.look(*now)
            })
            .collect()
    }

    #[test]
    fn a_silent_server_is_probed_once_then_suspected_then_given_up() {
        let mut now = Instant::now();
        let mut silence = Silence::new(now);
        let found = looks(&mut silence, &mut now, 30);
        assert_eq!(
            found[..3],
            [Finding::Alive, Finding::Probe, Finding::Silent]
        );
        assert!(found[3..29].iter().all(|found| *found == Finding::Silent));
        assert_eq!(found[29], Finding::Dead);
    }

    #[test]
    fn an_answer_ends_the_silence() {
        let mut now = Instant::now();
        let mut silence = Silence::new(now);
        looks(&mut silence, &mut now, 2);
        assert!(!silence.end(), "it was not suspected yet");
        looks(&mut silence, &mut now, 4);
        assert!(silence.end());
        assert!(!silence.is_silent());
        assert_eq!(
            looks(&mut silence, &mut now, 3),
            [Finding::Alive, Finding::Alive, Finding::Probe],
            "counted from the look after the answer; it may be probed again"
        );
    }

    #[test]
    fn time_without_anybody_waiting_does_not_count_and_silence_before_it_does() {
        let mut now = Instant::now();
        let mut silence = Silence::new(now);
        looks(&mut silence, &mut now, 2);
        now += Duration::from_secs(600);
        silence.begin(now);
        assert!(!silence.is_silent());
        assert_eq!(looks(&mut silence, &mut now, 1), [Finding::Silent]);
    }

    #[test]
    fn a_client_that_stood_still_blames_nobody() {
        let mut now = Instant::now();
        let mut silence = Silence::new(now);
        now += Duration::from_secs(600);
        assert_eq!(silence.look(now), Finding::Probe);
    }
}
