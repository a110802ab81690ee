//! Moves are begun, some at a time, and ended: done, or given up.

use super::{State, Work, core_of};
use crate::place::balance::{Kind, Move, Reason};
use crate::state::group::{Goal, Intent};
use crate::state::orders::{LEAD_MS, MOVE_MS};
use crate::state::table::Partition;
use pegasus_replication::config::Member;
use pegasus_replication::ids::{CoreAddress, NodeId, PartitionId};
use std::collections::BTreeMap;

/// Hand-overs that one node takes part in at a time.
const HAND_OVERS_PER_NODE_MAX: usize = 2;
/// Moves of the plan that are looked at in one go, if those before them have to wait.
const LOOKS_MAX: usize = 256;

/// A move under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) planned: Move,
    goal: Goal,
    /// A learner was there: if none is and it has not arrived, it has failed.
    has_begun: bool,
}

impl Running {
    /// The replica that makes room.
    pub(super) const fn leaving(&self) -> Option<Member> {
        match self.goal {
            Goal::Lead { .. } => None,
            Goal::Move { from, .. } => Some(from),
        }
    }

    const fn nodes(&self) -> [NodeId; 2] {
        [self.planned.from.node, self.planned.to.node]
    }
}

/// What nodes are busy with.
#[derive(Debug, Default)]
struct Busy {
    copies: usize,
    hand_overs: usize,
    copies_of: BTreeMap<NodeId, usize>,
    hand_overs_of: BTreeMap<NodeId, usize>,
}

impl Busy {
    fn of<'a>(running: impl Iterator<Item = &'a Running>) -> Self {
        let mut busy = Self::default();
        running.for_each(|it| busy.add(it));
        busy
    }

    fn add(&mut self, running: &Running) {
        let (all, of) = match running.planned.kind {
            Kind::Replica => (&mut self.copies, &mut self.copies_of),
            Kind::Lead => (&mut self.hand_overs, &mut self.hand_overs_of),
        };
        *all += 1;
        for node in running.nodes() {
            *of.entry(node).or_default() += 1;
        }
    }
}

impl State {
    /// Forgets moves that are done, and those that will not be.
    pub(super) fn end_moves(&mut self, work: &mut Work) {
        let running: Vec<(PartitionId, Running)> = self
            .balance
            .running
            .iter()
            .map(|(id, it)| (*id, *it))
            .collect();
        for (id, it) in running {
            match self.stand_of(id, &it) {
                Stand::UnderWay { has_begun } => {
                    if let Some(known) = self.balance.running.get_mut(&id) {
                        known.has_begun |= has_begun;
                    }
                }
                Stand::Done => self.note_done(id, &it),
                Stand::Failed => {
                    tracing::warn!(partition = %id, to = %it.planned.to, "giving up a move for balance");
                    let give_up = |partition: &mut Partition| {
                        if partition.goal() == Some(it.goal) {
                            partition.intent = None;
                        }
                    };
                    self.regroup(id, give_up, work);
                    self.balance.running.remove(&id);
                    self.note_disturbance();
                }
            }
        }
    }

    fn note_done(&mut self, id: PartitionId, running: &Running) {
        self.balance.running.remove(&id);
        let planned = running.planned;
        if planned.reason != Reason::Load && planned.kind != Kind::Replica {
            return;
        }
        let load = self.partition(id).map(|(_, it)| self.load_of(id, it));
        if let Some(load) = load {
            let now = (super::facts::requests(&load), self.now_ms);
            self.balance.settled.insert(id, now);
        }
    }

    fn stand_of(&self, id: PartitionId, running: &Running) -> Stand {
        let Some((_, partition)) = self.partition(id) else {
            return Stand::Failed;
        };
        let is_wanted = partition.goal() == Some(running.goal);
        let is_at_rest = self.is_at_rest(id, partition);
        match running.goal {
            Goal::Lead { to } => match partition.primary == Some(to) {
                true if is_at_rest => Stand::Done,
                false if !is_wanted => Stand::Failed,
                _ => Stand::UnderWay { has_begun: true },
            },
            Goal::Move { from, to } => {
                let has_arrived = core_of(partition, to).is_some() && !partition.is_member(&from);
                let learns = partition.learner.is_some_and(|it| it.member.address == to);
                let may_begin = self.is_alive(to.node) && !self.has_to_wait(partition, to.node);
                match has_arrived {
                    true if is_at_rest => Stand::Done,
                    true => Stand::UnderWay { has_begun: true },
                    false if !is_wanted => Stand::Failed,
                    false if learns || (may_begin && !running.has_begun) => {
                        Stand::UnderWay { has_begun: learns }
                    }
                    // It has arrived, and the one that makes room has to hand over first.
                    false if core_of(partition, to).is_some() => {
                        Stand::UnderWay { has_begun: true }
                    }
                    false => Stand::Failed,
                }
            }
        }
    }

    /// Begins what may be begun beside what is under way.
    pub(super) fn begin_moves(&mut self, work: &mut Work) {
        let mut busy = Busy::of(self.balance.running.values());
        let mut waiting = Vec::new();
        let copies_left = |plan: &std::collections::VecDeque<Move>| {
            plan.front().is_some_and(|it| it.kind == Kind::Replica)
        };
        let mut looks = 0;
        while let Some(planned) = self.balance.plan.pop_front() {
            looks += 1;
            let has_copies = copies_left(&self.balance.plan) || busy.copies > 0;
            match self.may_begin(&planned, &busy, has_copies || !waiting.is_empty()) {
                May::Begin(goal) => {
                    let running = Running {
                        planned,
                        goal,
                        has_begun: false,
                    };
                    busy.add(&running);
                    self.begin(running, work);
                }
                May::Wait => waiting.push(planned),
                May::Never => {
                    // The plan is of another cluster.
                    self.note_disturbance();
                    return;
                }
            }
            let is_full =
                busy.copies >= self.copies_max() && busy.hand_overs >= self.hand_overs_max();
            if looks >= LOOKS_MAX || is_full {
                break;
            }
        }
        for planned in waiting.into_iter().rev() {
            self.balance.plan.push_front(planned);
        }
    }

    fn begin(&mut self, running: Running, work: &mut Work) {
        let id = running.planned.partition;
        self.balance.running.insert(id, running);
        let wait_ms = match running.goal {
            Goal::Lead { .. } => LEAD_MS,
            Goal::Move { .. } => MOVE_MS,
        };
        let until_ms = self.now_ms.saturating_add(wait_ms);
        let goal = running.goal;
        self.regroup(id, |it| it.intent = Some(Intent { goal, until_ms }), work);
        if let Goal::Lead { to } = goal {
            self.ask_hand_over(id, to, work);
        }
    }

    fn copies_max(&self) -> usize {
        usize::from(self.durable().balance().limits.copies_max)
    }

    fn hand_overs_max(&self) -> usize {
        usize::from(self.durable().balance().limits.hand_overs_max)
    }

    /// More than may learn would only wait.
    fn copies_per_node_max(&self) -> usize {
        let limit = self.durable().balance().limits.copies_per_node_max;
        usize::from(limit).min(self.options().learners_per_node_max)
    }

    fn may_begin(&self, planned: &Move, busy: &Busy, others_come_first: bool) -> May {
        let id = planned.partition;
        let Some((_, partition)) = self.partition(id) else {
            return May::Never;
        };
        if self.balance.running.contains_key(&id) {
            return May::Wait;
        }
        if partition.intent.is_some() || !self.is_at_rest(id, partition) {
            return May::Never;
        }
        match planned.kind {
            Kind::Lead => self.may_lead_now(planned, partition, busy, others_come_first),
            Kind::Replica => self.may_copy_now(planned, partition, busy),
        }
    }

    fn may_lead_now(&self, planned: &Move, partition: &Partition, busy: &Busy, waits: bool) -> May {
        let to = core_of(partition, planned.to).filter(|to| partition.is_secondary(to));
        let is_busy = has_most(&busy.hand_overs_of, planned, HAND_OVERS_PER_NODE_MAX);
        match to {
            // It may become a member by a copy that comes first.
            None if waits => May::Wait,
            None => May::Never,
            Some(_) if is_busy || busy.hand_overs >= self.hand_overs_max() => May::Wait,
            Some(to) => May::Begin(Goal::Lead { to }),
        }
    }

    fn may_copy_now(&self, planned: &Move, partition: &Partition, busy: &Busy) -> May {
        let CoreAddress { node, core } = planned.to;
        let shares = partition
            .members()
            .any(|it| it.address.node == node && it.address != planned.from);
        let is_busy = has_most(&busy.copies_of, planned, self.copies_per_node_max());
        match core_of(partition, planned.from) {
            None => May::Never,
            Some(_) if shares || !self.has_core(node, core) || self.is_closed(node) => May::Never,
            Some(_) if self.has_to_wait(partition, node) => May::Never,
            Some(_) if is_busy || busy.copies >= self.copies_max() => May::Wait,
            Some(from) => May::Begin(Goal::Move {
                from,
                to: planned.to,
            }),
        }
    }
}

fn has_most(of: &BTreeMap<NodeId, usize>, planned: &Move, max: usize) -> bool {
    let count = |node: NodeId| of.get(&node).copied().unwrap_or(0);
    count(planned.from.node).max(count(planned.to.node)) >= max
}

enum Stand {
    UnderWay { has_begun: bool },
    Done,
    Failed,
}

enum May {
    Begin(Goal),
    /// Something else has to end first.
    Wait,
    /// It does not fit what is there.
    Never,
}
