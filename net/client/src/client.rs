//! The client itself: addresses, connections, tables by name.

use crate::driver::{Answer, Driver, Problem, exchange};
use crate::endpoint::Endpoint;
use crate::error::{Cause, Error, Result};
use crate::options::ClientOptions;
use crate::pipeline::Request;
use crate::route::Router;
use crate::table::Table;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{FrameKind, Header};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A client of one cluster: cheap to clone, shared between tasks, used within a tokio runtime. Connections close when
/// the last handle (and table) has gone.
#[derive(Clone, Debug)]
pub struct Client {
    driver: Arc<Driver>,
    routers: Arc<Mutex<HashMap<String, Arc<Router>>>>,
}

impl Client {
    /// Connects to the first configured address that answers.
    ///
    /// # Errors
    /// [`Error::Failed`] for options out of range; [`Error::NotExecuted`] when no address answers in time.
    pub async fn connect(options: ClientOptions) -> Result<Self> {
        check(&options)?;
        let client = Self::connect_lazily(options);
        let mut cause = Cause::local("no address of the cluster is configured");
        for endpoint in client.driver.seeds() {
            match ping(&endpoint, client.driver.options.connect_timeout).await {
                Ok(_) => {
                    client.driver.prefer_seed(&endpoint);
                    return Ok(client);
                }
                Err(problem) => cause = problem,
            }
        }
        Err(Error::NotExecuted(cause))
    }

    /// The round trip of a ping to one address `host:port`, within the connect timeout.
    ///
    /// # Errors
    /// [`Error::NotExecuted`] when nobody answers there.
    pub async fn ping(&self, address: &str) -> Result<Duration> {
        let endpoint = self.driver.endpoints().at(address);
        ping(&endpoint, self.driver.options.connect_timeout)
            .await
            .map_err(Error::NotExecuted)
    }

    /// A handle of a table. Routes are fetched once for each name and shared by its handles.
    ///
    /// # Errors
    /// [`Code::UnknownTable`]; [`Error::NotExecuted`] when no address answers in time.
    pub async fn table(&self, name: &str) -> Result<Table> {
        if let Some(router) = self
            .routers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
        {
            return Ok(Table::new(Arc::clone(router)));
        }
        let limit = self.driver.options.timeout;
        let opened = match timeout(limit, Router::open(&self.driver, name)).await {
            Ok(opened) => opened?,
            Err(_) => {
                return Err(Error::NotExecuted(Cause::local(format!(
                    "no routes of {name:?} within {limit:?}"
                ))));
            }
        };
        let mut routers = self.routers.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Table::new(Arc::clone(
            routers.entry(name.to_owned()).or_insert(opened),
        )))
    }

    /// How many attempts of all operations so far were followed by another one, because of a redirect, a refusal for the
    /// moment or a lost connection.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.driver.retries()
    }

    /// Forgets a table's routes: the next [`Client::table`] fetches them anew.
    pub(crate) fn forget(&self, name: &str) {
        self.routers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.driver
    }

    fn connect_lazily(options: ClientOptions) -> Self {
        Self {
            driver: Arc::new(Driver::new(options)),
            routers: Arc::default(),
        }
    }
}

fn check(options: &ClientOptions) -> Result<()> {
    let refuse = |message: &str| Err(Error::failed(Code::InvalidArgument, message));
    if options.addresses.is_empty() {
        return refuse("no address of the cluster is configured");
    }
    if !(1..=1_000_000).contains(&options.inflight_max) {
        return refuse("inflight_max must lie between 1 and 1,000,000");
    }
    if options.timeout.is_zero()
        || options.admin_timeout.is_zero()
        || options.connect_timeout.is_zero()
    {
        return refuse("timeouts must be longer than zero");
    }
    Ok(())
}

async fn ping(endpoint: &Arc<Endpoint>, limit: Duration) -> std::result::Result<Duration, Cause> {
    let started = Instant::now();
    let request = Request::unbounded(Header::request(FrameKind::Ping, 0), None);
    let asked = exchange(endpoint, request, || ());
    match timeout(limit, asked).await {
        Ok(Ok(Answer::Body(_) | Answer::NotFound)) => Ok(started.elapsed()),
        Ok(Err(Problem::Refused(failure))) => Err(failure.into()),
        Ok(Err(Problem::Unsent(reason) | Problem::Lost(reason))) => Err(Cause::local(reason)),
        Ok(Err(Problem::Expired | Problem::Moved { .. })) | Err(_) => Err(Cause::local(format!(
            "{} gave no answer within {limit:?}",
            endpoint.address()
        ))),
    }
}
