//! Several shards in one process: a network, disks, engines and a clock that obey the test.

use bytes::Bytes;
use pegasus_replication::config::{Configuration, Member, ReplicationOptions, Stage};
use pegasus_replication::event::{Compute, Computed, Effect, Event, Reject};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, Instant, NodeId, PartitionId, ReplicaIncarnation,
    RequestId, TableId, Ticket,
};
use pegasus_replication::log::recover::{Suffix, SuffixRange};
use pegasus_replication::log::{
    LogIdentity, LogOptions, LogWrite, Marker, SegmentId, SegmentSource, recover,
};
use pegasus_replication::message::{Entry, Message};
use pegasus_replication::{Replica, Shard, StoredReplica, check_group};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;

/// Segments as the drive holds them; writes count when they are completed.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) segments: BTreeMap<SegmentId, Vec<u8>>,
    pub(crate) pending: VecDeque<LogWrite>,
}

impl Disk {
    pub(crate) fn store(&mut self, write: &LogWrite) {
        let file = self
            .segments
            .get_mut(&write.segment)
            .expect("a prepared segment");
        let at = usize::try_from(write.offset).unwrap();
        file[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
    }
}

impl SegmentSource for Disk {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        self.segments
            .iter()
            .map(|(id, bytes)| (*id, bytes.len() as u64))
            .collect()
    }

    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String> {
        let file = self.segments.get(&segment).ok_or("no such segment")?;
        let at = usize::try_from(offset).unwrap();
        Ok(Bytes::copy_from_slice(&file[at..at + length]))
    }
}

/// One replica's storage: all it has applied, and how much of that would survive.
#[derive(Clone)]
pub(crate) struct Storage {
    pub(crate) incarnation: ReplicaIncarnation,
    pub(crate) applied: Vec<Entry>,
    pub(crate) durable: usize,
}

pub(crate) struct Node {
    pub(crate) shard: Option<Shard>,
    /// How fast its clock runs, in thousandths.
    pub(crate) rate: u64,
    /// Nothing of it runs; its clock does.
    pub(crate) is_paused: bool,
    /// What it will be told when it goes on.
    pub(crate) asleep: VecDeque<Event>,
    pub(crate) disk: Disk,
    pub(crate) engine: BTreeMap<PartitionId, Storage>,
    /// `Apply` and `Read` effects not carried out yet.
    pub(crate) engine_queue: VecDeque<Effect>,
    /// Atomic operations whose turn it is.
    pub(crate) computes: VecDeque<Compute>,
    /// The engine says no to every flush.
    pub(crate) flushes_fail: bool,
    /// Commit points seen, which never go back within a life.
    committed: BTreeMap<(PartitionId, ReplicaIncarnation), Decree>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            shard: None,
            rate: 1000,
            is_paused: false,
            asleep: VecDeque::new(),
            disk: Disk::default(),
            engine: BTreeMap::new(),
            engine_queue: VecDeque::new(),
            computes: VecDeque::new(),
            flushes_fail: false,
            committed: BTreeMap::new(),
        }
    }
}

/// A read under way: what it must not miss, and what the engine has shown it.
pub(crate) struct Reading {
    pub(crate) partition: PartitionId,
    /// The newest decree that any client had seen when it was asked.
    pub(crate) floor: Decree,
    pub(crate) found: Decree,
}

/// A counter to be looked at, or increased by one: the payloads are numbers.
#[derive(Clone, Copy)]
pub(crate) struct Counting {
    pub(crate) partition: PartitionId,
    pub(crate) request_id: RequestId,
    pub(crate) is_increment: bool,
    /// What it came to.
    pub(crate) value: Option<u64>,
}

/// A write that was answered with success.
#[derive(Clone)]
pub(crate) struct Acknowledged {
    pub(crate) partition: PartitionId,
    pub(crate) decree: Decree,
    pub(crate) payload: Bytes,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: BTreeMap<u32, Node>,
    pub(crate) wires: BTreeMap<(u32, u32), VecDeque<Message>>,
    pub(crate) links_down: BTreeSet<(u32, u32)>,
    pub(crate) options: ReplicationOptions,
    /// Members without what they acknowledged, on purpose: not compared.
    pub(crate) damaged: BTreeSet<u32>,
    pub(crate) configurations: BTreeMap<PartitionId, Configuration>,
    pub(crate) writes: BTreeMap<Ticket, (PartitionId, Bytes)>,
    pub(crate) waiting: BTreeSet<Ticket>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) readings: BTreeMap<Ticket, Reading>,
    pub(crate) counting: BTreeMap<Ticket, Counting>,
    pub(crate) reads_answered: u64,
    /// The newest decree that any client has seen, written or read.
    pub(crate) seen: BTreeMap<PartitionId, Decree>,
    /// What the nodes said to the outside since the last look.
    pub(crate) said: Vec<(u32, Effect)>,
    /// Prints every event and what comes of it.
    pub(crate) trace: bool,
    next_ticket: u64,
    effects: Vec<Effect>,
}

pub(crate) fn partition(index: u32) -> PartitionId {
    PartitionId {
        table: TableId(1 + index / 100),
        index: index % 100,
    }
}

pub(crate) fn address(node: u32) -> CoreAddress {
    CoreAddress {
        node: NodeId(node),
        core: CoreId(0),
    }
}

pub(crate) fn member(node: u32, incarnation: u64) -> Member {
    Member {
        address: address(node),
        incarnation: ReplicaIncarnation(incarnation),
    }
}

fn identity(node: u32) -> LogIdentity {
    LogIdentity {
        cluster: 7,
        node: NodeId(node),
        shard: CoreId(0),
    }
}

pub(crate) fn log_options() -> LogOptions {
    LogOptions {
        segment_bytes: SEGMENT_BYTES,
        batch_bytes_max: 8192,
        writes_inflight_max: 2,
        budget_bytes: 8 * SEGMENT_BYTES,
    }
}

impl World {
    pub(crate) fn new(count: u32, options: ReplicationOptions) -> Self {
        let mut world = Self {
            now: Instant(1_000_000_000),
            nodes: (1..=count).map(|node| (node, Node::default())).collect(),
            wires: BTreeMap::new(),
            links_down: BTreeSet::new(),
            options,
            damaged: BTreeSet::new(),
            configurations: BTreeMap::new(),
            writes: BTreeMap::new(),
            waiting: BTreeSet::new(),
            acknowledged: Vec::new(),
            readings: BTreeMap::new(),
            counting: BTreeMap::new(),
            reads_answered: 0,
            seen: BTreeMap::new(),
            said: Vec::new(),
            trace: false,
            next_ticket: 1,
            effects: Vec::new(),
        };
        for node in 1..=count {
            world.boot(node);
        }
        world
    }

    /// Starts the shard of `node` on what its disk and engine hold, and connects it to those that are alive.
    pub(crate) fn boot(&mut self, node: u32) {
        let options = self.options.clone();
        let one = self.nodes.get_mut(&node).unwrap();
        assert!(one.shard.is_none());
        let stored: Vec<StoredReplica> = one
            .engine
            .iter()
            .map(|(partition, storage)| {
                let ballot = storage
                    .applied
                    .last()
                    .map_or(Ballot::NONE, |entry| entry.ballot);
                let decree = Decree(storage.durable as u64);
                StoredReplica {
                    partition: *partition,
                    incarnation: storage.incarnation,
                    decree,
                    ballot,
                }
            })
            .collect();
        let markers: BTreeMap<PartitionId, Marker> = stored
            .iter()
            .map(|one| (one.partition, one.marker()))
            .collect();
        let recovery = recover(&mut one.disk, identity(node), &markers).expect("our own log");
        let mut shard = Shard::new(options, log_options(), address(node), recovery, &stored);
        let mut effects = std::mem::take(&mut self.effects);
        let now = Instant(self.now.0 * one.rate / 1000);
        shard.start(now, &mut effects);
        shard.finish_turn(now, &mut effects);
        one.shard = Some(shard);
        one.committed.clear();
        self.effects = effects;
        self.perform(node);
        for peer in self.alive() {
            if peer != node && !self.is_cut(node, peer) {
                self.feed(
                    node,
                    Event::PeerUp {
                        peer: address(peer),
                    },
                );
                self.feed(
                    peer,
                    Event::PeerUp {
                        peer: address(node),
                    },
                );
            }
        }
    }

    /// The process ends: unfinished log writes go as `keep` says, the engine falls back to its marker.
    pub(crate) fn crash(&mut self, node: u32, mut keep: impl FnMut(&LogWrite, &mut Disk)) {
        let one = self.nodes.get_mut(&node).unwrap();
        one.shard = None;
        one.is_paused = false;
        one.asleep.clear();
        for write in std::mem::take(&mut one.disk.pending) {
            keep(&write, &mut one.disk);
        }
        for storage in one.engine.values_mut() {
            storage.applied.truncate(storage.durable);
        }
        one.engine_queue.clear();
        one.computes.clear();
        self.wires
            .retain(|(from, to), _| *from != node && *to != node);
        for peer in self.alive() {
            if !self.is_cut(node, peer) {
                self.feed(
                    peer,
                    Event::PeerDown {
                        peer: address(node),
                    },
                );
            }
        }
    }

    pub(crate) fn cut(&mut self, one: u32, other: u32) {
        if self.links_down.insert((one.min(other), one.max(other))) {
            self.wires.remove(&(one, other));
            self.wires.remove(&(other, one));
            self.tell_both(one, other, |peer| Event::PeerDown { peer });
        }
    }

    pub(crate) fn mend(&mut self, one: u32, other: u32) {
        if self.links_down.remove(&(one.min(other), one.max(other))) {
            self.tell_both(one, other, |peer| Event::PeerUp { peer });
        }
    }

    fn tell_both(&mut self, one: u32, other: u32, event: impl Fn(CoreAddress) -> Event) {
        if self.is_alive(one) && self.is_alive(other) {
            self.feed(one, event(address(other)));
            self.feed(other, event(address(one)));
        }
    }

    fn is_cut(&self, one: u32, other: u32) -> bool {
        self.links_down.contains(&(one.min(other), one.max(other)))
    }

    pub(crate) fn is_alive(&self, node: u32) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|node| node.shard.is_some())
    }

    pub(crate) fn alive(&self) -> Vec<u32> {
        self.nodes
            .keys()
            .copied()
            .filter(|node| self.is_alive(*node))
            .collect()
    }

    /// One event and the end of its turn; then everything is checked.
    pub(crate) fn feed(&mut self, node: u32, event: Event) {
        let now = self.local(node);
        let Some(one) = self.nodes.get_mut(&node) else {
            return;
        };
        let Some(shard) = one.shard.as_mut() else {
            return;
        };
        if one.is_paused {
            one.asleep.push_back(event);
            return;
        }
        let mut effects = std::mem::take(&mut self.effects);
        if self.trace {
            eprintln!("{:?} node {node}: {event:?}", self.now);
        }
        shard.handle(now, event, &mut effects);
        while let Some(compute) = shard.next_compute() {
            one.computes.push_back(compute);
        }
        shard.finish_turn(now, &mut effects);
        for effect in effects.iter().filter(|_| self.trace) {
            if !matches!(effect, Effect::WriteLog(_)) {
                eprintln!("      {effect:?}");
            }
        }
        self.effects = effects;
        self.perform(node);
        self.check();
    }

    fn perform(&mut self, node: u32) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.perform_one(node, effect);
        }
        self.effects = effects;
    }

    fn perform_one(&mut self, node: u32, effect: Effect) {
        let one = self.nodes.get_mut(&node).unwrap();
        match effect {
            Effect::WriteLog(write) => one.disk.pending.push_back(write),
            Effect::PrepareSegment { segment } => {
                one.disk
                    .segments
                    .insert(segment, vec![0; usize::try_from(SEGMENT_BYTES).unwrap()]);
                one.engine_queue
                    .push_back(Effect::PrepareSegment { segment });
            }
            Effect::FreeSegment { segment } => {
                one.disk.segments.remove(&segment);
            }
            Effect::Send { to, message } => {
                let up = !self.is_cut(node, to.node.0) && self.is_alive(to.node.0);
                if up {
                    self.wires
                        .entry((node, to.node.0))
                        .or_default()
                        .push_back(message);
                }
            }
            Effect::Apply { .. } | Effect::Read { .. } => one.engine_queue.push_back(effect),
            Effect::Flush { .. }
            | Effect::Create { .. }
            | Effect::FetchLog { .. }
            | Effect::FetchCheckpoint { .. } => {
                one.engine_queue.push_back(effect.clone());
                self.said.push((node, effect));
            }
            Effect::Remove {
                partition,
                incarnation,
            } => {
                let storage = one.engine.remove(&partition);
                assert!(
                    storage.is_some_and(|storage| storage.incarnation == incarnation),
                    "removes what is there"
                );
                self.said.push((node, effect));
            }
            Effect::Reply { ticket, decree } => {
                assert!(self.waiting.remove(&ticket), "a ticket is answered once");
                if let Some((partition, payload)) = self.writes.get(&ticket).cloned() {
                    self.acknowledged.push(Acknowledged {
                        partition,
                        decree,
                        payload,
                    });
                    let seen = self.seen.entry(partition).or_default();
                    *seen = decree.max(*seen);
                }
                if let Some(reading) = self.readings.remove(&ticket) {
                    assert!(
                        reading.found >= reading.floor,
                        "node {node} answers a read of {} at decree {}, but {} had been seen before it was asked",
                        reading.partition,
                        reading.found,
                        reading.floor
                    );
                    let seen = self.seen.entry(reading.partition).or_default();
                    *seen = reading.found.max(*seen);
                    self.reads_answered += 1;
                }
                self.said.push((node, effect));
            }
            Effect::Reject { ticket, reason } => {
                assert!(self.waiting.remove(&ticket), "a ticket is answered once");
                assert!(
                    reason != Reject::Unknown
                        || self.writes.contains_key(&ticket)
                        || self.counting.contains_key(&ticket),
                    "reads have no unknown outcome"
                );
                self.said.push((node, effect));
            }
            other => self.said.push((node, other)),
        }
    }

    /// Works out the atomic operation whose turn it is. False: none waits.
    pub(crate) fn step_gate(&mut self, node: u32) -> bool {
        let one = self.nodes.get_mut(&node).unwrap();
        let Some(compute) = one.computes.pop_front() else {
            return false;
        };
        let Compute {
            partition,
            ticket,
            gate,
            ..
        } = compute;
        let counting = self.counting.get_mut(&ticket).unwrap();
        let applied = one.engine.get(&partition);
        let applied = applied.map_or(&[][..], |storage| &storage.applied);
        let id = counting.request_id;
        let number = |payload: &Bytes| std::str::from_utf8(payload).ok()?.parse::<u64>().ok();
        let same = |entry: &&Entry| id.client > 0 && entry.mutation.request_id == id;
        let outcome = if let Some(before) = applied.iter().find(same) {
            counting.value = number(&before.mutation.payload);
            Computed::Remembered
        } else {
            let shard = one.shard.as_ref().unwrap();
            let mut inflight = shard.inflight(partition, gate);
            let prepared = inflight.find_map(number);
            let mut stored = applied.iter().rev();
            let stored = || stored.find_map(|entry| number(&entry.mutation.payload));
            let value = prepared.or_else(stored).unwrap_or(0);
            let value = value + u64::from(counting.is_increment);
            counting.value = Some(value);
            if counting.is_increment {
                let payload = Bytes::from(value.to_string());
                self.writes.insert(ticket, (partition, payload.clone()));
                Computed::Write { payload }
            } else {
                Computed::Answer
            }
        };
        self.feed(
            node,
            Event::Computed {
                partition,
                ticket,
                gate,
                outcome,
            },
        );
        true
    }

    /// Carries out one effect that waits for the engine or the segment maker. False: none waits.
    pub(crate) fn step_engine(&mut self, node: u32) -> bool {
        let one = self.nodes.get_mut(&node).unwrap();
        let Some(effect) = one.engine_queue.pop_front() else {
            return false;
        };
        match effect {
            Effect::PrepareSegment { segment } => self.feed(node, Event::SegmentReady { segment }),
            Effect::Apply { partition, entry } => {
                if let Some(storage) = one.engine.get_mut(&partition) {
                    let decree = entry.decree;
                    if decree.0 <= storage.applied.len() as u64 {
                        // Given before a checkpoint took the storage's place.
                        return true;
                    }
                    assert_eq!(
                        decree.0,
                        storage.applied.len() as u64 + 1,
                        "applied in order, each once"
                    );
                    storage.applied.push(entry);
                    self.feed(node, Event::Applied { partition, decree });
                }
            }
            Effect::Read { partition, ticket } => {
                let storage = one.engine.get(&partition);
                let found = storage.map_or(0, |storage| storage.applied.len());
                if let Some(reading) = self.readings.get_mut(&ticket) {
                    reading.found = Decree(found as u64);
                }
                self.feed(node, Event::ReadDone { partition, ticket })
            }
            Effect::FetchLog {
                partition,
                incarnation,
                source,
                from,
                to,
            } => {
                let found = self.read_log(node, source, partition, from, to);
                self.feed(
                    node,
                    match found {
                        Some(entries) => Event::LogFetched {
                            partition,
                            incarnation,
                            entries,
                        },
                        None => failed(partition, incarnation),
                    },
                );
            }
            Effect::FetchCheckpoint {
                partition,
                incarnation,
                source,
            } => {
                let event = self.fetch_checkpoint(node, source, partition, incarnation);
                self.feed(node, event);
            }
            Effect::Flush { .. } if one.flushes_fail => {}
            Effect::Flush { partition } => self.flush(node, partition),
            Effect::Create {
                partition,
                incarnation,
            } => self.create(node, partition, incarnation),
            _ => unreachable!(),
        }
        true
    }

    pub(crate) fn flush(&mut self, node: u32, partition: PartitionId) {
        if let Some(storage) = self
            .nodes
            .get_mut(&node)
            .unwrap()
            .engine
            .get_mut(&partition)
        {
            storage.durable = storage.applied.len();
            let decree = Decree(storage.durable as u64);
            self.feed(node, Event::Flushed { partition, decree });
        }
    }

    /// Completes the oldest log write. False: none is under way.
    pub(crate) fn step_disk(&mut self, node: u32) -> bool {
        let disk = &mut self.nodes.get_mut(&node).unwrap().disk;
        let Some(write) = disk.pending.pop_front() else {
            return false;
        };
        disk.store(&write);
        self.feed(node, Event::LogDurable { write: write.id });
        true
    }

    /// Delivers the oldest message. False: none is under way.
    pub(crate) fn step_wire(&mut self, from: u32, to: u32) -> bool {
        let Some(message) = self
            .wires
            .get_mut(&(from, to))
            .and_then(VecDeque::pop_front)
        else {
            return false;
        };
        self.feed(
            to,
            Event::Message {
                from: address(from),
                message,
            },
        );
        true
    }

    /// Time passes; whoever has a deadline in it is woken at that time.
    pub(crate) fn advance(&mut self, nanos: u64) {
        let until = Instant(self.now.0 + nanos);
        loop {
            let due = |node: &u32| Some((self.due_of(*node)?, *node));
            match self.alive().iter().filter_map(due).min() {
                Some((at, node)) if at <= until => {
                    self.now = self.now.max(at);
                    self.feed(node, Event::Timeout);
                    let (still, local) = (self.due_of(node), self.local(node));
                    assert!(
                        still.is_none_or(|still| still > self.now),
                        "a deadline is gone once it is handled: {still:?} at {local:?}"
                    );
                }
                _ => break,
            }
        }
        self.now = until;
    }

    /// When somebody wants to be woken next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.nodes
            .keys()
            .filter_map(|node| self.due_of(*node))
            .min()
    }

    /// The clock of `node`.
    pub(crate) fn local(&self, node: u32) -> Instant {
        let rate = self.nodes.get(&node).map_or(1000, |node| node.rate);
        Instant(self.now.0 * rate / 1000)
    }

    /// When the clock of `node` reaches its deadline, unless it is paused.
    fn due_of(&self, node: u32) -> Option<Instant> {
        let node = self.nodes.get(&node).filter(|node| !node.is_paused)?;
        let local = node.shard.as_ref()?.deadline()?;
        Some(Instant((local.0 * 1000).div_ceil(node.rate)))
    }

    pub(crate) fn pause(&mut self, node: u32) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.is_paused = node.shard.is_some();
        }
    }

    /// Goes on, and finds what has happened meanwhile.
    pub(crate) fn go_on(&mut self, node: u32) {
        let asleep = self.nodes.get_mut(&node).map(|node| {
            node.is_paused = false;
            std::mem::take(&mut node.asleep)
        });
        for event in asleep.into_iter().flatten() {
            self.feed(node, event);
        }
    }

    /// Whether the process is there and not paused.
    pub(crate) fn runs(&self, node: u32) -> bool {
        self.is_alive(node) && !self.nodes[&node].is_paused
    }

    /// The first few entries that the log of `source` gives; `None`: it cannot be reached, or has them no more.
    fn read_log(
        &mut self,
        node: u32,
        source: Member,
        partition: PartitionId,
        from: Decree,
        to: Decree,
    ) -> Option<Vec<Entry>> {
        let other = source.address.node.0;
        if !self.runs(other) || self.is_cut(node, other) {
            return None;
        }
        let range = SuffixRange {
            partition,
            incarnation: source.incarnation,
            after: from.previous(),
            up_to: to,
        };
        let disk = &mut self.nodes.get_mut(&other).unwrap().disk;
        let mut suffix = Suffix::open(disk, identity(other), range).ok()?;
        let piece = suffix.next_piece(2000).ok()??;
        Some(piece.entries)
    }

    fn fetch_checkpoint(
        &mut self,
        node: u32,
        source: Member,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    ) -> Event {
        let other = source.address.node.0;
        let is_reached = self.runs(other) && !self.is_cut(node, other);
        let found = self.nodes[&other].engine.get(&partition);
        let found = found.filter(|storage| is_reached && storage.incarnation == source.incarnation);
        let Some(found) = found.cloned() else {
            return failed(partition, incarnation);
        };
        let one = self.nodes.get_mut(&node).unwrap();
        if !one.engine.contains_key(&partition) {
            return failed(partition, incarnation);
        }
        let last = found.applied.last();
        let ballot = last.map_or(Ballot::NONE, |entry| entry.ballot);
        let durable = found.applied.len();
        let decree = Decree(durable as u64);
        one.engine.insert(
            partition,
            Storage {
                incarnation,
                applied: found.applied,
                durable,
            },
        );
        Event::CheckpointInstalled {
            partition,
            incarnation,
            decree,
            ballot,
        }
    }

    /// The ticket of the next request.
    pub(crate) fn next_ticket(&self) -> Ticket {
        Ticket(self.next_ticket)
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.waiting.insert(ticket);
        ticket
    }

    pub(crate) fn write(
        &mut self,
        node: u32,
        partition: PartitionId,
        payload: Bytes,
        deadline: Instant,
    ) -> Ticket {
        let ticket = self.ticket();
        self.writes.insert(ticket, (partition, payload.clone()));
        let (request_id, wall_us) = (RequestId::default(), self.local(node).0 / 1000);
        self.feed(
            node,
            Event::Write {
                partition,
                ticket,
                request_id,
                gate: partition.index.into(),
                wall_us,
                payload,
                deadline,
            },
        );
        ticket
    }

    pub(crate) fn count(
        &mut self,
        node: u32,
        request_id: RequestId,
        partition: PartitionId,
        is_increment: bool,
        deadline: Instant,
    ) -> Ticket {
        let ticket = self.ticket();
        let counting = Counting {
            partition,
            request_id,
            is_increment,
            value: None,
        };
        self.counting.insert(ticket, counting);
        let wall_us = self.local(node).0 / 1000;
        let event = Event::Atomic {
            partition,
            ticket,
            request_id,
            gate: partition.index.into(),
            wall_us,
            deadline,
        };
        self.feed(node, event);
        ticket
    }

    pub(crate) fn read(&mut self, node: u32, partition: PartitionId, deadline: Instant) -> Ticket {
        let ticket = self.ticket();
        let floor = self.seen.get(&partition).copied().unwrap_or_default();
        let found = Decree::ZERO;
        self.readings.insert(
            ticket,
            Reading {
                partition,
                floor,
                found,
            },
        );
        self.feed(
            node,
            Event::Read {
                partition,
                ticket,
                deadline,
            },
        );
        ticket
    }

    /// Creates the storage that a node was told to create.
    pub(crate) fn create(
        &mut self,
        node: u32,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    ) {
        let storage = Storage {
            incarnation,
            applied: Vec::new(),
            durable: 0,
        };
        self.nodes
            .get_mut(&node)
            .unwrap()
            .engine
            .insert(partition, storage);
        self.feed(
            node,
            Event::Created {
                partition,
                incarnation,
            },
        );
    }

    pub(crate) fn configure(&mut self, configuration: &Configuration, nodes: &[u32]) {
        self.configurations
            .insert(configuration.partition, configuration.clone());
        for node in nodes {
            self.feed(
                *node,
                Event::Configured {
                    configuration: configuration.clone(),
                },
            );
        }
    }

    pub(crate) fn replica(&self, node: u32, partition: PartitionId) -> Option<&Replica> {
        self.nodes.get(&node)?.shard.as_ref()?.replica(partition)
    }

    /// Invariants across the cluster, and that nothing acknowledged is missing where it has to be.
    fn check(&mut self) {
        let partitions: BTreeSet<PartitionId> = self.configurations.keys().copied().collect();
        for partition in partitions {
            let sound = |node: &&u32| !self.damaged.contains(node);
            let replicas: Vec<&Replica> = self
                .nodes
                .keys()
                .filter(sound)
                .filter_map(|node| self.replica(*node, partition))
                .collect();
            check_group(&replicas);
            let readers: Vec<u32> = self
                .nodes
                .iter()
                .filter(|(node, one)| {
                    let shard = one.shard.as_ref();
                    shard.is_some_and(|shard| shard.may_read(partition, self.local(**node)))
                })
                .map(|(node, _)| *node)
                .collect();
            assert!(readers.len() <= 1, "{partition}: {readers:?} serve");
        }
        for node in self.nodes.values_mut() {
            for replica in node.shard.iter().flat_map(Shard::replicas) {
                let seen = node
                    .committed
                    .entry((replica.partition(), replica.incarnation()))
                    .or_default();
                assert!(replica.committed() >= *seen, "a commit point went back");
                *seen = replica.committed();
            }
        }
    }

    /// Every acknowledged write is where every member of the newest configuration says its order is.
    pub(crate) fn check_acknowledged(&self) {
        for acknowledged in &self.acknowledged {
            let Some(configuration) = self.configurations.get(&acknowledged.partition) else {
                continue;
            };
            for member in configuration.members() {
                let node = member.address.node.0;
                if self.damaged.contains(&node) || !self.is_alive(node) {
                    continue;
                }
                let held = self.held(node, acknowledged.partition, acknowledged.decree);
                assert_eq!(
                    held.as_ref(),
                    Some(&acknowledged.payload),
                    "node {node} lacks acknowledged decree {} of {}",
                    acknowledged.decree,
                    acknowledged.partition
                );
            }
        }
    }

    fn held(&self, node: u32, partition: PartitionId, decree: Decree) -> Option<Bytes> {
        let applied = &self.nodes.get(&node)?.engine.get(&partition)?.applied;
        let position = usize::try_from(decree.0).unwrap() - 1;
        if let Some(entry) = applied.get(position) {
            return Some(entry.mutation.payload.clone());
        }
        let replica = self.replica(node, partition)?;
        replica
            .entries()
            .find(|entry| entry.decree == decree)
            .map(|entry| entry.mutation.payload.clone())
    }
}

fn failed(partition: PartitionId, incarnation: ReplicaIncarnation) -> Event {
    Event::FetchFailed {
        partition,
        incarnation,
        error: "not to be had".to_owned(),
        retry: true,
    }
}

pub(crate) fn configuration(
    index: u32,
    ballot: u64,
    stage: Stage,
    members: &[(u32, u64)],
    min_replicas: u8,
) -> Configuration {
    let mut members = members
        .iter()
        .map(|(node, incarnation)| member(*node, *incarnation));
    Configuration {
        partition: partition(index),
        ballot: Ballot(ballot),
        stage,
        primary: members.next(),
        secondaries: members.collect(),
        replica_count: 3,
        min_replicas,
    }
}
