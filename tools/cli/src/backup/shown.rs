//! Backups for people, and as JSON.

use crate::output::{Output, Style, bytes, count, table};
use crate::text;
use pegasus_backup::catalog::{BackupContents, FoundBackup, Verified};
use pegasus_client::{BackupInfo, BackupPhase, WorkState};
use serde_json::{Value, json};

pub(super) const fn phase(phase: BackupPhase) -> &'static str {
    match phase {
        BackupPhase::Running => "running",
        BackupPhase::Recording => "being finished",
        BackupPhase::Complete => "complete",
        BackupPhase::Discarding => "being discarded",
        BackupPhase::Failed => "failed",
        BackupPhase::Cancelled => "cancelled",
        BackupPhase::Deleting => "being deleted",
        BackupPhase::Unknown => "unknown",
    }
}

pub(crate) const fn state(state: WorkState) -> &'static str {
    match state {
        WorkState::NotBegun => "waiting",
        WorkState::Running => "running",
        WorkState::Done => "done",
        WorkState::Failed => "failed",
        WorkState::Cancelled => "cancelled",
    }
}

pub(super) fn json_of(info: &BackupInfo) -> Value {
    let partitions = info.partitions.iter().map(|it| {
        json!({
            "partition": it.index, "state": state(it.state), "node": it.node, "decree": it.decree,
            "timestamp_ms": it.timestamp_ms, "bytes_total": it.bytes_total, "bytes_done": it.bytes_done,
            "bytes_sent": it.bytes_sent, "failures": it.failures, "error": it.error,
        })
    });
    let partitions: Vec<Value> = partitions.collect();
    json!({
        "backup": info.id, "table": info.table, "table_id": info.table_id, "partition_count": info.partition_count,
        "target": info.target, "root": info.root, "policy": info.policy, "base": info.base_id,
        "phase": phase(info.phase), "started_ms": info.id, "ended_ms": info.ended_unix_ms,
        "partitions_done": info.partitions_done, "bytes_total": info.bytes_total, "bytes_done": info.bytes_done,
        "bytes_sent": info.bytes_sent, "message": info.message, "partitions": partitions,
    })
}

/// Those that the cluster knows.
pub(super) fn backups(backups: &[BackupInfo], out: &mut Output) -> anyhow::Result<()> {
    if out.style == Style::Json {
        let backups: Vec<Value> = backups.iter().map(json_of).collect();
        return out.json(&json!({ "backups": backups }));
    }
    let header = [
        "Backup",
        "Table",
        "Target",
        "Root",
        "Policy",
        "State",
        "Partitions",
        "Bytes",
        "Sent",
        "Why",
    ];
    let mut shown = table(&header, &[6, 7, 8]);
    for it in backups {
        shown.add_row([
            it.id.to_string(),
            it.table.clone(),
            it.target.clone(),
            it.root.clone(),
            it.policy.clone(),
            phase(it.phase).to_owned(),
            format!("{}/{}", it.partitions_done, it.partition_count),
            bytes(it.bytes_total),
            bytes(it.bytes_sent),
            text::escape(it.message.as_bytes()),
        ]);
    }
    Ok(out.table(&shown)?)
}

pub(super) fn backup(info: &BackupInfo, out: &mut Output) -> anyhow::Result<()> {
    if out.style == Style::Json {
        return out.json(&json_of(info));
    }
    out.line(format!(
        "backup {} of table {} (#{}) at {}/{}: {}, {} of {} partitions, {} of {}, {} sent",
        info.id,
        info.table,
        info.table_id,
        info.target,
        info.root,
        phase(info.phase),
        info.partitions_done,
        info.partition_count,
        bytes(info.bytes_done),
        bytes(info.bytes_total),
        bytes(info.bytes_sent)
    ))?;
    if info.base_id > 0 {
        out.line(format!("it builds on backup {}", info.base_id))?;
    }
    if !info.message.is_empty() {
        out.line(text::escape(info.message.as_bytes()))?;
    }
    let header = [
        "Partition",
        "State",
        "Node",
        "Decree",
        "Bytes",
        "Done",
        "Sent",
        "Failures",
        "Error",
    ];
    let mut shown = table(&header, &[0, 2, 3, 4, 5, 6, 7]);
    for it in &info.partitions {
        shown.add_row([
            it.index.to_string(),
            state(it.state).to_owned(),
            it.node.to_string(),
            it.decree.to_string(),
            bytes(it.bytes_total),
            bytes(it.bytes_done),
            bytes(it.bytes_sent),
            it.failures.to_string(),
            text::escape(it.error.as_bytes()),
        ]);
    }
    Ok(out.table(&shown)?)
}

/// Those that lie at a target, each with the directory in which it does.
pub(super) fn found(found: &[(String, FoundBackup)], out: &mut Output) -> anyhow::Result<()> {
    if out.style == Style::Json {
        let found = found.iter().map(|(root, it)| {
            json!({
                "backup": it.backup_id, "root": root, "complete": it.info.is_some(), "info": it.info,
            })
        });
        let found: Vec<Value> = found.collect();
        return out.json(&json!({ "backups": found }));
    }
    let mut shown = table(
        &["Backup", "Root", "Tables", "State", "Bytes", "Sent"],
        &[4, 5],
    );
    for (root, it) in found {
        let info = it.info.as_ref();
        let tables = info.map(|it| it.tables()).unwrap_or_default();
        let tables: Vec<String> = tables
            .iter()
            .map(|(id, name)| format!("{} (#{id})", text::escape(name.as_bytes())))
            .collect();
        let size = |bytes_of: Option<i64>| {
            let known = bytes_of.and_then(|it| u64::try_from(it).ok());
            known.map(bytes).unwrap_or_default()
        };
        shown.add_row([
            it.backup_id.to_string(),
            root.clone(),
            tables.join(", "),
            info.map_or("not complete", |_| "complete").to_owned(),
            size(info.map(|it| it.bytes_total)),
            size(info.map(|it| it.bytes_sent)),
        ]);
    }
    Ok(out.table(&shown)?)
}

pub(super) fn contents(id: u64, contents: &BackupContents, out: &mut Output) -> anyhow::Result<()> {
    if out.style == Style::Json {
        let tables = contents.tables.iter().map(|it| {
            let partitions = it.partitions.iter().map(|it| {
                let list = it.current.as_ref().map(|(_, list)| list);
                json!({
                    "partition": it.index, "complete": list.is_some(),
                    "decree": list.map(|it| it.checkpoint_decree),
                    "timestamp_ms": list.map(|it| it.checkpoint_timestamp),
                    "files": list.map(|it| it.files.len()), "bytes": list.map(|it| it.checkpoint_total_size),
                })
            });
            let partitions: Vec<Value> = partitions.collect();
            json!({
                "table": it.name, "table_id": it.id, "directory": it.directory, "partitions": partitions,
            })
        });
        let tables: Vec<Value> = tables.collect();
        return out.json(&json!({
            "backup": id, "complete": contents.info.is_some(), "info": contents.info, "tables": tables,
        }));
    }
    let state = contents
        .info
        .as_ref()
        .map_or("not complete", |_| "complete");
    out.line(format!("backup {id}: {state}"))?;
    let mut shown = table(
        &["Table", "Partition", "State", "Decree", "Files", "Bytes"],
        &[1, 3, 4, 5],
    );
    for it in &contents.tables {
        for partition in &it.partitions {
            let list = partition.current.as_ref().map(|(_, list)| list);
            let number = |number: Option<i64>| number.map(|it| it.to_string()).unwrap_or_default();
            let size = list.and_then(|it| u64::try_from(it.checkpoint_total_size).ok());
            shown.add_row([
                format!("{} (#{})", text::escape(it.name.as_bytes()), it.id),
                partition.index.to_string(),
                list.map_or("not complete", |_| "complete").to_owned(),
                number(list.map(|it| it.checkpoint_decree)),
                list.map(|it| it.files.len().to_string())
                    .unwrap_or_default(),
                size.map(bytes).unwrap_or_default(),
            ]);
        }
    }
    Ok(out.table(&shown)?)
}

pub(super) fn verified(id: u64, verified: &Verified, out: &mut Output) -> anyhow::Result<()> {
    if out.style == Style::Json {
        let faults = verified.faults.iter();
        let faults = faults.map(|it| json!({ "path": it.path, "what": it.what }));
        let faults: Vec<Value> = faults.collect();
        return out.json(&json!({
            "backup": id, "good": faults.is_empty(), "files": verified.files, "bytes": verified.bytes,
            "faults": faults,
        }));
    }
    for fault in &verified.faults {
        let path = text::escape(fault.path.as_bytes());
        out.line(format!("{path}: {}", text::escape(fault.what.as_bytes())))?;
    }
    let files = count(verified.files);
    let size = bytes(verified.bytes);
    let sentence = match verified.faults.len() {
        0 => format!("backup {id} is good: {files} files, {size}"),
        faults => {
            format!("backup {id} is damaged: {faults} faults; {files} files, {size} are good")
        }
    };
    Ok(out.line(sentence)?)
}
