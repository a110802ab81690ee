//! Which keys clients ask a core for most, always known: a sample of its requests, counted in two sketches of a fixed size,
//! one for requests that read and one for those that write.
//!
//! A request that is not sampled costs two additions. The sample is thinned out as requests become more, so that about
//! [`SAMPLES_PER_SECOND`] are looked at however many come: under 0.1 % of a core. Which ones is left to chance, because a
//! pattern in the order of requests would be met by one in the sample.
//!
//! Counts are those of the last one to two windows of [`WINDOW`]; see `sketch` for how exact they are. The core puts what
//! it knows where others read it ([`Board`]) once a second: one that is stuck can still be asked what it was busy with.

mod sketch;

use pegasus_net::request::{HotKey, HotKeys as Told};
use pegasus_replication::ids::{Instant, PartitionId};
use sketch::Sketch;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Requests looked at per second, about, when there are more.
const SAMPLES_PER_SECOND: u64 = 2_000;
/// One in so many is looked at at least.
const PERIOD_MAX: u32 = 4_096;
/// Counts are of the present window and the one before.
const WINDOW: Duration = Duration::from_secs(15);
/// How often what is known is put on the board.
const TELL_PERIOD: Duration = Duration::from_secs(1);

/// The hot keys of one core.
#[derive(Debug)]
pub(super) struct HotKeys {
    /// Requests until the next one that is looked at.
    left: u32,
    /// One request in so many is.
    period: u32,
    dice: u32,
    /// Looked at in this second.
    sampled: u64,
    /// All requests with a key in this second.
    seen_in_second: u64,
    now: Window,
    before: Window,
    /// When the present second ends.
    tell_at: Instant,
    board: Board,
}

/// What was counted in one window.
#[derive(Debug, Default)]
struct Window {
    since: Instant,
    /// All requests with a key, not only those looked at; by class.
    seen: [u64; 2],
    sketches: [Sketch; 2],
}

/// Where others read what a core knows; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Board(Arc<Mutex<Arc<Told>>>);

impl Board {
    /// What was put there last.
    pub(super) fn read(&self) -> Arc<Told> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&told)
    }
}

impl HotKeys {
    pub(super) fn new(now: Instant) -> Self {
        let window = || Window {
            since: now,
            ..Window::default()
        };
        Self {
            left: 1,
            period: 1,
            dice: 1,
            sampled: 0,
            seen_in_second: 0,
            now: window(),
            before: window(),
            tell_at: now.after(TELL_PERIOD),
            board: Board::default(),
        }
    }

    pub(super) fn board(&self) -> Board {
        self.board.clone()
    }

    /// A request with a key has come; true: it has to be looked at now ([`Self::look_at`]).
    #[inline]
    pub(super) fn is_sampled(&mut self, is_write: bool) -> bool {
        self.now.seen[usize::from(is_write)] += 1;
        self.left -= 1;
        self.left == 0
    }

    /// Counts a request of the sample. `hash`: the one that picks the partition. Without allocation.
    pub(super) fn look_at(
        &mut self,
        partition: PartitionId,
        is_write: bool,
        key: &[u8],
        hash: u64,
    ) {
        let sketch = &mut self.now.sketches[usize::from(is_write)];
        sketch.add(partition, key, hash, u64::from(self.period));
        self.sampled += 1;
        if self.sampled >= 2 * SAMPLES_PER_SECOND {
            // More come than in the second before.
            self.sampled = SAMPLES_PER_SECOND;
            self.period = (self.period * 2).min(PERIOD_MAX);
        }
        // Between 1 and 2 * period - 1, so that it is the period in the mean (the generator of Numerical Recipes).
        self.dice = self
            .dice
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let span = u64::from(2 * self.period - 1);
        let skip = (u64::from(self.dice) * span) >> 32;
        self.left = u32::try_from(skip).unwrap_or(0) + 1;
    }

    /// Whether a second is over.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.tell_at
    }

    /// A second is over: says what is known, and turns the windows over when it is time.
    pub(super) fn tell(&mut self, now: Instant) {
        self.tell_at = now.after(TELL_PERIOD);
        self.adapt();
        if now.since(self.now.since) >= WINDOW {
            std::mem::swap(&mut self.now, &mut self.before);
            self.now.clear(now);
            self.seen_in_second = 0;
        }
        // Whoever reads holds it for the time of a copy; the next second tells what this one could not.
        if let Ok(mut told) = self.board.0.try_lock() {
            let is_quiet = self.now.is_empty() && self.before.is_empty();
            if !(is_quiet && told.keys.is_empty()) {
                *told = Arc::new(self.told(now));
            }
        }
    }

    /// Thins the sample out, or no more, by what came in the last second.
    fn adapt(&mut self) {
        let seen: u64 = self.now.seen.iter().sum();
        let last = seen.saturating_sub(self.seen_in_second);
        let period = u32::try_from(last / SAMPLES_PER_SECOND).unwrap_or(PERIOD_MAX);
        self.period = period.clamp(1, PERIOD_MAX);
        self.left = self.left.min(2 * self.period);
        self.seen_in_second = seen;
        self.sampled = 0;
    }

    fn told(&self, now: Instant) -> Told {
        let mut keys = Vec::new();
        for (class, is_write) in [(0, false), (1, true)] {
            let counted = self.now.sketches[class].with(&self.before.sketches[class]);
            keys.extend(counted.into_iter().map(|it| HotKey {
                table: it.partition.table.0,
                partition: it.partition.index,
                is_write,
                key: it.key.into(),
                key_bytes: it.key_bytes,
                count: it.count,
                error: it.error,
            }));
        }
        keys.sort_by_key(|key| std::cmp::Reverse(key.count - key.error));
        let window = now.since(self.before.since);
        Told {
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            reads: self.now.seen[0] + self.before.seen[0],
            writes: self.now.seen[1] + self.before.seen[1],
            keys,
        }
    }
}

impl Window {
    fn clear(&mut self, now: Instant) {
        self.since = now;
        self.seen = [0; 2];
        self.sketches.iter_mut().for_each(Sketch::clear);
    }

    fn is_empty(&self) -> bool {
        self.seen == [0; 2]
    }
}

#[cfg(test)]
mod tests;
