use super::*;
use pegasus_replication::ids::TableId;

const PARTITION: PartitionId = PartitionId {
    table: TableId(2),
    index: 3,
};

/// One second after the other, with this many requests for each of these keys, in turns.
fn run(keys: &mut HotKeys, seconds: u64, requests: u64, names: &[&str]) -> Instant {
    let mut now = keys.tell_at;
    for _ in 0..seconds {
        for _ in 0..requests {
            for name in names {
                let hash = name
                    .bytes()
                    .fold(7, |hash, byte| hash * 31 + u64::from(byte));
                if keys.is_sampled(false) {
                    keys.look_at(PARTITION, false, name.as_bytes(), hash);
                }
            }
        }
        now = keys.tell_at;
        assert!(keys.is_due(now));
        keys.tell(now);
    }
    now
}

#[test]
fn few_requests_are_all_counted() {
    let mut keys = HotKeys::new(Instant::default());
    let board = keys.board();
    assert!(board.read().keys.is_empty());
    run(&mut keys, 3, 10, &["a", "b"]);
    let told = board.read();
    assert_eq!((told.reads, told.writes, told.window_ms), (60, 0, 3_000));
    let counts: Vec<_> = told.keys.iter().map(|it| (it.count, it.error)).collect();
    assert_eq!(counts, [(30, 0), (30, 0)]);
    let first = &told.keys[0];
    assert_eq!((first.table, first.partition), (2, 3));
    assert!(!first.is_write && first.key_bytes == 1);
}

/// A pattern of four in turns, and a sample of one in many: each has a quarter all the same.
#[test]
fn of_many_requests_a_bounded_sample_is_counted_and_chosen_by_chance() {
    let mut keys = HotKeys::new(Instant::default());
    let names = ["a", "b", "c", "d"];
    run(&mut keys, 2, 100_000, &names);
    assert!(keys.period >= 100, "one in {}", keys.period);
    run(&mut keys, 10, 100_000, &names);
    let told = keys.board().read();
    assert_eq!(told.keys.len(), 4);
    assert_eq!(told.reads, 12 * 400_000);
    for key in &told.keys {
        let share = key.count * 1_000 / told.reads;
        assert!((220..280).contains(&share), "{share} of a thousand");
    }
}

#[test]
fn a_sudden_rush_is_thinned_out_within_its_first_second() {
    let mut keys = HotKeys::new(Instant::default());
    let mut looked_at = 0;
    for _ in 0..1_000_000 {
        if keys.is_sampled(true) {
            looked_at += 1;
            keys.look_at(PARTITION, true, b"k", 1);
        }
    }
    assert!(looked_at < 20 * SAMPLES_PER_SECOND, "{looked_at}");
    keys.tell(keys.tell_at);
    let told = keys.board().read();
    assert_eq!((told.writes, told.keys.len()), (1_000_000, 1));
    let count = told.keys[0].count;
    assert!((800_000..1_200_000).contains(&count), "{count}");
}

#[test]
fn what_was_hot_is_forgotten_after_two_windows() {
    let mut keys = HotKeys::new(Instant::default());
    run(&mut keys, 5, 10, &["old"]);
    run(&mut keys, 15, 10, &["new"]);
    let told = keys.board().read();
    assert_eq!(told.keys.len(), 2, "the window before still has it");
    run(&mut keys, 30, 0, &[]);
    let told = keys.board().read();
    assert!(told.keys.is_empty() && told.reads == 0, "{told:?}");
    assert!(told.window_ms <= 30_000, "{}", told.window_ms);
}
