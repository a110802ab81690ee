//! `pegasus tune disk`: measures a drive, shows what came out, and leaves it where the node finds it.

use crate::exit::{Exit, Failed};
use crate::interrupt::interrupted;
use crate::output::{Output, Style, bytes, note, rate, table};
use clap::Args;
use pegasus_host::Root;
use pegasus_host::measure::{Bounds, MeasureError, measure};
use pegasus_host::speed::{DriveSpeed, Latencies};
use pegasus_host::units::ByteSize;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Disk {
    /// The data directory of a node, or an empty one that will be
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Size of the file that is written and read, 16 MiB to 64 GiB
    #[arg(long, value_name = "SIZE", default_value = "1 GiB")]
    size: ByteSize,
    /// Seconds for each of the five measurements, 0.1 to 600
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,
    /// Measure although the node runs: its clients wait meanwhile, and the figures are worse
    #[arg(long)]
    while_running: bool,
    /// Do not write the result into the directory
    #[arg(long)]
    no_save: bool,
}

pub(super) async fn run(options: &Disk, out: &mut Output) -> anyhow::Result<()> {
    if !(0.1..=600.0).contains(&options.seconds) {
        return Err(Failed::usage(format!(
            "--seconds {:?}: 0.1 to 600 are allowed",
            options.seconds
        )));
    }
    if !options.while_running && is_running(&options.dir) {
        let text = format!(
            "{}: its node runs, and its clients would wait: stop it first, or add --while-running",
            options.dir.display()
        );
        return Err(Failed::error(Exit::Failed, text));
    }
    let speed = measured(options).await?;
    let saved = match options.no_save {
        true => None,
        false => Some(speed.save(&options.dir)?),
    };
    match out.style {
        Style::Json => out.json(&speed)?,
        Style::People => show(&speed, out)?,
    }
    if let Some(path) = saved {
        note(format!(
            "written to {}: the node reads it when it starts the next time",
            path.display()
        ));
    }
    Ok(())
}

/// Whether a process holds the directory as its own.
fn is_running(dir: &Path) -> bool {
    File::open(dir.join("LOCK"))
        .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}

async fn measured(options: &Disk) -> anyhow::Result<DriveSpeed> {
    let is_stopped = Arc::new(AtomicBool::new(false));
    let bounds = Bounds {
        file_bytes: options.size.0,
        each: Duration::from_secs_f64(options.seconds),
    };
    let (dir, stopped) = (options.dir.clone(), Arc::clone(&is_stopped));
    let mut work = tokio::task::spawn_blocking(move || {
        let mut tell = |phase: pegasus_host::measure::Phase| note(format!("{} ..", phase.name()));
        measure(&Root::system(), &dir, &bounds, &stopped, &mut tell)
    });
    let ended = tokio::select! {
        ended = &mut work => ended,
        () = interrupted() => {
            is_stopped.store(true, Ordering::Relaxed);
            work.await
        }
    };
    match ended? {
        Ok(speed) => Ok(speed),
        Err(MeasureError::Stopped) => Err(Failed::error(
            Exit::Interrupted,
            "interrupted: nothing was written, nothing is left behind",
        )),
        Err(error @ MeasureError::Bytes { .. }) => Err(Failed::usage(format!("--size: {error}"))),
        Err(error) => Err(error.into()),
    }
}

fn show(speed: &DriveSpeed, out: &mut Output) -> anyhow::Result<()> {
    let drives = if speed.drives.is_empty() {
        "an unknown drive".to_owned()
    } else {
        speed.drives.join(", ")
    };
    out.line(format!(
        "{drives}, {}, a file of {}",
        speed.file_system,
        bytes(speed.file_bytes)
    ))?;
    let mut rows = table(
        &[
            "4 KiB, past the page cache",
            "per second",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "max us",
        ],
        &[1, 2, 3, 4, 5],
    );
    for (name, latencies) in [
        ("overwrite and fdatasync, one at a time", speed.flush),
        ("random read, one at a time", speed.read_depth_1),
        ("random read, 32 at a time", speed.read_depth_32),
    ] {
        let Latencies {
            per_second,
            p50_us,
            p99_us,
            p999_us,
            max_us,
        } = latencies;
        let us = |value: f64| format!("{value:.0}");
        rows.add_row([
            name.to_owned(),
            rate(per_second),
            us(p50_us),
            us(p99_us),
            us(p999_us),
            us(max_us),
        ]);
    }
    out.table(&rows)?;
    let per_second = |count: u64| format!("{}/s", bytes(count));
    out.line(format!(
        "1 MiB pieces, four at a time: writes {}, reads {}",
        per_second(speed.sequential.write_bytes_per_s),
        per_second(speed.sequential.read_bytes_per_s)
    ))?;
    out.line(format!(
        "a node will let copies of replicas take {} (unless transfer.bytes_per_second is set), compactions of one core {}",
        per_second(speed.transfer_bytes_per_s()),
        per_second(speed.compaction_bytes_per_s(1))
    ))?;
    Ok(())
}
