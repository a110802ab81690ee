//! From which NUMA node the calling thread takes memory: one system call that no safe wrapper of ours has.

use std::io;

/// How strictly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// From there only. Without it a node full of page cache gives way to memory from elsewhere, with it the page cache does.
    Bind,
    /// From there as long as there is some.
    Prefer,
}

/// Nodes that the kernel can be told; more than it is ever built for (1,024).
const NODES_MAX: u32 = 1024;
const WORDS: usize = (NODES_MAX / u64::BITS) as usize;

/// Makes the calling thread, and all that it starts from now on, take memory from this NUMA node (`set_mempolicy(2)`).
///
/// # Errors
/// There is no such node, or the process may not: a container without CAP_SYS_NICE often forbids the call.
pub fn take_memory_from(node: u32, policy: Policy) -> io::Result<()> {
    if node >= NODES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut nodes = [0_u64; WORDS];
    nodes[(node / u64::BITS) as usize] |= 1 << (node % u64::BITS);
    let mode = match policy {
        Policy::Bind => libc::MPOL_BIND,
        Policy::Prefer => libc::MPOL_PREFERRED,
    };
    set_policy(mode, &nodes)
}

#[allow(
    unsafe_code,
    reason = "no safe wrapper has this call; docs/decisions/0020 says why it is needed"
)]
fn set_policy(mode: libc::c_int, nodes: &[u64; WORDS]) -> io::Result<()> {
    // The kernel looks at one bit less than it is told.
    let bits = libc::c_ulong::from(NODES_MAX) + 1;
    // SAFETY: the kernel reads at most the 1,024 bits of `nodes`, which is borrowed for the call, and writes nothing; the call changes
    // where pages come from and nothing else.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), bits) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// In a thread of its own: the policy stays with the thread.
    fn in_a_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(body).join().unwrap())
    }

    #[test]
    fn a_thread_and_those_it_starts_are_bound() {
        in_a_thread(|| {
            let Ok(()) = take_memory_from(0, Policy::Bind) else {
                // A kernel without NUMA, or a container that forbids the call: then it is an error, as it should be.
                return;
            };
            let maps = in_a_thread(|| std::fs::read_to_string("/proc/thread-self/numa_maps"));
            // A kernel that was built without this file says nothing, and there is nothing to compare.
            if let Ok(maps) = maps {
                assert!(maps.contains("bind:0"), "{maps}");
            }
        });
    }

    #[test]
    fn a_node_that_does_not_exist_is_refused() {
        in_a_thread(|| {
            assert!(take_memory_from(900, Policy::Bind).is_err());
            assert!(take_memory_from(5000, Policy::Prefer).is_err());
        });
    }
}
