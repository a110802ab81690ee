//! Which core is primary of which partition of a table.
//!
//! The table is fetched from the configured addresses, corrected in place by redirects, and fetched again when an answer
//! or a lost connection says that it is out of date; everybody who notices at the same time waits for one fetch.

use crate::driver::{Answer, Driver, Problem, exchange};
use crate::endpoint::{Endpoint, Endpoints};
use crate::error::{Cause, Error, Result};
use pegasus_fbs::body;
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{FrameKind, Header};
use pegasus_fbs::kv;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout};

/// Where the partitions of one table are. One for each table name, shared by all its handles.
#[derive(Debug)]
pub(crate) struct Router {
    name: String,
    driver: Arc<Driver>,
    routes: RwLock<Arc<Routes>>,
    /// Counts fetches, so that who waited for somebody else's does not fetch again.
    generation: AtomicU64,
    /// Held during a fetch.
    fetching: AsyncMutex<Fetching>,
}

#[derive(Debug, Default)]
struct Fetching {
    /// The last fetch that nobody waited for.
    in_background: Option<Instant>,
    /// The last fetch to which nobody answered.
    failed: Option<Instant>,
}

/// One fetched table; primaries change in place when a redirect names a newer one.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) table_id: u32,
    pub(crate) generation: u64,
    primaries: Vec<RwLock<Option<Arc<Endpoint>>>>,
}

/// How long one address may take to answer before the next one is asked.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1);
const BACKGROUND_FETCH_INTERVAL: Duration = Duration::from_millis(200);
/// Everybody who waited for a fetch that failed goes on with the old routes, instead of waiting for one of their own.
const FAILURE_SHARED_FOR: Duration = Duration::from_millis(200);
const PARTITION_COUNT_MAX: u32 = 65_536;

impl Router {
    /// Fetches the routes of a table.
    ///
    /// # Errors
    /// [`Code::UnknownTable`], or no address answered.
    pub(crate) async fn open(driver: &Arc<Driver>, name: &str) -> Result<Arc<Self>> {
        let routes = fetch(driver, name, 1, &[]).await?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            driver: Arc::clone(driver),
            routes: RwLock::new(Arc::new(routes)),
            generation: AtomicU64::new(1),
            fetching: AsyncMutex::default(),
        }))
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

    /// Fetches the routes again, unless somebody has since `seen`. Keeps the old ones when nobody answers.
    ///
    /// # Errors
    /// Only [`Code::UnknownTable`]: the table was dropped.
    pub(crate) async fn refresh(&self, seen: u64) -> Result<()> {
        let mut fetching = self.fetching.lock().await;
        if is_within(fetching.failed, FAILURE_SHARED_FOR) {
            return Ok(());
        }
        let result = self.fetch_newer_than(seen).await;
        fetching.failed = matches!(result, Ok(Fetched::Nothing)).then(Instant::now);
        result.map(|_| ())
    }

    /// The same without waiting, at most every 200 ms.
    pub(crate) fn refresh_in_background(self: &Arc<Self>) {
        let router = Arc::clone(self);
        let Ok(mut fetching) = router.fetching.try_lock() else {
            return;
        };
        if is_within(fetching.in_background, BACKGROUND_FETCH_INTERVAL) {
            return;
        }
        fetching.in_background = Some(Instant::now());
        drop(fetching);
        let seen = router.routes().generation;
        // A failed fetch changes nothing here; the next operation meets the trouble itself.
        tokio::spawn(async move { router.refresh(seen).await });
    }

    async fn fetch_newer_than(&self, seen: u64) -> Result<Fetched> {
        let old = self.routes();
        if old.generation > seen {
            return Ok(Fetched::Routes);
        }
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        match fetch(&self.driver, &self.name, generation, &old.hosts()).await {
            Ok(routes) => {
                *self.routes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
                Ok(Fetched::Routes)
            }
            Err(error) if error.code() == Some(Code::UnknownTable) => Err(error),
            Err(error) => {
                tracing::debug!(table = self.name, %error, "routes not fetched, the old ones stay");
                Ok(Fetched::Nothing)
            }
        }
    }
}

enum Fetched {
    Routes,
    Nothing,
}

fn is_within(past: Option<Instant>, period: Duration) -> bool {
    past.is_some_and(|past| past.elapsed() < period)
}

impl Routes {
    pub(crate) fn partition_count(&self) -> u32 {
        u32::try_from(self.primaries.len()).unwrap_or(u32::MAX)
    }

    /// The primary's core, when it is known.
    pub(crate) fn primary(&self, partition: u32) -> Option<Arc<Endpoint>> {
        let primary = self.primaries.get(partition as usize)?;
        primary
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Corrects one partition after a redirect.
    pub(crate) fn set_primary(&self, partition: u32, endpoint: Arc<Endpoint>) {
        if let Some(primary) = self.primaries.get(partition as usize) {
            *primary.write().unwrap_or_else(PoisonError::into_inner) = Some(endpoint);
        }
    }

    /// A few distinct cores that could relay a question to meta.
    fn hosts(&self) -> Vec<Arc<Endpoint>> {
        const HOSTS_MAX: usize = 3;
        let mut hosts: Vec<Arc<Endpoint>> = Vec::new();
        for partition in 0..self.partition_count() {
            let Some(primary) = self.primary(partition) else {
                continue;
            };
            if !hosts.iter().any(|host| Arc::ptr_eq(host, &primary)) {
                hosts.push(primary);
            }
            if hosts.len() == HOSTS_MAX {
                break;
            }
        }
        hosts
    }
}

/// Asks the configured addresses one after the other, then `others`, for the routes of a table.
async fn fetch(
    driver: &Driver,
    name: &str,
    generation: u64,
    others: &[Arc<Endpoint>],
) -> Result<Routes> {
    let write = |builder: &mut FlatBufferBuilder<'static>| {
        let table_name = Some(builder.create_string(name));
        let request = kv::RouteRequest::create(builder, &kv::RouteRequestArgs { table_name });
        builder.finish(request, None);
    };
    let header = Header::request(FrameKind::Route, 0).with_timeout_ms(1_000);
    let mut cause = Cause::local("no address of the cluster is configured");
    for endpoint in driver.seeds().iter().chain(others) {
        let asked = exchange(endpoint, header, Some(&write), name.len(), None, || ());
        match timeout(FETCH_TIMEOUT, asked).await {
            Ok(Ok(Answer::Body(body))) => {
                match read_routes(&body, driver.endpoints(), generation) {
                    Ok(routes) => {
                        driver.prefer_seed(endpoint);
                        return Ok(routes);
                    }
                    Err(reason) => {
                        cause = Cause::local(format!("{}: {reason}", endpoint.address()))
                    }
                }
            }
            Ok(Ok(Answer::NotFound)) => return Err(unknown_table(name)),
            Ok(Err(Problem::Refused(failure))) if failure.code == Code::UnknownTable => {
                return Err(unknown_table(name));
            }
            Ok(Err(Problem::Refused(failure))) => cause = failure.into(),
            Ok(Err(Problem::Unsent(reason) | Problem::Lost(reason))) => {
                cause = Cause::local(reason)
            }
            Ok(Err(Problem::Expired)) | Err(_) => {
                cause = Cause::local(format!(
                    "{} gave no routes within a second",
                    endpoint.address()
                ))
            }
        }
    }
    Err(Error::NotExecuted(cause))
}

fn unknown_table(name: &str) -> Error {
    Error::failed(Code::UnknownTable, format!("{name:?}"))
}

fn read_routes(
    body: &[u8],
    endpoints: &Endpoints,
    generation: u64,
) -> std::result::Result<Routes, String> {
    let reply = body::read::<kv::RouteReply<'_>>(body).map_err(|error| error.to_string())?;
    let count = reply.partition_count();
    let partitions = reply.partitions().unwrap_or_default();
    if count == 0 || count > PARTITION_COUNT_MAX || partitions.len() != count as usize {
        return Err(format!(
            "routes of {} partitions for a table of {count}",
            partitions.len()
        ));
    }
    let primary = |route: kv::PartitionRoute<'_>| {
        let address = route.primary().filter(|address| !address.is_empty());
        RwLock::new(address.map(|address| endpoints.at(address)))
    };
    Ok(Routes {
        table_id: reply.table_id(),
        generation,
        primaries: partitions.iter().map(primary).collect(),
    })
}
