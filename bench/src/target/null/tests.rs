//! Both targets of the null server read what they wrote.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::layout::Layout;
use crate::null_server::{Memory, NullServer};
use crate::target::{Cell, ConnectOptions, Session, Target};
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(10);

fn with_session<F: Future<Output = ()>>(
    url: &str,
    layout: Layout,
    test: impl FnOnce(Session) -> F,
) {
    let target: Target = url.parse().unwrap();
    let options = ConnectOptions {
        layout,
        inflight: 4,
        timeout: WITHIN,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { test(target.connect(&options).await.unwrap()).await });
}

fn urls(server: &NullServer) -> [String; 2] {
    [
        format!("native://{}/any", server.address),
        format!("redis://{}", server.address),
    ]
}

fn values(cells: Vec<Cell>) -> Vec<(u64, usize, Vec<u8>)> {
    let mut values: Vec<_> = cells
        .into_iter()
        .map(|cell| {
            let name = cell.name.unwrap();
            (name.record, name.field, cell.value.to_vec())
        })
        .collect();
    values.sort();
    values
}

#[test]
fn rows_of_fields_are_read_as_they_were_written() {
    let server = NullServer::start(Memory::default(), None).unwrap();
    for (url, first) in urls(&server).iter().zip([0, 1_000]) {
        let layout = Layout {
            records_per_hash_key: 10,
            fields: 3,
            value_bytes: 4,
        };
        with_session(url, layout, async |session| {
            for record in first..first + 10 {
                let fields: Vec<Vec<u8>> = (0..3).map(|f| format!("{record}.{f}").into()).collect();
                session.insert(record, &fields, WITHIN).await.unwrap();
            }
            session.update(first + 7, 1, b"new", WITHIN).await.unwrap();
            let read = values(session.read(first + 7, WITHIN).await.unwrap());
            let expected = |record: u64| {
                (0..3_usize).map(move |field| {
                    let changed = (record, field) == (first + 7, 1);
                    let value = if changed {
                        "new".to_owned()
                    } else {
                        format!("{record}.{field}")
                    };
                    (record, field, value.into_bytes())
                })
            };
            assert_eq!(read, expected(first + 7).collect::<Vec<_>>(), "{url}");
            let scanned = values(session.scan(first + 6, 2, WITHIN).await.unwrap());
            let two: Vec<_> = expected(first + 6).chain(expected(first + 7)).collect();
            assert_eq!(scanned, two, "{url}");
            assert!(session.read(first + 11, WITHIN).await.unwrap().is_empty());
            assert_eq!(session.retries(), 0);
        });
    }
}

#[test]
fn single_values_are_read_as_they_were_written() {
    let server = NullServer::start(Memory::default(), None).unwrap();
    for (url, record) in urls(&server).iter().zip([5, 6]) {
        let layout = Layout {
            records_per_hash_key: 1,
            fields: 0,
            value_bytes: 5,
        };
        with_session(url, layout, async |session| {
            assert!(session.read(record, WITHIN).await.unwrap().is_empty());
            session
                .insert(record, &[b"value".to_vec()], WITHIN)
                .await
                .unwrap();
            let read = values(session.read(record, WITHIN).await.unwrap());
            assert_eq!(read, [(record, 0, b"value".to_vec())], "{url}");
        });
    }
}

#[test]
fn answers_that_do_not_fit_the_socket_all_arrive() {
    let server = NullServer::start(Memory::default(), None).unwrap();
    for url in urls(&server) {
        let layout = Layout {
            records_per_hash_key: 1,
            fields: 0,
            value_bytes: 1 << 20,
        };
        with_session(&url, layout, async |session| {
            session
                .insert(1, &[vec![7; 1 << 20]], WITHIN)
                .await
                .unwrap();
            let reads = (0..20).map(|_| session.read(1, WITHIN));
            for read in futures::future::join_all(reads).await {
                assert_eq!(read.unwrap()[0].value.len(), 1 << 20, "{url}");
            }
        });
    }
}

#[test]
fn bytes_of_no_protocol_end_their_connection_only() {
    let server = NullServer::start(Memory::default(), None).unwrap();
    for garbage in [
        &b"\x89PGSgarbage of no version at all, forty bytes"[..],
        b"*1\r\n:1\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(garbage).unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        let ended = std::io::Read::read(&mut stream, &mut [0; 16]);
        assert!(
            matches!(ended, Ok(0))
                || ended.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset
        );
    }
    let layout = Layout {
        records_per_hash_key: 1,
        fields: 0,
        value_bytes: 5,
    };
    with_session(&urls(&server)[0], layout, async |session| {
        assert!(session.read(1, WITHIN).await.unwrap().is_empty());
    });
}

#[test]
fn a_server_that_is_dropped_is_gone() {
    let server = NullServer::start(Memory::default(), None).unwrap();
    let address = server.address;
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}
