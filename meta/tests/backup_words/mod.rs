//! Commands of scripts about backups, and how they show what comes of them.

use crate::{Script, key};
use pegasus_meta::state::{
    BackupCommand, BackupProgress, Chore, ChoreKind, Command, PolicyOrder, ProgressState,
    ReplicaBackup, ReplicaRestore, RestoreSource, RestoreTable, Site, StartBackup, Sync, TableRef,
    Timing,
};
use pegasus_replication::ids::{NodeId, NodeIncarnation, TableId};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What `words` ask for; `None`: it is no command about backups.
pub(crate) fn command(script: &Script, words: &[&str]) -> Option<Command> {
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let small = |at: usize| words[at].parse::<u32>().unwrap();
    let text = |at: usize| words[at].to_owned();
    let command = match words[0] {
        // backup TABLE [TARGET]
        "backup" => BackupCommand::Start(StartBackup {
            table: TableRef::Name(text(1)),
            target: words.get(2).unwrap_or(&"local").to_string(),
            root: String::new(),
            bytes_per_second: 0,
        }),
        "backup-cancel" => BackupCommand::Cancel { id: number(1) },
        "backup-delete" => BackupCommand::Delete { id: number(1) },
        // backup-told NODE INCARNATION BACKUP TABLE.INDEX REPLICA-INCARNATION STATE DONE TOTAL [ERROR]
        "backup-told" => BackupCommand::Progress {
            node: NodeId(small(1)),
            incarnation: NodeIncarnation(number(2)),
            progress: BackupProgress {
                backups: vec![ReplicaBackup {
                    backup: number(3),
                    key: key(words[4], number(5)),
                    state: state(words[6]),
                    decree: 7,
                    timestamp_ms: script.now_ms,
                    bytes_total: number(8),
                    bytes_done: number(7),
                    bytes_sent: number(7),
                    error: words[9..].join(" "),
                }],
                restores: Vec::new(),
            },
        },
        // restore-told NODE INCARNATION TABLE.INDEX REPLICA-INCARNATION STATE ATTEMPT [bad] [ERROR]
        "restore-told" => BackupCommand::Progress {
            node: NodeId(small(1)),
            incarnation: NodeIncarnation(number(2)),
            progress: BackupProgress {
                backups: Vec::new(),
                restores: vec![ReplicaRestore {
                    key: key(words[3], number(4)),
                    state: state(words[5]),
                    attempt: small(6),
                    bytes_total: 100,
                    bytes_done: 50,
                    is_permanent: words.get(7) == Some(&"bad"),
                    error: words[7..].join(" "),
                }],
            },
        },
        // chore BACKUP record|delete [ERROR]
        "chore" => BackupCommand::ChoreEnded {
            chore: Chore {
                backup: number(1),
                kind: match words[2] {
                    "record" => ChoreKind::Record,
                    _ => ChoreKind::Delete,
                },
            },
            result: match &words[3..] {
                [] => Ok(()),
                error => Err(error.join(" ")),
            },
        },
        // policy NAME add TABLE,.. INTERVAL MINUTE|now KEEP | interval SECONDS | keep COUNT | at MINUTE|now | tables ADD,.. REMOVE,..
        //        | enable | disable [force] | remove [force]
        "policy" => BackupCommand::Policy {
            name: text(1),
            order: policy(&words[2..]),
        },
        // restore NAME PARTITIONS REPLICAS BACKUP OLD-TABLE [skip]
        "restore" => BackupCommand::Restore(RestoreTable {
            name: text(1),
            partition_count: small(2),
            replica_count: u8::try_from(number(3)).unwrap(),
            allow_degraded: false,
            envs: BTreeMap::new(),
            source: RestoreSource {
                site: Site {
                    target: "local".to_owned(),
                    root: "c".to_owned(),
                },
                backup: number(4),
                table_name: text(5),
                table: TableId(9),
            },
            skips_bad: words.get(6) == Some(&"skip"),
        }),
        _ => return None,
    };
    Some(Command::Backup {
        command,
        now_ms: script.now_ms,
    })
}

fn state(name: &str) -> ProgressState {
    match name {
        "running" => ProgressState::Running,
        "done" => ProgressState::Done,
        "failed" => ProgressState::Failed,
        "cancelled" => ProgressState::Cancelled,
        other => panic!("unknown state {other}"),
    }
}

fn policy(words: &[&str]) -> PolicyOrder {
    let force = words.get(1) == Some(&"force");
    let mut modify = (Vec::new(), Vec::new(), None, None, None);
    match words[0] {
        "add" => {
            return PolicyOrder::Add {
                target: "local".to_owned(),
                root: String::new(),
                tables: tables(words[1]),
                interval_s: words[2].parse().unwrap(),
                timing: timing(words[3]),
                keep_count: words[4].parse().unwrap(),
                bytes_per_second: 0,
            };
        }
        "enable" => return PolicyOrder::Enable,
        "disable" => return PolicyOrder::Disable { force },
        "remove" => return PolicyOrder::Remove { force },
        "tables" => (modify.0, modify.1) = (tables(words[1]), tables(words[2])),
        "interval" => modify.2 = Some(words[1].parse().unwrap()),
        "at" => modify.3 = Some(timing(words[1])),
        "keep" => modify.4 = Some(words[1].parse().unwrap()),
        other => panic!("unknown order {other}"),
    }
    PolicyOrder::Modify {
        add: modify.0,
        remove: modify.1,
        interval_s: modify.2,
        timing: modify.3,
        keep_count: modify.4,
        bytes_per_second: None,
    }
}

fn timing(word: &str) -> Timing {
    word.parse().map_or(Timing::AtOnce, Timing::Minute)
}

fn tables(word: &str) -> Vec<TableRef> {
    let names = word.split(',').filter(|name| *name != "-");
    names.map(|name| TableRef::Name(name.to_owned())).collect()
}

/// Orders in a push.
pub(crate) fn show_orders(sync: &Sync) -> Vec<String> {
    let backups = sync.backups.iter().map(|it| {
        let verb = if it.is_cancelled { "stop" } else { "back up" };
        let base = it.base.map_or(String::new(), |base| format!(" on {base}"));
        let (partition, incarnation) = (it.key.partition, it.key.incarnation);
        format!("{verb} {partition}#{incarnation} for {}{base}", it.backup)
    });
    let restores = sync.restores.iter().map(|it| {
        let (partition, incarnation) = (it.key.partition, it.key.incarnation);
        let how = if it.is_skipped {
            "empty".to_owned()
        } else {
            let source = &it.source;
            format!(
                "from {} of {}_{}, attempt {}",
                source.backup, source.table_name, source.table, it.attempt
            )
        };
        format!("make {partition}#{incarnation} {how}")
    });
    backups.chain(restores).collect()
}

/// `backups`, `chores`, `policies` and `restore-of TABLE`.
pub(crate) fn show(script: &Script, words: &[&str]) -> Option<String> {
    let state = &script.state;
    let mut out = String::new();
    match words[0] {
        "chores" => {
            for chore in state.backup_chores() {
                writeln!(out, "{:?} {}", chore.kind, chore.backup).unwrap();
            }
        }
        "backups" => {
            for run in state.backups().runs().values() {
                let (total, done, sent) = state.backup_bytes(run);
                let policy = if run.policy.is_empty() {
                    String::new()
                } else {
                    format!(" of {}", run.policy)
                };
                let message = match state.backup_message(run) {
                    "" => String::new(),
                    message => format!("; {message}"),
                };
                writeln!(
                    out,
                    "{} of {}{policy}: {}, {} of {} partitions, bytes {done} of {total}, sent {sent}{message}",
                    run.id,
                    run.table_name,
                    run.phase.name(),
                    run.copies_count,
                    run.partition_count
                )
                .unwrap();
            }
        }
        "policies" => {
            for policy in state.backups().policies().values() {
                let switch = if policy.is_enabled { "on" } else { "off" };
                writeln!(
                    out,
                    "{} {switch}, every {} s, keeps {}",
                    policy.name, policy.interval_s, policy.keep_count
                )
                .unwrap();
                for (table, it) in &policy.tables {
                    let next = policy.next_due_ms(it.served_ms, script.now_ms);
                    writeln!(out, "  table {table}: last {}, next {next}", it.last_backup).unwrap();
                }
            }
        }
        "restore-of" => {
            let table = state.durable().table_named(words[1]).unwrap();
            let restore = state.restore_of(table.id).unwrap();
            writeln!(
                out,
                "from {}, ended {:?}, skipped {:?}, failure {:?}",
                restore.source.backup, restore.ended_ms, restore.skipped, restore.failure
            )
            .unwrap();
        }
        _ => return None,
    }
    Some(if out.is_empty() {
        "nothing\n".to_owned()
    } else {
        out
    })
}
