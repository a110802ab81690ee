//! Events about one replica and messages of peers: finds the replica, or says that there is none.

use super::Shard;
use super::turn::Turn;
use crate::event::{Effect, Effects, Event, Pressure, Reject};
use crate::ids::{Ballot, CoreAddress, Decree, Instant, PartitionId, Ticket};
use crate::message::{Beacon, BeaconAck, Message, PrepareReject, RejectReason, ReplicaState};
use crate::replica::{BeaconAnswer, Replica, Write};

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
                wall_us,
                payload,
                deadline,
            } => {
                let write = Write {
                    ticket,
                    request_id,
                    wall_us,
                    payload,
                    deadline,
                };
                self.ask(now, partition, ticket, effects, |replica, turn| {
                    replica.handle_write(write, turn)
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
            Event::HandOver { .. }
            | Event::LogFetched { .. }
            | Event::CheckpointInstalled { .. }
            | Event::FetchFailed { .. } => {}
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
        self.desk
            .log
            .set_durable_in_engine(partition, replica.flushed());
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
    fn tell(
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
            Message::LearnRequest(_) | Message::LearnReply(_) | Message::Yield(_) => {}
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
            let Some(configuration) = entry.configuration else {
                continue;
            };
            let Some(replica) = self.replicas.get_mut(&partition) else {
                ack.excluded
                    .push((partition, Ballot::NONE, RejectReason::OutOfService));
                continue;
            };
            let turn = &mut Turn {
                now,
                desk: &mut self.desk,
                effects,
            };
            let answer = replica.handle_beacon_entry(
                from,
                beacon.number,
                configuration,
                entry.committed,
                turn,
            );
            match answer {
                BeaconAnswer::State => ack.states.push(replica.state()),
                BeaconAnswer::Excluded(reason) => {
                    ack.excluded.push((partition, replica.ballot(), reason))
                }
                BeaconAnswer::Later => {}
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
