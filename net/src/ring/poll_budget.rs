//! How long a core polls before it sleeps, as the load has it: as long as events come soon after each other, polling finds
//! them without the 15 to 18 us of a wake-up; where they do not, it only burns the CPU and keeps others from it.
//!
//! Grown and shrunk as Linux's cpuidle governor `haltpoll` does it: doubled when an event has ended a sleep that polling
//! for longer would have spared, halved when it has not come within the longest time allowed.

/// The first step up from not polling at all.
const LEAST_NS: u64 = 4_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct PollBudget {
    now_ns: u64,
    most_ns: u64,
}

impl PollBudget {
    /// Begins with all that is allowed.
    pub(super) const fn new(most_ns: u64) -> Self {
        Self {
            now_ns: most_ns,
            most_ns,
        }
    }

    /// How long after the last event polling goes on.
    pub(super) const fn ns(self) -> u64 {
        self.now_ns
    }

    /// A sleep is over: so much time has passed since the event before it.
    pub(super) fn slept(&mut self, idle_ns: u64) {
        self.now_ns = if idle_ns > self.most_ns {
            match self.now_ns / 2 {
                half if half < LEAST_NS => 0,
                half => half,
            }
        } else {
            (self.now_ns * 2).clamp(LEAST_NS.min(self.most_ns), self.most_ns)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_NS: u64 = 30_000;

    #[test]
    fn rare_events_end_polling_and_frequent_ones_begin_it_again() {
        let mut budget = PollBudget::new(MOST_NS);
        assert_eq!(budget.ns(), MOST_NS);
        for _ in 0..4 {
            budget.slept(1_000_000);
        }
        assert_eq!(budget.ns(), 0);
        budget.slept(20_000);
        assert_eq!(budget.ns(), LEAST_NS);
        for _ in 0..3 {
            budget.slept(20_000);
        }
        assert_eq!(budget.ns(), MOST_NS);
    }

    #[test]
    fn one_pause_among_many_events_does_not_end_polling() {
        let mut budget = PollBudget::new(MOST_NS);
        budget.slept(1_000_000);
        assert_eq!(budget.ns(), MOST_NS / 2);
        budget.slept(MOST_NS);
        assert_eq!(budget.ns(), MOST_NS);
    }

    #[test]
    fn it_never_polls_where_that_is_not_wanted() {
        let mut budget = PollBudget::new(0);
        budget.slept(0);
        assert_eq!(budget.ns(), 0);
        let mut budget = PollBudget::new(1_000);
        budget.slept(10_000);
        budget.slept(500);
        assert_eq!(budget.ns(), 1_000);
    }
}
