//! The short way of the most frequent request: a get of one row that is in the row cache, of a partition that this core
//! serves and on which nobody has set anything. It is answered in the turn in which it comes, without a ticket and without
//! an event; whatever does not go this way goes that of all requests, a row that is not cached among it.
//!
//! All that have come with a look into the sockets are answered together, so that the waits for memory of one are
//! those of all ([`pegasus_engine::RocksEngine::approach`]), and what is the same for a partition is found out once.
//!
//! **Why it may be answered.** The clock was read when the ring had been looked at, after all of these requests had come.
//! If this core may answer reads of the partition at that time, then what is applied is all that anybody was told by then,
//! and nothing is applied before they are answered: only this thread applies, later in the turn. So the answer is right as
//! of that time, which lies between question and answer, however long the thread is held up in between.

use super::ShardLoop;
use super::admit::{partition_id, timeout_of};
use super::read::no_such_row;
use crate::clock;
use crate::stall::Phase;
use crate::stats::of_operation;
use pegasus_engine::rocks::{CachedRows, RowHint};
use pegasus_engine::value::seconds_since_epoch;
use pegasus_engine::{Engine, RocksEngine, key};
use pegasus_fbs::code::Code;
use pegasus_fbs::hash::key_hash;
use pegasus_fbs::stats_page::{Counter, PartitionCounter, Stage, Timing};
use pegasus_net::IoEvent;
use pegasus_net::request::{Operation, Redis, Request, Response};
use pegasus_redis::{Calls, Kind};
use pegasus_replication::ids::{Instant, PartitionId, TableId};
use pegasus_resp::Value;

/// Longest raw key that goes this way.
const KEY_BYTES_MAX: usize = 62;
/// Reads that are looked up together: what is fetched for the last must not push out what was fetched for the first.
const TOGETHER_MAX: usize = 64;
/// Partitions of which it is remembered what was found out, for as long as nothing else happens.
const REMEMBERED: usize = 64;

/// Such reads of one look into the sockets.
#[derive(Debug)]
pub(super) struct QuickReads {
    waiting: Vec<QuickRead>,
    /// Of those that are looked up together; `None`: it goes the long way.
    places: Vec<Option<RowHint>>,
    hints: Vec<RowHint>,
    /// By the lowest bits of table and partition.
    served: Box<[Served; REMEMBERED]>,
    /// Counts looks; what was found out in another one does not count.
    look: u64,
}

/// One of them.
#[derive(Debug)]
struct QuickRead {
    /// Among the events of the look: requests are large, and stay where they are.
    at: usize,
    partition: PartitionId,
    key_hash: u64,
    deadline: Instant,
    key: [u8; KEY_BYTES_MAX],
    key_bytes: u8,
}

/// What is known of a partition in a look.
#[derive(Clone, Copy, Debug)]
struct Served {
    look: u64,
    partition: PartitionId,
    /// Its rows in the row cache and how many partitions its table has; `None`: its reads go the long way.
    rows: Option<(CachedRows, u32)>,
}

impl Default for QuickReads {
    fn default() -> Self {
        let nothing = Served {
            look: 0,
            partition: PartitionId {
                table: TableId(0),
                index: 0,
            },
            rows: None,
        };
        Self {
            waiting: Vec::new(),
            places: Vec::new(),
            hints: Vec::new(),
            served: Box::new([nothing; REMEMBERED]),
            look: 0,
        }
    }
}

impl QuickRead {
    fn raw_key(&self) -> &[u8] {
        self.key.get(..self.key_bytes.into()).unwrap_or_default()
    }

    /// Hash key and sort key.
    fn names(&self) -> (&[u8], &[u8]) {
        key::decode(self.raw_key()).unwrap_or_default()
    }

    /// Of a key without a sort key, as those of Redis are.
    fn redis_key(&self) -> &[u8] {
        let raw_key = self.raw_key();
        raw_key
            .get(key::HASH_KEY_LENGTH_BYTES..)
            .unwrap_or_default()
    }
}

impl ShardLoop {
    /// Whether the request `at` this place of the events may go the short way; it is looked at when all have come.
    pub(super) fn keep_quick(&mut self, at: usize, event: &IoEvent) -> bool {
        let IoEvent::Request {
            request, arrival, ..
        } = event
        else {
            return false;
        };
        let mut key = [0; KEY_BYTES_MAX];
        let Some((partition, key_hash, key_bytes)) = self.quick_key(request, &mut key) else {
            return false;
        };
        if !self.arrivals.note_at_once(partition.table.0) {
            return false;
        }
        let timeout = match request.operation {
            Operation::Redis(_) => super::redis::TIMEOUT,
            _ => timeout_of(request),
        };
        self.quick.waiting.push(QuickRead {
            at,
            partition,
            key_hash,
            deadline: Instant(arrival.received_ns).after(timeout),
            key,
            key_bytes,
        });
        true
    }

    /// The partition of a get of one row, the hash of its key and the length of its raw key, which is put into `key`.
    fn quick_key(
        &mut self,
        request: &Request,
        key: &mut [u8; KEY_BYTES_MAX],
    ) -> Option<(PartitionId, u64, u8)> {
        match &request.operation {
            Operation::Get(name) => {
                let bytes = key::encode_short(&name.hash_key, &name.sort_key, key)?;
                let hash = key_hash(&name.hash_key, &name.sort_key);
                Some((partition_id(request), hash, bytes))
            }
            Operation::Redis(Redis { table, calls }) => {
                let name = name_to_get(calls)?;
                let bytes = key::encode_short(name, b"", key)?;
                let hash = key_hash(name, b"");
                let partition = self.partition_by_name(table.as_ref(), hash)?;
                Some((partition, hash, bytes))
            }
            _ => None,
        }
    }

    /// Answers those that have come, of these events. Those that cannot be answered like this go the long way.
    pub(super) fn answer_quick(&mut self, events: &mut [IoEvent]) {
        if self.quick.waiting.is_empty() {
            return;
        }
        self.pulse.enter(Phase::Read);
        self.quick.look += 1;
        let now_s = seconds_since_epoch(clock::wall_us());
        let waiting = std::mem::take(&mut self.quick.waiting);
        let mut places = std::mem::take(&mut self.quick.places);
        for together in waiting.chunks(TOGETHER_MAX) {
            self.approach(together, &mut places);
            let found_at = clock::now();
            for (read, place) in together.iter().zip(places.drain(..)) {
                let Some(event) = events.get_mut(read.at) else {
                    continue;
                };
                if !self.answer_from_cache(read, event, place, (now_s, found_at)) {
                    self.on_io(std::mem::replace(event, IoEvent::Woken));
                }
            }
        }
        (self.quick.waiting, self.quick.places) = (waiting, places);
        self.quick.waiting.clear();
    }

    /// Finds out where the rows of these reads would be, and has them near.
    fn approach(&mut self, reads: &[QuickRead], places: &mut Vec<Option<RowHint>>) {
        for read in reads {
            places.push(self.place_of_row(read));
        }
        self.quick.hints.clear();
        self.quick.hints.extend(places.iter().flatten());
        self.engine.approach(&self.quick.hints);
    }

    /// `None`: it has to go the long way.
    fn place_of_row(&mut self, read: &QuickRead) -> Option<RowHint> {
        let (rows, partition_count) = self.served_rows(read.partition)?;
        let is_owner =
            read.key_hash % u64::from(partition_count) == u64::from(read.partition.index);
        let is_in_time = read.deadline > self.now;
        (is_owner && is_in_time).then(|| RocksEngine::hint(rows, read.raw_key()))
    }

    /// What is known of a partition in this look.
    fn served_rows(&mut self, partition: PartitionId) -> Option<(CachedRows, u32)> {
        let place = (partition.table.0.wrapping_mul(TABLE_STEP)).wrapping_add(partition.index);
        let place = place as usize % REMEMBERED;
        let known = self.quick.served[place];
        if (known.look, known.partition) == (self.quick.look, partition) {
            return known.rows;
        }
        let rows = self.find_out(partition);
        self.quick.served[place] = Served {
            look: self.quick.look,
            partition,
            rows,
        };
        rows
    }

    fn find_out(&mut self, partition: PartitionId) -> Option<(CachedRows, u32)> {
        let table = self.directory.tables.get(&partition.table)?;
        let is_free = table.settings.denial(false).is_none()
            && table.settings.throttles().is_none()
            && partition.index < table.partition_count;
        let may_answer =
            is_free && !self.is_stopping() && self.shard.may_answer(partition, self.now);
        if !may_answer {
            return None;
        }
        Some((self.engine.rows_of(partition)?, table.partition_count))
    }

    /// False: it cannot be answered from the row cache.
    fn answer_from_cache(
        &mut self,
        read: &QuickRead,
        event: &mut IoEvent,
        place: Option<RowHint>,
        (now_s, found_at): (u32, Instant),
    ) -> bool {
        let IoEvent::Request {
            from,
            request,
            arrival,
        } = event
        else {
            return false;
        };
        let Self {
            engine, io, stats, ..
        } = self;
        let mut cached = engine.cached();
        let found = place.and_then(|place| cached.find(place, read.raw_key(), now_s));
        let is_redis = matches!(request.operation, Operation::Redis(_));
        let row = match found {
            None => return false,
            // It may be a hash.
            Some(None) if is_redis && !engine.is_plain(read.partition, read.redis_key()) => {
                return false;
            }
            Some(row) => row,
        };
        let (counter, _) = of_operation(&request.operation);
        stats.count(counter);
        if is_redis {
            stats.count(Counter::RequestGet);
        }
        stats.count(Counter::ReadsFromMemory);
        let slot = stats.count_request(read.partition, Some(Timing::Get));
        let (hash_key, sort_key) = read.names();
        stats.note_key(read.partition, false, read.key_hash, (hash_key, sort_key));
        let arrived = &*arrival;
        let hash = Some(read.key_hash);
        let trace = stats.begin(Some(Timing::Get), request, hash, arrived, self.now);
        stats.admitted(trace, Stage::Read, self.now);
        if !stats.measures_stages() {
            stats.record(Timing::Get, found_at.since(Instant(arrived.received_ns)));
        }
        let code = match (row, is_redis) {
            (None, false) => Code::NotFound,
            _ => Code::Ok,
        };
        if let Some(value) = row {
            let bytes = value.len() as u64;
            stats.add(Counter::RowsRead, 1);
            stats.add(Counter::BytesRead, bytes);
            stats.add_of(slot, PartitionCounter::RowsRead, 1);
            stats.add_of(slot, PartitionCounter::BytesRead, bytes);
            stats.set_bytes(trace, bytes);
            self.arrivals.charge_read(read.partition.table, bytes);
        }
        let receipt = stats.answered(trace, code, found_at);
        if let Some(receipt) = receipt
            && stats.may_be_slow(Instant(arrived.received_ns), found_at)
        {
            stats.note_client(receipt, io.client_of(from));
        }
        match (row, is_redis) {
            (Some(value), _) => io.reply_value(from, value, receipt),
            (None, true) => io.reply_at(from, &Ok(Response::Redis(Value::Null)), receipt),
            (None, false) => io.reply_at(from, &Err(no_such_row()), receipt),
        }
        true
    }
}

/// The key of a GET.
fn name_to_get(calls: &Calls) -> Option<&[u8]> {
    match calls {
        Calls::One(call) if call.spec.kind == Kind::Get => Some(call.argument(1)),
        Calls::One(_) | Calls::Transaction(_) => None,
    }
}

/// Odd, so that the partitions of a table lie beside each other and those of another one elsewhere.
const TABLE_STEP: u32 = 0x9e37_79b1;
