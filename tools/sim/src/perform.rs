//! Carries out the effects of a shard, as the node does.

use crate::action::{Action, Operation, Reply, RequestNumber};
use crate::clients::{partition_of, raw_key};
use crate::history::Violation;
use crate::transfer::Wanted;
use crate::world::World;
use pegasus_engine::{Engine, Tier};
use pegasus_replication::event::{Effect, Event, Reject};
use pegasus_replication::ids::{CoreAddress, Decree, PartitionId, Ticket};
use pegasus_replication::log::SegmentId;
use pegasus_replication::message::Message;
use pegasus_replication::shard::Shard;
use std::ops::Range;
use std::time::Duration;

const SEGMENT_DELAY: Range<Duration> = Duration::from_millis(1)..Duration::from_millis(30);
const CREATE_DELAY: Range<Duration> = Duration::from_micros(200)..Duration::from_millis(40);
const READ_DELAY: Range<Duration> = Duration::from_micros(1)..Duration::from_millis(2);
const SLOW_READ_DELAY: Range<Duration> = Duration::from_millis(50)..Duration::from_secs(2);

impl World {
    pub(crate) fn perform(
        &mut self,
        address: CoreAddress,
        effect: Effect,
    ) -> Result<(), Violation> {
        if self.trace {
            crate::trace::effect(self.now, address, &effect);
        }
        match effect {
            Effect::WriteLog(write) => self.write_log(address, write),
            Effect::PrepareSegment { segment } => self.prepare_segment(address, segment),
            Effect::FreeSegment { segment } => self.core_mut(address).disk.free(segment),
            Effect::Send { to, message } => self.send(address, to, message),
            Effect::Apply { partition, entry } => self.apply(address, partition, entry)?,
            Effect::Read { partition, ticket } => self.read(address, partition, ticket),
            Effect::Reply { ticket, decree } => self.reply(address, ticket, decree)?,
            Effect::Reject { ticket, reason } => self.reject(address, ticket, reason),
            Effect::Propose {
                partition,
                incarnation,
                ballot,
                proposal,
            } => self.propose(address, partition, incarnation, ballot, &proposal),
            Effect::FetchLog {
                partition,
                incarnation,
                source,
                from,
                to,
            } => {
                let wanted = Wanted::Log { from, to };
                self.fetch(address, partition, incarnation, source, wanted);
            }
            Effect::FetchCheckpoint {
                partition,
                incarnation,
                source,
            } => self.fetch(address, partition, incarnation, source, Wanted::Checkpoint),
            Effect::Create {
                partition,
                incarnation,
            } => {
                self.core_mut(address).engine.create(partition, incarnation);
                let delay = self.random.engine.delay(CREATE_DELAY);
                let created = Event::Created {
                    partition,
                    incarnation,
                    decree: Decree::ZERO,
                };
                self.later(address, delay, created);
            }
            Effect::Flush { partition } => self.begin_engine_flush(address, partition),
            Effect::Remove {
                partition,
                incarnation,
            } => {
                let core = self.core_mut(address);
                core.engine.drop_replica(partition, incarnation);
                core.damaged.remove(&(partition, incarnation));
                core.fetches.remove(&partition);
                core.waiting.retain(|(of, _)| *of != partition);
            }
            Effect::Quarantine { partition, reason } => {
                if !self.may_quarantine(address, partition) {
                    self.judge(Err(Violation::invariant(format!(
                        "{address} quarantines {partition}: {reason}"
                    ))))?;
                }
                self.core_mut(address).fetches.remove(&partition);
                self.totals.coverage.note("quarantine");
            }
            Effect::MemberLost {
                partition,
                member,
                reason,
            } => {
                self.judge(Err(Violation::invariant(format!(
                    "{address} gives up {member:?} of {partition}: {reason}"
                ))))?;
            }
        }
        Ok(())
    }

    /// A core whose log has failed takes nothing new, a damaged replica is kept out of service, and a copy outside of the
    /// configuration may be of no use any more.
    fn may_quarantine(&self, address: CoreAddress, partition: PartitionId) -> bool {
        let core = self.core(address);
        let has_failed = |shard: &Shard| shard.failure().is_some();
        let is_damaged = core.damaged.iter().any(|(of, _)| *of == partition);
        let has_failed = core.shard.as_ref().is_some_and(has_failed);
        is_damaged || has_failed || !self.is_member(address, partition)
    }

    /// Whether meta counts on a copy here.
    pub(crate) fn is_member(&self, address: CoreAddress, partition: PartitionId) -> bool {
        let configuration = self.configuration(partition);
        let mut members = configuration.iter().flat_map(|it| it.members());
        members.any(|member| member.address == address)
    }

    fn prepare_segment(&mut self, address: CoreAddress, segment: SegmentId) {
        let bytes = usize::try_from(self.scenario.log.segment_bytes).expect("segments are small");
        let delay = self.random.disk.delay(SEGMENT_DELAY);
        self.core_mut(address).disk.prepare(segment, bytes);
        self.later(address, delay, Event::SegmentReady { segment });
    }

    fn send(&mut self, from: CoreAddress, to: CoreAddress, message: Message) {
        let sent = self
            .network
            .send(self.now, from, to, &mut self.random.network);
        if let Some((link, at)) = sent {
            let deliver = Action::Deliver {
                link,
                from,
                to,
                message,
            };
            self.queue.add(at, deliver);
        }
    }

    fn read(&mut self, address: CoreAddress, partition: PartitionId, ticket: Ticket) {
        let number = RequestNumber(ticket.0);
        let operation = self.requests.get(&number).map(|request| request.operation);
        let core = self.core_mut(address);
        let found = match operation {
            Some(Operation::Read { key, .. }) => {
                let row = core.engine.get(partition, &raw_key(key), 1, Tier::Full);
                row.unwrap_or_default().map(|row| row.data)
            }
            // The client has given up meanwhile.
            _ => None,
        };
        core.found.insert(number, found);
        let done = Event::ReadDone { partition, ticket };
        if self
            .random
            .engine
            .percent(self.scenario.memory_reads_of_100)
        {
            self.core_mut(address).read_at_once.push(done);
            return;
        }
        let delay = if self.random.engine.one_in(self.scenario.slow_read_one_in) {
            self.random.engine.duration(SLOW_READ_DELAY)
        } else {
            self.random.engine.delay(READ_DELAY)
        };
        self.later(address, delay, done);
    }

    fn reply(
        &mut self,
        address: CoreAddress,
        ticket: Ticket,
        decree: Decree,
    ) -> Result<(), Violation> {
        let request = RequestNumber(ticket.0);
        let core = self.core_mut(address);
        core.tickets.remove(&request);
        let found = core.found.remove(&request).flatten();
        self.note_late_reply(address, request);
        self.note_reply(address, request, decree)?;
        self.answer_later(request, Reply::Done(found));
        Ok(())
    }

    /// Counts reads that are answered when the right to is over: the turn that allowed it was interrupted.
    fn note_late_reply(&mut self, address: CoreAddress, request: RequestNumber) {
        let operation = self.requests.get(&request).map(|it| it.operation);
        let Some(Operation::Read { key, .. }) = operation else {
            return;
        };
        let now = self.local(address.node);
        let shard = self.core(address).shard.as_ref();
        if shard.is_some_and(|shard| !shard.may_read(partition_of(key), now)) {
            self.totals.coverage.note("late reply");
        }
    }

    fn reject(&mut self, address: CoreAddress, ticket: Ticket, reason: Reject) {
        let request = RequestNumber(ticket.0);
        let core = self.core_mut(address);
        core.tickets.remove(&request);
        core.found.remove(&request);
        self.answer_later(request, Reply::Rejected(reason));
    }

    pub(crate) fn later(&mut self, core: CoreAddress, delay: Duration, event: Event) {
        let (at, life) = (self.now.after(delay), self.life(core.node));
        self.queue.add(at, Action::Core { core, life, event });
    }
}
