//! A machine that does not exist, for tests: eight CPUs on two NUMA nodes, an NVMe drive, a network device, all set up well.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::settings::NodeSettings;
use pegasus_host::Root;
use pegasus_host::cpus::Cpus;
use pegasus_host::speed::{Bandwidth, DriveSpeed, Latencies, SPEED_FORMAT};
use pegasus_host::units::Cores;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

pub(super) struct Fake {
    dir: tempfile::TempDir,
}

const FILES: [(&str, &str); 33] = [
    (
        "proc/self/mountinfo",
        "27 1 259:0 / / rw,noatime - xfs /dev/nvme0n1 rw,attr2\n",
    ),
    ("proc/self/status", "Cpus_allowed_list:\t0-7\nSeccomp:\t0\n"),
    ("proc/self/cgroup", "0::/pegasus\n"),
    (
        "proc/self/limits",
        "Max locked memory  unlimited unlimited bytes\nMax open files  1048576 1048576 files\n",
    ),
    ("proc/swaps", "Filename Type Size Used Priority\n"),
    (
        "proc/interrupts",
        " 50: 10 20 PCI-MSI eth0-rx-0\n 51: 0 0 PCI-MSI eth0-config\n",
    ),
    ("proc/irq/50/smp_affinity_list", "0-1\n"),
    ("proc/irq/50/effective_affinity_list", "0\n"),
    ("proc/sys/vm/swappiness", "60\n"),
    ("proc/sys/vm/max_map_count", "65530\n"),
    ("proc/sys/kernel/numa_balancing", "0\n"),
    ("proc/sys/kernel/osrelease", "6.8.0-45-generic\n"),
    ("proc/sys/kernel/io_uring_disabled", "0\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("sys/fs/cgroup/pegasus/cpu.max", "max 100000\n"),
    ("sys/devices/pci/nvme0n1/size", "2000000\n"),
    (
        "sys/devices/pci/nvme0n1/queue/scheduler",
        "[none] mq-deadline\n",
    ),
    (
        "sys/devices/pci/nvme0n1/queue/write_cache",
        "write through\n",
    ),
    ("sys/devices/pci/nvme0n1/queue/rotational", "0\n"),
    ("sys/devices/pci/nvme0n1/queue/read_ahead_kb", "128\n"),
    ("sys/devices/pci/card/x", ""),
    ("sys/devices/pci/msi_irqs/50", "msix\n"),
    ("sys/devices/pci/msi_irqs/51", "msix\n"),
    ("sys/devices/system/cpu/online", "0-7\n"),
    ("sys/devices/system/cpu/isolated", "2-5\n"),
    (
        "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
        "performance\n",
    ),
    (
        "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
        "performance\n",
    ),
    (
        "sys/devices/system/cpu/cpu2/topology/thread_siblings_list",
        "2,6\n",
    ),
    (
        "sys/devices/system/cpu/cpu3/topology/thread_siblings_list",
        "3,7\n",
    ),
    (
        "sys/devices/system/clocksource/clocksource0/current_clocksource",
        "tsc\n",
    ),
    (
        "sys/devices/system/clocksource/clocksource0/available_clocksource",
        "tsc hpet acpi_pm\n",
    ),
    (
        "sys/kernel/mm/transparent_hugepage/enabled",
        "always [madvise] never\n",
    ),
    ("sys/devices/system/node/online", "0-1\n"),
];

impl Fake {
    pub(super) fn good() -> Self {
        let fake = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for (path, text) in FILES {
            fake.set(path, text);
        }
        fake.set("sys/devices/system/node/node0/cpulist", "0-3\n");
        fake.set("sys/devices/system/node/node1/cpulist", "4-7\n");
        for (link, to) in [
            ("sys/dev/block/259:0", "../../devices/pci/nvme0n1"),
            ("sys/block/nvme0n1", "../devices/pci/nvme0n1"),
            ("sys/class/block/nvme0n1", "../../devices/pci/nvme0n1"),
            ("sys/class/net/eth0/device", "../../../devices/pci/card"),
        ] {
            let link = fake.dir.path().join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(to, link).unwrap();
        }
        fake.speed().save(fake.dir.path()).unwrap();
        fake
    }

    pub(super) fn set(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn root(&self) -> Root {
        Root::at(self.dir.path())
    }

    pub(super) fn base(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Every file of the kernel in it.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        FILES
            .iter()
            .map(|(path, _)| self.dir.path().join(path))
            .collect()
    }

    /// Two data cores of one NUMA node, the other two for background work.
    pub(super) fn settings(&self) -> NodeSettings {
        NodeSettings {
            is_given: true,
            dir: Some(self.dir.path().into()),
            cores: Cores::List(vec![2, 3]),
            background: Cpus::from([0, 1]),
            is_busy: true,
            connections_max: 4096,
        }
    }

    fn speed(&self) -> DriveSpeed {
        let latencies = Latencies {
            per_second: 1.0,
            p50_us: 1.0,
            p99_us: 1.0,
            p999_us: 1.0,
            max_us: 1.0,
        };
        DriveSpeed {
            format: SPEED_FORMAT,
            measured_unix_s: 1,
            drives: Vec::new(),
            drives_bytes: 0,
            file_system: String::new(),
            file_bytes: 1,
            flush: latencies,
            read_depth_1: latencies,
            read_depth_32: latencies,
            sequential: Bandwidth {
                write_bytes_per_s: 1,
                read_bytes_per_s: 1,
            },
        }
    }
}
