//! What is wrong with partitions: those of one table that ail in the same way are one finding.

use super::diagnose::{Finding, Severity, host, span, start};
use super::facts::Facts;
use pegasus_client::{Health, MemberInfo, NodeInfo, PartitionInfo, ReplicaHealth, TableInfo};
use std::collections::BTreeMap;

/// Severity, why and what to do: what partitions are put together by.
type Cause = (Severity, String, String);

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for table in &facts.tables {
        let mut groups: BTreeMap<Cause, (Vec<u32>, Option<u64>)> = BTreeMap::new();
        for partition in &table.partitions {
            if let Some((cause, since_ms)) = cause_of(facts, table, partition) {
                let (indexes, since) = groups.entry(cause).or_default();
                indexes.push(partition.index);
                *since = (*since).into_iter().chain(since_ms).min();
            }
        }
        let found = groups.into_iter().map(|(cause, (indexes, since_ms))| {
            let (severity, why, todo) = cause;
            Finding {
                severity,
                what: format!("table {}, {}", table.name, named(&indexes)),
                since_ms,
                why,
                todo,
            }
        });
        findings.extend(found);
    }
    findings
}

fn cause_of(
    facts: &Facts,
    table: &TableInfo,
    partition: &PartitionInfo,
) -> Option<(Cause, Option<u64>)> {
    match partition.health {
        Health::Healthy | Health::Dropped => None,
        Health::Creating => Some(creating(facts, partition)),
        Health::Unavailable | Health::Unset => Some(unavailable(facts, partition)),
        Health::Degraded => Some(degraded(facts, table, partition)),
    }
}

fn members(partition: &PartitionInfo) -> impl Iterator<Item = &MemberInfo> {
    partition.primary.iter().chain(&partition.secondaries)
}

fn creating(facts: &Facts, partition: &PartitionInfo) -> (Cause, Option<u64>) {
    let waits = members(partition).find(|it| {
        !it.alive || !matches!(it.health, ReplicaHealth::Ready | ReplicaHealth::Serving)
    });
    let (why, todo) = match waits {
        Some(it) if !it.alive => (
            format!(
                "it is being made, and waits for node {}, which is not heard of",
                it.node
            ),
            facts.node(it.node).map_or_else(String::new, start),
        ),
        Some(it) if it.health == ReplicaHealth::OutOfService => (
            format!(
                "it is being made, and node {} cannot: {}",
                it.node, it.reason
            ),
            format!("look at the drive and the log of node {}", it.node),
        ),
        _ => (
            "it is being made".to_owned(),
            "nothing, it takes seconds".to_owned(),
        ),
    };
    ((Severity::Unavailable, why, todo), None)
}

/// Nobody is known to serve it.
fn unavailable(facts: &Facts, partition: &PartitionInfo) -> (Cause, Option<u64>) {
    let Some(primary) = &partition.primary else {
        let why = "nobody leads it".to_owned();
        let todo = "report it; `pegasus table show` has its members".to_owned();
        return ((Severity::Unavailable, why, todo), None);
    };
    let others = partition.secondaries.iter().filter(|it| it.alive).count();
    let node = primary.node;
    let start = || facts.node(node).map_or_else(String::new, start);
    let (why, todo) = match primary.health {
        _ if !primary.alive && others > 0 => (
            format!("its primary was on node {node}, which is not heard of; {others} of its secondaries are alive"),
            format!("nothing for a second or two, one of them takes over; if it lasts, they cannot reach meta: their logs tell. {}", start()),
        ),
        _ if !primary.alive => (
            format!("its primary was on node {node}, which is not heard of, and no other member is alive"),
            start(),
        ),
        ReplicaHealth::OutOfService => (
            format!("its primary on node {node} is out of service: {}", primary.reason),
            match others {
                0 => format!("it is the only copy: look at the drive of {}, and keep the directory; a copy of it may be restored", facts.node(node).map_or("its machine", host)),
                _ => "nothing for a second or two, a secondary takes over".to_owned(),
            },
        ),
        ReplicaHealth::Opening => (
            format!("its primary on node {node} is starting: it reads its log"),
            format!("nothing; the log of node {node} says how far it is"),
        ),
        _ => (
            format!("its primary on node {node} does not serve yet: it reconciles, or waits until the old primary's lease is over"),
            "nothing for a second or two; if it lasts, a member does not answer it: `pegasus table show` and the logs of the members".to_owned(),
        ),
    };
    ((Severity::Unavailable, why, todo), primary.since_unix_ms)
}

/// It serves, with fewer members that work than wanted.
fn degraded(facts: &Facts, table: &TableInfo, partition: &PartitionInfo) -> (Cause, Option<u64>) {
    let count = members(partition).count();
    let needed = usize::try_from(table.min_replicas).unwrap_or(0);
    let mut since_ms = partition.degraded_since_unix_ms;
    let mut reasons = Vec::new();
    let mut todo = Vec::new();
    for it in members(partition) {
        let Some((reason, advice)) = ails(facts, it) else {
            continue;
        };
        reasons.push(reason);
        todo.extend(advice);
        since_ms = since_ms.into_iter().chain(it.since_unix_ms).min();
    }
    let wanted = usize::try_from(table.replica_count).unwrap_or(usize::MAX);
    if count < wanted {
        let (reason, advice) = missing(facts, table, partition, (count, wanted));
        reasons.push(reason);
        todo.extend(advice);
    }
    let severity = if count < needed {
        reasons.insert(
            0,
            format!("it takes no writes: it has {count} members and they need {needed}"),
        );
        Severity::Unavailable
    } else {
        Severity::Degraded
    };
    if reasons.is_empty() {
        reasons.push("a member has not said yet that it follows".to_owned());
    }
    if todo.is_empty() {
        todo.push("nothing, it heals by itself".to_owned());
    }
    todo.dedup();
    ((severity, reasons.join("; "), todo.join("; ")), since_ms)
}

/// A member that does not work, and what to do if it does not heal by itself.
fn ails(facts: &Facts, it: &MemberInfo) -> Option<(String, Option<String>)> {
    let node = it.node;
    let is_quarantined = it.health == ReplicaHealth::OutOfService;
    Some(match it.health {
        _ if !it.alive => (
            format!("node {node} is not heard of"),
            facts.node(node).map(start),
        ),
        _ if is_quarantined => (
            format!("the copy on node {node} is quarantined: {}", it.reason),
            Some(format!(
                "it is made anew by itself; look at the drive of {} (`dmesg`, `smartctl -a`)",
                facts.node(node).map_or("its machine", host)
            )),
        ),
        ReplicaHealth::Ready | ReplicaHealth::Serving => return None,
        ReplicaHealth::Opening => (format!("the copy on node {node} is starting"), None),
        _ => (
            format!("node {node} has not said anything of its copy yet"),
            None,
        ),
    })
}

/// What becomes of the members that are not there.
fn missing(
    facts: &Facts,
    table: &TableInfo,
    partition: &PartitionInfo,
    (count, wanted): (usize, usize),
) -> (String, Option<String>) {
    let lacks = format!("{count} of {wanted} members");
    if let Some(learner) = &partition.learner {
        let node = learner.member.node;
        let committed = partition.primary.as_ref().map_or(0, |it| it.committed);
        let percent = learner.member.committed.saturating_mul(100) / committed.max(1);
        let how = match learner.is_fresh {
            true => "a new copy on",
            false => "the copy that came back on",
        };
        let progress = match learner.member.health {
            ReplicaHealth::Opening => "fetches its files".to_owned(),
            _ => format!("learns, at {} %", percent.min(100)),
        };
        return (format!("{lacks}; {how} node {node} {progress}"), None);
    }
    let now_ms = facts.now_ms();
    let holds = |it: &NodeInfo| members(partition).any(|member| member.node == it.node);
    let is_open = |it: &&NodeInfo| it.alive && !it.is_draining && !it.is_leaving && !holds(it);
    let open: Vec<&NodeInfo> = facts.nodes.iter().filter(is_open).collect();
    if open.is_empty() {
        let absent = facts.nodes.iter().filter(|it| !it.alive && !holds(it));
        let absent: Vec<String> = absent.map(|it| format!("node {}", it.node)).collect();
        let todo = match absent.as_slice() {
            [] => "add a node (`pegasus-replica run` with an empty directory; `pegasus local add-node`), or end a drain".to_owned(),
            nodes => format!("start {} again, or add a node", nodes.join(", ")),
        };
        return (
            format!("{lacks}; no node that is alive and open is without a copy of it"),
            Some(todo),
        );
    }
    let backoff = partition
        .backoffs
        .iter()
        .filter(|it| it.until_unix_ms > now_ms);
    let backoff: Vec<&_> = backoff.collect();
    if backoff.len() >= open.len() {
        let each = backoff.iter().map(|it| {
            let left = span(it.until_unix_ms.saturating_sub(now_ms));
            format!("node {} has failed with it and has to wait {left}", it.node)
        });
        let todo = format!(
            "`pegasus table show {}`; the logs of those nodes say why",
            table.name
        );
        return (
            format!("{lacks}; {}", each.collect::<Vec<_>>().join(", ")),
            Some(todo),
        );
    }
    let passed = now_ms.saturating_sub(partition.degraded_since_unix_ms.unwrap_or(now_ms));
    let left = facts.cluster.heal_delay_ms.saturating_sub(passed);
    if left > 0 {
        // Rounded, so that partitions that were lost together stay together.
        let seconds = left.div_ceil(5_000) * 5;
        return (
            format!(
                "{lacks}; a new one is made elsewhere in about {seconds} s (heal_delay), unless the old one comes back before"
            ),
            None,
        );
    }
    (
        format!("{lacks}; a new one waits for its turn (learners_per_node_max, learners_max)"),
        None,
    )
}

/// `partition 3`, `partitions 0, 3-5`.
fn named(indexes: &[u32]) -> String {
    const RANGES_MAX: usize = 12;
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => ranges.push((index, index)),
        }
    }
    let shown = ranges
        .iter()
        .take(RANGES_MAX)
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
    let shown: Vec<String> = shown.collect();
    let more = match ranges.len().saturating_sub(RANGES_MAX) {
        0 => String::new(),
        _ => format!(" .. ({} in all)", indexes.len()),
    };
    let noun = if indexes.len() == 1 {
        "partition"
    } else {
        "partitions"
    };
    format!("{noun} {}{more}", shown.join(", "))
}
