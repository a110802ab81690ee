//! Files of older formats, and of today's byte for byte.

use super::{carry_out, create_table, filled};
use crate::fixture::{self, cluster, node};
use pegasus_meta::state::{
    BackupCommand, BackupProgress, BalanceOrder, Chore, ChoreKind, Command, CreateTable, Drain,
    EnvChange, HealOptions, Level, Partition, PolicyOrder, ProgressState, Proposed, ReplicaBackup,
    ReplicaHealth, ReplicaKey, Report, RestoreSource, RestoreTable, Site, State, TableRef, Timing,
};
use pegasus_meta::store::{FileStore, MemStore, Store};
use pegasus_replication::config::{Proposal, RemovalCause};
use pegasus_replication::ids::{NodeId, NodeIncarnation, PartitionId, TableId};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What made the files of format 1, up to a point in the second log: a snapshot, then every kind of change that there was.
fn state_of_format_1(state: &mut State, store: &mut dyn Store) {
    let report = report_all(state, 1, 2, ReplicaHealth::Ready, 3_000);
    carry_out(state, store, report);
    propose(state, store, 1, 2, Proposal::NextBallot);
    commands_after_snapshot()
        .into_iter()
        .for_each(|command| carry_out(state, store, command));
}

fn commands_after_snapshot() -> Vec<Command> {
    vec![
        Command::NumberNode,
        create_table("c"),
        Command::DropTable {
            name: "c".to_owned(),
            keep_seconds: Some(0),
            now_ms: 4_000,
        },
    ]
}

/// Node `id` says that all its replicas are in this state.
fn report_all(
    state: &State,
    id: u32,
    incarnation: u64,
    health: ReplicaHealth,
    now_ms: u64,
) -> Command {
    let node = NodeId(id);
    let sync = state.full_sync(node);
    let mut replicas = fixture::ready(node, &sync);
    replicas
        .iter_mut()
        .for_each(|(_, status)| status.health = health);
    let report = Report {
        digest: sync.digest,
        full: true,
        replicas,
        disk_total: 0,
        disk_free: 0,
        ..Report::default()
    };
    Command::Report {
        node,
        incarnation: NodeIncarnation(incarnation),
        report,
        now_ms,
    }
}

/// The first replica on node `id` wants something.
fn propose(
    state: &mut State,
    store: &mut dyn Store,
    id: u32,
    incarnation: u64,
    proposal: Proposal,
) {
    let node = NodeId(id);
    let sync = state.full_sync(node);
    let replica = fixture::ready(node, &sync)[0].0;
    let proposed = Proposed {
        replica,
        ballot: sync.configurations[0].ballot,
        proposal,
    };
    let command = Command::Propose {
        node,
        incarnation: NodeIncarnation(incarnation),
        proposals: vec![proposed],
        now_ms: 3_000,
    };
    carry_out(state, store, command);
}

fn golden(format: u16) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/format-{format}"))
}

fn copy_dir(from: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// Its golden files were written by the first version and never change.
#[test]
fn a_store_of_format_1_is_read_and_brought_to_the_format_of_today() {
    let dir = TempDir::new().unwrap();
    let mut state = filled(dir.path());
    let mut nowhere = MemStore::new(state.durable());
    state_of_format_1(&mut state, &mut nowhere);

    let old = copy_dir(&golden(1));
    let (store, durable) = FileStore::open(old.path()).unwrap();
    assert_eq!(durable, *state.durable());
    drop(store);
    for entry in fs::read_dir(old.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "LOCK" {
            assert_eq!(fs::read(&path).unwrap()[8], 5, "{}", path.display());
        }
    }
    let (mut store, durable) = FileStore::open(old.path()).unwrap();
    assert_eq!(durable, *state.durable());
    carry_out(&mut state, &mut store, Command::NumberNode);
    drop(store);
    assert_eq!(FileStore::open(old.path()).unwrap().1, *state.durable());
}

#[test]
fn an_upgrade_that_was_cut_short_is_done_again() {
    let old = copy_dir(&golden(1));
    let durable = FileStore::open(old.path()).unwrap().1;
    // The new snapshot is there, the new log is not yet, and the old files have not been removed.
    let half = copy_dir(old.path());
    for entry in fs::read_dir(half.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains("log-") {
            fs::write(&path, []).unwrap();
        }
    }
    for entry in fs::read_dir(golden(1)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, half.path().join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(FileStore::open(half.path()).unwrap().1, durable);
    assert_eq!(FileStore::open(half.path()).unwrap().1, durable);
}

/// A table is set up, renamed, dropped, called back, dropped and given up; others are kept or gone.
fn life_of_a_table() -> Vec<Command> {
    let name = |name: &str| name.to_owned();
    let set = vec![(name("default_ttl"), name("60"))];
    vec![
        Command::ChangeEnvs {
            table: name("t"),
            change: EnvChange::Set(set),
            now_ms: 4_410,
        },
        Command::RenameTable {
            from: name("t"),
            to: name("v"),
            now_ms: 4_420,
        },
        drop_table("v", 1),
        Command::RecallTable {
            table: TableId(1),
            name: None,
            now_ms: 4_440,
        },
        drop_table("v", 1),
        create_table("u"),
        drop_table("u", 0),
        create_table("w"),
        drop_table("w", 60),
        Command::SetLevel {
            level: Some(Level::Freezed),
            now_ms: 4_500,
        },
        Command::Tick { now_ms: 6_000 },
    ]
}

fn drop_table(name: &str, keep_seconds: u64) -> Command {
    Command::DropTable {
        name: name.to_owned(),
        keep_seconds: Some(keep_seconds),
        now_ms: 4_430,
    }
}

/// What each older format held, in files that never change, is what the program of today makes of them.
#[test]
fn a_store_of_format_2_is_brought_to_the_format_of_today() {
    let old = copy_dir(&golden(2));
    let (store, durable) = FileStore::open(old.path()).unwrap();
    drop(store);
    let tables: Vec<&str> = durable
        .tables()
        .values()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(tables, ["t", "u"]);
    let table = durable.tables().values().next().unwrap();
    assert!(table.is_condemned() && table.envs.is_empty());
    assert_eq!(table.partitions.len(), 4);
    assert_eq!(durable.level(), Level::Steady);
    assert_eq!(durable.drain(NodeId(2)), Some(Drain::Replicas));
    for entry in fs::read_dir(old.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "LOCK" {
            assert_eq!(fs::read(&path).unwrap()[8], 5, "{}", path.display());
        }
    }
    assert_eq!(FileStore::open(old.path()).unwrap().1, durable);
}

#[test]
fn a_store_of_format_3_is_brought_to_the_format_of_today() {
    let old = copy_dir(&golden(3));
    let (store, durable) = FileStore::open(old.path()).unwrap();
    drop(store);
    assert_eq!(durable.nodes().len(), 4);
    assert_eq!(durable.drain(NodeId(2)), Some(Drain::Replicas));
    assert_eq!(FileStore::open(old.path()).unwrap().1, durable);
}

#[test]
fn a_store_of_format_4_is_brought_to_the_format_of_today() {
    let old = copy_dir(&golden(4));
    let (store, durable) = FileStore::open(old.path()).unwrap();
    drop(store);
    assert!(durable.is_forgotten(NodeId(5)));
    assert!(durable.backups().runs().is_empty());
    assert_eq!(FileStore::open(old.path()).unwrap().1, durable);
}

fn backup(command: BackupCommand) -> Command {
    Command::Backup {
        command,
        now_ms: 4_150,
    }
}

/// Begins a backup of its table.
fn backup_policy() -> Command {
    backup(BackupCommand::Policy {
        name: "p".to_owned(),
        order: PolicyOrder::Add {
            target: "local".to_owned(),
            root: String::new(),
            tables: vec![TableRef::Name("t".to_owned())],
            interval_s: 86_400,
            timing: Timing::AtOnce,
            keep_count: 3,
            bytes_per_second: 1 << 20,
        },
    })
}

/// Every other kind of change of backups.
fn backups() -> Vec<fn(&State) -> Command> {
    let mut commands: Vec<fn(&State) -> Command> = vec![
        |state| done_on(state, 1),
        |state| done_on(state, 2),
        |state| done_on(state, 3),
        |state| done_on(state, 4),
        |_| chore_done(ChoreKind::Record),
        |_| {
            let name = "p".to_owned();
            let order = PolicyOrder::Remove { force: false };
            backup(BackupCommand::Policy { name, order })
        },
        |_| backup(BackupCommand::Delete { id: 4_150 }),
        |_| chore_done(ChoreKind::Delete),
    ];
    commands.push(|_| {
        backup(BackupCommand::Restore(RestoreTable {
            name: "r".to_owned(),
            partition_count: 2,
            replica_count: 2,
            allow_degraded: false,
            envs: std::collections::BTreeMap::new(),
            source: RestoreSource {
                site: Site {
                    target: "local".to_owned(),
                    root: "a/b".to_owned(),
                },
                backup: 3_000,
                table_name: "old".to_owned(),
                table: TableId(9),
            },
            skips_bad: true,
        }))
    });
    commands
}

fn chore_done(kind: ChoreKind) -> Command {
    let backup_id = 4_150;
    let chore = Chore {
        backup: backup_id,
        kind,
    };
    let result = Ok(());
    backup(BackupCommand::ChoreEnded { chore, result })
}

/// A node has backed up what it leads.
fn done_on(state: &State, id: u32) -> Command {
    let table = state.durable().table_named("t").unwrap();
    let led = table.indexed().filter_map(|(index, partition)| {
        let primary = partition
            .primary
            .filter(|it| it.address.node == NodeId(id))?;
        let partition = PartitionId {
            table: table.id,
            index,
        };
        Some(ReplicaKey {
            partition,
            incarnation: primary.incarnation,
        })
    });
    let backups = led.map(|key| ReplicaBackup {
        backup: 4_150,
        key,
        state: ProgressState::Done,
        decree: 7,
        timestamp_ms: 4_140,
        bytes_total: 100,
        bytes_done: 100,
        bytes_sent: 90,
        error: String::new(),
    });
    backup(BackupCommand::Progress {
        node: NodeId(id),
        incarnation: NodeIncarnation(1),
        progress: BackupProgress {
            backups: backups.collect(),
            restores: Vec::new(),
        },
    })
}

/// Every kind of change that is written. `UPDATE_GOLDEN=1` writes the files anew, which is right only together with a new
/// format number.
#[test]
fn files_of_format_5_stay_readable_byte_for_byte() {
    let dir = TempDir::new().unwrap();
    let mut store = FileStore::create(dir.path(), &cluster()).unwrap();
    let mut state = State::new(cluster());
    for id in 1..=4 {
        carry_out(&mut state, &mut store, Command::NumberNode);
        let join = Command::JoinNode {
            node: node(id, 1, 2),
            now_ms: 1_000,
        };
        carry_out(&mut state, &mut store, join);
    }
    let create = CreateTable {
        name: "t".to_owned(),
        partition_count: 4,
        replica_count: 3,
        allow_degraded: false,
        may_exist: false,
        envs: std::collections::BTreeMap::new(),
        now_ms: 1_000,
    };
    carry_out(&mut state, &mut store, Command::CreateTable(create));
    for id in 1..=4 {
        let report = report_all(&state, id, 1, ReplicaHealth::Serving, 2_000);
        carry_out(&mut state, &mut store, report);
    }
    // A slow member goes; a learner is assigned after a while; an order; a node is emptied.
    let secondary = state.full_sync(NodeId(1)).configurations[0].secondaries[0];
    let remove = Proposal::Remove {
        member: secondary,
        cause: RemovalCause::Slow,
    };
    propose(&mut state, &mut store, 1, 1, remove);
    for id in 1..=4 {
        let report = report_all(&state, id, 1, ReplicaHealth::Serving, 4_000);
        carry_out(&mut state, &mut store, report);
    }
    state = state.with_options(HealOptions {
        heal_delay_ms: 0,
        ..HealOptions::default()
    });
    carry_out(&mut state, &mut store, Command::Tick { now_ms: 4_100 });
    carry_out(&mut state, &mut store, backup_policy());
    store.snapshot(state.durable()).unwrap();
    for make in backups() {
        let command = make(&state);
        carry_out(&mut state, &mut store, command);
    }
    let orders = [
        Command::MovePrimary {
            table: "t".to_owned(),
            index: 1,
            to: state.durable().table_named("t").unwrap().partitions[1].secondaries[0]
                .address
                .node,
            now_ms: 4_200,
        },
        Command::DrainNode {
            node: NodeId(2),
            drain: Some(Drain::Replicas),
            now_ms: 4_300,
        },
        Command::Tick { now_ms: 4_400 },
        Command::NumberNode,
        Command::JoinNode {
            node: node(5, 1, 1),
            now_ms: 4_500,
        },
        Command::DecommissionNode {
            node: NodeId(5),
            now_ms: 4_500,
        },
        Command::Balance {
            order: BalanceOrder::Limit {
                copies_max: 8,
                copies_per_node_max: 2,
                hand_overs_max: 0,
            },
            now_ms: 4_600,
        },
    ];
    for order in orders {
        carry_out(&mut state, &mut store, order);
    }
    let table = state.durable().tables().values().next().unwrap();
    let has = |holds: fn(&Partition) -> bool| table.partitions.iter().any(holds);
    assert!(has(|it| it.learner.is_some()) && has(|it| !it.backoffs.is_empty()));
    assert!(has(|it| it.intent.is_some()) && has(|it| it.degraded_ms.is_some()));
    let fewer = Command::SetReplicas {
        table: "t".to_owned(),
        replica_count: 2,
        now_ms: 4_700,
    };
    for order in [fewer].into_iter().chain(life_of_a_table()) {
        carry_out(&mut state, &mut store, order);
    }
    drop(store);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "LOCK" {
            continue;
        }
        if std::env::var("UPDATE_GOLDEN").is_ok() {
            fs::create_dir_all(golden(5)).unwrap();
            fs::copy(&path, golden(5).join(&name)).unwrap();
        }
        assert_eq!(
            fs::read(&path).unwrap(),
            fs::read(golden(5).join(&name)).unwrap(),
            "{name}"
        );
    }
    assert!(state.durable().is_forgotten(NodeId(5)));
    let copy = copy_dir(&golden(5));
    assert_eq!(FileStore::open(copy.path()).unwrap().1, *state.durable());
}
