//! Disks and engines that are slow, silent, full, or lie.
//!
//! Only one node of a run, the bad one, loses what it had made durable, and only what somebody else holds too: nothing
//! can bring back the last copy.

use crate::action::Action;
use crate::history::Violation;
use crate::node::{End, stored_replicas};
use crate::world::World;
use pegasus_replication::event::{Event, Pressure};
use pegasus_replication::ids::{CoreAddress, PartitionId, ReplicaIncarnation};
use pegasus_replication::replica::Health;
use std::time::Duration;

const HANG_MAX: Duration = Duration::from_secs(4);

impl World {
    pub(super) fn stall_engine(&mut self, index: usize) -> bool {
        let until = self.now.after(self.some_pause(Duration::from_millis(800)));
        let node = &mut self.nodes[index];
        let cores = node.cores.iter_mut();
        cores.for_each(|core| core.stalled_until = until);
        node.up
    }

    pub(super) fn slow_disk(&mut self, index: usize) -> bool {
        let until = self.now.after(self.some_pause(Duration::from_secs(2)));
        let node = &mut self.nodes[index];
        let cores = node.cores.iter_mut();
        cores.for_each(|core| core.slow_disk_until = until);
        node.up
    }

    pub(super) fn hang_disk(&mut self, core: CoreAddress) -> bool {
        let until = self.now.after(self.some_pause(HANG_MAX));
        let core = self.core_mut(core);
        core.hung_disk_until = until;
        core.shard.is_some()
    }

    /// A failed log is final: the node goes on without that core until it is started again.
    pub(super) fn fail_log(&mut self, core: CoreAddress) -> Result<bool, Violation> {
        let is_up = self.core(core).shard.is_some();
        let error = "the drive is gone".to_owned();
        self.core_event(core, Event::LogFailed { error })?;
        let (node, life) = (core.node, self.life(core.node));
        self.after_pause(Duration::from_secs(1), Action::CrashNode { node, life });
        Ok(is_up)
    }

    pub(super) fn flush_engine(&mut self, core: CoreAddress) -> Result<bool, Violation> {
        let replicas = self.core(core).engine.replicas();
        let partitions: Vec<PartitionId> = replicas.map(|(partition, _)| partition).collect();
        let (is_up, life) = (self.core(core).shard.is_some(), self.life(core.node));
        for partition in partitions {
            self.engine_flushed(core, life, partition)?;
        }
        Ok(is_up)
    }

    pub(super) fn press(&mut self, core: CoreAddress) -> Result<bool, Violation> {
        let pressures = [Pressure::Engine, Pressure::DiskFull];
        let pressure = *self.random.fault.pick(&pressures);
        let (is_up, life) = (self.core(core).shard.is_some(), self.life(core.node));
        self.core_event(core, Event::Pressure { pressure })?;
        let pressure = Pressure::None;
        let event = Event::Pressure { pressure };
        self.after_pause(Duration::from_secs(1), Action::Core { core, life, event });
        Ok(is_up)
    }

    /// Power is cut; what the log had flushed comes back damaged.
    pub(super) fn damage_at_start(&mut self, index: usize) -> Result<bool, Violation> {
        let was_up = self.nodes[index].up;
        self.nodes[index].is_damage_due = true;
        self.crash(index, End::PowerCut)?;
        Ok(was_up)
    }

    /// Damages the log of one core of a node that is about to start, if others hold all that it holds.
    pub(crate) fn damage_disks(&mut self, index: usize) {
        let core = self.random.fault.index(usize::from(self.scenario.cores));
        let address = self.nodes[index].cores[core].address;
        let replicas: Vec<(PartitionId, ReplicaIncarnation)> = stored_replicas(self.core(address))
            .iter()
            .map(|stored| (stored.partition, stored.incarnation))
            .collect();
        let mut partitions = replicas.iter().map(|(partition, _)| *partition);
        if !partitions.all(|partition| self.is_held_elsewhere(partition, address.node)) {
            return;
        }
        let index = self.node_index(address.node);
        let core = &mut self.nodes[index].cores[core];
        if core.disk.damage(&mut self.random.disk) {
            core.has_damaged_log = true;
            core.damaged.extend(replicas);
            self.totals.coverage.note("log damaged");
            self.say(|_| format!("the log of {address} is damaged"));
        }
    }

    /// The engine finds a replica that it cannot read.
    pub(super) fn fail_replica(&mut self, address: CoreAddress) -> Result<bool, Violation> {
        let core = self.core(address);
        let replicas = core.shard.iter().flat_map(|shard| shard.replicas());
        let sound = replicas
            .filter(|replica| !matches!(replica.health(), Health::Opening | Health::OutOfService));
        let found = sound
            .map(|replica| (replica.partition(), replica.incarnation()))
            .find(|(partition, _)| self.is_held_elsewhere(*partition, address.node));
        let Some((partition, incarnation)) = found else {
            return Ok(false);
        };
        self.core_mut(address)
            .damaged
            .insert((partition, incarnation));
        let error = "a block of a table cannot be read".to_owned();
        self.core_event(address, Event::ReplicaFailed { partition, error })?;
        Ok(true)
    }
}
