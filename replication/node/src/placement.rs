//! Which CPUs a thread runs on, and how it shares them.

use rustix::thread::{CpuSet, gettid, sched_setaffinity};

/// Work that yields to data cores when they share a CPU. Not the idle class: a log segment that is never finished because
/// data cores are busy would stop them.
const BACKGROUND_NICE: i32 = 5;

/// Runs the calling thread, and those it starts, on `cpus` only; on all when there are none.
pub fn pin(cpus: &[u32]) {
    if cpus.is_empty() {
        return;
    }
    let mut set = CpuSet::new();
    for cpu in cpus {
        let cpu = *cpu as usize;
        if cpu < CpuSet::MAX_CPU {
            set.set(cpu);
        }
    }
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::warn!(?cpus, %error, "thread is not pinned");
    }
}

/// Makes the calling thread, and those it starts, a background thread on `cpus`.
pub fn background(cpus: &[u32]) {
    pin(cpus);
    if let Err(error) = rustix::process::setpriority_process(Some(gettid()), BACKGROUND_NICE) {
        tracing::debug!(%error, "thread keeps its priority");
    }
}
