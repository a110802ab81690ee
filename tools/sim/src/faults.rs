//! Chance: what goes wrong, for how long, and how all of it ends.

use crate::action::Action;
use crate::history::Violation;
use crate::network::Pair;
use crate::scenario::{FAULTS, Fault};
use crate::world::World;
use pegasus_replication::ids::NodeId;
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
        let fault = if fault == Fault::CrashAll && !self.random.fault.one_in(3) {
            Fault::CrashNode
        } else {
            fault
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
        }
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
                let core = |node, core| pegasus_replication::ids::CoreAddress {
                    node,
                    core: pegasus_replication::ids::CoreId(core),
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
            self.start_stopped_node(node)?;
            for core in &mut self.nodes[index].cores {
                core.stalled_until = self.now;
                core.slow_disk_until = self.now;
            }
        }
        self.heal_network()
    }
}
