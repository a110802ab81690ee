//! Parts that failed: asked for again if they were not executed and there is time, told to the client otherwise.

use super::super::ShardLoop;
use super::commands::{Aim, CommandId, PartId};
use super::{Due, RETRY_PAUSE, tables};
use crate::route_relay::{RouteAsker, RouteQuestion};
use pegasus_fbs::code::{Code, Execution};
use pegasus_net::frontend::resp::error_of;
use pegasus_net::request::Failure;
use pegasus_replication::ids::CoreAddress;
use std::sync::Arc;
use std::time::Duration;

impl ShardLoop {
    /// A part was not answered: asked for again if it was not executed and there is time, told to the client otherwise.
    pub(super) fn on_failed(&mut self, part: PartId, failure: Failure) {
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
    pub(super) fn refresh(&mut self, name: &Arc<str>) {
        let question = RouteQuestion {
            core: self.own_inbox.clone(),
            to: RouteAsker::Core,
            table_name: name.to_string(),
        };
        // Too many ask already: their answers come here too.
        let _ = self.relay.ask(question);
    }

    /// The deadline of a command that had to wait for its table.
    pub(super) fn expire(&mut self, id: CommandId) {
        let Some(command) = self.redis.commands.get_mut(id) else {
            return;
        };
        if command.is_untouched() {
            let message = format!("meta does not say where table {} is", command.table);
            self.fail_command(id, &Failure::new(Code::NotServing, message));
        }
    }
}

/// Whether a part that failed like this was executed, or may have been.
pub(super) const fn may_take_effect(failure: &Failure) -> bool {
    !matches!(failure.code.execution(), Execution::NotExecuted)
}

/// Why a write that was refused is not tried again.
pub(super) const OVERTAKEN: &str = "a later write of its key on this connection was executed";

/// Whether a part that failed like this may be asked for again.
pub(super) const fn may_try_again(failure: &Failure, writes: bool) -> bool {
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
