//! The files of meta: any bytes as a log, as a snapshot, or as changes under a right checksum. They are refused with
//! their place, or what was read is read again after the store was used. Run by the tests and by the fuzz target
//! `meta_store`.

use pegasus_meta::state::{Change, Cluster, ClusterId, Durable};
use pegasus_meta::store::format::{
    FORMAT, FileHeader, FileKind, HEADER_BYTES, change, encode_record,
};
use pegasus_meta::store::{FileStore, Store, StoreError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const CLUSTER: ClusterId = ClusterId(7);

/// The first byte says what the rest is: a log (0), a log behind its right header (1), a snapshot of number 0 (2) or of
/// the highest number (3), or changes (4).
pub(crate) fn run(input: &[u8]) {
    let Some((what, rest)) = input.split_first() else {
        return;
    };
    let header = FileHeader {
        format: FORMAT,
        kind: FileKind::Log,
        cluster: CLUSTER,
        sequence: 1,
    };
    match what % 5 {
        0 => open(0, &snapshot(), Some(rest)),
        1 => open(0, &snapshot(), Some(&[&header.encode(), rest].concat())),
        2 => open(0, rest, None),
        3 => open(u64::MAX, rest, None),
        _ => changes(rest),
    }
}

pub(crate) fn cluster() -> Cluster {
    Cluster {
        id: CLUSTER,
        name: "any".to_owned(),
        epoch: 1,
    }
}

/// A snapshot of a cluster with nothing in it.
pub(crate) fn snapshot() -> Vec<u8> {
    snapshot_of(0, &Durable::new(cluster()).snapshot())
}

pub(crate) fn snapshot_of(sequence: u64, changes: &[Change]) -> Vec<u8> {
    let header = FileHeader {
        format: FORMAT,
        kind: FileKind::Snapshot,
        cluster: CLUSTER,
        sequence,
    };
    let record = encode_record(CLUSTER, sequence, changes).expect("a small record");
    [&header.encode()[..], &record].concat()
}

fn open(sequence: u64, snapshot: &[u8], log: Option<&[u8]>) {
    let dir = TemporaryDir::new();
    dir.write(&format!("snapshot-{sequence:016x}"), snapshot);
    if let Some(log) = log {
        dir.write("log-0000000000000001", log);
    }
    let before = dir.content();
    match FileStore::open(&dir.path) {
        Err(error) => {
            assert_eq!(dir.content(), before, "a refused store was changed");
            check_error(&dir.path, &error);
        }
        Ok((mut store, durable)) => {
            assert_eq!(store.load().expect("it was just read"), durable);
            let mut next = durable.counters();
            next.next_table = next.next_table.saturating_add(1);
            let change = Change::Counters(next);
            let mut grown = durable;
            grown.apply(&change).expect("counters grow");
            store.append(&[change]).expect("a store that was opened");
            drop(store);
            let (mut store, again) = FileStore::open(&dir.path).expect("our own store");
            assert_eq!(again, grown);
            store.snapshot(&grown).expect("a store that was opened");
            assert_eq!(store.load().expect("our own store"), grown);
        }
    }
}

fn check_error(dir: &Path, error: &StoreError) {
    let sentence = error.to_string();
    let dir = dir.to_str().expect("a path of ours");
    assert!(sentence.contains(dir), "{sentence} does not name {dir}");
    assert!(!sentence.contains('\n') && sentence.len() < 1_000);
    if let StoreError::Corrupt { offset, .. } = error {
        assert!(*offset <= 1 << 20);
    }
}

fn changes(bytes: &[u8]) {
    let Some(changes) = change::decode_batch(bytes) else {
        return;
    };
    let mut again = Vec::new();
    change::encode_batch(&changes, &mut again);
    assert_eq!(again, bytes, "a batch has one spelling");
    let mut durable = Durable::new(cluster());
    for change in &changes {
        let before = durable.clone();
        if durable.apply(change).is_err() {
            assert_eq!(durable, before, "a change that was refused has changed");
        }
    }
    let replayed = Durable::replay(&durable.snapshot()).expect("our own snapshot");
    assert_eq!(replayed, durable);
    let snapshot = snapshot_of(0, &changes);
    assert!(snapshot.len() >= HEADER_BYTES + bytes.len());
    open(0, &snapshot, None);
}

/// A directory of its own for each run.
struct TemporaryDir {
    path: PathBuf,
}

impl TemporaryDir {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pegasus-meta-store-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self { path }
    }

    fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path.join(name), content).expect("a temporary file");
    }

    /// Names and lengths, without the lock.
    fn content(&self) -> Vec<(PathBuf, u64)> {
        let entries = std::fs::read_dir(&self.path).expect("a temporary directory");
        let mut content: Vec<(PathBuf, u64)> = entries
            .flatten()
            .map(|entry| (entry.path(), entry.metadata().map_or(0, |it| it.len())))
            .filter(|(path, _)| !path.ends_with("LOCK"))
            .collect();
        content.sort();
        content
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.path);
    }
}
