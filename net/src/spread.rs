//! A hash for maps whose keys are hashes already: it only has to keep clients, who choose what was hashed, from choosing the
//! map's buckets too.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes hashers with a secret of the map's own.
#[derive(Clone, Debug)]
pub struct Spread {
    secret: u64,
}

/// Of the numbers in a key, in order.
#[derive(Clone, Copy, Debug)]
pub struct SpreadHasher {
    state: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            secret: RandomState::new().hash_one(0_u8),
        }
    }
}

impl BuildHasher for Spread {
    type Hasher = SpreadHasher;

    fn build_hasher(&self) -> SpreadHasher {
        SpreadHasher { state: self.secret }
    }
}

impl Hasher for SpreadHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Both halves of the product, so that every bit of the number reaches every bit that a map looks at.
        let product = u128::from(self.state ^ number) * u128::from(MULTIPLIER);
        #[allow(clippy::cast_possible_truncation, reason = "the two halves")]
        let halves = (product as u64, (product >> 64) as u64);
        self.state = halves.0 ^ halves.1;
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

/// 2^64 divided by the golden ratio, made odd (Knuth, The Art of Computer Programming 3, 6.4).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_that_differ_in_a_few_bits_lie_far_apart() {
        let spread = Spread::default();
        let hashes = (0..4096_u64).map(|number| spread.hash_one(number << 52));
        let tops: HashSet<u64> = hashes.map(|hash| hash & 0xfff).collect();
        assert!(tops.len() > 2000, "{} of 4096 buckets", tops.len());
    }

    #[test]
    fn maps_have_secrets_of_their_own() {
        assert_ne!(
            Spread::default().hash_one(1_u64),
            Spread::default().hash_one(1_u64)
        );
    }
}
