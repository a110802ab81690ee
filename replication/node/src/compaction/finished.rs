//! When each replica of the node was last compacted by hand, or seen for the first time, kept in `DIR/COMPACTED`: a restart is
//! no reason to compact again.
//!
//! Text: a line that says what it is, then `TABLE.PARTITION.INCARNATION SECONDS` for each replica. Replaced whole, by a rename
//! without a flush: the worst that a power cut does is a compaction that had been done. A file that is damaged or of another
//! format is begun anew.

use pegasus_replication::ids::{PartitionId, ReplicaIncarnation, TableId};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const FILE: &str = "COMPACTED";
const TEMPORARY: &str = "COMPACTED.new";
const FIRST_LINE: &str = "pegasus compacted 1";

pub(super) type Key = (PartitionId, ReplicaIncarnation);

/// What is in the file.
#[derive(Debug)]
pub(super) struct Finished {
    root: PathBuf,
    times_s: BTreeMap<Key, u64>,
    is_changed: bool,
}

impl Finished {
    pub(super) fn read(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join(FILE)).unwrap_or_default();
        Self {
            root: root.to_owned(),
            times_s: parse(&text),
            is_changed: false,
        }
    }

    /// Since when a replica has not been compacted; one that is new counts as compacted now.
    pub(super) fn last_s(&mut self, key: Key, now_s: u64) -> u64 {
        let is_changed = &mut self.is_changed;
        *self.times_s.entry(key).or_insert_with(|| {
            *is_changed = true;
            now_s
        })
    }

    pub(super) fn note(&mut self, key: Key, now_s: u64) {
        self.times_s.insert(key, now_s);
        self.is_changed = true;
    }

    /// Forgets replicas that are gone.
    pub(super) fn retain(&mut self, is_here: impl Fn(&Key) -> bool) {
        let before = self.times_s.len();
        self.times_s.retain(|key, _| is_here(key));
        self.is_changed |= self.times_s.len() != before;
    }

    pub(super) fn write(&mut self) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        let mut text = format!("{FIRST_LINE}\n");
        for ((partition, incarnation), time_s) in &self.times_s {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{partition}.{incarnation} {time_s}");
        }
        let (file, temporary) = (self.root.join(FILE), self.root.join(TEMPORARY));
        let written = std::fs::write(&temporary, text);
        if let Err(error) = written.and_then(|()| std::fs::rename(&temporary, &file)) {
            tracing::warn!(%error, file = %file.display(), "not written; after a restart replicas may be compacted again");
        }
    }
}

fn parse(text: &str) -> BTreeMap<Key, u64> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return BTreeMap::new();
    }
    lines.filter_map(line).collect()
}

fn line(text: &str) -> Option<(Key, u64)> {
    let (name, time_s) = text.split_once(' ')?;
    let mut parts = name.split('.');
    let partition = PartitionId {
        table: TableId(parts.next()?.parse().ok()?),
        index: parts.next()?.parse().ok()?,
    };
    let incarnation = ReplicaIncarnation(parts.next()?.parse().ok()?);
    Some(((partition, incarnation), time_s.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (
        PartitionId {
            table: TableId(3),
            index: 7,
        },
        ReplicaIncarnation(11),
    );

    #[test]
    fn times_are_there_after_a_restart_and_new_replicas_count_from_when_they_are_seen() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut finished = Finished::read(dir.path());
        assert_eq!(finished.last_s(KEY, 100), 100);
        assert_eq!(finished.last_s(KEY, 200), 100);
        finished.note(KEY, 300);
        finished.write();
        let mut again = Finished::read(dir.path());
        assert_eq!(again.last_s(KEY, 400), 300);
        again.retain(|_| false);
        again.write();
        assert_eq!(Finished::read(dir.path()).last_s(KEY, 500), 500);
    }

    #[test]
    fn a_file_that_is_no_such_file_is_begun_anew() {
        assert!(parse("something else\n3.7.11 300\n").is_empty());
        let damaged = format!("{FIRST_LINE}\n3.7.11 300\n3.7 300\nx\n");
        assert_eq!(parse(&damaged), BTreeMap::from([(KEY, 300)]));
    }
}
