//! Answers: from decisions of the replication core to what a client reads, on this core or back over the mesh.

use super::ShardLoop;
use super::atomic::with_decree;
use super::redis::{Asked, PartId, value_of};
use super::refusal;
use super::requests::{Measure, Origin, Pending, Work};
use crate::clock;
use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{Counter, PartitionCounter, PartitionSlot};
use pegasus_net::request::{Failure, NextPage, OpenScanner, Reply, Response};
use pegasus_net::{Arrival, ReplyTo};
use pegasus_replication::event::{BusyReason, Reject};
use pegasus_replication::ids::{Decree, PartitionId, Ticket};
use pegasus_resp::Value;

/// What cores of a node hand each other.
#[derive(Debug)]
pub enum MeshMessage {
    /// A request that arrived on the wrong core.
    Request {
        from: usize,
        to: ReplyTo,
        request: pegasus_net::request::Request,
        arrival: Arrival,
    },
    /// Its answer.
    Reply { to: ReplyTo, reply: Reply },
    /// A part of a Redis command, for rows of this core.
    Part {
        from: usize,
        part: PartId,
        asked: Asked,
    },
    /// Its answer.
    PartReply {
        part: PartId,
        reply: Result<Value, Failure>,
    },
}

impl ShardLoop {
    /// The mutation is committed and applied, or the read may be answered.
    pub(super) fn reply(&mut self, ticket: Ticket, decree: Decree) {
        let Some(Pending {
            origin,
            partition,
            measure,
            work,
            scanner,
            ..
        }) = self.requests.remove(ticket)
        else {
            return;
        };
        let reply = match work {
            Work::Write { count, rows, bytes } => {
                self.count_written(measure, rows, bytes);
                Ok(Response::Written {
                    decree: decree.0,
                    count,
                })
            }
            Work::Stored { bytes } => {
                self.count_written(measure, 1, bytes);
                Ok(Response::Redis(pegasus_redis::answer::ok()))
            }
            Work::Answered(reply) => match scanner {
                Some(scanner) => self.keep_scanner(partition, *scanner, reply),
                None => self.with_cursor(partition, reply),
            },
            Work::Computed { reply, rows, bytes } => {
                self.count_written(measure, rows, bytes);
                (*reply).map(|response| with_decree(response, decree))
            }
            Work::Read(_) | Work::Atomic(_) | Work::Away => Err(Failure::new(
                Code::Internal,
                "a request was released before it had an answer",
            )),
        };
        self.send_answer(origin, measure, reply);
    }

    fn count_written(&mut self, measure: Measure, rows: usize, bytes: usize) {
        self.stats.add(Counter::RowsWritten, rows as u64);
        self.stats.add(Counter::BytesWritten, bytes as u64);
        let slot = measure.slot;
        self.stats
            .add_of(slot, PartitionCounter::RowsWritten, rows as u64);
        self.stats
            .add_of(slot, PartitionCounter::BytesWritten, bytes as u64);
        self.stats.set_bytes(measure.trace, bytes as u64);
    }

    /// A page of which more follow gets a number for the next one.
    fn keep_scanner(
        &mut self,
        partition: PartitionId,
        scanner: OpenScanner,
        mut reply: Reply,
    ) -> Reply {
        if let Ok(Response::Page(page)) = &mut reply
            && let NextPage::After(start_key) = &page.next
        {
            let rest = OpenScanner {
                start_key: start_key.clone(),
                start_inclusive: false,
                ..scanner
            };
            page.next = NextPage::Context(self.scanners.keep(self.now, partition, &rest));
        }
        reply
    }

    /// Not served, and why.
    pub(super) fn reject(&mut self, ticket: Ticket, reason: Reject) {
        let Some(Pending {
            origin,
            partition,
            measure,
            ..
        }) = self.requests.remove(ticket)
        else {
            return;
        };
        if let Reject::Busy { reason, .. } = reason {
            self.stats.count(counter_of(reason));
        }
        let failure = refusal::failure_of(reason, partition, &self.shard, &self.directory);
        self.send_answer(origin, measure, Err(failure));
    }

    /// Sends an answer and counts it on the core that has the connection.
    pub(super) fn send_answer(&mut self, origin: Origin, measure: Measure, reply: Reply) {
        let code = reply
            .as_ref()
            .map_or_else(|failure| failure.code, |_| Code::Ok);
        if !matches!(code, Code::Ok | Code::NotFound) {
            self.count_failure(measure.slot, code);
        }
        if !self.stats.measures_stages()
            && let Some(timing) = measure.timing
        {
            // Read again: most answers leave in the turn in which their request came.
            let elapsed = clock::now().since(measure.received);
            self.stats.record(timing, elapsed);
        }
        match origin {
            Origin::Here(to) => match self.stats.answered(measure.trace, code, self.stamp) {
                Some(receipt) => {
                    if self.stats.may_be_slow(measure.received, self.stamp) {
                        self.stats.note_client(receipt, self.io.client_of(&to));
                    }
                    self.io.reply_with_receipt(to, &reply, receipt);
                }
                None => self.io.reply(to, &reply),
            },
            Origin::Direct(direct) => {
                self.stats.handed_back(measure.trace, code, self.stamp);
                self.on_direct(direct, reply);
            }
            Origin::Part(part) => {
                self.stats.handed_back(measure.trace, code, self.stamp);
                self.on_part(part, value_of(reply));
            }
            Origin::CorePart { core, part } => {
                self.stats.handed_back(measure.trace, code, self.stamp);
                let reply = value_of(reply);
                let message = MeshMessage::PartReply { part, reply };
                self.outbox.mesh(core, message);
            }
            Origin::Peer { core, id } => {
                self.stats.handed_back(measure.trace, code, self.stamp);
                self.answer_peer(core, id, reply);
            }
            Origin::Core { core, to } => {
                self.stats.handed_back(measure.trace, code, self.stamp);
                self.outbox.mesh(core, MeshMessage::Reply { to, reply });
            }
        }
    }

    fn count_failure(&mut self, slot: PartitionSlot, code: Code) {
        self.stats.add_of(slot, PartitionCounter::Failures, 1);
        if code == Code::Busy {
            self.stats.add_of(slot, PartitionCounter::Busy, 1);
        }
    }

    /// Refuses a request before the replication core has seen it. Never executed.
    pub(super) fn refuse(&mut self, origin: Origin, measure: Measure, failure: Failure) {
        self.send_answer(origin, measure, Err(failure));
    }

    /// Over a bound of the node: come back in a moment.
    pub(super) fn busy(&mut self, counter: Counter, what: &str) -> Failure {
        self.stats.count(counter);
        Failure {
            retry_after_ms: BUSY_RETRY_MS,
            ..Failure::new(Code::Busy, what)
        }
    }
}

const BUSY_RETRY_MS: u32 = 5;

const fn counter_of(reason: BusyReason) -> Counter {
    match reason {
        BusyReason::Engine => Counter::RejectEngine,
        BusyReason::PreparesInflight => Counter::RejectPrepareInflight,
        BusyReason::ApplyQueue => Counter::RejectApplyQueue,
        BusyReason::LogPending => Counter::RejectLogPending,
        BusyReason::LogFull => Counter::RejectLogFull,
        BusyReason::PeerWindow => Counter::RejectPeerWindow,
        BusyReason::Reads => Counter::RejectReadQueue,
        BusyReason::Gate => Counter::RejectGate,
        BusyReason::HandOver => Counter::RejectHandOver,
    }
}
