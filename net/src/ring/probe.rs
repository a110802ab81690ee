//! Whether this host can run a core's ring, and one clear sentence if not.

use io_uring::{IoUring, Probe, opcode};
use std::io;
use thiserror::Error;

/// Why a core cannot do its I/O on this host.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    #[error(
        "io_uring is switched off on this host: set kernel.io_uring_disabled to 0 (it is {setting})"
    )]
    Disabled { setting: String },
    #[error(
        "io_uring is forbidden here, probably by the seccomp filter of a container: \
         allow io_uring_setup, io_uring_enter and io_uring_register"
    )]
    Forbidden,
    #[error("kernel {release} is too old: Linux 6.1 or newer is needed ({missing})")]
    OldKernel {
        release: String,
        missing: &'static str,
    },
    #[error(
        "not enough locked memory for io_uring: raise the memlock limit (ulimit -l) to at least 8192 KiB"
    )]
    LockedMemory,
    #[error("out of file descriptors: raise the nofile limit (ulimit -n)")]
    FileDescriptors,
    #[error("cannot set up io_uring: {error}")]
    Other { error: String },
}

/// Tries out a ring on the calling thread and drops it again.
///
/// # Errors
/// What a start of a core on this host would fail with.
pub fn probe() -> Result<(), StartError> {
    check_operations(&build(8, 16)?)
}

pub(super) fn build(
    submission_entries: u32,
    completion_entries: u32,
) -> Result<IoUring, StartError> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(completion_entries)
        .dontfork()
        .build(submission_entries)
        .map_err(|error| StartError::of_setup(&error))
}

pub(super) fn check_operations(uring: &IoUring) -> Result<(), StartError> {
    let mut known = Probe::new();
    uring
        .submitter()
        .register_probe(&mut known)
        .map_err(|error| StartError::of_setup(&error))?;
    let needed = [
        (opcode::AcceptMulti::CODE, "accept"),
        (opcode::Recv::CODE, "recv"),
        (opcode::Send::CODE, "send"),
        (opcode::Connect::CODE, "connect"),
        (opcode::Read::CODE, "read"),
        (opcode::Write::CODE, "write"),
        (opcode::Fsync::CODE, "fsync"),
        (opcode::AsyncCancel::CODE, "cancel"),
    ];
    for (code, name) in needed {
        if !known.is_supported(code) {
            return Err(StartError::OldKernel {
                release: kernel_release(),
                missing: name,
            });
        }
    }
    if !uring.params().is_feature_ext_arg() || !uring.params().is_feature_nodrop() {
        return Err(StartError::OldKernel {
            release: kernel_release(),
            missing: "timed waits",
        });
    }
    Ok(())
}

/// Lets the kernel's workers (they complete flushes) run on `cpus`, or on all that the main thread may use. Otherwise they
/// inherit the core thread's pin, and a polling core delays its own flushes.
pub(super) fn spread_io_workers(uring: &IoUring, cpus: &[usize]) -> Result<(), StartError> {
    let set = cpu_set(cpus).map_err(|error| StartError::Other {
        error: format!("cannot read CPU affinity: {error}"),
    })?;
    match uring.submitter().register_iowq_aff(&set) {
        // EINVAL: a CPU outside this process's cpuset. The workers then share the core's CPU: slower, not wrong.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            tracing::warn!(%error, "flush workers keep to the core's own CPU");
            Ok(())
        }
        Err(error) => Err(StartError::Other {
            error: format!("cannot spread flush workers: {error}"),
        }),
        Ok(()) => Ok(()),
    }
}

fn cpu_set(cpus: &[usize]) -> io::Result<libc::cpu_set_t> {
    let all;
    let cpus = if cpus.is_empty() {
        let allowed = rustix::thread::sched_getaffinity(Some(rustix::process::getpid()))?;
        all = (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|cpu| allowed.is_set(*cpu))
            .collect::<Vec<_>>();
        &all
    } else {
        cpus
    };
    // SAFETY: a CPU set is an array of integers; all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus
        .iter()
        .copied()
        .filter(|cpu| *cpu < rustix::thread::CpuSet::MAX_CPU)
    {
        // SAFETY: `cpu` is within the set's size.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    Ok(set)
}

impl StartError {
    /// What an error of `io_uring_setup` or `io_uring_register` means.
    pub(super) fn of_setup(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSYS) => Self::of_missing(),
            Some(libc::EPERM | libc::EACCES) => match disabled_setting() {
                Some(setting) if setting != "0" => Self::Disabled { setting },
                _ => Self::Forbidden,
            },
            Some(libc::EINVAL) => Self::OldKernel {
                release: kernel_release(),
                missing: "single issuer and deferred task work",
            },
            Some(libc::ENOMEM) => Self::LockedMemory,
            Some(libc::EMFILE | libc::ENFILE) => Self::FileDescriptors,
            _ => Self::Other {
                error: error.to_string(),
            },
        }
    }

    /// The system call is unknown: an old kernel, or a seccomp filter that says so.
    fn of_missing() -> Self {
        if disabled_setting().is_some() {
            return Self::Forbidden;
        }
        Self::OldKernel {
            release: kernel_release(),
            missing: "no io_uring",
        }
    }
}

fn disabled_setting() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()
        .map(|setting| setting.trim().to_owned())
}

fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_kernel_becomes_one_sentence() {
        for number in [
            libc::ENOSYS,
            libc::EPERM,
            libc::EINVAL,
            libc::ENOMEM,
            libc::EMFILE,
            libc::EIO,
        ] {
            let sentence = StartError::of_setup(&io::Error::from_raw_os_error(number)).to_string();
            assert!(
                !sentence.contains('\n') && sentence.len() > 20,
                "{sentence}"
            );
        }
    }
}
