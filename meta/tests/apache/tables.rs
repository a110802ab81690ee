//! What tools do with tables, and the errors they know.

use super::{Site, create, query};
use crate::client::Client;
use pegasus_thrift::binary::Map;
use pegasus_thrift::meta::{
    AppEnvOperation, AppStatus, ClusterInfoRequest, ClusterInfoResponse, CreateAppResponse,
    DropAppOptions, DropAppRequest, DropAppResponse, GetMaxReplicaCountRequest,
    GetMaxReplicaCountResponse, ListAppsRequest, ListAppsResponse, ListNodesRequest,
    ListNodesResponse, MetaControlRequest, MetaControlResponse, MetaFunctionLevel, NodeStatus,
    PatternMatchType, QueryCfgResponse, RecallAppRequest, RecallAppResponse, RenameAppRequest,
    RenameAppResponse, SetMaxReplicaCountRequest, SetMaxReplicaCountResponse, UpdateAppEnvRequest,
    UpdateAppEnvResponse,
};
use pegasus_thrift::{ErrorCode, Protocol, Rpc};

async fn drop_app(client: &mut Client, name: &str, forgives: bool) -> ErrorCode {
    let request = DropAppRequest {
        app_name: name,
        options: DropAppOptions {
            success_if_not_exist: forgives,
            reserve_seconds: Some(100),
        },
    };
    let answer = client.ask(Rpc::DropApp, &request).await;
    answer.read::<DropAppResponse>().err
}

async fn recall(client: &mut Client, app_id: i32, new_app_name: &str) -> (ErrorCode, String) {
    let request = RecallAppRequest {
        app_id,
        new_app_name,
    };
    let answer = client.ask(Rpc::RecallApp, &request).await;
    let response: RecallAppResponse<'_> = answer.read();
    (response.err, response.info.app_name.to_owned())
}

async fn rename(client: &mut Client, old_app_name: &str, new_app_name: &str) -> ErrorCode {
    let request = RenameAppRequest {
        old_app_name,
        new_app_name,
    };
    let answer = client.ask(Rpc::RenameApp, &request).await;
    answer.read::<RenameAppResponse<'_>>().err
}

/// Name and status of those that fit.
async fn list(client: &mut Client, request: &ListAppsRequest<'_>) -> Vec<(String, AppStatus)> {
    let answer = client.ask(Rpc::ListApps, request).await;
    let response: ListAppsResponse<'_> = answer.read();
    assert_eq!(response.err, ErrorCode::Ok);
    let infos = response.infos.iter();
    infos
        .map(|it| (it.app_name.to_owned(), it.status))
        .collect()
}

#[tokio::test]
async fn bad_tables_are_refused_by_the_names_that_tools_know() {
    let mut site = Site::of(2).await;
    site.table("t").await;
    let mut client = site.client(Protocol::Thft).await;
    let cases = [
        (create("u", 0, 1), ErrorCode::InvalidParameters),
        (create("u", 3, 1), ErrorCode::InvalidParameters),
        (create("u", -2, 1), ErrorCode::InvalidParameters),
        (create("u", 2, 0), ErrorCode::InvalidParameters),
        (create("u", 2, 6), ErrorCode::InvalidParameters),
        (create("u", 2, 3), ErrorCode::InvalidParameters),
        (create("a b", 2, 1), ErrorCode::InvalidParameters),
        (create("t", 2, 2), ErrorCode::AppExist),
    ];
    for (request, expected) in cases {
        let answer = client.ask(Rpc::CreateApp, &request).await;
        let found: CreateAppResponse = answer.read();
        assert_eq!(found.err, expected, "{request:?}");
    }
    // The same table is good enough for whoever says so, another one is not.
    let cases = [
        (2, (ErrorCode::Ok, 1)),
        (4, (ErrorCode::InvalidParameters, 0)),
    ];
    for (count, expected) in cases {
        let mut request = create("t", count, 2);
        request.options.success_if_exist = true;
        let answer = client.ask(Rpc::CreateApp, &request).await;
        let found: CreateAppResponse = answer.read();
        assert_eq!((found.err, found.appid), expected);
    }
    let mut request = create("u", 2, 1);
    request.options.envs = Map(vec![("rocksdb.num_levels", "11")]);
    let answer = client.ask(Rpc::CreateApp, &request).await;
    assert_eq!(
        answer.read::<CreateAppResponse>().err,
        ErrorCode::InvalidParameters
    );
    site.server.stop().await;
}

#[tokio::test]
async fn a_table_is_dropped_recalled_and_renamed() {
    let mut site = Site::of(1).await;
    let number = i32::try_from(site.table("t").await).unwrap();
    let mut client = site.client(Protocol::Thft).await;
    assert_eq!(
        drop_app(&mut client, "x", false).await,
        ErrorCode::AppNotExist
    );
    assert_eq!(drop_app(&mut client, "x", true).await, ErrorCode::Ok);
    let not_dropped = recall(&mut client, number, "").await;
    assert_eq!(not_dropped.0, ErrorCode::AppExist);
    assert_eq!(drop_app(&mut client, "t", false).await, ErrorCode::Ok);
    let answer = client
        .ask(Rpc::QueryPartitionConfigByIndex, &query("t"))
        .await;
    let found: QueryCfgResponse<'_> = answer.read();
    assert_eq!(found.err, ErrorCode::ObjectNotFound);
    let listed = list(&mut client, &ListAppsRequest::default()).await;
    assert_eq!(listed, [("t".to_owned(), AppStatus::Dropped)]);

    site.table("t").await;
    let taken = recall(&mut client, number, "").await;
    assert_eq!(taken.0, ErrorCode::InvalidParameters);
    assert_eq!(recall(&mut client, 77, "").await.0, ErrorCode::AppNotExist);
    let recalled = recall(&mut client, number, "u").await;
    assert_eq!(recalled, (ErrorCode::Ok, "u".to_owned()));
    // Under the next ballot, whatever the nodes believed meanwhile.
    let answer = client
        .ask(Rpc::QueryPartitionConfigByIndex, &query("u"))
        .await;
    let found: QueryCfgResponse<'_> = answer.read();
    assert_eq!((found.err, found.app_id), (ErrorCode::Ok, number));
    assert!(found.partitions.iter().all(|it| it.ballot == 2));

    assert_eq!(
        rename(&mut client, "u", "t").await,
        ErrorCode::InvalidParameters
    );
    assert_eq!(rename(&mut client, "x", "y").await, ErrorCode::AppNotExist);
    assert_eq!(rename(&mut client, "u", "v").await, ErrorCode::Ok);
    let available = ListAppsRequest {
        status: AppStatus::Available,
        app_name_pattern: Some("v"),
        match_type: Some(PatternMatchType::MatchExact),
    };
    let listed = list(&mut client, &available).await;
    assert_eq!(listed, [("v".to_owned(), AppStatus::Available)]);
    site.server.stop().await;
}

#[tokio::test]
async fn tables_are_listed_by_pattern() {
    let mut site = Site::of(1).await;
    for name in ["one", "two", "tworone"] {
        site.table(name).await;
    }
    let mut client = site.client(Protocol::Rdsn).await;
    let cases = [
        (PatternMatchType::MatchAll, "x", 3),
        (PatternMatchType::MatchExact, "two", 1),
        (PatternMatchType::MatchAnywhere, "o", 3),
        (PatternMatchType::MatchPrefix, "two", 2),
        (PatternMatchType::MatchPostfix, "one", 2),
    ];
    for (match_type, pattern, count) in cases {
        let request = ListAppsRequest {
            status: AppStatus::Invalid,
            app_name_pattern: Some(pattern),
            match_type: Some(match_type),
        };
        let found = list(&mut client, &request).await;
        assert_eq!(found.len(), count, "{match_type:?} {pattern}: {found:?}");
    }
    let request = ListAppsRequest {
        match_type: Some(PatternMatchType::MatchRegex),
        ..ListAppsRequest::default()
    };
    let answer = client.ask(Rpc::ListApps, &request).await;
    let response: ListAppsResponse<'_> = answer.read();
    assert_eq!(response.err, ErrorCode::NotImplemented);
    assert!(response.hint_message.is_some_and(|hint| hint.contains('6')));
    site.server.stop().await;
}

#[tokio::test]
async fn settings_are_checked_kept_and_cleared() {
    let mut site = Site::of(1).await;
    site.table("t").await;
    let mut client = site.client(Protocol::Thft).await;
    let request =
        |op, keys: &[&'static str], values: &[&'static str], prefix| UpdateAppEnvRequest {
            app_name: "t",
            op,
            keys: Some(keys.to_vec()),
            values: Some(values.to_vec()),
            clear_prefix: prefix,
        };
    let set = AppEnvOperation::Set;
    let cases = [
        (
            request(set, &["default_ttl"], &["60"], None),
            ErrorCode::Ok,
            "",
        ),
        (
            request(set, &["default_ttl"], &["-1"], None),
            ErrorCode::InvalidParameters,
            "default_ttl",
        ),
        (
            request(set, &["nonsense"], &["1"], None),
            ErrorCode::InvalidParameters,
            "app_env 'nonsense' is not supported",
        ),
        (
            request(set, &["default_ttl", "business.info"], &["60"], None),
            ErrorCode::InvalidParameters,
            "as many",
        ),
        (
            request(
                set,
                &[
                    "manual_compact.disabled",
                    "manual_compact.once.target_level",
                ],
                &["true", "-1"],
                None,
            ),
            ErrorCode::Ok,
            "",
        ),
        (
            request(AppEnvOperation::Del, &["default_ttl", "absent"], &[], None),
            ErrorCode::Ok,
            "",
        ),
        (
            request(
                AppEnvOperation::Clear,
                &[],
                &[],
                Some("manual_compact.once"),
            ),
            ErrorCode::Ok,
            "",
        ),
        (
            request(AppEnvOperation::Invalid, &[], &[], None),
            ErrorCode::InvalidParameters,
            "operation",
        ),
    ];
    for (request, expected, hint) in cases {
        let answer = client.ask(Rpc::UpdateAppEnv, &request).await;
        let response: UpdateAppEnvResponse<'_> = answer.read();
        assert_eq!(response.err, expected, "{request:?}");
        assert!(response.hint_message.contains(hint), "{response:?}");
    }
    let answer = client.ask(Rpc::ListApps, &ListAppsRequest::default()).await;
    let response: ListAppsResponse<'_> = answer.read();
    assert_eq!(
        response.infos[0].envs,
        Map(vec![("manual_compact.disabled", "true")])
    );
    let mut request = request(set, &["default_ttl"], &["60"], None);
    request.app_name = "x";
    let answer = client.ask(Rpc::UpdateAppEnv, &request).await;
    let response: UpdateAppEnvResponse<'_> = answer.read();
    assert_eq!(response.err, ErrorCode::AppNotExist);
    site.server.stop().await;
}

#[tokio::test]
async fn each_core_is_a_node_and_the_level_is_kept() {
    let mut site = Site::of(2).await;
    site.table("t").await;
    let mut client = site.client(Protocol::Thft).await;
    for (status, count) in [
        (NodeStatus::Invalid, 4),
        (NodeStatus::Alive, 4),
        (NodeStatus::Unalive, 0),
    ] {
        let answer = client
            .ask(Rpc::ListNodes, &ListNodesRequest { status })
            .await;
        let response: ListNodesResponse<'_> = answer.read();
        assert_eq!(response.infos.len(), count);
        let is_bare = |it: &pegasus_thrift::meta::NodeInfo<'_>| it.hp_node.is_none();
        assert!(response.infos.iter().all(is_bare));
    }
    let level = |level| MetaControlRequest { level };
    let cases = [
        (
            MetaFunctionLevel::Invalid,
            ErrorCode::Ok,
            MetaFunctionLevel::Steady,
        ),
        (
            MetaFunctionLevel::Freezed,
            ErrorCode::Ok,
            MetaFunctionLevel::Steady,
        ),
        (
            MetaFunctionLevel::Invalid,
            ErrorCode::Ok,
            MetaFunctionLevel::Freezed,
        ),
    ];
    for (wanted, expected, old) in cases {
        let answer = client.ask(Rpc::ControlMeta, &level(wanted)).await;
        let response: MetaControlResponse = answer.read();
        assert_eq!((response.err, response.old_level), (expected, old));
    }
    let answer = client
        .ask(Rpc::ControlMeta, &level(MetaFunctionLevel::Other(7)))
        .await;
    let response: MetaControlResponse = answer.read();
    assert_eq!(response.err, ErrorCode::InvalidParameters);
    let answer = client.ask(Rpc::CreateApp, &create("u", 2, 1)).await;
    let response: CreateAppResponse = answer.read();
    assert_eq!(response.err, ErrorCode::StateFreezed);
    let answer = client.ask(Rpc::ClusterInfo, &ClusterInfoRequest {}).await;
    let response: ClusterInfoResponse<'_> = answer.read();
    let pairs: Vec<(&str, &str)> = response
        .keys
        .iter()
        .copied()
        .zip(response.values.iter().copied())
        .collect();
    assert_eq!(pairs.len(), 9);
    assert!(pairs.contains(&("meta_function_level", "freezed")));
    assert!(pairs.contains(&("cluster_name", "test")));
    site.server.stop().await;
}

#[tokio::test]
async fn the_number_of_replicas_is_told_and_changed() {
    let mut site = Site::of(2).await;
    site.table("t").await;
    for protocol in [Protocol::Thft, Protocol::Rdsn] {
        let mut client = site.client(protocol).await;
        let cases = [
            ("t", 1, ErrorCode::Ok),
            ("t", 2, ErrorCode::Ok),
            ("t", 3, ErrorCode::InvalidParameters),
            ("t", 0, ErrorCode::InvalidParameters),
            ("t", 6, ErrorCode::InvalidParameters),
            ("nobody", 2, ErrorCode::AppNotExist),
        ];
        for (app_name, max_replica_count, expected) in cases {
            let request = SetMaxReplicaCountRequest {
                app_name,
                max_replica_count,
            };
            let before = replica_count(&mut client, app_name).await;
            let answer = client.ask(Rpc::SetMaxReplicaCount, &request).await;
            let response: SetMaxReplicaCountResponse<'_> = answer.read();
            assert_eq!(response.err, expected, "{app_name} {max_replica_count}");
            let now = replica_count(&mut client, app_name).await;
            if expected == ErrorCode::Ok {
                assert_eq!(
                    (Some(response.old_max_replica_count), now),
                    (before, Some(max_replica_count))
                );
            } else {
                assert_eq!(before, now);
            }
        }
    }
}

async fn replica_count(client: &mut Client, app_name: &str) -> Option<i32> {
    let request = GetMaxReplicaCountRequest { app_name };
    let answer = client.ask(Rpc::GetMaxReplicaCount, &request).await;
    let response: GetMaxReplicaCountResponse<'_> = answer.read();
    (response.err == ErrorCode::Ok).then_some(response.max_replica_count)
}
