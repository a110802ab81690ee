//! etcd, through its own protocol: gRPC, API version 3.
//!
//! Every stored value is a key `HASHKEY/SORTKEY` (see `layout`), which etcd keeps in order: a read of a row is a range,
//! a scan is a longer one, an insert of a row is one transaction of puts. Reads are linearizable.

mod connection;
mod messages;

use super::link::{Address, Class, Link};
use super::{ConnectOptions, Description, Failure};
use crate::layout::{CellName, Layout};
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use connection::Connection;
use messages::{
    KeyValue, MemberListRequest, MemberListResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One connection, made again when it was lost.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    link: Arc<Link<Connection>>,
    keys: Keys,
}

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const MEMBERS: &str = "/etcdserverpb.Cluster/MemberList";

impl Session {
    pub(super) async fn connect(address: &str, options: &ConnectOptions) -> anyhow::Result<Self> {
        let link = link(address, options.timeout).await?;
        // The preface of HTTP/2 is no answer yet.
        link.call(Class::Read, options.timeout, async |connection, sent| {
            connection.call(STATUS, &StatusRequest {}, sent).await
        })
        .await
        .map(|_: StatusResponse| ())
        .map_err(|failure| anyhow!("etcd server at {address}: {failure}"))?;
        Ok(Self {
            link: Arc::new(link),
            keys: Keys(options.layout),
        })
    }

    pub(super) async fn read(
        &self,
        record: u64,
        within: Duration,
    ) -> Result<Vec<super::Cell>, Failure> {
        let (key, range_end) = if self.keys.0.is_rows() {
            (self.keys.start_of(record), self.keys.end_of(record))
        } else {
            (self.keys.key(record, 0), Bytes::new())
        };
        let request = RangeRequest {
            key,
            range_end,
            limit: 0,
        };
        self.range(record, &request, within).await
    }

    pub(super) async fn update(
        &self,
        record: u64,
        field: usize,
        value: &[u8],
        within: Duration,
    ) -> Result<(), Failure> {
        let request = self.put(record, field, value);
        self.link
            .call(Class::Write, within, async |connection, sent| {
                connection.call(PUT, &request, sent).await
            })
            .await
            .map(|_: PutResponse| ())
    }

    pub(super) async fn insert(
        &self,
        record: u64,
        values: &[Vec<u8>],
        within: Duration,
    ) -> Result<(), Failure> {
        if let [value] = values {
            return self.update(record, 0, value, within).await;
        }
        let put = |(field, value): (usize, &Vec<u8>)| RequestOp {
            request_put: Some(self.put(record, field, value)),
        };
        let request = TxnRequest {
            success: values.iter().enumerate().map(put).collect(),
        };
        self.link
            .call(Class::Write, within, async |connection, sent| {
                connection.call(TXN, &request, sent).await
            })
            .await
            .map(|_: TxnResponse| ())
    }

    pub(super) async fn scan(
        &self,
        record: u64,
        records: u32,
        within: Duration,
    ) -> Result<Vec<super::Cell>, Failure> {
        let cells = i64::try_from(self.keys.0.cells()).unwrap_or(i64::MAX);
        let request = RangeRequest {
            key: self.keys.start_of(record),
            range_end: self.keys.end_of_hash_key(record),
            limit: i64::from(records).saturating_mul(cells),
        };
        self.range(record, &request, within).await
    }

    pub(super) fn retries(&self) -> u64 {
        self.link.retries()
    }

    async fn range(
        &self,
        record: u64,
        request: &RangeRequest,
        within: Duration,
    ) -> Result<Vec<super::Cell>, Failure> {
        let response: RangeResponse = self
            .link
            .call(Class::Read, within, async |connection, sent| {
                connection.call(RANGE, request, sent).await
            })
            .await?;
        let cell = |row: KeyValue| super::Cell {
            name: self.keys.name_of(record, &row.key),
            value: row.value,
        };
        Ok(response.kvs.into_iter().map(cell).collect())
    }

    fn put(&self, record: u64, field: usize, value: &[u8]) -> PutRequest {
        PutRequest {
            key: self.keys.key(record, field),
            value: Bytes::copy_from_slice(value),
        }
    }
}

/// Names of cells, as keys of etcd.
#[derive(Clone, Copy, Debug)]
struct Keys(Layout);

impl Keys {
    fn key(&self, record: u64, field: usize) -> Bytes {
        self.joined(record, self.0.sort_key(record, field).as_ref())
    }

    fn start_of(&self, record: u64) -> Bytes {
        self.joined(record, self.0.sort_key_prefix(record).as_ref())
    }

    /// The first key behind those of a record.
    fn end_of(&self, record: u64) -> Bytes {
        match self.0.sort_key_end(record) {
            Some(end) => self.joined(record, end.as_ref()),
            None => self.end_of_hash_key(record),
        }
    }

    fn end_of_hash_key(&self, record: u64) -> Bytes {
        let hash_key = self.0.hash_key(record);
        Bytes::from([hash_key.as_ref(), &[SEPARATOR + 1]].concat())
    }

    fn joined(&self, record: u64, sort_key: &[u8]) -> Bytes {
        let hash_key = self.0.hash_key(record);
        Bytes::from([hash_key.as_ref(), &[SEPARATOR], sort_key].concat())
    }

    /// Which cell a key names, among those under `record`'s hash key.
    fn name_of(&self, record: u64, key: &[u8]) -> Option<CellName> {
        let hash_key = self.0.hash_key(record);
        let sort_key = key
            .strip_prefix(hash_key.as_ref())?
            .strip_prefix(&[SEPARATOR])?;
        self.0.cell_of(record, sort_key)
    }
}

const SEPARATOR: u8 = b'/';
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

async fn link(address: &str, timeout: Duration) -> anyhow::Result<Link<Connection>> {
    let server = Address {
        address: address.to_owned(),
        timeout,
    };
    Link::open(server, ())
        .await
        .with_context(|| format!("etcd server at {address}"))
}

/// What the server says about itself.
pub(super) async fn describe(address: &str) -> anyhow::Result<Description> {
    let link = link(address, CONNECT_TIMEOUT).await?;
    let status: StatusResponse = link
        .call(Class::Read, CONNECT_TIMEOUT, async |connection, sent| {
            connection.call(STATUS, &StatusRequest {}, sent).await
        })
        .await
        .map_err(|failure| anyhow!("etcd server at {address}: {failure}"))?;
    let sent = Cell::new(false);
    let members = link
        .connection()
        .await?
        .call(MEMBERS, &MemberListRequest {}, &sent)
        .await
        .ok()
        .and_then(|list: MemberListResponse| u32::try_from(list.members.len()).ok());
    Ok(Description {
        protocol: "etcd".to_owned(),
        server: format!("etcd {}", status.version),
        partitions: None,
        replicas: members,
        durability: Some("log flushed by a majority before the answer".to_owned()),
        notes: BTreeMap::from([
            ("reads".to_owned(), "linearizable".to_owned()),
            (
                "scan".to_owned(),
                "a range from a record on, within its hash key".to_owned(),
            ),
            (
                "rows".to_owned(),
                "a key for each field; inserts are one transaction".to_owned(),
            ),
        ]),
        ..Description::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_back_to_their_cells_and_lie_in_their_ranges() {
        for (records_per_hash_key, fields) in [(1, 0), (1, 10), (10, 0), (10, 10)] {
            let layout = Layout {
                records_per_hash_key,
                fields,
                value_bytes: 100,
            };
            let keys = Keys(layout);
            for field in 0..layout.cells() {
                let key = keys.key(57, field);
                assert_eq!(keys.name_of(57, &key), Some(CellName { record: 57, field }));
                assert!(keys.start_of(57) <= key && key < keys.end_of(57));
                assert!(keys.key(58, field) >= keys.end_of(57));
            }
            assert_eq!(keys.name_of(57, b"user000000000057"), None);
        }
    }
}
