//! Statistics of a core: where requests spend their time, told by its page and over the wire, whatever the node's state.

use crate::harness::{PATIENCE, TestCluster, TestNode};
use pegasus_client::{Client, ClientOptions, Code, CoreSnapshot, Error, Table};
use pegasus_fbs::stats_page::{
    Class, Counter, Gauge, RequestTimes, Snapshot, Stage, Timing, read_at,
};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn page(node: &TestNode, core: u16) -> PathBuf {
    let stats = node.dir().join("stats");
    let mut files: Vec<PathBuf> = std::fs::read_dir(stats)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.swap_remove(usize::from(core))
}

/// What the page of a core says, once it satisfies `condition`.
fn page_with(path: &Path, what: &str, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let snapshot = read_at(path).unwrap();
        if condition(&snapshot) {
            return snapshot;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        std::thread::yield_now();
    }
}

fn count(snapshot: &Snapshot, timing: Timing) -> u64 {
    snapshot.histogram(timing).count()
}

/// Whether the stages of all answered requests are published.
fn is_settled(page: &Snapshot) -> bool {
    Class::ALL.into_iter().all(|class| {
        let of_class = Timing::operations()
            .iter()
            .filter(|timing| timing.class() == Some(class));
        let answered: u64 = of_class.map(|timing| count(page, *timing)).sum();
        class
            .stages()
            .all(|(_, timing)| count(page, timing) == answered)
    })
}

async fn write_and_read(table: &Table, rows: u32) {
    for row in 0..rows {
        let key = row.to_be_bytes();
        table.put(&key, b"s", b"a value").await.unwrap();
        assert!(table.get(&key, b"s").await.unwrap().is_some());
    }
}

/// The stages of a class, over all cores.
fn sum_of_stages(pages: &[Snapshot], class: Class) -> Duration {
    let sums = pages.iter().flat_map(|page| {
        let stages = class.stages();
        stages.map(|(_, timing)| page.histogram(timing).sum())
    });
    sums.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stages_of_requests_add_up_to_what_they_took() {
    const ROWS: u32 = 60;
    let cluster = TestCluster::start(3, 1).await;
    let table = cluster.table("t", 4, 3).await;
    let started = Instant::now();
    write_and_read(&table, ROWS).await;
    let elapsed = started.elapsed();
    // An answer is told when the kernel has it, which the client may have seen before.
    let deadline = Instant::now() + PATIENCE;
    let pages: Vec<Snapshot> = loop {
        let pages: Vec<_> = cluster.nodes.iter().map(|node| page(node, 0)).collect();
        let pages: Vec<_> = pages.iter().map(|path| read_at(path).unwrap()).collect();
        let answered = |page| count(page, Timing::Put) + count(page, Timing::Get);
        let all = pages.iter().map(answered).sum::<u64>() == u64::from(2 * ROWS);
        if all && pages.iter().all(is_settled) {
            break pages;
        }
        assert!(Instant::now() < deadline, "not all requests are counted");
    };
    let total =
        |timing| -> Duration { pages.iter().map(|page| page.histogram(timing).sum()).sum() };
    assert_eq!(sum_of_stages(&pages, Class::Write), total(Timing::Put));
    assert_eq!(sum_of_stages(&pages, Class::Read), total(Timing::Get));
    // One request after the other: the client has waited for all of that, but for what a core needs to find that the
    // kernel has its answer.
    let sending = total(Timing::WriteSend) + total(Timing::ReadSend);
    let waited = total(Timing::Put) + total(Timing::Get) - sending;
    assert!(waited <= elapsed, "{waited:?} of {elapsed:?}");
    for stage in [Stage::Flush, Stage::Apply, Stage::Encode, Stage::Send] {
        let timing = stage.timing(Class::Write).unwrap();
        assert!(
            total(timing) > Duration::ZERO,
            "no time in {}",
            stage.name()
        );
    }
    for page in &pages {
        assert!(page.measures_stages());
        for slow in page.slow_requests() {
            check_whole(&slow.request);
        }
    }
}

fn check_whole(request: &RequestTimes) {
    assert_eq!(request.code, Code::Ok);
    assert_eq!(request.table, 1);
    assert!(request.partition < 4, "{request:?}");
    assert!(request.bytes >= 7, "{request:?}");
    assert_ne!(request.key_hash, 0);
    let stages = request.class().stages();
    let sum: Duration = stages.map(|(stage, _)| request.stage(stage)).sum();
    assert_eq!(sum, request.total());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_for_a_secondary_says_so() {
    let cluster = TestCluster::start(2, 1).await;
    let table = cluster.table("t", 2, 2).await;
    table.put(b"h", b"s", b"before").await.unwrap();
    let paths = [page(&cluster.nodes[0], 0), page(&cluster.nodes[1], 0)];
    let is_primary = |path: &PathBuf| {
        let snapshot = page_with(path, "the first write", |page| page.published_unix_us() > 0);
        snapshot.counter(Counter::RequestPut) > 0
    };
    let deadline = Instant::now() + PATIENCE;
    let primary = loop {
        match paths.iter().position(is_primary) {
            Some(index) => break index,
            None => assert!(Instant::now() < deadline, "nobody counts the write"),
        }
    };
    let secondary = &cluster.nodes[1 - primary];
    secondary.halt();
    let put = {
        let table = table.clone();
        tokio::spawn(async move { table.put(b"h", b"s", b"after").await })
    };
    let began = page_with(&paths[primary], "the write in flight", |page| {
        page.gauge(Gauge::RequestsInflight) == 1 && page.gauge(Gauge::LogPendingBytes) == 0
    });
    let held = Instant::now();
    page_with(&paths[primary], "later publications", |page| {
        page.published_unix_us() > began.published_unix_us() + 100_000
    });
    let held = held.elapsed();
    secondary.signal(Signal::CONT);
    put.await.unwrap().unwrap();
    let page = page_with(&paths[primary], "the write", |page| {
        count(page, Timing::Put) == 2
    });
    let slowest = page.slow_requests()[0].request;
    assert_eq!(slowest.operation, Timing::Put);
    let waited = slowest.stage(Stage::Replication);
    assert!(
        waited >= held,
        "{waited:?} of at least {held:?}: {slowest:?}"
    );
}

/// Asks with little patience: a stopped process answers nothing.
async fn ask(node: &TestNode, port: usize, core: Option<u16>) -> Result<CoreSnapshot, Error> {
    let address = node.clients()[port].to_string();
    asking(&address).await.core_stats(&address, core).await
}

async fn asking(address: &str) -> Client {
    let mut options = ClientOptions::new([address]);
    options.admin_timeout = PATIENCE;
    Client::connect(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_tells_its_own_page_and_those_of_the_others() {
    let cluster = TestCluster::start(1, 2).await;
    let table = cluster.table("t", 8, 1).await;
    const ROWS: u32 = 40;
    write_and_read(&table, ROWS).await;
    let node = &cluster.nodes[0];
    // A page is written a little after the answers have left.
    let counted = |core| page_with(&page(node, core), "a page", |_| true);
    let answers = |core| count(&counted(core), Timing::Get) + count(&counted(core), Timing::Put);
    let deadline = Instant::now() + PATIENCE;
    while answers(0) + answers(1) < u64::from(2 * ROWS) {
        assert!(Instant::now() < deadline, "some answers are never counted");
        std::thread::yield_now();
    }
    for core in 0..2 {
        let own = |page: &Snapshot| page.counter(Counter::RequestPut) > 0;
        let on_disk = page_with(&page(node, core), "all answers", |page| {
            own(page)
                && is_settled(page)
                && count(page, Timing::Put) == page.counter(Counter::RequestPut)
                && count(page, Timing::Get) == page.counter(Counter::RequestGet)
        });
        let itself = ask(node, usize::from(core), None).await.unwrap();
        let by_other = ask(node, usize::from(1 - core), Some(core)).await.unwrap();
        for told in [itself, by_other] {
            assert_eq!(told.identity(), on_disk.identity());
            assert_eq!(told.identity().core, u32::from(core));
            assert!(!told.is_torn());
            assert!(!told.slow_requests().is_empty());
            assert_eq!(told.slow_requests(), on_disk.slow_requests());
            for timing in Timing::operations().iter().chain(Timing::stages()) {
                assert_eq!(
                    told.histogram(*timing),
                    on_disk.histogram(*timing),
                    "{timing:?}"
                );
            }
            assert_eq!(
                told.counter(Counter::RequestPut),
                on_disk.counter(Counter::RequestPut)
            );
            assert_eq!(told.gauge(Gauge::Primaries), 4);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_for_statistics_that_nobody_can_answer_are_refused_in_a_sentence() {
    let cluster = TestCluster::start(1, 2).await;
    let error = ask(&cluster.nodes[0], 1, Some(2)).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound));
    assert!(error.to_string().contains("core 2"), "{error}");
    let meta = cluster.meta().to_string();
    let error = asking(&meta)
        .await
        .core_stats(&meta, None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::Unsupported), "{error}");
    let client = asking(&meta).await;
    let nobody = client.core_stats("127.0.0.1:1", None).await.unwrap_err();
    assert!(matches!(nobody, Error::NotExecuted(_)), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_stopped_and_of_a_dead_node_is_read_from_its_file() {
    let mut cluster = TestCluster::start(1, 1).await;
    let table = cluster.table("t", 2, 1).await;
    write_and_read(&table, 10).await;
    let path = page(&cluster.nodes[0], 0);
    page_with(&path, "all answers", |page| {
        page.counter(Counter::RequestPut) == 10
            && count(page, Timing::Put) == 10
            && count(page, Timing::Get) == 10
    });
    let node = &mut cluster.nodes[0];
    let address = node.clients()[0].to_string();
    let client = asking(&address).await;
    client.core_stats(&address, None).await.unwrap();
    node.halt();
    let asked = client.core_stats(&address, None);
    let silent = tokio::time::timeout(Duration::from_millis(200), asked).await;
    assert!(silent.is_err(), "a stopped process answers nothing");
    let stopped = read_at(&path).unwrap();
    assert_eq!(count(&stopped, Timing::Put), 10);
    assert!(!stopped.is_stopped(), "it has not ended as it should");
    let slow = stopped.slow_requests();
    assert_eq!(slow.len(), 16, "those of one minute");
    slow.iter().for_each(|slow| check_whole(&slow.request));
    node.signal(Signal::CONT);
    client.core_stats(&address, None).await.unwrap();

    node.kill();
    let dead = read_at(&path).unwrap();
    assert_eq!(dead.identity(), stopped.identity());
    assert_eq!(count(&dead, Timing::Get), 10);
    assert_eq!(dead.slow_requests().len(), 16);

    node.start_again();
    let next = page_with(&path, "the next life", |page| {
        page.identity() != dead.identity()
    });
    assert_eq!(next.slow_requests(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_are_switched_off_leave_whole_operations() {
    let mut cluster = TestCluster::start(1, 1).await;
    let node = &mut cluster.nodes[0];
    assert!(node.stop().success());
    let file = node.dir().with_extension("toml");
    std::fs::write(&file, "[process]\nstats.stages = 'off'\n").unwrap();
    node.flags = vec!["--config".to_owned(), file.display().to_string()];
    node.start_again();
    let table = cluster.table("t", 2, 1).await;
    write_and_read(&table, 20).await;
    let page = page_with(&page(&cluster.nodes[0], 0), "all answers", |page| {
        count(page, Timing::Put) == 20 && count(page, Timing::Get) == 20
    });
    assert!(!page.measures_stages());
    assert_eq!(page.slow_requests(), []);
    for timing in Timing::stages() {
        assert_eq!(count(&page, *timing), 0, "{timing:?}");
    }
}
