//! Where scans of Apache Pegasus clients stand: a number for each, good for one page.
//!
//! A scanner is what is left of its range; it pins no state of the engine, so a page shows the rows as they are when it is
//! read. Numbers grow from a random one, so that those of an earlier life of the node name nothing. One that nobody asks
//! for within [`LIFE`] is forgotten, the oldest also when there are too many: its client begins anew behind the last row
//! it has, as after a change of primaries.

use super::ShardLoop;
use super::read::ReadTask;
use bytes::Bytes;
use pegasus_fbs::code::Code;
use pegasus_net::request::{Failure, Filter, Invalid, OpenScanner, Operation, Response};
use pegasus_replication::ids::{Instant, PartitionId};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How long a client may take between two pages (Apache Pegasus: 5 minutes).
const LIFE: Duration = Duration::from_secs(300);
/// Scanners of one core.
const COUNT_MAX: usize = 10_000;
/// Bytes of their bounds and filters.
const BYTES_MAX: usize = 16 << 20;
/// What one costs beside its bounds and filters.
const BYTES_EACH: usize = 256;
/// Numbers fit into 48 bits, so that whoever packs more into 64 has room.
const NUMBER_BITS: u32 = 48;

/// All scanners of one core.
#[derive(Debug)]
pub(super) struct Scanners {
    /// By number, and so by age.
    kept: BTreeMap<u64, Kept>,
    bytes: usize,
    next: u64,
}

#[derive(Debug)]
struct Kept {
    partition: PartitionId,
    rest: OpenScanner,
    bytes: usize,
    until: Instant,
}

impl Default for Scanners {
    fn default() -> Self {
        let random = RandomState::new().hash_one(0);
        Self {
            kept: BTreeMap::new(),
            bytes: 0,
            // The upper half of the numbers stays for those that will be given out.
            next: random >> (u64::BITS - NUMBER_BITS + 1),
        }
    }
}

impl Scanners {
    /// Keeps what is left of a scan; its number. Takes a copy of the bytes, so that no frame stays in memory for it.
    pub(super) fn keep(&mut self, now: Instant, partition: PartitionId, rest: &OpenScanner) -> u64 {
        let rest = detached(rest);
        let bytes = bytes_of(&rest);
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        let kept = Kept {
            partition,
            rest,
            bytes,
            until: now.after(LIFE),
        };
        self.kept.insert(number, kept);
        self.forget(now);
        number
    }

    /// The scanner of this number, which is no longer one then; `None` if it was forgotten or is another partition's.
    pub(super) fn take(
        &mut self,
        now: Instant,
        partition: PartitionId,
        number: u64,
    ) -> Option<OpenScanner> {
        self.forget(now);
        if self.kept.get(&number)?.partition != partition {
            return None;
        }
        let kept = self.kept.remove(&number)?;
        self.bytes -= kept.bytes;
        Some(kept.rest)
    }

    /// Those whose time is over, and the oldest of too many.
    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.kept.first_entry() {
            let is_over = oldest.get().until <= now;
            let is_too_much = self.bytes > BYTES_MAX && oldest.key() + 1 < self.next;
            if !is_over && !is_too_much && self.kept.len() <= COUNT_MAX {
                return;
            }
            if let Some((_, kept)) = self.kept.pop_first() {
                self.bytes -= kept.bytes;
            }
        }
    }
}

impl ShardLoop {
    /// The read that an operation asks for, and the scanner if it is a page of one.
    pub(super) fn read_of(
        &mut self,
        partition: PartitionId,
        operation: Operation,
        now_s: u32,
    ) -> Result<(ReadTask, Option<OpenScanner>), Failure> {
        let scanner = match operation {
            Operation::OpenScanner(scanner) => scanner,
            Operation::NextPage { context } => {
                let Some(scanner) = self.scanners.take(self.now, partition, context) else {
                    let failure = Failure::new(Code::NotFound, "no such scanner");
                    return Ok((ReadTask::known(partition, Err(failure)), None));
                };
                scanner
            }
            operation => {
                let task = match self.known_answer(partition, &operation)? {
                    Some(response) => ReadTask::known(partition, Ok(response)),
                    None => ReadTask::new(partition, operation, now_s)?,
                };
                return Ok((task, None));
            }
        };
        let task = ReadTask::page(partition, &scanner, now_s)?;
        Ok((task, Some(scanner)))
    }

    /// The answer to an operation that needs no row; it is given where the partition is served.
    fn known_answer(
        &mut self,
        partition: PartitionId,
        operation: &Operation,
    ) -> Result<Option<Response>, Failure> {
        Ok(match operation {
            Operation::CloseScanner { context } => {
                self.scanners.take(self.now, partition, *context);
                Some(Response::Silent)
            }
            Operation::Invalid(Invalid::Argument(what)) => Some(Response::InvalidArgument(what)),
            // Apache Pegasus looks at the size before it asks whether the replica here is the primary.
            Operation::Invalid(Invalid::TooLarge { .. }) if self.is_missing(partition) => {
                let message = format!("partition {partition}");
                return Err(Failure::new(Code::NotHere, message));
            }
            Operation::Invalid(Invalid::TooLarge { bytes, max }) => {
                let message = format!("request body of {bytes} bytes, the limit is {max}");
                return Err(Failure::new(Code::TooLarge, message));
            }
            _ => None,
        })
    }

    fn is_missing(&self, partition: PartitionId) -> bool {
        self.shard.replica(partition).is_none()
    }
}

/// With bytes of its own.
fn detached(scanner: &OpenScanner) -> OpenScanner {
    let filter = |filter: &Filter| Filter {
        kind: filter.kind,
        pattern: Bytes::copy_from_slice(&filter.pattern),
    };
    OpenScanner {
        start_key: Bytes::copy_from_slice(&scanner.start_key),
        stop_key: Bytes::copy_from_slice(&scanner.stop_key),
        hash_filter: filter(&scanner.hash_filter),
        sort_filter: filter(&scanner.sort_filter),
        ..*scanner
    }
}

fn bytes_of(scanner: &OpenScanner) -> usize {
    BYTES_EACH
        + scanner.start_key.len()
        + scanner.stop_key.len()
        + scanner.hash_filter.pattern.len()
        + scanner.sort_filter.pattern.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_replication::ids::TableId;

    const PARTITION: PartitionId = PartitionId {
        table: TableId(2),
        index: 1,
    };

    fn scanner(start_key: &[u8]) -> OpenScanner {
        OpenScanner {
            start_key: Bytes::copy_from_slice(start_key),
            start_inclusive: true,
            stop_key: Bytes::new(),
            stop_inclusive: false,
            hash_filter: Filter::default(),
            sort_filter: Filter::default(),
            batch_rows: 10,
            no_value: false,
            only_count: false,
            return_expiry: false,
        }
    }

    #[test]
    fn a_number_is_good_for_one_page_of_its_own_partition() {
        let mut scanners = Scanners::default();
        let first = scanners.keep(Instant(0), PARTITION, &scanner(b"a"));
        let second = scanners.keep(Instant(0), PARTITION, &scanner(b"b"));
        assert_ne!(first, second);
        let other = PartitionId {
            index: 2,
            ..PARTITION
        };
        assert_eq!(scanners.take(Instant(1), other, first), None);
        assert_eq!(
            scanners.take(Instant(1), PARTITION, first),
            Some(scanner(b"a"))
        );
        assert_eq!(scanners.take(Instant(1), PARTITION, first), None);
        assert_eq!(
            scanners.take(Instant(1), PARTITION, second),
            Some(scanner(b"b"))
        );
        assert_eq!(scanners.bytes, 0);
    }

    #[test]
    fn nobody_waits_longer_than_five_minutes_for_a_client() {
        let mut scanners = Scanners::default();
        let early = scanners.keep(Instant(0), PARTITION, &scanner(b"a"));
        let late = scanners.keep(Instant(1), PARTITION, &scanner(b"b"));
        let end = Instant(0).after(LIFE);
        assert_eq!(scanners.take(end, PARTITION, early), None);
        assert!(scanners.take(end, PARTITION, late).is_some());
    }

    #[test]
    fn the_oldest_make_room_and_the_newest_stays() {
        let mut scanners = Scanners::default();
        let numbers: Vec<u64> = (0..=COUNT_MAX)
            .map(|_| scanners.keep(Instant(0), PARTITION, &scanner(b"a")))
            .collect();
        assert_eq!(scanners.kept.len(), COUNT_MAX);
        assert_eq!(scanners.take(Instant(0), PARTITION, numbers[0]), None);
        let large = vec![0; BYTES_MAX + 1];
        let newest = scanners.keep(Instant(0), PARTITION, &scanner(&large));
        assert_eq!(scanners.kept.len(), 1);
        assert!(scanners.take(Instant(0), PARTITION, newest).is_some());
    }

    #[test]
    fn numbers_of_two_lives_do_not_meet() {
        let numbers: Vec<u64> = (0..2)
            .map(|_| Scanners::default().keep(Instant(0), PARTITION, &scanner(b"a")))
            .collect();
        assert_ne!(numbers[0], numbers[1]);
        assert!(numbers.iter().all(|number| *number < 1 << NUMBER_BITS));
    }
}
