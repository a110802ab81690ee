use super::*;
use std::collections::HashMap;

const PARTITION: PartitionId = PartitionId {
    table: TableId(1),
    index: 0,
};

/// A stream of numbers below `keys` whose frequencies fall as 1 / rank^exponent, from a seed.
fn zipfian(keys: u32, exponent: f64, length: usize, seed: u64) -> Vec<u32> {
    let weights: Vec<f64> = (1..=keys)
        .map(|rank| f64::from(rank).powf(-exponent))
        .collect();
    let total: f64 = weights.iter().sum();
    let mut sums = Vec::new();
    let mut sum = 0.0;
    for weight in weights {
        sum += weight / total;
        sums.push(sum);
    }
    let mut state = seed;
    let mut next = || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[allow(clippy::cast_precision_loss, reason = "53 bits")]
        let unit = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        unit
    };
    let index = |unit: f64| sums.partition_point(|sum| *sum < unit);
    let numbers = (0..length).map(|_| u32::try_from(index(next())).unwrap_or(keys).min(keys - 1));
    numbers.collect()
}

fn hash_of(number: u32) -> u64 {
    u64::from(number).wrapping_mul(0x2545_f491_4f6c_dd1d)
}

fn add(sketch: &mut Sketch, number: u32, weight: u64) {
    sketch.add(PARTITION, &number.to_le_bytes(), hash_of(number), weight);
}

fn number_of(counted: &Counted) -> u32 {
    u32::from_le_bytes(counted.key[..].try_into().expect("four bytes"))
}

/// The bounds of Metwally, Agrawal and El Abbadi 2005, lemmas 3 and 4 and theorem 2.
fn check(counted: &[Counted], truth: &HashMap<u32, u64>, total: u64, sketches: u64) {
    let bound = sketches * total / KEYS as u64;
    for it in counted {
        let real = truth.get(&number_of(it)).copied().unwrap_or(0);
        assert!(it.count >= real, "too few: {it:?}, {real}");
        assert!(it.count - it.error <= real, "too many: {it:?}, {real}");
        assert!(it.error <= bound, "{it:?}, at most {bound}");
    }
    for (number, real) in truth.iter().filter(|(_, real)| **real > bound) {
        let is_there = counted.iter().any(|it| number_of(it) == *number);
        assert!(is_there, "{number} came {real} times of {total}");
    }
}

fn all(sketch: &Sketch) -> Vec<Counted> {
    sketch.with(&Sketch::default())
}

#[test]
fn zipfian_streams_are_counted_within_the_known_bound() {
    for (exponent, seed) in [(0.6, 1), (0.99, 2), (0.99, 3), (1.3, 4)] {
        let mut sketch = Sketch::default();
        let mut truth = HashMap::new();
        let stream = zipfian(20_000, exponent, 60_000, seed);
        for number in &stream {
            add(&mut sketch, *number, 3);
            *truth.entry(*number).or_default() += 3;
        }
        check(&all(&sketch), &truth, 3 * stream.len() as u64, 1);
    }
}

/// With the skew of YCSB the ten hottest of 20,000 keys are the first ten, in their order as far as it is clear.
#[test]
fn the_hottest_keys_of_a_zipfian_stream_are_named_first() {
    let mut sketch = Sketch::default();
    for number in zipfian(20_000, 0.99, 60_000, 5) {
        add(&mut sketch, number, 1);
    }
    let mut counted = all(&sketch);
    counted.sort_by_key(|it| std::cmp::Reverse(it.count - it.error));
    let first: Vec<u32> = counted.iter().take(5).map(number_of).collect();
    assert_eq!(first[..3], [0, 1, 2]);
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 1, 2, 3, 4], "{first:?}");
}

#[test]
fn two_sketches_together_keep_the_sum_of_their_bounds() {
    let (mut one, mut other) = (Sketch::default(), Sketch::default());
    let mut truth = HashMap::new();
    let stream = zipfian(5_000, 0.8, 40_000, 6);
    for (at, number) in stream.iter().enumerate() {
        let sketch = if at % 3 == 0 { &mut one } else { &mut other };
        add(sketch, *number, 1);
        *truth.entry(*number).or_default() += 1;
    }
    check(&one.with(&other), &truth, stream.len() as u64, 1);
    check(&other.with(&one), &truth, stream.len() as u64, 1);
}

/// 100,000 different keys, longer than any that is kept, take no more room than the first 128 of them.
#[test]
fn memory_does_not_grow_with_the_keys() {
    let mut sketch = Sketch::default();
    let room = |it: &Sketch| {
        let (a, b) = (it.hashes.capacity(), it.counts.capacity());
        (a, b, it.errors.capacity(), it.names.capacity())
    };
    let before = room(&sketch);
    let key = [b'k'; 1_000];
    for number in 0..100_000 {
        sketch.add(PARTITION, &key, hash_of(number), 1);
    }
    assert_eq!(room(&sketch), before);
    assert_eq!(before, (KEYS, KEYS, KEYS, KEYS));
    let counted = all(&sketch);
    assert_eq!(counted.len(), KEYS);
    assert!(counted.iter().all(|it| it.key == key[..KEY_BYTES_MAX]));
    assert!(counted.iter().all(|it| it.key_bytes == 1_000));
    let bytes = KEYS * (3 * size_of::<u64>() + size_of::<Name>());
    assert!(bytes < 24 << 10, "{bytes} bytes");
}

#[test]
fn one_key_in_two_tables_is_two_keys() {
    let mut sketch = Sketch::default();
    let other = PartitionId {
        table: TableId(9),
        index: 0,
    };
    sketch.add(PARTITION, b"k", 5, 1);
    sketch.add(other, b"k", 5, 2);
    assert_eq!(all(&sketch).len(), 2);
}
