//! What is said of a table: its partitions, who holds them, and what is under way.

use crate::connect::Connect;
use crate::output::{Output, Style, count, table};
use pegasus_client::{
    BackoffInfo, Health, LearnerInfo, MemberInfo, PartitionInfo, ReplicaHealth, TableInfo,
};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) async fn run(name: &str, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let info = connect.client().await?.show_table(name).await?;
    if out.style == Style::Json {
        let mut shown = table_json(&info);
        shown["partitions"] = info.partitions.iter().map(partition_json).collect();
        return out.json(&shown);
    }
    out.line(format!(
        "table {} (number {}): {}, {} partitions ({} healthy), {} replicas",
        info.name,
        info.table_id,
        info.health,
        info.partition_count,
        info.healthy_partitions,
        info.replica_count
    ))?;
    let now_ms = now_ms();
    let under_way: Vec<String> = info
        .partitions
        .iter()
        .map(|it| under_way(it, now_ms))
        .collect();
    let has_notes = under_way.iter().any(|it| !it.is_empty());
    let mut header = vec![
        "partition",
        "ballot",
        "state",
        "primary",
        "secondaries",
        "committed",
    ];
    header.extend(has_notes.then_some("under way"));
    let mut rows = table(&header, &[0, 5]);
    for (partition, under_way) in info.partitions.iter().zip(under_way) {
        let secondaries: Vec<String> = partition.secondaries.iter().map(member).collect();
        let mut row = vec![
            partition.index.to_string(),
            ballot(partition.ballot),
            partition.health.to_string(),
            partition.primary.as_ref().map_or("none".to_owned(), member),
            secondaries.join("\n"),
            partition
                .primary
                .as_ref()
                .map_or(String::new(), |primary| primary.committed.to_string()),
        ];
        row.extend(has_notes.then_some(under_way));
        rows.add_row(row);
    }
    Ok(out.table(&rows)?)
}

/// Partitions of a table that are not as they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ailing {
    /// They do not serve.
    unavailable: usize,
    /// They lack members.
    degraded: usize,
    /// Of the latter: those that are getting a new one.
    learning: usize,
    /// Since when the first of them lacks a member, in Unix milliseconds; 0: unknown.
    since_unix_ms: u64,
}

impl Ailing {
    pub(super) fn of(info: &TableInfo) -> Self {
        let count = |health| {
            info.partitions
                .iter()
                .filter(|it| it.health == health)
                .count()
        };
        let since = info
            .partitions
            .iter()
            .filter_map(|it| it.degraded_since_unix_ms);
        Self {
            unavailable: count(Health::Unavailable),
            degraded: count(Health::Degraded),
            learning: info
                .partitions
                .iter()
                .filter(|it| it.learner.is_some())
                .count(),
            since_unix_ms: since.min().unwrap_or(0),
        }
    }

    /// `1 unavailable, 3 lack members (for 12 s), 2 learn`
    pub(super) fn in_words(&self) -> String {
        self.in_words_at(now_ms())
    }

    fn in_words_at(&self, now_ms: u64) -> String {
        let mut parts = Vec::new();
        if self.unavailable > 0 {
            parts.push(format!("{} unavailable", self.unavailable));
        }
        if self.degraded > 0 {
            let since = match self.since_unix_ms {
                0 => String::new(),
                since => format!(" (for {})", lasting(since, now_ms)),
            };
            parts.push(format!("{} lack members{since}", self.degraded));
        }
        if self.learning > 0 {
            parts.push(format!("{} learn", self.learning));
        }
        parts.join(", ")
    }
}

/// Epoch (16 bits) and counter (47 bits), as logs show them.
fn ballot(ballot: u64) -> String {
    const COUNTER_BITS: u32 = 47;
    format!(
        "{}|{}",
        ballot >> COUNTER_BITS,
        ballot & ((1 << COUNTER_BITS) - 1)
    )
}

/// `node 1 core 0 serving`, and why it does not.
fn member(member: &MemberInfo) -> String {
    let state = if member.alive {
        member.health.to_string()
    } else {
        "node is gone".to_owned()
    };
    let reason = if member.reason.is_empty() {
        String::new()
    } else {
        format!(" ({})", member.reason)
    };
    format!("node {} core {} {state}{reason}", member.node, member.core)
}

/// One line for each thing that will change by itself; empty where all is well.
fn under_way(partition: &PartitionInfo, now_ms: u64) -> String {
    let mut lines = Vec::new();
    if let Some(since) = partition.degraded_since_unix_ms {
        lines.push(format!("lacks a member for {}", lasting(since, now_ms)));
    }
    if let Some(it) = &partition.learner {
        lines.push(learner(it, partition.primary.as_ref(), now_ms));
    }
    lines.extend(partition.backoffs.iter().map(|it| backoff(it, now_ms)));
    if !partition.moving.is_empty() {
        lines.push(partition.moving.clone());
    }
    lines.join("\n")
}

/// `node 3 core 0 learns (new copy) for 12 s: 12,000 of 40,000`
pub(super) fn learner(it: &LearnerInfo, primary: Option<&MemberInfo>, now_ms: u64) -> String {
    let MemberInfo { node, core, .. } = it.member;
    let copy = if it.is_fresh {
        "new copy"
    } else {
        "copy that came back"
    };
    let since = lasting(it.since_unix_ms, now_ms);
    let progress = stage(it, primary);
    format!("node {node} core {core} learns ({copy}) for {since}: {progress}")
}

/// How far a learner is, by what its node has reported of it.
fn stage(it: &LearnerInfo, primary: Option<&MemberInfo>) -> String {
    let member = &it.member;
    match member.health {
        _ if !member.alive => "its node is gone".to_owned(),
        _ if !member.reason.is_empty() => format!("{}: {}", member.health, member.reason),
        ReplicaHealth::Unset | ReplicaHealth::Unknown => "not begun".to_owned(),
        _ if member.committed == 0 => "waits for files".to_owned(),
        _ => {
            let done = member.committed;
            let all = primary.map_or(done, |it| it.committed.max(done));
            format!("{} of {}", count(done), count(all))
        }
    }
}

fn backoff(it: &BackoffInfo, now_ms: u64) -> String {
    let left = it.until_unix_ms.saturating_sub(now_ms).div_ceil(1000);
    format!("node {} waits {left} s (failure {})", it.node, it.step)
}

/// Whole seconds, minutes or hours since a moment.
fn lasting(since_unix_ms: u64, now_ms: u64) -> String {
    match now_ms.saturating_sub(since_unix_ms) / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX))
}

/// A line of `table list`.
pub(super) fn listed_json(info: &TableInfo, ailing: Option<&Ailing>) -> Value {
    let mut listed = table_json(info);
    if let Some(ailing) = ailing {
        listed["partitions_unavailable"] = json!(ailing.unavailable);
        listed["partitions_degraded"] = json!(ailing.degraded);
        listed["partitions_learning"] = json!(ailing.learning);
        listed["degraded_since_unix_ms"] = json!(Some(ailing.since_unix_ms).filter(|it| *it > 0));
    }
    listed
}

fn table_json(info: &TableInfo) -> Value {
    json!({
        "name": info.name,
        "table_id": info.table_id,
        "partition_count": info.partition_count,
        "replica_count": info.replica_count,
        "healthy_partitions": info.healthy_partitions,
        "state": info.health.to_string(),
        "created_unix_ms": info.created_unix_ms,
    })
}

fn partition_json(partition: &PartitionInfo) -> Value {
    json!({
        "partition": partition.index,
        "ballot": partition.ballot,
        "state": partition.health.to_string(),
        "primary": partition.primary.as_ref().map(member_json),
        "secondaries": partition.secondaries.iter().map(member_json).collect::<Vec<_>>(),
        "learner": partition.learner.as_ref().map(|it| learner_json(it, partition.primary.as_ref())),
        "degraded_since_unix_ms": partition.degraded_since_unix_ms,
        "backoffs": partition.backoffs.iter().map(backoff_json).collect::<Vec<_>>(),
        "moving": partition.moving,
    })
}

fn member_json(member: &MemberInfo) -> Value {
    json!({
        "node": member.node,
        "core": member.core,
        "address": member.address,
        "alive": member.alive,
        "state": member.health.to_string(),
        "reason": member.reason,
        "committed": member.committed,
        "prepared": member.prepared,
    })
}

fn learner_json(it: &LearnerInfo, primary: Option<&MemberInfo>) -> Value {
    let mut shown = member_json(&it.member);
    shown["fresh"] = json!(it.is_fresh);
    shown["since_unix_ms"] = json!(it.since_unix_ms);
    shown["progress"] = json!(stage(it, primary));
    shown
}

fn backoff_json(it: &BackoffInfo) -> Value {
    json!({ "node": it.node, "failures": it.step, "until_unix_ms": it.until_unix_ms })
}

#[cfg(test)]
mod tests;
