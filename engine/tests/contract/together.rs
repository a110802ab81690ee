//! Several mutations applied by one call: the same as one by one, however few writes the engine makes of them.

use crate::harness::{Mem, Subject, mutation, partition, put, remove};
use pegasus_engine::marker::MARKER_DECREES_MAX;
use pegasus_engine::{ApplyAllError, ApplyError, Batch, Engine, Op};
use pegasus_replication::ids::{Decree, PartitionId};

fn value<S: Subject>(subject: &S, index: u32, sort_key: &str) -> Option<String> {
    subject.value(partition(index), "h", sort_key, 0)
}

fn applied<S: Subject>(subject: &S, index: u32) -> Decree {
    subject
        .engine()
        .last_applied(partition(index))
        .unwrap()
        .decree
}

fn later_mutations_win_within_one_call_too<S: Subject + Default>() {
    let mut subject = S::default();
    (0..2).for_each(|index| subject.create(partition(index)));
    // What is remembered of a row must not outlive the call.
    subject.apply(partition(0), &[put("h", "a", "0")]);
    assert_eq!(value(&subject, 0, "a").as_deref(), Some("0"));
    assert_eq!(value(&subject, 0, "b"), None);
    let mutations = [
        (partition(0), vec![put("h", "a", "1"), put("h", "b", "1")]),
        (partition(1), vec![put("h", "a", "other")]),
        (partition(0), vec![]),
        (partition(0), vec![remove("h", "a")]),
        (partition(0), vec![put("h", "b", "2")]),
    ];
    subject.apply_together(&mutations).unwrap();
    assert_eq!(value(&subject, 0, "a"), None);
    assert_eq!(value(&subject, 0, "b").as_deref(), Some("2"));
    assert_eq!(value(&subject, 1, "a").as_deref(), Some("other"));
    assert_eq!(
        (applied(&subject, 0), applied(&subject, 1)),
        (Decree(5), Decree(1))
    );
}

fn what_is_in_front_of_a_bad_mutation_is_applied_and_nothing_behind_it<S: Subject + Default>() {
    let mut subject = S::default();
    (0..2).for_each(|index| subject.create(partition(index)));
    let payload = |value| Batch::from_ops(&[put("h", "a", value)]).unwrap().encode();
    let (one, two) = (payload("1"), payload("2"));
    let bad: [(PartitionId, Decree, &[u8], ApplyError); 3] = [
        (
            partition(0),
            Decree(3),
            &two,
            ApplyError::OutOfOrder {
                partition: partition(0),
                applied: Decree(1),
                decree: Decree(3),
            },
        ),
        (
            partition(9),
            Decree(1),
            &two,
            ApplyError::NoReplica {
                partition: partition(9),
            },
        ),
        (
            partition(1),
            Decree(1),
            b"\x01\x01\x01\x09",
            ApplyError::Corruption {
                partition: partition(1),
                detail: String::new(),
            },
        ),
    ];
    for (index, decree, payload, expected) in bad {
        let mutations = [
            mutation(partition(0), Decree(1), &one),
            mutation(index, decree, payload),
            mutation(partition(0), Decree(2), &two),
        ];
        let ApplyAllError {
            applied: count,
            error,
        } = subject.engine_mut().apply_all(&mutations).unwrap_err();
        assert_eq!(count, 1);
        assert_eq!(
            std::mem::discriminant(&error),
            std::mem::discriminant(&expected),
            "{error}"
        );
        if !matches!(error, ApplyError::Corruption { .. }) {
            assert_eq!(error, expected);
        }
        assert_eq!(applied(&subject, 0), Decree(1));
        assert_eq!(applied(&subject, 1), Decree::ZERO);
        assert_eq!(value(&subject, 0, "a").as_deref(), Some("1"));
    }
}

fn what_is_applied_already_is_passed_over<S: Subject + Default>() {
    let mut subject = S::default();
    subject.create(partition(0));
    let payload = |value| Batch::from_ops(&[put("h", "a", value)]).unwrap().encode();
    let (one, other, two) = (payload("1"), payload("other"), payload("2"));
    let of = |decree, payload| mutation(partition(0), Decree(decree), payload);
    subject
        .engine_mut()
        .apply_all(&[of(1, &one), of(1, &other)])
        .unwrap();
    assert_eq!(value(&subject, 0, "a").as_deref(), Some("1"));
    subject
        .engine_mut()
        .apply_all(&[of(1, &other), of(2, &two), of(1, &other), of(2, &other)])
        .unwrap();
    assert_eq!(value(&subject, 0, "a").as_deref(), Some("2"));
    assert_eq!(applied(&subject, 0), Decree(2));
}

fn a_marker_speaks_of_all_that_is_before_it_and_of_nothing_else<S: Subject + Default>() {
    let mut subject = S::default();
    (0..2).for_each(|index| subject.create(partition(index)));
    let row = |number: u64| -> Vec<Op> { vec![put("h", &format!("{number:04}"), "v")] };
    // Seven at a time, which no number of decrees between markers is a multiple of.
    for first in (0..MARKER_DECREES_MAX + 40).step_by(7) {
        let mutations: Vec<_> = (first..first + 7)
            .flat_map(|number| [(partition(0), row(number)), (partition(1), row(number))])
            .collect();
        subject.apply_together(&mutations).unwrap();
    }
    let last = applied(&subject, 0);
    for index in 0..2 {
        // A flush that nobody prepared finds the marker that was written on the way.
        assert_eq!(
            subject.flush_unmarked(partition(index)),
            Decree(MARKER_DECREES_MAX)
        );
    }
    subject.crash();
    for index in 0..2 {
        assert_eq!(applied(&subject, index), Decree(MARKER_DECREES_MAX));
        let there = value(&subject, index, &format!("{:04}", MARKER_DECREES_MAX - 1));
        assert!(there.is_some());
    }
    for number in MARKER_DECREES_MAX..last.0 {
        subject.apply(partition(0), &row(number));
    }
    assert_eq!(subject.flush(partition(0)), last);
}

macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[test] fn $name() { super::$name::<super::Mem>(); })*
        }
        #[cfg(feature = "rocks")]
        mod on_disk {
            $(#[test] fn $name() { super::$name::<crate::harness::Rocks>(); })*
        }
    };
}

on_both_engines!(
    later_mutations_win_within_one_call_too,
    what_is_in_front_of_a_bad_mutation_is_applied_and_nothing_behind_it,
    what_is_applied_already_is_passed_over,
    a_marker_speaks_of_all_that_is_before_it_and_of_nothing_else,
);

#[cfg(feature = "rocks")]
mod rocks {
    use super::*;
    use crate::harness::Rocks;

    #[test]
    fn a_replica_that_is_out_of_use_fails_alone() {
        let mut rocks = Rocks::default();
        (0..3).for_each(|index| rocks.create(partition(index)));
        rocks.store().quarantine(partition(1), "bad block").unwrap();
        let mutations = [
            (partition(0), vec![put("h", "a", "0")]),
            (partition(1), vec![put("h", "a", "1")]),
            (partition(2), vec![put("h", "a", "2")]),
        ];
        let failed = rocks.apply_together(&mutations).unwrap_err();
        assert_eq!(failed.applied, 1);
        assert!(
            matches!(failed.error, ApplyError::Corruption { partition: of, .. } if of == partition(1))
        );
        rocks.apply_together(&mutations[2..]).unwrap();
        assert_eq!(value(&rocks, 0, "a").as_deref(), Some("0"));
        assert_eq!(value(&rocks, 2, "a").as_deref(), Some("2"));
    }

    #[test]
    fn rows_of_all_sizes_go_into_as_many_writes_as_it_takes() {
        let mut rocks = Rocks::default();
        (0..2).for_each(|index| rocks.create(partition(index)));
        let sizes = [0, 1, 1000, 1024, 1025, 70_000, 200_000, 3];
        let mutations: Vec<_> = (0..2)
            .flat_map(|index| sizes.iter().map(move |&size| (index, size)))
            .map(|(index, size)| {
                let row = put("h", &size.to_string(), &"x".repeat(size));
                (partition(index), vec![row])
            })
            .collect();
        rocks.apply_together(&mutations).unwrap();
        for index in 0..2 {
            rocks.flush(partition(index));
        }
        rocks.crash();
        for (index, size) in (0..2).flat_map(|index| sizes.iter().map(move |&size| (index, size))) {
            let found = value(&rocks, index, &size.to_string()).unwrap();
            assert_eq!(found.len(), size);
        }
    }
}
