//! Which core is primary of which partition of a table.
//!
//! The table is fetched from the configured addresses and, where those do not answer, from cores; corrected in place by
//! redirects; and fetched again when an answer, a silence or a lost connection says that it is out of date. Everybody who
//! notices at the same time waits for one fetch, a client makes one at a time, and those that bring nothing new become
//! rarer, at random times: a thousand clients that lose one core do not all ask meta in step.

use crate::driver::Driver;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use pegasus_fbs::code::Code;
use rand::Rng;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

mod fetch;
mod routers;
mod routes;

use fetch::fetch;
pub(crate) use routers::Routers;
use routes::Heard;
pub(crate) use routes::Routes;

/// Where the partitions of one table are. One for each table name, shared by all its handles.
#[derive(Debug)]
pub(crate) struct Router {
    name: String,
    driver: Arc<Driver>,
    routes: RwLock<Arc<Routes>>,
    fetches: Mutex<Fetches>,
    /// Changes when a fetch ends.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Fetches {
    is_running: bool,
    not_before: Option<Instant>,
    /// How many in a row brought nothing new.
    fruitless: u32,
    /// What the last one brought, if that was the end of the table.
    dropped: Option<Error>,
}

/// Between two fetches, doubled for each that brings nothing new, and at random between half and whole of it.
const INTERVAL_MIN: Duration = Duration::from_millis(20);
/// A failover takes less than a second; a client that finds out 100 ms later has not lost much.
const INTERVAL_MAX: Duration = Duration::from_millis(100);
/// After about two seconds something is broken for longer.
const INTERVAL_MAX_LATER: Duration = Duration::from_millis(500);
const FRUITLESS_LATER: u32 = 24;
/// Trouble that ended so long ago does not slow down the next.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2);
/// What many clients notice in the same moment they do not all ask in the same moment.
const JITTER_MAX: Duration = Duration::from_millis(4);
/// Every so many fetches in a row without anything new, a core is asked before meta.
const CORE_FIRST_EVERY: u32 = 3;
/// How many cores are asked beside the configured addresses.
const CORES_MAX: usize = 3;

impl Router {
    /// Fetches the routes of a table.
    ///
    /// # Errors
    /// [`Code::UnknownTable`], or no address answered.
    pub(crate) async fn open(driver: &Arc<Driver>, name: &str) -> Result<Arc<Self>> {
        let heard = fetch(driver, name, driver.seeds()).await?;
        let router = Arc::new(Self {
            name: name.to_owned(),
            driver: Arc::clone(driver),
            routes: RwLock::new(Arc::new(Routes::first(heard))),
            fetches: Mutex::default(),
            ended: watch::Sender::new(0),
        });
        driver.routers().add(&router);
        Ok(router)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fetches the routes again, unless somebody has since `seen` or just now, and waits for that until `limit`. Keeps
    /// the old ones when nobody answers.
    ///
    /// # Errors
    /// Only [`Code::UnknownTable`]: the table was dropped.
    pub(crate) async fn refresh(self: &Arc<Self>, seen: u64, limit: Instant) -> Result<()> {
        let mut ended = self.ended.subscribe();
        if self.routes().generation > seen {
            return Ok(());
        }
        if self.fetch_if_due() {
            // If it takes longer it goes on all the same.
            let _ = timeout_at(limit, ended.changed()).await;
        }
        self.fetches().dropped.clone().map_or(Ok(()), Err)
    }

    /// The same without waiting.
    pub(crate) fn refresh_in_background(self: &Arc<Self>) {
        self.fetch_if_due();
    }

    /// Corrects one partition after the core `from` named `to` as its primary under `ballot` (0 = not known); says whether to
    /// go there.
    pub(crate) fn redirect(
        &self,
        partition: u32,
        from: &Arc<Endpoint>,
        to: &str,
        ballot: u64,
    ) -> bool {
        let to = self.driver.endpoints().at(to);
        // Held, so that a fetch that ends now does not overlook it.
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.redirect(partition, from, to, ballot)
    }

    /// Whether a partition's primary is known to be another core than this.
    pub(crate) fn is_elsewhere(&self, partition: u32, endpoint: &Arc<Endpoint>) -> bool {
        self.routes()
            .primary(partition)
            .is_some_and(|primary| !Arc::ptr_eq(&primary, endpoint))
    }

    /// Says whether a fetch is under way now.
    fn fetch_if_due(self: &Arc<Self>) -> bool {
        let now = Instant::now();
        let mut fetches = self.fetches();
        if fetches.is_running {
            return true;
        }
        if let Some(not_before) = fetches.not_before {
            if now < not_before {
                return false;
            }
            if now - not_before > FORGOTTEN_AFTER {
                fetches.fruitless = 0;
            }
        }
        fetches.is_running = true;
        drop(fetches);
        let running = Running(Arc::clone(self));
        tokio::spawn(async move { running.0.fetch_again().await });
        true
    }

    async fn fetch_again(&self) {
        let jitter = JITTER_MAX.mul_f64(rand::rng().random());
        sleep(jitter).await;
        let _one_at_a_time = self.driver.fetching().lock().await;
        let fruitless = self.fetches().fruitless;
        let result = fetch(&self.driver, &self.name, self.addresses(fruitless)).await;
        let mut dropped = None;
        let is_changed = match result {
            Ok(heard) => self.install(heard),
            Err(error) if error.code() == Some(Code::UnknownTable) => {
                dropped = Some(error);
                false
            }
            Err(error) => {
                tracing::debug!(table = self.name, %error, "routes not fetched, the old ones stay");
                false
            }
        };
        let mut fetches = self.fetches();
        fetches.dropped = dropped;
        fetches.fruitless = if is_changed { 0 } else { fruitless + 1 };
        fetches.not_before = Some(Instant::now() + interval_after(fetches.fruitless));
    }

    /// Takes over what an answer says; requests wait no longer at cores that partitions have left. Says whether anything
    /// is new.
    fn install(&self, heard: Heard) -> bool {
        let mut current = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let merged = Arc::new(current.merged(heard, Instant::now()));
        let old = std::mem::replace(&mut *current, Arc::clone(&merged));
        // Before connections are touched, and before the old routes go, which may hold the last handle of some.
        drop(current);
        let (is_changed, left) = merged.changes_since(&old);
        for endpoint in left {
            endpoint.leave_moved();
        }
        is_changed
    }

    /// Whom to ask, in order: the configured addresses, then a few cores, those first that are known to be well.
    fn addresses(&self, fruitless: u32) -> Vec<Arc<Endpoint>> {
        let mut addresses = self.driver.seeds();
        let routes = self.routes();
        let start = rand::rng().random_range(0..routes.partition_count().max(1));
        let mut cores = routes.cores(start as usize);
        cores.retain(|core| !addresses.iter().any(|seed| Arc::ptr_eq(seed, core)));
        cores.sort_by_key(|core| !core.is_well());
        cores.truncate(CORES_MAX);
        if (fruitless + 1).is_multiple_of(CORE_FIRST_EVERY) && !cores.is_empty() {
            addresses.insert(0, cores.remove(0));
        }
        addresses.extend(cores);
        addresses
    }

    fn fetches(&self) -> MutexGuard<'_, Fetches> {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fetch under way; it ends with this, however it ends.
struct Running(Arc<Router>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetches().is_running = false;
        self.0.ended.send_modify(|count| *count += 1);
    }
}

fn interval_after(fruitless: u32) -> Duration {
    let longest = if fruitless < FRUITLESS_LATER {
        INTERVAL_MAX
    } else {
        INTERVAL_MAX_LATER
    };
    INTERVAL_MIN
        .saturating_mul(1 << fruitless.min(10))
        .min(longest)
        .mul_f64(rand::rng().random_range(0.5..1.0))
}
