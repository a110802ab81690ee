//! Which CPU a thread runs on. Two threads that wake each other on one CPU answer four times as fast as on two, so a
//! comparison has to say, and to fix, who runs where.

use anyhow::{Context as _, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPUs this process may run on, ascending.
pub(crate) fn allowed() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("allowed CPUs")?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// CPUs that a process of this machine is pinned to, ascending; empty when it may run on all of them, or is not there.
pub(crate) fn pinned_to(process: i32) -> Vec<usize> {
    let set = rustix::thread::Pid::from_raw(process)
        .and_then(|process| sched_getaffinity(Some(process)).ok());
    let online = std::fs::read_to_string("/proc/cpuinfo").map_or(0, |text| {
        text.lines()
            .filter(|line| line.starts_with("processor"))
            .count()
    });
    let cpus: Vec<usize> = set.map_or_else(Vec::new, |set| {
        (0..CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .collect()
    });
    if cpus.len() < online {
        cpus
    } else {
        Vec::new()
    }
}

/// Pins the calling thread.
pub(crate) fn pin(cpu: usize) -> anyhow::Result<()> {
    ensure!(
        cpu < CpuSet::MAX_CPU,
        "CPU {cpu}: there is none of that number"
    );
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("CPU {cpu}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_its_cpu_only() {
        std::thread::spawn(|| {
            let last = *allowed().unwrap().last().unwrap();
            pin(last).unwrap();
            assert_eq!(allowed().unwrap(), [last]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_refused() {
        assert!(pin(CpuSet::MAX_CPU).is_err());
    }
}
