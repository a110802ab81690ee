//! Apache Pegasus' clients and tools at the port of meta, over loopback.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "tests fail by panicking, and open sockets"
)]

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../peer/mod.rs"]
mod peer;

mod client;
mod http;
mod tables;
mod wire;

use client::Client;
use fixture::cluster;
use peer::FakeNode;
use pegasus_fbs::meta::ReplicaHealth;
use pegasus_meta::server::{Server, ServerOptions};
use pegasus_meta::state::State;
use pegasus_meta::store::FileStore;
use pegasus_thrift::binary::Map;
use pegasus_thrift::meta::{
    CreateAppOptions, CreateAppRequest, CreateAppResponse, QueryCfgRequest,
};
use pegasus_thrift::{ErrorCode, Protocol, Rpc};
use std::net::SocketAddr;
use tempfile::TempDir;

const TOKEN: &[u8] = b"secret";

/// A meta, and nodes that do what it says when they are told to.
struct Site {
    server: Server,
    nodes: Vec<FakeNode>,
    _dir: TempDir,
}

impl Site {
    async fn of(count: u32) -> Self {
        let dir = TempDir::new().unwrap();
        drop(FileStore::create(dir.path(), &cluster()).unwrap());
        let (store, durable) = FileStore::open(dir.path()).unwrap();
        let mut options = ServerOptions::at(SocketAddr::from(([127, 0, 0, 1], 0)));
        options.token = TOKEN.to_vec();
        let state = State::from_durable(durable);
        let server = Server::start(state, Box::new(store), options)
            .await
            .unwrap();
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(FakeNode::join(server.address(), TOKEN).await);
        }
        Self {
            server,
            nodes,
            _dir: dir,
        }
    }

    async fn client(&self, protocol: Protocol) -> Client {
        Client::open(self.server.address(), protocol).await
    }

    /// The nodes make every replica of the table, and say that they serve.
    async fn serve(&mut self, table: u32) {
        for node in &mut self.nodes {
            node.until(|node| node.configurations.keys().any(|(id, _)| *id == table))
                .await;
            node.report(ReplicaHealth::Ready, true).await;
        }
        for node in &mut self.nodes {
            node.until(|node| node.configurations.values().all(|it| it.active))
                .await;
            node.report(ReplicaHealth::Serving, false).await;
        }
    }

    /// Makes a table of two partitions over THFT; its number.
    async fn table(&mut self, name: &str) -> u32 {
        let mut client = self.client(Protocol::Thft).await;
        let replicas = i32::try_from(self.nodes.len()).unwrap();
        let request = create(name, 2, replicas);
        let id = client.send(Rpc::CreateApp.name(), &request).await;
        let number = self.server_table_count() + 1;
        self.serve(number).await;
        let answer = client.answer(id, Rpc::CreateApp.ack_name()).await;
        let response: CreateAppResponse = answer.read();
        assert_eq!(response.err, ErrorCode::Ok);
        assert_eq!(u32::try_from(response.appid).unwrap(), number);
        number
    }

    fn server_table_count(&self) -> u32 {
        let known = self
            .nodes
            .iter()
            .flat_map(|node| node.configurations.keys());
        known.map(|(table, _)| *table).max().unwrap_or(0)
    }
}

fn create(name: &str, partition_count: i32, replica_count: i32) -> CreateAppRequest<'_> {
    CreateAppRequest {
        app_name: name,
        options: CreateAppOptions {
            partition_count,
            replica_count,
            success_if_exist: false,
            app_type: "pegasus",
            is_stateful: true,
            envs: Map(Vec::new()),
            atomic_idempotent: None,
        },
    }
}

fn query(name: &str) -> QueryCfgRequest<'_> {
    QueryCfgRequest {
        app_name: name,
        partition_indices: Vec::new(),
    }
}
