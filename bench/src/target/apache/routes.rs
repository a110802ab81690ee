//! Where the partitions of a table are, as meta tells, and a connection to each server that has one.

use super::Form;
use super::connection::Connection;
use crate::target::link::{Address, Link, Problem};
use anyhow::{Context as _, bail, ensure};
use pegasus_thrift::binary::{Reader, read_only_field};
use pegasus_thrift::meta::{PartitionConfiguration, QueryCfgRequest, QueryCfgResponse};
use pegasus_thrift::{ErrorCode, HostPort, Rpc, RpcAddress};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;

/// One table of a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    form: Form,
    meta: Vec<String>,
    table: String,
    timeout: Duration,
    routes: Mutex<Arc<Routes>>,
    asking: AsyncMutex<()>,
    retries: AtomicU64,
}

/// What meta said once.
#[derive(Debug, Default)]
pub(super) struct Routes {
    app_id: i32,
    /// By partition; `None` has no primary.
    primaries: Vec<Option<String>>,
    /// By address.
    links: HashMap<String, Arc<Link<Connection>>>,
}

/// For one round of questions to meta while operations wait.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

impl Cluster {
    /// A cluster whose routes are known, with a connection to every primary.
    pub(super) async fn open(
        form: Form,
        meta: &[String],
        table: &str,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let cluster = Self {
            form,
            meta: meta.to_vec(),
            table: table.to_owned(),
            timeout,
            routes: Mutex::default(),
            asking: AsyncMutex::new(()),
            retries: AtomicU64::new(0),
        };
        let routes = cluster.ask().await?;
        for (address, link) in &routes.links {
            // One that cannot be reached now may be there when it is needed.
            if let Err(error) = link.connection().await {
                eprintln!("pegasus-bench: {address}: {error:#}");
            }
        }
        *cluster.lock() = Arc::new(routes);
        Ok(cluster)
    }

    pub(super) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.lock())
    }

    /// Asks meta again, unless somebody has since `old` was looked at.
    pub(super) async fn refresh(&self, old: &Arc<Routes>) -> anyhow::Result<()> {
        let _asking = self.asking.lock().await;
        if !Arc::ptr_eq(old, &self.routes()) {
            return Ok(());
        }
        let routes = timeout(REFRESH_TIMEOUT, self.ask())
            .await
            .context("meta does not answer")
            .flatten()?;
        *self.lock() = Arc::new(routes);
        Ok(())
    }

    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Routes>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first meta that knows; one that does not lead names the one that does.
    async fn ask(&self) -> anyhow::Result<Routes> {
        let mut last = None;
        for address in &self.meta {
            match self.ask_one(address, true).await {
                Ok(routes) => return Ok(routes),
                Err(error) => last = Some(error.context(format!("meta at {address}"))),
            }
        }
        Err(last.context("no address of a meta")?)
    }

    async fn ask_one(&self, address: &str, may_forward: bool) -> anyhow::Result<Routes> {
        let link: Link<Connection> = Link::new(self.address(address.to_owned()), self.form);
        let request = QueryCfgRequest {
            app_name: &self.table,
            ..QueryCfgRequest::default()
        };
        let connection = link.connection().await?;
        let asked = connection.ask_server(Rpc::QueryPartitionConfigByIndex, &request);
        let answer = match timeout(self.timeout, asked).await {
            Err(_) => bail!("no answer within {} ms", self.timeout.as_millis()),
            Ok(Ok(answer)) => answer,
            Ok(Err(Problem::Unsent(reason) | Problem::Lost(reason))) => bail!(reason),
            Ok(Err(Problem::Refused(failure))) => bail!("{failure}"),
        };
        ensure!(
            answer.status == ErrorCode::Ok,
            "answered with {}",
            answer.status.name()
        );
        let response: QueryCfgResponse<'_> = read_only_field(&mut Reader::new(&answer.result))?;
        match (response.err, may_forward) {
            (ErrorCode::Ok, _) => self.routes_of(&response),
            (ErrorCode::ForwardToOthers, true) => {
                let leader = response.partitions.first().and_then(primary);
                let leader = leader.context("no meta leads")?;
                Box::pin(self.ask_one(&leader, false)).await
            }
            (error, _) => bail!("table {}: {}", self.table, error.name()),
        }
    }

    /// Connections are kept as long as their server has a primary.
    fn routes_of(&self, response: &QueryCfgResponse<'_>) -> anyhow::Result<Routes> {
        let count = usize::try_from(response.partition_count)?;
        ensure!(
            count > 0 && count == response.partitions.len(),
            "{} partitions, {} of them in the answer",
            response.partition_count,
            response.partitions.len()
        );
        let old = self.routes();
        let primaries: Vec<_> = response.partitions.iter().map(primary).collect();
        let mut links = HashMap::new();
        for address in primaries.iter().flatten() {
            links.entry(address.clone()).or_insert_with(|| {
                let new = || Arc::new(Link::new(self.address(address.clone()), self.form));
                old.links.get(address).map_or_else(new, Arc::clone)
            });
        }
        Ok(Routes {
            app_id: response.app_id,
            primaries,
            links,
        })
    }

    fn address(&self, address: String) -> Address {
        Address {
            address,
            timeout: self.timeout,
        }
    }
}

impl Routes {
    pub(super) fn app_id(&self) -> i32 {
        self.app_id
    }

    pub(super) fn partition_count(&self) -> u32 {
        u32::try_from(self.primaries.len()).unwrap_or(u32::MAX)
    }

    /// Index and primary of the partition of a key with this hash.
    pub(super) fn primary(&self, hash: u64) -> Result<(i32, Arc<Link<Connection>>), Problem> {
        let index = hash % self.primaries.len().max(1) as u64;
        let address = usize::try_from(index)
            .ok()
            .and_then(|index| self.primaries.get(index)?.as_ref());
        match (
            address.and_then(|it| self.links.get(it)),
            i32::try_from(index),
        ) {
            (Some(link), Ok(index)) => Ok((index, Arc::clone(link))),
            _ => Err(Problem::Unsent(format!("partition {index} has no primary"))),
        }
    }
}

/// The fields of its time: newer servers tell C++ clients names and nothing else.
fn primary(partition: &PartitionConfiguration<'_>) -> Option<String> {
    match partition.hp_primary {
        Some(HostPort::V4(address)) => Some(address.to_string()),
        Some(HostPort::Named { host, port }) => Some(format!("{host}:{port}")),
        _ if partition.primary == RpcAddress::NONE => None,
        _ => partition.primary.v4().map(|address| address.to_string()),
    }
}
