//! All rows of a machine, from the drive upwards.

mod cpu;
mod drive;
mod kernel;
mod limits;
mod memory;
mod network;

use super::row::{Row, Verdict};
use super::settings::NodeSettings;
use pegasus_host::Root;

/// Looks at everything. What cannot be read is a row that says so.
pub(super) fn all(root: &Root, settings: &NodeSettings) -> Vec<Row> {
    let parts = [
        drive::rows,
        cpu::rows,
        network::rows,
        memory::rows,
        limits::rows,
        kernel::rows,
    ];
    parts.iter().flat_map(|part| part(root, settings)).collect()
}

/// A row of a whole number with a bound below.
fn at_least(root: &Root, name: &'static str, path: &str, least: u64, why: &str) -> Row {
    let wanted = format!("at least {least}");
    match root.number(path) {
        Ok(now) => Row::new(name, now.to_string(), wanted, why)
            .unless(now >= least, Verdict::Advice)
            .fixed_by(path, least.to_string()),
        Err(error) => Row::unknown(name, wanted, &error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::tune::fake::Fake;

    fn verdict(rows: &[Row], name: &str) -> Verdict {
        rows.iter()
            .find(|row| row.name == name)
            .unwrap_or_else(|| panic!("no row {name}: {rows:#?}"))
            .verdict
    }

    #[test]
    fn a_machine_that_is_set_up_well_has_nothing_but_ok() {
        let fake = Fake::good();
        let rows = all(&fake.root(), &fake.settings());
        for row in &rows {
            assert_eq!((row.verdict, row.fixes.len()), (Verdict::Ok, 0), "{row:#?}");
        }
        for name in [
            "drive.scheduler",
            "drive.filesystem",
            "cpu.governor",
            "cpu.cores",
            "net.irqs",
            "memory.thp",
            "limit.files",
            "kernel.io_uring",
        ] {
            verdict(&rows, name);
        }
    }

    #[test]
    fn a_machine_that_tells_nothing_is_unknown_and_nobody_panics() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Fake::good().settings();
        settings.dir = Some(dir.path().into());
        let rows = all(&Root::at(dir.path()), &settings);
        assert!(rows.len() > 10);
        for row in &rows {
            assert!(
                row.verdict != Verdict::Warn && row.fixes.is_empty(),
                "{row:#?}"
            );
        }
        assert_eq!(verdict(&rows, "cpu.governor"), Verdict::Unknown);
    }

    #[test]
    fn nonsense_in_every_file_is_unknown_or_named_and_nobody_panics() {
        let fake = Fake::good();
        for path in fake.files() {
            for nonsense in [
                "",
                "-1",
                "99999999999999999999999",
                "[",
                "\u{0}\u{1}",
                "a b c d e f g - h",
            ] {
                let before = std::fs::read_to_string(&path).unwrap();
                std::fs::write(&path, nonsense).unwrap();
                assert!(all(&fake.root(), &fake.settings()).len() > 10);
                std::fs::write(&path, before).unwrap();
            }
        }
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_verdict() {
        for (path, text, name, expected) in [
            (
                "sys/block/nvme0n1/queue/scheduler",
                "none [mq-deadline]",
                "drive.scheduler",
                Verdict::Advice,
            ),
            (
                "sys/block/nvme0n1/queue/rotational",
                "1",
                "drive.rotational",
                Verdict::Warn,
            ),
            (
                "sys/block/nvme0n1/queue/read_ahead_kb",
                "8192",
                "drive.read_ahead",
                Verdict::Advice,
            ),
            (
                "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
                "powersave",
                "cpu.governor",
                Verdict::Advice,
            ),
            (
                "sys/devices/system/cpu/online",
                "0-2",
                "cpu.cores",
                Verdict::Warn,
            ),
            (
                "sys/devices/system/node/node1/cpulist",
                "3-7",
                "cpu.cores",
                Verdict::Warn,
            ),
            (
                "sys/devices/system/cpu/cpu2/topology/thread_siblings_list",
                "2-3",
                "cpu.siblings",
                Verdict::Advice,
            ),
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "hpet",
                "clock.source",
                Verdict::Warn,
            ),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "[always] madvise never",
                "memory.thp",
                Verdict::Advice,
            ),
            (
                "proc/swaps",
                "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n",
                "memory.swap",
                Verdict::Warn,
            ),
            (
                "proc/sys/kernel/numa_balancing",
                "1",
                "memory.numa_balancing",
                Verdict::Advice,
            ),
            (
                "proc/sys/vm/max_map_count",
                "100",
                "memory.max_map_count",
                Verdict::Advice,
            ),
            (
                "proc/sys/kernel/io_uring_disabled",
                "2",
                "kernel.io_uring",
                Verdict::Warn,
            ),
            (
                "proc/sys/kernel/io_uring_disabled",
                "1",
                "kernel.io_uring",
                Verdict::Advice,
            ),
            (
                "proc/sys/kernel/osrelease",
                "5.4.0-42-generic",
                "kernel.version",
                Verdict::Warn,
            ),
            (
                "proc/sys/net/core/somaxconn",
                "128",
                "net.somaxconn",
                Verdict::Advice,
            ),
            (
                "proc/irq/50/effective_affinity_list",
                "2",
                "net.irqs",
                Verdict::Advice,
            ),
            (
                "sys/fs/cgroup/pegasus/cpu.max",
                "150000 100000",
                "cpu.quota",
                Verdict::Warn,
            ),
            (
                "proc/self/mountinfo",
                "27 1 259:0 / / rw,relatime - ext4 /dev/nvme0n1 rw,nobarrier",
                "drive.mount",
                Verdict::Warn,
            ),
            (
                "proc/self/mountinfo",
                "27 1 259:0 / / rw,relatime - ext4 /dev/nvme0n1 rw,discard",
                "drive.mount",
                Verdict::Advice,
            ),
            (
                "proc/self/mountinfo",
                "27 1 259:0 / / rw,relatime - btrfs /dev/nvme0n1 rw",
                "drive.filesystem",
                Verdict::Warn,
            ),
            (
                "proc/self/mountinfo",
                "27 1 0:9 / / rw - overlay overlay rw",
                "drive.filesystem",
                Verdict::Warn,
            ),
        ] {
            let fake = Fake::good();
            fake.set(path, text);
            let rows = all(&fake.root(), &fake.settings());
            assert_eq!(verdict(&rows, name), expected, "{path}: {text}: {rows:#?}");
        }
    }

    #[test]
    fn limits_that_stop_a_node_from_starting_are_warned_of() {
        let fake = Fake::good();
        fake.set(
            "proc/self/limits",
            "Max locked memory  65536 65536 bytes\nMax open files 1024 1024 files\n",
        );
        let rows = all(&fake.root(), &fake.settings());
        assert_eq!(verdict(&rows, "limit.files"), Verdict::Warn);
        assert_eq!(verdict(&rows, "limit.memlock"), Verdict::Warn);
    }

    #[test]
    fn without_a_directory_the_drive_is_asked_for() {
        let fake = Fake::good();
        let rows = all(&fake.root(), &NodeSettings::default());
        assert_eq!(verdict(&rows, "drive"), Verdict::Unknown);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let settings = NodeSettings {
            dir: Some(std::env::current_dir().unwrap()),
            ..NodeSettings::default()
        };
        assert!(all(&Root::system(), &settings).len() > 10);
    }
}
