//! The reference for the flush: `fio`, overwriting the very blocks that the floor overwrites.

use super::flush::{BLOCK_BYTES, BLOCKS, Blocks};
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::io::{ErrorKind, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What one call of `fio` said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// Such as `fio-3.33`.
    pub(super) version: String,
    /// Median of the write plus median of the `fdatasync` after it, in microseconds.
    pub(super) p50_us: f64,
}

/// Runs `fio` for so long. An error says why there is no answer, for example that the program is not installed.
pub(super) fn measure(blocks: &Blocks, duration: Duration) -> anyhow::Result<Answer> {
    let dir = blocks.path().parent().context("a file has a directory")?;
    let name = blocks.path().file_name().context("a file has a name")?;
    let spawned = Command::new("fio")
        .current_dir(dir)
        .arg("--name=floor")
        .arg(format!("--filename={}", name.display()))
        .args([
            "--ioengine=psync",
            "--direct=1",
            "--rw=write",
            "--fdatasync=1",
            "--overwrite=1",
            "--time_based",
            "--output-format=json",
        ])
        .arg(format!("--bs={BLOCK_BYTES}"))
        .arg(format!("--size={}", BLOCKS * BLOCK_BYTES as u64))
        .arg(format!("--runtime={}ms", duration.as_millis().max(1)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("fio is not installed"),
        Err(error) => return Err(error).context("fio"),
    };
    let ended = wait(&mut child, duration + START_AND_END);
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    ended?;
    let mut text = String::new();
    child
        .stdout
        .take()
        .context("the output of fio is piped")?
        .take(OUTPUT_BYTES_MAX)
        .read_to_string(&mut text)
        .context("output of fio")?;
    parse(&text)
}

const START_AND_END: Duration = Duration::from_secs(30);
/// A report of one job has some ten thousand; it fits a pipe, so that `fio` ends without being read meanwhile.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

fn wait(child: &mut Child, time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    loop {
        if let Some(status) = child.try_wait().context("fio")? {
            ensure!(status.success(), "fio ended with {status}");
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "fio did not end within {} s",
            time.as_secs()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn parse(text: &str) -> anyhow::Result<Answer> {
    // Warnings may come before the object.
    let start = text.find('{').context("fio wrote no JSON")?;
    let report: Value = serde_json::from_str(text.get(start..).unwrap_or_default())
        .context("fio wrote JSON that cannot be read")?;
    let median_us = |pointer: &str| -> anyhow::Result<f64> {
        let nanoseconds = report
            .pointer(pointer)
            .and_then(Value::as_f64)
            .with_context(|| format!("fio wrote no {pointer}"))?;
        Ok(nanoseconds / 1_000.0)
    };
    let write = median_us("/jobs/0/write/clat_ns/percentile/50.000000")?;
    let sync = median_us("/jobs/0/sync/lat_ns/percentile/50.000000")?;
    Ok(Answer {
        version: report
            .get("fio version")
            .and_then(Value::as_str)
            .unwrap_or("fio")
            .to_owned(),
        p50_us: write + sync,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn write_and_sync_of_a_report_are_added_up() {
        let text = r#"fio: a warning
            {"fio version": "fio-3.33", "jobs": [{
            "write": {"clat_ns": {"percentile": {"50.000000": 60672}}},
            "sync": {"lat_ns": {"percentile": {"50.000000": 56064}}}}]}"#;
        let answer = parse(text).unwrap();
        assert_eq!(answer.version, "fio-3.33");
        assert!((answer.p50_us - 116.736).abs() < 1e-9);
    }

    #[test]
    fn a_report_without_the_figures_is_an_error_that_names_them() {
        let error = parse(r#"{"jobs": []}"#).unwrap_err().to_string();
        assert!(error.contains("/jobs/0/write/clat_ns"), "{error}");
        assert!(parse("no such file").is_err());
    }
}
