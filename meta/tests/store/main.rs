//! The embedded store: what it keeps, what it cuts, what it refuses, and that its bytes stay readable.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests fail by panicking, and look at the files"
)]

#[path = "../fixture/mod.rs"]
mod fixture;
mod formats;

use fixture::{cluster, node};
use pegasus_meta::state::{Answer, Command, CreateTable, Durable, State};
use pegasus_meta::store::{FileStore, MemStore, Store, StoreError};
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
