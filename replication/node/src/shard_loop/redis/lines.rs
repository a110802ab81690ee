//! Writes of one connection on one key are sent in their order: [`Order`](super::order::Order) says what may go, this sends it.

use super::super::ShardLoop;
use super::commands::{CommandId, PartId};
use super::failed::OVERTAKEN;
use super::order::{LineId, Next};
use super::{Due, RedisWork};
use pegasus_fbs::code::Code;
use pegasus_net::request::Failure;
use std::time::Duration;

impl ShardLoop {
    /// Writes take their places behind those that came before, whatever they wait for.
    pub(super) fn join_lines(&mut self, id: CommandId) {
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

    /// Sends what may be sent of a line.
    pub(super) fn send_line(&mut self, line: LineId, mut next: Next) {
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

    /// Whoever was asked executes writes.
    pub(super) fn prove(&mut self, part: PartId) {
        let RedisWork {
            commands, tables, ..
        } = &mut self.redis;
        let Some(command) = commands.get_mut(part.command()) else {
            return;
        };
        if !command.has_to_prove(part) {
            return;
        }
        let Some(found) = command.part(part) else {
            return;
        };
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

    /// A write needs its place no more.
    pub(super) fn leave_line(&mut self, line: LineId, part: PartId, took_effect: bool) {
        let (overtaken, next) = self.redis.order.leave(line, part, took_effect);
        for part in overtaken {
            let failure = Failure::new(Code::NotServing, OVERTAKEN);
            self.redis.failed.push_back((part, failure));
        }
        if next != Next::Nothing {
            self.redis.woken.push(line);
        }
    }

    /// Sends what may be sent of a line; after this pause, if it was refused before.
    pub(super) fn go_on_line(&mut self, line: LineId, pause: Duration) {
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
}
