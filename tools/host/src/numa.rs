//! NUMA nodes: which CPUs and how much memory belong together.

use crate::Root;
use crate::cpus::{self, Cpus, field};
use std::io;

/// A piece of the machine whose CPUs reach its memory faster than any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumaNode {
    pub number: u32,
    /// Empty for memory without CPUs.
    pub cpus: Cpus,
    /// Bytes of memory; 0 for CPUs without any.
    pub memory_bytes: u64,
}

/// All nodes by number. A kernel without NUMA has none.
///
/// # Errors
/// A node does not tell its CPUs.
pub fn nodes(root: &Root) -> io::Result<Vec<NumaNode>> {
    const DIR: &str = "/sys/devices/system/node";
    let Ok(online) = cpus::read(root, &format!("{DIR}/online")) else {
        return Ok(Vec::new());
    };
    let node = |number: u32| {
        let dir = format!("{DIR}/node{number}");
        Ok(NumaNode {
            number,
            cpus: cpus::read(root, &format!("{dir}/cpulist"))?,
            memory_bytes: root
                .text(format!("{dir}/meminfo"))
                .map_or(0, |text| memory_bytes(&text, number)),
        })
    };
    online.into_iter().map(node).collect()
}

/// The nodes among `nodes` that these CPUs belong to, by number.
#[must_use]
pub fn nodes_of<'a>(nodes: &'a [NumaNode], cpus: &[u32]) -> Vec<&'a NumaNode> {
    let holds = |node: &&NumaNode| cpus.iter().any(|cpu| node.cpus.contains(cpu));
    nodes.iter().filter(holds).collect()
}

/// `Node 0 MemTotal:  24684084 kB`
fn memory_bytes(meminfo: &str, number: u32) -> u64 {
    let kib = field(meminfo, &format!("Node {number} MemTotal"));
    let kib = kib.and_then(|text| text.trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn machine(nodes: &[(u32, &str, u64)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("sys/devices/system/node");
        fs::create_dir_all(&base).unwrap();
        let online: Cpus = nodes.iter().map(|(number, ..)| *number).collect();
        fs::write(base.join("online"), cpus::spell(&online)).unwrap();
        for (number, list, kib) in nodes {
            let node = base.join(format!("node{number}"));
            fs::create_dir_all(&node).unwrap();
            fs::write(node.join("cpulist"), list).unwrap();
            let text = format!("Node {number} MemTotal:   {kib} kB\nNode {number} MemFree: 1 kB\n");
            fs::write(node.join("meminfo"), text).unwrap();
        }
        dir
    }

    #[test]
    fn nodes_have_their_cpus_and_memory() {
        let dir = machine(&[(0, "0-3", 1024), (2, "4-7", 2048)]);
        let nodes = nodes(&Root::at(dir.path())).unwrap();
        assert_eq!(nodes[1].memory_bytes, 2 << 20);
        let of = |cpus: &[u32]| -> Vec<u32> {
            nodes_of(&nodes, cpus)
                .iter()
                .map(|node| node.number)
                .collect()
        };
        assert_eq!(of(&[1, 2]), [0]);
        assert_eq!(of(&[5, 0]), [0, 2]);
        assert!(of(&[99]).is_empty());
    }

    #[test]
    fn a_kernel_without_numa_has_no_nodes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(nodes(&Root::at(dir.path())).unwrap().is_empty());
    }
}
