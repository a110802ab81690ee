use crate::fake::{Fake, client_of, primaries, rows_reply};
use futures::TryStreamExt;
use pegasus_client::{Code, Error, FullScan, HashScan, Pattern, Row, SortKeyRange, Table};
use pegasus_fbs::frame::{Frame, FrameKind};
use pegasus_fbs::{body, kv};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const PAGES: usize = 3;

/// Answers page after page of one partition: two rows each, named after partition and page. The resume key is the number
/// of the page to come.
fn answer_page(frame: &Frame) -> Vec<u8> {
    let request = body::read::<kv::ScanRequest<'_>>(&frame.body).unwrap();
    let page = match body::bytes(request.resume_key()) {
        [] => 0,
        [page] => usize::from(*page),
        other => panic!("resume key {other:?}"),
    };
    let hash = format!("p{}", frame.header.partition);
    let (first, second) = (format!("{page}a"), format!("{page}b"));
    let next = u8::try_from(page + 1).unwrap();
    let resume = (page + 1 < PAGES).then_some([next]);
    let rows = [(&hash[..], &first[..], "v"), (&hash[..], &second[..], "v")];
    rows_reply(
        if request.only_count() { &[] } else { &rows },
        resume.as_ref().map(|key| &key[..]),
        2,
    )
}

async fn table_of(core: &Fake, partitions: usize) -> (Fake, Table) {
    let meta = Fake::meta(&primaries(&vec![&core.address[..]; partitions])).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    (meta, table)
}

fn names(rows: &[Row]) -> Vec<String> {
    rows.iter()
        .map(|row| {
            String::from_utf8([&row.hash_key[..], b"/", &row.sort_key[..]].concat()).unwrap()
        })
        .collect()
}

#[tokio::test]
async fn a_full_scan_reads_every_page_of_every_partition_once() {
    let core = Fake::start(|frame, out| out.reply(&frame.header, &answer_page(&frame))).await;
    let (_meta, table) = table_of(&core, 5).await;
    let rows: Vec<Row> = table
        .full_scan(&FullScan {
            concurrency: 2,
            ..FullScan::default()
        })
        .try_collect()
        .await
        .unwrap();
    assert_eq!(rows.len(), 5 * PAGES * 2);
    assert_eq!(
        names(&rows).into_iter().collect::<BTreeSet<_>>().len(),
        rows.len()
    );
}

#[tokio::test]
async fn a_partition_scan_is_in_order_and_row_by_row() {
    let core = Fake::start(|frame, out| out.reply(&frame.header, &answer_page(&frame))).await;
    let (_meta, table) = table_of(&core, 4).await;
    let mut scanner = table.partition_scan(2, &FullScan::default());
    let mut rows = Vec::new();
    while let Some(row) = scanner.next().await {
        rows.push(row.unwrap());
    }
    assert_eq!(
        names(&rows),
        ["p2/0a", "p2/0b", "p2/1a", "p2/1b", "p2/2a", "p2/2b"]
    );
    assert!(scanner.next().await.is_none());
}

#[tokio::test]
async fn no_more_partitions_are_read_at_once_than_asked_for() {
    let held = Arc::new(Mutex::new(Vec::<Frame>::new()));
    let most = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&most);
    let core = Fake::start(move |frame, out| {
        let mut held = held.lock().unwrap();
        held.push(frame);
        counted.fetch_max(u32::try_from(held.len()).unwrap(), Ordering::Relaxed);
        if held.len() == 3 {
            held.drain(..)
                .for_each(|frame| out.reply(&frame.header, &answer_page(&frame)));
        }
    })
    .await;
    let (_meta, table) = table_of(&core, 3).await;
    let mut scanner = table.full_scan(&FullScan {
        concurrency: 3,
        ..FullScan::default()
    });
    let mut count = 0;
    while count < 6 {
        count += scanner.next_page().await.unwrap().unwrap().len();
    }
    assert_eq!(most.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_scan_goes_on_after_an_error_where_it_was() {
    let mut failed = false;
    let core = Fake::start(move |frame, out| {
        let resumed = !body::bytes(
            body::read::<kv::ScanRequest<'_>>(&frame.body)
                .unwrap()
                .resume_key(),
        )
        .is_empty();
        if resumed && !failed {
            failed = true;
            out.fail(&frame.header, Code::InvalidArgument);
        } else {
            out.reply(&frame.header, &answer_page(&frame));
        }
    })
    .await;
    let (_meta, table) = table_of(&core, 2).await;
    let mut scanner = table.partition_scan(0, &FullScan::default());
    let (mut rows, mut errors) = (Vec::new(), 0);
    while let Some(page) = scanner.next_page().await {
        match page {
            Ok(page) => rows.extend(page),
            Err(Error::Failed { .. }) => errors += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(errors, 1);
    assert_eq!(
        names(&rows),
        ["p0/0a", "p0/0b", "p0/1a", "p0/1b", "p0/2a", "p0/2b"]
    );
}

#[tokio::test]
async fn a_scan_survives_a_lost_connection() {
    let mut requests = 0;
    let core = Fake::start(move |frame, out| {
        requests += 1;
        match requests {
            2 => out.close(),
            _ => out.reply(&frame.header, &answer_page(&frame)),
        }
    })
    .await;
    let (_meta, table) = table_of(&core, 2).await;
    let rows: Vec<Row> = table
        .partition_scan(1, &FullScan::default())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(rows.len(), PAGES * 2);
}

#[tokio::test]
async fn a_scan_that_makes_no_progress_is_an_error() {
    let core = Fake::start(|frame, out| {
        out.reply(
            &frame.header,
            &rows_reply(&[("h", "s", "v")], Some(b"same"), 0),
        )
    })
    .await;
    let (_meta, table) = table_of(&core, 2).await;
    let error = table
        .partition_scan(0, &FullScan::default())
        .try_collect::<Vec<Row>>()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::Internal), "{error}");
}

#[tokio::test]
async fn a_hash_scan_carries_its_options_and_goes_to_the_keys_partition() {
    let frames = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&frames);
    let core = Fake::start(move |frame, out| {
        out.reply(&frame.header, &rows_reply(&[], None, 0));
        kept.lock().unwrap().push(frame);
    })
    .await;
    let (_meta, table) = table_of(&core, 4).await;
    let options = HashScan {
        range: SortKeyRange {
            start: "a".into(),
            stop: "z".into(),
            stop_inclusive: true,
            ..SortKeyRange::default()
        },
        filter: Some(Pattern::prefix("ab")),
        no_value: true,
        batch_rows: 10,
        batch_bytes: 1_000,
    };
    assert!(
        table
            .hash_scan(b"user_1", &options)
            .unwrap()
            .next()
            .await
            .is_none()
    );
    let frame = frames.lock().unwrap().pop().unwrap();
    assert_eq!(
        (frame.header.kind, frame.header.partition),
        (FrameKind::Scan, 3)
    );
    let scan = body::read::<kv::ScanRequest<'_>>(&frame.body).unwrap();
    assert_eq!(body::bytes(scan.hash_key()), b"user_1");
    assert_eq!(
        (body::bytes(scan.start_sort_key()), scan.start_inclusive()),
        (&b"a"[..], true)
    );
    assert_eq!(
        (body::bytes(scan.stop_sort_key()), scan.stop_inclusive()),
        (&b"z"[..], true)
    );
    assert_eq!(
        (scan.sort_filter(), body::bytes(scan.sort_filter_pattern())),
        (kv::Filter::Prefix, &b"ab"[..])
    );
    assert_eq!(
        (scan.no_value(), scan.batch_rows(), scan.batch_bytes()),
        (true, 10, 1_000)
    );
}

#[tokio::test]
async fn a_full_scan_carries_its_filters() {
    let frames = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&frames);
    let core = Fake::start(move |frame, out| {
        out.reply(&frame.header, &rows_reply(&[], None, 0));
        kept.lock().unwrap().push(frame);
    })
    .await;
    let (_meta, table) = table_of(&core, 2).await;
    let options = FullScan {
        hash_filter: Some(Pattern::anywhere("h")),
        sort_filter: Some(Pattern::postfix("s")),
        ..FullScan::default()
    };
    assert!(table.partition_scan(0, &options).next().await.is_none());
    let frame = frames.lock().unwrap().pop().unwrap();
    let scan = body::read::<kv::ScanRequest<'_>>(&frame.body).unwrap();
    assert!(scan.hash_key().is_none());
    assert_eq!(
        (scan.hash_filter(), body::bytes(scan.hash_filter_pattern())),
        (kv::Filter::Anywhere, &b"h"[..])
    );
    assert_eq!(
        (scan.sort_filter(), body::bytes(scan.sort_filter_pattern())),
        (kv::Filter::Postfix, &b"s"[..])
    );
}

#[tokio::test]
async fn rows_are_counted_by_the_servers() {
    let core = Fake::start(|frame, out| out.reply(&frame.header, &answer_page(&frame))).await;
    let (_meta, table) = table_of(&core, 4).await;
    assert_eq!(
        table.count(&FullScan::default()).await.unwrap(),
        4 * 2 * PAGES as u64
    );
}

#[tokio::test]
async fn a_partition_that_does_not_exist_is_refused() {
    let core = Fake::start(|frame, out| out.reply(&frame.header, &answer_page(&frame))).await;
    let (_meta, table) = table_of(&core, 2).await;
    let error = table
        .partition_scan(2, &FullScan::default())
        .next()
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
}
