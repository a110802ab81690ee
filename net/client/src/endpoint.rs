//! The address of one core (or meta), and the connection to it: dialled when first needed, once for everybody who waits.

use crate::pipeline::{Pipeline, PipelineOptions};
use crate::route::Routers;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout};

mod dial;

/// How connections are made.
#[derive(Clone, Debug)]
pub(crate) struct DialOptions {
    pub(crate) connect_timeout: Duration,
    pub(crate) inflight_max: usize,
    /// Who is told of silent servers.
    pub(crate) routers: Arc<Routers>,
}

/// One address. Its connection closes when the last holder of the endpoint has gone.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: String,
    options: DialOptions,
    current: Mutex<Option<Arc<Pipeline>>>,
    /// Held while dialling; remembers the last failure.
    dialling: AsyncMutex<Option<(Instant, String)>>,
}

/// Everybody who waited for a failed dial gets its error; who comes later than this dials again.
const FAILURE_SHARED_FOR: Duration = Duration::from_millis(20);

impl Endpoint {
    pub(crate) fn new(address: String, options: DialOptions) -> Self {
        Self {
            address,
            options,
            current: Mutex::new(None),
            dialling: AsyncMutex::new(None),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The open connection, made if there is none. Takes at most the connect timeout for each dial; callers have a
    /// deadline of their own.
    pub(crate) async fn connect(&self) -> Result<Arc<Pipeline>, String> {
        let mut failure = self.dialling.lock().await;
        if let Some(pipeline) = self.open_connection() {
            return Ok(pipeline);
        }
        if let Some((_, reason)) = failure
            .as_ref()
            .filter(|(at, _)| at.elapsed() < FAILURE_SHARED_FOR)
        {
            return Err(reason.clone());
        }
        match self.dial().await {
            Ok(stream) => {
                *failure = None;
                let pipeline = Arc::new(Pipeline::new(stream, self.pipeline_options()));
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Arc::clone(&pipeline));
                Ok(pipeline)
            }
            Err(reason) => {
                *failure = Some((Instant::now(), reason.clone()));
                Err(reason)
            }
        }
    }

    /// The connection, if it is open already.
    pub(crate) fn open_connection(&self) -> Option<Arc<Pipeline>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current
            .as_ref()
            .filter(|pipeline| !pipeline.is_closed())
            .cloned()
    }

    /// Whether there is a connection, and the server is not silent on it.
    pub(crate) fn is_well(&self) -> bool {
        self.open_connection()
            .is_some_and(|pipeline| !pipeline.is_silent())
    }

    /// Some partitions have moved from here to another core.
    pub(crate) fn leave_moved(&self) {
        if let Some(pipeline) = self.open_connection() {
            pipeline.leave_moved();
        }
    }

    fn pipeline_options(&self) -> PipelineOptions {
        PipelineOptions {
            places_max: self.options.inflight_max,
            address: self.address.clone(),
            routers: Arc::clone(&self.options.routers),
        }
    }

    async fn dial(&self) -> Result<TcpStream, String> {
        let address = &self.address;
        let stream = match timeout(self.options.connect_timeout, dial::dial(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("cannot connect to {address}: {error}")),
            Err(_) => return Err(format!("cannot connect to {address}: no answer")),
        };
        // A port of the ephemeral range that nobody listens on can be connected to itself on loopback.
        if stream.local_addr().ok() == stream.peer_addr().ok() {
            return Err(format!("cannot connect to {address}: nobody listens there"));
        }
        if let Err(error) = stream.set_nodelay(true) {
            return Err(format!("connection to {address}: {error}"));
        }
        Ok(stream)
    }
}

/// All endpoints in use, so that tables and partitions share the connections.
#[derive(Debug)]
pub(crate) struct Endpoints {
    options: DialOptions,
    by_address: Mutex<HashMap<String, Weak<Endpoint>>>,
}

impl Endpoints {
    pub(crate) fn new(options: DialOptions) -> Self {
        Self {
            options,
            by_address: Mutex::new(HashMap::new()),
        }
    }

    /// The endpoint of an address. Forgets those that nobody uses any more.
    pub(crate) fn at(&self, address: &str) -> Arc<Endpoint> {
        let mut by_address = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = by_address.get(address).and_then(Weak::upgrade) {
            return endpoint;
        }
        by_address.retain(|_, endpoint| endpoint.strong_count() > 0);
        let endpoint = Arc::new(Endpoint::new(address.to_owned(), self.options.clone()));
        by_address.insert(address.to_owned(), Arc::downgrade(&endpoint));
        endpoint
    }
}
