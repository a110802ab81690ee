//! The core by its public edge: several shards in one process, under scripts and at random.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, with its place"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the tests read scripts and take seeds from the environment; the core under test does not"
)]

mod meta;
mod random;
mod restored;
mod scripts;
mod world;
