//! The command lines of `load` and `run`, and the plans that they stand for.

mod common;
mod offer;
mod run;

pub(crate) use common::{CommonOptions, Protocol};
pub(crate) use offer::Offer;
pub(crate) use run::RunOptions;

use anyhow::ensure;
use std::time::Duration;

/// A number of seconds that an option gave.
///
/// # Errors
/// Names the option and its range when the number lies outside, or is none.
pub(crate) fn seconds(
    option: &str,
    value: f64,
    range: std::ops::RangeInclusive<f64>,
) -> anyhow::Result<Duration> {
    ensure!(
        range.contains(&value),
        "{option} {value}: {} to {} seconds are allowed",
        range.start(),
        range.end()
    );
    Ok(Duration::from_secs_f64(value))
}

#[cfg(test)]
mod tests;
