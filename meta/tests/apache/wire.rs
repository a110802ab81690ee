//! The bytes themselves, and what is not served.

use super::{Site, create, query};
use crate::peer::Link;
use pegasus_thrift::meta::{CreateAppResponse, QueryCfgResponse};
use pegasus_thrift::remote::{Command, NegotiationRequest, NegotiationResponse, NegotiationStatus};
use pegasus_thrift::{ErrorCode, Protocol, Rpc, RpcKind};

/// As the Go client asks where the table `temp` is (Apache Pegasus, THFT version 0, sequence id 1).
const QUERY: &[u8] = b"THFT\0\0\0\0\0\0\0\x30\0\0\0\0\0\0\0\x4a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
\x80\x01\0\x01\0\0\0\x26RPC_CM_QUERY_PARTITION_CONFIG_BY_INDEX\0\0\0\x01\x0c\0\x01\x0b\0\x01\0\0\0\x04temp\x0f\0\x02\x08\0\0\0\0\0\0";
const HEAD: &[u8] =
    b"\0\0\0\x06ERR_OK\x80\x01\0\x02\0\0\0\x2aRPC_CM_QUERY_PARTITION_CONFIG_BY_INDEX_ACK\0\0\0\x01";

#[tokio::test]
async fn a_table_that_is_not_there_is_answered_byte_for_byte() {
    let site = Site::of(1).await;
    let mut client = site.client(Protocol::Thft).await;
    client.write(QUERY).await;
    let answer = client
        .answer(1, Rpc::QueryPartitionConfigByIndex.ack_name())
        .await;
    let result = b"\x0c\0\0\x0c\0\x01\0\0\0\x14ERR_OBJECT_NOT_FOUND\x08\0\x02\0\0\0\0\x08\0\x03\0\0\0\0\x02\0\x04\0\x0f\0\x05\x0c\0\0\0\0\0\0";
    let expected = [&[0, 0, 0, 126][..], HEAD, result].concat();
    assert_eq!(answer.frame, expected);
    site.server.stop().await;
}

#[tokio::test]
async fn a_table_is_answered_byte_for_byte_and_without_names_of_hosts() {
    let mut site = Site::of(1).await;
    site.table("temp").await;
    let addresses = site.nodes[0].client_addresses();
    let mut client = site.client(Protocol::Thft).await;
    // However few bytes come at a time.
    for byte in QUERY {
        client.write(&[*byte]).await;
    }
    let answer = client
        .answer(1, Rpc::QueryPartitionConfigByIndex.ack_name())
        .await;
    let mut expected = HEAD.to_vec();
    expected.extend(b"\x0c\0\0\x0c\0\x01\0\0\0\x06ERR_OK\x08\0\x02\0\0\0\x01\x08\0\x03\0\0\0\x02\x02\0\x04\x01\x0f\0\x05\x0c\0\0\0\x02");
    for index in 0..2_u8 {
        expected.extend([0x0c, 0, 1, 0, 0, 0, index, 0, 0, 0, 1]);
        expected.extend(b"\x0a\0\x02\0\0\0\0\0\0\0\x01\x08\0\x03\0\0\0\x01\x0c\0\x04");
        let address = addresses[usize::from(index)];
        expected.extend(address.ip().octets());
        expected.extend(address.port().to_be_bytes());
        expected.extend([0, 1]);
        expected.extend(b"\x0f\0\x05\x0c\0\0\0\0\x0f\0\x06\x0c\0\0\0\0\x0a\0\x07\0\0\0\0\0\0\0\0\x08\0\x08\0\0\0\0\0");
    }
    expected.extend([0, 0]);
    let length = u32::try_from(expected.len() + 4).unwrap().to_be_bytes();
    assert_eq!(answer.frame, [&length[..], &expected].concat());
    site.server.stop().await;
}

#[tokio::test]
async fn the_shell_is_told_names_of_hosts_too() {
    let mut site = Site::of(2).await;
    site.table("temp").await;
    let mut client = site.client(Protocol::Rdsn).await;
    let answer = client
        .ask(Rpc::QueryPartitionConfigByIndex, &query("temp"))
        .await;
    let response: QueryCfgResponse<'_> = answer.read();
    assert_eq!(response.err, ErrorCode::Ok);
    assert!(response.is_stateful);
    assert_eq!(response.partitions.len(), 2);
    for (index, partition) in (0..).zip(&response.partitions) {
        assert_eq!(partition.pid.partition_index, index);
        assert!(partition.ballot >= 1);
        assert_eq!(partition.secondaries.len(), 1);
        assert_eq!(partition.hp_primary, Some(partition.primary.into()));
        assert_eq!(partition.hp_secondaries.as_ref().map(Vec::len), Some(1));
        assert!(partition.primary.v4().is_some());
    }
    // Only those that are asked for; none of them there means all.
    for (indices, expected) in [(vec![1], vec![1]), (vec![7, -1], vec![0, 1])] {
        let mut request = query("temp");
        request.partition_indices = indices;
        let answer = client.ask(Rpc::QueryPartitionConfigByIndex, &request).await;
        let response: QueryCfgResponse<'_> = answer.read();
        let found: Vec<i32> = response
            .partitions
            .iter()
            .map(|it| it.pid.partition_index)
            .collect();
        assert_eq!(found, expected);
    }
    site.server.stop().await;
}

#[tokio::test]
async fn a_table_is_busy_until_its_replicas_are_there() {
    let mut site = Site::of(1).await;
    let mut maker = site.client(Protocol::Thft).await;
    let mut client = site.client(Protocol::Thft).await;
    let made = maker.send(Rpc::CreateApp.name(), &create("t", 2, 1)).await;
    // It is recorded before any node hears of it.
    site.nodes[0]
        .until(|node| !node.configurations.is_empty())
        .await;
    let answer = client
        .ask(Rpc::QueryPartitionConfigByIndex, &query("t"))
        .await;
    let response: QueryCfgResponse<'_> = answer.read();
    assert_eq!(response.err, ErrorCode::BusyCreating);
    assert!(!response.is_stateful && response.partitions.is_empty());
    let answer = client.ask(Rpc::CreateApp, &create("t", 2, 1)).await;
    assert_eq!(
        answer.read::<CreateAppResponse>().err,
        ErrorCode::BusyCreating
    );
    site.serve(1).await;
    let answer = maker.answer(made, Rpc::CreateApp.ack_name()).await;
    assert_eq!(answer.read::<CreateAppResponse>().appid, 1);
    let answer = client
        .ask(Rpc::QueryPartitionConfigByIndex, &query("t"))
        .await;
    assert_eq!(answer.read::<QueryCfgResponse<'_>>().err, ErrorCode::Ok);
    site.server.stop().await;
}

/// No struct is written as the arguments of any of them: each has to be answered all the same.
#[tokio::test]
async fn every_request_of_apache_is_answered_or_known_to_be_silent() {
    let site = Site::of(1).await;
    for protocol in [Protocol::Thft, Protocol::Rdsn] {
        let mut client = site.client(protocol).await;
        for &rpc in Rpc::ALL.iter().filter(|rpc| rpc.is_answered()) {
            let id = client.send(rpc.name(), &query("")).await;
            let answer = client.answer(id, rpc.ack_name()).await;
            let is_known = matches!(rpc.kind(), RpcKind::Meta | RpcKind::Any);
            if is_known {
                assert_ne!(answer.status, "ERR_HANDLER_NOT_FOUND", "{}", rpc.name());
            } else {
                assert_eq!(answer.status, "ERR_HANDLER_NOT_FOUND", "{}", rpc.name());
            }
        }
        client.send(Rpc::ClearScanner.name(), &query("")).await;
        let id = client.send("RPC_NEVER_HEARD_OF", &query("")).await;
        let answer = client.answer(id, "RPC_NEVER_HEARD_OF_ACK").await;
        assert_eq!(answer.status, "ERR_HANDLER_NOT_FOUND");
    }
    site.server.stop().await;
}

#[tokio::test]
async fn what_is_not_built_says_so_by_name() {
    let site = Site::of(1).await;
    let mut client = site.client(Protocol::Thft).await;
    let answer = client.ask(Rpc::StartBulkLoad, &query("t")).await;
    let text = String::from_utf8_lossy(&answer.result).into_owned();
    assert!(text.contains("ERR_NOT_IMPLEMENTED"), "{text}");
    assert!(text.contains("RPC_CM_START_BULK_LOAD"), "{text}");
    let answer = client.ask(Rpc::StartRecovery, &query("")).await;
    let text = String::from_utf8_lossy(&answer.result).into_owned();
    assert!(text.contains("ERR_SERVICE_ALREADY_RUNNING"), "{text}");
    let request = NegotiationRequest::default();
    let answer = client.ask(Rpc::Negotiation, &request).await;
    let response: NegotiationResponse<'_> = answer.read();
    assert_eq!(response.status, NegotiationStatus::SaslAuthDisable);
    for (cmd, argument, expected) in [
        ("server-info", "", "Pegasus Server"),
        ("help", "server-info", "version"),
        ("help", "nothing", "cannot find command 'nothing'"),
        ("nonsense", "", "unknown command 'nonsense'"),
        ("perf-counters-by-substr", "replica", "\"result\":\"OK\""),
    ] {
        let arguments = vec![argument];
        let answer = client.ask(Rpc::Cli, &Command { cmd, arguments }).await;
        assert!(answer.read::<&str>().contains(expected), "{cmd}");
    }
    site.server.stop().await;
}

#[tokio::test]
async fn who_speaks_something_else_is_told_or_let_go() {
    let site = Site::of(1).await;
    let address = site.server.address();
    for words in [&b"*1\r\n$4\r\nPING\r\n"[..], b"PING\r\n", b"GET key\r\n"] {
        let mut client = site.client(Protocol::Thft).await;
        client.write(words).await;
        let told = String::from_utf8(client.rest().await).unwrap();
        assert!(told.starts_with("-ERR this is a meta server"), "{told}");
        assert!(told.ends_with("\r\n"));
    }
    let oversized = b"THFT\0\0\0\0\0\0\0\x30\0\0\0\0\x7f\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let negative = b"THFT\0\0\0\0\0\0\0\x30\0\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    for words in [
        &oversized[..],
        negative,
        b"THFT\0\0\0\x07\0\0\0\x30",
        b"RDSN\x09",
    ] {
        let mut link = Link::open(address).await;
        let mut padded = words.to_vec();
        padded.resize(200, 0);
        link.write(&padded).await;
        assert!(link.is_closed().await, "{words:?}");
    }
    site.server.stop().await;
}
