//! How far a copy has come, in a file, so that it can go on after an interruption.

use crate::exit::{Exit, Failed};
use crate::text;
use crate::walk::RowKey;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

const VERSION: u32 = 1;

/// What is copied where. A copy goes on only if this is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Copy {
    pub(super) from: String,
    pub(super) from_number: u32,
    pub(super) partitions: u32,
    pub(super) to_meta: Vec<String>,
    pub(super) to: String,
    pub(super) to_number: u32,
    pub(super) selection: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    copy: Copy,
    /// That were copied, by all runs.
    pub(super) rows: u64,
    /// Partitions that are copied.
    done: BTreeSet<u32>,
    /// The last row of others up to which everything is copied.
    at: BTreeMap<u32, At>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    hash_key: Value,
    sort_key: Value,
}

impl State {
    pub(super) const fn new(copy: Copy) -> Self {
        Self {
            version: VERSION,
            copy,
            rows: 0,
            done: BTreeSet::new(),
            at: BTreeMap::new(),
        }
    }

    /// What the file says, or the beginning if there is none.
    ///
    /// # Errors
    /// The file is about another copy, or is none of ours.
    pub(super) fn load(path: &Path, copy: Copy) -> anyhow::Result<Self> {
        let named = || path.display().to_string();
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::new(copy)),
            Err(error) => return Err(error).with_context(named),
        };
        let state: Self = serde_json::from_slice(&text).with_context(named)?;
        let refuse = |why: String| {
            let sentence = format!("{}: {why}", path.display());
            Err(Failed::error(Exit::Failed, sentence))
        };
        if state.version != VERSION {
            let found = state.version;
            return refuse(format!("version {found}, this program writes {VERSION}"));
        }
        if state.copy != copy {
            return refuse(
                "is of another copy: other tables, another cluster or other filters".to_owned(),
            );
        }
        let keys = state.at.values().map(At::key);
        if keys.into_iter().any(|key| key.is_none()) {
            return refuse("has a key that is none".to_owned());
        }
        Ok(state)
    }

    /// Replaces the file as a whole.
    pub(super) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let named = || path.display().to_string();
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let name = path
            .file_name()
            .context("not a file name")
            .with_context(named)?;
        let mut part = name.to_owned();
        part.push(format!(".part-{}", std::process::id()));
        let part = directory.join(part);
        let mut file = fs::File::create(&part).with_context(named)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&part, path))
            .with_context(named)
    }

    pub(super) fn is_done(&self, partition: u32) -> bool {
        self.done.contains(&partition)
    }

    /// Where a partition goes on.
    pub(super) fn start(&self, partition: u32) -> Option<RowKey> {
        self.at.get(&partition).and_then(At::key)
    }

    pub(super) fn copied(&mut self, partition: u32, last: (&[u8], &[u8])) {
        let at = At {
            hash_key: text::to_json(last.0),
            sort_key: text::to_json(last.1),
        };
        self.at.insert(partition, at);
    }

    pub(super) fn finished(&mut self, partition: u32) {
        self.at.remove(&partition);
        self.done.insert(partition);
    }
}

impl At {
    fn key(&self) -> Option<RowKey> {
        let hash_key = text::from_json(&self.hash_key)?;
        Some((hash_key, text::from_json(&self.sort_key)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn copy(to: &str) -> Copy {
        Copy {
            from: "a".to_owned(),
            from_number: 1,
            partitions: 8,
            to_meta: vec!["127.0.0.1:34601".to_owned()],
            to: to.to_owned(),
            to_number: 2,
            selection: String::new(),
        }
    }

    #[test]
    fn a_copy_goes_on_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let mut state = State::load(&path, copy("b")).unwrap();
        state.copied(3, (b"h\xff", b""));
        state.copied(4, (b"x", b"y"));
        state.finished(4);
        state.rows = 17;
        state.save(&path).unwrap();
        let read = State::load(&path, copy("b")).unwrap();
        assert_eq!(read, state);
        assert_eq!(read.start(3), Some((b"h\xff".to_vec(), Vec::new())));
        assert!(read.is_done(4) && !read.is_done(3) && read.start(5).is_none());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_another_copy_or_of_none_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        State::new(copy("b")).save(&path).unwrap();
        let error = State::load(&path, copy("c")).unwrap_err();
        assert!(error.to_string().contains("another copy"), "{error}");
        fs::write(&path, "{}").unwrap();
        assert!(State::load(&path, copy("b")).is_err());
    }
}
