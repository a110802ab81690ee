//! What Apache's tools are told, and when.

use super::Decider;
use crate::server::apache::{self, CREATING_MS, Caller, Told};
use crate::server::letter::Failed;
use crate::state::{Answer, State};
use pegasus_replication::ids::TableId;
use pegasus_thrift::{ErrorCode, Rpc};

/// Those who wait for a table; whoever comes on top is answered at once.
const MAKERS_MAX: usize = 1_024;

/// Somebody who has made a table and waits for it to serve, for a while: tools look for their table as soon as they are
/// answered, and give up where they find it half made.
pub(super) struct Maker {
    table: TableId,
    /// All partitions before this one have been seen to serve.
    served: u32,
    deadline_ms: u64,
    caller: Caller,
}

impl Decider {
    pub(super) fn tell_apache(
        &mut self,
        rpc: Rpc,
        forgives_missing: bool,
        answer: &Answer,
        caller: Caller,
    ) {
        let told = apache::outcome(&self.state, rpc, answer, forgives_missing, &caller);
        let Told::AwaitsTable(table) = told else {
            return;
        };
        if self.makers.len() >= MAKERS_MAX {
            return apache::created(table, &caller);
        }
        let made_ms = self.state.durable().tables().get(&table);
        let made_ms = made_ms.map_or(0, |table| table.created_ms);
        self.makers.push(Maker {
            table,
            served: 0,
            deadline_ms: made_ms.saturating_add(CREATING_MS),
            caller,
        });
    }

    /// Its change could not be stored.
    pub(super) fn fail_apache(rpc: Rpc, failed: &Failed, caller: &Caller) {
        caller.refuse(rpc, ErrorCode::FileOperationFailed, &failed.message);
    }

    pub(super) fn serve_makers(&mut self) {
        let now_ms = self.clock.now_ms();
        let state = &self.state;
        self.makers.retain_mut(|maker| {
            let waits = now_ms < maker.deadline_ms && maker.awaits(state);
            if !waits {
                apache::created(maker.table, &maker.caller);
            }
            waits
        });
    }
}

impl Maker {
    /// Another meta leads now; the table is made all the same.
    pub(super) fn tell_deposed(self) {
        apache::created(self.table, &self.caller);
    }

    /// Some partition does not serve yet.
    fn awaits(&mut self, state: &State) -> bool {
        let waiting = state.first_not_serving(self.table, self.served);
        self.served = waiting.unwrap_or(self.served);
        waiting.is_some()
    }
}
