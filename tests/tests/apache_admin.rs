//! Apache's tools and our own command line look after the same tables, on real nodes.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::apache::{Connection, Form, Resolved};
use e2e::cluster::{Cluster, wait_until};
use pegasus_thrift::binary::{Decode, Encode, Map};
use pegasus_thrift::meta::{
    CreateAppOptions, CreateAppRequest, CreateAppResponse, DropAppOptions, DropAppRequest,
    DropAppResponse, ListNodesRequest, ListNodesResponse,
};
use pegasus_thrift::{ErrorCode, Rpc};
use serde_json::Value;

fn json(cluster: &Cluster, arguments: &[&str]) -> Value {
    let arguments = [&["--json"], arguments].concat();
    serde_json::from_str(&cluster.pegasus(&arguments).unwrap()).unwrap()
}

/// What meta answers, as `T`, to a tool in one of the three headers.
fn ask<T: Encode, R: for<'a> Decode<'a> + Default>(
    cluster: &Cluster,
    form: Form,
    rpc: Rpc,
    request: &T,
) -> R {
    let meta = cluster.meta().parse().unwrap();
    let mut connection = Connection::open(meta, form).unwrap();
    connection.ask_server(rpc, request).unwrap().read().unwrap()
}

fn create(cluster: &Cluster, form: Form, name: &str) -> u32 {
    let request = CreateAppRequest {
        app_name: name,
        options: CreateAppOptions {
            partition_count: 4,
            replica_count: 2,
            success_if_exist: false,
            app_type: "pegasus",
            is_stateful: true,
            envs: Map(Vec::new()),
            atomic_idempotent: None,
        },
    };
    let response: CreateAppResponse = ask(cluster, form, Rpc::CreateApp, &request);
    assert_eq!(response.err, ErrorCode::Ok, "{name}");
    u32::try_from(response.appid).unwrap()
}

fn drop_app(cluster: &Cluster, form: Form, name: &str) {
    let request = DropAppRequest {
        app_name: name,
        options: DropAppOptions {
            success_if_not_exist: false,
            reserve_seconds: Some(10_000),
        },
    };
    let response: DropAppResponse = ask(cluster, form, Rpc::DropApp, &request);
    assert_eq!(response.err, ErrorCode::Ok, "{name}");
}

#[test]
fn a_table_of_apaches_tools_is_seen_lost_and_found_by_ours() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("c"), 2, 2).unwrap();
    let mut numbers = Vec::new();
    for (form, name) in Form::ALL.into_iter().zip(["a", "b", "c"]) {
        numbers.push(create(&cluster, form, name));
        // Its maker is answered when it serves.
        cluster
            .pegasus(&["set", name, "key", "field", name])
            .unwrap();
        let resolved = Resolved::ask(cluster.meta().parse().unwrap(), form, name).unwrap();
        assert_eq!(resolved.primaries.len(), 4);
    }
    assert_eq!(
        json(&cluster, &["table", "list"]).as_array().unwrap().len(),
        3
    );
    let request = ListNodesRequest::default();
    let meta = cluster.meta().parse().unwrap();
    let mut tool = Connection::open(meta, Form::Rdsn).unwrap();
    let answer = tool.ask_server(Rpc::ListNodes, &request).unwrap();
    let nodes: ListNodesResponse<'_> = answer.read().unwrap();
    assert_eq!(nodes.infos.len(), 4, "each core is a node");

    drop_app(&cluster, Form::ThftV1, "a");
    assert!(Resolved::ask(meta, Form::ThftV0, "a").is_err());
    cluster
        .pegasus_fails(&["get", "a", "key", "field"])
        .unwrap();
    let dropped = json(&cluster, &["table", "list", "--dropped"]);
    assert_eq!(dropped[0]["table_id"], numbers[0]);

    // What is kept is kept on disk, through the death of everybody.
    cluster.kill_all().unwrap();
    cluster.start_again().unwrap();
    let number = numbers[0].to_string();
    cluster
        .pegasus(&["table", "recall", &number, "--name", "back"])
        .unwrap();
    let found = cluster.pegasus(&["get", "back", "key", "field"]).unwrap();
    assert_eq!(found.trim_end(), "a");
    cluster.pegasus(&["table", "rename", "back", "a"]).unwrap();
    let found = cluster.pegasus(&["get", "a", "key", "field"]).unwrap();
    assert_eq!(found.trim_end(), "a");
    assert!(Resolved::ask(meta, Form::ThftV0, "a").is_ok());

    // Deleted for good, it cannot be called back.
    let drop = ["table", "drop", "a", "--reserve", "0", "--yes"];
    cluster.pegasus(&drop).unwrap();
    cluster
        .pegasus_fails(&["table", "recall", &number])
        .unwrap();
    cluster.stop().unwrap();
}

#[test]
fn settings_that_act_do_so_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("c"), 2, 1).unwrap();
    cluster.create_table("t", 2, 2).unwrap();
    let shown = json(
        &cluster,
        &[
            "table",
            "env",
            "set",
            "t",
            "default_ttl=1000",
            "replica.backup_request_throttling=10*reject*0",
        ],
    );
    let acts: Vec<bool> = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["acts"].as_bool().unwrap())
        .collect();
    assert_eq!(acts, [true, false]);
    wait_until("rows to get a default time to live", || {
        cluster.pegasus(&["set", "t", "key", "field", "x"]).unwrap();
        let ttl = json(&cluster, &["ttl", "t", "key", "field"]);
        ttl["ttl"]
            .as_u64()
            .is_some_and(|it| it <= 1_000 && it > 900)
    })
    .unwrap();

    let deny = "replica.deny_client_request=reconfig*write";
    cluster
        .pegasus(&["table", "env", "set", "t", deny])
        .unwrap();
    let write = ["--timeout", "0.3", "set", "t", "key", "other", "y"];
    wait_until("writes to be denied", || cluster.pegasus(&write).is_err()).unwrap();
    cluster.pegasus(&["get", "t", "key", "field"]).unwrap();
    let delete = ["table", "env", "delete", "t", "replica.deny_client_request"];
    cluster.pegasus(&delete).unwrap();
    cluster.pegasus(&["set", "t", "key", "other", "y"]).unwrap();

    cluster
        .pegasus_fails(&["table", "env", "set", "t", "default_ttl=soon"])
        .unwrap();
    let cluster_info = json(&cluster, &["cluster", "info"]);
    assert_eq!(cluster_info["meta_function_level"], "steady");
    let level = json(&cluster, &["cluster", "level", "freezed"]);
    assert_eq!(
        (&level["before"], &level["level"]),
        (&"steady".into(), &"freezed".into())
    );
    let refused = [
        "table",
        "create",
        "u",
        "--partitions",
        "2",
        "--replicas",
        "1",
    ];
    cluster.pegasus_fails(&refused).unwrap();
    cluster.pegasus(&["cluster", "level", "steady"]).unwrap();
    cluster.stop().unwrap();
}
