//! From what the cores say to the hottest keys and partitions of the cluster.

use crate::cores::source::Reading;
use crate::cores::traffic::PartitionNumbers;
use crate::text;
use futures::future::join_all;
use pegasus_client::{Client, HotKey, HotKeys, NodeInfo};
use pegasus_fbs::stats_page::Role;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What one core says.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) node: u32,
    pub(crate) core: usize,
    pub(crate) keys: HotKeys,
}

/// A hot key. Rates and shares are estimates from a sample, the middle of what is possible.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct HotKeyRow {
    pub(crate) table: String,
    pub(crate) table_id: u32,
    pub(crate) partition: u32,
    /// `NODE/CORE`.
    pub(crate) core: String,
    /// read or write.
    pub(crate) kind: &'static str,
    /// A string, or `{"b64": ".."}`; its first 128 bytes.
    pub(crate) key: Value,
    /// Length of the whole key.
    pub(crate) key_bytes: u32,
    pub(crate) per_second: f64,
    /// Of all requests of this kind on the core, 0 to 1.
    pub(crate) share: f64,
    /// It is at least so much.
    pub(crate) share_at_least: f64,
    #[serde(skip)]
    pub(crate) raw: Vec<u8>,
}

/// A partition and what its primary is asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct HotPartition {
    pub(crate) table: String,
    pub(crate) table_id: u32,
    pub(crate) partition: u32,
    /// `NODE/CORE`.
    pub(crate) core: String,
    pub(crate) requests_per_second: f64,
    pub(crate) reads_per_second: f64,
    pub(crate) writes_per_second: f64,
    /// Of all requests of its table, 0 to 1.
    pub(crate) share_of_table: f64,
    /// Of all requests of its core, 0 to 1.
    pub(crate) share_of_core: f64,
    /// So many times what partitions of its table have in the mean.
    pub(crate) times_mean: f64,
}

impl HotKeyRow {
    /// The key, escaped, at most so many letters of it.
    pub(crate) fn shown(&self, letters_max: usize) -> String {
        let is_whole = self.raw.len() >= self.key_bytes as usize;
        let shown: String = text::escape(&self.raw);
        if is_whole && shown.chars().count() <= letters_max {
            return shown;
        }
        let head: String = shown.chars().take(letters_max).collect();
        format!("{head}... ({} bytes)", self.key_bytes)
    }
}

/// Asks every core of these nodes, and of a node's others about one that is silent.
pub(crate) async fn ask(
    client: &Client,
    nodes: impl Iterator<Item = &NodeInfo>,
) -> (Vec<Told>, Vec<String>) {
    let asked = nodes.filter(|node| node.alive).flat_map(|node| {
        let cores = node.cores.iter().enumerate();
        cores.map(async move |(core, it)| {
            let told = client.hot_keys(&it.client_address, None).await;
            let told = match (told, u16::try_from(core)) {
                (Err(_), Ok(number)) if node.cores.len() > 1 => {
                    let other = &node.cores[usize::from(core == 0)];
                    client.hot_keys(&other.client_address, Some(number)).await
                }
                (told, _) => told,
            };
            let name = format!("core {}/{core}", node.node);
            told.map(|keys| Told {
                node: node.node,
                core,
                keys,
            })
            .map_err(|error| format!("{name}: {error}"))
        })
    });
    let mut all = Vec::new();
    let mut silent = Vec::new();
    for answer in join_all(asked).await {
        match answer {
            Ok(told) => all.push(told),
            Err(error) => silent.push(error),
        }
    }
    (all, silent)
}

/// The hottest first. Keys whose counts may be for the most part those of other keys are left out: the sample cannot tell
/// them from the crowd.
pub(crate) fn keys(told: &[Told], tables: &BTreeMap<u32, String>) -> Vec<HotKeyRow> {
    let mut rows: Vec<HotKeyRow> = told
        .iter()
        .flat_map(|it| it.keys.keys.iter().map(move |key| (it, key)))
        .filter(|(_, key)| key.at_least() > 0 && key.error <= key.at_least())
        .map(|(it, key)| row(it, key, tables))
        .collect();
    rows.sort_by(|one, other| other.per_second.total_cmp(&one.per_second));
    rows
}

#[allow(clippy::cast_precision_loss, reason = "rates and shares for people")]
fn row(told: &Told, key: &HotKey, tables: &BTreeMap<u32, String>) -> HotKeyRow {
    let (kind, all) = match key.is_write {
        true => ("write", told.keys.writes),
        false => ("read", told.keys.reads),
    };
    let seconds = told.keys.window.as_secs_f64().max(1e-3);
    let estimate = key.count as f64 - key.error as f64 / 2.0;
    let share = |count: f64| (count / (all.max(1)) as f64).clamp(0.0, 1.0);
    HotKeyRow {
        table: name_of(key.table_id, tables),
        table_id: key.table_id,
        partition: key.partition,
        core: format!("{}/{}", told.node, told.core),
        kind,
        key: text::to_json(&key.key),
        key_bytes: key.key_bytes,
        per_second: estimate / seconds,
        share: share(estimate),
        share_at_least: share(key.at_least() as f64),
        raw: key.key.to_vec(),
    }
}

/// The name of a table, or its number where nobody knows the name.
pub(crate) fn name_of(table: u32, tables: &BTreeMap<u32, String>) -> String {
    let name = tables.get(&table).cloned();
    name.unwrap_or_else(|| format!("#{table}"))
}

/// Partitions with requests, the most asked for first; from two readings of all cores.
pub(crate) fn partitions(
    earlier: &BTreeMap<(u32, u32), Reading>,
    now: &BTreeMap<(u32, u32), Reading>,
    tables: &BTreeMap<u32, String>,
) -> Vec<HotPartition> {
    let mut all = Vec::new();
    for (name, reading) in now {
        let pages = (
            reading.page.as_ref().ok(),
            earlier.get(name).and_then(|it| it.page.as_ref().ok()),
        );
        if let (Some(page), Some(before)) = pages {
            let partitions = PartitionNumbers::of(&page.since(before));
            all.extend(partitions.into_iter().map(|it| (*name, it)));
        }
    }
    shares(&all, tables)
}

/// Of the replicas of all cores, by core.
pub(crate) fn shares(
    all: &[((u32, u32), PartitionNumbers)],
    tables: &BTreeMap<u32, String>,
) -> Vec<HotPartition> {
    let mut by_table: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    let mut by_core: BTreeMap<(u32, u32), f64> = BTreeMap::new();
    for (core, it) in all {
        let table = by_table.entry(it.table_id).or_default();
        table.0 += it.requests_per_second;
        if it.role == Role::Primary {
            table.1 += 1.0;
        }
        *by_core.entry(*core).or_default() += it.requests_per_second;
    }
    let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    let asked = all.iter().filter(|(_, it)| it.requests_per_second > 0.0);
    let mut rows: Vec<HotPartition> = asked
        .map(|(core, it)| {
            let (requests, primaries) = by_table[&it.table_id];
            let traffic = &it.traffic;
            let share_of_table = ratio(it.requests_per_second, requests);
            HotPartition {
                table: name_of(it.table_id, tables),
                table_id: it.table_id,
                partition: it.partition,
                core: format!("{}/{}", core.0, core.1),
                requests_per_second: it.requests_per_second,
                reads_per_second: it.reads_per_second,
                writes_per_second: traffic.total() - it.reads_per_second,
                share_of_table,
                share_of_core: ratio(it.requests_per_second, by_core[core]),
                times_mean: share_of_table * primaries.max(1.0),
            }
        })
        .collect();
    rows.sort_by(|one, other| {
        other
            .requests_per_second
            .total_cmp(&one.requests_per_second)
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn key_of(name: &[u8], count: u64, error: u64, is_write: bool) -> HotKey {
        HotKey {
            table_id: 3,
            partition: 1,
            is_write,
            key: name.to_vec().into(),
            key_bytes: u32::try_from(name.len()).expect("short"),
            count,
            error,
        }
    }

    fn tables() -> BTreeMap<u32, String> {
        BTreeMap::from([(3, "demo".to_owned())])
    }

    #[test]
    fn keys_are_ranked_by_rate_and_those_lost_in_the_crowd_left_out() {
        let told = [Told {
            node: 2,
            core: 1,
            keys: HotKeys {
                window: Duration::from_secs(10),
                reads: 1_000,
                writes: 100,
                keys: vec![
                    key_of(b"crowd", 100, 60, false),
                    key_of(b"warm", 100, 20, false),
                    key_of(b"h\n\xff", 500, 0, false),
                    key_of(b"written", 50, 0, true),
                ],
            },
        }];
        let rows = keys(&told, &tables());
        let names: Vec<String> = rows.iter().map(|row| row.shown(20)).collect();
        assert_eq!(names, ["h\\n\\xff", "warm", "written"]);
        let first = &rows[0];
        assert_eq!((first.core.as_str(), first.table.as_str()), ("2/1", "demo"));
        assert!((first.per_second - 50.0).abs() < 1e-9);
        assert!((first.share - 0.5).abs() < 1e-9);
        assert!((rows[1].share - 0.09).abs() < 1e-9);
        assert!((rows[1].share_at_least - 0.08).abs() < 1e-9);
        assert_eq!((rows[2].kind, rows[2].share), ("write", 0.5));
        assert_eq!(first.key, serde_json::json!({"b64": "aAr/"}));
    }

    #[test]
    fn a_key_that_was_cut_says_how_long_it_is() {
        let mut key = key_of(b"abcdef", 9, 0, false);
        key.key_bytes = 4_000;
        let told = Told {
            node: 1,
            core: 0,
            keys: HotKeys::default(),
        };
        let row = row(&told, &key, &BTreeMap::new());
        assert_eq!(row.shown(80), "abcdef... (4000 bytes)");
        assert_eq!(row.shown(3), "abc... (4000 bytes)");
        assert_eq!(row.table, "#3");
    }
}
