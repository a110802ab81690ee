//! How carefully and how fast partitions are healed.

use serde::{Deserialize, Serialize};

/// Knobs of healing; durations in milliseconds. The section `heal` of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealOptions {
    /// A partition that lacks members gets a new replica this long after it lost one, unless a copy has come back by then.
    /// Default 60,000, up to a day. Shorter: a restart of a machine copies all its data; longer: more time with fewer copies.
    pub heal_delay_ms: u64,
    /// New replicas that one node makes at a time. Default 2, 1 to 1,000. More heals faster and disturbs the node more.
    pub learners_per_node_max: usize,
    /// New replicas made at a time in the cluster. Default 32, 1 to 10,000.
    pub learners_max: usize,
    /// Copies that come back by log, on one node at a time. Default 64, 1 to 10,000: they copy little.
    pub returning_per_node_max: usize,
    /// Removals of slow members a second, over all partitions. Default 16, 1 to 10,000.
    pub slow_removals_per_second_max: u32,
    /// Primaries are spread evenly again after failovers, drains and returns of nodes, and when load has made them uneven.
    /// Default true. Without it they stay where they are until `pegasus balance run`, unless the level is `lively`.
    pub balance_primaries: bool,
    /// That begins when nothing has happened for this long. Default 60,000, up to a day. Shorter: hand-overs follow each other
    /// while a node is restarted again and again; longer: some cores lead more than others for longer.
    pub balance_delay_ms: u64,
}

impl Default for HealOptions {
    fn default() -> Self {
        Self {
            heal_delay_ms: 60_000,
            learners_per_node_max: 2,
            learners_max: 32,
            returning_per_node_max: 64,
            slow_removals_per_second_max: 16,
            balance_primaries: true,
            balance_delay_ms: 60_000,
        }
    }
}

impl HealOptions {
    /// Refuses values out of range, with a sentence.
    ///
    /// # Errors
    /// Names the option and its range.
    pub fn check(&self) -> Result<(), String> {
        let ranges = [
            ("heal_delay_ms", self.heal_delay_ms, 0, 86_400_000),
            ("balance_delay_ms", self.balance_delay_ms, 0, 86_400_000),
            (
                "learners_per_node_max",
                self.learners_per_node_max as u64,
                1,
                1_000,
            ),
            ("learners_max", self.learners_max as u64, 1, 10_000),
            (
                "returning_per_node_max",
                self.returning_per_node_max as u64,
                1,
                10_000,
            ),
            (
                "slow_removals_per_second_max",
                u64::from(self.slow_removals_per_second_max),
                1,
                10_000,
            ),
        ];
        for (name, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                return Err(format!("{name} = {value} is not {min} to {max}"));
            }
        }
        Ok(())
    }
}
