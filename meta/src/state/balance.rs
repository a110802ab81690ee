//! Primaries go back to where they spread the work: after a failover, a drain or a return of a node some cores lead more than
//! others, and nothing else ever changes that.
//!
//! ```text
//! everything whole and quiet for balance_delay --> plan --> one hand-over --done--> the next --> ... --> even
//!                                                              | not done in time, or anything else happens
//!                                                              v
//!                                                           wait again
//! ```
//!
//! One hand-over at a time, each an ordinary order to lead, and only while nothing is missing anywhere: a cluster that has
//! something better to do is left alone. The plan itself is forgotten by a restart and made anew.

use super::change::Level;
use super::command::{Answer, Order};
use super::group::{Goal, Intent};
use super::orders::{LEAD_MS, OrderProgress};
use super::table::Partition;
use super::{State, Work};
use crate::place::{self, Load};
use pegasus_replication::config::Member;
use pegasus_replication::ids::{CoreAddress, PartitionId, TableId};
use std::collections::{BTreeMap, VecDeque};

/// How often it is looked whether everything is whole, in milliseconds: that is a walk over all partitions.
const LOOK_MS: u64 = 1_000;
/// Hand-overs of one plan, at most; then another one is made.
const PLAN_MAX: usize = 1_024;

/// What is under way. Lost with the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Balance {
    /// Hand-overs still to come.
    plan: VecDeque<(PartitionId, Member)>,
    /// The one under way.
    running: Option<(PartitionId, Member)>,
    /// An operator wants it done without the delay.
    is_wanted: bool,
    /// Nothing has changed since everything was found even.
    is_even: bool,
    /// When anything has happened last that was not done here, in milliseconds.
    disturbed_ms: u64,
    looked_ms: u64,
}

impl Balance {
    /// Something else has changed: what was planned may make no sense any more, and it may be followed by more.
    fn disturb(&mut self, now_ms: u64) {
        self.plan.clear();
        self.is_even = false;
        self.disturbed_ms = now_ms;
    }
}

impl State {
    /// Members or nodes have changed. What was asked for by this module itself is no disturbance.
    pub(super) fn note_change_of(&mut self, id: PartitionId, before: &Partition) {
        let Some((_, now)) = self.partition(id) else {
            return;
        };
        let is_ours = self
            .balance
            .running
            .is_some_and(|(running, to)| running == id && now.primary == Some(to));
        let has_members = |it: &Partition, of: &Partition| of.members().all(|m| it.is_member(m));
        let is_same_group = has_members(before, now) && has_members(now, before);
        let is_quiet = is_same_group
            && before.learner == now.learner
            && (before.primary == now.primary || is_ours);
        if !is_quiet {
            self.note_disturbance();
        }
    }

    /// A node has come or gone, a table was made, ...
    pub(super) fn note_disturbance(&mut self) {
        self.balance.disturb(self.now_ms);
    }

    /// An operator wants it now.
    pub(super) fn handle_rebalance(&mut self) -> Answer {
        if !self.balance.is_wanted && !self.balance.is_even {
            self.balance.is_wanted = true;
            self.balance.looked_ms = 0;
        }
        Answer::Ordered(Order::Rebalance)
    }

    /// Goes on with what is planned, or looks whether there is something to plan.
    pub(super) fn drive_balance(&mut self, work: &mut Work) {
        if let Some((id, to)) = self.balance.running {
            self.end_hand_over(id, to);
        }
        let may = self.balance.is_wanted || self.options.balance_primaries;
        let may = may && self.durable.level() >= Level::Steady;
        if !may || self.balance.running.is_some() || self.balance.is_even || !self.is_due() {
            return;
        }
        self.balance.looked_ms = self.now_ms;
        if self.hindrance().is_some() {
            return;
        }
        if self.balance.plan.is_empty() {
            self.balance.plan = self.plan_of_leads();
            if self.balance.plan.is_empty() {
                self.balance.is_even = true;
                self.balance.is_wanted = false;
                return;
            }
            tracing::info!(
                hand_overs = self.balance.plan.len(),
                "spreading primaries evenly"
            );
        }
        if let Some((id, to)) = self.balance.plan.pop_front() {
            self.begin_hand_over(id, to, work);
        }
    }

    fn is_due(&self) -> bool {
        let since = |at_ms: u64| self.now_ms.saturating_sub(at_ms);
        let is_quiet = since(self.balance.disturbed_ms.max(self.started_ms))
            >= self.options.balance_delay_ms
            || self.balance.is_wanted;
        let goes_on = !self.balance.plan.is_empty();
        is_quiet && (goes_on || since(self.balance.looked_ms) >= LOOK_MS)
    }

    fn begin_hand_over(&mut self, id: PartitionId, to: Member, work: &mut Work) {
        let fits =
            |it: &Partition| it.intent.is_none() && it.is_secondary(&to) && self.is_at_rest(id, it);
        if !self.partition(id).is_some_and(|(_, it)| fits(it)) {
            self.note_disturbance();
            return;
        }
        self.balance.running = Some((id, to));
        let until_ms = self.now_ms.saturating_add(LEAD_MS);
        let goal = Goal::Lead { to };
        self.regroup(id, |it| it.intent = Some(Intent { goal, until_ms }), work);
        self.ask_hand_over(id, to, work);
    }

    /// Forgets the hand-over under way once it is done, or given up.
    fn end_hand_over(&mut self, id: PartitionId, to: Member) {
        let Some((_, partition)) = self.partition(id) else {
            self.balance.running = None;
            return self.note_disturbance();
        };
        let leads = partition.primary == Some(to);
        let is_under_way = partition.intent.is_some();
        if leads && self.serves(id) {
            self.balance.running = None;
        } else if !leads && !is_under_way {
            self.balance.running = None;
            self.note_disturbance();
        }
    }

    /// What keeps primaries from being moved now, in words.
    fn hindrance(&self) -> Option<String> {
        let level = self.durable.level();
        if level < Level::Steady {
            return Some(format!("the level of meta is {}", level.name()));
        }
        if let Some(id) = self.creating.first() {
            return Some(format!("partition {id} is being made"));
        }
        if let Some(id) = self.ailing.iter().find(|id| self.is_changing(**id)) {
            return Some(format!(
                "partition {id} lacks a replica, or something of it is being moved"
            ));
        }
        let mut all = self.active_partitions();
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

    /// The hand-overs after which primaries are spread as evenly as their groups allow: over the cores for each table, then
    /// over nodes, then together with those of other tables. Nobody leads on a node that is being emptied.
    fn plan_of_leads(&self) -> VecDeque<(PartitionId, Member)> {
        let mut plan = VecDeque::new();
        let mut loads = self.loads();
        for (id, groups) in self.groups_by_table() {
            let led = groups.iter().filter_map(|(_, members)| members.first());
            for lead in led.clone() {
                add_primaries(&mut loads, lead.address, -1);
            }
            let addresses: Vec<Vec<CoreAddress>> = groups
                .iter()
                .map(|(_, members)| members.iter().map(|it| it.address).collect())
                .collect();
            let leads = place::lead_evenly(&loads, &addresses);
            for ((index, members), lead) in groups.iter().zip(leads) {
                let to = members.iter().find(|it| it.address == lead);
                let changes = to.filter(|to| members.first() != Some(to));
                let partition = PartitionId {
                    table: id,
                    index: *index,
                };
                plan.extend(changes.map(|to| (partition, *to)));
                add_primaries(&mut loads, lead, 1);
            }
            if plan.len() >= PLAN_MAX {
                plan.truncate(PLAN_MAX);
                break;
            }
        }
        plan
    }

    /// Members that may lead, the primary first, of partitions whose primary may.
    fn groups_by_table(&self) -> BTreeMap<TableId, Vec<(u32, Vec<Member>)>> {
        let may_lead = |it: &&Member| self.durable().drain(it.address.node).is_none();
        let mut tables: BTreeMap<TableId, Vec<(u32, Vec<Member>)>> = BTreeMap::new();
        for (id, _, partition) in self.active_partitions() {
            if partition.primary.as_ref().filter(may_lead).is_some() {
                let members = partition.members().filter(may_lead).copied().collect();
                tables
                    .entry(id.table)
                    .or_default()
                    .push((id.index, members));
            }
        }
        tables
    }

    pub(super) fn balance_progress(&self) -> OrderProgress {
        let balance = &self.balance;
        let left = balance.plan.len() + usize::from(balance.running.is_some());
        match balance.running {
            None if !balance.is_wanted => OrderProgress::Done,
            Some((id, to)) => OrderProgress::Waiting(format!(
                "{left} hand-overs are left; {id} is being handed over to node {}",
                to.address.node
            )),
            None => OrderProgress::Waiting(match self.hindrance() {
                Some(hindrance) => format!("waiting: {hindrance}"),
                None => format!("{left} hand-overs are left"),
            }),
        }
    }
}

fn add_primaries(loads: &mut BTreeMap<CoreAddress, Load>, core: CoreAddress, count: i64) {
    let load = loads.entry(core).or_default();
    load.primaries = load.primaries.saturating_add_signed(count);
}
