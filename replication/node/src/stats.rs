//! The statistics of one core: a shared file that tools read without asking (layout: `pegasus_fbs::stats_page`).
//!
//! Counting is an add in the core's own memory, timing an add in place; every few milliseconds the numbers are published.

#[allow(
    unsafe_code,
    reason = "mapping a file into memory; each block says why it may"
)]
mod page_map;

use page_map::PageMap;
use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{Counter, Gauge, Timing, Writer};
use pegasus_net::request::Operation;
use pegasus_replication::ids::{CoreId, Instant, NodeId};
use std::io;
use std::path::Path;
use std::time::Duration;

/// How often counters and gauges are copied into the page.
const PUBLISH_PERIOD: Duration = Duration::from_millis(20);

/// The statistics of one core, written by its thread alone.
#[derive(Debug)]
pub struct Stats {
    writer: Writer<PageMap>,
    publish_at: Instant,
    /// Answers were given since the last publication.
    has_news: bool,
}

impl Stats {
    /// Makes the page of `core` at `path`, or takes over the one an earlier life left.
    ///
    /// # Errors
    /// The file cannot be made, sized or mapped.
    pub fn create(
        path: &Path,
        node: NodeId,
        core: CoreId,
        started_unix_us: u64,
    ) -> io::Result<Self> {
        let page = PageMap::create(path)?;
        let writer = Writer::new(page, node.0, core.0, std::process::id(), started_unix_us);
        Ok(Self {
            writer,
            publish_at: Instant::default(),
            has_news: false,
        })
    }

    pub fn count(&mut self, counter: Counter) {
        self.writer.add(counter, 1);
    }

    pub fn add(&mut self, counter: Counter, amount: u64) {
        self.writer.add(counter, amount);
    }

    pub fn set_counter(&mut self, counter: Counter, value: u64) {
        self.writer.set_counter(counter, value);
    }

    pub fn set(&mut self, gauge: Gauge, value: u64) {
        self.writer.set(gauge, value);
    }

    pub fn record(&mut self, timing: Timing, duration: Duration) {
        self.writer.record(timing, duration);
    }

    /// An answered request: its code, and how long it took where the operation has a histogram.
    pub fn answered(&mut self, timing: Option<Timing>, code: Code, duration: Duration) {
        self.has_news = true;
        self.writer.add(Counter::answer(code), 1);
        if let Some(timing) = timing {
            self.writer.record(timing, duration);
        }
    }

    /// Whether `publish` is due; gauges are only gathered then.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.publish_at
    }

    /// The last publication of a core that ends as it should.
    pub fn stop(self, wall_us: u64) {
        self.writer.stop(wall_us);
    }

    /// When a core with nothing to do should publish: a reader that comes later must not take requests of long ago for
    /// new ones.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.has_news.then_some(self.publish_at)
    }

    pub fn publish(&mut self, now: Instant, wall_us: u64) {
        self.has_news = false;
        self.publish_at = now.after(PUBLISH_PERIOD);
        self.writer.publish(wall_us);
    }
}

/// The counter and the histogram of an operation.
#[must_use]
pub const fn of_operation(operation: &Operation) -> (Counter, Option<Timing>) {
    match operation {
        Operation::Get(_) => (Counter::RequestGet, Some(Timing::Get)),
        Operation::Put(_) => (Counter::RequestPut, Some(Timing::Put)),
        Operation::Remove(_) => (Counter::RequestRemove, Some(Timing::Remove)),
        Operation::Exist(_) => (Counter::RequestExist, Some(Timing::Exist)),
        Operation::Ttl(_) => (Counter::RequestTtl, Some(Timing::Ttl)),
        Operation::MultiPut(_) => (Counter::RequestMultiPut, Some(Timing::MultiPut)),
        Operation::MultiGet(_) => (Counter::RequestMultiGet, Some(Timing::MultiGet)),
        Operation::MultiRemove(_) => (Counter::RequestMultiRemove, Some(Timing::MultiRemove)),
        Operation::BatchGet(_) => (Counter::RequestBatchGet, Some(Timing::BatchGet)),
        Operation::SortKeyCount { .. } => {
            (Counter::RequestSortKeyCount, Some(Timing::SortKeyCount))
        }
        Operation::Scan(_) => (Counter::RequestScan, Some(Timing::Scan)),
        Operation::Route { .. } => (Counter::RequestRoute, None),
        Operation::Ping => (Counter::RequestPing, None),
    }
}
