//! The store of a leader's term: what it appends a majority has before anybody is told.

use super::BATCH_BYTES_MAX;
use super::machine::Machine;
use super::raft::{Applied, Batch, Raft};
use crate::state::{Change, Durable};
use crate::store::format::change;
use crate::store::{Store, StoreError};
use openraft::error::{CheckIsLeaderError, RaftError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};

/// A majority that has not answered for so long is not there.
pub(super) const PATIENCE: Duration = Duration::from_millis(2_000);
/// Before a majority is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// A group, as one leader sees it in one term.
pub(super) struct GroupStore {
    pub(super) raft: Raft,
    pub(super) machine: Machine,
    pub(super) runtime: Handle,
    pub(super) term: u64,
    /// Number of the last batch.
    pub(super) number: u64,
}

impl Store for GroupStore {
    fn append(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.expect_term()?;
        let mut bytes = Vec::new();
        change::encode_batch(changes, &mut bytes);
        if bytes.len() > BATCH_BYTES_MAX {
            let path = format!("a batch of {} bytes", bytes.len()).into();
            return Err(StoreError::Full { path });
        }
        let batch = Batch {
            follows: self.number,
            changes: bytes.into(),
        };
        self.number = self.runtime.block_on(write(&self.raft, batch))?;
        Ok(())
    }

    fn wants_snapshot(&self) -> bool {
        // Members make theirs by themselves.
        false
    }

    fn snapshot(&mut self, _durable: &Durable) -> Result<(), StoreError> {
        Ok(())
    }

    fn load(&self) -> Result<Durable, StoreError> {
        let durable = self.machine.content().durable;
        let durable = durable.ok_or_else(|| deposed("the group has not begun", false))?;
        Ok(Durable::clone(&durable))
    }

    fn confirm(&mut self) -> Result<(), StoreError> {
        self.runtime.block_on(confirm(&self.raft))?;
        self.expect_term()?;
        let now = self.machine.content().number;
        if now != self.number {
            return Err(deposed("another leader has decided something", false));
        }
        Ok(())
    }
}

impl GroupStore {
    fn expect_term(&self) -> Result<(), StoreError> {
        let metrics = self.raft.metrics().borrow().clone();
        let leads = metrics.state.is_leader() && metrics.current_term == self.term;
        if leads {
            Ok(())
        } else {
            Err(deposed("its term is over", false))
        }
    }
}

/// Has a majority agree on `batch`; the batch's number.
pub(super) async fn write(raft: &Raft, batch: Batch) -> Result<u64, StoreError> {
    match tokio::time::timeout(PATIENCE, raft.client_write(batch)).await {
        Ok(Ok(written)) => match written.data {
            Applied::Done { number } => Ok(number),
            Applied::Refused { .. } | Applied::Nothing => {
                Err(deposed("another leader has decided something", false))
            }
        },
        // It may have reached others, which may come to agree on it.
        Ok(Err(error)) => Err(deposed(&error.to_string(), true)),
        Err(_) => Err(deposed("no majority of the group answers", true)),
    }
}

/// Asks a majority whether this member leads, and waits until it knows everything that was agreed on before.
pub(super) async fn confirm(raft: &Raft) -> Result<(), StoreError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match timeout_at(deadline, raft.ensure_linearizable()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)))) => {}
            Ok(Err(error)) => return Err(deposed(&error.to_string(), false)),
            Err(_) => return Err(deposed("no majority of the group answers", false)),
        }
        sleep(PAUSE).await;
    }
}

pub(super) fn deposed(reason: &str, may_be_stored: bool) -> StoreError {
    StoreError::Deposed {
        reason: reason.to_owned(),
        may_be_stored,
    }
}
