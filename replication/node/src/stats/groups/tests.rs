use super::*;
use crate::slow::SlowLog;
use crate::stats::traces::Subject;
use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{PAGE_WORDS, Snapshot};
use pegasus_net::Arrival;
use std::time::Duration;

/// Requests that are received together and leave together; read `n` waits for those before it, write `n` for the log.
fn record(operations: &[Timing], groups: &mut Groups, writer: &mut Writer<Vec<AtomicU64>>) {
    let mut traces = Traces::new(true);
    let mut sent = Vec::new();
    let arrival = Arrival {
        received_ns: 1_000,
        looked_at_ns: 1_000,
        decoded_ns: 1_500,
    };
    for (operation, number) in operations.iter().zip(1..) {
        let subject = Subject {
            operation: *operation,
            table: 1,
            partition: 2,
            key_hash: number,
        };
        let id = traces.begin(subject, &arrival, 2_000);
        let stage = match operation.class() {
            Some(Class::Write) => Stage::Flush,
            _ => Stage::Read,
        };
        traces.pass(id, Stage::Queue, stage, 3_000);
        let receipt = traces.release(id, Code::Ok, 3_000 + number * 1_000);
        let receipt = receipt.expect("it is traced");
        let at_ns = 1_000_000 + number % 3;
        sent.push(Sent { receipt, at_ns });
    }
    traces.end_encoding(900_000);
    let mut slow = SlowLog::default().reporter(Duration::ZERO);
    groups.record(&sent, &mut traces, writer, &mut slow, || 7);
}

fn writer() -> Writer<Vec<AtomicU64>> {
    let page = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
    Writer::new(page, 1, 0, 7, 1)
}

fn count(page: &Snapshot, timing: Timing) -> u64 {
    page.histogram(timing).count()
}

fn sum(page: &Snapshot, timings: impl Iterator<Item = Timing>) -> Duration {
    timings.map(|timing| page.histogram(timing).sum()).sum()
}

#[test]
fn however_many_leave_together_all_count_and_add_up() {
    for length in [1, 3, 4, 7, 15, 16, 17, 33, 100] {
        let kinds = [Timing::Get, Timing::Put, Timing::MultiGet, Timing::Get];
        let operations: Vec<_> = kinds.into_iter().cycle().take(length).collect();
        let (mut groups, mut writer) = (Groups::default(), writer());
        for _ in 0..5 {
            record(&operations, &mut groups, &mut writer);
        }
        let page = writer.snapshot();
        for class in Class::ALL {
            let of_class = |timing: &Timing| timing.class() == Some(class);
            let expected = 5 * operations.iter().filter(|timing| of_class(timing)).count();
            let whole = Timing::operations().iter().copied().filter(of_class);
            let counted: u64 = whole.clone().map(|timing| count(&page, timing)).sum();
            assert_eq!(counted, expected as u64, "{class:?} of {length}");
            for (_, timing) in class.stages() {
                assert_eq!(count(&page, timing), counted, "{timing:?} of {length}");
            }
            let stages = class.stages().map(|(_, timing)| timing);
            assert_eq!(
                sum(&page, stages),
                sum(&page, whole),
                "{class:?} of {length}"
            );
        }
        for slow in page.slow_requests() {
            let total: u64 = slow.request.stages.iter().sum();
            assert!((999_000..=999_002).contains(&total), "{slow:?}");
        }
        assert_eq!(page.slow_requests().len(), (5 * length).min(16));
    }
}

#[test]
fn a_few_that_leave_together_each_stand_for_themselves() {
    let (mut groups, mut writer) = (Groups::default(), writer());
    record(&[Timing::Get; 3], &mut groups, &mut writer);
    let page = writer.snapshot();
    let read = page.histogram(Timing::ReadRead);
    for number in 1..=3 {
        #[allow(clippy::cast_precision_loss, reason = "a small number")]
        let quantile = read.quantile(number as f64 / 3.0).expect("there are some");
        let took = Duration::from_micros(number);
        assert!(
            quantile >= took && quantile < took.mul_f64(1.02),
            "{quantile:?}"
        );
    }
}

#[test]
fn each_place_of_a_group_stands_for_it_in_its_turn() {
    const ROUNDS: u64 = 200;
    let (mut groups, mut writer) = (Groups::default(), writer());
    for _ in 0..ROUNDS {
        record(&[Timing::Get; 64], &mut groups, &mut writer);
    }
    let page = writer.snapshot();
    let read = page.histogram(Timing::ReadRead);
    assert_eq!(read.count(), ROUNDS * 64);
    assert_eq!(read.mean(), Some(Duration::from_nanos(32_500)));
    // All 64 have stood for others, and none too often: the percentiles are those of 1 to 64 us.
    for percent in [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0] {
        let told = read.quantile(percent).expect("there are some").as_nanos();
        #[allow(clippy::cast_precision_loss, reason = "below a millisecond")]
        let told = told as f64 / 1_000.0;
        let is = (percent * 64.0).max(1.0);
        assert!((told - is).abs() <= 1.5 + is * 0.02, "{told} for {is} us");
    }
}
