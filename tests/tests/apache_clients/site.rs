//! A cluster with one table, and a client of it.

use e2e::apache::{Answer, Form, Resolved};
use e2e::cluster::Cluster;
use pegasus_thrift::data::{KeyValue, MultiPutRequest, RawKey, Request, UpdateResponse};
use pegasus_thrift::storage;
use std::net::SocketAddr;
use tempfile::TempDir;

pub(crate) const TABLE: &str = "temp";

pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) ports: Vec<SocketAddr>,
    _directory: TempDir,
}

/// Three nodes of two cores, a table of eight partitions.
pub(crate) fn site() -> Site {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("cluster"), 3, 2).unwrap();
    cluster.create_table(TABLE, 8, 3).unwrap();
    let nodes = cluster.pegasus(&["node", "list", "--json"]).unwrap();
    let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
    let mut ports: Vec<SocketAddr> = Vec::new();
    for node in nodes["nodes"].as_array().unwrap() {
        for core in node["cores"].as_array().unwrap() {
            ports.push(core["client_address"].as_str().unwrap().parse().unwrap());
        }
    }
    assert_eq!(ports.len(), 6, "{nodes}");
    Site {
        cluster,
        ports,
        _directory: directory,
    }
}

/// A client with one table, which it has found by asking a data node.
pub(crate) struct Client {
    pub(crate) form: Form,
    pub(crate) table: Resolved,
}

impl Client {
    pub(crate) fn new(site: &Site, form: Form) -> Self {
        let table = Resolved::ask(site.ports[0], form, TABLE).unwrap();
        Self { form, table }
    }

    pub(crate) fn ask(&self, key: &RawKey<'_>, request: &Request<'_>) -> Answer {
        let to = self.table.to(key);
        let mut connection = self.table.connect(&to, self.form).unwrap();
        connection.ask(to, request).unwrap()
    }

    /// Of a whole hash key.
    pub(crate) fn ask_hash(&self, hash_key: &[u8], request: &Request<'_>) -> Answer {
        let key = RawKey {
            hash_key,
            sort_key: b"",
        };
        self.ask(&key, request)
    }
}

pub(crate) fn multi_put(client: &Client, hash_key: &[u8], rows: &[(&[u8], &[u8])]) {
    let kvs = rows.iter().map(|(key, value)| KeyValue {
        key: *key,
        value,
        expire_ts_seconds: None,
    });
    let request = Request::MultiPut(MultiPutRequest {
        hash_key,
        kvs: kvs.collect(),
        expire_ts_seconds: 0,
    });
    let answer = client.ask_hash(hash_key, &request);
    assert_eq!(
        answer.read::<UpdateResponse<'_>>().unwrap().error,
        storage::OK
    );
}
