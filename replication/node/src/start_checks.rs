//! What has to be right before a node starts; each refusal is one sentence that names the thing and the way out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::{Cores, Poll};

/// Files one core needs besides connections: log segments, SST files kept open, links.
const FILES_PER_CORE: u64 = 1024;
const FILES_PER_NODE: u64 = 256;
/// Pinned by a ring and its registered buffers where the kernel still counts them.
const MEMLOCK_BYTES_PER_CORE: u64 = 512 << 10;

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
    #[error("CPU {cpu}: this process may run on CPUs {allowed} only")]
    CpuNotAllowed { cpu: u32, allowed: String },
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
    let needed = FILES_PER_NODE + cores * (FILES_PER_CORE + connections_max.min(1024));
    if limit < needed {
        return Err(StartError::OpenFiles {
            limit,
            needed,
            cores,
        });
    }
    let limit = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    let needed = cores * MEMLOCK_BYTES_PER_CORE;
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

/// Claims the CPUs of `cores` by lock files in `dir`.
///
/// A CPU that another node has claimed is shared: then `poll = sleep` is forced (said in the log), and `poll = busy` is
/// refused. Asked for a count, free CPUs are taken first; if they do not suffice the threads are left unpinned.
pub fn claim_cpus(dir: &Path, cores: &Cores, poll: Poll) -> Result<CpuClaims, StartError> {
    let at = |error| StartError::Claims {
        path: dir.into(),
        error,
    };
    make_claims_dir(dir).map_err(at)?;
    let allowed = allowed_cpus().map_err(at)?;
    let mut claims = CpuClaims {
        cpus: Vec::new(),
        poll,
        pinned: true,
        _locks: Vec::new(),
    };
    match cores {
        Cores::List(cpus) => {
            if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                let allowed = format!("{allowed:?}");
                return Err(StartError::CpuNotAllowed { cpu: *cpu, allowed });
            }
            for cpu in cpus {
                claims.take(dir, *cpu)?;
            }
        }
        Cores::Count(count) => {
            for cpu in &allowed {
                if claims.cpus.len() < *count
                    && let Claim::Free(lock) = try_claim(dir, *cpu).map_err(at)?
                {
                    claims.hold(*cpu, lock);
                }
            }
            let free = claims.cpus.len();
            let shared = allowed
                .iter()
                .cycle()
                .skip(free)
                .take(count - free)
                .copied();
            claims.cpus.extend(shared);
            if free < *count {
                claims.share(allowed[0], "there are fewer free CPUs than cores")?;
                claims.pinned = false;
            }
        }
    }
    Ok(claims)
}

impl CpuClaims {
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

fn allowed_cpus() -> io::Result<Vec<u32>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    let most = u32::try_from(rustix::thread::CpuSet::MAX_CPU).unwrap_or(u32::MAX);
    let cpus: Vec<u32> = (0..most).filter(|cpu| set.is_set(*cpu as usize)).collect();
    if cpus.is_empty() {
        Err(io::Error::other("no CPU is allowed"))
    } else {
        Ok(cpus)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_claimed_cpu_is_shared_by_sleeping_only() {
        let dir = tempfile::tempdir().unwrap();
        let cpu = allowed_cpus().unwrap()[0];
        let cores = Cores::List(vec![cpu]);
        let first = claim_cpus(dir.path(), &cores, Poll::Busy).unwrap();
        assert_eq!((first.poll, first.pinned), (Poll::Busy, true));
        let second = claim_cpus(dir.path(), &cores, Poll::Adaptive).unwrap();
        assert_eq!(second.poll, Poll::Sleep);
        let error = claim_cpus(dir.path(), &cores, Poll::Busy).unwrap_err();
        assert!(matches!(error, StartError::CpuBusy { .. }), "{error}");
        drop(first);
        let third = claim_cpus(dir.path(), &cores, Poll::Adaptive).unwrap();
        assert_eq!(third.poll, Poll::Adaptive);
    }

    #[test]
    fn more_cores_than_cpus_are_left_unpinned() {
        let dir = tempfile::tempdir().unwrap();
        let count = allowed_cpus().unwrap().len() + 1;
        let claims = claim_cpus(dir.path(), &Cores::Count(count), Poll::Adaptive).unwrap();
        assert_eq!(claims.cpus.len(), count);
        assert_eq!((claims.poll, claims.pinned), (Poll::Sleep, false));
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
