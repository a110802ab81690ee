//! Chance: what goes wrong, for how long, and how all of it ends.

use crate::action::{Action, Life};
use crate::history::Violation;
use crate::network::Pair;
use crate::scenario::{FAULTS, Fault};
use crate::world::World;
use pegasus_replication::event::{Event, Pressure};
use pegasus_replication::ids::{CoreAddress, CoreId, NodeId, PartitionId};
use pegasus_replication::shard::Shard;
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
        let fault = *self.random.fault.pick(&FAULTS);
        // The whole cluster at once is rarer than its parts.
        let fault = match fault {
            Fault::CrashAll if !self.random.fault.one_in(3) => Fault::CrashNode,
            Fault::DropTable if !self.random.fault.one_in(3) => Fault::FlushEngine,
            fault => fault,
        };
        *self.totals.faults.entry(fault).or_default() += 1;
        self.say(|_| format!("FAULT {fault:?}"));
        self.schedule_fault();
        match fault {
            Fault::CrashNode => self.crash_some(false),
            Fault::RestartNode => self.crash_some(true),
            Fault::CrashAll => self.crash_all(),
            Fault::BreakLink => self.break_some_link(),
            Fault::CutNodes => self.cut_some_nodes(),
            Fault::CrashMeta => {
                self.crash_meta();
                self.after_pause(Duration::from_secs(3), Action::StartMeta);
                Ok(())
            }
            Fault::StallEngine => {
                let until = self.now.after(
                    self.random
                        .fault
                        .duration(Duration::ZERO..Duration::from_millis(800)),
                );
                let index = self.random.fault.index(self.nodes.len());
                self.nodes[index]
                    .cores
                    .iter_mut()
                    .for_each(|core| core.stalled_until = until);
                Ok(())
            }
            Fault::SlowDisk => {
                let until = self.now.after(
                    self.random
                        .fault
                        .duration(Duration::ZERO..Duration::from_secs(2)),
                );
                let index = self.random.fault.index(self.nodes.len());
                self.nodes[index]
                    .cores
                    .iter_mut()
                    .for_each(|core| core.slow_disk_until = until);
                Ok(())
            }
            Fault::FailLog => self.fail_some_log(),
            Fault::FlushEngine => self.flush_some_engine(),
            Fault::Pressure => self.press_some_node(),
            Fault::DropTable => self.drop_table(),
        }
    }

    /// A failed log is final: the node goes on without that core until it is started again.
    fn fail_some_log(&mut self) -> Result<(), Violation> {
        let core = self.some_core();
        let error = "the drive is gone".to_owned();
        self.core_event(core, Event::LogFailed { error })?;
        let (node, life) = (core.node, self.life(core.node));
        self.after_pause(Duration::from_secs(1), Action::CrashNode { node, life });
        Ok(())
    }

    fn flush_some_engine(&mut self) -> Result<(), Violation> {
        let address = self.some_core();
        let replicas = self.core(address).engine.replicas();
        let partitions: Vec<PartitionId> = replicas.map(|(partition, _)| partition).collect();
        let life = self.life(address.node);
        for partition in partitions {
            self.engine_flushed(address, life, partition)?;
        }
        Ok(())
    }

    fn press_some_node(&mut self) -> Result<(), Violation> {
        let core = self.some_core();
        let pressure = *self
            .random
            .fault
            .pick(&[Pressure::Engine, Pressure::DiskFull]);
        self.core_event(core, Event::Pressure { pressure })?;
        let (life, pressure) = (self.life(core.node), Pressure::None);
        let event = Event::Pressure { pressure };
        self.after_pause(Duration::from_secs(1), Action::Core { core, life, event });
        Ok(())
    }

    fn some_core(&mut self) -> CoreAddress {
        let node = self.random.fault.index(self.nodes.len());
        let core = self.random.fault.index(usize::from(self.scenario.cores));
        self.nodes[node].cores[core].address
    }

    fn after_pause(&mut self, longest: Duration, action: Action) {
        let pause = self
            .random
            .fault
            .duration(Duration::from_millis(1)..longest);
        self.queue.add(self.now.after(pause), action);
    }

    fn crash_some(&mut self, flushed: bool) -> Result<(), Violation> {
        let index = self.random.fault.index(self.nodes.len());
        self.stop_node(index, flushed)?;
        let node = self.nodes[index].id;
        self.after_pause(Duration::from_secs(2), Action::StartNode { node });
        Ok(())
    }

    pub(crate) fn crash_node(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        if self.life(node) == life {
            self.stop_node(self.node_index(node), false)?;
            self.start_stopped_node(node)?;
        }
        Ok(())
    }

    fn crash_all(&mut self) -> Result<(), Violation> {
        for index in 0..self.nodes.len() {
            self.stop_node(index, false)?;
            let node = self.nodes[index].id;
            self.after_pause(Duration::from_secs(1), Action::StartNode { node });
        }
        Ok(())
    }

    fn break_some_link(&mut self) -> Result<(), Violation> {
        let pairs = self.network.pairs();
        if pairs.is_empty() {
            return Ok(());
        }
        let pair = *self.random.fault.pick(&pairs);
        self.break_link(pair)
    }

    fn cut_some_nodes(&mut self) -> Result<(), Violation> {
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let (a, b) = (*self.random.fault.pick(&ids), *self.random.fault.pick(&ids));
        for left in 0..self.scenario.cores {
            for right in 0..self.scenario.cores {
                let core = |node, core| CoreAddress {
                    node,
                    core: CoreId(core),
                };
                let pair = Pair::of(core(a, left), core(b, right));
                if a != b {
                    self.network.cut(pair);
                    self.break_link(pair)?;
                }
            }
        }
        self.after_pause(Duration::from_secs(2), Action::Heal);
        Ok(())
    }

    pub(crate) fn heal_network(&mut self) -> Result<(), Violation> {
        self.network.heal();
        self.connect_all();
        Ok(())
    }

    /// The last fault is over: everything runs and is connected.
    pub(crate) fn heal_everything(&mut self) -> Result<(), Violation> {
        self.start_meta()?;
        for index in 0..self.nodes.len() {
            let node = self.nodes[index].id;
            let has_failed = |shard: &Shard| shard.failure().is_some();
            let mut cores = self.nodes[index].cores.iter();
            if cores.any(|core| core.shard.as_ref().is_some_and(has_failed)) {
                self.stop_node(index, false)?;
            }
            self.start_stopped_node(node)?;
            for core in &mut self.nodes[index].cores {
                core.stalled_until = self.now;
                core.slow_disk_until = self.now;
            }
        }
        self.heal_network()
    }
}
