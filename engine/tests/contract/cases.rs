//! What both engines promise, case by case.

use crate::harness::{BALLOT, Mem, Subject, partition, put, put_until, raw, remove};
use bytes::Bytes;
use pegasus_engine::marker::MARKER_DECREES_MAX;
use pegasus_engine::scan::Fields;
use pegasus_engine::{
    Applied, ApplyError, Engine, Order, ReadError, RequestOutcome, RequestWindow, ScanSpec, Stop,
    Tier,
};
use pegasus_replication::ids::{Ballot, Decree, RequestId};
use std::ops::Bound;

fn a_batch_is_applied_whole_and_in_order<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    subject.apply(
        partition(0),
        &[
            put("h", "a", "1"),
            put("h", "b", "2"),
            remove("h", "a"),
            put("h", "b", "3"),
        ],
    );
    assert_eq!(subject.value(partition(0), "h", "a", 0), None);
    assert_eq!(
        subject.value(partition(0), "h", "b", 0).as_deref(),
        Some("3")
    );
    assert_eq!(
        subject.engine().last_applied(partition(0)),
        Some(Applied {
            decree: Decree(1),
            ballot: BALLOT
        })
    );
}

fn decrees_are_applied_once_each_and_without_gaps<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    subject.apply(partition(0), &[put("h", "a", "1")]);
    subject.apply(partition(0), &[]);
    subject
        .apply_as(
            partition(0),
            Decree(1),
            RequestId::default(),
            &[put("h", "a", "again")],
        )
        .unwrap();
    assert_eq!(
        subject.value(partition(0), "h", "a", 0).as_deref(),
        Some("1")
    );
    let gap = subject.apply_as(partition(0), Decree(4), RequestId::default(), &[]);
    assert_eq!(
        gap,
        Err(ApplyError::OutOfOrder {
            partition: partition(0),
            applied: Decree(2),
            decree: Decree(4)
        })
    );
}

fn a_damaged_payload_is_refused_and_changes_nothing<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    let refused = subject.engine_mut().apply(
        partition(0),
        Decree(1),
        BALLOT,
        0,
        RequestId::default(),
        b"\x01\x01\x01\x09",
    );
    assert!(matches!(refused, Err(ApplyError::Corruption { .. })));
    assert_eq!(
        subject.engine().last_applied(partition(0)),
        Some(Applied::default())
    );
}

fn unknown_replicas_are_said_to_be_unknown<S: Subject + Default>() {
    let mut subject = S::default();
    let none = partition(9);
    assert_eq!(
        subject.apply_as(none, Decree(1), RequestId::default(), &[]),
        Err(ApplyError::NoReplica { partition: none })
    );
    assert_eq!(
        subject
            .engine()
            .get(none, &raw("h", ""), 0, Tier::CacheOnly),
        Err(ReadError::NoReplica { partition: none })
    );
    assert_eq!(subject.engine().last_applied(none), None);
}

fn replicas_do_not_see_each_other<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    subject.create(partition(1));
    subject.apply(partition(0), &[put("h", "a", "0")]);
    subject.apply(partition(1), &[put("h", "a", "1")]);
    subject.apply(partition(1), &[remove("h", "a")]);
    assert_eq!(
        subject.value(partition(0), "h", "a", 0).as_deref(),
        Some("0")
    );
    assert_eq!(subject.value(partition(1), "h", "a", 0), None);
}

fn expired_rows_are_invisible_to_every_read<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    subject.apply(
        partition(0),
        &[put_until("h", "a", "1", 100), put("h", "b", "2")],
    );
    let late = u32::MAX;
    subject.apply(partition(0), &[put_until("h", "c", "3", late)]);
    assert_eq!(
        subject.value(partition(0), "h", "a", 99).as_deref(),
        Some("1")
    );
    assert_eq!(subject.value(partition(0), "h", "a", 100), None);
    assert_eq!(
        subject.value(partition(0), "h", "c", late - 1).as_deref(),
        Some("3")
    );
    let keys = [raw("h", "b"), raw("h", "a"), raw("h", "x")];
    let rows = subject
        .engine()
        .multi_get(partition(0), &keys, 100, Tier::Full)
        .unwrap();
    let values: Vec<_> = rows
        .into_iter()
        .map(|row| row.map(|row| row.data))
        .collect();
    assert_eq!(values, [Some(Bytes::from_static(b"2")), None, None]);
    let spec = ScanSpec::new(Bound::Unbounded, Bound::Unbounded, 100);
    let (rows, ..) = subject.read_all(partition(0), &spec);
    assert_eq!(
        rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(),
        [raw("h", "b"), raw("h", "c")]
    );
}

fn rows_carry_expiry_and_the_primarys_timestamp<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    subject.apply(partition(0), &[put_until("h", "a", "v", 50)]);
    let row = subject
        .engine()
        .get(partition(0), &raw("h", "a"), 0, Tier::Full)
        .unwrap()
        .unwrap();
    assert_eq!((row.expire_at, row.timetag), (50, 1000 << 8));
}

fn an_unflushed_suffix_is_lost_and_can_be_replayed<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    subject.create(partition(1));
    subject.apply(partition(0), &[put("h", "a", "1"), put("h", "b", "1")]);
    assert_eq!(subject.flush(partition(0)), Decree(1));
    subject.apply(partition(0), &[put("h", "a", "2")]);
    subject.apply(partition(0), &[remove("h", "b")]);
    subject.apply(partition(1), &[put("h", "a", "1")]);
    subject.crash();
    assert_eq!(
        subject.engine().last_applied(partition(0)),
        Some(Applied {
            decree: Decree(1),
            ballot: BALLOT
        })
    );
    assert_eq!(
        subject.engine().last_applied(partition(1)),
        Some(Applied {
            decree: Decree::ZERO,
            ballot: Ballot::NONE
        })
    );
    assert_eq!(
        subject.value(partition(0), "h", "a", 0).as_deref(),
        Some("1")
    );
    assert_eq!(subject.value(partition(1), "h", "a", 0), None);
    subject.apply(partition(0), &[put("h", "a", "2")]);
    subject.apply(partition(0), &[remove("h", "b")]);
    assert_eq!(
        subject.value(partition(0), "h", "a", 0).as_deref(),
        Some("2")
    );
    assert_eq!(subject.value(partition(0), "h", "b", 0), None);
}

fn a_flush_without_warning_is_durable_up_to_its_marker_only<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    for number in 0..MARKER_DECREES_MAX + 10 {
        subject.apply(partition(0), &[put("h", &number.to_string(), "v")]);
    }
    assert_eq!(
        subject.flush_unmarked(partition(0)),
        Decree(MARKER_DECREES_MAX)
    );
    assert!(subject.engine().unflushed_bytes(partition(0)) > 0);
    subject.crash();
    assert_eq!(
        subject.engine().last_applied(partition(0)).unwrap().decree,
        Decree(MARKER_DECREES_MAX)
    );
    // Rows above the marker may be there already; replay writes the same again.
    subject.apply(partition(0), &[put("h", "256", "v")]);
    assert_eq!(
        subject.value(partition(0), "h", "256", 0).as_deref(),
        Some("v")
    );
}

fn the_request_window_survives_with_the_marker<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    let id = |sequence| RequestId {
        client: 1,
        sequence,
    };
    let count = RequestWindow::LENGTH_MAX as u64 + 5;
    for sequence in 1..=count {
        subject
            .apply_as(
                partition(0),
                Decree(sequence),
                id(sequence),
                &[put("h", "a", "1")],
            )
            .unwrap();
    }
    subject.flush(partition(0));
    subject
        .apply_as(
            partition(0),
            Decree(count + 1),
            id(count + 1),
            &[put("h", "a", "1")],
        )
        .unwrap();
    let outcome = |subject: &S, sequence| {
        let outcome = subject
            .engine()
            .request_outcome(partition(0), id(sequence), true);
        match outcome {
            RequestOutcome::Applied { decree, result } => {
                assert_eq!(result, format!("done {sequence}"));
                Some(decree)
            }
            RequestOutcome::New => None,
            RequestOutcome::Forgotten => Some(Decree::ZERO),
        }
    };
    assert_eq!(outcome(&subject, count + 1), Some(Decree(count + 1)));
    subject.crash();
    assert_eq!(outcome(&subject, count + 1), None);
    assert_eq!(outcome(&subject, count), Some(Decree(count)));
    assert_eq!(outcome(&subject, 6), Some(Decree(6)));
    let forgotten = Some(Decree::ZERO);
    assert_eq!(outcome(&subject, 5), forgotten);
}

fn a_dropped_replica_is_gone_for_good<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    subject.apply(partition(0), &[put("h", "a", "1")]);
    subject.flush(partition(0));
    subject.drop_replica(partition(0));
    assert_eq!(subject.engine().last_applied(partition(0)), None);
    subject.crash();
    assert_eq!(subject.engine().last_applied(partition(0)), None);
    subject.create(partition(0));
    assert_eq!(
        subject.engine().last_applied(partition(0)),
        Some(Applied::default())
    );
    assert_eq!(subject.value(partition(0), "h", "a", 0), None);
}

fn our_flush_is_wanted_before_a_memtable_is_full<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    subject.create(partition(1));
    assert_eq!(subject.engine().flush_wanted(), None);
    let value = "x".repeat(500_000);
    while subject.engine().flush_wanted().is_none() {
        subject.apply(partition(1), &[put("h", "a", &value)]);
        assert!(subject.engine().unflushed_bytes(partition(1)) < 64 << 20);
    }
    assert_eq!(subject.engine().flush_wanted(), Some(partition(1)));
    subject.engine_mut().begin_flush(partition(1)).unwrap();
    assert_eq!(subject.engine().flush_wanted(), None);
    subject.engine_mut().abort_flush(partition(1));
    assert_eq!(subject.engine().flush_wanted(), Some(partition(1)));
    subject.flush(partition(1));
    assert_eq!(subject.engine().unflushed_bytes(partition(1)), 0);
    assert_eq!(subject.engine().flush_wanted(), None);
    assert!(!subject.engine().pressure().is_high());
}

fn a_scan_stops_at_its_limits_and_counts_without_rows<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    for number in 0..10 {
        let key = number.to_string();
        subject.apply(
            partition(0),
            &[put_until(
                "h",
                &key,
                "value",
                if number % 2 == 0 { 1 } else { 0 },
            )],
        );
    }
    let all = ScanSpec::new(Bound::Unbounded, Bound::Unbounded, 5);
    let two = ScanSpec {
        rows_max: 2,
        ..all.clone()
    };
    let (rows, _, stop) = subject.read_all(partition(0), &two);
    assert_eq!(
        rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(),
        [raw("h", "1"), raw("h", "3")]
    );
    assert_eq!(
        stop,
        Stop::Limit {
            after: raw("h", "3")
        }
    );
    let looked_at = ScanSpec {
        examined_max: 3,
        ..all.clone()
    };
    let page = subject
        .engine()
        .scan(partition(0), &looked_at, Tier::Full)
        .unwrap();
    assert_eq!((page.count, page.examined), (1, 3));
    let count = ScanSpec {
        fields: Fields::Count,
        order: Order::Descending,
        turn_examined_max: 3,
        ..all
    };
    let (rows, count, stop) = subject.read_all(partition(0), &count);
    assert_eq!((rows.len(), count, stop), (0, 5, Stop::Exhausted));
}

/// Each case twice.
macro_rules! on_both_engines {
    ($($case:ident),* $(,)?) => {
        mod mem {
            $(#[test] fn $case() { super::$case::<super::Mem>(); })*
        }
        #[cfg(feature = "rocks")]
        mod rocks {
            $(#[test] fn $case() { super::$case::<crate::harness::Rocks>(); })*
        }
    };
}

on_both_engines!(
    a_batch_is_applied_whole_and_in_order,
    decrees_are_applied_once_each_and_without_gaps,
    a_damaged_payload_is_refused_and_changes_nothing,
    unknown_replicas_are_said_to_be_unknown,
    replicas_do_not_see_each_other,
    expired_rows_are_invisible_to_every_read,
    rows_carry_expiry_and_the_primarys_timestamp,
    an_unflushed_suffix_is_lost_and_can_be_replayed,
    a_flush_without_warning_is_durable_up_to_its_marker_only,
    the_request_window_survives_with_the_marker,
    a_dropped_replica_is_gone_for_good,
    our_flush_is_wanted_before_a_memtable_is_full,
    a_scan_stops_at_its_limits_and_counts_without_rows,
);
