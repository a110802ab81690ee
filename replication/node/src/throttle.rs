//! Throttles of a table as Apache Pegasus has them: so many requests, or bytes, in each second of the wall clock.
//!
//! A throttle is set for a table and holds for each of its partitions by itself: `units / partition_count + 1` for those
//! that count requests or written bytes, `bytes / partition_count` for bytes read. Nothing here reads a clock.

use pegasus_replication::ids::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

const WRITES: &str = "replica.write_throttling";
const WRITTEN_BYTES: &str = "replica.write_throttling_by_size";
const READS: &str = "replica.read_throttling";
const READ_BYTES: &str = "replica.read_throttling_by_size";

/// What is set for a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttles {
    writes: Option<Throttle>,
    written_bytes: Option<Throttle>,
    reads: Option<Throttle>,
    /// In each second.
    read_bytes: Option<u64>,
}

/// One that counts: over some units requests are delayed, over some others rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    delay: Option<Bound>,
    reject: Option<Bound>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    /// Of the whole table.
    units: u64,
    pause: Duration,
}

/// How a request fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// It is executed after this time.
    Delay(Duration),
    /// It is told that the server is busy after this time.
    Reject(Duration),
}

/// What a partition has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    writes: Window,
    written_bytes: Window,
    reads: Window,
    read_bytes: Bucket,
}

/// When a request comes, and how long its client waits for it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Wall clock: any epoch, in seconds.
    pub second: u64,
    /// For what is measured by time that never jumps.
    pub now: Instant,
    pub timeout: Duration,
}

/// Units of the present second.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    second: u64,
    units: u64,
}

/// Bytes that may be read; below zero after a large read.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    bytes: i128,
    filled: Option<Instant>,
}

impl Throttles {
    /// Those among the settings of a table; `None` if there are none. What is no throttle has no effect.
    #[must_use]
    pub fn of(envs: &BTreeMap<String, String>) -> Option<Self> {
        let of = |key: &str| envs.get(key).and_then(|value| Throttle::of(value));
        let throttles = Self {
            writes: of(WRITES),
            written_bytes: of(WRITTEN_BYTES),
            reads: of(READS),
            read_bytes: envs.get(READ_BYTES).and_then(|value| read_bytes(value)),
        };
        (throttles != Self::default()).then_some(throttles)
    }

    /// A write with a body of `bytes`.
    pub fn on_write(
        &self,
        usage: &mut Usage,
        partition_count: u32,
        bytes: u64,
        moment: Moment,
    ) -> Verdict {
        let counted = [
            (self.writes, &mut usage.writes, 1),
            (self.written_bytes, &mut usage.written_bytes, bytes),
        ];
        for (throttle, window, units) in counted {
            let verdict = throttle.map(|it| it.judge(window, partition_count, units, moment));
            if let Some(verdict @ (Verdict::Delay(_) | Verdict::Reject(_))) = verdict {
                return verdict;
            }
        }
        Verdict::Pass
    }

    /// A read, before its size is known.
    pub fn on_read(&self, usage: &mut Usage, partition_count: u32, moment: Moment) -> Verdict {
        let verdict = self.reads.map_or(Verdict::Pass, |throttle| {
            throttle.judge(&mut usage.reads, partition_count, 1, moment)
        });
        if let Some(rate) = self.bytes_per_second(partition_count)
            && verdict == Verdict::Pass
            && usage.read_bytes.left(rate, moment.now) <= 0
        {
            return Verdict::Reject(Duration::ZERO);
        }
        verdict
    }

    /// A read has returned so much.
    pub fn after_read(&self, usage: &mut Usage, partition_count: u32, bytes: u64, now: Instant) {
        if let Some(rate) = self.bytes_per_second(partition_count) {
            usage.read_bytes.left(rate, now);
            usage.read_bytes.bytes -= i128::from(bytes);
        }
    }

    /// Bytes read are counted.
    #[must_use]
    pub const fn counts_read_bytes(&self) -> bool {
        self.read_bytes.is_some()
    }

    fn bytes_per_second(&self, partition_count: u32) -> Option<u64> {
        let bytes = self.read_bytes?;
        Some(bytes / u64::from(partition_count.max(1)))
    }
}

impl Throttle {
    /// `20000*delay*100,20M*reject*100`: at most one of each.
    #[must_use]
    pub fn of(value: &str) -> Option<Self> {
        let mut throttle = Self::default();
        for part in value.split(',') {
            let mut fields = part.split('*');
            let (amount, what, pause) = (fields.next()?, fields.next()?, fields.next()?);
            let bound = Bound {
                units: units(amount)?,
                pause: Duration::from_millis(pause.parse::<u32>().ok()?.into()),
            };
            let place = match what {
                "delay" => &mut throttle.delay,
                "reject" => &mut throttle.reject,
                _ => return None,
            };
            if fields.next().is_some() || place.replace(bound).is_some() {
                return None;
            }
        }
        Some(throttle)
    }

    /// What is rejected does not count.
    fn judge(
        &self,
        window: &mut Window,
        partition_count: u32,
        units: u64,
        moment: Moment,
    ) -> Verdict {
        if window.second != moment.second {
            *window = Window {
                second: moment.second,
                units: 0,
            };
        }
        let used = window.units.saturating_add(units);
        let count = u64::from(partition_count.max(1));
        let is_over = |bound: &Bound| used > (bound.units / count).saturating_add(1);
        let pause = |bound: Bound| bound.pause.min(moment.timeout / 2);
        if let Some(bound) = self.reject.filter(is_over) {
            return Verdict::Reject(pause(bound));
        }
        window.units = used;
        self.delay
            .filter(is_over)
            .map_or(Verdict::Pass, |bound| Verdict::Delay(pause(bound)))
    }
}

impl Bucket {
    /// What is in it now; it fills at `rate` bytes per second up to one second's worth.
    fn left(&mut self, rate: u64, now: Instant) -> i128 {
        const SECOND: i128 = 1_000_000_000;
        let rate = i128::from(rate);
        let Some(filled) = self.filled else {
            self.filled = Some(now);
            self.bytes = rate;
            return self.bytes;
        };
        let elapsed = i128::try_from(now.since(filled).as_nanos()).unwrap_or(i128::MAX >> 64);
        let added = elapsed * rate / SECOND;
        if added > 0 {
            // Only the time of whole bytes is used up, so that none is lost between two looks.
            let used = u64::try_from(added * SECOND / rate).unwrap_or(u64::MAX);
            self.filled = Some(filled.after(Duration::from_nanos(used)));
        }
        self.bytes = rate.min(self.bytes + added);
        self.bytes
    }
}

/// Bytes per second: a number, or the form of the other throttles, whose rejecting part counts.
fn read_bytes(value: &str) -> Option<u64> {
    units(value).or_else(|| Some(Throttle::of(value)?.reject?.units))
}

/// A number, with `K` (1,024) or `M` (1,048,576) behind it if wanted.
fn units(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests;
