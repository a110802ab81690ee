//! Pages and nodes for the tests of these modules.

use pegasus_client::{CoreInfo, NodeInfo};
use pegasus_fbs::stats_page::{PAGE_WORDS, Snapshot, Writer};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type Page = Arc<[AtomicU64]>;

fn empty() -> Page {
    (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect()
}

/// The writer of a page of process 77 that started at time 0.
pub(crate) fn writer(node: u32, core: u16) -> Writer<Page> {
    Writer::new(empty(), node, core, 77, 0)
}

pub(crate) fn snapshot(node: u32, core: u16, published_us: u64) -> Snapshot {
    let mut writer = writer(node, core);
    writer.publish(published_us);
    writer.snapshot()
}

fn words(page: &Page) -> Vec<u64> {
    page.iter()
        .map(|word| word.load(Ordering::Relaxed))
        .collect()
}

pub(crate) fn stopped(node: u32, core: u16, at_us: u64) -> Snapshot {
    let page = empty();
    Writer::new(Arc::clone(&page), node, core, 77, 0).stop(at_us);
    Snapshot::of_words(&words(&page)).expect("a page")
}

/// The content of a page's file.
pub(crate) fn page_bytes(node: u32, core: u16) -> Vec<u8> {
    page_bytes_of(node, core, 77)
}

pub(crate) fn page_bytes_of(node: u32, core: u16, pid: u32) -> Vec<u8> {
    let page = empty();
    Writer::new(Arc::clone(&page), node, core, pid, 0).publish(1);
    words(&page)
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect()
}

/// A node on the host `host` with its pages in `stats_dir`.
pub(crate) fn node(number: u32, cores: u16, stats_dir: &Path) -> NodeInfo {
    let core = |index: u16| CoreInfo {
        client_address: format!("127.0.0.1:{}", 1000 + index),
        peer_address: format!("127.0.0.1:{}", 2000 + index),
        cpu: 0,
        replicas: 0,
        primaries: 0,
    };
    NodeInfo {
        node: number,
        alive: true,
        host: "host".to_owned(),
        pid: 77,
        incarnation: 1,
        last_heartbeat: Duration::ZERO,
        stats_dir: stats_dir.display().to_string(),
        disk_total: 0,
        disk_free: 0,
        cores: (0..cores).map(core).collect(),
        is_draining: false,
        unknown_replicas: 0,
        is_decommissioned: false,
        is_leaving: false,
        refuses_writes: false,
        clock_ahead_ms: 0,
        program: None,
    }
}
