use super::*;

const SECOND: u64 = 1_000_000_000;

fn throttles(pairs: &[(&str, &str)]) -> Throttles {
    let envs = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Throttles::of(&envs).expect("something is set")
}

const fn at(ms: u64) -> Moment {
    Moment {
        second: ms / 1000,
        now: Instant(ms * 1_000_000),
        timeout: Duration::from_secs(1),
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn values_are_read_as_apache_pegasus_spells_them() {
    let bound = |units, pause_ms| {
        Some(Bound {
            units,
            pause: ms(pause_ms),
        })
    };
    let cases = [
        ("20000*delay*100", bound(20_000, 100), None),
        ("2K*reject*0", None, bound(2048, 0)),
        (
            "1K*delay*5,3M*reject*100",
            bound(1024, 5),
            bound(3 << 20, 100),
        ),
    ];
    for (value, delay, reject) in cases {
        assert_eq!(Throttle::of(value), Some(Throttle { delay, reject }));
    }
    for value in [
        "",
        "5",
        "5*delay",
        "5*delay*1*2",
        "5*slow*1",
        "-5*delay*1",
        "5*delay*1,6*delay*1",
        "18446744073709551615K*delay*1",
    ] {
        assert_eq!(Throttle::of(value), None, "{value}");
    }
    assert_eq!(read_bytes("20M"), Some(20 << 20));
    assert_eq!(read_bytes("7"), Some(7));
    assert_eq!(read_bytes("1*delay*2,3K*reject*4"), Some(3072));
    assert_eq!(read_bytes("1*delay*2"), None);
    assert_eq!(Throttles::of(&BTreeMap::new()), None);
}

#[test]
fn a_partition_has_its_share_of_the_units_and_one_more_in_each_second() {
    let it = throttles(&[(WRITES, "8*delay*20,16*reject*40")]);
    let mut usage = Usage::default();
    let mut write = |now| it.on_write(&mut usage, 4, 1000, at(now));
    // Three without a delay, two more with one; what is rejected leaves the count alone.
    let verdicts: Vec<Verdict> = (0..7).map(|_| write(999)).collect();
    let (delay, reject) = (Verdict::Delay(ms(20)), Verdict::Reject(ms(40)));
    let pass = Verdict::Pass;
    assert_eq!(verdicts, [pass, pass, pass, delay, delay, reject, reject]);
    assert_eq!(write(1000), pass);
    // A clock that is set back begins another second, too.
    for _ in 0..3 {
        assert_eq!(write(500), pass);
    }
    assert_eq!(write(500), delay);
}

#[test]
fn nobody_waits_longer_than_half_of_the_time_that_its_client_has() {
    let it = throttles(&[(READS, "0*delay*900,1*reject*4000000000")]);
    let mut usage = Usage::default();
    let mut read = |timeout| {
        let moment = Moment { timeout, ..at(0) };
        it.on_read(&mut usage, 1, moment)
    };
    assert_eq!(read(ms(100)), Verdict::Pass);
    assert_eq!(read(ms(100)), Verdict::Delay(ms(50)));
    assert_eq!(read(ms(100)), Verdict::Reject(ms(50)));
    assert_eq!(read(ms(0)), Verdict::Reject(ms(0)));
}

#[test]
fn writes_are_counted_by_number_first_and_then_by_size() {
    let it = throttles(&[(WRITES, "2*reject*1"), (WRITTEN_BYTES, "1K*reject*2")]);
    let mut usage = Usage::default();
    let mut write = |bytes| it.on_write(&mut usage, 1, bytes, at(0));
    assert_eq!(write(1025), Verdict::Pass);
    assert_eq!(write(1), Verdict::Reject(ms(2)));
    // The one that was too large has counted as one.
    assert_eq!(write(0), Verdict::Pass);
    assert_eq!(write(0), Verdict::Reject(ms(1)));
    assert_eq!(it.on_read(&mut usage, 1, at(0)), Verdict::Pass);
}

#[test]
fn bytes_read_are_paid_for_afterwards() {
    let it = throttles(&[(READ_BYTES, "4000")]);
    let mut usage = Usage::default();
    let mut read = |now_ms, bytes| {
        let verdict = it.on_read(&mut usage, 4, at(now_ms));
        if verdict == Verdict::Pass {
            it.after_read(&mut usage, 4, bytes, at(now_ms).now);
        }
        verdict
    };
    // One second's worth is there; the read that goes over it is answered.
    assert_eq!(read(0, 999), Verdict::Pass);
    assert_eq!(read(0, 501), Verdict::Pass);
    assert_eq!(read(0, 1), Verdict::Reject(Duration::ZERO));
    assert_eq!(read(500, 1), Verdict::Reject(Duration::ZERO));
    assert_eq!(read(501, 1), Verdict::Pass);
    assert_eq!(read(501, 1), Verdict::Reject(Duration::ZERO));
    // It never holds more than one second's worth.
    assert_eq!(read(100_000, 1000), Verdict::Pass);
    assert_eq!(read(100_000, 1), Verdict::Reject(Duration::ZERO));
}

#[test]
fn frequent_looks_lose_no_bytes() {
    let mut bucket = Bucket {
        bytes: 0,
        filled: Some(Instant(0)),
    };
    for look in 1..=1_000_000_u64 {
        bucket.left(1500, Instant(look * SECOND / 1_000_000));
    }
    assert_eq!(bucket.bytes, 1500);
}

#[test]
fn the_largest_number_throttles_nobody() {
    let throttles = throttles(&[(WRITES, "18446744073709551615*reject*0")]);
    let mut usage = Usage::default();
    assert_eq!(throttles.on_write(&mut usage, 1, 1, at(0)), Verdict::Pass);
}
