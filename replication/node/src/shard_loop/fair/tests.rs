use super::*;

const US: Duration = Duration::from_micros(1);
const FLOOD: u32 = 1;
const QUIET: u32 = 2;

/// Serves until `time` is over; what each table got, in requests.
fn serve(queue: &mut FairQueue<u32>, cost: impl Fn(u32) -> Duration, time: Duration) -> [u32; 4] {
    let mut served = [0; 4];
    let mut used = Duration::ZERO;
    while used < time
        && let Some(table) = queue.pop()
    {
        used += cost(table);
        queue.charge(table, cost(table));
        served[table as usize] += 1;
    }
    served
}

#[test]
fn one_table_alone_is_served_in_order_whatever_it_costs() {
    let mut queue = FairQueue::default();
    (0..1000).for_each(|number| queue.push(FLOOD, number));
    for number in 0..1000 {
        assert_eq!(queue.pop(), Some(number));
        queue.charge(FLOOD, Duration::from_secs(1));
    }
    assert_eq!(queue.pop(), None);
    assert!(queue.is_empty());
}

#[test]
fn a_quiet_table_is_served_next_however_many_wait_of_another() {
    let mut queue = FairQueue::default();
    (0..10_000).for_each(|_| queue.push(FLOOD, FLOOD));
    for _ in 0..100 {
        // Long enough for many turns, so that the quiet table is owed one.
        serve(&mut queue, |_| 2 * US, 300 * US);
        queue.push(QUIET, QUIET);
        assert_eq!(queue.pop(), Some(QUIET));
        queue.charge(QUIET, 2 * US);
    }
}

#[test]
fn time_is_shared_evenly_although_requests_of_one_table_cost_a_hundred_times_as_much() {
    let mut queue = FairQueue::default();
    for table in [1, 2, 3] {
        (0..100_000).for_each(|_| queue.push(table, table));
    }
    let cost = |table| if table == 1 { 200 * US } else { 2 * US };
    let [_, large, small, other] = serve(&mut queue, cost, Duration::from_millis(300));
    let ms = |requests: u32, us: u32| f64::from(requests * us) / 1000.0;
    for share in [ms(large, 200), ms(small, 2), ms(other, 2)] {
        assert!((95.0..=105.0).contains(&share), "{large} {small} {other}");
    }
}

#[test]
fn nobody_saves_time_up_and_debts_are_bounded() {
    let mut queue = FairQueue::default();
    queue.push(FLOOD, FLOOD);
    queue.pop();
    queue.charge(FLOOD, Duration::from_secs(3600));
    // The other one was alone for long and has no more than a turn for it.
    (0..100_000).for_each(|_| queue.push(QUIET, QUIET));
    serve(&mut queue, |_| 2 * US, Duration::from_millis(50));
    (0..100_000).for_each(|_| queue.push(FLOOD, FLOOD));
    let [_, flood, quiet, _] = serve(&mut queue, |_| 2 * US, Duration::from_millis(100));
    assert!(flood.abs_diff(quiet) <= 50, "{flood} and {quiet}");
}

#[test]
fn a_table_that_comes_back_at_once_does_not_get_ahead_of_the_others() {
    let mut queue = FairQueue::default();
    (0..100_000).for_each(|_| queue.push(QUIET, QUIET));
    let mut served = [0, 0];
    // It has one request at a time, each worth a whole turn, and asks again as soon as it is answered.
    queue.push(FLOOD, FLOOD);
    for _ in 0..20_000 {
        let table = queue.pop().expect("the other table has plenty");
        let cost = if table == FLOOD { 100 * US } else { 2 * US };
        queue.charge(table, cost);
        served[table as usize - 1] += cost.as_micros();
        if table == FLOOD {
            queue.push(FLOOD, FLOOD);
        }
    }
    let [flood, quiet] = served;
    assert!(flood <= quiet && flood * 3 >= quiet, "{served:?}");
}

#[test]
fn tables_whose_numbers_differ_by_the_number_of_flows_share_one() {
    let mut queue = FairQueue::default();
    queue.push(3, 'a');
    queue.push(3 + 256, 'b');
    assert_eq!((queue.len_of(3), queue.len()), (2, 2));
    assert_eq!((queue.pop(), queue.pop()), (Some('a'), Some('b')));
}
