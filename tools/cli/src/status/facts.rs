//! What is known of the cluster at one moment.

use crate::connect::Connect;
use futures::future::join_all;
use pegasus_client::{Client, ClusterSummary, Health, NodeInfo, TableInfo};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A core that does not answer a ping for this long does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everything that a diagnosis is made from.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) cluster: ClusterSummary,
    pub(crate) nodes: Vec<NodeInfo>,
    /// All tables; those that are not healthy with their partitions.
    pub(crate) tables: Vec<TableInfo>,
    /// Cores of nodes that are alive for meta, and do not answer here: (node, core, why).
    pub(crate) silent_cores: Vec<(u32, usize, String)>,
    /// What the clock of this machine shows, in Unix milliseconds.
    pub(crate) here_ms: u64,
}

impl Facts {
    /// Asks meta, and with `asks_cores` every core of every node.
    ///
    /// # Errors
    /// Meta does not answer.
    pub(crate) async fn collect(connect: &Connect, asks_cores: bool) -> anyhow::Result<Self> {
        let patience = connect.timeout_or(PATIENCE);
        let client = connect
            .client_with(|options| options.admin_timeout = patience)
            .await?;
        let cluster = client.cluster().await?;
        let here_ms = now_ms();
        let nodes = client.list_nodes().await?.nodes;
        let mut tables = client.list_tables().await?;
        for table in &mut tables {
            if table.health != Health::Healthy {
                // One that was dropped meanwhile is left as it was.
                if let Ok(shown) = client.show_table(&table.name).await {
                    *table = shown;
                }
            }
        }
        let silent_cores = match asks_cores {
            true => silent_cores(&client, &nodes).await,
            false => Vec::new(),
        };
        Ok(Self {
            cluster,
            nodes,
            tables,
            silent_cores,
            here_ms,
        })
    }

    /// What meta's clock showed: all its times are on that clock.
    pub(crate) fn now_ms(&self) -> u64 {
        match self.cluster.now_unix_ms {
            0 => self.here_ms,
            now => now,
        }
    }

    /// What is missing anywhere, if anything is: a table that is not healthy, or a node with replicas that is away.
    pub(crate) fn lacks(&self) -> Option<String> {
        let ill = self.tables.iter().find(|it| it.health != Health::Healthy);
        if let Some(table) = ill {
            let (healthy, all) = (table.healthy_partitions, table.partition_count);
            return Some(format!(
                "table {}: {healthy} of {all} partitions are healthy",
                table.name
            ));
        }
        let holds = |it: &&NodeInfo| it.cores.iter().any(|core| core.replicas > 0);
        let away = self.nodes.iter().find(|it| !it.alive && holds(it));
        away.map(|node| format!("node {} is not heard of", node.node))
    }

    pub(crate) fn node(&self, number: u32) -> Option<&NodeInfo> {
        self.nodes.iter().find(|it| it.node == number)
    }
}

async fn silent_cores(client: &Client, nodes: &[NodeInfo]) -> Vec<(u32, usize, String)> {
    let alive = nodes.iter().filter(|node| node.alive);
    let cores = alive.flat_map(|node| {
        let cores = node.cores.iter().enumerate();
        cores.map(move |(index, core)| (node.node, index, core.client_address.as_str()))
    });
    let asked = cores.map(async |(node, core, address)| {
        let error = client.ping(address).await.err()?;
        Some((node, core, error.to_string()))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
