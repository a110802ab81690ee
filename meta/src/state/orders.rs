//! What operators want moved: a primary, a replica, everything of a node. Recorded first, then carried out step by step, so
//! that it goes on after a restart of meta.

use super::change::{Drain, Level};
use super::command::{Answer, HandOver, Order, Refusal};
use super::group::{Goal, Intent};
use super::heal::REPEAT_MS;
use super::heal::Slots;
use super::table::{Partition, Table};
use super::{Change, State, Work};
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{CoreAddress, NodeId, PartitionId};

/// How long a secondary may take to become primary before the order is given up, in milliseconds.
pub(super) const LEAD_MS: u64 = 10_000;
/// How long a replica may take to move, in milliseconds: a day.
pub(super) const MOVE_MS: u64 = 86_400_000;
/// Hand-overs that a node which is being emptied works on at a time.
const HANDOVERS_MAX: usize = 16;

/// How far an order is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderProgress {
    Done,
    /// What it waits for, in words.
    Waiting(String),
    /// It will not be carried out, and why.
    GivenUp(String),
}

impl State {
    pub(super) fn handle_move_primary(
        &mut self,
        table: &str,
        index: u32,
        to: NodeId,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let (id, partition) = self.named_partition(table, index)?;
        let member = member_on(id, partition, to)?;
        let order = Order::Lead {
            partition: id,
            to: member,
        };
        if partition.primary != Some(member) {
            self.expect_unmoved(id, partition)?;
            self.intend(id, Goal::Lead { to: member }, LEAD_MS, work);
        }
        Ok(Answer::Ordered(order))
    }

    pub(super) fn handle_move_replica(
        &mut self,
        table: &str,
        index: u32,
        from: NodeId,
        to: CoreAddress,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let (id, partition) = self.named_partition(table, index)?;
        let from = member_on(id, partition, from)?;
        self.expect_unmoved(id, partition)?;
        let bad = |fault| {
            Err(Refusal::BadMove {
                partition: id,
                fault,
            })
        };
        let Some(target) = self.durable.nodes().get(&to.node) else {
            return Err(Refusal::NoSuchNode(to.node));
        };
        let stays = to.node == from.address.node;
        let is_taken = !stays && partition.members().any(|it| it.address.node == to.node);
        match partition {
            _ if target.core(to.core).is_none() => bad("the node has no such core"),
            _ if to == from.address => bad("the replica is there already"),
            _ if is_taken => {
                bad("that node has a replica of it, and two on one node would fall together")
            }
            _ if self.durable.drain(to.node).is_some() => bad("that node is being emptied"),
            _ if partition.learner.is_some() => {
                bad("it is getting a new replica; wait until it has it")
            }
            _ if stays && partition.member_count() == 1 => {
                bad("its only replica cannot move within its node; move it to another node first")
            }
            _ => {
                self.intend(id, Goal::Move { from, to }, MOVE_MS, work);
                Ok(Answer::Ordered(Order::Move {
                    partition: id,
                    from,
                    to,
                }))
            }
        }
    }

    pub(super) fn handle_drain(
        &mut self,
        node: NodeId,
        drain: Option<Drain>,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        if !self.durable.nodes().contains_key(&node) {
            return Err(Refusal::NoSuchNode(node));
        }
        // Of two operators who empty a node at once, the one who wants more of it wins.
        let now = self.durable.drain(node);
        let wanted = drain.map(|drain| now.map_or(drain, |now| now.max(drain)));
        if now != wanted {
            let drain = wanted;
            self.change(Change::NodeDrained { node, drain }, work);
            self.note_disturbance();
        }
        Ok(Answer::Ordered(match drain {
            Some(drain) => Order::Drain { node, drain },
            None => Order::Undrain,
        }))
    }

    /// `None` only asks.
    pub(super) fn handle_level(&mut self, level: Option<Level>, work: &mut Work) -> Answer {
        let before = self.durable.level();
        let now = level.unwrap_or(before);
        if now != before {
            tracing::info!(before = before.name(), now = now.name(), "another level");
            self.change(Change::LevelSet(now), work);
        }
        Answer::LevelWas { before, now }
    }

    fn named_partition(
        &self,
        name: &str,
        index: u32,
    ) -> Result<(PartitionId, &Partition), Refusal> {
        let shown = || name.chars().take(256).collect();
        let table = self
            .durable
            .table_named(name)
            .ok_or_else(|| Refusal::UnknownTable(shown()))?;
        let partition = table
            .partition(index)
            .ok_or_else(|| Refusal::UnknownPartition {
                table: shown(),
                index,
                count: table.partition_count,
            })?;
        let table = table.id;
        Ok((PartitionId { table, index }, partition))
    }

    #[allow(clippy::unused_self, reason = "reads as a question to the state")]
    fn expect_unmoved(&self, id: PartitionId, partition: &Partition) -> Result<(), Refusal> {
        let fault = match partition {
            _ if partition.stage == Stage::Creating => "it is being made",
            _ if partition.intent.is_some() => "an earlier order for it is being carried out",
            _ => return Ok(()),
        };
        Err(Refusal::BadMove {
            partition: id,
            fault,
        })
    }

    fn intend(&mut self, id: PartitionId, goal: Goal, wait_ms: u64, work: &mut Work) {
        let until_ms = self.now_ms.saturating_add(wait_ms);
        let intent = Intent { goal, until_ms };
        self.regroup(id, |it| it.intent = Some(intent), work);
        if let Goal::Lead { to } = goal {
            self.ask_hand_over(id, to, work);
        }
    }

    /// Takes the next step of the order for this partition, if there is one.
    pub(super) fn drive(&mut self, id: PartitionId, slots: &mut Slots, work: &mut Work) {
        let Some((_, partition)) = self.partition(id) else {
            return;
        };
        let Some(intent) = partition.intent else {
            return;
        };
        if intent.until_ms <= self.now_ms {
            tracing::warn!(partition = %id, "giving up an order that took too long");
            self.regroup(id, |it| it.intent = None, work);
            return;
        }
        match intent.goal {
            Goal::Lead { to } => self.ask_hand_over(id, to, work),
            Goal::Move { from, to } => self.drive_move(id, from, to, slots, work),
        }
    }

    fn drive_move(
        &mut self,
        id: PartitionId,
        from: Member,
        to: CoreAddress,
        slots: &mut Slots,
        work: &mut Work,
    ) {
        let Some((_, partition)) = self.partition(id) else {
            return;
        };
        if !self.has_core(to.node, to.core) || self.is_closed(to.node) {
            // It has started again with fewer cores, or is to get nothing any more.
            self.regroup(id, |it| it.intent = None, work);
            return;
        }
        let arrived = partition.members().find(|it| it.address == to).copied();
        let leads = partition.primary == Some(from);
        match arrived {
            Some(new) if leads => self.ask_hand_over(id, new, work),
            // Only where the replica was alone and could not be replaced in one step.
            Some(_) if self.serves(id) => _ = self.regroup(id, |it| it.remove(&from), work),
            Some(_) => {}
            None if leads && !partition.secondaries.is_empty() => {
                if let Some(next) = self.any_successor(id, from.address.node) {
                    self.ask_hand_over(id, next, work);
                }
            }
            None if partition.learner.is_none()
                && self.serves(id)
                && self.is_alive(to.node)
                && !self.has_to_wait(partition, to.node) =>
            {
                self.assign_fresh(id, to, slots, work);
            }
            None => {}
        }
    }

    /// Asks the primary to hand over, again after a while if it has not.
    pub(super) fn ask_hand_over(&mut self, id: PartitionId, to: Member, work: &mut Work) {
        let Some((_, partition)) = self.partition(id) else {
            return;
        };
        let ballot = partition.ballot;
        let last = self
            .heal
            .handovers
            .get(&id)
            .filter(|(asked, ..)| *asked == ballot);
        let is_due = last.is_none_or(|(_, at, _)| self.now_ms.saturating_sub(*at) >= REPEAT_MS);
        let may = is_due && self.serves(id) && self.follows(id, partition, &to);
        if let Some(primary) = partition.primary.filter(|_| may) {
            let handover = HandOver {
                partition: id,
                ballot,
                to,
            };
            work.pushes.hand_over(primary.address.node, handover);
            self.heal.handovers.insert(id, (ballot, self.now_ms, to));
        }
    }

    /// Secondaries that may lead: those that follow, not on `except` and not on a node that is being emptied.
    fn successors(&self, id: PartitionId, except: NodeId) -> Vec<Member> {
        let Some((_, partition)) = self.partition(id) else {
            return Vec::new();
        };
        let fits = partition.secondaries.iter().filter(|it| {
            let node = it.address.node;
            node != except && !self.is_closed(node) && self.follows(id, partition, it)
        });
        fits.copied().collect()
    }

    /// One of the secondaries that may lead: of many partitions, another one for each. Who hands over many counts instead.
    pub(super) fn any_successor(&self, id: PartitionId, except: NodeId) -> Option<Member> {
        let fits = self.successors(id, except);
        let turn = usize::try_from(id.index).unwrap_or(0) % fits.len().max(1);
        fits.get(turn).copied()
    }

    /// Goes on emptying nodes.
    pub(super) fn drive_drains(&mut self, work: &mut Work) {
        if self.durable.level() <= Level::Freezed {
            return;
        }
        let drained: Vec<(NodeId, Drain)> = self
            .durable
            .drained()
            .iter()
            .map(|(&node, &drain)| (node, drain))
            .collect();
        for (node, drain) in drained {
            self.hand_over_from(node, work);
            if drain >= Drain::Replicas {
                self.move_from(node, work);
            }
        }
    }

    /// Has what `node` leads taken over, some at a time, each by the core that leads the least.
    pub(super) fn hand_over_from(&mut self, node: NodeId, work: &mut Work) {
        let leads = |it: &Partition| it.primary.is_some_and(|it| it.address.node == node);
        let asked_for = |id: &PartitionId, it: &Partition| {
            let asked = self.heal.handovers.get(id);
            asked
                .filter(|(ballot, ..)| *ballot == it.ballot)
                .map(|(_, _, to)| *to)
        };
        let led: Vec<(PartitionId, Option<Member>)> = self
            .active_partitions()
            .filter(|(_, _, it)| leads(it) && !it.secondaries.is_empty())
            .map(|(id, _, it)| (id, asked_for(&id, it)))
            .collect();
        if led.is_empty() {
            return;
        }
        let mut loads = self.loads();
        let asked: Vec<Member> = led.iter().filter_map(|(_, to)| *to).collect();
        for to in &asked {
            loads.entry(to.address).or_default().primaries += 1;
        }
        let mut room = HANDOVERS_MAX.saturating_sub(asked.len());
        for (id, asked) in led {
            let fits = self.successors(id, node);
            if let Some(to) = asked.filter(|to| fits.contains(to)) {
                self.ask_hand_over(id, to, work);
                continue;
            }
            if asked.is_none() && room == 0 {
                continue;
            }
            let led_at = |it: &Member| loads.get(&it.address).map_or(0, |load| load.primaries);
            if let Some(to) = fits.into_iter().min_by_key(led_at) {
                room -= usize::from(asked.is_none());
                loads.entry(to.address).or_default().primaries += 1;
                self.ask_hand_over(id, to, work);
            }
        }
    }

    /// Plans the moves of replicas, as many at a time as may learn.
    fn move_from(&mut self, node: NodeId, work: &mut Work) {
        let mut slots = Slots::of(self);
        let max = self.options.learners_max;
        let moving = self.ailing.iter().filter(|id| {
            let goal = self.partition(**id).and_then(|(_, it)| it.goal());
            matches!(goal, Some(Goal::Move { .. }))
        });
        let room = max.saturating_sub(moving.count());
        let leaves = |table: &Table, it: &Partition| {
            let member = it.members().find(|it| it.address.node == node).copied()?;
            let is_free = it.intent.is_none() && it.learner.is_none();
            let is_complete = it.member_count() >= usize::from(table.replica_count);
            let may = it.primary != Some(member) || it.secondaries.is_empty();
            (is_free && is_complete && may).then_some(member)
        };
        let leaving: Vec<(PartitionId, Member)> = self
            .active_partitions()
            .filter_map(|(id, table, it)| Some((id, leaves(table, it)?)))
            .take(room)
            .collect();
        if leaving.is_empty() {
            return;
        }
        let planned = self.plan_of_leaving(node);
        for (id, from) in leaving {
            let planned = planned.get(&id).copied();
            let planned = planned.filter(|to| self.may_learn_at(id, *to, &slots));
            let to = planned.or_else(|| self.target(id, &mut slots));
            if let Some(to) = to.filter(|_| self.serves(id)) {
                self.intend(id, Goal::Move { from, to }, MOVE_MS, work);
                self.drive_move(id, from, to, &mut slots, work);
            }
        }
    }

    pub(super) fn active_partitions(
        &self,
    ) -> impl Iterator<Item = (PartitionId, &Table, &Partition)> {
        let tables = self.durable.tables().values().filter(|it| !it.is_dropped());
        let all =
            tables.flat_map(|table| table.indexed().map(move |(index, it)| (table, index, it)));
        all.filter(|(_, _, it)| it.stage == Stage::Active)
            .map(|(table, index, it)| {
                let table_id = table.id;
                let id = PartitionId {
                    table: table_id,
                    index,
                };
                (id, table, it)
            })
    }

    /// How far an order is. Of a drain this costs a walk over all partitions.
    #[must_use]
    pub fn order_progress(&self, order: &Order) -> OrderProgress {
        match order {
            Order::Undrain => OrderProgress::Done,
            Order::Rebalance => self.balance_progress(),
            Order::Replicas(table) => self.replicas_progress(*table),
            Order::Lead { partition, to } => self.lead_progress(*partition, to),
            Order::Move {
                partition,
                from,
                to,
            } => self.move_progress(*partition, from, to),
            Order::Drain { node, drain } => self.drain_progress(*node, *drain),
        }
    }

    fn lead_progress(&self, id: PartitionId, to: &Member) -> OrderProgress {
        let Some((_, partition)) = self.partition(id) else {
            return OrderProgress::GivenUp("its table was dropped".to_owned());
        };
        match partition {
            _ if partition.primary == Some(*to) && self.serves(id) => OrderProgress::Done,
            _ if partition.primary == Some(*to) => {
                OrderProgress::Waiting(format!("{id} is handed over and does not serve yet"))
            }
            _ if partition.intent.is_some() => {
                OrderProgress::Waiting(format!("the primary of {id} has not handed over yet"))
            }
            _ => OrderProgress::GivenUp(format!(
                "{id} was not handed over in time, or the replica is not a member any more"
            )),
        }
    }

    fn move_progress(&self, id: PartitionId, from: &Member, to: &CoreAddress) -> OrderProgress {
        let Some((_, partition)) = self.partition(id) else {
            return OrderProgress::GivenUp("its table was dropped".to_owned());
        };
        let has_arrived = partition.members().any(|it| it.address == *to);
        match partition {
            _ if has_arrived && !partition.is_member(from) => OrderProgress::Done,
            _ if partition.intent.is_none() => OrderProgress::GivenUp(format!(
                "the move of {id} took too long, or the replica is not a member any more"
            )),
            _ if partition.learner.is_some() => {
                OrderProgress::Waiting(format!("the new replica of {id} is catching up"))
            }
            _ => OrderProgress::Waiting(format!("{id} waits for its turn, or for its primary")),
        }
    }

    fn drain_progress(&self, node: NodeId, drain: Drain) -> OrderProgress {
        let told = self.emptying(node);
        let is_done = match drain {
            Drain::Primaries => told.primaries_left == 0,
            Drain::Replicas => told.replicas_left == 0,
            Drain::Decommission => told.is_forgotten,
        };
        match told.drain {
            None if !told.is_forgotten => OrderProgress::GivenUp(format!(
                "node {node} is not being emptied any more: somebody has taken the order back"
            )),
            _ if is_done => OrderProgress::Done,
            _ => OrderProgress::Waiting(told.message),
        }
    }
}

fn member_on(id: PartitionId, partition: &Partition, node: NodeId) -> Result<Member, Refusal> {
    let fault = "that node has no replica of it";
    let member = partition.members().find(|it| it.address.node == node);
    member.copied().ok_or(Refusal::BadMove {
        partition: id,
        fault,
    })
}
