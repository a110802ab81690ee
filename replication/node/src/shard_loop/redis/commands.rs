//! Commands of Redis clients in work on the core that has their connections: what is asked of whom, and what has come back.

use super::order::LineId;
use bytes::Bytes;
use pegasus_net::ReplyTo;
use pegasus_net::request::Failure;
use pegasus_redis::{Call, Calls, Gather, Kind, Place};
use pegasus_replication::ids::{CoreAddress, Instant, TableId};
use pegasus_resp::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// Parts of one command that are asked for at a time; the others wait for their answers.
const PARTS_AWAY_MAX: usize = 64;

/// Names a part of a command for as long as the command is in work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId {
    slot: u32,
    /// Tells the commands of one slot apart.
    generation: u32,
    part: u32,
}

/// Names a command for as long as it is in work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CommandId {
    slot: u32,
    generation: u32,
}

/// One command of a client.
#[derive(Debug)]
pub(super) struct InWork {
    pub(super) to: ReplyTo,
    /// Name of its table.
    pub(super) table: Arc<str>,
    pub(super) received: Instant,
    pub(super) deadline: Instant,
    pub(super) goal: Goal,
    parts: Vec<Part>,
    /// Parts from here on have not been asked for yet.
    next: usize,
    away: usize,
    unanswered: usize,
    /// What the answers that have come take in memory.
    answer_bytes: usize,
    /// It waits, or has waited, for meta to tell where its table is.
    has_waited: bool,
}

/// What the answers of the parts become.
#[derive(Clone, Debug)]
pub(super) enum Goal {
    /// The table has to be there: SELECT.
    Table,
    /// The answer of the only part.
    One,
    Gathered(Gather),
    /// A page of SCAN from this partition.
    Page {
        partition: u32,
    },
    /// The sum over all partitions, whose parts are made when their number is known.
    AllPartitions(Arc<Calls>),
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) calls: Arc<Calls>,
    pub(super) aim: Aim,
    /// Whether it is executed under the gate of its key.
    is_write: bool,
    /// Who was asked last.
    pub(super) asked: Option<CoreAddress>,
    /// Whether that one was known to execute writes.
    pub(super) was_proven: bool,
    state: PartState,
}

/// Which partition a part is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// That of the key with this hash.
    Hash(u64),
    Index(u32),
}

#[derive(Debug)]
enum PartState {
    Waiting,
    Away,
    Answered(Value),
}

impl Aim {
    pub(super) fn partition(self, partition_count: u32) -> u32 {
        match self {
            Self::Hash(hash) => {
                u32::try_from(hash % u64::from(partition_count.max(1))).unwrap_or_default()
            }
            Self::Index(index) => index,
        }
    }
}

/// The parts of what a client asks.
pub(super) fn parts_of(calls: Arc<Calls>, key_hash: impl Fn(&[u8]) -> u64) -> (Goal, Vec<Part>) {
    let is_write = goes_to_gate(&calls);
    let part = |calls: Arc<Calls>, key: &[u8]| Part {
        calls,
        is_write,
        aim: Aim::Hash(key_hash(key)),
        asked: None,
        was_proven: false,
        state: PartState::Waiting,
    };
    let Calls::One(call) = &*calls else {
        let key = calls.key().ok().flatten().unwrap_or_default();
        return (Goal::One, vec![part(calls, &key)]);
    };
    match (call.spec.place, call.spec.kind) {
        (Place::Keys(gather), _) if call.key_positions().nth(1).is_some() => {
            let parts = call.parts().map(|each| {
                let key = each.key().unwrap_or_default();
                part(Arc::new(Calls::One(each)), &key)
            });
            (Goal::Gathered(gather), parts.collect())
        }
        // The answer for a lone key of MGET is still an array.
        (Place::Keys(gather), _) => {
            let key = call.key().unwrap_or_default();
            (Goal::Gathered(gather), vec![part(calls, &key)])
        }
        (_, Kind::DbSize) => (Goal::AllPartitions(calls), Vec::new()),
        (_, Kind::Select) => (Goal::Table, Vec::new()),
        _ => {
            let key = call.key().unwrap_or_default();
            (Goal::One, vec![part(calls, &key)])
        }
    }
}

impl Part {
    /// One for a partition, whatever its keys.
    pub(super) const fn of_partition(calls: Arc<Calls>, index: u32) -> Self {
        Self {
            calls,
            is_write: false,
            aim: Aim::Index(index),
            asked: None,
            was_proven: false,
            state: PartState::Waiting,
        }
    }
}

impl InWork {
    pub(super) fn new(
        to: ReplyTo,
        table: Arc<str>,
        times: (Instant, Instant),
        goal: Goal,
        parts: Vec<Part>,
    ) -> Self {
        Self {
            to,
            table,
            received: times.0,
            deadline: times.1,
            goal,
            next: 0,
            away: 0,
            answer_bytes: 0,
            has_waited: false,
            unanswered: parts.len(),
            parts,
        }
    }

    /// It waits for meta's answer; true the first time.
    pub(super) const fn begins_to_wait(&mut self) -> bool {
        !std::mem::replace(&mut self.has_waited, true)
    }

    /// The parts of all partitions, now that their number is known.
    pub(super) fn spread(&mut self, partition_count: u32) {
        if let Goal::AllPartitions(calls) = &self.goal
            && self.parts.is_empty()
        {
            let parts = (0..partition_count).map(|index| Part::of_partition(calls.clone(), index));
            self.parts = parts.collect();
            self.unanswered = self.parts.len();
        }
    }

    /// The next part to ask for, if there is room for another one.
    fn take_next(&mut self) -> Option<usize> {
        if self.away >= PARTS_AWAY_MAX || self.next >= self.parts.len() {
            return None;
        }
        let index = self.next;
        self.next += 1;
        self.away += 1;
        self.parts[index].state = PartState::Away;
        Some(index)
    }

    /// A part has its answer; true if it was the last one.
    pub(super) fn answer(&mut self, part: PartId, value: Value) -> bool {
        let Some(found) = self.parts.get_mut(part.part as usize) else {
            return false;
        };
        if matches!(found.state, PartState::Away) {
            // Answers wait here for those of the other parts: they must not become more than one answer may be.
            let bytes = self.answer_bytes + pegasus_redis::answer::bytes(&value);
            found.state = PartState::Answered(if bytes > pegasus_redis::ANSWER_BYTES_MAX {
                pegasus_redis::answer::error(pegasus_redis::answer::BIG_ANSWER)
            } else {
                self.answer_bytes = bytes;
                value
            });
            self.away -= 1;
            self.unanswered -= 1;
        }
        self.unanswered == 0
    }

    pub(super) fn part(&self, part: PartId) -> Option<&Part> {
        self.parts.get(part.part as usize)
    }

    pub(super) fn part_mut(&mut self, part: PartId) -> Option<&mut Part> {
        self.parts.get_mut(part.part as usize)
    }

    /// The line in which a part stands; `None` for reads.
    pub(super) fn line_of(&self, part: PartId) -> Option<LineId> {
        let found = self.part(part)?;
        match found.aim {
            Aim::Hash(key) if found.is_write => Some(LineId {
                connection: self.to.connection_number(),
                key,
            }),
            Aim::Hash(_) | Aim::Index(_) => None,
        }
    }

    /// Whether a part is executed under the gate of its key, by somebody who is not known to execute writes.
    pub(super) fn has_to_prove(&self, part: PartId) -> bool {
        self.part(part)
            .is_some_and(|found| found.is_write && !found.was_proven)
    }

    /// All parts that are made, of this command.
    pub(super) fn part_ids(&self, id: CommandId) -> impl Iterator<Item = PartId> + use<> {
        let count = u32::try_from(self.parts.len()).unwrap_or(u32::MAX);
        (0..count).map(move |part| id.part(part))
    }

    /// Whether a failure of a part ends the command: if it has no other parts.
    pub(super) fn is_single(&self) -> bool {
        self.parts.len() <= 1
    }

    /// Whether none of its parts has been asked for.
    pub(super) const fn is_untouched(&self) -> bool {
        self.next == 0
    }

    /// Whether no part is left that has not been asked for.
    pub(super) const fn has_all_asked(&self) -> bool {
        self.next >= self.parts.len()
    }

    pub(super) const fn is_answered(&self) -> bool {
        self.unanswered == 0
    }

    /// The answer, when all parts have theirs.
    pub(super) fn finish(self, partition_count: u32) -> (ReplyTo, Value) {
        let mut answers = self.parts.into_iter().map(|part| match part.state {
            PartState::Answered(value) => value,
            PartState::Waiting | PartState::Away => Value::Null,
        });
        let value = match self.goal {
            Goal::Table => pegasus_redis::answer::ok(),
            Goal::One => answers.next().unwrap_or(Value::Null),
            Goal::Gathered(gather) => gather.combine(answers.collect()),
            Goal::AllPartitions(_) => Gather::Sum.combine(answers.collect()),
            Goal::Page { partition } => {
                let page = answers.next().unwrap_or(Value::Null);
                super::scan::with_partition(page, partition, partition_count)
            }
        };
        (self.to, value)
    }
}

/// All commands in work; a slab.
#[derive(Debug)]
pub(super) struct Commands {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
    max: usize,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    command: Option<InWork>,
}

impl Commands {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            max,
        }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.count >= self.max
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, command: InWork) -> CommandId {
        self.count += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("commands are bounded far below 2^32")
        });
        let entry = &mut self.slots[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.command = Some(command);
        CommandId {
            slot,
            generation: entry.generation,
        }
    }

    pub(super) fn get_mut(&mut self, id: CommandId) -> Option<&mut InWork> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.command.as_mut()
    }

    pub(super) fn remove(&mut self, id: CommandId) -> Option<InWork> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let command = slot.command.take()?;
        self.count -= 1;
        self.free.push(id.slot);
        Some(command)
    }

    /// The next part of a command that may be asked for.
    pub(super) fn take_next(&mut self, id: CommandId) -> Option<PartId> {
        let part = self.get_mut(id)?.take_next()?;
        Some(id.part(u32::try_from(part).ok()?))
    }

    /// The line in which a part stands; `None` for reads, and for parts of commands that are over.
    pub(super) fn line_of(&mut self, part: PartId) -> Option<LineId> {
        self.get_mut(part.command())?.line_of(part)
    }
}

impl CommandId {
    const fn part(self, part: u32) -> PartId {
        PartId {
            slot: self.slot,
            generation: self.generation,
            part,
        }
    }
}

impl PartId {
    pub(super) const fn command(self) -> CommandId {
        CommandId {
            slot: self.slot,
            generation: self.generation,
        }
    }

    #[cfg(test)]
    pub(super) const fn of_number(part: u32) -> Self {
        Self {
            slot: 0,
            generation: 1,
            part,
        }
    }
}

/// Failed parts that have to be looked at when nobody is in the middle of anything.
pub(super) type Failed = VecDeque<(PartId, Failure)>;

/// A table as the core knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableAt {
    pub(super) table: TableId,
    pub(super) partition_count: u32,
}

/// Whether they are executed under the gate of their key, as writes are.
pub(super) fn goes_to_gate(calls: &Calls) -> bool {
    calls.writes() || matches!(calls, Calls::Transaction(_))
}

/// The key of a call that stands for all of its command's.
pub(super) fn key_of(calls: &Calls) -> Bytes {
    calls
        .as_slice()
        .iter()
        .find_map(Call::key)
        .unwrap_or_default()
}
