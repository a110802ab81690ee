#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(clippy::cast_possible_truncation, reason = "test sizes are small")]

mod corpus;
mod damage;
mod disk;
mod life;
mod model;
mod pins;
mod random;
mod rules;
mod size;
mod suffix;

use proptest::test_runner::{Config, RngSeed};

/// The same cases in every run, unless `PROPTEST_RNG_SEED` says otherwise.
fn cases(cases: u32) -> Config {
    let mut config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(20);
    }
    config
}
