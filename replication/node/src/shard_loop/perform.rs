//! Carrying effects out: the log write and the sends of a turn first, then what the engine and the clients get.

use super::{ShardLoop, report};
use crate::background::BackgroundJob;
use crate::engine_pool::PoolDone;
use crate::meta_link::{ReplicaKey, Wish};
use crate::stall::Phase;
use crate::stats::TraceId;
use crate::wire;
use pegasus_engine::Engine;
use pegasus_fbs::stats_page::{Counter, Stage};
use pegasus_net::PeerId;
use pegasus_replication::event::{Effect, Event, Reject};
use pegasus_replication::ids::{CoreAddress, Decree, PartitionId, ReplicaIncarnation, Ticket};
use pegasus_replication::log::LogWrite;
use pegasus_replication::message::{Message, PrepareAck};
use pegasus_replication::replica::Replica;
use std::collections::BTreeMap;

/// Effects of a turn that wait for their phase.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Acknowledgements of this turn, one frame for each core.
    acks: BTreeMap<CoreAddress, Vec<PrepareAck>>,
    /// Replicas to create, in one call for all.
    creates: Vec<(PartitionId, ReplicaIncarnation)>,
    answers: Vec<Answer>,
}

#[derive(Debug)]
enum Answer {
    Reply(Ticket, Decree),
    Reject(Ticket, Reject),
}

impl ShardLoop {
    /// Carries out everything decided so far, as of `self.stamp`. Engine work is queued for `work`, whatever else is done
    /// when it returns.
    pub(super) fn perform(&mut self) {
        self.shard.finish_turn(self.now, &mut self.effects);
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        // Nothing that is carried out decides anything: the buffer is handed back empty.
        assert!(
            self.effects.is_empty(),
            "effects are carried out, not made, here"
        );
        self.effects = effects;
        self.waits
            .on_log_left(self.shard.log().is_waiting(), self.now);
        self.step_into_log();
        self.send_acks();
        self.create_all();
        self.pulse.enter(Phase::Reply);
        let mut answers = std::mem::take(&mut self.held.answers);
        for answer in answers.drain(..) {
            match answer {
                Answer::Reply(ticket, decree) => self.reply(ticket, decree),
                Answer::Reject(ticket, reason) => self.reject(ticket, reason),
            }
        }
        // Kept for its memory; what answers may have left behind is the next turn's.
        answers.append(&mut self.held.answers);
        self.held.answers = answers;
    }

    /// Writes of this turn are in the log; the writes to the disk have taken what they could.
    fn step_into_log(&mut self) {
        let (stats, stamp) = (&mut self.stats, self.stamp);
        let taken = self.shard.log().taken_count();
        let step = |trace, stage| stats.admitted(trace, stage, stamp);
        self.waits.on_log_taken(taken, step);
    }

    /// The trace of the client's request that waits for a mutation, if one does.
    fn trace_of(&mut self, partition: PartitionId, decree: Decree) -> TraceId {
        if !self.stats.measures_stages() {
            return TraceId::NONE;
        }
        let replica = self.shard.replica(partition);
        replica
            .and_then(|replica| replica.waiting_ticket(decree))
            .and_then(|ticket| self.requests.get_mut(ticket))
            .map_or(TraceId::NONE, |pending| pending.measure.trace)
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::WriteLog(write) => self.write_log(&write),
            Effect::Send { to, message } => self.send(to, &message),
            Effect::Apply { partition, entry } => {
                let trace = self.trace_of(partition, entry.decree);
                // Whatever has completed the commit was found when the turn began.
                self.stats.enter(trace, Stage::Apply, self.now);
                self.engine_work.apply(partition, entry, trace);
            }
            Effect::Read { ticket, .. } => {
                if let Some(pending) = self.requests.get_mut(ticket) {
                    self.stats
                        .admitted(pending.measure.trace, Stage::Read, self.stamp);
                }
                self.engine_work.read(ticket);
            }
            Effect::Reply { ticket, decree } => {
                self.held.answers.push(Answer::Reply(ticket, decree))
            }
            Effect::Reject { ticket, reason } => {
                self.held.answers.push(Answer::Reject(ticket, reason))
            }
            Effect::PrepareSegment { segment } => {
                let core = usize::from(self.address.core.0);
                self.outbox
                    .segment(BackgroundJob::Prepare { core, segment });
            }
            Effect::FreeSegment { segment } => {
                let core = usize::from(self.address.core.0);
                self.files.remove(segment);
                self.stats.count(Counter::LogSegmentsFreed);
                self.outbox.segment(BackgroundJob::Free { core, segment });
            }
            Effect::Propose {
                partition,
                incarnation,
                ballot,
                proposal,
            } => {
                let key = ReplicaKey {
                    partition,
                    incarnation,
                };
                self.outbox.propose(Wish {
                    key,
                    ballot,
                    proposal,
                });
            }
            Effect::FetchLog {
                partition,
                incarnation,
                source,
                from,
                to,
            } => self.fetch_log(partition, incarnation, source, from, to),
            Effect::FetchCheckpoint {
                partition,
                incarnation,
                source,
            } => self.fetch_checkpoint(partition, incarnation, source),
            Effect::Create {
                partition,
                incarnation,
            } => self.held.creates.push((partition, incarnation)),
            Effect::Flush { partition } => self.flush(partition),
            Effect::Remove {
                partition,
                incarnation,
            } => self.remove(partition, incarnation),
            Effect::Quarantine { partition, reason } => self.quarantine(partition, reason),
            Effect::MemberLost {
                partition,
                member,
                reason,
            } => {
                tracing::error!(%partition, member = %member.address, reason, "a member lacks what it had acknowledged");
            }
        }
    }

    fn write_log(&mut self, write: &LogWrite) {
        self.pulse.enter(Phase::WriteLog);
        self.stats.count(Counter::LogWrites);
        self.stats.add(Counter::LogBytes, write.bytes.len() as u64);
        self.waits.on_log_write(write.id, self.now);
        self.files.write(&mut self.io, write);
        self.has_queued_io = true;
    }

    fn send(&mut self, to: CoreAddress, message: &Message) {
        self.pulse.enter(Phase::Send);
        if let Message::PrepareAck(ack) = message {
            self.held.acks.entry(to).or_default().push(*ack);
            return;
        }
        // What was acknowledged before goes before.
        self.send_acks_to(to);
        match message {
            Message::Prepare(prepare) => {
                let partition = prepare.configuration.partition;
                self.waits
                    .on_prepare(to, partition, prepare.entry.decree, self.now);
                self.stats.count(Counter::PreparesSent);
            }
            Message::PrepareReject(_) => self.stats.count(Counter::PreparesRejected),
            Message::Beacon(_) => self.stats.count(Counter::BeaconsSent),
            Message::PrepareAck(_)
            | Message::BeaconAck(_)
            | Message::LearnRequest(_)
            | Message::LearnReply(_)
            | Message::Yield(_) => {}
        }
        self.peers.want(to, &self.directory, &mut self.io);
        let (kind, body) = wire::encode(&mut self.builder, message);
        self.stats.add(Counter::PeerBytesSent, body.len() as u64);
        // Without a link it is dropped: the replication core has been or will be told.
        let _ = self.io.send_peer(peer_id(to), kind, body);
        self.has_queued_io = true;
    }

    fn send_acks(&mut self) {
        while let Some((to, _)) = self.held.acks.first_key_value() {
            self.send_acks_to(*to);
        }
    }

    fn send_acks_to(&mut self, to: CoreAddress) {
        if let Some(acks) = self.held.acks.remove(&to) {
            let (kind, body) = wire::encode_acks(&mut self.builder, &acks);
            self.stats.add(Counter::PeerBytesSent, body.len() as u64);
            let _ = self.io.send_peer(peer_id(to), kind, body);
            self.has_queued_io = true;
        }
    }

    /// All replicas of this turn in one call: RocksDB rewrites its options once, not once for each.
    fn create_all(&mut self) {
        let mut replicas = std::mem::take(&mut self.held.creates);
        let core = self.address.core;
        replicas.retain(|&(partition, incarnation)| {
            let key = ReplicaKey {
                partition,
                incarnation,
            };
            !self.backups.takes_over(core, key)
        });
        if replicas.is_empty() {
            return;
        }
        let store = self.store.clone();
        self.outbox.upkeep(Box::new(move |done| {
            let results = store.create(&replicas);
            for ((partition, incarnation), result) in replicas.into_iter().zip(results) {
                let result = result
                    .map(|()| Decree::ZERO)
                    .map_err(|error| error.to_string());
                done(PoolDone::Created {
                    partition,
                    incarnation,
                    result,
                });
            }
        }));
    }

    /// Writes the marker and hands the flush to the pool; `Flushed` follows with what is durable then.
    pub(super) fn flush(&mut self, partition: PartitionId) {
        let Some(incarnation) = self.shard.replica(partition).map(Replica::incarnation) else {
            return;
        };
        if let Err(error) = self.engine.begin_flush(partition) {
            tracing::debug!(%partition, %error, "flush without a marker of its own");
        }
        let store = self.store.clone();
        self.outbox.upkeep(Box::new(move |done| {
            let result = store
                .flush(partition)
                .map(|marker| marker.decree)
                .map_err(|error| error.to_string());
            done(PoolDone::Flushed {
                partition,
                incarnation,
                result,
            });
        }));
    }

    fn remove(&mut self, partition: PartitionId, incarnation: ReplicaIncarnation) {
        self.engine.forget(partition);
        self.engine_work.forget(partition);
        self.forget_learning(partition);
        let store = self.store.clone();
        self.outbox.upkeep(Box::new(move |done| {
            let result = store
                .drop_replica(partition, incarnation)
                .map_err(|error| error.to_string());
            done(PoolDone::Removed {
                partition,
                incarnation,
                result,
            });
        }));
    }

    fn quarantine(&mut self, partition: PartitionId, reason: String) {
        tracing::error!(%partition, reason, "replica is out of service until it is rebuilt");
        self.engine_work.forget(partition);
        self.forget_learning(partition);
        self.reports.watch(partition);
        // Its files are kept as they are; a log that failed says nothing about them.
        if self.shard.failure().is_none() {
            let store = self.store.clone();
            self.outbox.upkeep(Box::new(move |_| {
                if let Err(error) = store.quarantine(partition, &reason) {
                    tracing::debug!(%partition, %error, "no storage to take out of use");
                }
            }));
        }
    }

    fn is_here(&self, partition: PartitionId, incarnation: ReplicaIncarnation) -> bool {
        let replica = self.shard.replica(partition);
        replica.is_some_and(|replica| replica.incarnation() == incarnation)
    }

    /// What a job of this core on the engine pool came to.
    pub(super) fn on_pool(&mut self, done: PoolDone) {
        match done {
            PoolDone::Created {
                partition,
                incarnation,
                result: Ok(decree),
            } => {
                self.decide(Event::Created {
                    partition,
                    incarnation,
                    decree,
                });
            }
            PoolDone::Created {
                partition,
                result: Err(error),
                ..
            } => {
                self.decide(Event::ReplicaFailed { partition, error });
            }
            PoolDone::Removed {
                partition,
                incarnation,
                result,
            } => {
                if let Err(error) = result {
                    tracing::error!(%partition, error, "storage of a dropped replica is still there");
                }
                self.outbox.report(
                    ReplicaKey {
                        partition,
                        incarnation,
                    },
                    report::gone(),
                );
            }
            // The replica was dropped meanwhile, and another one of the partition has taken its place.
            PoolDone::Flushed {
                partition,
                incarnation,
                ..
            } if !self.is_here(partition, incarnation) => {
                tracing::debug!(%partition, %incarnation, "a flush of a replica that is gone");
            }
            PoolDone::Flushed {
                partition,
                result: Ok(decree),
                ..
            }
            | PoolDone::Durable { partition, decree } => {
                // Of the storage that is being put in the place of what the replica knows: told by its installation.
                if self.learning.is_installing(partition) {
                    return;
                }
                self.engine.end_flush(partition, decree);
                self.decide(Event::Flushed { partition, decree });
            }
            PoolDone::Flushed {
                partition,
                result: Err(error),
                ..
            } => {
                tracing::warn!(%partition, error, "flush failed");
                self.engine.abort_flush(partition);
            }
            PoolDone::Damaged { partition, error } => {
                self.decide(Event::ReplicaFailed { partition, error })
            }
            PoolDone::Computed { compute, outcome } => self.on_compute_outcome(compute, *outcome),
            PoolDone::Read { ticket, outcome } => self.on_read_outcome(ticket, outcome),
            PoolDone::Installed {
                job,
                partition,
                installed,
            } => self.on_installed(job, partition, installed),
        }
    }
}

pub(super) const fn peer_id(core: CoreAddress) -> PeerId {
    PeerId {
        node: core.node.0,
        core: core.core.0,
    }
}
