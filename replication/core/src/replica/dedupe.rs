//! Which request ids are in flight.
//!
//! A mutation is found by its request id in two places that overlap and leave nothing out: up to what the engine has applied,
//! in the window that the engine keeps with its rows, so that it survives whatever they survive; above that, in the prepared
//! list. A new primary serves when all that was prepared before it is applied, so its list has no older ids to know.

use super::Replica;
use crate::ids::{Decree, RequestId};

impl Replica {
    /// The mutation of this id that is prepared and not known to be applied.
    pub(super) fn prepared_under(&self, id: RequestId) -> Option<Decree> {
        if id.client == 0 {
            return None;
        }
        let mut slots = self.list.newest_above(self.applied);
        slots
            .find(|slot| slot.entry.mutation.request_id == id)
            .map(|slot| slot.entry.decree)
    }
}
