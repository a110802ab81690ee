//! Simulated nodes: the production shard of each core over a fake log disk and an engine in memory.

use crate::action::{Action, Life, Operation, RequestNumber};
use crate::clients::{decode, raw_key};
use crate::disk::Disk;
use crate::history::{Value, Violation};
use crate::network::Pair;
use crate::world::World;
use pegasus_engine::{Engine, MemEngine, Tier};
use pegasus_meta::state::{ReplicaHealth, ReplicaKey, ReplicaStatus, Report};
use pegasus_replication::event::{Effect, Effects, Event};
use pegasus_replication::ids::{
    CoreAddress, CoreId, Instant, NodeId, NodeIncarnation, PartitionId,
};
use pegasus_replication::log::{self, LogIdentity, LogWriteId, Marker, Recovery};
use pegasus_replication::message::Entry;
use pegasus_replication::replica::Health;
use pegasus_replication::shard::{Shard, StoredReplica};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

const FLUSH_DELAY: Range<Duration> = Duration::from_micros(100)..Duration::from_millis(10);
const SLOW_FLUSH_DELAY: Range<Duration> = Duration::from_millis(50)..Duration::from_millis(400);
const SEGMENT_DELAY: Range<Duration> = Duration::from_millis(1)..Duration::from_millis(30);
const ENGINE_DELAY: Range<Duration> = Duration::from_micros(200)..Duration::from_millis(40);
const READ_DELAY: Range<Duration> = Duration::from_micros(1)..Duration::from_millis(2);
/// The engine's memtables are small, so that flushes and truncation happen within a run.
const ENGINE_FLUSH_BYTES: u64 = 8 << 10;

#[derive(Debug)]
pub(crate) struct SimCore {
    pub(crate) address: CoreAddress,
    /// `None` while the node is down.
    pub(crate) shard: Option<Shard>,
    pub(crate) engine: MemEngine,
    pub(crate) disk: Disk,
    /// Committed, and not taken by the engine yet.
    waiting: VecDeque<(PartitionId, Entry)>,
    /// The engine takes nothing before this time.
    pub(crate) stalled_until: Instant,
    pub(crate) slow_disk_until: Instant,
    /// What reads in the engine have found.
    found: BTreeMap<RequestNumber, Option<Value>>,
    /// Requests that this core has taken and not answered.
    pub(crate) tickets: BTreeSet<RequestNumber>,
    /// The timer that is set.
    timer: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct SimNode {
    pub(crate) id: NodeId,
    pub(crate) up: bool,
    pub(crate) life: Life,
    pub(crate) incarnation: NodeIncarnation,
    pub(crate) cores: Vec<SimCore>,
    /// Digest of the last sync taken over.
    pub(crate) digest: u64,
    /// The life of meta that this node has joined.
    pub(crate) joined_meta: Option<Life>,
    /// When the last command to meta arrives: a connection keeps its order.
    pub(crate) meta_arrival: Instant,
}

impl SimNode {
    pub(crate) fn new(id: NodeId, cores: u16) -> Self {
        let core = |core| SimCore {
            address: CoreAddress {
                node: id,
                core: CoreId(core),
            },
            shard: None,
            engine: MemEngine::new(ENGINE_FLUSH_BYTES),
            disk: Disk::default(),
            waiting: VecDeque::new(),
            stalled_until: Instant::default(),
            slow_disk_until: Instant::default(),
            found: BTreeMap::new(),
            tickets: BTreeSet::new(),
            timer: None,
        };
        Self {
            id,
            up: false,
            life: Life(0),
            incarnation: NodeIncarnation(0),
            cores: (0..cores).map(core).collect(),
            digest: 0,
            joined_meta: None,
            meta_arrival: Instant::default(),
        }
    }

    /// What the node would say in a full heartbeat.
    pub(crate) fn report(&self) -> Report {
        let shards = self.cores.iter().filter_map(|core| core.shard.as_ref());
        let replicas = shards.flat_map(Shard::replicas).map(|replica| {
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
            let reason = replica.reason().unwrap_or_default().to_owned();
            let (ballot, committed, prepared) =
                (replica.ballot(), replica.committed(), replica.prepared());
            (
                key,
                ReplicaStatus {
                    ballot,
                    committed,
                    prepared,
                    health,
                    reason,
                },
            )
        });
        Report {
            digest: self.digest,
            full: true,
            replicas: replicas.collect(),
            disk_total: 0,
            disk_free: 0,
        }
    }
}

impl World {
    pub(crate) fn start_stopped_node(&mut self, node: NodeId) -> Result<(), Violation> {
        let index = self.node_index(node);
        if self.nodes[index].up {
            Ok(())
        } else {
            self.start_node(index)
        }
    }

    pub(crate) fn start_node(&mut self, index: usize) -> Result<(), Violation> {
        let now = self.now;
        let node = &mut self.nodes[index];
        assert!(!node.up, "a node starts once");
        node.up = true;
        node.life = Life(node.life.0 + 1);
        node.incarnation = NodeIncarnation(node.incarnation.0 + 1);
        node.joined_meta = None;
        node.meta_arrival = now;
        let (id, life) = (node.id, node.life);
        for core in 0..self.scenario.cores {
            self.start_core(CoreAddress {
                node: id,
                core: CoreId(core),
            })?;
        }
        self.queue.add(now, Action::Join { node: id, life });
        self.queue.add(
            now.after(Duration::from_millis(50)),
            Action::Report { node: id, life },
        );
        self.connect_all();
        Ok(())
    }

    fn start_core(&mut self, address: CoreAddress) -> Result<(), Violation> {
        let (now, log_options, options) = (
            self.now,
            self.scenario.log,
            self.scenario.replication.clone(),
        );
        let core = self.core_mut(address);
        let recovery = recover(core, address)?;
        let stored = stored_replicas(core);
        let mut shard = Shard::new(options, log_options, address, recovery, &stored);
        let mut effects = Effects::new();
        shard.start(now, &mut effects);
        shard.finish_turn(now, &mut effects);
        core.shard = Some(shard);
        core.timer = None;
        self.perform(address, effects)
    }

    /// Loses power (`flushed` false) or stops in order, as a process that closes its engine.
    pub(crate) fn stop_node(&mut self, index: usize, flushed: bool) -> Result<(), Violation> {
        let node = &mut self.nodes[index];
        if !node.up {
            return Ok(());
        }
        node.up = false;
        node.life = Life(node.life.0 + 1);
        node.joined_meta = None;
        let mut broken = Vec::new();
        for core in &mut node.cores {
            core.shard = None;
            core.waiting.clear();
            core.found.clear();
            core.disk.crash(&mut self.random.disk);
            if flushed {
                let partitions: Vec<PartitionId> = core
                    .engine
                    .replicas()
                    .map(|(partition, _)| partition)
                    .collect();
                for partition in partitions {
                    core.engine.flush(partition);
                }
            }
            core.engine.crash();
            broken.extend(self.network.links_of(core.address));
            self.network.forget_breaks(core.address);
        }
        let lost: Vec<RequestNumber> = node
            .cores
            .iter_mut()
            .flat_map(|core| std::mem::take(&mut core.tickets))
            .collect();
        for request in lost {
            self.forget(request);
        }
        for pair in broken {
            self.break_link(pair)?;
        }
        Ok(())
    }

    pub(crate) fn core_event_of(
        &mut self,
        core: CoreAddress,
        life: Life,
        event: Event,
    ) -> Result<(), Violation> {
        if self.life(core.node) != life {
            return Ok(());
        }
        if event == Event::Timeout {
            // An earlier timer replaced this one, or it fired already.
            let now = self.now;
            if self
                .core_mut(core)
                .timer
                .take_if(|due| *due == now)
                .is_none()
            {
                return Ok(());
            }
        }
        self.core_event(core, event)
    }

    /// One event to a shard, and everything that comes of it at once.
    pub(crate) fn core_event(
        &mut self,
        address: CoreAddress,
        event: Event,
    ) -> Result<(), Violation> {
        let now = self.now;
        let core = self.core_mut(address);
        let Some(shard) = core.shard.as_mut() else {
            return Ok(());
        };
        let mut effects = Effects::new();
        shard.handle(now, event, &mut effects);
        shard.finish_turn(now, &mut effects);
        self.perform(address, effects)
    }

    fn perform(&mut self, address: CoreAddress, effects: Effects) -> Result<(), Violation> {
        for effect in effects {
            self.say(|_| format!("    {address} {effect:?}"));
            self.perform_one(address, effect)?;
        }
        self.note_touched(address);
        self.set_timer(address);
        Ok(())
    }

    fn perform_one(&mut self, address: CoreAddress, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::WriteLog(write) => self.write_log(address, write),
            Effect::PrepareSegment { segment } => {
                let bytes =
                    usize::try_from(self.scenario.log.segment_bytes).expect("segments are small");
                let delay = self.random.disk.delay(SEGMENT_DELAY);
                self.core_mut(address).disk.prepare(segment, bytes);
                self.later(address, delay, Event::SegmentReady { segment });
            }
            Effect::FreeSegment { segment } => self.core_mut(address).disk.free(segment),
            Effect::Send { to, message } => {
                if let Some((link, at)) =
                    self.network
                        .send(self.now, address, to, &mut self.random.network)
                {
                    self.queue.add(
                        at,
                        Action::Deliver {
                            link,
                            from: address,
                            to,
                            message,
                        },
                    );
                }
            }
            Effect::Apply { partition, entry } => self.apply(address, partition, entry)?,
            Effect::Read { partition, ticket } => {
                self.read(address, partition, RequestNumber(ticket.0))
            }
            Effect::Reply { ticket, decree } => {
                let number = RequestNumber(ticket.0);
                let core = self.core_mut(address);
                core.tickets.remove(&number);
                let found = core.found.remove(&number).flatten();
                self.answer(number, decree, found)?;
            }
            Effect::Reject { ticket, reason } => {
                let number = RequestNumber(ticket.0);
                let core = self.core_mut(address);
                core.tickets.remove(&number);
                core.found.remove(&number);
                self.reject(number, reason)?;
            }
            Effect::Propose {
                partition, ballot, ..
            } => self.propose_next_ballot(address, partition, ballot),
            Effect::FetchLog { .. } | Effect::FetchCheckpoint { .. } => {}
            Effect::Create {
                partition,
                incarnation,
            } => {
                let delay = self.random.engine.delay(ENGINE_DELAY);
                self.core_mut(address).engine.create(partition, incarnation);
                self.later(
                    address,
                    delay,
                    Event::Created {
                        partition,
                        incarnation,
                    },
                );
            }
            Effect::Flush { partition } => self.begin_engine_flush(address, partition),
            Effect::Remove {
                partition,
                incarnation,
            } => {
                let core = self.core_mut(address);
                core.engine.drop_replica(partition, incarnation);
                core.waiting.retain(|(of, _)| *of != partition);
            }
            // A core whose log has failed takes nothing new.
            Effect::Quarantine { .. } if self.has_failed(address) => {}
            Effect::Quarantine { partition, reason } => {
                return Err(Violation(format!(
                    "{address} quarantines {partition}: {reason}"
                )));
            }
            Effect::MemberLost {
                partition,
                member,
                reason,
            } => {
                return Err(Violation(format!(
                    "{address} gives up {member:?} of {partition}: {reason}"
                )));
            }
        }
        Ok(())
    }

    fn has_failed(&self, address: CoreAddress) -> bool {
        let shard = self.core(address).shard.as_ref();
        shard.is_some_and(|shard| shard.failure().is_some())
    }

    fn later(&mut self, core: CoreAddress, delay: Duration, event: Event) {
        let life = self.life(core.node);
        self.queue
            .add(self.now.after(delay), Action::Core { core, life, event });
    }

    fn set_timer(&mut self, address: CoreAddress) {
        let (now, life) = (self.now, self.life(address.node));
        let core = self.core_mut(address);
        let Some(due) = core.shard.as_ref().and_then(Shard::deadline) else {
            return;
        };
        let due = due.max(Instant(now.0 + 1));
        if core.timer.is_none_or(|set| due < set) {
            core.timer = Some(due);
            self.queue.add(
                due,
                Action::Core {
                    core: address,
                    life,
                    event: Event::Timeout,
                },
            );
        }
    }

    fn write_log(&mut self, address: CoreAddress, write: log::LogWrite) {
        let range = if self.core(address).slow_disk_until > self.now {
            SLOW_FLUSH_DELAY
        } else {
            FLUSH_DELAY
        };
        let at = self.now.after(self.random.disk.delay(range));
        let (life, id) = (self.life(address.node), write.id);
        self.core_mut(address).disk.write(write);
        self.queue.add(
            at,
            Action::Flushed {
                core: address,
                life,
                write: id,
            },
        );
    }

    pub(crate) fn log_flushed(
        &mut self,
        core: CoreAddress,
        life: Life,
        write: LogWriteId,
    ) -> Result<(), Violation> {
        if self.life(core.node) != life {
            return Ok(());
        }
        self.core_mut(core).disk.flush(write);
        self.core_event(core, Event::LogDurable { write })
    }

    fn apply(
        &mut self,
        address: CoreAddress,
        partition: PartitionId,
        entry: Entry,
    ) -> Result<(), Violation> {
        self.check_applied(address, partition, &entry)?;
        let (now, life) = (self.now, self.life(address.node));
        let core = self.core_mut(address);
        let idle = core.waiting.is_empty();
        core.waiting.push_back((partition, entry));
        let due = core.stalled_until.max(now);
        if idle {
            self.queue.add(
                due,
                Action::ApplyWaiting {
                    core: address,
                    life,
                },
            );
        }
        Ok(())
    }

    pub(crate) fn apply_waiting(
        &mut self,
        address: CoreAddress,
        life: Life,
    ) -> Result<(), Violation> {
        if self.life(address.node) != life {
            return Ok(());
        }
        let now = self.now;
        let core = self.core_mut(address);
        if core.stalled_until > now {
            let due = core.stalled_until;
            self.queue.add(
                due,
                Action::ApplyWaiting {
                    core: address,
                    life,
                },
            );
            return Ok(());
        }
        let mut applied = Vec::new();
        for (partition, entry) in core.waiting.drain(..) {
            let mutation = &entry.mutation;
            let outcome = core.engine.apply(
                partition,
                entry.decree,
                entry.ballot,
                mutation.timestamp_us,
                mutation.request_id,
                &mutation.payload,
            );
            outcome.map_err(|error| Violation(format!("{address}: {error}")))?;
            applied.push((partition, entry.decree));
        }
        let wanted = core.engine.flush_wanted();
        for (partition, decree) in applied {
            self.core_event(address, Event::Applied { partition, decree })?;
        }
        if let Some(partition) = wanted {
            self.begin_engine_flush(address, partition);
        }
        Ok(())
    }

    fn begin_engine_flush(&mut self, address: CoreAddress, partition: PartitionId) {
        let delay = self.random.engine.delay(ENGINE_DELAY);
        let life = self.life(address.node);
        let core = self.core_mut(address);
        if core.engine.begin_flush(partition).is_ok() {
            self.queue.add(
                self.now.after(delay),
                Action::EngineFlushed {
                    core: address,
                    life,
                    partition,
                },
            );
        }
    }

    pub(crate) fn engine_flushed(
        &mut self,
        core: CoreAddress,
        life: Life,
        partition: PartitionId,
    ) -> Result<(), Violation> {
        if self.life(core.node) != life {
            return Ok(());
        }
        // A flush that takes too long has failed for those who wait for it.
        let now = self.now;
        let sim_core = self.core_mut(core);
        if sim_core.stalled_until > now {
            sim_core.engine.abort_flush(partition);
            return Ok(());
        }
        match self.core_mut(core).engine.flush_unmarked(partition) {
            Some(decree) => self.core_event(core, Event::Flushed { partition, decree }),
            None => Ok(()),
        }
    }

    fn read(&mut self, address: CoreAddress, partition: PartitionId, number: RequestNumber) {
        let key = self.requests.get(&number).map(|request| request.operation);
        let core = self.core_mut(address);
        let found = match key {
            Some(Operation::Read { key, .. }) => {
                let row = core
                    .engine
                    .get(partition, &raw_key(key), 1, Tier::Full)
                    .unwrap_or_default();
                row.map(|row| decode(&row.data))
            }
            // The client has given up meanwhile.
            _ => None,
        };
        core.found.insert(number, found);
        let delay = self.random.engine.delay(READ_DELAY);
        let ticket = pegasus_replication::ids::Ticket(number.0);
        self.later(address, delay, Event::ReadDone { partition, ticket });
    }

    /// Every pair of cores on different running nodes that has no link tries to get one.
    pub(crate) fn connect_all(&mut self) {
        let cores: Vec<CoreAddress> = self
            .nodes
            .iter()
            .flat_map(|node| node.cores.iter().map(|core| core.address))
            .collect();
        for &a in &cores {
            for &b in cores.iter().filter(|b| b.node > a.node) {
                let delay = self
                    .random
                    .network
                    .delay(Duration::from_micros(100)..Duration::from_millis(50));
                self.queue.add(
                    self.now.after(delay),
                    Action::Connect {
                        pair: Pair::of(a, b),
                    },
                );
            }
        }
    }

    pub(crate) fn connect(&mut self, pair: Pair) -> Result<(), Violation> {
        let up = |world: &Self, core: CoreAddress| world.nodes[world.node_index(core.node)].up;
        let both = up(self, pair.0) && up(self, pair.1);
        if !both || self.network.is_up(pair) || self.network.is_cut(pair) {
            return Ok(());
        }
        self.notice_break(pair.0, pair.1)?;
        self.notice_break(pair.1, pair.0)?;
        self.network.connect(pair);
        self.core_event(pair.0, Event::PeerUp { peer: pair.1 })?;
        self.core_event(pair.1, Event::PeerUp { peer: pair.0 })
    }

    /// One end learns of it at once, the other one later; it may connect again soon.
    pub(crate) fn break_link(&mut self, pair: Pair) -> Result<(), Violation> {
        if !self.network.disconnect(pair) {
            return Ok(());
        }
        let delay = self
            .random
            .network
            .delay(Duration::from_millis(1)..Duration::from_millis(200));
        self.queue
            .add(self.now.after(delay), Action::Connect { pair });
        let (first, second) = if self.random.network.one_in(2) {
            (pair.0, pair.1)
        } else {
            (pair.1, pair.0)
        };
        let later = self.random.network.duration(Duration::ZERO..delay);
        let notice = Action::NoticeBreak {
            observer: second,
            peer: first,
        };
        self.queue.add(self.now.after(later), notice);
        if self.nodes[self.node_index(second.node)].up {
            self.network.break_unnoticed(second, first);
        }
        self.core_event(first, Event::PeerDown { peer: second })
    }

    pub(crate) fn notice_break(
        &mut self,
        observer: CoreAddress,
        peer: CoreAddress,
    ) -> Result<(), Violation> {
        if self.network.notice_break(observer, peer) {
            self.core_event(observer, Event::PeerDown { peer })
        } else {
            Ok(())
        }
    }
}

fn stored_replicas(core: &SimCore) -> Vec<StoredReplica> {
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

fn recover(core: &mut SimCore, address: CoreAddress) -> Result<Recovery, Violation> {
    let identity = LogIdentity {
        cluster: crate::meta::cluster().id.0,
        node: address.node,
        shard: address.core,
    };
    let markers: BTreeMap<PartitionId, Marker> = stored_replicas(core)
        .iter()
        .map(|stored| (stored.partition, stored.marker()))
        .collect();
    let recovery = log::recover(&mut core.disk, identity, &markers)
        .map_err(|error| Violation(format!("{address}: the log cannot be used: {error}")))?;
    for (partition, replica) in &recovery.replicas {
        if let Some(reason) = &replica.suspect {
            return Err(Violation(format!(
                "{address}: recovery suspects {partition}: {reason}"
            )));
        }
    }
    for damage in &recovery.damage {
        if !matches!(damage, log::Damage::TornTail { .. }) {
            return Err(Violation(format!(
                "{address}: a crash alone left damage: {damage:?}"
            )));
        }
    }
    Ok(recovery)
}
