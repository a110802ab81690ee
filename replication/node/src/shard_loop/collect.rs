//! What has happened since the last turn: from the ring, the other cores, the other threads, the clock; at most so much.

use super::answer::MeshMessage;
use super::requests::Origin;
use super::{ShardLoop, report};
use crate::inbox::CoreInput;
use crate::meta_link::ReplicaKey;
use crate::route_relay::{RouteAnswer, RouteAsker};
use crate::stall::Phase;
use crate::transfer::LogStartRequest;
use crate::wire;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::stats_page::{Counter, Stage, Timing};
use pegasus_net::request::Response;
use pegasus_net::{IoEvent, PeerId};
use pegasus_replication::config::{self, Configuration, Member};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{Ballot, CoreAddress, CoreId, NodeId};
use pegasus_replication::log::LogWriteId;
use pegasus_replication::message::Message;
use pegasus_replication::replica::Replica;
use std::io;

/// Inputs of each kind taken in one turn.
const INPUTS_PER_TURN: usize = 64;

impl ShardLoop {
    /// What the ring has reported.
    pub(super) fn collect_io(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for (at, event) in events.iter_mut().enumerate() {
            if !self.keep_quick(at, event) {
                self.on_io(std::mem::replace(event, IoEvent::Woken));
            }
        }
        self.answer_quick(&mut events);
        events.clear();
        self.events = events;
    }

    /// What the other cores, the other threads and the clock say.
    pub(super) fn collect(&mut self) {
        self.pulse.enter(Phase::Mesh);
        for _ in 0..INPUTS_PER_TURN {
            let Some(message) = self.mesh.receive() else {
                break;
            };
            self.on_mesh(message);
        }
        self.pulse.enter(Phase::Control);
        for _ in 0..INPUTS_PER_TURN {
            let Ok(input) = self.inbox.try_recv() else {
                break;
            };
            self.on_input(input);
        }
        self.pulse.enter(Phase::Timer);
        if self
            .shard
            .deadline()
            .is_some_and(|deadline| deadline <= self.now)
        {
            self.decide(Event::Timeout);
        }
    }

    pub(super) fn on_io(&mut self, event: IoEvent) {
        match event {
            IoEvent::LogWritten { id, result } => self.on_log_written(LogWriteId(id), result),
            IoEvent::Request {
                from,
                request,
                arrival,
            } => {
                self.pulse.enter(Phase::Request);
                self.take_request(from, request, arrival);
            }
            IoEvent::PeerFrame { from, kind, body } => {
                self.pulse.enter(Phase::PeerMessage);
                self.on_peer_frame(from, kind, &body);
            }
            IoEvent::PeerUp {
                peer,
                node_incarnation,
            } => {
                tracing::info!(%peer, node_incarnation, core = self.address.core.0, "link to peer is up");
                self.decide(Event::PeerUp {
                    peer: core_address(peer),
                });
            }
            IoEvent::PeerDown { peer, reason } => {
                tracing::info!(%peer, reason = reason.name(), core = self.address.core.0, "link to peer is down");
                self.stats.count(Counter::PeerLinksLost);
                self.waits.on_peer_down(core_address(peer));
                self.on_forward_lost(core_address(peer));
                self.decide(Event::PeerDown {
                    peer: core_address(peer),
                });
            }
            IoEvent::PeerRefused { peer } => self.decide(Event::PeerRefused {
                peer: core_address(peer),
            }),
            IoEvent::Woken => {}
        }
    }

    fn on_log_written(&mut self, write: LogWriteId, result: io::Result<()>) {
        self.pulse.enter(Phase::LogCompletion);
        let (stats, now) = (&mut self.stats, self.now);
        let durable = |trace| stats.enter(trace, Stage::Replication, now);
        if let Some(times) = self.waits.on_log_written(write, durable) {
            self.stats
                .record(Timing::LogFlush, self.now.since(times.started));
            self.stats
                .record(Timing::LogAppend, self.now.since(times.appended));
        }
        match result {
            Ok(()) => {
                self.stats.count(Counter::LogFlushes);
                self.decide(Event::LogDurable { write });
            }
            Err(error) => {
                // What is on disk now is unknown, and writing the same bytes again could hide that.
                self.waits.on_log_failed();
                tracing::error!(core = self.address.core.0, %error, "the log has failed, this core serves no more");
                self.decide(Event::LogFailed {
                    error: error.to_string(),
                });
            }
        }
    }

    fn on_peer_frame(&mut self, from: PeerId, kind: FrameKind, body: &bytes::Bytes) {
        let from_core = core_address(from);
        match kind {
            FrameKind::Forward => return self.on_forward(from_core, body),
            FrameKind::ForwardReply => return self.on_forward_reply(from_core, body),
            _ => {}
        }
        let (now, shard, effects) = (self.now, &mut self.shard, &mut self.effects);
        let (stats, waits) = (&mut self.stats, &mut self.waits);
        let (mut prepares, mut beacons) = (0, 0);
        let decoded = wire::decode(kind, body, |message| {
            prepares += u64::from(matches!(message, Message::Prepare(_)));
            beacons += u64::from(matches!(message, Message::Beacon(_)));
            if let Message::PrepareAck(ack) = &message
                && let Some(sent) = waits.on_ack(from_core, ack.partition, ack.prepared)
            {
                stats.record(Timing::SecondaryAck, now.since(sent));
            }
            shard.handle(
                now,
                Event::Message {
                    from: from_core,
                    message,
                },
                effects,
            );
        });
        self.stats.add(Counter::PreparesReceived, prepares);
        self.stats.add(Counter::BeaconsReceived, beacons);
        self.stats
            .add(Counter::PeerBytesReceived, body.len() as u64);
        if let Err(error) = decoded {
            tracing::error!(peer = %from, %error, "peer sent what is not a message");
        }
    }

    fn on_mesh(&mut self, message: MeshMessage) {
        match message {
            MeshMessage::Request {
                from,
                to,
                request,
                arrival,
            } => self.take_handed_over(from, to, request, arrival),
            MeshMessage::Reply { to, reply } => self.io.reply(to, &reply),
            MeshMessage::Part { from, part, asked } => {
                self.admit_part(Origin::CorePart { core: from, part }, asked);
            }
            MeshMessage::PartReply { part, reply } => self.on_part(part, reply),
        }
    }

    fn on_input(&mut self, input: CoreInput) {
        match input {
            CoreInput::Configured(configuration) => {
                let partition = configuration.partition;
                self.note_configuration(&configuration);
                self.decide(Event::Configured { configuration });
                self.reports.watch(partition);
            }
            CoreInput::LearnerAssigned {
                configuration,
                learner,
                is_fresh,
            } => self.on_learner_assigned(configuration, learner, is_fresh),
            CoreInput::HandOver {
                partition,
                ballot,
                to,
            } => self.decide(Event::HandOver {
                partition,
                ballot,
                to,
            }),
            CoreInput::Flush { partition } => self.flush(partition),
            CoreInput::Export(request) => self.export(request),
            CoreInput::LayOut(request) => self.lay_out(request),
            CoreInput::LogStart(LogStartRequest { ranges, answer }) => {
                // Nobody waits for it any more if it cannot be sent.
                let _ = answer.send(self.shard.log().suffix_start(&ranges));
            }
            CoreInput::Fetched(fetched) => self.on_fetched(fetched),
            CoreInput::Dropped {
                partition,
                incarnation,
            } => self.decide(Event::Dropped {
                partition,
                incarnation,
            }),
            CoreInput::Directory(directory) => {
                self.directory = directory;
                self.throttling.update(&self.directory);
                self.stats.update_slow(&self.directory);
                self.peers.update(&self.directory, &mut self.io);
                self.check_redis_tables();
            }
            CoreInput::Pool(done) => {
                self.pulse.enter(Phase::PoolResult);
                self.on_pool(done);
            }
            CoreInput::Segment(ready) => {
                let segment = ready.segment;
                self.is_without_segment = false;
                self.stats.count(Counter::LogSegmentsPrepared);
                self.files.add(ready);
                self.decide(Event::SegmentReady { segment });
            }
            CoreInput::SegmentFailed { .. } => self.is_without_segment = true,
            CoreInput::Disk {
                pressure,
                total,
                free,
            } => self.on_disk(pressure, total, free),
            CoreInput::Route(answer) => self.on_route(answer),
            CoreInput::Stats(answer) => self.io.reply(answer.to, &answer.reply),
            CoreInput::Stop => {
                self.stop_at = Some(self.now.after(super::STOP_TIME));
                self.asked_at = self.now;
                self.quiet_by = self.now.after(super::QUIET_MAX);
            }
        }
    }
}

impl ShardLoop {
    fn on_route(&mut self, answer: RouteAnswer) {
        match (answer.to, answer.reply) {
            (RouteAsker::Client(to), reply) => self.io.reply(to, &reply),
            (RouteAsker::Core, Ok(Response::Route(route))) => {
                self.on_redis_route(&answer.table_name, Ok(route));
            }
            (RouteAsker::Core, Err(failure)) => {
                self.on_redis_route(&answer.table_name, Err(failure));
            }
            (RouteAsker::Core, Ok(_)) => {}
        }
    }

    /// A copy that was to come back and is gone by now is not made anew under its old name, of which the log may still speak:
    /// meta is told that it is gone.
    fn on_learner_assigned(
        &mut self,
        configuration: Configuration,
        learner: Option<Member>,
        is_fresh: bool,
    ) {
        let partition = configuration.partition;
        let here = learner.filter(|member| member.address == self.address);
        if let (Some(member), false, None) = (here, is_fresh, self.shard.replica(partition)) {
            let incarnation = member.incarnation;
            let key = ReplicaKey {
                partition,
                incarnation,
            };
            self.outbox.report(key, report::gone());
            return;
        }
        self.decide(Event::LearnerAssigned {
            configuration,
            learner,
            is_fresh,
        });
        self.reports.watch(partition);
    }

    /// Says what a newer ballot makes of the replica here.
    fn note_configuration(&self, configuration: &Configuration) {
        let known = self.shard.replica(configuration.partition);
        let before = known.map_or(Ballot::NONE, Replica::ballot);
        if configuration.ballot <= before || configuration.stage == config::Stage::Creating {
            return;
        }
        let own = Some(self.address);
        let primary = configuration.primary.map(|member| member.address);
        let is_secondary = |member: &Member| Some(member.address) == own;
        let role = if primary == own {
            "primary"
        } else if configuration.secondaries.iter().any(is_secondary) {
            "secondary"
        } else {
            "none"
        };
        tracing::info!(
            partition = %configuration.partition, ballot = %configuration.ballot, core = self.address.core.0, role,
            members = configuration.members().count(), "configuration"
        );
    }
}

const fn core_address(peer: PeerId) -> CoreAddress {
    CoreAddress {
        node: NodeId(peer.node),
        core: CoreId(peer.core),
    }
}
