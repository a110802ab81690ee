//! Streaming scanners. Pages are stateless: each request carries the key to go on after, so a scan survives restarts
//! and moves of partitions, and costs the server nothing between pages.

use crate::driver::{Answer, Target};
use crate::encode::{self, Builder};
use crate::error::{Error, Result};
use crate::options::{FullScan, HashScan};
use crate::reply::{self, Page, Row};
use crate::table::Table;
use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::hash::key_hash;
use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Rows as they come, from [`Table::hash_scan`], [`Table::full_scan`] or [`Table::partition_scan`]; also a
/// [`futures::Stream`].
///
/// After an error the scan may be continued: the next call asks again for the page that failed, and no row is delivered
/// twice. Rows written during the scan may or may not be seen.
#[derive(Debug)]
pub struct Scanner {
    table: Table,
    what: Arc<What>,
    concurrency: usize,
    /// Ranges of which no page is being fetched.
    waiting: VecDeque<Cursor>,
    fetching: FuturesUnordered<BoxFuture<'static, (Cursor, Result<Page>)>>,
    rows: std::vec::IntoIter<Row>,
}

#[derive(Debug)]
enum What {
    HashKey(Bytes, HashScan),
    Partition(FullScan),
    Count(FullScan),
}

/// How far one partition has been read.
#[derive(Debug)]
struct Cursor {
    target: Target,
    /// Empty = from the start.
    resume_key: Bytes,
}

impl Scanner {
    pub(crate) fn of_hash_key(table: Table, hash_key: &[u8], options: &HashScan) -> Self {
        let target = Target::Hash(key_hash(hash_key, &[]));
        let what = What::HashKey(Bytes::copy_from_slice(hash_key), options.clone());
        Self::new(table, what, 1, [target])
    }

    pub(crate) fn of_partitions(table: Table, partitions: Range<u32>, options: &FullScan) -> Self {
        let what = What::Partition(options.clone());
        Self::new(
            table,
            what,
            options.concurrency,
            partitions.map(Target::Partition),
        )
    }

    pub(crate) fn counting(table: Table, partitions: Range<u32>, options: &FullScan) -> Self {
        let what = What::Count(options.clone());
        Self::new(
            table,
            what,
            options.concurrency,
            partitions.map(Target::Partition),
        )
    }

    fn new(
        table: Table,
        what: What,
        concurrency: usize,
        targets: impl IntoIterator<Item = Target>,
    ) -> Self {
        let cursor = |target| Cursor {
            target,
            resume_key: Bytes::new(),
        };
        Self {
            table,
            what: Arc::new(what),
            concurrency: concurrency.max(1),
            waiting: targets.into_iter().map(cursor).collect(),
            fetching: FuturesUnordered::new(),
            rows: Vec::new().into_iter(),
        }
    }

    /// Every range that was not begun goes on behind a raw key.
    pub(crate) fn after(mut self, raw_key: Bytes) -> Self {
        for cursor in &mut self.waiting {
            cursor.resume_key = raw_key.clone();
        }
        self
    }

    /// The next row, or `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Row>> {
        StreamExt::next(self).await
    }

    /// The next rows that came together, never none of them, or `None` at the end. Cheaper than row by row.
    pub async fn next_page(&mut self) -> Option<Result<Vec<Row>>> {
        loop {
            let left: Vec<Row> = std::mem::take(&mut self.rows).collect();
            if !left.is_empty() {
                return Some(Ok(left));
            }
            match std::future::poll_fn(|context| self.poll_page(context)).await? {
                Ok(page) => self.rows = page.rows.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    pub(crate) async fn sum_counts(mut self) -> Result<u64> {
        let mut sum = 0_u64;
        while let Some(page) = std::future::poll_fn(|context| self.poll_page(context)).await {
            sum = sum.saturating_add(page?.count);
        }
        Ok(sum)
    }

    fn poll_page(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Page>>> {
        while self.fetching.len() < self.concurrency {
            let Some(cursor) = self.waiting.pop_front() else {
                break;
            };
            self.fetching.push(Box::pin(fetch(
                self.table.clone(),
                Arc::clone(&self.what),
                cursor,
            )));
        }
        let Some((cursor, result)) = ready!(self.fetching.poll_next_unpin(context)) else {
            return Poll::Ready(None);
        };
        let result = match result {
            Ok(page) => {
                if !page.complete {
                    let resume_key = page.resume_key.clone();
                    self.waiting.push_front(Cursor {
                        target: cursor.target,
                        resume_key,
                    });
                }
                Ok(page)
            }
            Err(error) => {
                self.waiting.push_back(cursor);
                Err(error)
            }
        };
        Poll::Ready(Some(result))
    }
}

impl Stream for Scanner {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Row>>> {
        loop {
            if let Some(row) = self.rows.next() {
                return Poll::Ready(Some(Ok(row)));
            }
            match ready!(self.poll_page(context)) {
                Some(Ok(page)) => self.rows = page.rows.into_iter(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

async fn fetch(table: Table, what: Arc<What>, cursor: Cursor) -> (Cursor, Result<Page>) {
    let result = fetch_page(&table, &what, &cursor).await;
    (cursor, result)
}

async fn fetch_page(table: &Table, what: &What, cursor: &Cursor) -> Result<Page> {
    let resume_key = &cursor.resume_key[..];
    let body = |builder: &mut Builder| match what {
        What::HashKey(hash_key, options) => {
            encode::hash_scan(builder, hash_key, options, resume_key)
        }
        What::Partition(options) => encode::full_scan(builder, options, false, resume_key),
        What::Count(options) => encode::full_scan(builder, options, true, resume_key),
    };
    let page = match table
        .read(FrameKind::Scan, cursor.target, resume_key.len(), &body)
        .await?
    {
        Answer::Body(body) => reply::read_page(&body)?,
        Answer::NotFound => Page {
            complete: true,
            ..Page::default()
        },
    };
    if !page.complete && (page.resume_key.is_empty() || page.resume_key == resume_key) {
        return Err(Error::failed(
            Code::Internal,
            "answer: a scan that makes no progress",
        ));
    }
    // The key outlives the page: it must not keep the page's memory.
    Ok(Page {
        resume_key: Bytes::copy_from_slice(&page.resume_key),
        ..page
    })
}
