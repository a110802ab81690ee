//! What operators are told of balancing.

use super::{BalanceSettings, PLAN_MAX, State, Wanted};
use crate::place::balance::{Evenness, Move, Options};
use crate::state::orders::OrderProgress;

/// Moves that are named.
const NAMED_MAX: usize = 1_000;

/// A move, and whether it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedMove {
    pub planned: Move,
    pub is_running: bool,
}

/// How balancing stands.
#[derive(Clone, Debug)]
pub struct BalanceView {
    pub settings: BalanceSettings,
    /// Why nothing more is begun now, in words; `None`: it works, or there is nothing to do.
    pub waits_for: Option<String>,
    /// Those under way first, at most 1,000 of them.
    pub moves: Vec<PlannedMove>,
    /// How many there are.
    pub total: usize,
    pub evenness: Evenness,
}

impl State {
    /// How balancing stands. Costs a walk over all partitions.
    #[must_use]
    pub fn balance_view(&self) -> BalanceView {
        let running = self.balance.running.values().map(|it| PlannedMove {
            planned: it.planned,
            is_running: true,
        });
        let planned = self.balance.plan.iter().map(|&planned| PlannedMove {
            planned,
            is_running: false,
        });
        BalanceView {
            settings: *self.durable.balance(),
            waits_for: self.balance_waits_for(),
            moves: running.chain(planned).take(NAMED_MAX).collect(),
            total: self.balance.running.len() + self.balance.plan.len(),
            evenness: self.planner().evenness(),
        }
    }

    /// The same with the plan that would be made now, whatever the level and the pause are. Nothing is changed.
    #[must_use]
    pub fn balance_plan(&self, wanted: Wanted) -> BalanceView {
        let mut planner = self.planner();
        let evenness = planner.evenness();
        let moves = planner.plan(&Options {
            moves_replicas: wanted == Wanted::Everything,
            moves_max: PLAN_MAX,
            ..Options::default()
        });
        let named = moves.iter().take(NAMED_MAX).map(|&planned| PlannedMove {
            planned,
            is_running: false,
        });
        BalanceView {
            settings: *self.durable.balance(),
            waits_for: self.balance_waits_for(),
            moves: named.collect(),
            total: moves.len(),
            evenness,
        }
    }

    fn balance_waits_for(&self) -> Option<String> {
        let settings = self.durable.balance();
        if let Some(hindrance) = self.hindrance() {
            return Some(hindrance);
        }
        let quiet_ms = self
            .now_ms
            .saturating_sub(self.balance.disturbed_ms.max(self.started_ms));
        let left_ms = self.options.balance_delay_ms.saturating_sub(quiet_ms);
        match settings.wanted {
            Wanted::Nothing if left_ms > 0 => Some(format!(
                "the cluster changed {} s ago; it has to be quiet for {} s more",
                quiet_ms / 1_000,
                left_ms.div_ceil(1_000)
            )),
            _ => None,
        }
    }

    pub(in crate::state) fn balance_progress(&self) -> OrderProgress {
        let balance = &self.balance;
        let settings = self.durable.balance();
        let left = balance.plan.len() + balance.running.len();
        let first = balance.running.values().next();
        match first {
            None if settings.wanted == Wanted::Nothing => OrderProgress::Done,
            Some(it) => OrderProgress::Waiting(format!(
                "{left} moves are left; {} is on its way from {} to {}",
                it.planned.partition, it.planned.from, it.planned.to
            )),
            None => OrderProgress::Waiting(match self.hindrance() {
                Some(hindrance) => format!("waiting: {hindrance}"),
                None => format!("{left} moves are left"),
            }),
        }
    }
}
