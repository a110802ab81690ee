//! The client that commands use: options from the command line, connected when first needed.

use anyhow::Context as _;
use pegasus_client::{Client, ClientOptions, NodeInfo, Table};
use std::collections::HashSet;
use std::time::Duration;

/// How to reach the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    meta: Vec<String>,
    timeout: Option<Duration>,
}

impl Connect {
    pub(crate) fn new(meta: Vec<String>, timeout: Option<Duration>) -> Self {
        Self { meta, timeout }
    }

    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        self.client_with(|_| ()).await
    }

    /// A client with options other than the usual ones.
    pub(crate) async fn client_with(
        &self,
        change: impl FnOnce(&mut ClientOptions),
    ) -> anyhow::Result<Client> {
        let mut options = ClientOptions::new(self.meta.clone());
        if let Some(timeout) = self.timeout {
            options.timeout = timeout;
            options.admin_timeout = timeout;
            options.refusal_timeout = timeout;
        } else {
            // Somebody waits at a terminal: say what is wrong while they look.
            options.refusal_timeout = Duration::from_secs(2);
        }
        change(&mut options);
        Client::connect(options).await.with_context(|| {
            format!(
                "cluster at {} (--meta or PEGASUS_META names another)",
                self.meta.join(", ")
            )
        })
    }

    pub(crate) async fn table(&self, name: &str) -> anyhow::Result<Table> {
        Ok(self.client().await?.table(name).await?)
    }

    pub(crate) async fn nodes(&self) -> anyhow::Result<Vec<NodeInfo>> {
        Ok(self.client().await?.list_nodes().await?.nodes)
    }
}

/// The client addresses of all cores that meta at `address` hears from.
pub(crate) async fn alive_addresses(
    address: &str,
    timeout: Duration,
) -> anyhow::Result<HashSet<String>> {
    let connect = Connect::new(vec![address.to_owned()], Some(timeout));
    let nodes = connect.nodes().await?;
    let cores = nodes
        .into_iter()
        .filter(|node| node.alive)
        .flat_map(|node| node.cores);
    Ok(cores.map(|core| core.client_address).collect())
}
