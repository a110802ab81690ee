//! The client that commands use: options from the command line, connected when first needed.

use crate::exit::{Exit, Failed};
use futures::future::join_all;
use pegasus_client::{Client, ClientOptions, Table};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How to reach the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    meta: Vec<String>,
    timeout: Option<Duration>,
    /// The client of one command after the other, where they share one.
    kept: Option<Arc<Mutex<Option<Client>>>>,
}

impl Connect {
    pub(crate) fn new(meta: Vec<String>, timeout: Option<Duration>) -> Self {
        let kept = None;
        Self {
            meta,
            timeout,
            kept,
        }
    }

    /// One whose client stays connected from command to command.
    pub(crate) fn keeping(meta: Vec<String>, timeout: Option<Duration>) -> Self {
        let kept = Some(Arc::default());
        Self {
            meta,
            timeout,
            kept,
        }
    }

    /// Addresses of meta servers.
    pub(crate) fn meta(&self) -> &[String] {
        &self.meta
    }

    /// The same for another cluster.
    pub(crate) fn at(&self, meta: Vec<String>) -> Self {
        Self::new(meta, self.timeout)
    }

    /// The next command connects anew.
    pub(crate) fn forget(&self) {
        if let Some(kept) = &self.kept {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// As `--meta` takes them.
    pub(crate) fn addresses(&self) -> String {
        self.meta.join(",")
    }

    /// What `--timeout` says, else `default`.
    pub(crate) fn timeout_or(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
    }

    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let Some(kept) = &self.kept else {
            return self.client_with(|_| ()).await;
        };
        let there = (kept.lock().unwrap_or_else(PoisonError::into_inner)).clone();
        if let Some(client) = there {
            return Ok(client);
        }
        let client = self.client_with(|_| ()).await?;
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
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
        Client::connect(options)
            .await
            .map_err(|error| self.no_cluster(error))
    }

    /// A server that answers with something else than frames will do so next time, too.
    fn no_cluster(&self, error: pegasus_client::Error) -> anyhow::Error {
        let place = format!(
            "cluster at {} (--meta or PEGASUS_META names another)",
            self.meta.join(", ")
        );
        if error.to_string().contains("not a native frame") {
            let sentence = format!("{place}: whoever listens there is no Pegasus server: {error}");
            return Failed::error(Exit::Failed, sentence);
        }
        anyhow::Error::new(error).context(place)
    }

    pub(crate) async fn table(&self, name: &str) -> anyhow::Result<Table> {
        Ok(self.client().await?.table(name).await?)
    }
}

/// Whether a server of ours answers at `address` at all.
pub(crate) async fn answers(address: &str, timeout: Duration) -> bool {
    let connect = Connect::new(vec![address.to_owned()], Some(timeout));
    let client = connect.client_with(|options| options.connect_timeout = timeout);
    client.await.is_ok()
}

/// The client addresses of all cores that answer, as far as meta at `addresses` hears from their nodes, each with the
/// process it belongs to. A node registers before its cores have replayed their logs.
pub(crate) async fn answering_cores(
    addresses: &[String],
    timeout: Duration,
) -> anyhow::Result<HashMap<String, u32>> {
    let connect = Connect::new(addresses.to_vec(), Some(timeout));
    let client = connect
        .client_with(|options| options.connect_timeout = timeout)
        .await?;
    let nodes = client.list_nodes().await?.nodes;
    let alive = nodes.into_iter().filter(|node| node.alive);
    let cores = alive.flat_map(|node| {
        let pid = node.pid;
        node.cores
            .into_iter()
            .map(move |core| (core.client_address, pid))
    });
    let pings = cores.map(async |(address, pid)| {
        let answer = client.ping(&address).await;
        answer.is_ok().then_some((address, pid))
    });
    Ok(join_all(pings).await.into_iter().flatten().collect())
}
