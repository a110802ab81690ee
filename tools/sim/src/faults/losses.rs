//! What is lost for good: all that a node has, or the store of meta; and what operators do then.

use crate::action::Action;
use crate::clock::Clock;
use crate::cores::SimCore;
use crate::history::Violation;
use crate::node::{End, SimNode, stored_replicas};
use crate::world::World;
use pegasus_meta::recover::{Case, NamedTable, Plan, Undecided, Witness, plan};
use pegasus_meta::state::{Answer, Command, State};
use pegasus_replication::config::Stage;
use pegasus_replication::ids::{NodeId, PartitionId, TableId};
use pegasus_replication::replica::Health;
use std::collections::BTreeSet;
use std::time::Duration;

/// Nodes of a run, those that are gone included.
const NODES_MAX: usize = 12;
/// An operator tries again after this time.
const RETRY: Duration = Duration::from_millis(200);
/// After about so many attempts he restarts a node that does not finish opening.
const RETRIES: u64 = 20;

impl World {
    /// The node never comes back; another one takes the place of its machine soon.
    pub(super) fn wipe_node(&mut self, index: usize) -> Result<bool, Violation> {
        if self.nodes.len() >= NODES_MAX || self.meta.is_lost || !self.may_lose(index) {
            return Ok(false);
        }
        self.stop_node(index, End::PowerCut)?;
        let node = &mut self.nodes[index];
        node.is_gone = true;
        let empty = |core: &SimCore| {
            SimCore::new(
                core.address.node,
                core.address.core.0,
                self.scenario.sector_bytes,
            )
        };
        node.cores = node.cores.iter().map(empty).collect();
        self.after_pause(Duration::from_secs(2), Action::ReplaceNode);
        Ok(true)
    }

    /// Others hold all that this node holds, and nothing waits to be made on it.
    fn may_lose(&self, index: usize) -> bool {
        let node = self.nodes[index].id;
        let is_awaited = self.configurations().iter().any(|configuration| {
            configuration.stage == Stage::Creating && configuration.member_on(node).is_some()
        });
        let stored = self.nodes[index].cores.iter().flat_map(stored_replicas);
        let mut partitions = stored.map(|stored| stored.partition);
        !is_awaited && partitions.all(|partition| self.is_held_elsewhere(partition, node))
    }

    /// A node without anything gets a number of its own, and joins.
    pub(crate) fn replace_node(&mut self) -> Result<(), Violation> {
        if !self.meta.up || !self.meta.is_idle() {
            self.queue.add(self.now.after(RETRY), Action::ReplaceNode);
            return Ok(());
        }
        let outcome = self.meta.state.apply(Command::NumberNode);
        let Answer::NodeNumbered(id) = outcome.answer else {
            let answer = format!("{:?}", outcome.answer);
            return Err(Violation::invariant(format!(
                "meta gives no number: {answer}"
            )));
        };
        self.meta.persist(outcome.changes);
        let clock = Clock::new(
            self.now,
            self.scenario.drift_percent,
            &mut self.random.clock,
        );
        self.nodes.push(SimNode::new(id, clock, &self.scenario));
        self.start_node(self.nodes.len() - 1)
    }

    /// Meta dies for good; not while a member is lost or still being made: then nobody could say what that one had.
    pub(super) fn lose_meta(&mut self) -> bool {
        let is_whole = self.configurations().iter().all(|configuration| {
            let mut members = configuration.members();
            let are_there =
                members.all(|member| !self.nodes[self.node_index(member.address.node)].is_gone);
            are_there && configuration.stage == Stage::Active
        });
        if !self.meta.up || self.table().is_none() || !is_whole {
            return false;
        }
        self.stop_meta();
        self.meta.is_lost = true;
        self.after_pause(Duration::from_secs(2), Action::RecoverMeta);
        true
    }

    /// The operator listens until every node has told all, and starts meta anew if nothing is left open.
    pub(crate) fn recover_meta(&mut self) -> Result<(), Violation> {
        if !self.meta.is_lost {
            return Ok(());
        }
        let plan = self
            .have_all_told()?
            .then(|| self.plan_meta())
            .transpose()?;
        if let Some(open) = plan.as_ref().filter(|plan| !plan.undecided.is_empty()) {
            self.say(|_| format!("meta is not rebuilt, {:?}", open.undecided));
        }
        let Some(plan) = plan.filter(|plan| plan.undecided.is_empty()) else {
            self.queue.add(self.now.after(RETRY), Action::RecoverMeta);
            return Ok(());
        };
        self.say(|_| format!("meta is rebuilt, {:?}", plan.warnings));
        State::from_durable(plan.durable.clone()).check();
        self.totals.coverage.note("meta rebuilt");
        self.meta.begin_anew(plan.durable);
        self.start_meta();
        Ok(())
    }

    /// Every node is there, and no copy is being opened. A learner whose primary waits for meta would be for ever: the
    /// operator starts its node again.
    fn have_all_told(&mut self) -> Result<bool, Violation> {
        let mut there = self.nodes.iter().filter(|node| !node.is_gone);
        let are_there = there
            .all(|node| node.up && node.paused_until <= self.now && !self.meta.is_cut(node.id));
        if !are_there {
            return Ok(false);
        }
        let is_opening = |node: &SimNode| {
            let mut replicas = node.replicas();
            replicas.any(|replica| replica.health() == Health::Opening)
        };
        let Some(opening) = self.nodes.iter().position(is_opening) else {
            return Ok(true);
        };
        if self.random.fault.one_in(RETRIES) {
            self.totals.coverage.note("restarted to be heard");
            self.stop_node(opening, End::InOrder)?;
            self.start_stopped_node(self.nodes[opening].id)?;
        }
        Ok(false)
    }

    fn plan_meta(&mut self) -> Result<Plan, Violation> {
        let there: Vec<usize> = (0..self.nodes.len())
            .filter(|index| !self.nodes[*index].is_gone)
            .collect();
        let witness = |index: &usize| {
            let report = self.nodes[*index].report();
            let witness = Witness {
                node: self.describe(*index),
                has_told_all: true,
                replicas: report.replicas.into_iter().collect(),
                tables: report.tables,
            };
            (self.nodes[*index].id, witness)
        };
        let nodes: BTreeSet<NodeId> = there.iter().map(|index| self.nodes[*index].id).collect();
        let mut case = Case {
            witnesses: there.iter().map(witness).collect(),
            nodes,
            now_ms: self.now_ms(),
            ..Case::default()
        };
        let decided = self.decide_meta(&case)?;
        if decided.undecided.is_empty() {
            return Ok(decided);
        }
        let tables: BTreeSet<TableId> = decided.undecided.iter().filter_map(table_of).collect();
        for table in tables {
            self.say_of_table(table, &mut case);
        }
        self.decide_meta(&case)
    }

    fn decide_meta(&mut self, case: &Case) -> Result<Plan, Violation> {
        let plan = plan(crate::meta::cluster(), case)
            .map_err(|error| Violation::invariant(format!("meta cannot be rebuilt: {error}")))?;
        for undecided in &plan.undecided {
            self.say(|_| format!("rebuilding meta: {undecided}"));
            self.totals.coverage.note("meta undecided");
        }
        Ok(plan)
    }

    /// Nodes that have started since know no tables; the operator does, and leaves the copies of dropped ones where they are.
    fn say_of_table(&mut self, id: TableId, case: &mut Case) {
        let tables = self.meta.state.durable().tables();
        let known = tables.get(&id).filter(|table| !table.is_dropped());
        match known {
            Some(table) => case.tables.push(NamedTable {
                id,
                name: table.name.clone(),
                partition_count: table.partition_count,
                replica_count: table.replica_count,
                envs: std::collections::BTreeMap::new(),
            }),
            None => {
                case.leave.insert(id);
                self.meta.left.insert(id);
            }
        }
    }

    /// Some member on another node holds what the configuration promises; of one that is still being made nobody does.
    pub(super) fn is_held_elsewhere(&self, partition: PartitionId, node: NodeId) -> bool {
        let Some(configuration) = self.configuration(partition) else {
            // Dropped.
            return true;
        };
        let is_made = configuration.stage == Stage::Active;
        is_made
            && configuration.members().any(|member| {
                let core = self.core(member.address);
                let replica = core.shard.as_ref().and_then(|it| it.replica(partition));
                member.address.node != node
                    && core.engine.incarnation(partition) == Some(member.incarnation)
                    && !core.damaged.contains(&(partition, member.incarnation))
                    && replica.is_none_or(|replica| replica.reason().is_none())
            })
    }
}

fn table_of(undecided: &Undecided) -> Option<TableId> {
    match undecided {
        Undecided::Table { table, .. } => Some(*table),
        Undecided::Partition { partition, .. } => Some(partition.table),
        Undecided::Node { .. } => None,
    }
}
