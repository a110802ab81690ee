//! What is known about all records between two runs, in a file: so that a later run notices what was lost meanwhile.
//!
//! JSON. `load` writes it, every verifying run reads it and writes it again. While a run is under way the file says
//! `unfinished`; if it still does when the next run reads it, later versions than the known ones are believed once.

use super::cell::Cell;
use crate::layout::{CellName, Layout};
use crate::value::LOADED_VERSION;
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

pub(crate) const FORMAT: u32 = 1;

/// Whose state it is: a run must not be judged by another's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) target: String,
    pub(crate) layout: Layout,
    pub(crate) records: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    format: u32,
    #[serde(flatten)]
    pub(super) key: Key,
    /// Every record holds the version that `load` writes, unless it is among `cells`.
    loaded: bool,
    /// A run that wrote did not come to its end.
    pub(super) unfinished: bool,
    /// Cells that hold something else, as `RECORD/FIELD`.
    cells: BTreeMap<String, Left>,
}

/// What a cell may hold. Version 0 is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Left {
    /// In effect; more than one when overlapping writes were not read since.
    pub(super) live: Vec<u64>,
    /// Of unknown outcome: may be in effect, or still get there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) open: Vec<u64>,
}

impl State {
    /// All records hold what `load` writes.
    pub(crate) fn loaded(key: Key) -> Self {
        Self {
            loaded: true,
            ..Self::unknown(key)
        }
    }

    pub(super) fn unknown(key: Key) -> Self {
        Self {
            format: FORMAT,
            key,
            loaded: false,
            unfinished: false,
            cells: BTreeMap::new(),
        }
    }

    /// Reads a state of `key`.
    ///
    /// # Errors
    /// Names the file: it cannot be read, is no state, or is another's.
    pub(crate) fn read(path: &Path, key: &Key) -> anyhow::Result<Self> {
        let named = || path.display().to_string();
        let file = File::open(path).with_context(named)?;
        let state: Self = serde_json::from_reader(BufReader::new(file))
            .with_context(|| format!("{} is no verify state", path.display()))?;
        ensure!(
            state.format == FORMAT,
            "{}: format {}, this program knows {FORMAT}",
            path.display(),
            state.format
        );
        ensure!(
            state.key == *key,
            "{}: it is about {} with {} records of {:?}, not {} with {} records of {:?}",
            path.display(),
            state.key.target,
            state.key.records,
            state.key.layout,
            key.target,
            key.records,
            key.layout
        );
        Ok(state)
    }

    /// Replaces the file, durably and at once.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let temporary = temporary_beside(path);
        let named = || temporary.display().to_string();
        let mut file = BufWriter::new(File::create(&temporary).with_context(named)?);
        serde_json::to_writer(&mut file, self).with_context(named)?;
        file.flush().with_context(named)?;
        file.get_ref().sync_all().with_context(named)?;
        std::fs::rename(&temporary, path).with_context(|| path.display().to_string())
    }

    /// To be written before a run starts to write.
    pub(crate) fn begun(&self) -> Self {
        Self {
            unfinished: true,
            ..self.clone()
        }
    }

    /// `left`: `None` if nothing is known about the cell.
    pub(super) fn keep(&mut self, name: CellName, left: Option<Left>) {
        let text = text_of(name);
        let as_loaded = self.loaded
            && name.record < self.key.records
            && left
                .as_ref()
                .is_some_and(|left| left.open.is_empty() && left.live == [LOADED_VERSION]);
        match left {
            Some(left) if !as_loaded => self.cells.insert(text, left),
            _ => self.cells.remove(&text),
        };
    }

    /// A cell as it was left.
    pub(super) fn initial(&self, name: CellName, loaded: bool) -> Cell {
        let cell = match self.cells.get(&text_of(name)) {
            Some(left) => Cell::left(left),
            None if !self.loaded => return Cell::unknown(!loaded),
            None if loaded => Cell::left(&Left {
                live: vec![LOADED_VERSION],
                open: Vec::new(),
            }),
            None => Cell::absent(),
        };
        if self.unfinished {
            cell.or_later()
        } else {
            cell
        }
    }
}

fn text_of(name: CellName) -> String {
    format!("{}/{}", name.record, name.field)
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}
