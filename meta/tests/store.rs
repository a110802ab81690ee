//! The embedded store: what it keeps, what it cuts, what it refuses, and that its bytes stay readable.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests fail by panicking, and look at the files"
)]

mod fixture;

use fixture::{cluster, node};
use pegasus_meta::state::{
    Answer, Command, CreateTable, Drain, Durable, EnvChange, HealOptions, Level, Partition,
    Proposed, ReplicaHealth, Report, State,
};
use pegasus_meta::store::{FileStore, MemStore, Store, StoreError};
use pegasus_replication::config::{Proposal, RemovalCause};
use pegasus_replication::ids::{NodeId, NodeIncarnation, TableId};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn create_table(name: &str) -> Command {
    let name = name.to_owned();
    Command::CreateTable(CreateTable {
        name,
        partition_count: 4,
        replica_count: 1,
        allow_degraded: false,
        may_exist: false,
        envs: std::collections::BTreeMap::new(),
        now_ms: 1_000,
    })
}

/// Everything that leaves a change, one batch for each.
fn commands() -> Vec<Command> {
    let join = |incarnation| Command::JoinNode {
        node: node(1, incarnation, 2),
        now_ms: 1_000,
    };
    vec![
        Command::NumberNode,
        join(1),
        create_table("a"),
        create_table("b"),
        Command::DropTable {
            name: "a".to_owned(),
            keep_seconds: Some(0),
            now_ms: 2_000,
        },
        join(2),
    ]
}

fn carry_out(state: &mut State, store: &mut dyn Store, command: Command) {
    let outcome = state.apply(command);
    assert!(
        !matches!(outcome.answer, Answer::Refused(_)),
        "{:?}",
        outcome.answer
    );
    store.append(&outcome.changes).unwrap();
}

fn filled(dir: &Path) -> State {
    let mut store = FileStore::create(dir, &cluster()).unwrap();
    let mut state = State::new(cluster());
    commands()
        .into_iter()
        .for_each(|command| carry_out(&mut state, &mut store, command));
    state
}

fn log_of(dir: &Path) -> PathBuf {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    names
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("log-")
        })
        .max()
        .unwrap()
}

#[test]
fn what_was_appended_is_read_again() {
    let dir = TempDir::new().unwrap();
    let state = filled(dir.path());
    let (store, durable) = FileStore::open(dir.path()).unwrap();
    assert_eq!(durable, *state.durable());
    assert_eq!(store.load().unwrap(), durable);
}

#[test]
fn a_snapshot_replaces_the_log() {
    let dir = TempDir::new().unwrap();
    let mut store = FileStore::create(dir.path(), &cluster())
        .unwrap()
        .with_log_bytes_max(300);
    let mut state = State::new(cluster());
    let mut snapshots = 0;
    for command in commands() {
        carry_out(&mut state, &mut store, command);
        if store.wants_snapshot() {
            store.snapshot(state.durable()).unwrap();
            snapshots += 1;
            assert!(!store.wants_snapshot());
        }
    }
    // One that changes nothing since the last.
    store.snapshot(state.durable()).unwrap();
    store.snapshot(state.durable()).unwrap();
    assert!(snapshots >= 2);
    drop(store);
    let names = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 3, "LOCK, one snapshot, one log");
    let (mut store, durable) = FileStore::open(dir.path()).unwrap();
    assert_eq!(durable, *state.durable());
    carry_out(&mut state, &mut store, create_table("c"));
    drop(store);
    assert_eq!(FileStore::open(dir.path()).unwrap().1, *state.durable());
}

#[test]
fn a_log_cut_anywhere_loses_whole_batches_from_its_end_only() {
    let dir = TempDir::new().unwrap();
    filled(dir.path());
    let log = log_of(dir.path());
    let whole = fs::read(&log).unwrap();
    // The state after each batch.
    let mut states = vec![Durable::new(cluster())];
    let mut state = State::new(cluster());
    for command in commands() {
        _ = state.apply(command);
        states.push(state.durable().clone());
    }
    let mut reached = 0;
    for length in (0..whole.len()).step_by(7).chain([whole.len()]) {
        fs::write(&log, &whole[..length]).unwrap();
        let (mut store, durable) = FileStore::open(dir.path()).unwrap();
        let batches = states.iter().position(|it| *it == durable).unwrap();
        assert!(batches >= reached, "a longer log holds less");
        reached = batches;
        // The next batch goes where the cut is, and both are read again.
        let mut state = State::from_durable(durable);
        carry_out(&mut state, &mut store, Command::NumberNode);
        drop(store);
        assert_eq!(FileStore::open(dir.path()).unwrap().1, *state.durable());
    }
    assert_eq!(reached, commands().len());
}

#[test]
fn a_flipped_byte_before_the_last_batch_is_refused_with_its_place() {
    let dir = TempDir::new().unwrap();
    filled(dir.path());
    let log = log_of(dir.path());
    let whole = fs::read(&log).unwrap();
    let last = last_record_start(&whole);
    for at in 0..last {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(&log, &damaged).unwrap();
        let error = FileStore::open(dir.path()).unwrap_err();
        let refused = matches!(
            error,
            StoreError::Corrupt { .. } | StoreError::Format { .. }
        );
        assert!(refused, "byte {at}: {error}");
    }
    fs::write(&log, &whole).unwrap();
    FileStore::open(dir.path()).unwrap();
}

fn last_record_start(log: &[u8]) -> usize {
    let mut at = 48;
    loop {
        let length = u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
        if at + 16 + length >= log.len() {
            return at;
        }
        at += 16 + length;
    }
}

#[test]
fn a_flipped_byte_in_a_snapshot_is_refused() {
    let dir = TempDir::new().unwrap();
    filled(dir.path());
    let (mut store, durable) = FileStore::open(dir.path()).unwrap();
    store.snapshot(&durable).unwrap();
    drop(store);
    let names = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let path = names
        .filter(|path| path.to_str().unwrap().contains("snapshot-"))
        .max()
        .unwrap();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        FileStore::open(dir.path()).unwrap_err();
    }
}

#[test]
fn a_directory_without_init_is_refused_and_init_happens_once() {
    let dir = TempDir::new().unwrap();
    let error = FileStore::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("recover or init?"), "{error}");
    assert!(FileStore::is_absent(dir.path()).unwrap());
    drop(FileStore::create(dir.path(), &cluster()).unwrap());
    assert!(matches!(
        FileStore::create(dir.path(), &cluster()),
        Err(StoreError::Exists { .. })
    ));
    assert!(!FileStore::is_absent(dir.path()).unwrap());
}

#[test]
fn an_init_that_was_cut_short_can_be_made_again() {
    let dir = TempDir::new().unwrap();
    drop(FileStore::create(dir.path(), &cluster()).unwrap());
    let snapshot = dir.path().join("snapshot-0000000000000000");
    fs::rename(&snapshot, snapshot.with_extension("tmp")).unwrap();
    assert!(matches!(
        FileStore::open(dir.path()),
        Err(StoreError::Empty { .. })
    ));
    drop(FileStore::create(dir.path(), &cluster()).unwrap());
    FileStore::open(dir.path()).unwrap();
}

#[test]
fn two_processes_never_share_a_directory() {
    let dir = TempDir::new().unwrap();
    let store = FileStore::create(dir.path(), &cluster()).unwrap();
    assert!(matches!(
        FileStore::open(dir.path()),
        Err(StoreError::Locked { .. })
    ));
    drop(store);
    FileStore::open(dir.path()).unwrap();
}

#[test]
fn a_log_of_another_cluster_is_refused() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    filled(dir.path());
    let mut foreign = cluster();
    foreign.id.0 += 1;
    drop(FileStore::create(other.path(), &foreign).unwrap());
    fs::copy(log_of(other.path()), log_of(dir.path())).unwrap();
    assert!(matches!(
        FileStore::open(dir.path()),
        Err(StoreError::ForeignCluster { .. })
    ));
}

#[test]
fn a_lost_log_is_noticed() {
    let dir = TempDir::new().unwrap();
    let state = filled(dir.path());
    let (mut store, _) = FileStore::open(dir.path()).unwrap();
    store.snapshot(state.durable()).unwrap();
    drop(store);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().contains("snapshot-") {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(matches!(
        FileStore::open(dir.path()),
        Err(StoreError::Missing { .. })
    ));
}

#[test]
fn a_store_in_memory_keeps_the_same() {
    let mut state = State::new(cluster());
    let mut store = MemStore::new(state.durable());
    commands()
        .into_iter()
        .for_each(|command| carry_out(&mut state, &mut store, command));
    assert_eq!(store.load().unwrap(), *state.durable());
    store.snapshot(state.durable()).unwrap();
    assert_eq!(store.load().unwrap(), *state.durable());
}

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
            assert_eq!(fs::read(&path).unwrap()[8], 3, "{}", path.display());
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
            assert_eq!(fs::read(&path).unwrap()[8], 3, "{}", path.display());
        }
    }
    assert_eq!(FileStore::open(old.path()).unwrap().1, durable);
}

/// Every kind of change that is written. `UPDATE_GOLDEN=1` writes the files anew, which is right only together with a new
/// format number.
#[test]
fn files_of_format_3_stay_readable_byte_for_byte() {
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
    store.snapshot(state.durable()).unwrap();
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
    ];
    for order in orders {
        carry_out(&mut state, &mut store, order);
    }
    let table = state.durable().tables().values().next().unwrap();
    let has = |holds: fn(&Partition) -> bool| table.partitions.iter().any(holds);
    assert!(has(|it| it.learner.is_some()) && has(|it| !it.backoffs.is_empty()));
    assert!(has(|it| it.intent.is_some()) && has(|it| it.degraded_ms.is_some()));
    for order in life_of_a_table() {
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
            fs::create_dir_all(golden(3)).unwrap();
            fs::copy(&path, golden(3).join(&name)).unwrap();
        }
        assert_eq!(
            fs::read(&path).unwrap(),
            fs::read(golden(3).join(&name)).unwrap(),
            "{name}"
        );
    }
    let copy = copy_dir(&golden(3));
    assert_eq!(FileStore::open(copy.path()).unwrap().1, *state.durable());
}
