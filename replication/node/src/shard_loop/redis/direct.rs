//! Reads of one key whose partition this core has: asked for and answered without a command in between. If that fails they
//! become commands, which find out who has the partition now.

use super::super::ShardLoop;
use super::super::requests::Origin;
use super::commands::{Aim, InWork, parts_of};
use super::failed::may_try_again;
use super::{Asked, RETRY_PAUSE, TIMEOUT};
use pegasus_fbs::hash::key_hash;
use pegasus_net::ReplyTo;
use pegasus_net::request::{Failure, Reply};
use pegasus_redis::{Calls, Place};
use pegasus_replication::ids::{Instant, PartitionId};
use std::sync::Arc;

/// One such read in work.
#[derive(Debug)]
pub(in crate::shard_loop) struct DirectRead {
    pub(super) to: ReplyTo,
    /// Name of its table.
    table: Arc<str>,
    calls: Arc<Calls>,
    received: Instant,
}

impl ShardLoop {
    /// Asks for such a read, of this table.
    pub(super) fn read_directly(
        &mut self,
        to: ReplyTo,
        (table, calls): (Arc<str>, Arc<Calls>),
        partition: PartitionId,
        received: Instant,
    ) {
        let asked = Asked {
            partition,
            calls: calls.clone(),
            received,
            deadline: received.after(TIMEOUT),
        };
        let direct = DirectRead {
            to,
            table,
            calls,
            received,
        };
        self.admit_part(Origin::Direct(Box::new(direct)), asked);
    }

    /// The partition of a read of one key, if this core is believed to be its primary.
    pub(super) fn own_partition(&mut self, table: &Arc<str>, calls: &Calls) -> Option<PartitionId> {
        let Calls::One(call) = calls else {
            return None;
        };
        if call.spec.writes || call.spec.place != Place::Key {
            return None;
        }
        let aim = Aim::Hash(key_hash(call.argument(call.key_positions().next()?), b""));
        let found = self.redis.tables.find_for(table, aim, &self.directory)?;
        (found.primary == Some(self.address)).then(|| PartitionId {
            table: found.table.table,
            index: aim.partition(found.table.partition_count),
        })
    }

    /// It has its answer, or a failure that is looked at later.
    pub(in crate::shard_loop) fn on_direct(&mut self, direct: Box<DirectRead>, reply: Reply) {
        match reply {
            Err(failure)
                if may_try_again(&failure, false)
                    && self.now.after(RETRY_PAUSE) < direct.received.after(TIMEOUT) =>
            {
                self.redis.again.push((direct, failure));
            }
            reply => self.io.reply(direct.to, &reply),
        }
    }

    /// A read that failed becomes a command of which this core was asked in vain.
    pub(super) fn read_again(&mut self, direct: DirectRead, failure: Failure) {
        let DirectRead {
            to,
            table,
            calls,
            received,
        } = direct;
        let (goal, parts) = parts_of(calls, |key| key_hash(key, b""));
        let times = (received, received.after(TIMEOUT));
        let command = InWork::new(to, table, times, goal, parts);
        let id = self.redis.commands.insert(command);
        let own = self.address;
        if let Some(part) = self.redis.commands.take_next(id) {
            let command = self.redis.commands.get_mut(id);
            if let Some(part) = command.and_then(|command| command.part_mut(part)) {
                part.asked = Some(own);
            }
            self.on_failed(part, failure);
        }
    }
}
