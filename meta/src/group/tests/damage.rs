//! A member's log after a crash, and after damage.

use super::super::log::{self, Log};
use super::super::raft::{Batch, LogId, Types, Vote};
use super::CLUSTER;
use crate::store::StoreError;
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::{Entry, EntryPayload, LeaderId, RaftLogReader as _};
use std::fs;
use std::path::{Path, PathBuf};

fn entry(index: u64) -> Entry<Types> {
    let batch = Batch {
        follows: index,
        changes: vec![7; 100].into(),
    };
    Entry {
        log_id: log_id(index),
        payload: EntryPayload::Normal(batch),
    }
}

fn log_id(index: u64) -> LogId {
    LogId::new(LeaderId::new(3, 1), index)
}

/// A log with a vote and entries 0 to 9, some of which were cut and written again.
async fn write(dir: &Path) {
    log::create(dir, CLUSTER).unwrap();
    let mut log = Log::open(dir, CLUSTER).unwrap().with_file_bytes_max(700);
    log.save_vote(&Vote::new_committed(3, 1)).await.unwrap();
    for index in 0..8 {
        log.blocking_append([entry(index)]).await.unwrap();
    }
    log.truncate(log_id(5)).await.unwrap();
    log.blocking_append((5..10).map(entry)).await.unwrap();
    log.purge(log_id(1)).await.unwrap();
}

async fn indices(log: &mut Log) -> Vec<u64> {
    let entries = log.try_get_log_entries(..).await.unwrap();
    entries.iter().map(|entry| entry.log_id.index).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_old_files_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    let count = files(dir.path()).len();
    assert!(count > 1, "no second file was begun");
    let mut log = Log::open(dir.path(), CLUSTER).unwrap();
    assert_eq!(indices(&mut log).await, (2..10).collect::<Vec<u64>>());
    assert_eq!(
        log.read_vote().await.unwrap(),
        Some(Vote::new_committed(3, 1))
    );
    assert_eq!(log.purged(), Some(log_id(1)));
    log.purge(log_id(9)).await.unwrap();
    assert!(files(dir.path()).len() < count, "no file was let go");
    let mut log = Log::open(dir.path(), CLUSTER).unwrap();
    assert_eq!(indices(&mut log).await, Vec::<u64>::new());
    assert_eq!(
        log.get_log_state().await.unwrap().last_log_id,
        Some(log_id(9))
    );
}

#[tokio::test]
async fn a_torn_end_is_cut_wherever_it_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    let all = files(dir.path()).into_iter();
    let all: Vec<(PathBuf, Vec<u8>)> = all
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let (last, whole) = all.last().unwrap();
    for length in 0..whole.len() {
        files(dir.path())
            .into_iter()
            .for_each(|it| fs::remove_file(it).unwrap());
        all.iter()
            .for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        fs::write(last, &whole[..length]).unwrap();
        let mut log = Log::open(dir.path(), CLUSTER).unwrap();
        let found = indices(&mut log).await;
        let first = found.first().copied().unwrap_or_default();
        let expected: Vec<u64> = (first..first + found.len() as u64).collect();
        assert_eq!(found, expected, "torn at {length}");
        assert_eq!(
            log.read_vote().await.unwrap(),
            Some(Vote::new_committed(3, 1))
        );
        // It goes on from there.
        let next = found.last().map_or(0, |last| last + 1);
        log.blocking_append([entry(next)]).await.unwrap();
        let mut log = Log::open(dir.path(), CLUSTER).unwrap();
        assert_eq!(indices(&mut log).await.last(), Some(&next));
    }
}

#[tokio::test]
async fn damage_before_the_end_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    let first = files(dir.path()).remove(0);
    let whole = fs::read(&first).unwrap();
    for at in [10, 60, 100, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(&first, &bytes).unwrap();
        let error = Log::open(dir.path(), CLUSTER).unwrap_err();
        let refused = matches!(
            error,
            StoreError::Corrupt { .. } | StoreError::Format { .. }
        );
        assert!(refused, "byte {at}: {error}");
    }
    fs::remove_file(&first).unwrap();
    let error = Log::open(dir.path(), CLUSTER);
    assert!(
        error.is_ok(),
        "the first file that is there begins with a state"
    );
}

#[tokio::test]
async fn the_first_file_cut_short_is_no_new_member() {
    let dir = tempfile::tempdir().unwrap();
    log::create(dir.path(), CLUSTER).unwrap();
    let only = files(dir.path()).pop().unwrap();
    fs::write(&only, [0; 20]).unwrap();
    let error = Log::open(dir.path(), CLUSTER).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}
