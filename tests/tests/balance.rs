//! A cluster that grows: the new node gets its share of replicas and primaries while clients go on.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, wait_until};
use e2e::writers::{Failures, Writers, connect};
use serde_json::Value;
use std::collections::BTreeMap;

const TABLE: &str = "t";
const PARTITIONS: u32 = 32;
const WRITERS: usize = 8;

/// Of each core: replicas, and primaries among them.
type Loads = BTreeMap<(u64, u64), (u32, u32)>;

fn loads(cluster: &Cluster) -> Result<Loads> {
    let table = cluster.table(TABLE)?;
    let mut loads = Loads::new();
    let listed: Value = serde_json::from_str(&cluster.pegasus(&["node", "list", "--json"])?)?;
    for node in listed["nodes"].as_array().unwrap() {
        for core in 0..2 {
            loads.insert((node["node"].as_u64().unwrap(), core), (0, 0));
        }
    }
    for partition in table["partitions"].as_array().unwrap() {
        let primary = &partition["primary"];
        let all = partition["secondaries"].as_array().unwrap().iter();
        for (place, member) in [primary].into_iter().chain(all).enumerate() {
            let at = (
                member["node"].as_u64().unwrap(),
                member["core"].as_u64().unwrap(),
            );
            let load = loads.entry(at).or_default();
            load.0 += 1;
            load.1 += u32::from(place == 0);
        }
    }
    Ok(loads)
}

fn spread(loads: &Loads, of: impl Fn(&(u32, u32)) -> u32) -> u32 {
    let numbers = || loads.values().map(&of);
    numbers().max().unwrap() - numbers().min().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_added_gets_its_share_and_no_request_fails() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cluster = Cluster::start(&directory.path().join("c"), 3, 2)?;
    cluster.create_table(TABLE, PARTITIONS, 3)?;
    let table = connect(cluster.meta(), TABLE).await?;
    let mut writers = Writers::start(&table, WRITERS);
    cluster.local(&["add-node"])?;
    let added = loads(&cluster)?;
    ensure!(added.len() == 8, "four nodes of two cores: {added:?}");

    // What would be moved is said before anything is, once the new node has told what it has.
    let planned = || {
        let plan = cluster.pegasus(&["balance", "plan", "--json"]).ok()?;
        serde_json::from_str::<Value>(&plan).ok()?["moves_total"].as_u64()
    };
    wait_until("a plan with moves", || planned() > Some(0))?;
    let none = cluster.pegasus(&["balance", "status", "--json"])?;
    let none: Value = serde_json::from_str(&none)?;
    ensure!(
        none["wanted"].is_null() && none["moves_total"] == 0,
        "{none}"
    );

    cluster.pegasus(&["balance", "limit", "--copies-per-node", "4"])?;
    cluster.pegasus(&["balance", "run", "--wait=60"])?;
    let even = loads(&cluster)?;
    ensure!(spread(&even, |it| it.0) <= 1, "replicas: {even:?}");
    ensure!(spread(&even, |it| it.1) <= 1, "primaries: {even:?}");
    let again: Value = serde_json::from_str(&cluster.pegasus(&["balance", "plan", "--json"])?)?;
    ensure!(again["moves_total"] == 0, "{again}");
    cluster.wait_healthy(TABLE)?;

    // Another number of replicas: down, and up again.
    for replicas in ["2", "3"] {
        cluster.pegasus(&["table", "set-replicas", TABLE, replicas, "--wait=60"])?;
        let held: u32 = loads(&cluster)?.values().map(|it| it.0).sum();
        ensure!(held == PARTITIONS * replicas.parse::<u32>()?, "{held}");
    }
    writers.make_progress(100).await?;
    writers.stop().await?;
    let failures = writers.take_failures();
    ensure!(failures == Failures::default(), "{failures:?}");
    ensure!(writers.verify(&table).await? > 0, "nothing was written");
    Ok(())
}
