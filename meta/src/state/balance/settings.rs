//! What operators have said about balancing. Durable.

/// Copies at a time in the cluster, and hand-overs, at most.
pub const MOVES_MAX: u16 = 10_000;
/// Copies at a time that one node takes part in, at most.
pub const MOVES_PER_NODE_MAX: u16 = 1_000;

/// What an operator wants moved now, whatever the level says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// What the level lets happen by itself.
    #[default]
    Nothing,
    /// Primaries, once: nothing is copied.
    Primaries,
    /// Replicas and primaries, once.
    Everything,
}

/// How many moves there are at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceLimits {
    /// Copies of replicas in the cluster, 1 to [`MOVES_MAX`].
    pub copies_max: u16,
    /// Copies that one node gives or gets, 1 to [`MOVES_PER_NODE_MAX`], and never more than it may have learners. The default
    /// of 1 leaves room for a learner that heals.
    pub copies_per_node_max: u16,
    /// Hand-overs in the cluster, 1 to [`MOVES_MAX`]; a node takes part in two at most.
    pub hand_overs_max: u16,
}

impl Default for BalanceLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl BalanceLimits {
    const DEFAULT: Self = Self {
        copies_max: 16,
        copies_per_node_max: 1,
        hand_overs_max: 16,
    };

    /// What is wrong with them, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            _ if !(1..=MOVES_MAX).contains(&self.copies_max) => Some("copies are 1 to 10000"),
            _ if !(1..=MOVES_PER_NODE_MAX).contains(&self.copies_per_node_max) => {
                Some("copies of a node are 1 to 1000")
            }
            _ if !(1..=MOVES_MAX).contains(&self.hand_overs_max) => {
                Some("hand-overs are 1 to 10000")
            }
            _ => None,
        }
    }
}

/// All of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalanceSettings {
    /// Nothing new is begun; what is under way goes on.
    pub is_paused: bool,
    pub wanted: Wanted,
    pub limits: BalanceLimits,
}

impl BalanceSettings {
    pub(crate) const DEFAULT: Self = Self {
        is_paused: false,
        wanted: Wanted::Nothing,
        limits: BalanceLimits::DEFAULT,
    };
}

/// What an operator orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalanceOrder {
    /// Begins at once, and ends when there is nothing to move; ends a pause.
    Run(Wanted),
    Pause,
    Resume,
    /// 0 leaves a limit as it is.
    Limit {
        copies_max: u16,
        copies_per_node_max: u16,
        hand_overs_max: u16,
    },
}
