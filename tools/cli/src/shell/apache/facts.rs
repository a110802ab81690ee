//! What names stand for: Apache Pegasus' shell has numbers of tables and addresses of servers where ours has names of tables
//! and numbers of nodes and cores.

use crate::exit::{Exit, Failed};
use pegasus_client::Client;

/// Tables by number, and cores by address.
#[derive(Clone, Debug, Default)]
pub(in crate::shell) struct Facts {
    pub(in crate::shell) tables: Vec<(u32, String)>,
    /// Client address, and `NODE/CORE`.
    pub(in crate::shell) cores: Vec<(String, String)>,
}

impl Facts {
    pub(in crate::shell) async fn of(client: &Client) -> anyhow::Result<Self> {
        let tables = client.list_tables().await?;
        let nodes = client.list_nodes().await?.nodes;
        let cores = nodes.into_iter().flat_map(|node| {
            let number = node.node;
            let named = move |(index, core): (usize, pegasus_client::CoreInfo)| {
                (core.client_address, format!("{number}/{index}"))
            };
            node.cores.into_iter().enumerate().map(named)
        });
        Ok(Self {
            tables: tables
                .into_iter()
                .map(|it| (it.table_id, it.name))
                .collect(),
            cores: cores.collect(),
        })
    }

    pub(super) fn table(&self, number: u32) -> anyhow::Result<String> {
        let found = self.tables.iter().find(|(id, _)| *id == number);
        found.map(|(_, name)| name.clone()).ok_or_else(|| {
            let sentence = format!("there is no table with number {number}; `ls` has them");
            Failed::error(Exit::NotFound, sentence)
        })
    }

    /// `NODE/CORE`
    pub(super) fn core(&self, address: &str) -> anyhow::Result<String> {
        let found = self.cores.iter().find(|(known, _)| known == address);
        found.map(|(_, name)| name.clone()).ok_or_else(|| {
            let sentence = format!("no core has the client address {address}; `nodes` has them");
            Failed::error(Exit::NotFound, sentence)
        })
    }
}
