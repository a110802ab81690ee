use super::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const KEY: Key = Key {
    table: TableId(1),
    partition: 0,
    row: 1,
};
const AT: Instant = Instant(1);

fn acknowledged(history: &mut History) -> Value {
    let value = history.begin_write(AT, KEY);
    history.acknowledge(AT, value);
    value
}

fn read(history: &mut History, found: Option<Value>) {
    let begun = history.begin_read(AT);
    history.end_read(AT, KEY, begun, found);
}

#[test]
fn a_stale_read_is_a_violation() {
    let mut history = History::default();
    let old = acknowledged(&mut history);
    let early = history.begin_read(AT);
    let new = acknowledged(&mut history);
    history.end_read(AT, KEY, early, Some(old));
    read(&mut history, Some(new));
    assert_eq!(history.check(), Ok(()));
    read(&mut history, Some(old));
    assert!(history.check().is_err());
}

#[test]
fn an_acknowledged_write_that_is_gone_is_a_violation() {
    let mut history = History::default();
    acknowledged(&mut history);
    read(&mut history, None);
    assert!(history.check().is_err());
}

#[test]
fn what_a_read_has_shown_later_reads_must_show() {
    let mut history = History::default();
    let old = acknowledged(&mut history);
    let new = history.begin_write(AT, KEY);
    read(&mut history, Some(new));
    assert_eq!(history.check(), Ok(()));
    read(&mut history, Some(old));
    assert!(history.check().is_err());
}

#[test]
fn an_open_write_may_take_effect_late_once_or_never() {
    let mut history = History::default();
    let open = history.begin_write(AT, KEY);
    let other = acknowledged(&mut history);
    read(&mut history, Some(other));
    assert_eq!(history.check(), Ok(()));
    read(&mut history, Some(open));
    assert_eq!(history.check(), Ok(()));
    read(&mut history, Some(other));
    assert!(history.check().is_err());
}

#[test]
fn a_foreign_or_refused_or_future_value_is_a_violation() {
    let refused = |history: &mut History| {
        let value = history.begin_write(AT, KEY);
        history.not_executed(value);
        value
    };
    let foreign = |history: &mut History| history.begin_write(AT, Key { row: 2, ..KEY });
    let nobodys = |_: &mut History| Value(99);
    let cases: [&dyn Fn(&mut History) -> Value; 3] = [&refused, &foreign, &nobodys];
    for case in cases {
        let mut history = History::default();
        let value = case(&mut history);
        read(&mut history, Some(value));
        assert!(history.check().is_err());
    }
}

/// Every history of a few operations, judged by zones and by trying all orders.
#[test]
fn zones_agree_with_trying_every_order() {
    let mut random = SmallRng::seed_from_u64(7);
    let mut violations = 0;
    for _ in 0..20_000 {
        let history = random_history(&mut random);
        let expected = explained(&history);
        assert_eq!(history.check().is_ok(), expected, "{history:?}");
        violations += u32::from(!expected);
    }
    assert!((2_000..18_000).contains(&violations), "{violations}");
}

/// Up to three writes and three reads of one row that overlap as chance has it.
fn random_history(random: &mut SmallRng) -> History {
    let mut history = History::default();
    let (mut writing, mut reading) = (Vec::new(), Vec::new());
    for _ in 0..16 {
        match random.random_range(0..4) {
            0 if history.writes.len() < 3 => writing.push(history.begin_write(AT, KEY)),
            1 if !writing.is_empty() => {
                let value = writing.swap_remove(random.random_range(0..writing.len()));
                history.acknowledge(AT, value);
            }
            2 if reading.len() < 3 => reading.push(history.begin_read(AT)),
            3 if !reading.is_empty() => {
                let begun = reading.swap_remove(random.random_range(0..reading.len()));
                let value = random.random_range(0..=history.writes.len() as u64);
                let found = (value > 0).then_some(Value(value));
                history.end_read(AT, KEY, begun, found);
            }
            _ => {}
        }
    }
    history
}

/// An operation: when it begins, when it ends, what it writes or finds.
type Step = (Moment, Moment, Result<Value, Option<Value>>);

fn explained(history: &History) -> bool {
    let writes = (1..).zip(&history.writes).map(|(number, write)| {
        let end = match write.ending {
            Ending::Acknowledged(end) => end,
            Ending::Open | Ending::NotExecuted => Moment::NEVER,
        };
        (write.begun, end, Ok(Value(number)))
    });
    let reads = history.reads.values().flatten();
    let reads = reads.map(|read| (read.begun, read.ended, Err(read.found)));
    search(&writes.chain(reads).collect::<Vec<Step>>(), None)
}

fn search(left: &[Step], now: Option<Value>) -> bool {
    let required = |step: &Step| step.1 != Moment::NEVER;
    if !left.iter().any(required) {
        return true;
    }
    let first_end = left.iter().map(|step| step.1).min().expect("not empty");
    (0..left.len()).any(|index| {
        let (begun, _, what) = left[index];
        if begun > first_end {
            return false;
        }
        let next = match what {
            Ok(value) => Some(value),
            Err(found) if found == now => now,
            Err(_) => return false,
        };
        let mut rest = left.to_vec();
        _ = rest.remove(index);
        search(&rest, next)
    })
}

fn changed(history: &mut History, sum: Option<u64>) -> Item {
    let item = history.begin_change(AT, KEY);
    history.acknowledge_change(AT, item, sum);
    item
}

fn look(history: &mut History, seen: Seen) {
    let begun = history.begin_read(AT);
    history.end_look(AT, KEY, begun, seen);
}

#[test]
fn a_list_holds_what_was_appended_in_the_order_of_time() {
    let mut history = History::default();
    let (one, two) = (changed(&mut history, None), changed(&mut history, None));
    look(&mut history, Seen::List(vec![one, two]));
    assert_eq!(history.check(), Ok(()));
    look(&mut history, Seen::List(vec![two, one]));
    assert!(history.check().is_err());
}

#[test]
fn items_that_were_appended_in_the_wrong_order_are_a_violation() {
    let mut history = History::default();
    let (one, two) = (changed(&mut history, None), changed(&mut history, None));
    look(&mut history, Seen::List(vec![two, one]));
    assert!(history.check().is_err());
}

#[test]
fn an_item_that_is_there_twice_or_gone_is_a_violation() {
    for seen in [&[1, 1, 2][..], &[1], &[]] {
        let mut history = History::default();
        changed(&mut history, None);
        changed(&mut history, None);
        look(
            &mut history,
            Seen::List(seen.iter().copied().map(Item).collect()),
        );
        assert!(history.check().is_err(), "{seen:?}");
    }
}

#[test]
fn an_item_of_open_outcome_may_be_there_and_one_not_executed_may_not() {
    let mut history = History::default();
    let open = history.begin_change(AT, KEY);
    let one = changed(&mut history, None);
    look(&mut history, Seen::List(vec![one]));
    look(&mut history, Seen::List(vec![one, open]));
    assert_eq!(history.check(), Ok(()));
    history.change_not_executed(open);
    assert!(history.check().is_err());
}

#[test]
fn a_list_that_is_read_shorter_later_is_a_violation() {
    let mut history = History::default();
    let one = history.begin_change(AT, KEY);
    look(&mut history, Seen::List(vec![one]));
    assert_eq!(history.check(), Ok(()));
    look(&mut history, Seen::List(Vec::new()));
    assert!(history.check().is_err());
}

#[test]
fn sums_follow_each_other_and_no_increment_counts_twice() {
    let mut history = History::default();
    changed(&mut history, Some(1));
    changed(&mut history, Some(2));
    look(&mut history, Seen::Count(2));
    assert_eq!(history.check(), Ok(()));
    look(&mut history, Seen::Count(3));
    assert!(history.check().is_err(), "nobody made it 3");
    history.begin_change(AT, KEY);
    assert!(history.check().is_err(), "not before that read");
}

#[test]
fn an_increment_of_open_outcome_counts_once() {
    let mut history = History::default();
    history.begin_change(AT, KEY);
    changed(&mut history, Some(2));
    assert_eq!(history.check(), Ok(()));
    changed(&mut history, Some(4));
    assert!(history.check().is_err());
}

#[test]
fn equal_sums_and_sums_against_the_order_of_time_are_violations() {
    for sums in [[1, 1], [2, 1]] {
        let mut history = History::default();
        changed(&mut history, Some(sums[0]));
        changed(&mut history, Some(sums[1]));
        assert!(history.check().is_err(), "{sums:?}");
    }
}

#[test]
fn a_count_below_what_was_acknowledged_before_is_a_violation() {
    let mut history = History::default();
    changed(&mut history, Some(1));
    let early = history.begin_read(AT);
    changed(&mut history, Some(2));
    history.end_look(AT, KEY, early, Seen::Count(1));
    assert_eq!(history.check(), Ok(()));
    look(&mut history, Seen::Count(1));
    assert!(history.check().is_err());
}
