//! A point read of RocksDB and what is in front of it, of rows that are all in memory.

use super::Operate;
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use pegasus_engine::rocks::{EngineOptions, NoticeSink, Opened, RocksStore};
use pegasus_engine::{Batch, Engine as _, Op, Tier, key};
use pegasus_replication::ids::{Ballot, PartitionId, ReplicaIncarnation, RequestId, TableId};
use tempfile::TempDir;

const ROWS: u64 = 2_000;
const PARTITION: PartitionId = PartitionId {
    table: TableId(1),
    index: 0,
};

struct Reads {
    // Closed before its directory goes.
    opened: Opened,
    _directory: TempDir,
    keys: Vec<Bytes>,
    found: u64,
}

pub(super) fn prepare() -> anyhow::Result<Box<dyn Operate>> {
    let directory = tempfile::tempdir().context("a directory for the engine")?;
    let opened = RocksStore::open(
        directory.path(),
        &EngineOptions::default(),
        NoticeSink::new(|_| ()),
    )?;
    for created in opened.store.create(&[(PARTITION, ReplicaIncarnation(1))]) {
        created?;
    }
    let mut reads = Reads {
        opened,
        _directory: directory,
        keys: (0..ROWS).map(raw_key).collect::<Result<_, _>>()?,
        found: 0,
    };
    reads.fill()?;
    // Whatever is in front of the engine has seen all of them.
    for number in 0..ROWS {
        reads.operate(number);
    }
    reads.found = 0;
    Ok(Box::new(reads))
}

fn raw_key(number: u64) -> anyhow::Result<Bytes> {
    let hash_key = format!("user{number:012}");
    key::encode(hash_key.as_bytes(), b"").map_err(|error| anyhow!("{error:?}"))
}

impl Reads {
    /// Into table files, so that the way to a block is counted wherever nothing is in front of it.
    fn fill(&mut self) -> anyhow::Result<()> {
        let value = Bytes::from(vec![b'v'; 100]);
        let ops: Vec<Op> = self
            .keys
            .iter()
            .map(|key| Op::Put {
                key: key.clone(),
                value: value.clone(),
                expire_at: 0,
            })
            .collect();
        let engine = &mut self.opened.engine;
        let decree = engine
            .last_applied(PARTITION)
            .context("the replica was created")?
            .decree
            .next();
        let payload = Batch::from_ops(&ops)
            .map_err(|error| anyhow!("{error:?}"))?
            .encode();
        let (ballot, id) = (Ballot::new(0, 1), RequestId::default());
        engine.apply(PARTITION, decree, ballot, 1, id, &payload)?;
        engine.begin_flush(PARTITION)?;
        self.opened.store.flush(PARTITION)?;
        Ok(())
    }
}

impl Operate for Reads {
    fn operate(&mut self, number: u64) {
        // A prime step: no two reads after one another are neighbours.
        let index = number.wrapping_mul(7_919) % ROWS;
        let key = usize::try_from(index).ok().and_then(|it| self.keys.get(it));
        let engine = &self.opened.engine;
        let read = key.map(|key| engine.get(PARTITION, key, 1, Tier::CacheOnly));
        self.found += u64::from(matches!(read, Some(Ok(Some(_)))));
    }

    fn answers(&self) -> u64 {
        self.found
    }
}
