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
mod direct;
mod failed;
mod forward;
mod lines;
mod order;
mod part;
mod queue;
mod read;
mod scan;
mod tables;
mod write;

pub use commands::PartId;
pub(super) use direct::DirectRead;
pub(super) use forward::value_of;
pub(super) use read::RedisRead;
pub(super) use scan::{Cursors, RedisScan};
pub use write::RedisWrite;

use super::ShardLoop;
use super::requests::Origin;
use crate::route_relay::{RouteAsker, RouteQuestion};
use commands::{Aim, CommandId, Commands, Failed, Goal, InWork, Part, parts_of};
use failed::may_take_effect;
use forward::Away;
use order::{LineId, Order};
use pegasus_fbs::code::Code;
use pegasus_fbs::hash::key_hash;
use pegasus_fbs::stats_page::Counter;
use pegasus_net::request::{Failure, Redis, Response, Route};
use pegasus_net::{Arrival, ReplyTo};
use pegasus_redis::{Call, Calls, Kind};
use pegasus_replication::ids::{Instant, PartitionId};
use pegasus_resp::Value;
use queue::Queues;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tables::{Found, Tables};

/// How long a command may take; Redis clients name no deadline.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
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
    /// Direct reads that failed; looked at likewise.
    again: Vec<(Box<DirectRead>, Failure)>,
    /// Lines that may have something to send; looked at likewise.
    woken: Vec<LineId>,
    timers: BTreeMap<(Instant, u64), Due>,
    next_timer: u64,
    away: Away,
    queues: Queues,
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
    /// The first write that waits for room in this partition has waited too long.
    Queue(PartitionId),
}

/// A part as it is asked for, wherever that is.
#[derive(Clone, Debug)]
pub struct Asked {
    pub partition: PartitionId,
    pub calls: Arc<Calls>,
    pub received: Instant,
    pub deadline: Instant,
}

impl Asked {
    pub(super) fn is_write(&self) -> bool {
        commands::goes_to_gate(&self.calls)
    }

    /// Of all arguments.
    pub(super) fn bytes(&self) -> u64 {
        let bytes_of = |call: &Call| call.command.arguments().map(<[u8]>::len).sum::<usize>();
        self.calls.as_slice().iter().map(bytes_of).sum::<usize>() as u64
    }
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
            again: Vec::new(),
            woken: Vec::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
            away: Away::default(),
            queues: Queues::default(),
            cursors: Cursors::default(),
        }
    }

    /// When something is to be done.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Whether there is something to do at once.
    pub(super) fn has_work(&self) -> bool {
        !(self.failed.is_empty() && self.again.is_empty() && self.woken.is_empty())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.commands.count() == 0 && self.queues.is_empty() && self.again.is_empty()
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
            self.asked_at = self.now;
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
        let table = table.unwrap_or_else(|| self.redis.default_table.clone());
        if let Some(partition) = self.own_partition(&table, &calls) {
            return self.read_directly(to, (table, calls), partition, received);
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
        let times = (received, received.after(TIMEOUT));
        let command = InWork::new(to, table, times, goal, parts);
        let command = self.redis.commands.insert(command);
        self.join_lines(command);
        self.go_on(command);
    }

    /// The partition of the key with this hash, in the table of this name (`None`: the one of clients that have selected
    /// none), if this core has heard of the table.
    pub(super) fn partition_by_name(
        &mut self,
        table: Option<&Arc<str>>,
        key_hash: u64,
    ) -> Option<PartitionId> {
        let RedisWork {
            default_table,
            tables,
            ..
        } = &mut self.redis;
        let found = tables.find(table.unwrap_or(default_table), &self.directory)?;
        Some(PartitionId {
            table: found.table,
            index: Aim::Hash(key_hash).partition(found.partition_count),
        })
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
            return self.finish_command(id);
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
        // It is asked again and again while meta is away: one timer is enough.
        if command.begins_to_wait() {
            self.redis.at(deadline, Due::Expire(id));
        }
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

    /// `took_effect` if it was executed, or may have been.
    fn answer_part(&mut self, part: PartId, value: Value, took_effect: bool) {
        let id = part.command();
        if let Some(line) = self.redis.commands.line_of(part) {
            self.leave_line(line, part, took_effect);
        }
        let Some(command) = self.redis.commands.get_mut(id) else {
            return;
        };
        if command.answer(part, value) {
            return self.finish_command(id);
        }
        if !command.has_all_asked() {
            self.go_on(id);
        }
    }

    fn finish_command(&mut self, id: CommandId) {
        if let Some(command) = self.redis.commands.remove(id) {
            let partition_count = match command.goal {
                Goal::Page { .. } => self
                    .redis
                    .tables
                    .find(&command.table, &self.directory)
                    .map_or(0, |table| table.partition_count),
                _ => 0,
            };
            let (to, value) = command.finish(partition_count);
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

    /// Failures and timers: what could not be looked at while something else was going on.
    pub(super) fn settle_redis(&mut self) {
        // Asking again may fail again: those are for the next turn.
        for _ in 0..self.redis.failed.len() {
            if let Some((part, failure)) = self.redis.failed.pop_front() {
                self.on_failed(part, failure);
            }
        }
        for (direct, failure) in std::mem::take(&mut self.redis.again) {
            self.read_again(*direct, failure);
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
                Due::Queue(partition) => self.expire_queued(partition),
            }
        }
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

    /// The directory is new.
    pub(super) fn check_redis_tables(&mut self) {
        self.redis.tables.check(&self.directory);
    }
}

#[cfg(test)]
mod tests;
