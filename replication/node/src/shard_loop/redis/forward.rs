//! Parts for other cores of the node, over the mesh, and for other nodes, over the link of the two cores.

use super::{ANSWER_GRACE, Asked, Due, PartId};
use crate::forward::{Answer, Question};
use crate::shard_loop::ShardLoop;
use crate::shard_loop::answer::MeshMessage;
use crate::shard_loop::perform::peer_id;
use crate::shard_loop::requests::Origin;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::stats_page::Counter;
use pegasus_net::request::{Failure, Reply, Response};
use pegasus_replication::ids::{CoreAddress, Instant};
use std::collections::HashMap;
use std::sync::Arc;

/// Questions to other nodes without an answer, for each core.
const AWAY_MAX: usize = 16_384;
/// Bytes queued towards a core of another node, beyond which nothing is forwarded to it: replication goes first.
const QUEUED_BYTES_MAX: usize = 4 << 20;

/// Questions to other nodes without an answer.
#[derive(Debug, Default)]
pub(super) struct Away {
    questions: HashMap<u64, OnTheWay>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct OnTheWay {
    part: PartId,
    to: CoreAddress,
    timer: (Instant, u64),
}

impl ShardLoop {
    pub(super) fn ask_core(&mut self, core: CoreAddress, part: PartId, asked: Asked) {
        self.stats.count(Counter::MeshForwarded);
        let from = usize::from(self.address.core.0);
        let message = MeshMessage::Part { from, part, asked };
        // Behind those that found the ring full; bounded by the commands in work and their parts.
        self.outbox.mesh(usize::from(core.core.0), message);
    }

    pub(super) fn ask_node(&mut self, core: CoreAddress, part: PartId, asked: &Asked) {
        self.peers.want(core, &self.directory, &mut self.io);
        if !self.io.is_peer_up(peer_id(core)) {
            let message = format!("no link to node {} core {}", core.node, core.core);
            return self.fail_part(part, Failure::new(Code::NotServing, message));
        }
        let is_full = self.redis.away.questions.len() >= AWAY_MAX
            || self.io.peer_queued_bytes(peer_id(core)) >= QUEUED_BYTES_MAX;
        if is_full {
            let failure = self.busy(
                Counter::RejectPeerWindow,
                "too much is on its way to the owning core",
            );
            return self.fail_part(part, failure);
        }
        let id = self.redis.away.next;
        self.redis.away.next += 1;
        let question = Question {
            id,
            partition: asked.partition,
            timeout: asked.deadline.since(self.now),
            calls: (*asked.calls).clone(),
        };
        let body = question.encode();
        if self
            .io
            .send_peer(peer_id(core), FrameKind::Forward, &body)
            .is_err()
        {
            let message = format!("no link to node {} core {}", core.node, core.core);
            return self.fail_part(part, Failure::new(Code::NotServing, message));
        }
        self.has_queued_io = true;
        let timer = self
            .redis
            .at(asked.deadline.after(ANSWER_GRACE), Due::Silence(id));
        let way = OnTheWay {
            part,
            to: core,
            timer,
        };
        self.redis.away.questions.insert(id, way);
    }

    /// A core of another node asks for rows that it believes to be here.
    pub(in crate::shard_loop) fn on_forward(&mut self, from: CoreAddress, body: &[u8]) {
        let question = match Question::decode(body) {
            Ok(question) => question,
            Err(error) => {
                tracing::error!(peer = %peer_id(from), %error, "peer sent what is no question");
                return;
            }
        };
        let asked = Asked {
            partition: question.partition,
            calls: Arc::new(question.calls),
            received: self.now,
            deadline: self.now.after(question.timeout),
        };
        let id = question.id;
        self.admit_part(Origin::Peer { core: from, id }, asked);
    }

    /// The answer to a part of another node's client.
    pub(in crate::shard_loop) fn answer_peer(&mut self, core: CoreAddress, id: u64, reply: Reply) {
        let reply = value_of(reply);
        let body = Answer { id, reply }.encode();
        // Without a link there is nobody who waits: the other side has noticed, too.
        let _ = self
            .io
            .send_peer(peer_id(core), FrameKind::ForwardReply, &body);
        self.has_queued_io = true;
    }

    /// A core of another node has answered.
    pub(in crate::shard_loop) fn on_forward_reply(&mut self, from: CoreAddress, body: &[u8]) {
        let answer = match Answer::decode(body) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(peer = %peer_id(from), %error, "peer sent what is no answer");
                return;
            }
        };
        let questions = &mut self.redis.away.questions;
        if questions.get(&answer.id).is_some_and(|way| way.to == from)
            && let Some(way) = questions.remove(&answer.id)
        {
            self.redis.timers.remove(&way.timer);
            self.on_part(way.part, answer.reply);
        }
    }

    /// The link is gone, and with it what was on its way: nobody knows what became of it.
    pub(in crate::shard_loop) fn on_forward_lost(&mut self, peer: CoreAddress) {
        let questions = &mut self.redis.away.questions;
        let lost: Vec<(u64, OnTheWay)> = questions
            .iter()
            .filter(|(_, way)| way.to == peer)
            .map(|(id, way)| (*id, *way))
            .collect();
        for (id, way) in lost {
            self.redis.away.questions.remove(&id);
            self.redis.timers.remove(&way.timer);
            let message = format!("the link to node {} core {} broke", peer.node, peer.core);
            self.fail_part(way.part, Failure::new(Code::Unknown, message));
        }
    }

    pub(super) fn on_silence(&mut self, question: u64) {
        if let Some(way) = self.redis.away.questions.remove(&question) {
            let message = format!("node {} core {} does not answer", way.to.node, way.to.core);
            self.fail_part(way.part, Failure::new(Code::Unknown, message));
        }
    }
}

/// The answer of a part, which is a Redis value.
pub(in crate::shard_loop) fn value_of(reply: Reply) -> Result<pegasus_resp::Value, Failure> {
    match reply? {
        Response::Redis(value) => Ok(value),
        _ => Err(Failure::new(
            Code::Internal,
            "an answer of another protocol",
        )),
    }
}
