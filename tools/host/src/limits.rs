//! What a process may have, and what a node needs.

use crate::Root;
use std::io;

/// Files one core needs besides connections: log segments, SST files kept open, links.
const FILES_PER_CORE: u64 = 1024;
const FILES_PER_NODE: u64 = 256;
/// Connections that every core must be able to have; more may be configured than are ever there.
const CONNECTIONS_NEEDED: u64 = 1024;
/// Pinned by a ring and its registered buffers where the kernel still counts them.
const MEMLOCK_BYTES_PER_CORE: u64 = 512 << 10;

/// Open files without which a node does not start.
#[must_use]
pub fn files_needed(cores: u64, connections_max: u64) -> u64 {
    FILES_PER_NODE + cores * (FILES_PER_CORE + connections_max.min(CONNECTIONS_NEEDED))
}

/// Open files with which all of its connections can be used.
#[must_use]
pub fn files_wanted(cores: u64, connections_max: u64) -> u64 {
    FILES_PER_NODE + cores * (FILES_PER_CORE + connections_max)
}

/// Bytes of locked memory without which a node does not start.
#[must_use]
pub const fn memlock_needed(cores: u64) -> u64 {
    cores * MEMLOCK_BYTES_PER_CORE
}

/// A soft and a hard limit; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

/// A limit of the calling process by its name in `/proc/self/limits`, such as `Max open files`.
///
/// # Errors
/// The kernel does not tell it.
pub fn own(root: &Root, name: &str) -> io::Result<Limit> {
    let text = root.text("/proc/self/limits")?;
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    let mut words = found.unwrap_or_default().split_ascii_whitespace();
    let mut number = || match words.next() {
        Some("unlimited") => Some(u64::MAX),
        Some(word) => word.parse().ok(),
        None => None,
    };
    let (soft, hard) = (number(), number());
    match (soft, hard) {
        (Some(soft), Some(hard)) => Ok(Limit { soft, hard }),
        _ => Err(io::Error::other(format!(
            "/proc/self/limits does not tell `{name}`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_this_process_are_told() {
        let files = own(&Root::system(), "Max open files").unwrap();
        assert!(files.soft <= files.hard && files.soft > 0);
        assert!(own(&Root::system(), "Max nonsense").is_err());
    }

    #[test]
    fn a_node_starts_with_fewer_files_than_it_can_use() {
        assert_eq!(files_needed(2, 4096), 256 + 2 * 2048);
        assert!(files_wanted(2, 4096) > files_needed(2, 4096));
    }
}
