//! All routers of a client, for connections, which know tables by their numbers only.

use super::{Router, Routes};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The routers that are in use, one for each table name.
#[derive(Debug, Default)]
pub(crate) struct Routers(Mutex<Vec<Weak<Router>>>);

/// The routes of all tables at one moment, by table number.
#[derive(Debug)]
pub(crate) struct Snapshot(HashMap<u32, Arc<Routes>>);

impl Routers {
    /// Adds a router. Forgets those that nobody uses any more.
    pub(super) fn add(&self, router: &Arc<Router>) {
        let mut routers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        routers.retain(|router| router.strong_count() > 0);
        routers.push(Arc::downgrade(router));
    }

    /// The core at `address` owes answers and is silent: fetches the tables anew that have a primary there.
    pub(crate) fn on_silence(&self, address: &str) {
        for router in self.in_use() {
            if router.routes().has_primary_at(address) {
                router.refresh_in_background();
            }
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let routes = self.in_use().into_iter().map(|router| router.routes());
        Snapshot(routes.map(|routes| (routes.table_id, routes)).collect())
    }

    fn in_use(&self) -> Vec<Arc<Router>> {
        let routers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        routers.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Snapshot {
    /// Whether a partition is known to have its primary at another address than this.
    pub(crate) fn is_elsewhere(&self, table: u32, partition: u32, address: &str) -> bool {
        self.0
            .get(&table)
            .and_then(|routes| routes.primary(partition))
            .is_some_and(|primary| primary.address() != address)
    }
}
