//! Redis clients: whatever core has their connection finds the partitions of their keys, asks for the rows here, on another
//! core of the node or on another node, and gathers the answers.
//!
//! ```text
//!   client --Operation::Redis--> table by name --> parts, one for each key
//!                                 |unknown: meta      |
//!                                 v                   +-- this core: Event::Read, Event::Atomic
//!                              waits                  +-- another core of the node: the mesh
//!                                                     +-- another node: a frame on the link of the two cores, one hop
//!   answer <-- gathered in order <-- answers of the parts; a part that was not executed is asked for again
//! ```
//!
//! Clients are never told to go elsewhere: a core that is not primary says who is, and the part is asked for again there,
//! until the command's deadline. A part that may have been executed is not asked for again, unless it only reads. Writes of
//! one connection on one key are executed in the order in which they came, see `redis/order.rs`.

mod about;
mod commands;
mod forward;
mod order;
mod read;
mod scan;
mod tables;
mod write;

pub use commands::PartId;
pub(super) use forward::value_of;
pub(super) use read::RedisRead;
pub(super) use scan::{Cursors, RedisScan};
pub use write::RedisWrite;

use super::ShardLoop;
use super::admit::denied;
use super::atomic::{AtomicTask, Dependent};
use super::read::ReadTask;
use super::requests::{Measure, Origin, Pending, Work};
use crate::clock;
use crate::route_relay::{RouteAsker, RouteQuestion};
use commands::{
    Aim, CommandId, Commands, Failed, Goal, InWork, Part, TableAt, goes_to_gate, parts_of,
};
use forward::Away;
use order::{LineId, Next, Order};
use pegasus_engine::value::seconds_since_epoch;
use pegasus_fbs::code::{Code, Execution};
use pegasus_fbs::hash::key_hash;
use pegasus_fbs::stats_page::{Counter, Timing};
use pegasus_net::frontend::resp::error_of;
use pegasus_net::request::{Failure, Redis, Reply, RequestId, Response, Route};
use pegasus_net::{Arrival, ReplyTo};
use pegasus_redis::{Calls, Context, Kind};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{self, CoreAddress, Instant, PartitionId, TableId, Ticket};
use pegasus_resp::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tables::{Found, Tables};

/// How long a command may take; Redis clients name no deadline.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Before a part is asked for again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// What a core of another node may take longer than the deadline it was told.
const ANSWER_GRACE: Duration = Duration::from_millis(200);

/// Commands of Redis clients on one core.
#[derive(Debug)]
pub(super) struct RedisWork {
    default_table: Arc<str>,
    started: Instant,
    commands: Commands,
    tables: Tables,
    order: Order,
    /// Looked at when nothing else is in the middle of its work.
    failed: Failed,
    /// Lines that may have something to send; looked at likewise.
    woken: Vec<LineId>,
    timers: BTreeMap<(Instant, u64), Due>,
    next_timer: u64,
    away: Away,
    pub(super) cursors: Cursors,
}

/// What is to be done at a time.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// Ask for this part again.
    Retry(PartId),
    /// Send this line's refused writes again.
    Resume(LineId),
    /// The command may still wait for meta's answer about its table.
    Expire(CommandId),
    /// Ask meta again.
    AskAgain(CommandId),
    /// A core of another node has not answered this question.
    Silence(u64),
}

/// A part as it is asked for, wherever that is.
#[derive(Clone, Debug)]
pub struct Asked {
    pub partition: PartitionId,
    pub calls: Arc<Calls>,
    pub received: Instant,
    pub deadline: Instant,
}

impl RedisWork {
    pub(super) fn new(default_table: Arc<str>, commands_max: usize, started: Instant) -> Self {
        Self {
            default_table,
            started,
            commands: Commands::new(commands_max),
            tables: Tables::default(),
            order: Order::default(),
            failed: Failed::new(),
            woken: Vec::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
            away: Away::default(),
            cursors: Cursors::default(),
        }
    }

    /// When something is to be done.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether there is something to do at once.
    pub(super) fn has_work(&self) -> bool {
        !self.failed.is_empty() || !self.woken.is_empty()
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.commands.count() == 0
    }

    /// Remembers to do something at a time; the timer's name.
    fn at(&mut self, at: Instant, due: Due) -> (Instant, u64) {
        let name = (at, self.next_timer);
        self.next_timer += 1;
        self.timers.insert(name, due);
        name
    }
}

impl ShardLoop {
    /// A command from a connection of this core.
    pub(super) fn take_redis(&mut self, to: ReplyTo, redis: Redis, arrival: &Arrival) {
        let Redis { table, calls } = redis;
        let received = Instant(arrival.received_ns);
        if self.is_stopping() {
            let failure = Failure::new(Code::NotServing, "this node is stopping");
            return self.io.reply(to, &Err(failure));
        }
        if self.redis.commands.is_full() {
            let failure = self.busy(
                Counter::RejectRequests,
                "too many commands are in work on this core",
            );
            return self.io.reply(to, &Err(failure));
        }
        if let Some(value) = self.tell_about(&calls) {
            return self.io.reply(to, &Ok(Response::Redis(value)));
        }
        let (goal, parts) = match scan::page_call(&calls) {
            Some(call) if call.spec.kind == Kind::Scan => match scan::Options::of(call) {
                Ok(options) => {
                    let partition = options.partition();
                    (
                        Goal::Page { partition },
                        vec![Part::of_partition(calls, partition)],
                    )
                }
                Err(value) => return self.io.reply(to, &Ok(Response::Redis(value))),
            },
            _ => parts_of(calls, |key| key_hash(key, b"")),
        };
        let table = table.unwrap_or_else(|| self.redis.default_table.clone());
        let times = (received, received.after(TIMEOUT));
        let command = InWork::new(to, table, times, goal, parts);
        let command = self.redis.commands.insert(command);
        self.join_lines(command);
        self.go_on(command);
    }

    /// Writes take their places behind those that came before, whatever they wait for.
    fn join_lines(&mut self, id: CommandId) {
        let RedisWork {
            commands, order, ..
        } = &mut self.redis;
        if let Some(command) = commands.get_mut(id) {
            for part in command.part_ids(id) {
                if let Some(line) = command.line_of(part) {
                    order.join(line, part);
                }
            }
        }
    }

    /// Asks for as many parts of a command as may be asked for.
    fn go_on(&mut self, id: CommandId) {
        let Some(command) = self.redis.commands.get_mut(id) else {
            return;
        };
        let Some(table) = self.redis.tables.find(&command.table, &self.directory) else {
            return self.ask_for_table(id);
        };
        command.spread(table.partition_count);
        if command.is_answered() {
            return self.finish_command(id, table);
        }
        while let Some(part) = self.redis.commands.take_next(id) {
            match self.redis.commands.line_of(part) {
                Some(line) => {
                    let next = self.redis.order.make_ready(line, part);
                    self.send_line(line, next);
                }
                None => self.retry(part),
            }
        }
    }

    /// Sends what may be sent of a line.
    fn send_line(&mut self, line: LineId, mut next: Next) {
        while let Next::Send { part, way: taken } = next {
            let found = self.place_of(part);
            let way = found.and_then(|found| found.primary);
            let is_proven = found.is_some_and(|found| found.is_proven);
            if taken.is_some_and(|taken| taken != way || !is_proven) {
                // Two ways are in no order: what is on the other one is waited for. And one write alone finds out whether
                // this is the right one.
                return;
            }
            self.redis.order.send(line, way);
            let command = self.redis.commands.get_mut(part.command());
            if command.is_some_and(|command| command.deadline <= self.now) {
                let message = "its time was over while it waited for earlier writes of its key";
                self.fail_part(part, Failure::new(Code::Expired, message));
            } else {
                self.ask_at(part, found);
            }
            next = self.redis.order.next(line);
        }
    }

    /// Where a part belongs, and whom it would be asked of.
    fn place_of(&mut self, part: PartId) -> Option<Found> {
        let command = self.redis.commands.get_mut(part.command())?;
        let aim = command.part(part)?.aim;
        let (tables, directory) = (&mut self.redis.tables, &self.directory);
        let mut found = tables.find_for(&command.table, aim, directory)?;
        if found.primary.is_none() {
            let partition = PartitionId {
                table: found.table.table,
                index: aim.partition(found.table.partition_count),
            };
            found.primary = tables::local(partition, directory, self.address.node);
        }
        Some(found)
    }

    /// Asks meta for a table that this core does not know, and those whose primaries it does not know.
    fn ask_for_table(&mut self, id: CommandId) {
        let Some(command) = self.redis.commands.get_mut(id) else {
            return;
        };
        let (name, deadline) = (command.table.clone(), command.deadline);
        self.redis.at(deadline, Due::Expire(id));
        if !self.redis.tables.wait(&name, id) {
            return;
        }
        let question = RouteQuestion {
            core: self.own_inbox.clone(),
            to: RouteAsker::Core,
            table_name: name.to_string(),
        };
        if self.relay.ask(question).is_err() {
            for waiting in self.redis.tables.take_waiting(&name) {
                self.redis
                    .at(self.now.after(RETRY_PAUSE), Due::AskAgain(waiting));
            }
        }
    }

    /// Meta has answered where a table is.
    pub(super) fn on_redis_route(&mut self, name: &str, reply: Result<Route, Failure>) {
        let waiting = self.redis.tables.take_waiting(name);
        match reply {
            Ok(route) => {
                self.redis
                    .tables
                    .learn_route(&Arc::from(name), &route, &self.directory);
                for id in waiting {
                    self.go_on(id);
                }
            }
            Err(failure) if failure.code == Code::UnknownTable => {
                let message = format!(
                    "no table \"{name}\": create it with pegasus table create {name} --partitions 8"
                );
                for id in waiting {
                    self.fail_command(id, &Failure::new(Code::UnknownTable, message.clone()));
                }
            }
            Err(_) => {
                for id in waiting {
                    self.redis
                        .at(self.now.after(RETRY_PAUSE), Due::AskAgain(id));
                }
            }
        }
    }

    fn ask_part(&mut self, part: PartId, at: Found) {
        let Found { table, primary, .. } = at;
        let Some(command) = self.redis.commands.get_mut(part.command()) else {
            return;
        };
        let Some(found) = command.part_mut(part) else {
            return;
        };
        found.asked = primary;
        found.was_proven = at.is_proven;
        let partition = PartitionId {
            table: table.table,
            index: found.aim.partition(table.partition_count),
        };
        if partition.index >= table.partition_count {
            // A cursor of a table with more partitions: there is nothing behind it.
            return self.on_part(part, Ok(scan::nothing()));
        }
        let asked = Asked {
            partition,
            calls: found.calls.clone(),
            received: command.received,
            deadline: command.deadline,
        };
        match primary {
            Some(core) if core == self.address => self.admit_part(Origin::Part(part), asked),
            Some(core) if core.node == self.address.node => self.ask_core(core, part, asked),
            Some(core) => self.ask_node(core, part, &asked),
            None => self.fail_part(
                part,
                Failure::new(Code::NotHere, "its primary is not known"),
            ),
        }
    }

    /// A part whose rows this core has, or is believed to have.
    pub(super) fn admit_part(&mut self, origin: Origin, asked: Asked) {
        let (counter, timing) = counted(&asked.calls);
        self.stats.count(counter);
        let Asked {
            partition,
            calls,
            received,
            deadline,
        } = asked;
        let hash = key_hash(&commands::key_of(&calls), b"");
        let measure = Measure {
            timing: Some(timing),
            received,
            trace: self
                .stats
                .begin_part(timing, partition, hash, received, self.now),
        };
        match self.prepare_part(partition, calls, hash) {
            Ok((work, wall_us)) => {
                let is_read = matches!(work, Work::Read(_));
                let ticket = self.requests.insert(Pending {
                    origin,
                    partition,
                    measure,
                    deadline,
                    work,
                    scanner: None,
                });
                if is_read {
                    self.decide(Event::Read {
                        partition,
                        ticket,
                        deadline,
                    });
                } else {
                    self.decide_atomic(partition, ticket, hash, wall_us, deadline);
                }
            }
            Err(reply) => self.send_answer(origin, measure, reply),
        }
    }

    /// Checks all that can be checked without the replica's state.
    fn prepare_part(
        &mut self,
        partition: PartitionId,
        calls: Arc<Calls>,
        hash: u64,
    ) -> Result<(Work, u64), Reply> {
        if self.is_stopping() {
            return Err(Err(Failure::new(Code::NotServing, "this node is stopping")));
        }
        if self.requests.is_full() {
            let message = "too many requests are in work on this core";
            return Err(Err(self.busy(Counter::RejectRequests, message)));
        }
        let Some(table) = self.directory.tables.get(&partition.table) else {
            return Err(Err(self.unknown_table(partition)));
        };
        let is_write = goes_to_gate(&calls);
        if table.settings.denial(is_write).is_some() {
            // Clients of Redis wait for every answer.
            return Err(Err(denied()));
        }
        let count = u64::from(table.partition_count);
        let is_keyed = calls.as_slice().iter().any(|call| call.key().is_some());
        if is_keyed && hash % count.max(1) != u64::from(partition.index) {
            let message = format!("the key does not belong to partition {partition}");
            return Err(Err(Failure::new(Code::NotHere, message)));
        }
        let wall_us = clock::wall_us();
        let now_s = seconds_since_epoch(wall_us);
        let context = Context {
            now_ms: wall_us / 1000,
            default_ttl_s: table.default_ttl_seconds,
        };
        if is_write {
            let work = Self::work_of_redis_write(calls, context).map_err(Err)?;
            return Ok((work, wall_us));
        }
        let task = self
            .read_of_redis(partition, calls, context, now_s)
            .map_err(Err)?;
        Ok((Work::Read(Box::new(task)), wall_us))
    }

    fn read_of_redis(
        &self,
        partition: PartitionId,
        calls: Arc<Calls>,
        context: Context,
        now_s: u32,
    ) -> Result<ReadTask, Failure> {
        if let Some(call) = scan::page_call(&calls) {
            let after = self.redis.cursors.after(call, partition);
            return Ok(match RedisScan::new(call, after, now_s)? {
                Ok(scan) => ReadTask::of_redis_scan(partition, scan, now_s),
                Err(value) => ReadTask::known(partition, Ok(Response::Redis(value))),
            });
        }
        if calls
            .as_slice()
            .iter()
            .any(|call| call.spec.kind == Kind::DbSize)
        {
            let rows = i64::try_from(self.store.estimated_rows(partition)).unwrap_or(i64::MAX);
            let value = Value::Integer(rows);
            return Ok(ReadTask::known(partition, Ok(Response::Redis(value))));
        }
        let read = RedisRead::new(calls, context, now_s)?;
        Ok(ReadTask::of_redis(partition, read, now_s))
    }

    fn work_of_redis_write(calls: Arc<Calls>, context: Context) -> Result<Work, Failure> {
        let write = Dependent::Redis(RedisWrite::new(calls)?);
        let id = RequestId::default();
        let task = AtomicTask::dependent(write, id, false, context.default_ttl_s);
        Ok(Work::Atomic(Box::new(task)))
    }

    fn decide_atomic(
        &mut self,
        partition: PartitionId,
        ticket: Ticket,
        gate: u64,
        wall_us: u64,
        deadline: Instant,
    ) {
        self.decide(Event::Atomic {
            partition,
            ticket,
            request_id: ids::RequestId::default(),
            gate,
            wall_us,
            deadline,
        });
    }

    /// A page that was read gets a cursor.
    pub(super) fn with_cursor(&mut self, partition: PartitionId, reply: Reply) -> Reply {
        match reply {
            Ok(Response::Redis(value @ Value::Push(_))) => {
                Ok(Response::Redis(self.redis.cursors.number(partition, value)))
            }
            reply => reply,
        }
    }

    /// A part has its answer, or a failure that is looked at later.
    pub(super) fn on_part(&mut self, part: PartId, reply: Result<Value, Failure>) {
        match reply {
            Ok(value) => {
                self.prove(part);
                self.answer_part(part, value, true);
            }
            Err(failure) => self.fail_part(part, failure),
        }
    }

    /// Whoever was asked executes writes.
    fn prove(&mut self, part: PartId) {
        let RedisWork {
            commands, tables, ..
        } = &mut self.redis;
        let Some(command) = commands.get_mut(part.command()) else {
            return;
        };
        let Some(found) = command.part(part) else {
            return;
        };
        if found.was_proven || !goes_to_gate(&found.calls) {
            return;
        }
        if let Some(table) = tables.find(&command.table, &self.directory) {
            let partition = found.aim.partition(table.partition_count);
            if tables
                .primary(&command.table, partition)
                .is_none_or(|it| Some(it) == found.asked)
            {
                tables.set_proven(&command.table, partition, true);
            }
        }
    }

    /// `took_effect` if it was executed, or may have been.
    fn answer_part(&mut self, part: PartId, value: Value, took_effect: bool) {
        let id = part.command();
        if let Some(line) = self.redis.commands.line_of(part) {
            self.leave_line(line, part, took_effect);
        }
        let Some(command) = self.redis.commands.get_mut(id) else {
            return;
        };
        let is_last = command.answer(part, value);
        let table = self.redis.tables.find(&command.table, &self.directory);
        match (is_last, table) {
            (true, table) => {
                let none = TableAt {
                    table: TableId(0),
                    partition_count: 0,
                };
                self.finish_command(id, table.unwrap_or(none));
            }
            (false, Some(_)) => self.go_on(id),
            (false, None) => self.ask_for_table(id),
        }
    }

    fn finish_command(&mut self, id: CommandId, table: TableAt) {
        if let Some(command) = self.redis.commands.remove(id) {
            let (to, value) = command.finish(table.partition_count);
            self.io.reply(to, &Ok(Response::Redis(value)));
        }
    }

    fn fail_command(&mut self, id: CommandId, failure: &Failure) {
        if let Some(command) = self.redis.commands.remove(id) {
            let took_effect = may_take_effect(failure);
            for part in command.part_ids(id) {
                if let Some(line) = command.line_of(part) {
                    self.leave_line(line, part, took_effect);
                }
            }
            self.io.reply(command.to, &Err(failure.clone()));
        }
    }

    /// A part has failed, which is looked at later; nothing is sent behind it until then.
    fn fail_part(&mut self, part: PartId, failure: Failure) {
        if let Some(line) = self.redis.commands.line_of(part) {
            self.redis.order.fail(line, part);
        }
        self.redis.failed.push_back((part, failure));
    }

    /// A write needs its place no more.
    fn leave_line(&mut self, line: LineId, part: PartId, took_effect: bool) {
        let (overtaken, next) = self.redis.order.leave(line, part, took_effect);
        for part in overtaken {
            let failure = Failure::new(Code::NotServing, OVERTAKEN);
            self.redis.failed.push_back((part, failure));
        }
        if next != Next::Nothing {
            self.redis.woken.push(line);
        }
    }

    /// Failures and timers: what could not be looked at while something else was going on.
    pub(super) fn settle_redis(&mut self) {
        // Asking again may fail again: those are for the next turn.
        for _ in 0..self.redis.failed.len() {
            if let Some((part, failure)) = self.redis.failed.pop_front() {
                self.on_failed(part, failure);
            }
        }
        for line in std::mem::take(&mut self.redis.woken) {
            self.go_on_line(line, RETRY_PAUSE);
        }
        while let Some(entry) = self.redis.timers.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            match entry.remove() {
                Due::Retry(part) => self.retry(part),
                Due::Resume(line) => self.go_on_line(line, Duration::ZERO),
                Due::AskAgain(id) => self.go_on(id),
                Due::Expire(id) => self.expire(id),
                Due::Silence(question) => self.on_silence(question),
            }
        }
    }

    /// Sends what may be sent of a line; after this pause, if it was refused before.
    fn go_on_line(&mut self, line: LineId, pause: Duration) {
        if self.redis.order.next(line) == Next::Resume {
            if !pause.is_zero() {
                self.redis.at(self.now.after(pause), Due::Resume(line));
                return;
            }
            self.redis.order.resume(line);
        }
        let next = self.redis.order.next(line);
        self.send_line(line, next);
    }

    /// A part was not answered: asked for again if it was not executed and there is time, told to the client otherwise.
    fn on_failed(&mut self, part: PartId, failure: Failure) {
        let Some(command) = self.redis.commands.get_mut(part.command()) else {
            return;
        };
        let Some(found) = command.part(part) else {
            return;
        };
        let is_again = may_try_again(&failure, found.calls.writes())
            && self.now.after(RETRY_PAUSE) < command.deadline;
        let name = command.table.clone();
        let (aim, asked) = (found.aim, found.asked);
        let line = command.line_of(part);
        if !is_again {
            return self.give_up(part, &failure);
        }
        if let Some(line) = line
            && !self.redis.order.refuse(line, part)
        {
            return self.give_up(part, &Failure::new(Code::NotServing, OVERTAKEN));
        }
        let is_learned = self.learn_from(&name, aim, asked, &failure);
        let pause = RETRY_PAUSE.max(Duration::from_millis(failure.retry_after_ms.into()));
        match (line, is_learned) {
            (Some(line), true) => self.go_on_line(line, Duration::ZERO),
            (Some(line), false) => self.go_on_line(line, pause),
            (None, true) => self.retry(part),
            (None, false) => {
                self.redis.at(self.now.after(pause), Due::Retry(part));
            }
        }
    }

    /// The client is told that a part failed.
    fn give_up(&mut self, part: PartId, failure: &Failure) {
        let command = self.redis.commands.get_mut(part.command());
        if command.is_some_and(|command| command.is_single()) {
            return self.fail_command(part.command(), failure);
        }
        self.answer_part(part, error_of(failure), may_take_effect(failure));
    }

    /// Takes over what a failure tells about the primary; true if it names one that was not known.
    fn learn_from(
        &mut self,
        name: &Arc<str>,
        aim: Aim,
        asked: Option<CoreAddress>,
        failure: &Failure,
    ) -> bool {
        if failure.code == Code::UnknownTable {
            self.redis.tables.forget(name);
            return false;
        }
        let Some(table) = self.redis.tables.find(name, &self.directory) else {
            return false;
        };
        if !matches!(
            failure.code,
            Code::NotPrimary | Code::NotHere | Code::NotServing | Code::OutOfService
        ) {
            return false;
        }
        let index = aim.partition(table.partition_count);
        let named = failure
            .primary
            .and_then(|address| tables::core_at(address, &self.directory));
        let known = self.redis.tables.primary(name, index);
        if known.is_some() && known != asked {
            // Another one has learned since then.
            return true;
        }
        if named.is_none() || asked == named {
            // Whoever was asked is not it: meta is asked before the next try.
            self.redis.tables.set_primary(name, index, None);
            self.refresh(name);
            return false;
        }
        self.redis.tables.set_primary(name, index, named);
        true
    }

    /// Asks meta where the table is, for whoever comes next; nobody waits for it.
    fn refresh(&mut self, name: &Arc<str>) {
        let question = RouteQuestion {
            core: self.own_inbox.clone(),
            to: RouteAsker::Core,
            table_name: name.to_string(),
        };
        // Too many ask already: their answers come here too.
        let _ = self.relay.ask(question);
    }

    /// Asks for a part, wherever it belongs by now.
    fn retry(&mut self, part: PartId) {
        let found = self.place_of(part);
        self.ask_at(part, found);
    }

    fn ask_at(&mut self, part: PartId, found: Option<Found>) {
        if let Some(found) = found {
            return self.ask_part(part, found);
        }
        if let Some(command) = self.redis.commands.get_mut(part.command()) {
            let name = command.table.clone();
            self.refresh(&name);
            let failure = Failure::new(Code::NotServing, "its table is looked for");
            self.fail_part(part, failure);
        }
    }

    /// The deadline of a command that had to wait for its table.
    fn expire(&mut self, id: CommandId) {
        let Some(command) = self.redis.commands.get_mut(id) else {
            return;
        };
        if command.is_untouched() {
            let message = format!("meta does not say where table {} is", command.table);
            self.fail_command(id, &Failure::new(Code::NotServing, message));
        }
    }

    /// The directory is new.
    pub(super) fn check_redis_tables(&mut self) {
        self.redis.tables.check(&self.directory);
    }
}

/// Whether a part that failed like this was executed, or may have been.
const fn may_take_effect(failure: &Failure) -> bool {
    !matches!(failure.code.execution(), Execution::NotExecuted)
}

/// Why a write that was refused is not tried again.
const OVERTAKEN: &str = "a later write of its key on this connection was executed";

/// Whether a part that failed like this may be asked for again.
const fn may_try_again(failure: &Failure, writes: bool) -> bool {
    match failure.code {
        Code::NotHere
        | Code::NotPrimary
        | Code::NotServing
        | Code::Busy
        | Code::Creating
        | Code::OutOfService
        | Code::UnknownTable => true,
        Code::Unknown => !writes,
        _ => matches!(failure.code.execution(), Execution::Unknown) && !writes,
    }
}

/// The counter and the histogram of a part.
fn counted(calls: &Calls) -> (Counter, Timing) {
    let Calls::One(call) = calls else {
        return (Counter::RequestCheckAndMutate, Timing::CheckAndMutate);
    };
    match call.spec.kind {
        Kind::Get | Kind::MGet | Kind::HGet | Kind::StrLen | Kind::HStrLen | Kind::GetRange => {
            (Counter::RequestGet, Timing::Get)
        }
        Kind::Set
        | Kind::MSet
        | Kind::SetEx
        | Kind::PSetEx
        | Kind::SetNx
        | Kind::MSetNx
        | Kind::GetSet => (Counter::RequestPut, Timing::Put),
        Kind::Incr | Kind::IncrBy | Kind::Decr | Kind::DecrBy | Kind::IncrByFloat => {
            (Counter::RequestIncr, Timing::Incr)
        }
        Kind::Del | Kind::GetDel => (Counter::RequestRemove, Timing::Remove),
        Kind::Exists | Kind::HExists | Kind::Type => (Counter::RequestExist, Timing::Exist),
        Kind::Ttl | Kind::PTtl | Kind::ExpireTime | Kind::PExpireTime => {
            (Counter::RequestTtl, Timing::Ttl)
        }
        Kind::HSet | Kind::HMSet | Kind::HSetNx => (Counter::RequestMultiPut, Timing::MultiPut),
        Kind::HDel => (Counter::RequestMultiRemove, Timing::MultiRemove),
        Kind::HMGet | Kind::HGetAll | Kind::HKeys | Kind::HVals => {
            (Counter::RequestMultiGet, Timing::MultiGet)
        }
        Kind::HLen => (Counter::RequestSortKeyCount, Timing::SortKeyCount),
        Kind::Scan | Kind::HScan => (Counter::RequestScan, Timing::Scan),
        _ => (Counter::RequestCheckAndMutate, Timing::CheckAndMutate),
    }
}

#[cfg(test)]
mod tests;
