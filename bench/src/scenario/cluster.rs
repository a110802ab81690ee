//! The cluster under load, through its own protocol.

use crate::target::{Target, native};
use anyhow::{Context as _, bail, ensure};
use pegasus_client::{Client, CreateTable, Health, NodeInfo, TableInfo};
use std::time::{Duration, Instant};

/// Looks at the cluster are so far apart: what ends between two of them ends so much too late.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Cluster {
    client: Client,
    pub(super) meta: Vec<String>,
    pub(super) table: String,
}

impl Cluster {
    /// # Errors
    /// When the target is no cluster of ours, or nobody answers.
    pub(super) async fn connect(target: &Target) -> anyhow::Result<Self> {
        let (meta, table) = target.cluster().with_context(|| {
            format!(
                "{target}: a scenario needs a cluster of Pegasus, by whichever of its protocols"
            )
        })?;
        Ok(Self {
            client: native::client(meta, TIMEOUT, 16).await?,
            meta: meta.to_vec(),
            table: table.to_owned(),
        })
    }

    pub(super) async fn show(&self) -> anyhow::Result<TableInfo> {
        Ok(self.client.show_table(&self.table).await?)
    }

    async fn nodes(&self) -> anyhow::Result<Vec<NodeInfo>> {
        let mut nodes = self.client.list_nodes().await?.nodes;
        nodes.retain(|node| node.alive && !node.cores.is_empty());
        Ok(nodes)
    }

    /// Waits until a look at the cluster shows what is waited for. A look that fails is no answer: meta may be busy.
    pub(super) async fn wait_until(
        &self,
        what: &str,
        within: Duration,
        mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + within;
        loop {
            let looked = is_so().await;
            if matches!(looked, Ok(true)) {
                return Ok(());
            }
            if Instant::now() >= end {
                let why = looked
                    .err()
                    .map_or_else(String::new, |error| format!(": {error:#}"));
                bail!("not within {} s: {what}{why}", within.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) async fn wait_healthy(&self, within: Duration) -> anyhow::Result<()> {
        let is_healthy = async || Ok(self.show().await?.health == Health::Healthy);
        self.wait_until("the table is healthy", within, is_healthy)
            .await
    }

    /// Until a partition of the table has a learner, or the table is healthy already.
    pub(super) async fn wait_learning(&self, within: Duration) -> anyhow::Result<()> {
        let learns = async || {
            let table = self.show().await?;
            Ok(table.partitions.iter().any(|it| it.learner.is_some()))
        };
        self.wait_until("a replica is being copied", within, learns)
            .await
    }

    /// Compacts all replicas of the table on all nodes, to the end.
    pub(super) async fn compact(&self, within: Duration) -> anyhow::Result<()> {
        let table = self.show().await?.table_id;
        let addresses: Vec<String> = self
            .nodes()
            .await?
            .into_iter()
            .filter_map(|node| Some(node.cores.into_iter().next()?.client_address))
            .collect();
        for address in &addresses {
            let told = self.client.compact(address, Some(table), true).await?;
            ensure!(told.began, "{address}: too many orders to compact wait");
        }
        let is_done = async || {
            for address in &addresses {
                if self.client.compact(address, None, false).await?.is_running {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        self.wait_until("the compaction is over", within, is_done)
            .await
    }

    /// Moves a replica of every partition to a node that has none of it, to the end.
    pub(super) async fn move_replicas(&self) -> anyhow::Result<()> {
        let (table, nodes) = (self.show().await?, self.nodes().await?);
        for partition in &table.partitions {
            let members = partition.secondaries.iter().chain(&partition.primary);
            let members: Vec<u32> = members.map(|member| member.node).collect();
            let to = nodes.iter().find(|node| !members.contains(&node.node));
            let (Some(to), Some(from)) = (to, members.first()) else {
                bail!(
                    "every node has a copy of partition {} already: to move one takes a further node",
                    partition.index
                );
            };
            let told = self
                .client
                .move_replica(&self.table, partition.index, *from, (to.node, 0))
                .await?;
            ensure!(
                told.is_done,
                "partition {}: {}",
                partition.index,
                told.waits_for
            );
        }
        Ok(())
    }

    /// A table for the neighbour, with as many copies as the table that is measured; one that exists is used.
    pub(super) async fn ensure_table(&self, name: &str) -> anyhow::Result<()> {
        if self.client.show_table(name).await.is_ok() {
            return Ok(());
        }
        let table = CreateTable {
            name: name.to_owned(),
            partition_count: 2,
            replica_count: self.show().await?.replica_count,
            allow_degraded: false,
        };
        self.client.create_table(&table).await?;
        Ok(())
    }
}
