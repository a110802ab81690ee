//! What the facts mean: findings, each with since when, why, and what to do.

use super::facts::Facts;
use super::partition;
use pegasus_client::{MetaInfo, NodeInfo};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A clock that is wrong by more than this is named, in milliseconds: expiry follows the clock.
const CLOCK_WRONG_MS: u64 = 1_000;
/// Levels of meta from this one on heal.
const LEVEL_STEADY: u16 = 400;
/// Below so many percent of free space a disk is named before writes are refused.
const DISK_LOW_PERCENT: u64 = 15;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Good to know; nothing is missing.
    Note,
    Degraded,
    /// Some partitions serve no reads, or take no writes.
    Unavailable,
}

impl Severity {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// `table demo, partitions 0, 3-5` or `node 2`.
    pub(crate) what: String,
    /// Unix milliseconds; `None`: not known.
    pub(crate) since_ms: Option<u64>,
    pub(crate) why: String,
    /// What to type, or that nothing is to be done.
    pub(crate) todo: String,
}

/// What `status` says.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    now_ms: u64,
    /// One line of counts.
    summary: String,
}

impl Report {
    pub(crate) fn of(facts: &Facts) -> Self {
        let mut findings = partition::findings(facts);
        findings.extend(node_findings(facts));
        findings.extend(clock_findings(facts));
        findings.extend(cluster_findings(facts));
        findings.sort_by_key(|it| std::cmp::Reverse(it.severity));
        Self {
            findings,
            now_ms: facts.now_ms(),
            summary: summary(facts),
        }
    }

    /// The worst finding.
    pub(crate) fn severity(&self) -> Severity {
        let all = self.findings.iter().map(|it| it.severity);
        all.max().unwrap_or(Severity::Note)
    }

    fn state(&self) -> &'static str {
        match self.severity() {
            Severity::Note => "healthy",
            other => other.name(),
        }
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("{}: {}", self.state(), self.summary);
        for it in &self.findings {
            let since = it.since_ms.map(|since| {
                let span = span(self.now_ms.saturating_sub(since));
                format!(" (for {span})")
            });
            let since = since.unwrap_or_default();
            let (severity, what) = (it.severity.name(), &it.what);
            _ = write!(text, "\n\n{severity}: {what}{since}\n  why:  {}", it.why);
            _ = write!(text, "\n  do:   {}", it.todo);
        }
        text
    }

    pub(crate) fn to_json(&self) -> Value {
        let findings = self.findings.iter().map(|it| {
            json!({
                "severity": it.severity.name(),
                "what": it.what,
                "since_unix_ms": it.since_ms,
                "why": it.why,
                "do": it.todo,
            })
        });
        json!({
            "status": self.state(),
            "summary": self.summary,
            "now_unix_ms": self.now_ms,
            "findings": findings.collect::<Vec<_>>(),
        })
    }
}

fn summary(facts: &Facts) -> String {
    let alive = facts.nodes.iter().filter(|it| it.alive).count();
    let partitions: u64 = facts
        .tables
        .iter()
        .map(|it| u64::from(it.partition_count))
        .sum();
    let healthy: u64 = facts
        .tables
        .iter()
        .map(|it| u64::from(it.healthy_partitions))
        .sum();
    let metas = match facts.cluster.metas.as_slice() {
        [] => String::new(),
        metas => {
            let up = metas.iter().filter(|it| it.is_up != Some(false)).count();
            let leader = metas.iter().find(|it| it.leads);
            let leader = leader.map_or_else(|| "nobody".to_owned(), |it| it.address.clone());
            format!(", {up} of {} metas up, {leader} leads", metas.len())
        }
    };
    let tables = match facts.tables.len() {
        1 => "1 table".to_owned(),
        count => format!("{count} tables"),
    };
    format!(
        "{tables}, {partitions} partitions ({healthy} healthy), {alive} of {} nodes alive{metas}",
        facts.nodes.len()
    )
}

fn node_findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in &facts.nodes {
        findings.extend(absent(facts, node));
        findings.extend(disk(node));
        findings.extend(going(node));
    }
    let mut silent: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (node, core, error) in &facts.silent_cores {
        let said = format!("core {core}: {error}");
        silent.entry(*node).or_default().push(said);
    }
    findings.extend(silent.into_iter().map(|(node, said)| Finding {
        severity: Severity::Degraded,
        what: format!("node {node}"),
        since_ms: None,
        why: format!("meta hears from it, and from here it does not answer: {}", said.join("; ")),
        todo: format!(
            "`pegasus core list --node {node}`; if a core is stuck its log names the phase; if all are silent, look at the network between here and {}",
            facts.node(node).map_or("it", |it| it.host.as_str())
        ),
    }));
    findings
}

/// A node that meta does not hear. What it held is among the partitions.
fn absent(facts: &Facts, node: &NodeInfo) -> Option<Finding> {
    if node.alive {
        return None;
    }
    let replicas: u32 = node.cores.iter().map(|core| core.replicas).sum();
    let (severity, todo) = match replicas {
        0 => (
            Severity::Note,
            format!(
                "start it again if it is to come back; if not, `pegasus node decommission {}` forgets it",
                node.node
            ),
        ),
        _ => (Severity::Degraded, start(node)),
    };
    let heard_ms = u64::try_from(node.last_heartbeat.as_millis()).unwrap_or(u64::MAX);
    Some(Finding {
        severity,
        what: format!("node {}", node.node),
        since_ms: facts
            .now_ms()
            .checked_sub(heard_ms)
            .filter(|since| *since > 0),
        why: match replicas {
            0 => format!(
                "it is not heard of, on {}; it holds no replicas",
                host(node)
            ),
            _ => format!(
                "it is not heard of, on {}; it is a member of {replicas} partitions",
                host(node)
            ),
        },
        todo,
    })
}

fn disk(node: &NodeInfo) -> Option<Finding> {
    let free_percent = node.disk_free.saturating_mul(100) / node.disk_total.max(1);
    let is_known = node.alive && node.disk_total > 0;
    let numbers = format!(
        "{} of {} are free",
        crate::output::bytes(node.disk_free),
        crate::output::bytes(node.disk_total)
    );
    let todo = format!(
        "free space on {}, or `pegasus node drain {} --move`; writes resume by themselves (disk.resume_percent)",
        host(node),
        node.node
    );
    let finding = |severity, why| Finding {
        severity,
        what: format!("node {}", node.node),
        since_ms: None,
        why,
        todo,
    };
    if is_known && node.refuses_writes {
        let why = format!("disk full: writes are refused wherever it has a replica; {numbers}");
        return Some(finding(Severity::Unavailable, why));
    }
    if is_known && free_percent < DISK_LOW_PERCENT {
        let why = format!(
            "its disk is nearly full: {numbers}; writes are refused at disk.refuse_percent"
        );
        return Some(finding(Severity::Note, why));
    }
    None
}

/// A node that somebody has told to go.
fn going(node: &NodeInfo) -> Option<Finding> {
    let number = node.node;
    let (why, todo) = match node {
        _ if node.is_decommissioned => (
            "it is being emptied for good".to_owned(),
            format!(
                "nothing; `pegasus node decommission {number} --wait` says how far it is, `pegasus node undrain {number}` takes it back"
            ),
        ),
        _ if node.is_draining => (
            "it is being emptied: it gets nothing new".to_owned(),
            format!("`pegasus node undrain {number}` when that is over"),
        ),
        _ if node.is_leaving => (
            "it was told to stop and hands over what it leads".to_owned(),
            "nothing; start it again when you are done with it".to_owned(),
        ),
        _ => return None,
    };
    Some(Finding {
        severity: Severity::Note,
        what: format!("node {number}"),
        since_ms: None,
        why,
        todo,
    })
}

fn clock_findings(facts: &Facts) -> Vec<Finding> {
    let is_wrong = |it: &&NodeInfo| it.alive && it.clock_ahead_ms.unsigned_abs() > CLOCK_WRONG_MS;
    let alive = facts.nodes.iter().filter(|it| it.alive).count();
    let wrong: Vec<&NodeInfo> = facts.nodes.iter().filter(is_wrong).collect();
    let meta_ahead_ms = match facts.cluster.now_unix_ms {
        0 => 0,
        meta => i64::try_from(i128::from(meta) - i128::from(facts.here_ms)).unwrap_or(i64::MAX),
    };
    // When most of them differ from meta, and this machine as well, it is meta.
    let is_meta = wrong.len() * 2 > alive && meta_ahead_ms.unsigned_abs() > CLOCK_WRONG_MS;
    let todo = |host: &str| {
        format!(
            "set the clock of {host} (`timedatectl`, `chronyc tracking`); rows expire, and are written, by the clocks of the nodes"
        )
    };
    let finding = |what: String, why: String, todo: String| Finding {
        severity: Severity::Degraded,
        what,
        since_ms: None,
        why,
        todo,
    };
    if is_meta {
        let why = format!(
            "its clock is {} that of most nodes and of this machine",
            apart(meta_ahead_ms)
        );
        return vec![finding("meta".to_owned(), why, todo("meta's machine"))];
    }
    let each = wrong.into_iter().map(|node| {
        let why = format!("its clock is {} meta's", apart(node.clock_ahead_ms));
        finding(format!("node {}", node.node), why, todo(host(node)))
    });
    each.collect()
}

fn cluster_findings(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts
        .cluster
        .metas
        .iter()
        .filter(|it| it.is_up == Some(false))
        .map(absent_meta)
        .collect();
    let level = facts.cluster.level;
    if level < LEVEL_STEADY {
        findings.push(Finding {
            severity: Severity::Degraded,
            what: "meta".to_owned(),
            since_ms: None,
            why: format!("its level is {level}: lost replicas are not replaced"),
            todo: "`pegasus cluster level steady`".to_owned(),
        });
    }
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for node in facts.nodes.iter().filter(|it| it.alive) {
        if let Some(program) = &node.program {
            let nodes = versions.entry(&program.version).or_default();
            nodes.push(node.node.to_string());
        }
    }
    if versions.len() > 1 {
        let each = versions
            .iter()
            .map(|(version, nodes)| format!("{version} on node {}", nodes.join(", ")));
        findings.push(Finding {
            severity: Severity::Note,
            what: "releases".to_owned(),
            since_ms: None,
            why: each.collect::<Vec<_>>().join("; "),
            todo: "`pegasus node restart-plan` says which node to upgrade next".to_owned(),
        });
    }
    findings
}

fn absent_meta(it: &MetaInfo) -> Finding {
    let MetaInfo {
        member, address, ..
    } = it;
    Finding {
        severity: Severity::Degraded,
        what: format!("meta {member} at {address}"),
        since_ms: None,
        why: "it does not answer the meta that leads".to_owned(),
        todo: format!(
            "start it; one whose directory is lost is replaced: `pegasus meta remove {member}`, then `pegasus meta add` with a new number"
        ),
    }
}

/// How to have a node back.
pub(super) fn start(node: &NodeInfo) -> String {
    format!(
        "start it: `systemctl start pegasus-replica` on {} (`pegasus local start` for a local cluster); if it is gone for good nothing is to be done but to have enough nodes",
        host(node)
    )
}

pub(super) fn host(node: &NodeInfo) -> &str {
    if node.host.is_empty() {
        "its machine"
    } else {
        &node.host
    }
}

fn apart(ahead_ms: i64) -> String {
    let span = span(ahead_ms.unsigned_abs());
    match ahead_ms {
        0.. => format!("{span} ahead of"),
        _ => format!("{span} behind"),
    }
}

/// `850 ms`, `12 s`, `5 min`, `3 h`, `2 days`.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}
