//! All replicas of one core and their log: takes events, gives effects.
//!
//! The caller feeds what has happened, any number of events, and then ends the turn:
//!
//! ```text
//!   handle(now, event, effects) ... handle(now, event, effects)   finish_turn(now, effects)
//! ```
//!
//! `finish_turn` turns all appends of the turn into one log write, sends each primary one acknowledgement per partition and
//! each secondary's core one beacon. Effects are carried out in the order they were pushed; the caller owns the buffer.

mod dispatch;
pub(crate) mod links;
mod relief;
pub(crate) mod turn;

use crate::config::{Configuration, ReplicationOptions, Stage};
use crate::event::{Effect, Effects, Event, Pressure, Reject};
use crate::ids::{Ballot, CoreAddress, Decree, Instant, PartitionId, ReplicaIncarnation};
use crate::log::{LogOptions, LogWriteId, Marker, Recovery, ShardLog};
use crate::message::{Beacon, BeaconAck, BeaconEntry, Message};
use crate::replica::{Deadlines, Due, Found, Health, Replica};
use links::Links;
use relief::Relief;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use turn::{Desk, Turn};

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
    /// Damage found at start, told by `start`.
    suspects: Vec<PartitionId>,
}

/// Idle time after which the log records its flushed position (docs/formats.md, "Batch of the log").
const TRAILER_DELAY: Duration = Duration::from_millis(10);

impl Shard {
    /// A shard as its log and its engine have it: `recovery` from `log::recover`, with the markers of `stored`.
    /// For a fresh directory both are empty. Call `start` next.
    #[must_use]
    pub fn new(
        options: ReplicationOptions,
        log_options: LogOptions,
        identity: CoreAddress,
        recovery: Recovery,
        stored: &[StoredReplica],
    ) -> Self {
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
        let desk = Desk {
            identity,
            options,
            log: ShardLog::new(log_options, recovery.start),
            links: Links::default(),
            deadlines: Deadlines::default(),
            pressure: Pressure::None,
            reads_inflight: 0,
            acknowledgements: BTreeSet::new(),
        };
        Self {
            replicas,
            desk,
            relief: Relief::default(),
            trailer_at: None,
            log_is_open: false,
            suspects,
        }
    }

    /// Before the first event: replays what is committed into the engine and names the replicas that are damaged.
    pub fn start(&mut self, now: Instant, effects: &mut Effects) {
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
            replica.issue_applies(&mut Turn {
                now,
                desk: &mut self.desk,
                effects,
            });
        }
    }

    /// Advances the shard by one event. Never blocks, never fails; effects go to the end of `effects`.
    pub fn handle(&mut self, now: Instant, event: Event, effects: &mut Effects) {
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
            } => self.on_created(now, partition, incarnation, effects),
            Event::PeerUp { peer } => self.on_peer_up(now, peer, effects),
            Event::PeerDown { peer } => self.on_peer_down(now, peer, effects),
            Event::Pressure { pressure } => self.on_pressure(pressure, effects),
            Event::PeerRefused { .. } | Event::Fence => {}
            Event::LearnerAssigned { configuration, .. } => {
                self.on_configured(now, configuration, effects)
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
    }

    /// When `Event::Timeout` is due next; `None`: only other events matter. Cheap, ask after every turn.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let dues = [
            self.desk.deadlines.earliest(),
            self.desk.links.beacons_due(),
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
        let due = now.after(self.desk.options.beacon_period);
        for (to, number, partitions) in self.desk.links.take_beacons(now) {
            let is_up = self.desk.links.is_up(to);
            let mut entries = Vec::new();
            for partition in partitions {
                let Some(replica) = self
                    .replicas
                    .get(&partition)
                    .filter(|replica| replica.may_beacon(to))
                else {
                    continue;
                };
                if replica.still_asks(to) {
                    self.desk.links.mention(to, partition, due);
                }
                if let (true, Some(configuration)) = (is_up, replica.configuration()) {
                    entries.push(BeaconEntry {
                        partition,
                        ballot: configuration.ballot,
                        committed: replica.committed(),
                        configuration: Some(configuration.clone()),
                        learner: None,
                    });
                }
            }
            effects.push(Effect::Send {
                to,
                message: Message::Beacon(Beacon { number, entries }),
            });
        }
    }

    fn write_log(&mut self, now: Instant, effects: &mut Effects) {
        let log = &mut self.desk.log;
        if self.trailer_at.is_some_and(|at| at <= now) {
            effects.extend(log.next_trailer().map(Effect::WriteLog));
            self.trailer_at = None;
        }
        while let Some(write) = log.next_write() {
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

    fn on_configured(&mut self, now: Instant, configuration: Configuration, effects: &mut Effects) {
        let partition = configuration.partition;
        if let Some(replica) = self.replicas.get_mut(&partition) {
            replica.handle_configured(
                configuration,
                &mut Turn {
                    now,
                    desk: &mut self.desk,
                    effects,
                },
            );
            return;
        }
        let Some(own) = configuration
            .members()
            .find(|member| member.address == self.desk.identity)
        else {
            return;
        };
        let incarnation = own.incarnation;
        let replica = match configuration.stage {
            Stage::Creating if self.failure().is_none() => {
                if self.log_is_open {
                    effects.push(Effect::Create {
                        partition,
                        incarnation,
                    });
                }
                let mut replica = Replica::creating(partition, incarnation);
                replica.handle_configured(
                    configuration,
                    &mut Turn {
                        now,
                        desk: &mut self.desk,
                        effects,
                    },
                );
                replica
            }
            Stage::Creating | Stage::Active => Replica::missing(configuration, incarnation),
        };
        if let Some(reason) = replica.reason() {
            effects.push(Effect::Quarantine {
                partition,
                reason: reason.to_owned(),
            });
        }
        self.replicas.insert(partition, replica);
    }

    fn on_created(
        &mut self,
        now: Instant,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        effects: &mut Effects,
    ) {
        let Some(replica) = self.replicas.get_mut(&partition) else {
            return;
        };
        if replica.incarnation() != incarnation || !replica.is_creating() {
            return;
        }
        if replica.is_removed() {
            self.replicas.remove(&partition);
            effects.push(Effect::Remove {
                partition,
                incarnation,
            });
            return;
        }
        replica.handle_created(&mut Turn {
            now,
            desk: &mut self.desk,
            effects,
        });
    }

    fn on_dropped(
        &mut self,
        now: Instant,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        effects: &mut Effects,
    ) {
        let Some(replica) = self.replicas.get_mut(&partition) else {
            return;
        };
        // An order names the incarnation it means; another copy is kept.
        if replica.incarnation() != incarnation {
            return;
        }
        let mut turn = Turn {
            now,
            desk: &mut self.desk,
            effects,
        };
        replica.refuse_everybody(Reject::NotHere, &mut turn);
        replica.leave_links(&mut turn);
        if replica.is_creating() {
            replica.remove_when_created();
            return;
        }
        let reads = replica.reads_inflight();
        self.desk.reads_inflight = self
            .desk
            .reads_inflight
            .checked_sub(reads)
            .expect("counted when they started");
        self.replicas.remove(&partition);
        self.relief
            .forget(partition, incarnation, &mut self.desk.log);
        effects.push(Effect::Remove {
            partition,
            incarnation,
        });
    }

    fn on_peer_up(&mut self, now: Instant, peer: CoreAddress, effects: &mut Effects) {
        self.desk.links.link(peer).up = true;
        for replica in self.replicas.values_mut() {
            replica.handle_peer_up(
                peer,
                &mut Turn {
                    now,
                    desk: &mut self.desk,
                    effects,
                },
            );
        }
    }

    fn on_peer_down(&mut self, now: Instant, peer: CoreAddress, effects: &mut Effects) {
        let link = self.desk.links.link(peer);
        link.up = false;
        link.disk_full = false;
        for replica in self.replicas.values_mut() {
            replica.handle_peer_down(
                peer,
                &mut Turn {
                    now,
                    desk: &mut self.desk,
                    effects,
                },
            );
        }
    }

    /// Primaries elsewhere learn at once that this disk is full, or no longer: their prepares fill it as well.
    fn on_pressure(&mut self, pressure: Pressure, effects: &mut Effects) {
        let before = std::mem::replace(&mut self.desk.pressure, pressure);
        let disk_full = pressure == Pressure::DiskFull;
        if disk_full == (before == Pressure::DiskFull) {
            return;
        }
        let own = self.desk.identity;
        let configurations = self.replicas.values().filter_map(Replica::configuration);
        let primaries: BTreeSet<CoreAddress> = configurations
            .filter_map(|configuration| Some(configuration.primary?.address))
            .filter(|primary| *primary != own)
            .collect();
        for to in primaries {
            let ack = BeaconAck {
                number: 0,
                partial: true,
                states: Vec::new(),
                excluded: Vec::new(),
                disk_full,
            };
            effects.push(Effect::Send {
                to,
                message: Message::BeaconAck(ack),
            });
        }
    }

    fn on_timeout(&mut self, now: Instant, effects: &mut Effects) {
        while let Some((partition, due)) = self.desk.deadlines.take_due(now) {
            let replica = self
                .replicas
                .get_mut(&partition)
                .expect("deadlines go with their replica");
            let turn = &mut Turn {
                now,
                desk: &mut self.desk,
                effects,
            };
            match due {
                Due::Write(decree) => replica.on_write_deadline(decree, turn),
                Due::Read(ticket) => replica.on_read_deadline(ticket, turn),
                Due::Propose => replica.propose_next_ballot(turn),
            }
        }
    }

    /// All replicas, in order of partition.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values()
    }

    #[must_use]
    pub fn replica(&self, partition: PartitionId) -> Option<&Replica> {
        self.replicas.get(&partition)
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
