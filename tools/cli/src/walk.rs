//! All rows of a table, partition by partition, for commands that do something with each of them.

use crate::patience::Patience;
use futures::TryStreamExt as _;
use futures::stream::{self, StreamExt as _};
use pegasus_client::{FullScan, Row, Table};
use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The key of a row.
pub(crate) type RowKey = (Vec<u8>, Vec<u8>);

/// What a walk meets in a partition.
#[derive(Debug)]
pub(crate) enum Met {
    Rows(Vec<Row>),
    /// The partition has no more.
    End,
}

/// Partitions that are read at the same time.
const PARTITIONS_AT_ONCE: usize = 4;

/// Gives `each` the rows of all partitions, page by page: pages of one partition one after the other and in the order of
/// keys, those of several partitions at the same time. `start` says where a partition begins, if not at its first row.
///
/// # Errors
/// Those of `each`, or a page that cannot be read, after some patience. Nothing is called after one.
pub(crate) async fn walk(
    table: &Table,
    partitions: Range<u32>,
    scan: &FullScan,
    start: impl Fn(u32) -> Option<RowKey>,
    each: impl AsyncFn(u32, Met) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // One page of each partition at a time, so that what `each` takes long for is not fetched ahead.
    let scan = &FullScan {
        concurrency: 1,
        ..scan.clone()
    };
    let (start, each) = (&start, &each);
    let walks = partitions.map(|partition| one(table, partition, scan, start(partition), each));
    stream::iter(walks)
        .buffer_unordered(PARTITIONS_AT_ONCE)
        .try_collect::<()>()
        .await
}

async fn one(
    table: &Table,
    partition: u32,
    scan: &FullScan,
    start: Option<RowKey>,
    each: &impl AsyncFn(u32, Met) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut scanner = match start {
        None => table.partition_scan(partition, scan),
        Some((hash_key, sort_key)) => {
            table.partition_scan_after(partition, scan, (&hash_key, &sort_key))?
        }
    };
    let mut patience = Patience::new();
    while let Some(page) = scanner.next_page().await {
        match page {
            Ok(rows) => {
                patience = Patience::new();
                each(partition, Met::Rows(rows)).await?;
            }
            // The scanner asks again for the page that failed.
            Err(error) => patience.wait_after(error).await?,
        }
    }
    each(partition, Met::End).await
}

/// Lets so many through each second.
#[derive(Debug)]
pub(crate) struct Pace {
    between: Duration,
    next: Cell<Instant>,
}

impl Pace {
    /// `None`: as many as come.
    pub(crate) fn new(per_second: Option<u32>) -> Self {
        let between =
            per_second.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.max(1));
        Self {
            between,
            next: Cell::new(Instant::now()),
        }
    }

    /// Waits until the next `count` may pass.
    pub(crate) async fn take(&self, count: u32) {
        /// What a timer cannot tell apart.
        const TICK: Duration = Duration::from_millis(2);
        let wait = self.reserve(Instant::now(), count);
        if wait > TICK {
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait for them; who comes later waits for these, too.
    fn reserve(&self, now: Instant, count: u32) -> Duration {
        let at = self.next.get().max(now);
        self.next.set(at + self.between.saturating_mul(count));
        at - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_spreads_what_passes_over_the_time_it_takes() {
        let pace = Pace::new(Some(1_000));
        let now = Instant::now() + Duration::from_secs(1);
        let ms = Duration::from_millis;
        assert_eq!(pace.reserve(now, 1), ms(0));
        assert_eq!(pace.reserve(now, 10), ms(1));
        assert_eq!(pace.reserve(now, 1), ms(11));
        // Time that nobody used is not caught up with.
        assert_eq!(pace.reserve(now + ms(100), 1), ms(0));
        assert_eq!(pace.reserve(now + ms(100), 1), ms(1));
        let free = Pace::new(None);
        free.reserve(now, u32::MAX);
        assert_eq!(free.reserve(now, 1), ms(0));
    }
}
