//! Random histories: both engines side by side, and an engine that crashes beside one that does not.

use crate::harness::{Mem, Subject, partition};
use bytes::Bytes;
use pegasus_engine::scan::Fields;
use pegasus_engine::{Engine, Filter, Op, Order, ReadError, ScanSpec, Tier, key};
use pegasus_replication::ids::PartitionId;
use proptest::prelude::*;
use std::ops::Bound;

/// Expiries and times lie in here.
const TIMES: std::ops::Range<u32> = 0..6;

#[derive(Clone, Debug)]
enum Action {
    Apply {
        partition: u32,
        ops: Vec<Op>,
    },
    /// On the one side one by one, on the other by one call.
    ApplyTogether {
        mutations: Vec<(u32, Vec<Op>)>,
    },
    Get {
        partition: u32,
        key: Bytes,
        now_s: u32,
    },
    MultiGet {
        partition: u32,
        keys: Vec<Bytes>,
        now_s: u32,
    },
    Scan {
        partition: u32,
        spec: Box<ScanSpec>,
    },
    Flush {
        partition: u32,
    },
    FlushUnmarked {
        partition: u32,
    },
    /// Dies, starts again and replays what was lost.
    Crash,
    Recreate {
        partition: u32,
    },
    /// A copy of itself takes its place.
    Reimport {
        partition: u32,
    },
}

fn raw_key() -> impl Strategy<Value = Bytes> {
    // Few bytes and few lengths, so that keys meet again, share prefixes, and sort across lengths.
    let part = |most: usize| {
        prop::collection::vec(prop::sample::select(vec![0_u8, b'a', b'b', 0xff]), 0..=most)
    };
    (part(2), part(2)).prop_map(|(hash_key, sort_key)| key::encode(&hash_key, &sort_key).unwrap())
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (raw_key(), prop::collection::vec(any::<u8>(), 0..30), TIMES)
            .prop_map(|(key, value, expire_at)| Op::Put { key, value: value.into(), expire_at }),
        1 => raw_key().prop_map(|key| Op::Remove { key }),
    ]
}

fn bound() -> impl Strategy<Value = Bound<Bytes>> {
    prop_oneof![
        Just(Bound::Unbounded),
        raw_key().prop_map(Bound::Included),
        raw_key().prop_map(Bound::Excluded),
        // Scanner bounds need not be raw keys.
        prop::collection::vec(any::<u8>(), 0..3).prop_map(|bytes| Bound::Included(bytes.into())),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let pattern = || {
        prop::collection::vec(prop::sample::select(vec![b'a', b'b']), 0..=1).prop_map(Bytes::from)
    };
    prop_oneof![
        4 => Just(Filter::None),
        1 => pattern().prop_map(Filter::Anywhere),
        1 => pattern().prop_map(Filter::Prefix),
        1 => pattern().prop_map(Filter::Postfix),
    ]
}

fn limit(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(usize::MAX), 1 => 1..most]
}

fn spec() -> impl Strategy<Value = ScanSpec> {
    let order = prop_oneof![Just(Order::Ascending), Just(Order::Descending)];
    let fields =
        prop_oneof![3 => Just(Fields::All), 1 => Just(Fields::NoValue), 1 => Just(Fields::Count)];
    let limits = (limit(10), limit(10), limit(60), limit(4));
    (
        bound(),
        bound(),
        order,
        fields,
        (filter(), filter()),
        limits,
        TIMES,
        any::<bool>(),
    )
        .prop_map(
            |(
                start,
                stop,
                order,
                fields,
                (hash_key_filter, sort_key_filter),
                limits,
                now_s,
                within,
            )| {
                let mut spec = ScanSpec::new(start, stop, now_s);
                let (rows_max, examined_max, bytes_max, turn_examined_max) = limits;
                (spec.order, spec.fields) = (order, fields);
                (spec.hash_key_filter, spec.sort_key_filter) = (hash_key_filter, sort_key_filter);
                (spec.rows_max, spec.examined_max, spec.bytes_max) =
                    (rows_max, examined_max, bytes_max);
                spec.turn_examined_max = turn_examined_max;
                if within {
                    restrict_to_hash_key(&mut spec);
                }
                spec
            },
        )
}

/// Makes the read one within the hash key of its start, if its start has one.
fn restrict_to_hash_key(spec: &mut ScanSpec) {
    let (Bound::Included(start) | Bound::Excluded(start)) = &spec.start else {
        return;
    };
    let Some(within) = key::hash_key_prefix(start).map(Bytes::copy_from_slice) else {
        return;
    };
    let inside = matches!(&spec.stop, Bound::Included(stop) | Bound::Excluded(stop) if stop.starts_with(&within));
    if !inside {
        spec.stop = key::prefix_successor(&within).map_or(Bound::Unbounded, Bound::Excluded);
    }
    spec.within = Some(within);
}

fn action() -> impl Strategy<Value = Action> {
    let which = || 0_u32..2;
    let mutations = prop::collection::vec((which(), prop::collection::vec(op(), 0..4)), 0..12);
    let keys = prop::collection::vec(raw_key(), 0..6);
    prop_oneof![
        12 => (which(), prop::collection::vec(op(), 0..8)).prop_map(|(partition, ops)| Action::Apply { partition, ops }),
        4 => mutations.prop_map(|mutations| Action::ApplyTogether { mutations }),
        4 => (which(), raw_key(), TIMES).prop_map(|(partition, key, now_s)| Action::Get { partition, key, now_s }),
        2 => (which(), keys, TIMES).prop_map(|(partition, keys, now_s)| Action::MultiGet { partition, keys, now_s }),
        8 => (which(), spec()).prop_map(|(partition, spec)| Action::Scan { partition, spec: Box::new(spec) }),
        2 => which().prop_map(|partition| Action::Flush { partition }),
        1 => which().prop_map(|partition| Action::FlushUnmarked { partition }),
        1 => Just(Action::Crash),
        1 => which().prop_map(|partition| Action::Recreate { partition }),
        1 => which().prop_map(|partition| Action::Reimport { partition }),
    ]
}

/// The committed mutations of both partitions: what the log would replay.
type Log = [Vec<Vec<Op>>; 2];

fn replay(subject: &mut impl Subject, log: &Log) {
    for (index, mutations) in (0_u32..).zip(log) {
        let applied = subject
            .engine()
            .last_applied(partition(index))
            .unwrap()
            .decree;
        let skipped = usize::try_from(applied.0).unwrap();
        for ops in mutations.iter().skip(skipped) {
            subject.apply(partition(index), ops);
        }
    }
}

fn recreate(subject: &mut impl Subject, partition: PartitionId) {
    subject.drop_replica(partition);
    subject.create(partition);
}

/// The rows that `ops` are about, one by one.
fn compare_rows<A: Subject, B: Subject>(
    left: &A,
    right: &B,
    partition: PartitionId,
    ops: &[Op],
) -> Result<(), TestCaseError> {
    for op in ops {
        let (Op::Put { key, .. } | Op::Remove { key }) = op;
        for now_s in [TIMES.start, TIMES.end / 2] {
            let read = |engine: &dyn Engine| engine.get(partition, key, now_s, Tier::CacheOnly);
            let (left, right) = (read(left.engine()), read(right.engine()));
            // After a restart the database may have to be asked to read its files.
            if !matches!(right, Err(ReadError::Incomplete { .. })) {
                prop_assert_eq!(left, right);
            }
        }
    }
    Ok(())
}

fn run<A: Subject, B: Subject>(
    left: &mut A,
    right: &mut B,
    actions: &[Action],
) -> Result<(), TestCaseError> {
    let mut log = Log::default();
    for index in 0..2 {
        left.create(partition(index));
        right.create(partition(index));
    }
    for action in actions {
        match action {
            Action::Apply {
                partition: index,
                ops,
            } => {
                let mutations = &mut log[*index as usize];
                mutations.push(ops.clone());
                // What a reader has just seen, and an engine may remember, must not outlive the write.
                compare_rows(left, right, partition(*index), ops)?;
                prop_assert_eq!(
                    left.apply(partition(*index), ops),
                    right.apply(partition(*index), ops)
                );
                compare_rows(left, right, partition(*index), ops)?;
            }
            Action::ApplyTogether { mutations } => {
                let mut together = Vec::new();
                for (index, ops) in mutations {
                    compare_rows(left, right, partition(*index), ops)?;
                }
                for (index, ops) in mutations {
                    left.apply(partition(*index), ops);
                    log[*index as usize].push(ops.clone());
                    together.push((partition(*index), ops.clone()));
                }
                prop_assert_eq!(right.apply_together(&together), Ok(()));
                for (partition, ops) in &together {
                    let applied = |engine: &dyn Engine| engine.last_applied(*partition);
                    prop_assert_eq!(applied(left.engine()), applied(right.engine()));
                    compare_rows(left, right, *partition, ops)?;
                }
            }
            Action::Get {
                partition: index,
                key,
                now_s,
            } => {
                let read =
                    |engine: &dyn Engine| engine.get(partition(*index), key, *now_s, Tier::Full);
                prop_assert_eq!(read(left.engine()), read(right.engine()));
            }
            Action::MultiGet {
                partition: index,
                keys,
                now_s,
            } => {
                let read = |engine: &dyn Engine| {
                    engine.multi_get(partition(*index), keys, *now_s, Tier::Full)
                };
                prop_assert_eq!(read(left.engine()), read(right.engine()));
            }
            Action::Scan {
                partition: index,
                spec,
            } => {
                let page = |engine: &dyn Engine| engine.scan(partition(*index), spec, Tier::Full);
                prop_assert_eq!(page(left.engine()), page(right.engine()));
                prop_assert_eq!(
                    left.read_all(partition(*index), spec),
                    right.read_all(partition(*index), spec)
                );
            }
            Action::Flush { partition: index } => {
                prop_assert_eq!(
                    left.flush(partition(*index)),
                    right.flush(partition(*index))
                );
            }
            Action::FlushUnmarked { partition: index } => {
                prop_assert_eq!(
                    left.flush_unmarked(partition(*index)),
                    right.flush_unmarked(partition(*index))
                );
            }
            Action::Crash => {
                left.crash();
                right.crash();
                for index in 0..2 {
                    let applied = |engine: &dyn Engine| engine.last_applied(partition(index));
                    prop_assert_eq!(applied(left.engine()), applied(right.engine()));
                }
                replay(left, &log);
                replay(right, &log);
            }
            Action::Recreate { partition: index } => {
                log[*index as usize].clear();
                recreate(left, partition(*index));
                recreate(right, partition(*index));
            }
            Action::Reimport { partition: index } => {
                left.reimport(partition(*index));
                right.reimport(partition(*index));
            }
        }
    }
    Ok(())
}

#[cfg(feature = "rocks")]
mod rocks {
    use super::*;
    use crate::harness::Rocks;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn both_engines_answer_alike_whatever_happens(actions in prop::collection::vec(action(), 1..60)) {
            run(&mut Mem::default(), &mut Rocks::default(), &actions)?;
        }
    }
}

proptest! {
    #[test]
    fn the_engine_in_memory_is_deterministic(actions in prop::collection::vec(action(), 1..60)) {
        run(&mut Mem::default(), &mut Mem::default(), &actions)?;
    }

    #[test]
    fn crash_and_replay_leave_no_trace(actions in prop::collection::vec(action(), 1..60)) {
        let (mut crashing, mut steady) = (Mem::default(), Mem::default());
        let mut log = Log::default();
        (0..2).for_each(|index| crashing.create(partition(index)));
        (0..2).for_each(|index| steady.create(partition(index)));
        for action in &actions {
            match action {
                Action::Apply { partition: index, ops } => {
                    log[*index as usize].push(ops.clone());
                    crashing.apply(partition(*index), ops);
                    steady.apply(partition(*index), ops);
                }
                Action::ApplyTogether { mutations } => {
                    for (index, ops) in mutations {
                        log[*index as usize].push(ops.clone());
                        steady.apply(partition(*index), ops);
                    }
                    let of = |(index, ops): &(u32, Vec<Op>)| (partition(*index), ops.clone());
                    crashing.apply_together(&mutations.iter().map(of).collect::<Vec<_>>()).unwrap();
                }
                Action::Flush { partition: index } => drop(crashing.flush(partition(*index))),
                Action::FlushUnmarked { partition: index } => drop(crashing.flush_unmarked(partition(*index))),
                Action::Crash => {
                    crashing.crash();
                    replay(&mut crashing, &log);
                }
                _ => {}
            }
            for index in 0..2 {
                prop_assert!(crashing.0.stored(partition(index)).eq(steady.0.stored(partition(index))));
            }
        }
    }
}
