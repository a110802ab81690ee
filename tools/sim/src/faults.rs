//! Chance: what goes wrong, for how long, and how all of it ends.

mod disks;
mod losses;
mod networks;
mod orders;
mod processes;

use crate::action::Action;
use crate::coverage::Struck;
use crate::history::Violation;
use crate::node::End;
use crate::scenario::Fault;
use crate::world::World;
use pegasus_replication::ids::{CoreAddress, NodeId};
use pegasus_replication::replica::RoleName;
use pegasus_replication::shard::Shard;
use std::collections::BTreeSet;
use std::time::Duration;

impl World {
    pub(crate) fn schedule_fault(&mut self) {
        let period = self.scenario.fault_period;
        let pause = self.random.fault.duration(period / 4..period * 2);
        self.queue.add(self.now.after(pause), Action::Fault);
    }

    pub(crate) fn strike(&mut self) -> Result<(), Violation> {
        if self.ending {
            return Ok(());
        }
        self.schedule_fault();
        let fault = *self.random.fault.pick(&self.scenario.faults);
        self.say(|_| format!("FAULT {fault:?}"));
        match fault {
            Fault::CrashAll => self.crash_all()?,
            Fault::CrashMeta => self.crash_meta(),
            Fault::FailMetaStore => self.fail_meta_store(),
            Fault::LoseMeta => {
                if !self.lose_meta() {
                    return Ok(());
                }
            }
            Fault::DropTable => self.drop_table(),
            Fault::MovePrimary | Fault::MoveReplica | Fault::DrainNode => self.order(fault),
            Fault::BreakLink => return self.break_some_link(),
            Fault::CutNodes | Fault::Blackhole | Fault::CutOneWay => {
                return self.cut_some_nodes(fault);
            }
            Fault::Swizzle => return self.swizzle(),
            of_one_node => return self.strike_node(of_one_node),
        }
        self.totals.coverage.note_fault(fault, [Struck::Cluster]);
        Ok(())
    }

    fn strike_node(&mut self, fault: Fault) -> Result<(), Violation> {
        let index = match fault {
            Fault::DamageDisk | Fault::FailReplica => self.scenario.bad_node,
            _ => self.some_index(),
        };
        let roles = self.roles(&[self.nodes[index].id]);
        let core = self.random.fault.index(usize::from(self.scenario.cores));
        let core = self.nodes[index].cores[core].address;
        let has_struck = match fault {
            Fault::CrashNode => self.crash(index, End::PowerCut).map(|()| true)?,
            Fault::RestartNode => self.crash(index, End::InOrder).map(|()| true)?,
            Fault::CrashInTurn => self.crash_in_turn(core),
            Fault::PauseNode => self.pause_node(index),
            Fault::PauseCore => self.pause_some_core(core),
            Fault::CutMeta => self.cut_meta(index),
            Fault::StallEngine => self.stall_engine(index),
            Fault::SlowDisk => self.slow_disk(index),
            Fault::HangDisk => self.hang_disk(core),
            Fault::FailLog => self.fail_log(core)?,
            Fault::DamageDisk => self.damage_at_start(index)?,
            Fault::FailReplica => self.fail_replica(core)?,
            Fault::WipeNode => self.wipe_node(index)?,
            Fault::FlushEngine => self.flush_engine(core)?,
            Fault::Pressure => self.press(core)?,
            other => unreachable!("{other:?} does not strike one node"),
        };
        if has_struck {
            self.totals.coverage.note_fault(fault, roles);
        }
        Ok(())
    }

    /// Any node that has not lost everything.
    fn some_index(&mut self) -> usize {
        let all = (0..self.nodes.len()).filter(|index| !self.nodes[*index].is_gone);
        let all: Vec<usize> = all.collect();
        *self.random.fault.pick(&all)
    }

    /// What these nodes are to any partition.
    fn roles(&self, nodes: &[NodeId]) -> BTreeSet<Struck> {
        let replicas = nodes
            .iter()
            .flat_map(|node| self.nodes[self.node_index(*node)].replicas());
        let mut roles: BTreeSet<Struck> = replicas
            .filter_map(|replica| match replica.role() {
                RoleName::Primary(_) => Some(Struck::Primary),
                RoleName::Secondary => Some(Struck::Secondary),
                _ => None,
            })
            .collect();
        if roles.is_empty() {
            roles.insert(Struck::Nobody);
        }
        roles
    }

    /// `action` at a moment within `longest`.
    pub(crate) fn after_pause(&mut self, longest: Duration, action: Action) {
        let pause = self.some_pause(longest);
        self.queue.add(self.now.after(pause), action);
    }

    fn some_pause(&mut self, longest: Duration) -> Duration {
        self.random
            .fault
            .duration(Duration::from_millis(1)..longest)
    }

    /// The last fault is over: everything runs and is connected.
    pub(crate) fn heal_everything(&mut self) -> Result<(), Violation> {
        self.start_meta();
        for index in 0..self.nodes.len() {
            self.heal_node(index)?;
        }
        self.network.unblock_all();
        self.deliver_held()?;
        for index in 0..self.nodes.len() {
            let node = self.nodes[index].id;
            self.uncut_meta(node);
            self.end_drain(node);
        }
        Ok(())
    }

    fn heal_node(&mut self, index: usize) -> Result<(), Violation> {
        let now = self.now;
        let node = &mut self.nodes[index];
        node.paused_until = now;
        node.cores.iter_mut().for_each(|core| core.heal(now));
        let cores: Vec<CoreAddress> = node.cores.iter().map(|core| core.address).collect();
        for core in cores {
            self.end_pause(core)?;
        }
        let has_failed = |shard: &Shard| shard.failure().is_some();
        let mut cores = self.nodes[index].cores.iter();
        if cores.any(|core| core.shard.as_ref().is_some_and(has_failed)) {
            self.stop_node(index, End::PowerCut)?;
        }
        self.start_stopped_node(self.nodes[index].id)
    }
}
