//! Which CPUs the interrupts of a device go to.

use crate::Root;
use crate::cpus::{self, Cpus};
use std::path::Path;

/// A device's interrupts hang on the device itself or on the bus device some steps above it (virtio, NVMe).
const STEPS_MAX: usize = 4;

/// One interrupt line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    pub number: u32,
    /// CPUs that serve it now; where the kernel tells only the allowed ones, those.
    pub cpus: Cpus,
    /// As `/proc/interrupts` names it, for example `eth0-rx-0`.
    pub name: String,
    /// How often it came, all CPUs together.
    pub count: u64,
}

impl Interrupt {
    /// Where the CPUs that may serve it are set.
    #[must_use]
    pub fn affinity_path(&self) -> String {
        format!("/proc/irq/{}/smp_affinity_list", self.number)
    }
}

/// The interrupts of a device that have come at least once, by number.
#[must_use]
pub fn of(root: &Root, device: &Path) -> Vec<Interrupt> {
    let holder = device
        .ancestors()
        .take(STEPS_MAX)
        .find(|path| root.has(path.join("msi_irqs")));
    let Some(holder) = holder else {
        return Vec::new();
    };
    let list = root.text("/proc/interrupts").unwrap_or_default();
    let numbers = root.names(holder.join("msi_irqs"));
    let numbers = numbers.iter().filter_map(|name| name.parse::<u32>().ok());
    let mut all: Vec<Interrupt> = numbers
        .filter_map(|number| one(root, &list, number))
        .collect();
    all.sort_unstable_by_key(|interrupt| interrupt.number);
    all
}

/// Network devices of this machine that have hardware below them: not loopback, bridges, tunnels.
#[must_use]
pub fn network_devices(root: &Root) -> Vec<(String, std::path::PathBuf)> {
    let names = root.names("/sys/class/net").into_iter();
    let real = names.filter_map(|name| {
        let hardware = root.resolve(format!("/sys/class/net/{name}/device")).ok()?;
        Some((name, hardware))
    });
    real.collect()
}

fn one(root: &Root, list: &str, number: u32) -> Option<Interrupt> {
    let (count, name) = counted(list, number)?;
    let dir = format!("/proc/irq/{number}");
    let effective = cpus::read(root, &format!("{dir}/effective_affinity_list")).ok();
    let effective = effective.filter(|cpus| !cpus.is_empty());
    let cpus = effective.or_else(|| cpus::read(root, &format!("{dir}/smp_affinity_list")).ok())?;
    (count > 0).then_some(Interrupt {
        number,
        cpus,
        name,
        count,
    })
}

/// ` 41:  16036  0  PCI-MSIX-0000:00:04.0  1-edge  virtio3-rx`
fn counted(list: &str, number: u32) -> Option<(u64, String)> {
    let wanted = number.to_string();
    let line = list.lines().find_map(|line| {
        let (key, rest) = line.split_once(':')?;
        (key.trim() == wanted).then_some(rest)
    })?;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let counts = words.iter().map_while(|word| word.parse::<u64>().ok());
    let count = counts.fold(0, u64::saturating_add);
    Some((count, words.last().copied().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn interrupts_of_a_device_are_found_above_it_with_their_cpus() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        for path in [
            "sys/devices/pci/virtio3",
            "sys/devices/pci/msi_irqs",
            "proc/irq/41",
            "proc/irq/42",
            "proc/irq/43",
        ] {
            fs::create_dir_all(base.join(path)).unwrap();
        }
        for number in ["41", "42", "43"] {
            fs::write(base.join("sys/devices/pci/msi_irqs").join(number), "msix").unwrap();
            fs::write(
                base.join(format!("proc/irq/{number}/smp_affinity_list")),
                "0-1\n",
            )
            .unwrap();
        }
        fs::write(base.join("proc/irq/41/effective_affinity_list"), "1\n").unwrap();
        fs::write(
            base.join("proc/interrupts"),
            "   CPU0 CPU1\n 41:  16036  4  PCI-MSIX-0000:00:04.0   1-edge   virtio3-rx\n 42: 0 0 PCI virtio3-config\n 43: 1 0 PCI tx\nNMI: 0 0 Non-maskable\n",
        )
        .unwrap();
        let found = of(&Root::at(base), Path::new("/sys/devices/pci/virtio3"));
        let shown: Vec<_> = found
            .iter()
            .map(|one| (one.number, cpus::spell(&one.cpus), one.count))
            .collect();
        assert_eq!(
            shown,
            [(41, "1".to_owned(), 16040), (43, "0-1".to_owned(), 1)]
        );
        assert_eq!(found[0].name, "virtio3-rx");
        assert_eq!(found[0].affinity_path(), "/proc/irq/41/smp_affinity_list");
    }

    #[test]
    fn a_device_without_interrupts_has_none() {
        assert!(of(&Root::system(), Path::new("/sys/devices/system/cpu")).is_empty());
    }
}
