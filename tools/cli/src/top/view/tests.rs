//! What is drawn, as text: `snapshots/*.txt`. `PEGASUS_WRITE_SNAPSHOTS=1` writes them anew; look at the difference.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::cores::fake::writer;
use crate::cores::source::{Reading, Way};
use crate::cores::state::State;
use crate::hotkeys::rank::Told;
use crate::top::keys::Action;
use pegasus_client::{HotKey, HotKeys};
use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{
    Counter, Gauge, PartitionCounter, PartitionGauge, RequestTimes, Role, Snapshot, Stage, Timing,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const SECOND: u64 = 1_000_000;

/// Two pages of a core, two seconds apart, with traffic in between that depends on its number.
fn pages(core: u16) -> [Snapshot; 2] {
    let number = u64::from(core) + 1;
    let mut writer = writer(1, core);
    writer.set_stages_measured(true);
    for (table, partition, role) in [(5, core, Role::Primary), (6, 9, Role::Secondary)] {
        let slot = writer.take_partition(table, partition.into());
        writer.set_of(slot, PartitionGauge::Role, role as u64);
        writer.set_of(slot, PartitionGauge::Ballot, 3);
        writer.set_of(slot, PartitionGauge::Committed, 1_234);
        writer.set_of(slot, PartitionGauge::UnflushedBytes, 3 << 20);
    }
    for (gauge, value) in [
        (Gauge::Replicas, 2),
        (Gauge::Primaries, 1),
        (Gauge::CacheBytesMax, 128 << 20),
        (Gauge::BlockCacheBytes, 60 << 20),
        (Gauge::RowCacheBytes, 20 << 20),
        (Gauge::MemtableBytesMax, 64 << 20),
        (Gauge::MemtableBytes, 62 << 20),
        (Gauge::RequestBytesMax, 256 << 20),
        (Gauge::RequestsInflightMax, 65_536),
        (Gauge::NetBufferBytesMax, 64 << 20),
        (Gauge::LogPendingBytesMax, 32 << 20),
        (Gauge::LogUsedBytesMax, 256 << 20),
        (Gauge::LogUsedBytes, 17 << 20),
        (Gauge::RequestsInflight, 12 * number),
        (Gauge::Level0Files, 3),
        (Gauge::Connections, 40),
    ] {
        writer.set(gauge, value);
    }
    writer.publish(10 * SECOND);
    let earlier = writer.snapshot();
    for (counter, amount) in [
        (Counter::RequestGet, 20_000 * number),
        (Counter::RequestPut, 4_000 * number),
        (Counter::RequestScan, 10),
        (Counter::RequestRedis, 300),
        (Counter::AnswerBusy, number - 1),
        (Counter::RejectLogPending, number - 1),
        (Counter::LogFlushes, 900),
        (Counter::RowCacheHits, 900),
        (Counter::RowCacheMisses, 100),
        (Counter::ReadsFromMemory, 999),
        (Counter::ReadsFromDisk, 1),
        (Counter::NetBytesReceived, 5_000_000),
    ] {
        writer.add(counter, amount);
    }
    let slot = writer.find_partition(5, core.into());
    writer.add_of(slot, PartitionCounter::Get, 20_000 * number);
    writer.add_of(slot, PartitionCounter::Put, 4_000 * number);
    writer.add_of(slot, PartitionCounter::BytesRead, 2_000_000 * number);
    writer.add_of(slot, PartitionCounter::Applied, 4_000 * number);
    for micros in [80, 90, 100, 400] {
        writer.record(Timing::Get, Duration::from_micros(micros * number));
    }
    writer.record(Timing::LogFlush, Duration::from_micros(700));
    let mut stages = [0; Stage::COUNT];
    stages[Stage::Queue as usize] = 20_000;
    stages[Stage::Read as usize] = 380_000 * number;
    let request = RequestTimes {
        operation: Timing::Get,
        code: Code::Ok,
        table: 5,
        partition: core.into(),
        bytes: 100,
        key_hash: 7,
        stages,
    };
    writer.record_request(&request, || 11 * SECOND);
    writer.publish(12 * SECOND);
    [earlier, writer.snapshot()]
}

fn reading(page: Snapshot, state: State) -> ((u32, u32), Reading) {
    let identity = page.identity();
    let reading = Reading {
        node: identity.node,
        core: identity.core,
        way: Way::Page,
        state,
        page: Ok(page),
    };
    ((identity.node, identity.core), reading)
}

/// Three cores: two that run, and a dead one.
fn app() -> App {
    let mut app = App::new(Duration::from_secs(2), String::new());
    app.model.tables = BTreeMap::from([(5, "users".to_owned()), (6, "events".to_owned())]);
    let [one, two, three] = [0, 1, 2].map(pages);
    for (at, seconds) in [(0, 10), (1, 12)] {
        let readings = [
            reading(one[at].clone(), State::Running),
            reading(two[at].clone(), State::Running),
            reading(three[1].clone(), State::Dead),
        ];
        let now_us = (seconds + 60) * SECOND;
        app.model.update(readings.into(), Vec::new(), now_us);
    }
    let key = |name: &[u8], count, is_write| HotKey {
        table_id: 5,
        partition: 1,
        is_write,
        key: name.to_vec().into(),
        key_bytes: u32::try_from(name.len()).unwrap(),
        count,
        error: 0,
    };
    app.model.update_hot_keys(&[Told {
        node: 1,
        core: 1,
        keys: HotKeys {
            window: Duration::from_secs(20),
            reads: 400_000,
            writes: 80_000,
            keys: vec![
                key(b"user:1\x1b[31m", 100_000, false),
                key(b"user:2", 40_000, true),
            ],
        },
    }]);
    app
}

fn draw_text(app: &mut App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let theme = Theme::new(Some("1".as_ref()));
    terminal.draw(|frame| draw(frame, app, theme)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = (0..height).map(|y| {
        let row: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        format!("{}\n", row.trim_end())
    });
    rows.collect()
}

fn check(name: &str, drawn: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/top/view/snapshots")
        .join(format!("{name}.txt"));
    if std::env::var_os("PEGASUS_WRITE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, drawn).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        drawn == expected,
        "{name} is drawn as\n{drawn}\nexpected\n{expected}"
    );
}

fn after(actions: &[Action]) -> App {
    let mut app = app();
    for action in actions {
        app.update(*action);
    }
    app
}

#[test]
fn the_lists_are_drawn_with_the_columns_that_fit() {
    check("cores_80", &draw_text(&mut after(&[]), 80, 10));
    check("cores_220", &draw_text(&mut after(&[]), 220, 8));
    check("tables", &draw_text(&mut after(&[Action::List(1)]), 100, 8));
    check(
        "partitions",
        &draw_text(&mut after(&[Action::List(2)]), 100, 12),
    );
    check(
        "hot_keys",
        &draw_text(&mut after(&[Action::List(3)]), 110, 8),
    );
}

#[test]
fn closer_looks_explain_a_core_a_dead_one_and_a_partition() {
    let mut running = after(&[Action::Move(1), Action::Open]);
    check("core", &draw_text(&mut running, 100, 40));
    let mut dead = after(&[Action::Last, Action::Open]);
    check("core_dead", &draw_text(&mut dead, 100, 40));
    let mut partition = after(&[Action::List(3), Action::Open]);
    check("partition", &draw_text(&mut partition, 130, 12));
}

#[test]
fn a_filter_leaves_only_the_traffic_of_its_tables() {
    let letters = "user".chars().map(Action::Type);
    let actions: Vec<Action> = std::iter::once(Action::Filter)
        .chain(letters)
        .chain([Action::Accept])
        .collect();
    check("cores_filtered", &draw_text(&mut after(&actions), 110, 8));
    let mut typing = after(&[Action::Filter, Action::Type('u')]);
    assert!(draw_text(&mut typing, 80, 8).contains("contain: u_"));
}

#[test]
fn the_help_is_drawn_over_what_is_there() {
    check("help", &draw_text(&mut after(&[Action::Help]), 90, 20));
}

#[test]
fn any_size_of_terminal_is_drawn_without_a_panic() {
    let screens: [&[Action]; 6] = [
        &[],
        &[Action::List(1)],
        &[Action::List(2)],
        &[Action::List(3)],
        &[Action::Open, Action::Last],
        &[Action::Help],
    ];
    for actions in screens {
        for (width, height) in [
            (0, 0),
            (1, 1),
            (39, 30),
            (40, 6),
            (41, 7),
            (80, 5),
            (300, 6),
            (65, 80),
        ] {
            let drawn = draw_text(&mut after(actions), width, height);
            let is_too_small = width < 40 || height < 6;
            let is_drawn = drawn.contains("pegasus top") || drawn.contains("keys:");
            assert_eq!(is_drawn, !is_too_small, "{width}x{height}");
        }
    }
    assert!(draw_text(&mut after(&[]), 39, 5).contains("39x5: needs 40x6"));
}

#[test]
fn nothing_known_yet_is_said() {
    let mut app = App::new(Duration::from_secs(2), String::new());
    assert!(draw_text(&mut app, 80, 8).contains("no cores known yet"));
    app.message = Some("cluster at nowhere".to_owned());
    assert!(draw_text(&mut app, 80, 8).contains("cluster at nowhere"));
}
