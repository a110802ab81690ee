//! All replicas of one core and their log: takes events, gives effects.
//!
//! The caller feeds what has happened, any number of events, and then ends the turn:
//!
//! ```text
//!   handle(now, event, effects) ... handle(now, event, effects)   finish_turn(now, effects)
//! ```
//!
//! `finish_turn` turns all appends of the turn into one log write, sends each primary one acknowledgement per partition and,
//! where one is due, each secondary's core one beacon. Effects are carried out in the order they were pushed; the caller owns the buffer.

mod dispatch;
mod groups;
pub(crate) mod links;
mod relief;
pub(crate) mod turn;

use crate::config::ReplicationOptions;
use crate::event::{Compute, Effect, Effects, Event, Pressure};
use crate::ids::{Ballot, CoreAddress, Decree, Instant, PartitionId, ReplicaIncarnation};
use crate::log::{LogOptions, LogWriteId, Marker, Recovery, ShardLog};
use crate::message::{Beacon, Message};
use crate::replica::{Deadlines, Found, Health, Replica};
use bytes::Bytes;
use links::Links;
use relief::Relief;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use turn::{Desk, Fence, LogPace, Turn};

/// A replica that the engine holds when the core starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredReplica {
    pub partition: PartitionId,
    pub incarnation: ReplicaIncarnation,
    /// Last decree of the durable marker, 0 = none, and its ballot.
    pub decree: Decree,
    pub ballot: Ballot,
}

impl StoredReplica {
    /// What log recovery wants to know of it.
    #[must_use]
    pub fn marker(&self) -> Marker {
        Marker {
            incarnation: self.incarnation,
            decree: self.decree,
        }
    }
}

/// The decisions of one core. See the module's page.
#[derive(Debug)]
pub struct Shard {
    replicas: BTreeMap<PartitionId, Replica>,
    desk: Desk,
    relief: Relief,
    /// When the idle log records how far it is flushed.
    trailer_at: Option<Instant>,
    /// The first header of this life is durable. Until then nothing is created: storage without a log would look like
    /// storage that has lost its log.
    log_is_open: bool,
    /// When we wanted to be woken, as of the last turn. If nothing happens until far behind that, we were not there.
    wanted_at: Option<Instant>,
    /// Damage found at start, told by `start`.
    suspects: Vec<PartitionId>,
}

/// Idle time after which the log records its flushed position (docs/formats.md, "Batch of the log").
const TRAILER_DELAY: Duration = Duration::from_millis(10);

impl Shard {
    /// A shard as its log and its engine have it: `recovery` from `log::recover`, with the markers of `stored`.
    /// For a fresh directory both are empty. Call `start` next.
    ///
    /// # Panics
    /// If the options do not pass their `check`.
    #[must_use]
    pub fn new(
        options: ReplicationOptions,
        log_options: LogOptions,
        identity: CoreAddress,
        recovery: Recovery,
        stored: &[StoredReplica],
    ) -> Self {
        options.check().expect("options are checked at start");
        let mut recovered = recovery.replicas;
        let mut replicas = BTreeMap::new();
        let mut suspects = Vec::new();
        for stored in stored {
            let logged = recovered
                .remove(&stored.partition)
                .filter(|logged| logged.incarnation == stored.incarnation);
            let suspicion = logged
                .as_ref()
                .and_then(|logged| logged.suspect.as_ref())
                .map(|loss| format!("the log is damaged: {loss}"));
            let (ballot, committed, entries) = match logged {
                Some(logged) => (logged.adopted, logged.committed, logged.entries),
                None => (Ballot::NONE, Decree::ZERO, Vec::new()),
            };
            let found = Found {
                partition: stored.partition,
                incarnation: stored.incarnation,
                marker: stored.decree,
                marker_ballot: stored.ballot,
                ballot,
                committed,
                entries,
            };
            let mut replica = Replica::found(found);
            let shortfall = (replica.prepared() < committed).then(|| {
                format!(
                    "the log ends at decree {}, below the commit point {committed}",
                    replica.prepared()
                )
            });
            if let Some(reason) = suspicion.or(shortfall) {
                suspects.push(stored.partition);
                replica = replica.suspect(reason);
            }
            let before = replicas.insert(stored.partition, replica);
            assert!(before.is_none(), "{}: stored twice", stored.partition);
        }
        let options = if planted!(GraceShorterThanLease) {
            ReplicationOptions {
                grace_period: options.lease_period / 4,
                ..options
            }
        } else {
            options
        };
        let desk = Desk {
            identity,
            options,
            log: ShardLog::new(log_options, recovery.start),
            log_pace: LogPace::default(),
            links: Links::default(),
            deadlines: Deadlines::default(),
            pressure: Pressure::None,
            reads_inflight: 0,
            computes: VecDeque::new(),
            acknowledgements: BTreeSet::new(),
            fence: Fence::default(),
            started_at: Instant::default(),
        };
        Self {
            replicas,
            desk,
            relief: Relief::default(),
            trailer_at: None,
            log_is_open: false,
            wanted_at: None,
            suspects,
        }
    }

    /// Before the first event: replays what is committed into the engine and names the replicas that are damaged.
    pub fn start(&mut self, now: Instant, effects: &mut Effects) {
        self.desk.started_at = now;
        for partition in std::mem::take(&mut self.suspects) {
            let reason = self
                .replicas
                .get(&partition)
                .and_then(Replica::reason)
                .unwrap_or_default()
                .to_owned();
            effects.push(Effect::Quarantine { partition, reason });
        }
        for replica in self.replicas.values_mut() {
            replica.begin(&mut Turn {
                now,
                desk: &mut self.desk,
                effects,
            });
        }
    }

    /// Advances the shard by one event. Never blocks, never fails; effects go to the end of `effects`.
    pub fn handle(&mut self, now: Instant, event: Event, effects: &mut Effects) {
        self.fence_if_late(now);
        match event {
            Event::Message { from, message } => self.handle_message(now, from, message, effects),
            Event::LogDurable { write } => self.on_log_durable(now, write, effects),
            Event::LogFailed { error } => self.on_log_failed(now, error, effects),
            Event::SegmentReady { segment } => {
                let expected = self.desk.log.on_segment_ready(segment);
                expected.expect("segments become ready once, after PrepareSegment");
            }
            Event::Configured { configuration } => self.on_configured(now, configuration, effects),
            Event::Dropped {
                partition,
                incarnation,
            } => self.on_dropped(now, partition, incarnation, effects),
            Event::Created {
                partition,
                incarnation,
                decree,
            } => self.on_created(now, (partition, incarnation), decree, effects),
            Event::PeerUp { peer } => self.on_peer_up(now, peer, effects),
            Event::PeerDown { peer } => self.on_peer_down(now, peer, effects),
            Event::Pressure { pressure } => self.on_pressure(pressure, effects),
            Event::PeerRefused { peer } => self.on_peer_refused(now, peer, effects),
            Event::Fence => self.raise_fence(now),
            Event::LearnerAssigned {
                configuration,
                learner,
                is_fresh,
            } => {
                if is_fresh {
                    self.make_learner(&configuration, learner, effects);
                }
                self.on_learner_assigned(now, configuration, learner, effects);
            }
            Event::Timeout => self.on_timeout(now, effects),
            of_replica => self.handle_replica_event(now, of_replica, effects),
        }
    }

    /// Ends a turn: acknowledgements, beacons, then the log's writes and its segments.
    pub fn finish_turn(&mut self, now: Instant, effects: &mut Effects) {
        self.resume_backlogs(now, effects);
        self.send_acknowledgements(effects);
        self.send_beacons(now, effects);
        self.relief
            .relieve(now, &mut self.desk.log, &self.replicas, effects);
        self.write_log(now, effects);
        self.wanted_at = self.deadline().map(|at| at.max(now));
    }

    /// When `Event::Timeout` is due next; `None`: only other events matter. Cheap, ask after every turn.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let dues = [
            self.desk.deadlines.earliest(),
            self.desk.links.beacons_due(),
            self.desk.links.gone_due(self.desk.options.redial_period),
            self.trailer_at,
            self.relief.again_at(),
        ];
        dues.into_iter().flatten().min()
    }

    fn resume_backlogs(&mut self, now: Instant, effects: &mut Effects) {
        for (peer, partition) in self
            .desk
            .links
            .backlogs(self.desk.options.peer_window_bytes_max)
        {
            match self.replicas.get_mut(&partition) {
                Some(replica) => replica.resume_prepares(
                    peer,
                    &mut Turn {
                        now,
                        desk: &mut self.desk,
                        effects,
                    },
                ),
                None => self.desk.links.leave(peer, partition),
            }
        }
    }

    fn send_acknowledgements(&mut self, effects: &mut Effects) {
        for partition in std::mem::take(&mut self.desk.acknowledgements) {
            let replica = self.replicas.get_mut(&partition);
            if let Some((to, ack)) = replica
                .and_then(|replica| replica.take_acknowledgement(self.desk.options.apply_queue_max))
            {
                effects.push(Effect::Send {
                    to,
                    message: Message::PrepareAck(ack),
                });
            }
        }
    }

    fn send_beacons(&mut self, now: Instant, effects: &mut Effects) {
        let (period, fence) = (self.desk.options.beacon_period, self.desk.fence.number);
        for plan in self.desk.links.take_beacons(now, period, fence) {
            let mut entries = Vec::with_capacity(plan.partitions.len());
            for partition in plan.partitions {
                let Some(replica) = self.replicas.get_mut(&partition) else {
                    continue;
                };
                entries.extend(replica.beacon_entry(plan.to).filter(|_| plan.is_up));
                // Of a peer that has never been here in this life, nothing else tells that it is silent.
                if plan.whole {
                    replica.propose(&mut Turn {
                        now,
                        desk: &mut self.desk,
                        effects,
                    });
                }
            }
            effects.push(Effect::Send {
                to: plan.to,
                message: Message::Beacon(Beacon {
                    number: plan.number,
                    entries,
                }),
            });
        }
    }

    fn write_log(&mut self, now: Instant, effects: &mut Effects) {
        let log = &mut self.desk.log;
        if self.trailer_at.is_some_and(|at| at <= now) {
            if let Some(write) = log.next_trailer() {
                self.desk.log_pace.on_write(write.id, now);
                effects.push(Effect::WriteLog(write));
            }
            self.trailer_at = None;
        }
        while let Some(write) = log.next_write() {
            self.desk.log_pace.on_write(write.id, now);
            effects.push(Effect::WriteLog(write));
        }
        effects.extend(
            log.segment_to_prepare()
                .map(|segment| Effect::PrepareSegment { segment }),
        );
        effects.extend(
            log.take_freed_segments()
                .into_iter()
                .map(|segment| Effect::FreeSegment { segment }),
        );
        self.trailer_at = match self.trailer_at {
            _ if !log.wants_trailer() => None,
            Some(at) => Some(at),
            None => Some(now.after(TRAILER_DELAY)),
        };
    }

    fn on_log_durable(&mut self, now: Instant, write: LogWriteId, effects: &mut Effects) {
        let slow = self.desk.options.slow_own_flush;
        self.desk.log_pace.on_durable(write, now, slow);
        for stamp in self.desk.log.on_durable(write) {
            let Some(replica) = self.replicas.get_mut(&stamp.partition) else {
                continue;
            };
            if replica.incarnation() == stamp.incarnation {
                replica.on_durable(
                    stamp,
                    &mut Turn {
                        now,
                        desk: &mut self.desk,
                        effects,
                    },
                );
            }
        }
        self.relief.look_again();
        if !self.log_is_open && self.failure().is_none() {
            self.log_is_open = true;
            self.create_what_waits(effects);
        }
    }

    fn create_what_waits(&self, effects: &mut Effects) {
        for replica in self
            .replicas
            .values()
            .filter(|replica| replica.is_creating())
        {
            let (partition, incarnation) = (replica.partition(), replica.incarnation());
            effects.push(Effect::Create {
                partition,
                incarnation,
            });
        }
    }

    /// Final: what is pending may or may not be in the log, and nothing more can be promised.
    fn on_log_failed(&mut self, now: Instant, error: String, effects: &mut Effects) {
        self.desk.log.fail(error.clone());
        for replica in self.replicas.values_mut() {
            let reason = format!("the core's log has failed: {error}");
            replica.leave_service(
                reason,
                &mut Turn {
                    now,
                    desk: &mut self.desk,
                    effects,
                },
            );
        }
    }

    /// The next atomic operation whose turn it is; ask after each event, and before the turn is finished.
    pub fn next_compute(&mut self) -> Option<Compute> {
        self.desk.computes.pop_front()
    }

    /// Payloads of this partition's mutations of this gate that are prepared and may not be applied, the newest first.
    pub fn inflight(&self, partition: PartitionId, gate: u64) -> impl Iterator<Item = &Bytes> {
        let replica = self.replicas.get(&partition).into_iter();
        replica.flat_map(move |replica| replica.inflight_of(gate))
    }

    /// Of these those above `decree`, with their decrees.
    pub fn inflight_above(
        &self,
        partition: PartitionId,
        gate: u64,
        decree: Decree,
    ) -> impl Iterator<Item = (Decree, &Bytes)> {
        let replica = self.replicas.get(&partition).into_iter();
        replica.flat_map(move |replica| replica.inflight_above(gate, decree))
    }

    /// Whether a write of this gate that comes now waits for no atomic operation.
    #[must_use]
    pub fn is_gate_open(&self, partition: PartitionId, gate: u64) -> bool {
        let replica = self.replicas.get(&partition);
        replica.is_none_or(|replica| replica.is_gate_open(gate))
    }

    /// Whether the partition's primary is here and has no room for another write, of so many bytes: its time will come.
    #[must_use]
    pub fn is_busy(&self, partition: PartitionId, payload_bytes: usize) -> bool {
        let replica = self.replicas.get(&partition);
        replica.is_some_and(|replica| replica.is_busy(payload_bytes, &self.desk))
    }

    /// All replicas, in order of partition.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values()
    }

    #[must_use]
    pub fn replica(&self, partition: PartitionId) -> Option<&Replica> {
        self.replicas.get(&partition)
    }

    /// Whether a read of this partition may be answered here at `now`: at most one core of a cluster says so at any instant.
    #[must_use]
    pub fn may_read(&self, partition: PartitionId, now: Instant) -> bool {
        let replica = self.replicas.get(&partition);
        replica.is_some_and(|replica| replica.may_read(now, &self.desk).is_ok())
    }

    /// Whether a read of what is applied at `now` may be answered, by somebody who asks without an event: who has read the
    /// clock after the read came in, and applies nothing in between. As with an event, a shard that is late trusts no lease.
    #[must_use]
    pub fn may_answer(&mut self, partition: PartitionId, now: Instant) -> bool {
        self.fence_if_late(now);
        self.may_read(partition, now)
    }

    /// How many replicas serve as primary; for statistics.
    #[must_use]
    pub fn serving_count(&self) -> usize {
        self.replicas
            .values()
            .filter(|replica| replica.health() == Health::Serving)
            .count()
    }

    #[must_use]
    pub fn identity(&self) -> CoreAddress {
        self.desk.identity
    }

    /// The log, for its figures: pending bytes, fill, blockers.
    #[must_use]
    pub fn log(&self) -> &ShardLog {
        &self.desk.log
    }

    /// Why the core's log has failed, if it has; the core then serves nothing.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.desk.log.failure()
    }

    /// Each core we have replicated to: whether its link is up, and bytes of prepares under way.
    pub fn peers(&self) -> impl Iterator<Item = (CoreAddress, bool, usize)> {
        self.desk.links.inflight_bytes()
    }

    /// Checks what must hold within each replica.
    ///
    /// # Panics
    /// If it does not: a bug.
    pub fn check(&self) {
        self.replicas.values().for_each(Replica::check);
    }
}
