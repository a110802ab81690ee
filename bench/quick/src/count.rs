//! Counting: this program once more for each case, under callgrind, which counts only while the measured function runs.

use crate::cases::{self, Case};
use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Instructions of one operation of each case, by name.
///
/// # Errors
/// When there is no valgrind, or a case fails.
pub(crate) fn all() -> anyhow::Result<BTreeMap<String, u64>> {
    let counted = cases::ALL.iter().map(|case| {
        let instructions = one(case).with_context(|| format!("case {}", case.name))?;
        Ok((case.name.to_owned(), instructions))
    });
    counted.collect()
}

fn one(case: &Case) -> anyhow::Result<u64> {
    let program = std::env::current_exe().context("the path of this program")?;
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args([
            "--collect-atstart=no",
            "--toggle-collect=*measured_operations*",
        ])
        .arg(program)
        .args(["run", case.name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .context("valgrind (.ci/setup installs it)")?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(
        done.status.success(),
        "it failed under valgrind: {}",
        said.trim()
    );
    let collected = collected(&said)
        .with_context(|| format!("valgrind did not tell a count: {}", said.trim()))?;
    ensure!(
        collected > 0,
        "callgrind has seen nothing of the measured function"
    );
    Ok(collected / case.operations)
}

/// From `==123== Collected : 4567`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_what_callgrind_says() {
        let said = "==7== Callgrind\n==7== Events    : Ir\n==7== Collected : 123456\n==7== \n";
        assert_eq!(collected(said), Some(123_456));
        assert_eq!(collected("==7== Events : Ir\n"), None);
    }
}
