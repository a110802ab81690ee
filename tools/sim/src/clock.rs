//! The clocks of a node: the one of leases starts anywhere and runs up to a tenth too fast or too slow, the wall is off.

use crate::random::Random;
use pegasus_replication::ids::Instant;

const MILLION: u128 = 1_000_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// True time at which `base` was shown.
    since: Instant,
    base: u64,
    /// Nanoseconds shown for a million that pass.
    rate: u64,
    wall_behind_us: u64,
}

impl Clock {
    /// Of a machine that has just started, at true time `since`.
    pub(crate) fn new(since: Instant, drift_percent: u64, random: &mut Random) -> Self {
        let drift = drift_percent * 10_000;
        Self {
            since,
            base: 1 + random.below(1 << 42),
            rate: 1_000_000 - drift + random.below(2 * drift + 1),
            wall_behind_us: random.below(2_000_000),
        }
    }

    /// What it shows at true time `truth`.
    pub(crate) fn local(&self, truth: Instant) -> Instant {
        let passed = u128::from(truth.0.saturating_sub(self.since.0));
        let shown = passed * u128::from(self.rate) / MILLION;
        Instant(self.base + u64::try_from(shown).expect("runs are short"))
    }

    /// The first true time at which it shows `local` or more.
    pub(crate) fn truth(&self, local: Instant) -> Instant {
        let shown = u128::from(local.0.saturating_sub(self.base)) * MILLION;
        let passed = shown.div_ceil(u128::from(self.rate));
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        Instant(self.since.0.saturating_add(passed))
    }

    pub(crate) fn wall_us(&self, truth: Instant) -> u64 {
        (truth.0 / 1_000).saturating_sub(self.wall_behind_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Concern;

    #[test]
    fn a_deadline_is_met_at_the_first_true_instant_that_shows_it() {
        let mut random = Random::new(3, Concern::Clock);
        for _ in 0..1_000 {
            let clock = Clock::new(Instant(random.below(1 << 40)), 10, &mut random);
            let local = clock.local(Instant(clock.since.0 + random.below(1 << 40)));
            let truth = clock.truth(local);
            assert!(clock.local(truth) >= local);
            assert!(clock.local(Instant(truth.0 - 1)) < local || truth == clock.since);
        }
    }
}
