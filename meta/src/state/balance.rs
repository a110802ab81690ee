//! Replicas and primaries move to where they spread the work: [`crate::place::balance`] says what should move, here it is
//! decided when, and carried out.
//!
//! ```text
//! everything whole and quiet for balance_delay --> plan --> moves, some at a time --> nothing more --> even
//!                                                             | one fails, or anything else happens
//!                                                             v
//!                                                         wait again
//! ```
//!
//! What moves by itself follows from the level: from `steady` on primaries, which copies nothing, at `lively` replicas too. An
//! operator can have either once. Nothing is begun while anything is missing anywhere: a cluster that has something better to
//! do is left alone. Each move is an ordinary order of its partition and so survives a restart; the plan does not, and is made
//! anew.

mod carry;
mod facts;
mod settings;
mod told;

pub use settings::{
    BalanceLimits, BalanceOrder, BalanceSettings, MOVES_MAX, MOVES_PER_NODE_MAX, Wanted,
};
pub use told::{BalanceView, PlannedMove};

use super::change::Level;
use super::command::{Answer, Order, Refusal};
use super::table::Partition;
use super::{Change, State, Work};
use crate::place::balance::{Freedom, Move, Options, PartitionLoad, Planner, Standing};
use carry::Running;
use pegasus_replication::ids::{CoreAddress, NodeId, PartitionId};
use std::collections::{BTreeMap, VecDeque};

/// How often it is looked whether everything is whole, in milliseconds: that is a walk over all partitions.
const LOOK_MS: u64 = 1_000;
/// Moves of one plan, at most; then another one is made.
const PLAN_MAX: usize = 1_024;

/// What is under way. Lost with the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Balance {
    /// Moves still to come.
    plan: VecDeque<Move>,
    running: BTreeMap<PartitionId, Running>,
    /// When everything was found even, and what was looked at: load is looked at again after a while.
    even: Option<(u64, Wanted)>,
    /// When anything has happened last that was not done here, in milliseconds.
    disturbed_ms: u64,
    looked_ms: u64,
    /// Everything was whole then, and nothing has happened since.
    is_clear: bool,
    /// Partitions of which something was moved, with the load that they had and when: they stay for a while, or until it is
    /// another one.
    settled: BTreeMap<PartitionId, (u64, u64)>,
}

impl Balance {
    /// Something else has changed: what was planned may make no sense any more, and it may be followed by more.
    fn disturb(&mut self, now_ms: u64) {
        self.plan.clear();
        self.even = None;
        self.is_clear = false;
        self.disturbed_ms = now_ms;
    }
}

impl State {
    /// Members or nodes have changed. What was asked for by this module itself is no disturbance.
    pub(super) fn note_change_of(&mut self, id: PartitionId, before: &Partition) {
        let Some((_, now)) = self.partition(id) else {
            return;
        };
        let running = self.balance.running.get(&id);
        let leaves = running.and_then(Running::leaving);
        let mut gone = before.members().filter(|it| !now.is_member(it));
        let is_ours = running.is_some() && gone.all(|it| Some(*it) == leaves);
        let has_members = |it: &Partition, of: &Partition| of.members().all(|m| it.is_member(m));
        let is_same = has_members(before, now)
            && has_members(now, before)
            && before.learner == now.learner
            && before.primary == now.primary;
        if !is_same && !is_ours {
            // Its move goes on as an order of its own.
            self.balance.running.remove(&id);
            self.note_disturbance();
        }
    }

    /// A node has come or gone, a table was made, ...
    pub(super) fn note_disturbance(&mut self) {
        self.balance.disturb(self.now_ms);
    }

    /// Primaries now: what operators could order before there was more to order.
    pub(super) fn handle_rebalance(&mut self, work: &mut Work) -> Result<Answer, Refusal> {
        self.handle_balance(BalanceOrder::Run(Wanted::Primaries), work)
    }

    pub(super) fn handle_balance(
        &mut self,
        order: BalanceOrder,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let before = *self.durable.balance();
        let mut now = before;
        match order {
            BalanceOrder::Run(wanted) => {
                now.is_paused = false;
                if self
                    .balance
                    .even
                    .is_none_or(|(_, looked_at)| looked_at < wanted)
                {
                    now.wanted = now.wanted.max(wanted);
                    self.balance.even = None;
                    self.balance.looked_ms = 0;
                }
            }
            BalanceOrder::Pause => now.is_paused = true,
            BalanceOrder::Resume => now.is_paused = false,
            BalanceOrder::Limit {
                copies_max,
                copies_per_node_max,
                hand_overs_max,
            } => {
                let limits = &mut now.limits;
                let or_as_it_is = |wanted: u16, is: u16| if wanted == 0 { is } else { wanted };
                limits.copies_max = or_as_it_is(copies_max, limits.copies_max);
                limits.copies_per_node_max =
                    or_as_it_is(copies_per_node_max, limits.copies_per_node_max);
                limits.hand_overs_max = or_as_it_is(hand_overs_max, limits.hand_overs_max);
                if let Some(fault) = limits.fault() {
                    return Err(Refusal::BadLimit(fault));
                }
            }
        }
        if now != before {
            self.change(Change::BalanceSet(now), work);
        }
        Ok(match order {
            BalanceOrder::Run(_) => Answer::Ordered(Order::Rebalance),
            _ => Answer::Done,
        })
    }

    /// Goes on with what is planned, or looks whether there is something to plan.
    pub(super) fn drive_balance(&mut self, work: &mut Work) {
        self.end_moves(work);
        if !self.may_balance() || !self.is_due() {
            return;
        }
        if !self.is_clear_now() {
            return;
        }
        if self.balance.plan.is_empty() && self.balance.running.is_empty() {
            let options = self.balance_options();
            self.forget_settled();
            self.balance.plan = self.planner().plan(&options).into();
            if self.balance.plan.is_empty() {
                let looked_at = if options.moves_replicas {
                    Wanted::Everything
                } else {
                    Wanted::Primaries
                };
                self.balance.even = Some((self.now_ms, looked_at));
                self.want_nothing(work);
                return;
            }
            tracing::info!(
                moves = self.balance.plan.len(),
                "spreading replicas and primaries evenly"
            );
        }
        self.begin_moves(work);
    }

    /// What an operator wanted is done.
    fn want_nothing(&mut self, work: &mut Work) {
        let settings = *self.durable.balance();
        if settings.wanted != Wanted::Nothing {
            let wanted = Wanted::Nothing;
            self.change(
                Change::BalanceSet(BalanceSettings { wanted, ..settings }),
                work,
            );
        }
    }

    fn may_balance(&self) -> bool {
        let settings = self.durable.balance();
        let level = self.durable.level();
        let wants = settings.wanted != Wanted::Nothing
            || self.options.balance_primaries
            || level >= Level::Lively;
        !settings.is_paused && level >= Level::Steady && wants
    }

    /// What may move now, by itself or because an operator wants it.
    fn balance_options(&self) -> Options {
        let wanted = self.durable.balance().wanted;
        let is_lively = self.durable.level() >= Level::Lively;
        Options {
            moves_replicas: is_lively || wanted == Wanted::Everything,
            moves_max: PLAN_MAX,
            ..Options::default()
        }
    }

    fn is_due(&self) -> bool {
        let since = |at_ms: u64| self.now_ms.saturating_sub(at_ms);
        let delay_ms = self.options.balance_delay_ms;
        let is_quiet = since(self.balance.disturbed_ms.max(self.started_ms)) >= delay_ms
            || self.durable.balance().wanted != Wanted::Nothing;
        // Load changes without anything being said.
        let even = self.balance.even;
        let is_even = even.is_some_and(|(at_ms, _)| since(at_ms) < delay_ms.max(LOOK_MS));
        is_quiet && !is_even
    }

    /// Everything is whole but for what moves. Looked at once a second, and again after a disturbance.
    fn is_clear_now(&mut self) -> bool {
        let since_ms = self.now_ms.saturating_sub(self.balance.looked_ms);
        if since_ms >= LOOK_MS {
            self.balance.looked_ms = self.now_ms;
            self.balance.is_clear = self.hindrance().is_none();
        }
        self.balance.is_clear
    }

    /// What keeps anything from being moved now, in words.
    fn hindrance(&self) -> Option<String> {
        let level = self.durable.level();
        if level < Level::Steady {
            return Some(format!("the level of meta is {}", level.name()));
        }
        if self.durable.balance().is_paused {
            return Some("an operator has paused it".to_owned());
        }
        if let Some(id) = self.creating.first() {
            return Some(format!("partition {id} is being made"));
        }
        let is_ours = |id: &PartitionId| self.balance.running.contains_key(id);
        let mut others = self.ailing.iter().filter(|id| !is_ours(id));
        if let Some(id) = others.find(|id| self.is_changing(**id)) {
            return Some(format!(
                "partition {id} lacks a replica, or something of it is being moved"
            ));
        }
        let mut all = self.active_partitions().filter(|(id, _, _)| !is_ours(id));
        let broken = all.find(|(id, _, it)| !self.is_at_rest(*id, it));
        broken.map(|(id, _, _)| format!("partition {id} has members that do not follow"))
    }

    /// It has something under way, or will have: one that lacks replicas which no node could have is as it will be.
    fn is_changing(&self, id: PartitionId) -> bool {
        let Some((_, partition)) = self.partition(id) else {
            return false;
        };
        let has_member = |node| partition.members().any(|it| it.address.node == node);
        partition.learner.is_some()
            || partition.intent.is_some()
            || self.open_nodes().any(|node| !has_member(node))
    }

    /// It serves, and all members are with it.
    fn is_at_rest(&self, id: PartitionId, partition: &Partition) -> bool {
        let follow = |member| self.follows(id, partition, member);
        self.serves(id) && partition.members().all(follow)
    }

    /// Where what `node` holds should go. Costs a walk over all partitions.
    pub(super) fn plan_of_leaving(&self, node: NodeId) -> BTreeMap<PartitionId, CoreAddress> {
        let mut facts = self.node_facts();
        let leaving = facts.iter_mut().filter(|it| it.node == node);
        leaving.for_each(|it| it.standing = Standing::Leaving);
        let mut planner = Planner::new(facts);
        for (id, _, partition) in self.active_partitions() {
            let members = partition.members().map(|it| it.address);
            planner.add(id, members, PartitionLoad::default(), Freedom::Free);
        }
        let plan = planner.plan_leaving(&Options::default());
        plan.into_iter().map(|it| (it.partition, it.to)).collect()
    }

    /// The cluster as the planner sees it. Costs a walk over all partitions.
    fn planner(&self) -> Planner {
        let mut planner = Planner::new(self.node_facts());
        for (id, _, partition) in self.active_partitions() {
            let members = partition.members().map(|it| it.address);
            let load = self.load_of(id, partition);
            planner.add(id, members, load, self.freedom(id, partition, &load));
        }
        planner
    }
}

/// The core of a member, as plans name it.
fn core_of(
    partition: &Partition,
    address: CoreAddress,
) -> Option<pegasus_replication::config::Member> {
    partition
        .members()
        .find(|it| it.address == address)
        .copied()
}
