//! Events about one replica and messages of peers: finds the replica, or says that there is none.

use super::Shard;
use super::turn::Turn;
use crate::event::{Effect, Effects, Event, Pressure, Reject};
use crate::ids::{Ballot, CoreAddress, Decree, Instant, PartitionId, ReplicaIncarnation, Ticket};
use crate::message::{Beacon, BeaconAck, Message, PrepareReject, RejectReason, ReplicaState};
use crate::replica::{Atomic, BeaconAnswer, Replica, Write};
use std::collections::BTreeSet;

impl Shard {
    pub(super) fn handle_replica_event(
        &mut self,
        now: Instant,
        event: Event,
        effects: &mut Effects,
    ) {
        match event {
            Event::Write {
                partition,
                ticket,
                request_id,
                gate,
                wall_us,
                payload,
                deadline,
            } => {
                let write = Write {
                    ticket,
                    request_id,
                    gate,
                    wall_us,
                    payload,
                    deadline,
                };
                self.ask(now, partition, ticket, effects, |replica, turn| {
                    replica.handle_write(write, turn)
                });
            }
            Event::Atomic {
                partition,
                ticket,
                request_id,
                gate,
                wall_us,
                deadline,
            } => {
                let atomic = Atomic {
                    ticket,
                    request_id,
                    gate,
                    wall_us,
                    deadline,
                    is_twin: false,
                };
                self.ask(now, partition, ticket, effects, |replica, turn| {
                    replica.handle_atomic(atomic, turn)
                });
            }
            Event::Computed {
                partition,
                ticket,
                gate,
                outcome,
            } => {
                self.tell(now, partition, effects, |replica, turn| {
                    replica.handle_computed(ticket, gate, outcome, turn)
                });
            }
            Event::Read {
                partition,
                ticket,
                deadline,
            } => {
                self.ask(now, partition, ticket, effects, |replica, turn| {
                    replica.handle_read(ticket, deadline, turn)
                });
            }
            Event::ReadDone { partition, ticket } => {
                self.ask(now, partition, ticket, effects, |replica, turn| {
                    replica.handle_read_done(ticket, turn)
                });
            }
            Event::Applied { partition, decree } => {
                self.tell(now, partition, effects, |replica, turn| {
                    replica.handle_applied(decree, turn)
                });
            }
            Event::Flushed { partition, decree } => self.on_flushed(partition, decree),
            Event::HandOver {
                partition,
                ballot,
                to,
            } => {
                self.tell(now, partition, effects, |replica, turn| {
                    replica.handle_hand_over(ballot, to, turn)
                });
            }
            Event::LogFetched {
                partition,
                incarnation,
                entries,
            } => {
                self.tell_copy(now, partition, incarnation, effects, |replica, turn| {
                    replica.handle_log_fetched(entries, turn)
                });
            }
            Event::CheckpointInstalled {
                partition,
                incarnation,
                decree,
                ballot,
            } => {
                self.tell_copy(now, partition, incarnation, effects, |replica, turn| {
                    replica.handle_checkpoint_installed(decree, ballot, turn)
                });
            }
            Event::FetchFailed {
                partition,
                incarnation,
                is_missing,
            } => {
                self.tell_copy(now, partition, incarnation, effects, |replica, turn| {
                    replica.handle_fetch_failed(is_missing, turn)
                });
            }
            Event::ReplicaFailed { partition, error } => {
                self.tell(now, partition, effects, |replica, turn| {
                    replica.quarantine(error, turn)
                });
            }
            other => unreachable!("{other:?} is not about one replica"),
        }
    }

    fn on_flushed(&mut self, partition: PartitionId, decree: Decree) {
        let Some(replica) = self.replicas.get_mut(&partition) else {
            return;
        };
        replica.handle_flushed(decree);
        self.desk.log.set_durable_in_engine(
            partition,
            if planted!(DurableDecreeAheadOfData) {
                replica.applied()
            } else {
                replica.flushed()
            },
        );
        self.relief.on_flushed(partition);
    }

    /// For events with a ticket: somebody waits for an answer.
    fn ask(
        &mut self,
        now: Instant,
        partition: PartitionId,
        ticket: Ticket,
        effects: &mut Effects,
        act: impl FnOnce(&mut Replica, &mut Turn<'_>),
    ) {
        match self.replicas.get_mut(&partition) {
            Some(replica) => act(
                replica,
                &mut Turn {
                    now,
                    desk: &mut self.desk,
                    effects,
                },
            ),
            None => effects.push(Effect::Reject {
                ticket,
                reason: Reject::NotHere,
            }),
        }
    }

    /// For events that may come after the replica has gone.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        partition: PartitionId,
        effects: &mut Effects,
        act: impl FnOnce(&mut Replica, &mut Turn<'_>),
    ) {
        if let Some(replica) = self.replicas.get_mut(&partition) {
            act(
                replica,
                &mut Turn {
                    now,
                    desk: &mut self.desk,
                    effects,
                },
            );
        }
    }

    /// The same for events that are about one copy: another one may be in its place.
    fn tell_copy(
        &mut self,
        now: Instant,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        effects: &mut Effects,
        act: impl FnOnce(&mut Replica, &mut Turn<'_>),
    ) {
        self.tell(now, partition, effects, |replica, turn| {
            if replica.incarnation() == incarnation {
                act(replica, turn);
            }
        });
    }

    pub(super) fn handle_message(
        &mut self,
        now: Instant,
        from: CoreAddress,
        message: Message,
        effects: &mut Effects,
    ) {
        match message {
            Message::Prepare(prepare) => {
                let (partition, ballot) = (
                    prepare.configuration.partition,
                    prepare.configuration.ballot,
                );
                let decree = prepare.entry.decree;
                if prepare.entry.mutation.payload.len()
                    > self.desk.log.options().payload_bytes_max()
                {
                    return;
                }
                if self.replicas.contains_key(&partition) {
                    self.tell(now, partition, effects, |replica, turn| {
                        replica.handle_prepare(from, prepare, turn)
                    });
                    return;
                }
                let reject = PrepareReject {
                    partition,
                    ballot,
                    decree,
                    state: nothing_of(partition),
                    reason: RejectReason::OutOfService,
                };
                effects.push(Effect::Send {
                    to: from,
                    message: Message::PrepareReject(reject),
                });
            }
            Message::PrepareAck(ack) => {
                self.tell(now, ack.partition, effects, |replica, turn| {
                    replica.handle_prepare_ack(from, &ack, turn)
                });
            }
            Message::PrepareReject(reject) => {
                let partition = reject.partition;
                self.tell(now, partition, effects, |replica, turn| {
                    replica.handle_prepare_reject(from, &reject, turn)
                });
            }
            Message::Beacon(beacon) => self.handle_beacon(now, from, beacon, effects),
            Message::BeaconAck(ack) => self.handle_beacon_ack(now, from, &ack, effects),
            Message::LearnRequest(request) => {
                self.tell(now, request.partition, effects, |replica, turn| {
                    replica.handle_learn_request(from, &request, turn)
                });
            }
            Message::LearnReply(reply) => {
                self.tell(now, reply.partition, effects, |replica, turn| {
                    replica.handle_learn_reply(from, &reply, turn)
                });
            }
            Message::Yield(it) => {
                self.tell(now, it.partition, effects, |replica, turn| {
                    replica.handle_yield(from, &it, turn)
                });
            }
        }
    }

    fn handle_beacon(
        &mut self,
        now: Instant,
        from: CoreAddress,
        beacon: Beacon,
        effects: &mut Effects,
    ) {
        let mut ack = BeaconAck {
            number: beacon.number,
            partial: false,
            states: Vec::new(),
            excluded: Vec::new(),
            disk_full: self.desk.pressure == Pressure::DiskFull,
        };
        for entry in beacon.entries {
            let partition = entry.partition;
            let is_whole = entry.configuration.as_ref().is_none_or(|configuration| {
                (configuration.partition, configuration.ballot) == (partition, entry.ballot)
            });
            let Some(replica) = self.replicas.get_mut(&partition).filter(|_| is_whole) else {
                ack.excluded
                    .push((partition, Ballot::NONE, RejectReason::OutOfService));
                continue;
            };
            let turn = &mut Turn {
                now,
                desk: &mut self.desk,
                effects,
            };
            match replica.handle_beacon_entry(from, beacon.number, entry, turn) {
                BeaconAnswer::Acknowledged => {}
                BeaconAnswer::State => ack.states.push(replica.state()),
                BeaconAnswer::Excluded(reason) => {
                    ack.excluded.push((partition, replica.ballot(), reason))
                }
            }
        }
        effects.push(Effect::Send {
            to: from,
            message: Message::BeaconAck(ack),
        });
    }

    fn handle_beacon_ack(
        &mut self,
        now: Instant,
        from: CoreAddress,
        ack: &BeaconAck,
        effects: &mut Effects,
    ) {
        self.desk.links.link(from).disk_full = ack.disk_full;
        for state in &ack.states {
            self.tell(now, state.partition, effects, |replica, turn| {
                replica.handle_state(from, ack.number, state, turn);
            });
        }
        for (partition, ballot, reason) in &ack.excluded {
            self.tell(now, *partition, effects, |replica, turn| {
                replica.handle_excluded(from, ack.number, *ballot, *reason, turn);
            });
        }
        self.acknowledge_covered(now, from, ack, effects);
    }

    /// What a whole beacon covered and its answer does not name is acknowledged.
    fn acknowledge_covered(
        &mut self,
        now: Instant,
        from: CoreAddress,
        ack: &BeaconAck,
        effects: &mut Effects,
    ) {
        let beacon = self.desk.links.sent_beacon(from, ack.number);
        let Some(beacon) = beacon.filter(|beacon| beacon.whole && !ack.partial) else {
            return;
        };
        let states = ack.states.iter().map(|state| state.partition);
        let excluded = ack.excluded.iter().map(|(partition, _, _)| *partition);
        let named: BTreeSet<PartitionId> = states.chain(excluded).collect();
        for partition in self.desk.links.covered(from) {
            if !named.contains(&partition) {
                self.tell(now, partition, effects, |replica, turn| {
                    replica.handle_beacon_acknowledged(from, beacon, turn);
                });
            }
        }
    }
}

fn nothing_of(partition: PartitionId) -> ReplicaState {
    let (ballot, prepared) = (Ballot::NONE, Decree::ZERO);
    ReplicaState {
        partition,
        ballot,
        prepared,
        prepared_ballot: ballot,
        committed: prepared,
    }
}
