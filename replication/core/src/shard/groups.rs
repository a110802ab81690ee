//! Membership and links as the shard sees them: configurations, learners, drops, peers that come and go, fences.

use super::Shard;
use super::turn::Turn;
use crate::config::{Configuration, Member, Stage};
use crate::event::{Effect, Effects, Pressure, Reject};
use crate::ids::{CoreAddress, Decree, Instant, PartitionId, ReplicaIncarnation};
use crate::message::{BeaconAck, Message};
use crate::replica::{Due, Replica};
use std::collections::BTreeSet;

impl Shard {
    pub(super) fn on_configured(
        &mut self,
        now: Instant,
        configuration: Configuration,
        effects: &mut Effects,
    ) {
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
                let mut replica = self.create(partition, incarnation, effects);
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

    /// A replica whose empty storage is made as soon as the log is open.
    fn create(
        &self,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        effects: &mut Effects,
    ) -> Replica {
        if self.log_is_open {
            effects.push(Effect::Create {
                partition,
                incarnation,
            });
        }
        Replica::creating(partition, incarnation)
    }

    /// The target of a fresh assignment makes an empty copy if it has none; a copy of another incarnation stays as it is.
    pub(super) fn make_learner(
        &mut self,
        configuration: &Configuration,
        learner: Option<Member>,
        effects: &mut Effects,
    ) {
        let partition = configuration.partition;
        let here = learner.filter(|learner| learner.address == self.desk.identity);
        if let Some(learner) = here
            && !self.replicas.contains_key(&partition)
            && self.failure().is_none()
        {
            let replica = self.create(partition, learner.incarnation, effects);
            self.replicas.insert(partition, replica);
        }
    }

    /// Meta's word on a learner.
    pub(super) fn on_learner_assigned(
        &mut self,
        now: Instant,
        configuration: Configuration,
        learner: Option<Member>,
        effects: &mut Effects,
    ) {
        let partition = configuration.partition;
        self.tell(now, partition, effects, |replica, turn| {
            replica.handle_learner_assigned(configuration, learner, turn)
        });
    }

    pub(super) fn on_created(
        &mut self,
        now: Instant,
        (partition, incarnation): (PartitionId, ReplicaIncarnation),
        decree: Decree,
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
        let mut turn = Turn {
            now,
            desk: &mut self.desk,
            effects,
        };
        replica.handle_created(decree, &mut turn);
    }

    pub(super) fn on_dropped(
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
        replica.leave_role(&mut turn);
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
        if planted!(DroppedReplicaRevived) {
            return;
        }
        effects.push(Effect::Remove {
            partition,
            incarnation,
        });
    }

    pub(super) fn on_peer_up(&mut self, now: Instant, peer: CoreAddress, effects: &mut Effects) {
        self.desk.links.on_up(peer);
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

    pub(super) fn on_peer_down(&mut self, now: Instant, peer: CoreAddress, effects: &mut Effects) {
        self.desk.links.on_down(peer, now);
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

    /// Nobody listens there: no need to wait for it.
    pub(super) fn on_peer_refused(
        &mut self,
        now: Instant,
        peer: CoreAddress,
        effects: &mut Effects,
    ) {
        let partitions = self.desk.links.on_refused(peer);
        self.review(now, partitions, effects);
    }

    /// Something has changed that may call for a proposal.
    fn review(&mut self, now: Instant, partitions: Vec<PartitionId>, effects: &mut Effects) {
        for partition in partitions {
            self.tell(now, partition, effects, Replica::propose);
        }
    }

    /// We were to be woken long ago: whatever held us up, others may have acted on our silence.
    pub(super) fn fence_if_late(&mut self, now: Instant) {
        let period = self.desk.options.beacon_period;
        if self
            .wanted_at
            .take()
            .is_some_and(|at| now > at.after(period))
        {
            self.raise_fence(now);
        }
    }

    /// All leases are void; new ones are asked for at once.
    pub(super) fn raise_fence(&mut self, now: Instant) {
        self.desk.fence.number += 1;
        self.desk.fence.at = now;
        self.desk.links.hasten_beacons(now);
    }

    /// Primaries elsewhere learn at once that this disk is full, or no longer: their prepares fill it as well.
    pub(super) fn on_pressure(&mut self, pressure: Pressure, effects: &mut Effects) {
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

    pub(super) fn on_timeout(&mut self, now: Instant, effects: &mut Effects) {
        let redial_period = self.desk.options.redial_period;
        for (_, partitions) in self.desk.links.take_gone(now, redial_period) {
            self.review(now, partitions, effects);
        }
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
                Due::Gate(ticket) => replica.on_gate_deadline(ticket, turn),
                Due::Follower(decree, ticket) => replica.on_follower_deadline(decree, ticket, turn),
                Due::Timer(timer) => replica.on_timer(timer, turn),
            }
        }
    }
}
