//! Bytes on the ports: the wrong core, the wrong partition, garbage.

use crate::harness::TestCluster;
use bytes::BytesMut;
use pegasus_client::{Client, ClientOptions, Code, Table};
use pegasus_fbs::body::{self, FailureBody};
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{self, Decoder, Frame, FrameKind, Header, encode_frame};
use pegasus_fbs::kv;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One request frame and its answer on a connection of its own.
fn ask(address: SocketAddr, header: Header, body: &[u8]) -> Frame {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(crate::harness::PATIENCE))
        .unwrap();
    let mut request = Vec::new();
    encode_frame(&mut request, &header, body);
    stream.write_all(&request).unwrap();
    let mut input = BytesMut::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(frame) = Decoder::new(frame::BODY_BYTES_MAX)
            .decode(&mut input)
            .unwrap()
        {
            return frame;
        }
        let bytes = stream.read(&mut chunk).unwrap();
        assert!(bytes > 0, "the connection was closed");
        input.extend_from_slice(&chunk[..bytes]);
    }
}

fn key(hash_key: &[u8], sort_key: &[u8]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let hash_key = builder.create_vector(hash_key);
    let sort_key = builder.create_vector(sort_key);
    let arguments = kv::KeyRequestArgs {
        hash_key: Some(hash_key),
        sort_key: Some(sort_key),
        ..Default::default()
    };
    let root = kv::KeyRequest::create(&mut builder, &arguments);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

fn get_of(table: &Table, partition: u32) -> Header {
    Header::request(FrameKind::Get, 7).to_partition(table.id(), partition)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_on_the_wrong_core_is_answered_all_the_same() {
    let cluster = TestCluster::start(1, 2).await;
    let table = cluster.table("t", 4, 1).await;
    table.put(b"h", b"s", b"value").await.unwrap();
    let partition = table.partition_of(b"h", b"s");
    for address in cluster.nodes[0].clients() {
        let answer = ask(*address, get_of(&table, partition), &key(b"h", b"s"));
        assert!(
            !answer.header.is_failure(),
            "{:?}",
            FailureBody::read(&answer.body)
        );
        let value = body::read::<kv::ValueReply<'_>>(&answer.body).unwrap();
        assert_eq!(body::bytes(value.value()), b"value");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_partition_is_refused() {
    let cluster = TestCluster::start(1, 1).await;
    let table = cluster.table("t", 4, 1).await;
    let wrong = (table.partition_of(b"h", b"s") + 1) % 4;
    let answer = ask(
        cluster.nodes[0].clients()[0],
        get_of(&table, wrong),
        &key(b"h", b"s"),
    );
    assert_eq!(
        FailureBody::read(&answer.body).unwrap().code,
        Code::InvalidArgument
    );
    let answer = ask(
        cluster.nodes[0].clients()[0],
        get_of(&table, 9),
        &key(b"h", b"s"),
    );
    assert_eq!(
        FailureBody::read(&answer.body).unwrap().code,
        Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_closes_its_connection_and_nothing_else() {
    let cluster = TestCluster::start(1, 1).await;
    let table = cluster.table("t", 4, 1).await;
    let client = cluster.nodes[0].clients()[0];
    let peer = SocketAddr::new(client.ip(), client.port() + 1000);
    let mut flipped = Vec::new();
    encode_frame(&mut flipped, &get_of(&table, 0), &key(b"h", b"s"));
    *flipped.last_mut().unwrap() ^= 1;
    for address in [client, peer] {
        for garbage in [&[0x89, 0, 0, 0, 1][..], &[0xff; 10_000], &flipped] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            // It may be closed before everything is written.
            let _ = stream.write_all(garbage);
            let mut answer = [0; 1];
            assert!(
                !matches!(stream.read(&mut answer), Ok(1..)),
                "garbage was answered"
            );
        }
    }
    table.put(b"h", b"s", b"value").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_node_tells_routes_with_meta_and_without() {
    let mut cluster = TestCluster::start(1, 2).await;
    cluster
        .table("t", 4, 1)
        .await
        .put(b"h", b"s", b"value")
        .await
        .unwrap();
    let address = cluster.nodes[0].clients()[0].to_string();
    for round in 0..2 {
        if round == 1 {
            cluster.stop_meta().await;
        }
        let client = Client::connect(ClientOptions::new([address.clone()]))
            .await
            .unwrap();
        let table = client.table("t").await.unwrap();
        assert_eq!(
            table.get(b"h", b"s").await.unwrap().as_deref(),
            Some(&b"value"[..])
        );
    }
}
