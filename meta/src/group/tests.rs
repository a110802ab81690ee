//! Members of groups: their storage by openraft's own suite, damaged directories, and whole groups over loopback.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests damage files"
)]

mod damage;
mod groups;

use super::log::{self, Log};
use super::machine::Machine;
use super::raft::{StorageError, Types};
use crate::state::{Cluster, ClusterId, Durable};
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

const CLUSTER: ClusterId = ClusterId(77);

fn empty() -> Durable {
    Durable::new(Cluster {
        id: CLUSTER,
        name: "tried".to_owned(),
        epoch: 0,
    })
}

struct Builder;

impl StoreBuilder<Types, Log, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        log::create(dir.path(), CLUSTER).unwrap();
        let log = Log::open(dir.path(), CLUSTER).unwrap();
        let machine = Machine::open(dir.path(), CLUSTER).unwrap();
        Ok((dir, log.with_file_bytes_max(512), machine))
    }
}

#[test]
fn the_storage_does_what_openraft_asks_of_it() {
    Suite::test_all(Builder).unwrap();
}
