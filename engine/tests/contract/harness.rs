//! The two engines behind one face: create, flush, die and start again.

use bytes::Bytes;
use pegasus_engine::scan::KeyedRow;
use pegasus_engine::{
    ApplyAllError, ApplyError, Batch, Engine, MemEngine, Mutation, Op, ScanPage, ScanSpec, Stop,
    Tier, key,
};
use pegasus_replication::ids::{
    Ballot, Decree, PartitionId, ReplicaIncarnation, RequestId, TableId,
};
use std::collections::BTreeMap;

pub(crate) const INCARNATION: ReplicaIncarnation = ReplicaIncarnation(7);
pub(crate) const BALLOT: Ballot = Ballot::new(0, 3);

pub(crate) const fn partition(index: u32) -> PartitionId {
    PartitionId {
        table: TableId(1),
        index,
    }
}

pub(crate) fn raw(hash_key: &str, sort_key: &str) -> Bytes {
    key::encode(hash_key.as_bytes(), sort_key.as_bytes()).unwrap()
}

pub(crate) fn put(hash_key: &str, sort_key: &str, value: &str) -> Op {
    put_until(hash_key, sort_key, value, 0)
}

pub(crate) fn put_until(hash_key: &str, sort_key: &str, value: &str, expire_at: u32) -> Op {
    Op::Put {
        key: raw(hash_key, sort_key),
        value: Bytes::copy_from_slice(value.as_bytes()),
        expire_at,
    }
}

pub(crate) fn remove(hash_key: &str, sort_key: &str) -> Op {
    Op::Remove {
        key: raw(hash_key, sort_key),
    }
}

/// As the log would replay it.
pub(crate) fn mutation(partition: PartitionId, decree: Decree, payload: &[u8]) -> Mutation<'_> {
    Mutation {
        partition,
        decree,
        ballot: BALLOT,
        timestamp_us: decree.0 * 1000,
        request_id: RequestId::default(),
        payload,
    }
}

/// 400 bytes that no compression shrinks much, so that a few hundred rows fill several blocks.
#[cfg(feature = "rocks")]
pub(crate) fn bulky_value(number: u64) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut digits = String::new();
    while digits.len() < 400 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        digits.push_str(&format!("{state:016x}"));
    }
    digits
}

/// An engine with the things around it that a node does.
pub(crate) trait Subject {
    type Engine: Engine;

    fn engine(&self) -> &Self::Engine;
    fn engine_mut(&mut self) -> &mut Self::Engine;
    fn create(&mut self, partition: PartitionId);
    fn drop_replica(&mut self, partition: PartitionId);
    /// A whole flush as the node does it; returns the durable decree.
    fn flush(&mut self, partition: PartitionId) -> Decree;
    /// A flush without warning, as the engine's own limits cause it.
    fn flush_unmarked(&mut self, partition: PartitionId) -> Decree;
    /// The process dies and starts again.
    fn crash(&mut self);
    /// Exported, dropped, and made anew of the export.
    fn reimport(&mut self, partition: PartitionId);

    fn apply(&mut self, partition: PartitionId, ops: &[Op]) -> Decree {
        let decree = self.engine().last_applied(partition).unwrap().decree.next();
        self.apply_as(partition, decree, RequestId::default(), ops)
            .unwrap();
        decree
    }

    fn apply_as(
        &mut self,
        partition: PartitionId,
        decree: Decree,
        request_id: RequestId,
        ops: &[Op],
    ) -> Result<(), ApplyError> {
        let batch = Batch::from_ops(ops).unwrap();
        let payload = match request_id.client {
            0 => batch.encode(),
            _ => batch.encode_with_result(format!("done {}", request_id.sequence).as_bytes()),
        };
        // A time that replay repeats, as the log does.
        self.engine_mut().apply(
            partition,
            decree,
            BALLOT,
            decree.0 * 1000,
            request_id,
            &payload,
        )
    }

    /// Applies mutations of several partitions by one call, each with the decree that comes next.
    fn apply_together(
        &mut self,
        mutations: &[(PartitionId, Vec<Op>)],
    ) -> Result<(), ApplyAllError> {
        let mut decrees: BTreeMap<PartitionId, Decree> = BTreeMap::new();
        let mut payloads = Vec::new();
        for (partition, ops) in mutations {
            let applied = self.engine().last_applied(*partition);
            let decree = decrees
                .entry(*partition)
                .or_insert(applied.map_or(Decree::ZERO, |applied| applied.decree));
            *decree = decree.next();
            payloads.push((*partition, *decree, Batch::from_ops(ops).unwrap().encode()));
        }
        let mutations: Vec<Mutation<'_>> = payloads
            .iter()
            .map(|(partition, decree, payload)| mutation(*partition, *decree, payload))
            .collect();
        self.engine_mut().apply_all(&mutations)
    }

    fn value(
        &self,
        partition: PartitionId,
        hash_key: &str,
        sort_key: &str,
        now_s: u32,
    ) -> Option<String> {
        let row = self
            .engine()
            .get(partition, &raw(hash_key, sort_key), now_s, Tier::Full)
            .unwrap();
        row.map(|row| String::from_utf8(row.data.to_vec()).unwrap())
    }

    /// All pages of a read, with what ended the last one.
    fn read_all(&self, partition: PartitionId, spec: &ScanSpec) -> (Vec<KeyedRow>, usize, Stop) {
        let (mut rows, mut count) = (Vec::new(), 0);
        let mut spec = spec.clone();
        loop {
            let page: ScanPage = self.engine().scan(partition, &spec, Tier::Full).unwrap();
            let next = spec.resume(&page);
            rows.extend(page.rows);
            count += page.count;
            match next {
                Some(next) => spec = next,
                None => return (rows, count, page.stop),
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct Mem(pub(crate) MemEngine);

impl Subject for Mem {
    type Engine = MemEngine;

    fn engine(&self) -> &MemEngine {
        &self.0
    }

    fn engine_mut(&mut self) -> &mut MemEngine {
        &mut self.0
    }

    fn create(&mut self, partition: PartitionId) {
        self.0.create(partition, INCARNATION);
    }

    fn drop_replica(&mut self, partition: PartitionId) {
        assert!(self.0.drop_replica(partition, INCARNATION));
    }

    fn flush(&mut self, partition: PartitionId) -> Decree {
        self.0.flush(partition).unwrap()
    }

    fn flush_unmarked(&mut self, partition: PartitionId) -> Decree {
        self.0.flush_unmarked(partition).unwrap()
    }

    fn crash(&mut self) {
        self.0.crash();
    }

    fn reimport(&mut self, partition: PartitionId) {
        let export = self.0.export(partition).unwrap();
        self.drop_replica(partition);
        self.0.import(partition, INCARNATION, export).unwrap();
    }
}

#[cfg(feature = "rocks")]
pub(crate) use rocks::Rocks;

#[cfg(feature = "rocks")]
mod rocks {
    use super::{Decree, Engine, INCARNATION, PartitionId, Subject};
    use pegasus_engine::rocks::{
        Clock, EngineOptions, Notice, NoticeSink, Opened, RocksEngine, RocksStore,
    };
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};
    use tempfile::TempDir;

    /// A database in a temporary directory. Closing it flushes nothing, so closing it is dying.
    pub(crate) struct Rocks {
        opened: Option<Opened>,
        pub(crate) options: EngineOptions,
        now_s: Arc<AtomicU32>,
        notices: Arc<Mutex<Vec<Notice>>>,
        pub(crate) directory: TempDir,
    }

    impl Default for Rocks {
        fn default() -> Self {
            let now_s = Arc::new(AtomicU32::new(0));
            let clock = Arc::clone(&now_s);
            let options = EngineOptions {
                block_cache_bytes: 16 << 20,
                // Room for some of the rows of a test, so that they come and go.
                row_cache_bytes: 8 << 10,
                memtable_bytes_max: 16 << 20,
                replica_memtable_bytes_max: 4 << 20,
                clock: Clock::new(move || clock.load(Ordering::Relaxed)),
                ..EngineOptions::default()
            };
            Self::new(options, now_s)
        }
    }

    impl Rocks {
        fn new(options: EngineOptions, now_s: Arc<AtomicU32>) -> Self {
            let directory = TempDir::new().unwrap();
            let mut rocks = Self {
                opened: None,
                options,
                now_s,
                notices: Arc::default(),
                directory,
            };
            rocks.open();
            rocks
        }

        pub(crate) fn close(&mut self) {
            self.opened = None;
        }

        pub(crate) fn open(&mut self) -> &Opened {
            let notices = Arc::clone(&self.notices);
            let sink = NoticeSink::new(move |notice| notices.lock().unwrap().push(notice));
            let directory = self.directory.path().join("db");
            self.opened
                .insert(RocksStore::open(&directory, &self.options, sink).unwrap())
        }

        pub(crate) fn opened(&self) -> &Opened {
            self.opened.as_ref().unwrap()
        }

        pub(crate) fn store(&self) -> RocksStore {
            self.opened().store.clone()
        }

        pub(crate) fn set_now(&self, now_s: u32) {
            self.now_s.store(now_s, Ordering::Relaxed);
        }

        pub(crate) fn take_notices(&self) -> Vec<Notice> {
            std::mem::take(&mut self.notices.lock().unwrap())
        }
    }

    impl Subject for Rocks {
        type Engine = RocksEngine;

        fn engine(&self) -> &RocksEngine {
            &self.opened().engine
        }

        fn engine_mut(&mut self) -> &mut RocksEngine {
            &mut self.opened.as_mut().unwrap().engine
        }

        fn create(&mut self, partition: PartitionId) {
            assert_eq!(self.store().create(&[(partition, INCARNATION)]), [Ok(())]);
        }

        fn drop_replica(&mut self, partition: PartitionId) {
            self.engine_mut().forget(partition);
            self.store().drop_replica(partition, INCARNATION).unwrap();
        }

        fn flush(&mut self, partition: PartitionId) -> Decree {
            self.engine_mut().begin_flush(partition).unwrap();
            let durable = self.store().flush(partition).unwrap().decree;
            self.engine_mut().end_flush(partition, durable);
            durable
        }

        fn flush_unmarked(&mut self, partition: PartitionId) -> Decree {
            let durable = self.store().flush(partition).unwrap().decree;
            self.engine_mut().end_flush(partition, durable);
            durable
        }

        fn crash(&mut self) {
            self.close();
            self.open();
        }

        fn reimport(&mut self, partition: PartitionId) {
            self.engine_mut().begin_flush(partition).unwrap();
            let export = self.directory.path().join("reimport");
            self.store().export(partition, &export).unwrap();
            self.drop_replica(partition);
            self.store()
                .import(partition, INCARNATION, &export)
                .unwrap();
            std::fs::remove_dir_all(&export).unwrap();
        }
    }
}
