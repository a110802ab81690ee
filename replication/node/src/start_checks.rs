//! What has to be right before a node starts; each refusal is one sentence that names the thing and the way out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::{Cores, Poll};
use crate::placement::Machine;
use pegasus_host::cpus::spell;
use pegasus_host::limits;

/// Why the machine is refused.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "open files: the limit (ulimit -n) is {limit} and {needed} are needed for {cores} cores"
    )]
    OpenFiles { limit: u64, needed: u64, cores: u64 },
    #[error(
        "locked memory: the limit (ulimit -l) is {limit} bytes and {needed} are needed for {cores} cores"
    )]
    LockedMemory { limit: u64, needed: u64, cores: u64 },
    #[error("cluster token {path}: {reason}")]
    Token { path: PathBuf, reason: String },
    #[error("CPU {cpu}: this process may run on CPUs {allowed} only (its cpuset or CPU mask)")]
    CpuNotAllowed { cpu: u32, allowed: String },
    #[error("CPU {cpu}: there is none of that number, this machine has CPUs {online}")]
    NoCpu { cpu: u32, online: String },
    #[error(
        "CPU {cpu}: {holder} polls it already and poll = busy needs it alone; choose another CPU or poll = sleep"
    )]
    CpuBusy { cpu: u32, holder: String },
    #[error("CPU claims {path}: {error}")]
    Claims { path: PathBuf, error: io::Error },
}

/// The CPUs of a node's data cores, held until dropped.
#[derive(Debug)]
pub struct CpuClaims {
    /// By shard number.
    pub cpus: Vec<u32>,
    /// What the data threads may do; `Sleep` where a CPU is shared.
    pub poll: Poll,
    /// Whether data threads are pinned: not when there are more of them than CPUs to have.
    pub pinned: bool,
    _locks: Vec<File>,
}

/// Refuses limits that would fail later in the middle of work. The soft limit of open files is raised to the hard one.
pub fn check_limits(cores: u64, connections_max: u64) -> Result<(), StartError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let files = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: files.maximum,
        maximum: files.maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => files.maximum,
        Err(_) => files.current,
    };
    let limit = limit.unwrap_or(u64::MAX);
    let needed = limits::files_needed(cores, connections_max);
    if limit < needed {
        return Err(StartError::OpenFiles {
            limit,
            needed,
            cores,
        });
    }
    let limit = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    let needed = limits::memlock_needed(cores);
    if limit < needed {
        return Err(StartError::LockedMemory {
            limit,
            needed,
            cores,
        });
    }
    Ok(())
}

/// The cluster's token; empty without a file. A file that others may read is refused.
pub fn read_token(path: Option<&Path>) -> Result<Vec<u8>, StartError> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let refused = |reason: String| StartError::Token {
        path: path.into(),
        reason,
    };
    let mode = fs::metadata(path)
        .map_err(|error| refused(error.to_string()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(refused(format!(
            "mode {:o} lets others read it, make it 600",
            mode & 0o777
        )));
    }
    let token = fs::read(path).map_err(|error| refused(error.to_string()))?;
    let token = token.trim_ascii().to_vec();
    if token.is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    Ok(token)
}

/// Refuses CPUs that are not there, or that this process may not use.
pub fn check_cpus(machine: &Machine, cpus: &[u32]) -> Result<(), StartError> {
    let Some(cpu) = cpus.iter().find(|cpu| !machine.allowed.contains(cpu)) else {
        return Ok(());
    };
    let is_there = machine.online.is_empty() || machine.online.contains(cpu);
    Err(match is_there {
        true => StartError::CpuNotAllowed {
            cpu: *cpu,
            allowed: spell(&machine.allowed),
        },
        false => StartError::NoCpu {
            cpu: *cpu,
            online: spell(&machine.online),
        },
    })
}

/// Claims the CPUs of `cores` by lock files in `dir`.
///
/// A CPU that another node has claimed is shared: then `poll = sleep` is forced (said in the log), and `poll = busy` is
/// refused. Asked for a count, free CPUs are taken, of one NUMA node if one has enough, never one of `background` as long as there are others; if they do not
/// suffice the threads are left unpinned.
pub fn claim_cpus(
    dir: &Path,
    cores: &Cores,
    background: &[u32],
    poll: Poll,
    machine: &Machine,
) -> Result<CpuClaims, StartError> {
    let at = |error| StartError::Claims {
        path: dir.into(),
        error,
    };
    make_claims_dir(dir).map_err(at)?;
    check_cpus(machine, background)?;
    let mut claims = CpuClaims {
        cpus: Vec::new(),
        poll,
        pinned: true,
        _locks: Vec::new(),
    };
    match cores {
        Cores::List(cpus) => {
            check_cpus(machine, cpus)?;
            for cpu in cpus {
                claims.take(dir, *cpu)?;
            }
        }
        Cores::Count(count) => {
            let mut groups = machine.groups();
            for group in &mut groups {
                group.retain(|cpu| !background.contains(cpu));
            }
            for (cpu, lock) in claim_free(dir, &groups, *count).map_err(at)? {
                claims.hold(cpu, lock);
            }
            let allowed: Vec<u32> = machine.allowed.iter().copied().collect();
            claims.fill(&allowed, *count)?;
        }
    }
    Ok(claims)
}

/// Claims `count` free CPUs of the first group that has so many; if none has, as many as are free in all of them together.
fn claim_free(dir: &Path, groups: &[Vec<u32>], count: usize) -> io::Result<Vec<(u32, File)>> {
    let claim = |cpus: &mut dyn Iterator<Item = u32>| -> io::Result<Vec<(u32, File)>> {
        let mut held = Vec::new();
        for cpu in cpus {
            if held.len() == count {
                break;
            }
            if let Claim::Free(lock) = try_claim(dir, cpu)? {
                held.push((cpu, lock));
            }
        }
        Ok(held)
    };
    for group in groups.iter().filter(|group| group.len() >= count) {
        let held = claim(&mut group.iter().copied())?;
        if held.len() == count {
            return Ok(held);
        }
    }
    claim(&mut groups.iter().flatten().copied())
}

impl CpuClaims {
    /// Shares CPUs of `allowed` until there are `count`.
    fn fill(&mut self, allowed: &[u32], count: usize) -> Result<(), StartError> {
        let free = self.cpus.len();
        let (Some(first), true) = (allowed.first(), free < count) else {
            return Ok(());
        };
        let shared = allowed.iter().cycle().skip(free).take(count - free);
        self.cpus.extend(shared.copied());
        self.share(*first, "there are fewer free CPUs than cores")?;
        self.pinned = false;
        Ok(())
    }

    fn take(&mut self, dir: &Path, cpu: u32) -> Result<(), StartError> {
        match try_claim(dir, cpu).map_err(|error| StartError::Claims {
            path: dir.into(),
            error,
        })? {
            Claim::Free(lock) => self.hold(cpu, lock),
            Claim::Held(holder) => {
                self.cpus.push(cpu);
                self.share(cpu, &holder)?;
            }
        }
        Ok(())
    }

    fn hold(&mut self, cpu: u32, lock: File) {
        self.cpus.push(cpu);
        self._locks.push(lock);
    }

    fn share(&mut self, cpu: u32, holder: &str) -> Result<(), StartError> {
        if self.poll == Poll::Busy {
            return Err(StartError::CpuBusy {
                cpu,
                holder: holder.to_owned(),
            });
        }
        if self.poll != Poll::Sleep {
            tracing::warn!(cpu, holder, "CPU is shared, so poll = sleep is forced");
            self.poll = Poll::Sleep;
        }
        Ok(())
    }
}

enum Claim {
    Free(File),
    Held(String),
}

fn try_claim(dir: &Path, cpu: u32) -> io::Result<Claim> {
    let path = dir.join(format!("cpu-{cpu}.lock"));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            // Others, also of other users, must be able to try the lock later.
            let _ = file.set_permissions(fs::Permissions::from_mode(0o666));
            file.set_len(0)?;
            writeln!(file, "process {}", std::process::id())?;
            Ok(Claim::Free(file))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.rewind()?;
            file.take(64).read_to_string(&mut holder)?;
            Ok(Claim::Held(holder.trim().to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

fn make_claims_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o1777))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn this_machine() -> Machine {
        Machine::of(&pegasus_host::Root::system()).unwrap()
    }

    fn claimed(dir: &Path, cores: &Cores, poll: Poll) -> Result<CpuClaims, StartError> {
        claim_cpus(dir, cores, &[], poll, &this_machine())
    }

    #[test]
    fn a_claimed_cpu_is_shared_by_sleeping_only() {
        let dir = tempfile::tempdir().unwrap();
        let cpu = *this_machine().allowed.first().unwrap();
        let cores = Cores::List(vec![cpu]);
        let first = claimed(dir.path(), &cores, Poll::Busy).unwrap();
        assert_eq!((first.poll, first.pinned), (Poll::Busy, true));
        let second = claimed(dir.path(), &cores, Poll::Adaptive).unwrap();
        assert_eq!(second.poll, Poll::Sleep);
        let error = claimed(dir.path(), &cores, Poll::Busy).unwrap_err();
        assert!(matches!(error, StartError::CpuBusy { .. }), "{error}");
        drop(first);
        let third = claimed(dir.path(), &cores, Poll::Adaptive).unwrap();
        assert_eq!(third.poll, Poll::Adaptive);
    }

    #[test]
    fn more_cores_than_cpus_are_left_unpinned() {
        let dir = tempfile::tempdir().unwrap();
        let count = this_machine().allowed.len() + 1;
        let claims = claimed(dir.path(), &Cores::Count(count), Poll::Adaptive).unwrap();
        assert_eq!(claims.cpus.len(), count);
        assert_eq!((claims.poll, claims.pinned), (Poll::Sleep, false));
    }

    /// Two NUMA nodes of four CPUs.
    fn two_numa_nodes() -> Machine {
        let node = |number: u32| pegasus_host::numa::NumaNode {
            number,
            cpus: (number * 4..number * 4 + 4).collect(),
            memory_bytes: 1 << 30,
        };
        Machine {
            allowed: (0..8).collect(),
            online: (0..10).collect(),
            numa: vec![node(0), node(1)],
        }
    }

    #[test]
    fn a_count_of_cores_is_taken_from_one_numa_node_that_has_enough() {
        let dir = tempfile::tempdir().unwrap();
        let machine = two_numa_nodes();
        let take = |count, background: &[u32]| {
            claim_cpus(
                dir.path(),
                &Cores::Count(count),
                background,
                Poll::Adaptive,
                &machine,
            )
        };
        let first = take(2, &[0]).unwrap();
        assert_eq!(
            (first.cpus.as_slice(), first.pinned),
            ([1, 2].as_slice(), true)
        );
        let second = take(3, &[]).unwrap();
        assert_eq!(second.cpus, [4, 5, 6]);
        let rest = take(3, &[]).unwrap();
        assert_eq!(
            (rest.cpus.as_slice(), rest.pinned),
            ([0, 3, 7].as_slice(), true)
        );
        let shared = take(1, &[]).unwrap();
        assert!(!shared.pinned);
    }

    #[test]
    fn cpus_that_are_not_there_or_not_allowed_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let machine = two_numa_nodes();
        let refusal = |cores: &[u32], background: &[u32]| {
            let cores = Cores::List(cores.to_vec());
            let claims = claim_cpus(dir.path(), &cores, background, Poll::Sleep, &machine);
            claims.unwrap_err().to_string()
        };
        assert!(refusal(&[0, 99], &[]).contains("CPU 99: there is none"));
        assert!(refusal(&[9], &[]).contains("CPU 9: this process may run on CPUs 0-7 only"));
        assert!(refusal(&[0], &[8]).contains("CPU 8: this process may run on"));
    }

    #[test]
    fn a_token_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "secret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_token(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("mode 644"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_token(Some(&path)).unwrap(), b"secret");
        assert_eq!(read_token(None).unwrap(), b"");
    }
}
