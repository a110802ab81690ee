//! What is counted. Everything is made before; only the operations are counted.

mod engine_get;
mod get;
mod group;
mod writes;

use anyhow::{Context as _, bail};

/// One path.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// How often it is gone.
    pub(crate) operations: u64,
    prepare: fn() -> anyhow::Result<Box<dyn Operate>>,
}

/// A path that can be gone again and again.
pub(crate) trait Operate {
    /// Goes it once. `number` counts from 0.
    fn operate(&mut self, number: u64);

    /// Whether what was counted was what was meant to be: the answers so far.
    fn answers(&self) -> u64;
}

/// Ascending by name.
pub(crate) const ALL: [Case; 4] = [
    // A row that the engine finds in memory.
    Case {
        name: "engine_cached_get",
        operations: 20_000,
        prepare: engine_get::prepare,
    },
    // From the bytes of a GET to the read that the engine is asked for, and the right to answer.
    Case {
        name: "get_decode_dispatch",
        operations: 10_000,
        prepare: get::prepare,
    },
    // Sixteen writes of a turn: one batch of the log, flushed, applied, answered.
    Case {
        name: "log_batch_of_16",
        operations: 500,
        prepare: writes::prepare_batches,
    },
    // One write through three cores: prepared, acknowledged by both secondaries, applied, answered.
    Case {
        name: "prepare_three_cores",
        operations: 1_000,
        prepare: writes::prepare_replicated,
    },
];

/// Runs one.
///
/// # Errors
/// When it cannot be prepared, or did something else than it should.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    let case = ALL.iter().find(|case| case.name == name);
    let case = case.with_context(|| format!("there is no case {name}"))?;
    let mut path = (case.prepare)()?;
    measured_operations(&mut *path, case.operations);
    if path.answers() != case.operations {
        bail!(
            "{} of {} operations had their answer",
            path.answers(),
            case.operations
        );
    }
    Ok(())
}

/// Callgrind counts from its begin to its end.
#[inline(never)]
fn measured_operations(path: &mut dyn Operate, operations: u64) {
    for number in 0..operations {
        path.operate(number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn every_case_does_what_it_says() {
        for case in &ALL {
            run(case.name).unwrap();
        }
    }
}
