//! Throttles of a table: act on a cluster that runs, on every protocol, on the table they are set for and no other.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use bytes::BytesMut;
use e2e::apache::{Form, Resolved};
use e2e::cluster::{Cluster, wait_until};
use e2e::raw;
use pegasus_resp::{Value, ValueDecoder};
use pegasus_thrift::data::{RawKey, Request, UpdateRequest};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const HASH_KEY: &[u8] = b"h";
const SORT_KEY: &[u8] = b"s";
/// The same row by Apache's raw keys.
const RAW_KEY: &[u8] = b"\x00\x01hs";
/// Of a table with two partitions: one request of a partition in each second.
const ONE_EACH_SECOND: &str = "0*reject*0";

/// A cluster of one node, a table that is throttled and one that is not.
struct Site {
    _directory: TempDir,
    cluster: Cluster,
}

impl Site {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(&directory.path().join("c"), 1, 1).unwrap();
        cluster.create_table("throttled", 2, 1).unwrap();
        cluster.create_table("free", 2, 1).unwrap();
        Self {
            _directory: directory,
            cluster,
        }
    }

    fn set(&self, key: &str, value: &str) {
        let pair = format!("{key}={value}");
        self.cluster
            .pegasus(&["table", "env", "set", "throttled", &pair])
            .unwrap();
    }

    fn delete(&self, key: &str) {
        self.cluster
            .pegasus(&["table", "env", "delete", "throttled", key])
            .unwrap();
    }

    fn row(&self, table: &str) -> Row {
        let meta: SocketAddr = self.cluster.meta().parse().unwrap();
        let resolved = Resolved::ask(meta, Form::ThftV0, table).unwrap();
        let key = RawKey {
            hash_key: HASH_KEY,
            sort_key: SORT_KEY,
        };
        let to = resolved.to(&key);
        let table_id = u32::try_from(to.app_id).unwrap();
        let index = u32::try_from(to.partition_index).unwrap();
        let address = resolved.primaries[usize::try_from(index).unwrap()];
        Row {
            address: address.to_string(),
            partition: (table_id, index),
            resolved,
        }
    }
}

/// One row, where it is.
struct Row {
    address: String,
    partition: raw::Partition,
    resolved: Resolved,
}

impl Row {
    fn put(&self, value: &[u8]) -> anyhow::Result<()> {
        raw::put(&self.address, self.partition, HASH_KEY, value)
    }

    fn get(&self) -> anyhow::Result<Option<Vec<u8>>> {
        raw::get(&self.address, self.partition, HASH_KEY)
    }

    /// The error of the frame that answers a put of one of Apache's clients.
    fn put_as(&self, form: Form) -> String {
        let to = self.resolved.to(&RawKey {
            hash_key: HASH_KEY,
            sort_key: SORT_KEY,
        });
        let mut connection = self.resolved.connect(&to, form).unwrap();
        let put = Request::Put(UpdateRequest {
            key: RAW_KEY,
            value: b"x",
            ..UpdateRequest::default()
        });
        connection.ask(to, &put).unwrap().status
    }

    fn ask_redis(&self, command: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let lines = format!("SELECT throttled\r\n{command}\r\n");
        stream.write_all(lines.as_bytes()).unwrap();
        let (mut input, mut decoder) = (BytesMut::new(), ValueDecoder::default());
        let mut answers = Vec::new();
        while answers.len() < 2 {
            if let Some(value) = decoder.decode(&mut input).unwrap() {
                answers.push(value);
                continue;
            }
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).unwrap();
            assert!(count > 0, "the server has closed the connection");
            input.extend_from_slice(&chunk[..count]);
        }
        answers.pop().unwrap()
    }
}

fn is_busy<T: std::fmt::Debug>(result: &anyhow::Result<T>) -> bool {
    let text = result
        .as_ref()
        .map_or_else(ToString::to_string, |_| String::new());
    assert!(text.is_empty() || text.contains("Busy"), "{result:?}");
    text.contains("throttled")
}

#[test]
fn writes_over_the_limit_are_rejected_whatever_the_protocol_and_reads_are_not() {
    let site = Site::start();
    let (row, other) = (site.row("throttled"), site.row("free"));
    row.put(b"before").unwrap();
    site.set("replica.write_throttling", ONE_EACH_SECOND);
    wait_until("native writes to be rejected", || is_busy(&row.put(b"x"))).unwrap();
    for form in Form::ALL {
        wait_until("Apache's clients to be rejected", || {
            let status = row.put_as(form);
            assert!(
                ["ERR_OK", "ERR_BUSY"].contains(&&*status),
                "{form:?} {status}"
            );
            status == "ERR_BUSY"
        })
        .unwrap();
    }
    wait_until("a Redis client to be rejected", || {
        match row.ask_redis("SET h x") {
            Value::Error(text) => {
                assert!(text.starts_with(b"TRYAGAIN not executed"), "{text:?}");
                true
            }
            value => {
                assert_eq!(value, Value::Simple("OK".into()));
                false
            }
        }
    })
    .unwrap();
    for _ in 0..10 {
        row.get().unwrap().unwrap();
        other.put(b"x").unwrap();
    }
    site.delete("replica.write_throttling");
    wait_until("the throttle to be gone", || !is_busy(&row.put(b"x"))).unwrap();
    wait_until("ten writes without a word", || {
        (0..10).all(|_| !is_busy(&row.put(b"x")))
    })
    .unwrap();
    site.cluster.stop().unwrap();
}

#[test]
fn requests_over_the_limit_are_delayed_and_then_executed() {
    const PAUSE: Duration = Duration::from_millis(400);
    let site = Site::start();
    let row = site.row("throttled");
    row.put(b"before").unwrap();
    site.set("replica.read_throttling", "0*delay*400");
    site.set("replica.write_throttling_by_size", "0*delay*400");
    let takes_its_time = |what: &str, ask: &dyn Fn()| {
        wait_until(what, || {
            let began = Instant::now();
            ask();
            began.elapsed() >= PAUSE
        })
        .unwrap();
    };
    takes_its_time("a read to be delayed", &|| {
        assert_eq!(row.get().unwrap().as_deref(), Some(&b"before"[..]));
    });
    site.delete("replica.read_throttling");
    takes_its_time("a write to be delayed", &|| row.put(b"after").unwrap());
    takes_its_time("a Redis client's write to be delayed", &|| {
        let answer = row.ask_redis("SET other x");
        assert_eq!(answer, Value::Simple("OK".into()));
    });
    assert_eq!(row.get().unwrap().as_deref(), Some(&b"after"[..]));
    site.cluster.stop().unwrap();
}

#[test]
fn bytes_read_are_paid_for_by_the_reads_after_them() {
    let site = Site::start();
    let row = site.row("throttled");
    row.put(&[b'x'; 100_000]).unwrap();
    // 50,000 bytes for each of the two partitions: a read is worth two seconds.
    site.set("replica.read_throttling_by_size", "100000");
    wait_until("reads to be rejected", || is_busy(&row.get())).unwrap();
    row.put(&[b'y'; 100_000]).unwrap();
    wait_until("reads to be answered again", || {
        let read = row.get();
        if is_busy(&read) {
            return false;
        }
        assert_eq!(read.unwrap().unwrap()[0], b'y');
        true
    })
    .unwrap();
    assert!(is_busy(&row.get()), "the one before was free");
    site.cluster.stop().unwrap();
}
