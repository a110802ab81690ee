//! HTTP at the port of meta.

use super::Site;
use pegasus_thrift::Protocol;
use serde_json::{Value, json};

/// Status and body of one request on a connection of its own.
async fn get(site: &Site, target: &str) -> (u16, String) {
    let mut client = site.client(Protocol::Thft).await;
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client.write(request.as_bytes()).await;
    let text = String::from_utf8(client.rest().await).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = format!("Content-Length: {}", body.len()).to_lowercase();
    assert!(head.to_lowercase().contains(&length), "{head}");
    (status, body.to_owned())
}

async fn json_of(site: &Site, target: &str) -> Value {
    let (status, body) = get(site, target).await;
    assert_eq!(status, 200, "{target}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Every leaf is a text.
fn is_all_text(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::Object(members) => members.values().all(is_all_text),
        _ => false,
    }
}

#[tokio::test]
async fn tables_are_shown_as_apache_shows_them() {
    let mut site = Site::of(1).await;
    site.table("t").await;
    let all = json_of(&site, "/meta/apps?detail").await;
    assert!(is_all_text(&all), "{all}");
    let row = &all["general_info"]["1"];
    assert_eq!(row["app_name"], "t");
    assert_eq!(row["status"], "AVAILABLE");
    assert_eq!(row["partition_count"], "2");
    assert_eq!(row["drop_time"], "-");
    assert_eq!(all["healthy_info"]["1"]["fully_healthy"], "2");
    assert_eq!(all["summary"]["total_app_count"], "1");
    let one = json_of(&site, "/meta/app?name=t&detail").await;
    assert!(is_all_text(&one), "{one}");
    assert_eq!(one["general"]["app_id"], "1");
    assert_eq!(one["replicas"]["1"]["replica_count"], "1/1");
    assert_eq!(one["nodes"]["total"]["primary"], "2");
    let bare = json_of(&site, "/meta/app?name=t").await;
    assert!(bare.get("replicas").is_none());
    assert_eq!(json_of(&site, "/meta/app_envs?name=t").await, json!({}));
    let envs = json_of(&site, "/envs/list").await;
    assert_eq!(envs.as_object().unwrap().len(), 33);
    assert_eq!(envs["default_ttl"]["type"], "int32");
    site.server.stop().await;
}

#[tokio::test]
async fn the_cluster_is_shown_as_apache_shows_it() {
    let site = Site::of(2).await;
    let nodes = json_of(&site, "/meta/nodes?detail").await;
    assert!(is_all_text(&nodes), "{nodes}");
    assert_eq!(nodes["details"].as_object().unwrap().len(), 4);
    assert_eq!(nodes["summary"]["alive_node_count"], "4");
    let cluster = json_of(&site, "/meta/cluster").await;
    let here = site.server.address().to_string();
    assert_eq!(cluster["primary_meta_server"], here.as_str());
    assert!(json_of(&site, "/version").await.get("Version").is_some());
    assert_eq!(get(&site, "/health").await.0, 200);
    assert_eq!(get(&site, "/ready").await.0, 200);
    site.server.stop().await;
}

#[tokio::test]
async fn metrics_have_numbers_and_are_chosen_by_arguments() {
    let mut site = Site::of(1).await;
    site.table("t").await;
    site.table("u").await;
    let all = json_of(&site, "/metrics").await;
    assert_eq!(all["role"], "meta");
    assert_eq!(all["entities"].as_array().unwrap().len(), 2);
    let one = json_of(&site, "/metrics?ids=table@2&metrics=healthy_partitions").await;
    let entities = one["entities"].as_array().unwrap();
    assert_eq!(entities.len(), 1);
    assert_eq!(
        entities[0]["metrics"],
        json!([{ "name": "healthy_partitions", "value": 2 }])
    );
    let detail = json_of(&site, "/metrics?detail=true").await;
    assert_eq!(detail["entities"][0]["metrics"][0]["type"], "Gauge");
    let none = json_of(&site, "/metrics?types=replica").await;
    assert_eq!(none["entities"], json!([]));
    for bad in ["attributes=table_id", "detail=perhaps", "nonsense=1"] {
        assert_eq!(get(&site, &format!("/metrics?{bad}")).await.0, 400, "{bad}");
    }
    site.server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_and_what_makes_no_sense_is_told_apart() {
    let site = Site::of(1).await;
    let (status, body) = get(&site, "/meta/nothing").await;
    assert_eq!(status, 404);
    assert!(
        body.contains("service not found for \"meta/nothing\""),
        "{body}"
    );
    assert_eq!(get(&site, "/meta/app?name=x").await.0, 404);
    assert_eq!(get(&site, "/meta/app").await.0, 400);
    assert_eq!(get(&site, "/meta/app?name=x&name=y").await.0, 400);
    assert_eq!(get(&site, "/meta/app?name=%zz").await.0, 400);
    // Several requests on one connection, in their order.
    let mut client = site.client(Protocol::Thft).await;
    client
        .write(b"GET /version HTTP/1.1\r\n\r\nGET /nope HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n")
        .await;
    let text = String::from_utf8(client.rest().await).unwrap();
    let codes: Vec<&str> = text
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &text[at + 9..at + 12])
        .collect();
    assert_eq!(codes, ["200", "404", "200"], "{text}");
    site.server.stop().await;
}
