//! Where the time of each request in work goes: one trace for each, moved from stage to stage as the request moves.
//!
//! A trace is always in exactly one stage (`pegasus_fbs::stats_page::Stage`), and a step into the next one books the time
//! since the last step: so the stages of a request add up to its total by construction. Steps that all requests of a turn
//! share use one stamp of the turn. A slab: no allocation for each request, and two cache lines for each trace.

use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{Class, RequestTimes, Stage, Timing};
use pegasus_net::Arrival;

/// Names a trace for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId {
    index: u32,
    generation: u32,
}

impl TraceId {
    /// Of requests that are not traced.
    pub const NONE: Self = Self {
        index: u32::MAX,
        generation: 0,
    };

    /// Three different names.
    #[cfg(test)]
    pub(crate) fn three() -> [Self; 3] {
        [0, 1, 2].map(|index| Self {
            index,
            generation: 0,
        })
    }
}

/// What is known of a request when it is decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    pub(super) operation: Timing,
    pub(super) table: u32,
    pub(super) partition: u32,
    pub(super) key_hash: u64,
}

/// One request: what it is, where it is, and the time it has spent so far.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Trace {
    /// Grows when the trace begins and when it ends: odd while it is used.
    generation: u32,
    /// The turn in which it began to wait for a right.
    turn: u32,
    /// The stage it is in, and since when.
    stage: Stage,
    since_ns: u64,
    pub(super) operation: Timing,
    code: Code,
    table: u32,
    partition: u32,
    bytes: u64,
    key_hash: u64,
    /// Nanoseconds by [`Stage`].
    pub(super) stages: [u64; Stage::COUNT],
}

const _: () = assert!(size_of::<Trace>() == 128, "two cache lines");

/// All traces of a core.
#[derive(Debug)]
pub(super) struct Traces {
    is_on: bool,
    slots: Vec<Trace>,
    free: Vec<u32>,
    /// Counts the turns of the loop.
    turn: u32,
    /// Slots of requests whose answers have been encoded in this phase of the turn.
    encoded: Vec<u32>,
}

impl Traces {
    pub(super) const fn new(is_on: bool) -> Self {
        Self {
            is_on,
            slots: Vec::new(),
            free: Vec::new(),
            turn: 0,
            encoded: Vec::new(),
        }
    }

    pub(super) const fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) const fn begin_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }

    /// A request has been decoded, and the core looks at it now: it waits for the right to be served.
    #[inline]
    pub(super) fn begin(&mut self, subject: Subject, arrival: &Arrival, now_ns: u64) -> TraceId {
        if !self.is_on {
            return TraceId::NONE;
        }
        let turn = self.turn;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Trace::default());
            u32::try_from(self.slots.len() - 1).expect("requests are far below 2^32")
        });
        let trace = &mut self.slots[index as usize];
        let generation = trace.generation.wrapping_add(1);
        *trace = Trace {
            generation,
            turn,
            since_ns: arrival.received_ns,
            operation: subject.operation,
            table: subject.table,
            partition: subject.partition,
            key_hash: subject.key_hash,
            ..Trace::default()
        };
        trace.enter(Stage::Decode, arrival.looked_at_ns);
        trace.enter(Stage::Queue, arrival.decoded_ns);
        trace.enter(Stage::Gate, now_ns);
        TraceId { index, generation }
    }

    #[inline]
    fn get(&mut self, id: TraceId) -> Option<&mut Trace> {
        let trace = self.slots.get_mut(id.index as usize)?;
        (trace.generation == id.generation).then_some(trace)
    }

    #[inline]
    pub(super) fn set_bytes(&mut self, id: TraceId, bytes: u64) {
        if let Some(trace) = self.get(id) {
            trace.bytes = bytes;
        }
    }

    /// The next stage begins.
    #[inline]
    pub(super) fn enter(&mut self, id: TraceId, stage: Stage, now_ns: u64) {
        if let Some(trace) = self.get(id) {
            trace.enter(stage, now_ns);
        }
    }

    /// From now on it waits for the right to be answered.
    #[inline]
    pub(super) fn wait_for_right(&mut self, id: TraceId, now_ns: u64) {
        let turn = self.turn;
        if let Some(trace) = self.get(id) {
            trace.enter(Stage::Gate, now_ns);
            trace.turn = turn;
        }
    }

    /// It has the right, and goes on with `stage`. A right that was had in the turn in which it was wanted was not waited
    /// for: that time was spent on the other work of the turn, which is `meanwhile`.
    #[inline]
    pub(super) fn pass(&mut self, id: TraceId, meanwhile: Stage, stage: Stage, now_ns: u64) {
        let turn = self.turn;
        if let Some(trace) = self.get(id) {
            trace.pass(turn, meanwhile, stage, now_ns);
        }
    }

    /// Its answer is being encoded; `None`: it is not traced.
    #[inline]
    pub(super) fn release(&mut self, id: TraceId, code: Code, now_ns: u64) -> Option<u32> {
        let turn = self.turn;
        let trace = self.get(id)?;
        trace.code = code;
        trace.pass(turn, Stage::Encode, Stage::Encode, now_ns);
        self.encoded.push(id.index);
        Some(id.index)
    }

    pub(super) const fn has_encoded(&self) -> bool {
        !self.encoded.is_empty()
    }

    /// All answers of this phase are encoded.
    #[inline]
    pub(super) fn end_encoding(&mut self, now_ns: u64) {
        for index in self.encoded.drain(..) {
            // None of them has ended: that an answer has left is found in a later turn.
            self.slots[index as usize].enter(Stage::Send, now_ns);
        }
    }

    /// The end of a trace: its answer has gone to another core.
    pub(super) fn hand_back(&mut self, id: TraceId, code: Code, now_ns: u64) -> Option<&Trace> {
        let turn = self.turn;
        let trace = self.get(id)?;
        trace.code = code;
        trace.pass(turn, Stage::Encode, Stage::Encode, now_ns);
        self.end(id.index, now_ns)
    }

    /// The end of a trace: the kernel has its answer. `index` is what `release` gave. What is found there stays until the
    /// next trace begins.
    #[inline]
    pub(super) fn end(&mut self, index: u32, now_ns: u64) -> Option<&Trace> {
        let trace = self.slots.get_mut(index as usize)?;
        if trace.generation.is_multiple_of(2) {
            return None;
        }
        trace.generation = trace.generation.wrapping_add(1);
        trace.enter(Stage::Send, now_ns);
        self.free.push(index);
        Some(trace)
    }

    /// What has just ended.
    pub(super) fn ended(&self, index: u32) -> &Trace {
        &self.slots[index as usize]
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            generation: 0,
            turn: 0,
            stage: Stage::Queue,
            since_ns: 0,
            operation: Timing::Get,
            code: Code::Ok,
            table: 0,
            partition: 0,
            bytes: 0,
            key_hash: 0,
            stages: [0; Stage::COUNT],
        }
    }
}

impl Trace {
    /// A stamp from before the last step counts as that: two clocks readings of one turn may cross.
    #[inline]
    fn enter(&mut self, stage: Stage, now_ns: u64) {
        let now_ns = now_ns.max(self.since_ns);
        let spent_ns = &mut self.stages[self.stage as usize];
        *spent_ns = spent_ns.wrapping_add(now_ns.wrapping_sub(self.since_ns));
        self.since_ns = now_ns;
        self.stage = stage;
    }

    #[inline]
    fn pass(&mut self, turn: u32, meanwhile: Stage, stage: Stage, now_ns: u64) {
        if self.stage == Stage::Gate && self.turn == turn {
            self.stage = meanwhile;
        }
        self.enter(stage, now_ns);
    }

    pub(super) const fn class(&self) -> Class {
        match self.operation.class() {
            Some(class) => class,
            None => Class::Read,
        }
    }

    /// Nanoseconds of all stages.
    pub(super) fn total_ns(&self) -> u64 {
        self.stages.iter().fold(0, |sum, ns| sum.wrapping_add(*ns))
    }

    pub(super) const fn times(&self) -> RequestTimes {
        RequestTimes {
            operation: self.operation,
            code: self.code,
            table: self.table,
            partition: self.partition,
            bytes: self.bytes,
            key_hash: self.key_hash,
            stages: self.stages,
        }
    }
}

#[cfg(test)]
mod tests;
