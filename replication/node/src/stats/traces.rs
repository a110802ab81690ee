//! Where the time of each request in work goes: one trace for each, moved from stage to stage as the request moves.
//!
//! A trace is always in exactly one stage (`pegasus_fbs::stats_page::Stage`), and a step into the next one books the time
//! since the last step: so the stages of a request add up to its total by construction. Steps that all requests of a turn
//! share use one stamp of the turn. A slab: no allocation for each request.

use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{RequestTimes, Stage, Timing};
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
}

#[derive(Debug)]
struct Trace {
    generation: u32,
    is_used: bool,
    /// The stage it is in, and since when.
    stage: Stage,
    since_ns: u64,
    /// The turn in which it began to wait for a right.
    turn: u32,
    times: RequestTimes,
}

/// All traces of a core.
#[derive(Debug)]
pub(super) struct Traces {
    is_on: bool,
    slots: Vec<Trace>,
    free: Vec<u32>,
    /// Counts the turns of the loop.
    turn: u32,
    /// Answers encoded in this phase of the turn.
    encoded: Vec<TraceId>,
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

    /// A request has been decoded; it waits for the core.
    pub(super) fn begin(&mut self, subject: Subject, arrival: &Arrival) -> TraceId {
        if !self.is_on {
            return TraceId::NONE;
        }
        let turn = self.turn;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Trace::default());
            u32::try_from(self.slots.len() - 1).expect("requests are far below 2^32")
        });
        let trace = &mut self.slots[index as usize];
        trace.generation = trace.generation.wrapping_add(1);
        trace.is_used = true;
        trace.stage = Stage::Queue;
        trace.since_ns = arrival.decoded_ns;
        trace.turn = turn;
        let times = &mut trace.times;
        times.operation = subject.operation;
        times.code = Code::Ok;
        times.table = subject.table;
        times.partition = subject.partition;
        times.bytes = 0;
        times.key_hash = 0;
        times.stages = [0; Stage::COUNT];
        let stages = &mut times.stages;
        stages[Stage::Queue as usize] = arrival.looked_at_ns.saturating_sub(arrival.received_ns);
        stages[Stage::Decode as usize] = arrival.decoded_ns.saturating_sub(arrival.looked_at_ns);
        TraceId {
            index,
            generation: trace.generation,
        }
    }

    fn get(&mut self, id: TraceId) -> Option<&mut Trace> {
        let trace = self.slots.get_mut(id.index as usize)?;
        (trace.is_used && trace.generation == id.generation).then_some(trace)
    }

    pub(super) fn set_key_hash(&mut self, id: TraceId, key_hash: u64) {
        if let Some(trace) = self.get(id) {
            trace.times.key_hash = key_hash;
        }
    }

    pub(super) fn set_bytes(&mut self, id: TraceId, bytes: u64) {
        if let Some(trace) = self.get(id) {
            trace.times.bytes = bytes;
        }
    }

    /// The next stage begins.
    pub(super) fn enter(&mut self, id: TraceId, stage: Stage, now_ns: u64) {
        if let Some(trace) = self.get(id) {
            trace.enter(stage, now_ns);
        }
    }

    /// From now on it waits for the right to be served, or for the right to be answered.
    pub(super) fn wait_for_right(&mut self, id: TraceId, now_ns: u64) {
        let turn = self.turn;
        if let Some(trace) = self.get(id) {
            trace.enter(Stage::Gate, now_ns);
            trace.turn = turn;
        }
    }

    /// It has the right, and goes on with `stage`. A right that was had in the turn in which it was wanted was not waited
    /// for: that time was spent on the other work of the turn, which is `meanwhile`.
    pub(super) fn pass(&mut self, id: TraceId, meanwhile: Stage, stage: Stage, now_ns: u64) {
        let turn = self.turn;
        if let Some(trace) = self.get(id) {
            if trace.stage == Stage::Gate && trace.turn == turn {
                trace.stage = meanwhile;
            }
            trace.enter(stage, now_ns);
        }
    }

    /// Its answer is being encoded; `None`: it is not traced.
    pub(super) fn release(&mut self, id: TraceId, code: Code, now_ns: u64) -> Option<u32> {
        self.get(id)?.times.code = code;
        self.pass(id, Stage::Encode, Stage::Encode, now_ns);
        self.encoded.push(id);
        Some(id.index)
    }

    pub(super) const fn has_encoded(&self) -> bool {
        !self.encoded.is_empty()
    }

    /// All answers of this phase are encoded.
    pub(super) fn end_encoding(&mut self, now_ns: u64) {
        let mut encoded = std::mem::take(&mut self.encoded);
        for id in encoded.drain(..) {
            self.enter(id, Stage::Send, now_ns);
        }
        self.encoded = encoded;
    }

    /// The end of a trace: its answer has gone to another core.
    pub(super) fn hand_back(
        &mut self,
        id: TraceId,
        code: Code,
        now_ns: u64,
    ) -> Option<&RequestTimes> {
        self.get(id)?.times.code = code;
        self.pass(id, Stage::Encode, Stage::Encode, now_ns);
        self.end(id.index, now_ns)
    }

    /// The end of a trace: the kernel has its answer. `index` is what `release` gave.
    pub(super) fn end(&mut self, index: u32, now_ns: u64) -> Option<&RequestTimes> {
        let trace = self.slots.get_mut(index as usize)?;
        if !std::mem::take(&mut trace.is_used) {
            return None;
        }
        trace.enter(Stage::Send, now_ns);
        self.free.push(index);
        Some(&trace.times)
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            generation: 0,
            is_used: false,
            stage: Stage::Queue,
            since_ns: 0,
            turn: 0,
            times: RequestTimes {
                operation: Timing::Get,
                code: Code::Ok,
                table: 0,
                partition: 0,
                bytes: 0,
                key_hash: 0,
                stages: [0; Stage::COUNT],
            },
        }
    }
}

impl Trace {
    /// A stamp from before the last step counts as that: two clocks readings of one turn may cross.
    fn enter(&mut self, stage: Stage, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.since_ns);
        self.times.stages[self.stage as usize] += elapsed;
        self.since_ns += elapsed;
        self.stage = stage;
    }
}

#[cfg(test)]
mod tests;
