//! What the log says about placement at start: CPUs, memory, and interrupts that get in the way.

use super::{Machine, MemoryPlan};
use crate::start_checks::CpuClaims;
use pegasus_host::cpus::{Cpus, spell};
use pegasus_host::interrupts::{self, Interrupt};
use pegasus_host::{Root, drive, mount};
use std::path::{Path, PathBuf};

/// Logs where the node runs, and warns of what `pegasus tune check` explains.
pub fn report(
    root: &Root,
    machine: &Machine,
    claims: &CpuClaims,
    background: &[u32],
    memory: &MemoryPlan,
    dir: &Path,
) {
    let data: Cpus = claims.cpus.iter().copied().collect();
    let background: Cpus = background.iter().copied().collect();
    tracing::info!(
        data_cpus = spell(&data),
        pinned = claims.pinned,
        poll = ?claims.poll,
        background_cpus = if background.is_empty() { "any".to_owned() } else { spell(&background) },
        allowed_cpus = spell(&machine.allowed),
        memory = ?memory,
        "placement"
    );
    if matches!(memory, MemoryPlan::PerCore(_)) {
        tracing::warn!(
            data_cpus = spell(&data),
            "these cores are on several NUMA nodes, each shares helpers and memory with the others over the link between them; run a process for each NUMA node"
        );
    }
    if !claims.pinned {
        return;
    }
    let has_others = machine.allowed.iter().any(|cpu| !data.contains(cpu));
    for (device, found) in sharing(root, &data, dir) {
        let numbers: Vec<u32> = found.iter().map(|interrupt| interrupt.number).collect();
        let cpus: Cpus = found
            .iter()
            .flat_map(|interrupt| interrupt.cpus.intersection(&data))
            .copied()
            .collect();
        let cpus = spell(&cpus);
        // Where every CPU is a data core there is nowhere else to send them.
        if has_others {
            tracing::warn!(device, cpus, interrupts = ?numbers, "data cores serve interrupts of a device; `pegasus tune check` says how to move them");
        } else {
            tracing::info!(device, cpus, interrupts = ?numbers, "data cores serve interrupts of a device, and there is no other CPU");
        }
    }
}

/// Interrupts of network devices and of the data directory's drives that only data cores serve, by device.
fn sharing(root: &Root, data: &Cpus, dir: &Path) -> Vec<(String, Vec<Interrupt>)> {
    let mount = mount::existing(dir).and_then(|dir| mount::of(root, &dir));
    let drives = mount
        .and_then(|mount| drive::of(root, &mount))
        .unwrap_or_default();
    let drives = drives.into_iter().filter_map(|drive| {
        let hardware = drive.hardware(root).ok()?;
        Some((drive.name, hardware))
    });
    let devices: Vec<(String, PathBuf)> = interrupts::network_devices(root)
        .into_iter()
        .chain(drives)
        .collect();
    let found = devices.into_iter().map(|(name, hardware)| {
        let mut own = interrupts::of(root, &hardware);
        own.retain(|interrupt| interrupt.cpus.is_subset(data));
        (name, own)
    });
    found.filter(|(_, own)| !own.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn interrupts_that_only_data_cores_serve_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        for path in [
            "sys/class/net/eth0",
            "sys/devices/pci/card",
            "sys/devices/pci/msi_irqs",
            "proc/irq/5",
            "proc/irq/6",
        ] {
            fs::create_dir_all(base.join(path)).unwrap();
        }
        symlink(
            "../../../devices/pci/card",
            base.join("sys/class/net/eth0/device"),
        )
        .unwrap();
        for (number, list) in [("5", "2"), ("6", "2-4")] {
            fs::write(base.join("sys/devices/pci/msi_irqs").join(number), "").unwrap();
            fs::write(
                base.join(format!("proc/irq/{number}/smp_affinity_list")),
                list,
            )
            .unwrap();
        }
        fs::write(
            base.join("proc/interrupts"),
            " 5: 9 eth0-rx\n 6: 9 eth0-tx\n",
        )
        .unwrap();
        let root = Root::at(base);
        let found = sharing(&root, &Cpus::from([2, 3]), Path::new("/"));
        let shown: Vec<(&str, Vec<u32>)> = found
            .iter()
            .map(|(name, own)| (name.as_str(), own.iter().map(|one| one.number).collect()))
            .collect();
        assert_eq!(shown, [("eth0", vec![5])]);
        assert!(sharing(&root, &Cpus::from([4]), Path::new("/")).is_empty());
    }
}
