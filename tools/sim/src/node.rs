//! Simulated nodes: how they start, stop, and what they report.

use crate::action::{Action, Life};
use crate::assignment::Known;
use crate::clock::Clock;
use crate::cores::SimCore;
use crate::history::Violation;
use crate::scenario::Scenario;
use crate::world::World;
use pegasus_engine::Engine;
use pegasus_meta::state::{NodeWords, ReplicaHealth, ReplicaKey, ReplicaStatus, Report};
use pegasus_replication::config::Configuration;
use pegasus_replication::event::Effects;
use pegasus_replication::ids::{
    CoreAddress, CoreId, Instant, NodeId, NodeIncarnation, PartitionId,
};
use pegasus_replication::log::{self, LogIdentity, Marker, Recovery};
use pegasus_replication::replica::{Health, Replica};
use pegasus_replication::shard::{Shard, StoredReplica};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct SimNode {
    pub(crate) id: NodeId,
    pub(crate) up: bool,
    /// It has lost everything, and never comes back.
    pub(crate) is_gone: bool,
    pub(crate) life: Life,
    pub(crate) clock: Clock,
    pub(crate) incarnation: NodeIncarnation,
    pub(crate) cores: Vec<SimCore>,
    /// The process is stopped until then.
    pub(crate) paused_until: Instant,
    /// Its log is damaged when it starts next.
    pub(crate) is_damage_due: bool,
    /// Digest of the last sync taken over.
    pub(crate) digest: u64,
    pub(crate) known: Known,
    /// The newest configuration of each partition here, kept on disk: for rebuilding meta only.
    pub(crate) remembered: BTreeMap<PartitionId, Configuration>,
    /// The life of meta that this node has joined.
    pub(crate) joined: Option<Life>,
    /// Connections to meta that this life has lost.
    pub(crate) session: u64,
    /// When the last command to meta arrives: a connection keeps its order.
    pub(crate) meta_arrival: Instant,
}

impl SimNode {
    pub(crate) fn new(id: NodeId, clock: Clock, scenario: &Scenario) -> Self {
        let core = |core| SimCore::new(id, core, scenario.sector_bytes);
        Self {
            id,
            up: false,
            is_gone: false,
            life: Life(0),
            clock,
            incarnation: NodeIncarnation(0),
            cores: (0..scenario.cores).map(core).collect(),
            paused_until: Instant::default(),
            is_damage_due: false,
            digest: 0,
            known: Known::default(),
            remembered: BTreeMap::new(),
            joined: None,
            session: 0,
            meta_arrival: Instant::default(),
        }
    }

    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Replica> {
        let shards = self.cores.iter().filter_map(|core| core.shard.as_ref());
        shards.flat_map(Shard::replicas)
    }

    fn placed_replicas(&self) -> impl Iterator<Item = (CoreId, &Replica)> {
        let cores = (0..).map(CoreId).zip(&self.cores);
        let shards = cores.filter_map(|(id, core)| Some((id, core.shard.as_ref()?)));
        shards.flat_map(|(id, shard)| shard.replicas().map(move |replica| (id, replica)))
    }

    /// What the node would say in a full heartbeat.
    pub(crate) fn report(&self) -> Report {
        Report {
            digest: self.digest,
            full: true,
            replicas: self.placed_replicas().map(|it| self.status(it)).collect(),
            disk_total: 0,
            disk_free: 0,
            tables: self.known.tables.values().cloned().collect(),
            words: NodeWords::default(),
        }
    }

    fn status(&self, (core, replica): (CoreId, &Replica)) -> (ReplicaKey, ReplicaStatus) {
        let (key, mut status) = status(core, replica);
        let is_of_it = |it: &&Configuration| {
            let mut members = it.members();
            members.any(|member| member.incarnation == key.incarnation)
        };
        if status.configuration.is_none() {
            let remembered = self.remembered.get(&key.partition).filter(is_of_it);
            status.configuration = remembered.cloned().map(Box::new);
        }
        (key, status)
    }
}

fn status(core: CoreId, replica: &Replica) -> (ReplicaKey, ReplicaStatus) {
    let health = match replica.health() {
        Health::Opening => ReplicaHealth::Opening,
        Health::Ready => ReplicaHealth::Ready,
        Health::Serving => ReplicaHealth::Serving,
        Health::OutOfService => ReplicaHealth::OutOfService,
    };
    let key = ReplicaKey {
        partition: replica.partition(),
        incarnation: replica.incarnation(),
    };
    let status = ReplicaStatus {
        ballot: replica.ballot(),
        committed: replica.committed(),
        prepared: replica.prepared(),
        prepared_ballot: replica.state().prepared_ballot,
        applied: replica.applied(),
        core: Some(core),
        bytes: 0,
        reads_per_second: 0,
        writes_per_second: 0,
        configuration: replica.configuration().cloned().map(Box::new),
        health,
        reason: replica.reason().unwrap_or_default().to_owned(),
    };
    (key, status)
}

impl World {
    pub(crate) fn start_stopped_node(&mut self, node: NodeId) -> Result<(), Violation> {
        let index = self.node_index(node);
        if self.nodes[index].up || self.nodes[index].is_gone {
            Ok(())
        } else {
            self.start_node(index)
        }
    }

    pub(crate) fn start_node(&mut self, index: usize) -> Result<(), Violation> {
        if std::mem::take(&mut self.nodes[index].is_damage_due) {
            self.damage_disks(index);
        }
        let now = self.now;
        let node = &mut self.nodes[index];
        assert!(!node.up, "a node starts once");
        node.up = true;
        node.life = Life(node.life.0 + 1);
        node.clock = Clock::new(now, self.scenario.drift_percent, &mut self.random.clock);
        node.incarnation = NodeIncarnation(node.incarnation.0 + 1);
        node.paused_until = now;
        node.digest = 0;
        node.known = Known::default();
        node.joined = None;
        node.session = 0;
        node.meta_arrival = now;
        let (id, life) = (node.id, node.life);
        let cores: Vec<CoreAddress> = node.cores.iter().map(|core| core.address).collect();
        for core in cores {
            self.start_core(core)?;
        }
        self.queue.add(now, Action::Join { node: id, life });
        let first_report = now.after(Duration::from_millis(50));
        let report = Action::Report { node: id, life };
        self.queue.add(first_report, report);
        self.connect_all();
        Ok(())
    }

    fn start_core(&mut self, address: CoreAddress) -> Result<(), Violation> {
        let (now, log_options) = (self.local(address.node), self.scenario.log);
        let options = self.scenario.replication.clone();
        let stored = stored_replicas(self.core(address));
        let recovery = self.recover(address, &stored)?;
        let mut shard = Shard::new(options, log_options, address, recovery, &stored);
        let mut effects = Effects::new();
        shard.start(now, &mut effects);
        shard.finish_turn(now, &mut effects);
        self.core_mut(address).shard = Some(shard);
        self.first_turn(address, effects)
    }

    fn recover(
        &mut self,
        address: CoreAddress,
        stored: &[StoredReplica],
    ) -> Result<Recovery, Violation> {
        let identity = LogIdentity {
            cluster: crate::meta::cluster().id.0,
            node: address.node,
            shard: address.core,
        };
        let markers: BTreeMap<PartitionId, Marker> = stored
            .iter()
            .map(|stored| (stored.partition, stored.marker()))
            .collect();
        let core = self.core_mut(address);
        let was_damaged = core.has_damaged_log;
        let recovery = log::recover(&mut core.disk, identity, &markers).map_err(|error| {
            Violation::invariant(format!("{address}: the log cannot be used: {error}"))
        })?;
        let (end, vouched) = (recovery.start.predecessor(), core.disk.vouched_end());
        if end < vouched {
            self.judge(Err(Violation::invariant(format!(
                "{address}: recovery ends the log at {end:?}, and it was flushed up to {vouched:?}"
            ))))?;
        }
        for (partition, replica) in &recovery.replicas {
            // Of one that was removed the log may still speak.
            let is_stored = markers.contains_key(partition);
            let Some(reason) = replica.suspect.as_ref().filter(|_| is_stored) else {
                continue;
            };
            let damaged = &self.core(address).damaged;
            let is_damaged = damaged.contains(&(*partition, replica.incarnation));
            // The log is not kept for copies out of service that nobody counts on.
            if !is_damaged && self.is_member(address, *partition) {
                self.judge(Err(Violation::invariant(format!(
                    "{address}: recovery suspects {partition}: {reason}"
                ))))?;
            }
            self.totals.coverage.note("suspect replica");
        }
        for damage in &recovery.damage {
            match damage {
                log::Damage::TornTail { .. } => self.totals.coverage.note("torn tail"),
                _ if was_damaged => self.totals.coverage.note("corruption found"),
                _ => {
                    self.judge(Err(Violation::invariant(format!(
                        "{address}: a crash alone left damage: {damage:?}"
                    ))))?;
                }
            }
        }
        Ok(recovery)
    }

    /// Loses power, or stops in order as a process that closes its engine.
    pub(crate) fn stop_node(&mut self, index: usize, ending: End) -> Result<(), Violation> {
        if !self.nodes[index].up {
            return Ok(());
        }
        self.lose_connection(index);
        let node = &mut self.nodes[index];
        node.up = false;
        node.life = Life(node.life.0 + 1);
        node.joined = None;
        let (mut broken, mut lost) = (Vec::new(), Vec::new());
        for core in &mut node.cores {
            lost.extend(core.lose_memory());
            core.disk.crash(&mut self.random.disk);
            if ending == End::InOrder {
                let replicas = core.engine.replicas();
                let partitions: Vec<PartitionId> =
                    replicas.map(|(partition, _)| partition).collect();
                for partition in partitions {
                    core.engine.flush(partition);
                }
            }
            core.engine.crash();
            broken.extend(self.network.links_of(core.address));
            self.network.forget_breaks(core.address);
        }
        for request in lost {
            self.give_up(request);
        }
        for pair in broken {
            self.break_link(pair)?;
        }
        Ok(())
    }

    /// Loses power in the middle of a turn, and comes back.
    pub(crate) fn crash_and_return(&mut self, node: NodeId) -> Result<(), Violation> {
        self.stop_node(self.node_index(node), End::PowerCut)?;
        self.after_pause(Duration::from_secs(2), Action::StartNode { node });
        Ok(())
    }

    pub(crate) fn crash_node(&mut self, node: NodeId, life: Life) -> Result<(), Violation> {
        if self.life(node) == life {
            self.stop_node(self.node_index(node), End::PowerCut)?;
            self.start_stopped_node(node)?;
        }
        Ok(())
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    PowerCut,
    InOrder,
}

/// What the engine of a core holds durably.
pub(crate) fn stored_replicas(core: &SimCore) -> Vec<StoredReplica> {
    let stored = core
        .engine
        .replicas()
        .map(|(partition, marker)| StoredReplica {
            partition,
            incarnation: marker.incarnation,
            decree: marker.decree,
            ballot: marker.ballot,
        });
    stored.collect()
}

/// What `core` has applied of a partition, if it holds it.
pub(crate) fn applied(core: &SimCore, partition: PartitionId) -> Option<pegasus_engine::Applied> {
    core.engine.last_applied(partition)
}
