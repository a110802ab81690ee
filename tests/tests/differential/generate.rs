//! Random operations on few keys, so that they meet.

use e2e::model::{Change, Check, ExpireAt, Filter, Match, MultiGet, Operation, Verb};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Everything.
    Any,
    /// What Redis can say too.
    Redis,
}

pub(super) struct Generator {
    kind: Kind,
    random: StdRng,
    /// Long after the test, whole tens.
    later: ExpireAt,
    /// The value that was last written, probably: checks that compare with it are often on the edge.
    last: Vec<u8>,
}

/// Long before any test.
const PAST: ExpireAt = 1_000;

const HASH_KEYS: [&[u8]; 3] = [b"", b"h", b"\xff\0\xff"];
const SORT_KEYS: [&[u8]; 10] = [
    b"",
    b"a",
    b"aa",
    b"ab",
    b"b",
    b"ba",
    b"c",
    b"\0",
    b"\xff",
    b"\xff\xff",
];
/// Numbers in every form, what is nearly a number, and what is none.
const VALUES: [&[u8]; 24] = [
    b"",
    b"0",
    b"7",
    b"-5",
    b" 12",
    b"\t+3",
    b"0x1f",
    b"-0X10",
    b"010",
    b"08",
    b"0x",
    b"-",
    b"12a",
    b"1 ",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"abc",
    b"b",
    b"ab",
    b"\0",
    b"\xff\xfe",
    b"abcabcabcabc",
];
/// Those that both ways to read numbers, Redis' and C's, take for the same.
const PLAIN_VALUES: [&[u8]; 8] = [
    b"0",
    b"7",
    b"-5",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"abc",
    b"12a",
    b"\0\r\n",
];
/// Kinds of checks, filters and changes that do not exist.
const UNKNOWN: [i32; 6] = [-1, 18, 19, 255, i32::MAX, i32::MIN];
/// Raw keys that are shorter than they say; the last says more than a hash key may have.
const MALFORMED: [&[u8]; 6] = [
    b"",
    b"\0",
    b"\0\x01",
    b"\0\x05hash",
    b"\xff\xfe",
    b"\xff\xff",
];
const INCREMENTS: [i64; 7] = [0, 1, -1, 1_000, i64::MAX, i64::MIN, -77];

impl Generator {
    pub(super) fn new(kind: Kind, seed: u64, now: u32) -> Self {
        Self {
            kind,
            random: StdRng::seed_from_u64(seed),
            later: (now + 1_000_000) / 10 * 10,
            last: Vec::new(),
        }
    }

    pub(super) fn operation(&mut self) -> Operation {
        match self.kind {
            Kind::Any => self.any(),
            Kind::Redis if self.random.random() => self.of_string(),
            Kind::Redis => self.of_hash(),
        }
    }

    fn any(&mut self) -> Operation {
        let (hash, sort) = (self.one(&HASH_KEYS), self.one(&SORT_KEYS));
        // Operations on a hash key need one.
        let owner = self.one(&HASH_KEYS[1..]);
        match self.random.random_range(0..24) {
            0..3 => {
                self.last = self.one(&VALUES);
                Operation::Put(hash, sort, self.last.clone(), self.expiry())
            }
            3 => Operation::Remove(hash, sort),
            4 => Operation::Get(hash, sort),
            5 => Operation::Ttl(hash, sort),
            6 => {
                let expire_at = if self.random.random() {
                    0
                } else {
                    self.later()
                };
                Operation::MultiPut(owner, self.rows(), expire_at)
            }
            7 => Operation::MultiRemove(owner, self.sort_keys(3)),
            8 | 9 => Operation::MultiGet(owner, self.multi_get()),
            10 => Operation::SortkeyCount(owner),
            11 => Operation::BatchGet(owner, self.sort_keys(6)),
            12 | 13 => {
                let expire = match self.random.random_range(0..6) {
                    0 => -1,
                    1 => self.later().cast_signed(),
                    _ => 0,
                };
                Operation::Incr(hash, sort, self.increment(), expire)
            }
            14..20 => {
                let other = self.random.random::<bool>().then(|| self.one(&SORT_KEYS));
                let (value, expire_at) = (self.one(&VALUES), self.expiry());
                Operation::CheckAndSet(owner, self.check(), other, value, expire_at)
            }
            20..22 => Operation::CheckAndMutate(owner, self.check(), self.changes()),
            22 if self.random.random_ratio(1, 3) => self.malformed(),
            _ if self.random.random() => {
                Operation::Count(self.filter(&HASH_KEYS), self.filter(&SORT_KEYS))
            }
            _ => {
                let page = self.random.random_range(0..4);
                Operation::Scan(self.filter(&HASH_KEYS), self.filter(&SORT_KEYS), page)
            }
        }
    }

    fn of_string(&mut self) -> Operation {
        let key = self.one(&[b"s0", b"s1", b"s2"]);
        let (sort, value) = (Vec::new(), self.one(&PLAIN_VALUES));
        match self.random.random_range(0..7) {
            0 => Operation::Put(key, sort, value, 0),
            1 => Operation::Put(key, sort, value, self.later()),
            2 => Operation::Get(key, sort),
            3 => Operation::Ttl(key, sort),
            4 => Operation::Remove(key, sort),
            5 => Operation::Incr(key, sort, self.increment(), 0),
            _ => Operation::CheckAndSet(key, is_missing(sort), None, value, 0),
        }
    }

    fn of_hash(&mut self) -> Operation {
        let key = self.one(&[b"h0", b"h1"]);
        let (field, value) = (self.one(&SORT_KEYS[1..]), self.one(&PLAIN_VALUES));
        let mut fields = self.sort_keys(3);
        fields.retain(|field| !field.is_empty());
        fields.push(field.clone());
        match self.random.random_range(0..9) {
            0 => Operation::Put(key, field, value, 0),
            1 => {
                let row = |field| (field, value.clone());
                Operation::MultiPut(key, fields.into_iter().map(row).collect(), 0)
            }
            2 => Operation::Get(key, field),
            3 => {
                let sort_keys = fields;
                Operation::MultiGet(
                    key,
                    MultiGet {
                        sort_keys,
                        ..MultiGet::default()
                    },
                )
            }
            4 => {
                let start_inclusive = true;
                Operation::MultiGet(
                    key,
                    MultiGet {
                        start_inclusive,
                        ..MultiGet::default()
                    },
                )
            }
            5 => Operation::SortkeyCount(key),
            6 => Operation::MultiRemove(key, fields),
            7 => Operation::Incr(key, field, self.increment(), 0),
            _ => Operation::CheckAndSet(key, is_missing(field), None, value, 0),
        }
    }

    fn multi_get(&mut self) -> MultiGet {
        let limit = |random: &mut StdRng| {
            if random.random() {
                0
            } else {
                random.random_range(1..8)
            }
        };
        let mut asked = MultiGet {
            start_inclusive: self.random.random(),
            no_value: self.random.random_ratio(1, 4),
            max_rows: limit(&mut self.random),
            max_bytes: limit(&mut self.random),
            ..MultiGet::default()
        };
        if self.random.random_ratio(1, 3) {
            asked.sort_keys = self.sort_keys(5);
            return asked;
        }
        asked.start = self.one(&SORT_KEYS);
        asked.stop = self.one(&SORT_KEYS);
        asked.stop_inclusive = self.random.random();
        asked.filter = self.filter(&SORT_KEYS);
        asked.reverse = self.random.random();
        asked
    }

    fn malformed(&mut self) -> Operation {
        let verbs = [Verb::Get, Verb::Put, Verb::Remove, Verb::Ttl, Verb::Incr];
        let verb = *verbs.choose(&mut self.random).expect("there are some");
        Operation::Malformed(verb, self.one(&MALFORMED))
    }

    fn unknown(&mut self) -> i32 {
        *UNKNOWN.choose(&mut self.random).expect("there are some")
    }

    fn check(&mut self) -> Check {
        let is_known = !self.random.random_ratio(1, 20);
        Check {
            sort_key: self.one(&SORT_KEYS),
            kind: if is_known {
                self.random.random_range(0..18)
            } else {
                self.unknown()
            },
            operand: if self.random.random() {
                self.last.clone()
            } else {
                self.one(&VALUES)
            },
        }
    }

    /// Now and then none.
    fn changes(&mut self) -> Vec<Change> {
        let count = self.random.random_range(0..4);
        let change = |_| match self.random.random_range(0..30) {
            0 => Change::Unknown(self.unknown()),
            1..11 => Change::Remove(self.one(&SORT_KEYS)),
            _ => Change::Put(self.one(&SORT_KEYS), self.one(&VALUES), self.expiry()),
        };
        (0..count).map(change).collect()
    }

    /// Now and then none.
    fn rows(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let keys = self.sort_keys(5);
        keys.into_iter()
            .map(|key| (key, self.one(&VALUES)))
            .collect()
    }

    fn sort_keys(&mut self, max: usize) -> Vec<Vec<u8>> {
        let count = self.random.random_range(0..=max);
        let mut keys: Vec<_> = (0..count).map(|_| self.one(&SORT_KEYS)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    fn filter(&mut self, texts: &[&[u8]]) -> Filter {
        let kind = match self.random.random_range(0..24) {
            0..4 => Match::Anywhere,
            4..8 => Match::Prefix,
            8..12 => Match::Postfix,
            12 => Match::Unknown(self.unknown()),
            _ => return None,
        };
        Some((kind, self.one(texts)))
    }

    fn expiry(&mut self) -> ExpireAt {
        match self.random.random_range(0..6) {
            0 => PAST,
            1 => self.later(),
            _ => 0,
        }
    }

    fn later(&mut self) -> ExpireAt {
        self.later + 1_000 * self.random.random_range(0..100)
    }

    fn increment(&mut self) -> i64 {
        *INCREMENTS.choose(&mut self.random).expect("there are some")
    }

    fn one(&mut self, of: &[&[u8]]) -> Vec<u8> {
        of.choose(&mut self.random)
            .expect("there are some")
            .to_vec()
    }
}

fn is_missing(sort_key: Vec<u8>) -> Check {
    Check {
        sort_key,
        kind: 1,
        operand: Vec::new(),
    }
}
