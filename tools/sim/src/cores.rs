//! Simulated cores: when they take events, in what turns, and what stops them in the middle of one.

use crate::action::{Action, Life, RequestNumber};
use crate::atomics::Change;
use crate::disk::Disk;
use crate::history::Violation;
use crate::world::World;
use bytes::Bytes;
use pegasus_engine::MemEngine;
use pegasus_engine::atomic::Computation;
use pegasus_replication::event::{Computed, Effect, Effects, Event};
use pegasus_replication::ids::{
    CoreAddress, CoreId, Instant, NodeId, PartitionId, ReplicaIncarnation, Ticket,
};
use pegasus_replication::message::Entry;
use pegasus_replication::shard::Shard;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// The engine's memtables are small, so that flushes and truncation happen within a run.
const ENGINE_FLUSH_BYTES: u64 = 8 << 10;
/// How long a core is busy now and then, so that several events meet in one turn.
const BUSY: Range<Duration> = Duration::from_micros(20)..Duration::from_millis(3);
/// Events of one turn.
const TURN_MAX: usize = 64;

/// What strikes a core while it carries out the effects of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Strike {
    Crash,
    Pause(Duration),
}

#[derive(Debug)]
pub(crate) struct SimCore {
    pub(crate) address: CoreAddress,
    /// `None` while the node is down.
    pub(crate) shard: Option<Shard>,
    pub(crate) engine: MemEngine,
    pub(crate) disk: Disk,
    /// Committed, and not taken by the engine yet.
    pub(crate) waiting: VecDeque<(PartitionId, Entry)>,
    /// The engine takes nothing before this time.
    pub(crate) stalled_until: Instant,
    pub(crate) slow_disk_until: Instant,
    pub(crate) hung_disk_until: Instant,
    /// What reads in the engine have found.
    pub(crate) found: BTreeMap<RequestNumber, Option<Bytes>>,
    /// Atomic operations whose rows are being read from the disk.
    pub(crate) computing: BTreeMap<Ticket, Computation<Change>>,
    /// Requests that this core has taken and not answered.
    pub(crate) tickets: BTreeSet<RequestNumber>,
    /// What its log had flushed was damaged once.
    pub(crate) has_damaged_log: bool,
    /// Replicas that may be out of service: their disk or engine has failed them.
    pub(crate) damaged: BTreeSet<(PartitionId, ReplicaIncarnation)>,
    /// The transfer that each learner here waits for, by its number.
    pub(crate) fetches: BTreeMap<PartitionId, u64>,
    /// The timer that is set, in true time.
    pub(crate) timer: Option<Instant>,
    /// It has been stopped for so long that it may notice.
    was_stopped: bool,
    /// What its own clock showed when it was stopped between looking at it and taking what other cores pass on.
    read_clock: Option<Instant>,
    /// Reads that found their rows in memory: answered before the turn ends.
    pub(crate) read_at_once: Vec<Event>,
    /// It does nothing before this time.
    pub(crate) paused_until: Instant,
    /// What came meanwhile.
    backlog: VecDeque<Event>,
    /// Of the turn under way, and not carried out yet.
    effects: VecDeque<Effect>,
    /// What strikes after so many more effects.
    strike: Option<(u32, Strike)>,
}

impl SimCore {
    pub(crate) fn new(node: NodeId, core: u16, sector_bytes: usize) -> Self {
        Self {
            address: CoreAddress {
                node,
                core: CoreId(core),
            },
            shard: None,
            engine: MemEngine::new(ENGINE_FLUSH_BYTES),
            disk: Disk::new(sector_bytes),
            waiting: VecDeque::new(),
            stalled_until: Instant::default(),
            slow_disk_until: Instant::default(),
            hung_disk_until: Instant::default(),
            found: BTreeMap::new(),
            computing: BTreeMap::new(),
            tickets: BTreeSet::new(),
            has_damaged_log: false,
            damaged: BTreeSet::new(),
            fetches: BTreeMap::new(),
            timer: None,
            was_stopped: false,
            read_clock: None,
            read_at_once: Vec::new(),
            paused_until: Instant::default(),
            backlog: VecDeque::new(),
            effects: VecDeque::new(),
            strike: None,
        }
    }

    /// Forgets what a process has in memory. Returns the requests that it had taken.
    pub(crate) fn lose_memory(&mut self) -> BTreeSet<RequestNumber> {
        self.shard = None;
        self.waiting.clear();
        self.found.clear();
        self.computing.clear();
        self.fetches.clear();
        self.timer = None;
        self.was_stopped = false;
        self.read_clock = None;
        self.read_at_once.clear();
        self.paused_until = Instant::default();
        self.backlog.clear();
        self.effects.clear();
        self.strike = None;
        std::mem::take(&mut self.tickets)
    }

    /// Something strikes after `count` more effects.
    pub(crate) fn strike_after(&mut self, count: u32, strike: Strike) {
        self.strike = Some((count, strike));
    }

    fn strike_due(&mut self) -> Option<Strike> {
        let (count, strike) = self.strike.take()?;
        if count > 0 {
            self.strike = Some((count - 1, strike));
            return None;
        }
        Some(strike)
    }

    /// All that is to be undone when faults are over.
    pub(crate) fn heal(&mut self, now: Instant) {
        self.stalled_until = now;
        self.slow_disk_until = now;
        self.hung_disk_until = now;
        self.strike = None;
    }
}

impl World {
    /// An event for a core: handled at once, or when the core goes on.
    pub(crate) fn core_event(
        &mut self,
        address: CoreAddress,
        event: Event,
    ) -> Result<(), Violation> {
        let now = self.now;
        let core = self.core_mut(address);
        if core.shard.is_none() {
            return Ok(());
        }
        if core.paused_until > now {
            core.backlog.push_back(event);
            return Ok(());
        }
        self.turn(address, vec![event])
    }

    /// The same for an event that belongs to one life of the core's node.
    pub(crate) fn core_event_of(
        &mut self,
        core: CoreAddress,
        life: Life,
        event: Event,
    ) -> Result<(), Violation> {
        if self.life(core.node) != life {
            return Ok(());
        }
        if event == Event::Timeout {
            // An earlier timer replaced this one, or it fired already.
            let now = self.now;
            let timer = &mut self.core_mut(core).timer;
            if timer.take_if(|due| *due == now).is_none() {
                return Ok(());
            }
        }
        self.core_event(core, event)
    }

    /// All of `events` in one turn, and everything that comes of them at once.
    fn turn(&mut self, address: CoreAddress, events: Vec<Event>) -> Result<(), Violation> {
        self.turn_at(self.local(address.node), address, events)
    }

    /// The same, with a clock that was read at `then`: that may be long ago. It is read again when rows have been read.
    fn turn_at(
        &mut self,
        then: Instant,
        address: CoreAddress,
        events: Vec<Event>,
    ) -> Result<(), Violation> {
        let mut now = then;
        let mut effects = Effects::new();
        let mut events = VecDeque::from(events);
        assert!(
            self.core(address).effects.is_empty(),
            "a turn ends before the next one"
        );
        while let Some(event) = events.pop_front() {
            if is_after_read(&event) {
                now = self.local(address.node);
            }
            self.tell_shard(now, address, event, &mut effects);
            self.compute_all(address, &mut events);
        }
        let core = self.core_mut(address);
        if let Some(shard) = core.shard.as_mut() {
            shard.finish_turn(now, &mut effects);
            core.effects = effects.into();
            self.carry_out(address)?;
        }
        Ok(())
    }

    fn tell_shard(
        &mut self,
        now: Instant,
        address: CoreAddress,
        event: Event,
        effects: &mut Effects,
    ) {
        self.totals.coverage.note_event(&event);
        if self.trace {
            crate::trace::event(self.now, address, &event);
        }
        let core = self.core_mut(address);
        if let Event::LogDurable { write } = event {
            core.disk.tell(write);
        }
        if let Some(shard) = core.shard.as_mut() {
            shard.handle(now, event, effects);
        }
    }

    /// Computes everything whose turn it is. What is ready at once goes before the other events of the turn.
    fn compute_all(&mut self, address: CoreAddress, events: &mut VecDeque<Event>) {
        let index = self.node_index(address.node);
        loop {
            let core = &mut self.nodes[index].cores[usize::from(address.core.0)];
            let Some(compute) = core.shard.as_mut().and_then(Shard::next_compute) else {
                return;
            };
            let in_memory = self.scenario.memory_reads_of_100;
            let is_in_memory = self.random.engine.percent(in_memory);
            let Some(outcome) = core.compute(compute, &self.requests, is_in_memory) else {
                self.compute_later(address, compute);
                continue;
            };
            events.push_front(Event::Computed {
                partition: compute.partition,
                ticket: compute.ticket,
                gate: compute.gate,
                outcome,
            });
        }
    }

    /// The first effects of a core that starts.
    pub(crate) fn first_turn(
        &mut self,
        address: CoreAddress,
        effects: Effects,
    ) -> Result<(), Violation> {
        self.core_mut(address).effects = effects.into();
        self.carry_out(address)
    }

    /// Carries out the effects of the turn, until something strikes.
    fn carry_out(&mut self, address: CoreAddress) -> Result<(), Violation> {
        self.note_touched(address);
        while let Some(effect) = self.core_mut(address).effects.pop_front() {
            match self.core_mut(address).strike_due() {
                None => self.perform(address, effect)?,
                Some(Strike::Crash) => return self.crash_and_return(address.node),
                Some(Strike::Pause(period)) => {
                    self.core_mut(address).effects.push_front(effect);
                    self.stop_core(address, period);
                    return Ok(());
                }
            }
        }
        let read = std::mem::take(&mut self.core_mut(address).read_at_once);
        if !read.is_empty() {
            return self.turn(address, read);
        }
        self.set_timer(address);
        if self.random.turn.one_in(self.scenario.busy_one_in) {
            let period = self.random.turn.duration(BUSY);
            self.pause_core(address, period);
        }
        Ok(())
    }

    /// The core is stopped between looking at its clock and taking what other cores pass on to it.
    pub(crate) fn stop_core_after_clock(&mut self, address: CoreAddress, period: Duration) {
        let (now, shown) = (self.now, self.local(address.node));
        let core = self.core_mut(address);
        // Not in the middle of a turn.
        if core.paused_until <= now {
            core.read_clock = Some(shown);
        }
        self.stop_core(address, period);
    }

    /// The core is stopped from outside; it may notice when it goes on.
    pub(crate) fn stop_core(&mut self, address: CoreAddress, period: Duration) {
        self.core_mut(address).was_stopped = true;
        self.pause_core(address, period);
    }

    /// The core does nothing for `period`; what comes meanwhile waits.
    pub(crate) fn pause_core(&mut self, address: CoreAddress, period: Duration) {
        let (until, life) = (self.now.after(period), self.life(address.node));
        let core = self.core_mut(address);
        if until > core.paused_until {
            core.paused_until = until;
            let core = address;
            self.queue.add(until, Action::Resume { core, life });
        }
    }

    /// The core goes on where it was, then takes what has come.
    pub(crate) fn resume(&mut self, address: CoreAddress, life: Life) -> Result<(), Violation> {
        if self.life(address.node) != life {
            return Ok(());
        }
        let mut unfinished = true;
        while self.core(address).paused_until <= self.now && self.core(address).shard.is_some() {
            if std::mem::take(&mut unfinished) {
                self.carry_out(address)?;
                continue;
            }
            if let Some(then) = self.core_mut(address).read_clock.take() {
                let requests = self.take_requests(address);
                self.turn_at(then, address, requests)?;
                continue;
            }
            let events = self.take_backlog(address);
            if events.is_empty() {
                return Ok(());
            }
            self.turn(address, events)?;
        }
        Ok(())
    }

    /// What clients have asked meanwhile: other cores pass it on, and it is taken after the clock was read.
    fn take_requests(&mut self, address: CoreAddress) -> Vec<Event> {
        self.totals.coverage.note("late clock");
        let core = self.core_mut(address);
        let is_request = |event: &Event| {
            matches!(
                event,
                Event::Write { .. } | Event::Atomic { .. } | Event::Read { .. }
            )
        };
        let (requests, others) = core.backlog.drain(..).partition(is_request);
        core.backlog = others;
        requests.into()
    }

    /// What one turn takes of the backlog. A timer that has fired meanwhile is noticed first or last, as chance has it.
    fn take_backlog(&mut self, address: CoreAddress) -> Vec<Event> {
        let (first, notices) = (self.random.turn.one_in(2), self.random.turn.one_in(2));
        let core = self.core_mut(address);
        if std::mem::take(&mut core.was_stopped) && notices {
            core.backlog.push_front(Event::Fence);
        }
        let timer = core.backlog.iter().position(|it| *it == Event::Timeout);
        if let Some(timer) = timer.and_then(|at| core.backlog.remove(at)) {
            if first {
                core.backlog.push_front(timer);
            } else {
                core.backlog.push_back(timer);
            }
        }
        let count = core.backlog.len().min(TURN_MAX);
        core.backlog.drain(..count).collect()
    }

    /// Lets a paused core go on at the end of a run.
    pub(crate) fn end_pause(&mut self, address: CoreAddress) -> Result<(), Violation> {
        let (now, life) = (self.now, self.life(address.node));
        self.core_mut(address).paused_until = now;
        self.resume(address, life)
    }

    fn set_timer(&mut self, address: CoreAddress) {
        let (now, life) = (self.now, self.life(address.node));
        let clock = self.nodes[self.node_index(address.node)].clock;
        let core = self.core_mut(address);
        let Some(due) = core.shard.as_ref().and_then(Shard::deadline) else {
            return;
        };
        let due = clock.truth(due).max(Instant(now.0 + 1));
        if core.timer.is_none_or(|set| due < set) {
            core.timer = Some(due);
            let (core, event) = (address, Event::Timeout);
            self.queue.add(due, Action::Core { core, life, event });
        }
    }
}

/// The right to answer is that of the moment after the engine has read.
fn is_after_read(event: &Event) -> bool {
    matches!(
        event,
        Event::ReadDone { .. }
            | Event::Computed {
                outcome: Computed::Answer,
                ..
            }
    )
}
