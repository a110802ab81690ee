//! The native protocol, through `pegasus-client`.

use super::{Cell, ConnectOptions, Description, Execution, Failure};
use crate::layout::{CellName, Layout};
use anyhow::Context as _;
use pegasus_client::{
    Bytes, Client, ClientOptions, Code, Error, Execution as Known, MultiGet, Row, SortKeyRange,
    Table,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

/// A client of its own, with a connection to every core that has a primary of the table.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    client: Client,
    table: Table,
    layout: Layout,
}

impl Session {
    pub(super) async fn connect(
        meta: &[String],
        table: &str,
        options: &ConnectOptions,
    ) -> anyhow::Result<Self> {
        let client = client(meta, options.timeout, options.inflight).await?;
        let table = client
            .table(table)
            .await
            .with_context(|| format!("table {table}"))?;
        // The first request to a core opens the connection to it.
        for partition in 0..table.partition_count() {
            if let Some(primary) = table.primary_of(partition) {
                let _ = client.ping(&primary).await;
            }
        }
        Ok(Self {
            client,
            table,
            layout: options.layout,
        })
    }

    pub(super) async fn read(&self, record: u64, within: Duration) -> Result<Vec<Cell>, Failure> {
        let layout = self.layout;
        if layout.is_rows() {
            let stop = layout.sort_key_end(record);
            let range = SortKeyRange {
                start: bytes(layout.sort_key_prefix(record)),
                stop: stop.map_or_else(Bytes::new, bytes),
                ..SortKeyRange::default()
            };
            return self.multi_get(record, range, 1, within).await;
        }
        let (hash_key, sort_key) = (layout.hash_key(record), layout.sort_key(record, 0));
        let found = self
            .table
            .with_timeout(within)
            .get(hash_key.as_ref(), sort_key.as_ref())
            .await
            .map_err(failure)?;
        let cell = |value| Cell {
            name: Some(CellName { record, field: 0 }),
            value,
        };
        Ok(found.map(cell).into_iter().collect())
    }

    pub(super) async fn update(
        &self,
        record: u64,
        field: usize,
        value: &[u8],
        within: Duration,
    ) -> Result<(), Failure> {
        let hash_key = self.layout.hash_key(record);
        let sort_key = self.layout.sort_key(record, field);
        self.table
            .with_timeout(within)
            .put(hash_key.as_ref(), sort_key.as_ref(), value)
            .await
            .map_err(failure)
    }

    pub(super) async fn insert(
        &self,
        record: u64,
        values: &[Vec<u8>],
        within: Duration,
    ) -> Result<(), Failure> {
        if let ([value], false) = (values, self.layout.is_rows()) {
            return self.update(record, 0, value, within).await;
        }
        let rows: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(field, value)| (self.layout.sort_key(record, field), value))
            .collect();
        self.table
            .with_timeout(within)
            .multi_put(self.layout.hash_key(record).as_ref(), &rows)
            .await
            .map_err(failure)
    }

    pub(super) async fn scan(
        &self,
        record: u64,
        records: u32,
        within: Duration,
    ) -> Result<Vec<Cell>, Failure> {
        let range = SortKeyRange {
            start: bytes(self.layout.sort_key_prefix(record)),
            ..SortKeyRange::default()
        };
        self.multi_get(record, range, records, within).await
    }

    pub(super) fn retries(&self) -> u64 {
        self.client.retries()
    }

    /// All rows of the range, those of `records` records at most.
    async fn multi_get(
        &self,
        record: u64,
        range: SortKeyRange,
        records: u32,
        within: Duration,
    ) -> Result<Vec<Cell>, Failure> {
        let cells = u32::try_from(self.layout.cells()).unwrap_or(u32::MAX);
        let options = MultiGet {
            range,
            max_rows: records.saturating_mul(cells),
            ..MultiGet::default()
        };
        let found = self
            .table
            .with_timeout(within)
            .multi_get(self.layout.hash_key(record).as_ref(), &options)
            .await
            .map_err(failure)?;
        let cell = |row: Row| Cell {
            name: self.layout.cell_of(record, &row.sort_key),
            value: row.value,
        };
        Ok(found.rows.into_iter().map(cell).collect())
    }
}

/// What meta knows.
pub(super) async fn describe(meta: &[String], table: &str) -> anyhow::Result<Description> {
    let client = client(meta, CONNECT_TIMEOUT, 16).await?;
    let found = client
        .show_table(table)
        .await
        .with_context(|| format!("table {table}"))?;
    let nodes = client
        .list_nodes()
        .await
        .map(|cluster| cluster.nodes)
        .unwrap_or_default();
    let here = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let mut server_cpus: Vec<usize> = nodes
        .iter()
        .filter(|node| node.alive && node.host == here)
        .flat_map(|node| node.cores.iter().map(|core| core.cpu as usize))
        .collect();
    server_cpus.sort_unstable();
    server_cpus.dedup();
    Ok(Description {
        protocol: "native".to_owned(),
        server: format!(
            "pegasus, {} nodes",
            nodes.iter().filter(|node| node.alive).count()
        ),
        partitions: Some(found.partition_count),
        replicas: Some(found.replica_count),
        durability: Some("on stable storage of every member before the answer".to_owned()),
        server_cpus,
        notes: BTreeMap::from([(
            "scan".to_owned(),
            "multi_get from a record on, within its hash key".to_owned(),
        )]),
        ..Description::default()
    })
}

/// The client ports of all cores of nodes that are alive.
pub(super) async fn client_addresses(
    meta: &[String],
    timeout: Duration,
) -> anyhow::Result<Vec<String>> {
    let nodes = client(meta, timeout, 16).await?.list_nodes().await?.nodes;
    let cores = nodes
        .into_iter()
        .filter(|node| node.alive)
        .flat_map(|node| node.cores);
    Ok(cores.map(|core| core.client_address).collect())
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn client(
    meta: &[String],
    timeout: Duration,
    inflight: usize,
) -> anyhow::Result<Client> {
    let mut options = ClientOptions::new(meta.iter().cloned());
    options.timeout = timeout;
    options.inflight_max = options.inflight_max.max(inflight);
    Client::connect(options)
        .await
        .with_context(|| format!("cluster at {}", meta.join(", ")))
}

fn bytes(key: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(key.as_ref())
}

fn failure(error: Error) -> Failure {
    let execution = match error.execution() {
        Known::Unknown => Execution::Unknown,
        _ => Execution::NotExecuted,
    };
    Failure {
        code: Cow::Borrowed(error.code().map_or("client", Code::name)),
        execution,
        permanent: matches!(error, Error::Failed { .. }),
        message: error.to_string(),
    }
}
