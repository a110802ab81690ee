//! Which CPUs a thread runs on, how it shares them, and which memory it takes.
//!
//! A node belongs on one NUMA node: asked for a count of cores, it takes CPUs of one that has enough free ones, and the
//! memory of all its threads comes from there ([`numa`]). Cores on several NUMA nodes are allowed, said to be slow, and each takes its own memory.

pub mod numa;
mod report;

pub use report::report;

use numa::Policy;
use pegasus_host::Root;
use pegasus_host::cpus::Cpus;
use pegasus_host::numa::{NumaNode, nodes_of};
use rustix::thread::{CpuSet, gettid, sched_setaffinity};
use std::io;

/// Work that yields to data cores when they share a CPU. Not the idle class: a log segment that is never finished because
/// data cores are busy would stop them.
const BACKGROUND_NICE: i32 = 5;

/// What of a NUMA node's memory a node's budgets may take and still be bound to it: beyond that the kernel would rather end the process than take memory
/// from elsewhere. The rest is for the page cache, for other processes, and for what the budgets do not count.
const BINDABLE_PERCENT: u64 = 70;

/// CPUs and memory of this machine, as far as this process may use them.
#[derive(Clone, Debug)]
pub struct Machine {
    /// CPUs that this process may use, ascending.
    pub allowed: Cpus,
    /// CPUs that are switched on; empty if the kernel does not tell.
    pub online: Cpus,
    /// Empty on a kernel without NUMA.
    pub numa: Vec<NumaNode>,
}

/// Where the memory of a node's threads comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryPlan {
    /// Wherever the kernel likes; the reason, for the log.
    Any(&'static str),
    /// All threads from one NUMA node.
    One { node: u32, policy: Policy },
    /// Each core from its own NUMA node, by core number.
    PerCore(Vec<u32>),
}

impl Machine {
    /// Looks at it.
    ///
    /// # Errors
    /// The kernel does not tell the CPUs that this process may use.
    pub fn of(root: &Root) -> io::Result<Self> {
        let numa = pegasus_host::numa::nodes(root).unwrap_or_else(|error| {
            tracing::warn!(%error, "NUMA nodes are not told, memory is not bound");
            Vec::new()
        });
        Ok(Self {
            allowed: pegasus_host::cpus::allowed(root)?,
            online: pegasus_host::cpus::online(root).unwrap_or_default(),
            numa,
        })
    }

    /// Allowed CPUs in groups that belong together, a NUMA node each; those of no node last.
    #[must_use]
    pub fn groups(&self) -> Vec<Vec<u32>> {
        let of = |node: &NumaNode| self.allowed.intersection(&node.cpus).copied().collect();
        let mut groups: Vec<Vec<u32>> = self.numa.iter().map(of).collect();
        let known = |cpu: &&u32| groups.iter().flatten().any(|other| other == *cpu);
        let rest: Vec<u32> = self
            .allowed
            .iter()
            .filter(|cpu| !known(cpu))
            .copied()
            .collect();
        groups.push(rest);
        groups.retain(|group| !group.is_empty());
        groups
    }

    /// Where the memory of cores on `cpus` comes from, when their budgets take `bytes` together.
    #[must_use]
    pub fn memory_plan(&self, cpus: &[u32], bytes: u64) -> MemoryPlan {
        if self.numa.len() < 2 {
            return MemoryPlan::Any("this machine has one NUMA node");
        }
        let with_memory = |node: &&NumaNode| node.memory_bytes > 0;
        let nodes = nodes_of(&self.numa, cpus);
        if !nodes.iter().all(with_memory) {
            return MemoryPlan::Any("a NUMA node of these cores has no memory");
        }
        match nodes.as_slice() {
            [] => MemoryPlan::Any("the NUMA node of these cores is not known"),
            [node] => MemoryPlan::One {
                node: node.number,
                policy: match bytes <= node.memory_bytes / 100 * BINDABLE_PERCENT {
                    true => Policy::Bind,
                    false => Policy::Prefer,
                },
            },
            _ => {
                let node_of = |cpu: &u32| nodes.iter().find(|node| node.cpus.contains(cpu));
                let numbers: Option<Vec<u32>> =
                    cpus.iter().map(|cpu| Some(node_of(cpu)?.number)).collect();
                numbers.map_or(
                    MemoryPlan::Any("the NUMA node of a core is not known"),
                    MemoryPlan::PerCore,
                )
            }
        }
    }
}

impl MemoryPlan {
    /// Applies what all threads of the node have in common to the calling thread; those it starts inherit it.
    pub fn apply_to_all(&self) {
        if let Self::One { node, policy } = self {
            take_memory(*node, *policy);
        }
    }

    /// Applies what the threads of one core have of their own to the calling thread.
    pub fn apply_to_core(&self, core: usize) {
        if let Self::PerCore(nodes) = self
            && let Some(node) = nodes.get(core)
        {
            take_memory(*node, Policy::Prefer);
        }
    }
}

fn take_memory(node: u32, policy: Policy) {
    if let Err(error) = numa::take_memory_from(node, policy) {
        tracing::warn!(numa_node = node, %error, "memory is not bound");
    }
}

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn machine(nodes: &[(u32, &str, u64)], allowed: &str) -> Machine {
        let parse = |text| pegasus_host::cpus::parse(text).unwrap();
        Machine {
            allowed: parse(allowed),
            online: parse("0-15"),
            numa: nodes
                .iter()
                .map(|(number, cpus, memory_bytes)| NumaNode {
                    number: *number,
                    cpus: parse(cpus),
                    memory_bytes: *memory_bytes,
                })
                .collect(),
        }
    }

    const GIB: u64 = 1 << 30;

    #[test]
    fn memory_comes_from_the_numa_node_of_the_cores() {
        let two = machine(&[(0, "0-3", 64 * GIB), (1, "4-7", 64 * GIB)], "0-7");
        let bound = MemoryPlan::One {
            node: 1,
            policy: Policy::Bind,
        };
        assert_eq!(two.memory_plan(&[4, 5], 8 * GIB), bound);
        let preferred = MemoryPlan::One {
            node: 1,
            policy: Policy::Prefer,
        };
        assert_eq!(two.memory_plan(&[4, 5], 60 * GIB), preferred);
        assert_eq!(
            two.memory_plan(&[3, 4], GIB),
            MemoryPlan::PerCore(vec![0, 1])
        );
    }

    #[test]
    fn memory_is_left_alone_where_there_is_nothing_to_choose() {
        let one = machine(&[(0, "0-7", GIB)], "0-7");
        assert!(matches!(one.memory_plan(&[0], 1), MemoryPlan::Any(_)));
        let without_memory = machine(&[(0, "0-3", 0), (1, "4-7", GIB)], "0-7");
        assert!(matches!(
            without_memory.memory_plan(&[0], 1),
            MemoryPlan::Any(_)
        ));
        assert!(matches!(
            without_memory.memory_plan(&[99], 1),
            MemoryPlan::Any(_)
        ));
        assert!(matches!(
            machine(&[], "0-7").memory_plan(&[0], 1),
            MemoryPlan::Any(_)
        ));
    }

    #[test]
    fn groups_are_the_allowed_cpus_of_each_numa_node() {
        let two = machine(&[(0, "0-3", GIB), (1, "4-7", GIB)], "2-5,9");
        assert_eq!(two.groups(), [vec![2, 3], vec![4, 5], vec![9]]);
        assert_eq!(machine(&[], "1,2").groups(), [vec![1, 2]]);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        assert!(!Machine::of(&Root::system()).unwrap().allowed.is_empty());
    }
}
