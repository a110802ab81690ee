//! What `pegasus tune disk` has measured, and what follows from it for this node.

use crate::config::{ByteSize, ProcessConfig};
use pegasus_engine::rocks::EngineOptions;
use pegasus_host::Root;
use pegasus_host::measure::Place;
use pegasus_host::speed::DriveSpeed;
use std::path::Path;

/// Without a setting and without a measurement.
const TRANSFER_BYTES_PER_S: u64 = 64 << 20;

/// Bytes per second that background work may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// All copies of replicas together, in each direction.
    pub transfer_bytes_per_s: u64,
    /// The compactions of each core, as long as nothing is behind.
    pub compaction_bytes_per_s: u64,
}

/// Reads the measurement of the data directory's drive and says in the log what it is worth. One that is damaged, or of another drive, is
/// named and left aside: the node runs without it as well.
#[must_use]
pub fn load(root: &Root, dir: &Path) -> Option<DriveSpeed> {
    let speed = match DriveSpeed::load(dir) {
        Ok(Some(speed)) => speed,
        Ok(None) => {
            tracing::info!(
                "the drive has not been measured, `pegasus tune disk --dir {}` does it",
                dir.display()
            );
            return None;
        }
        Err(error) => {
            tracing::warn!(%error, "the measurement of the drive is not used, `pegasus tune disk` makes a new one");
            return None;
        }
    };
    let place = Place::of(root, dir);
    if !speed.is_of(place.drives_bytes) {
        tracing::warn!(measured = ?speed.drives, now = ?place.drives, "the drive is another one than was measured, the measurement is not used");
        return None;
    }
    tracing::info!(
        drives = ?speed.drives,
        flush_p50_us = speed.flush.p50_us,
        flush_p999_us = speed.flush.p999_us,
        flushes_per_s = speed.flush.per_second,
        read_p50_us = speed.read_depth_1.p50_us,
        reads_per_s = speed.read_depth_32.per_second,
        write_mib_per_s = speed.sequential.write_bytes_per_s >> 20,
        read_mib_per_s = speed.sequential.read_bytes_per_s >> 20,
        "drive, as measured"
    );
    Some(speed)
}

/// What background work may take: as set, else as the drive allows, else the fixed defaults.
#[must_use]
pub fn budgets(process: &ProcessConfig, speed: Option<&DriveSpeed>) -> Budgets {
    let transfer = match process.transfer.bytes_per_second {
        ByteSize(0) => speed.map_or(TRANSFER_BYTES_PER_S, DriveSpeed::transfer_bytes_per_s),
        ByteSize(set) => set,
    };
    let cores = process.cpu.cores.count() as u64;
    let default = EngineOptions::default().compaction_bytes_per_s;
    Budgets {
        transfer_bytes_per_s: transfer,
        compaction_bytes_per_s: speed.map_or(default, |speed| speed.compaction_bytes_per_s(cores)),
    }
}

/// Why the setting `slow_own_flush_ms` does not fit this drive, if it does not: members count as slow only while our own log becomes durable within it.
#[must_use]
pub fn slow_flush_warning(slow_own_flush_ms: u64, speed: &DriveSpeed) -> Option<String> {
    let p999_ms = speed.flush.p999_us / 1_000.0;
    (p999_ms > slow_own_flush_ms as f64).then(|| {
        format!(
            "one flush in a thousand of this drive takes {p999_ms:.0} ms and more, slow_own_flush_ms = {slow_own_flush_ms}: slow members are \
             then not told from a slow own drive; raise slow_own_flush_ms or use a faster drive"
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use pegasus_host::speed::{Bandwidth, Latencies, SPEED_FILE, SPEED_FORMAT};

    fn speed() -> DriveSpeed {
        let latencies = Latencies {
            per_second: 1.0,
            p50_us: 1.0,
            p99_us: 2.0,
            p999_us: 120_000.0,
            max_us: 130_000.0,
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
                write_bytes_per_s: 240 << 20,
                read_bytes_per_s: 800 << 20,
            },
        }
    }

    #[test]
    fn a_setting_wins_then_the_measurement_then_the_default() {
        let mut process = ProcessConfig::default();
        let without = budgets(&process, None);
        assert_eq!(without.transfer_bytes_per_s, 64 << 20);
        assert_eq!(
            without.compaction_bytes_per_s,
            EngineOptions::default().compaction_bytes_per_s
        );
        let measured = budgets(&process, Some(&speed()));
        assert_eq!(
            (
                measured.transfer_bytes_per_s,
                measured.compaction_bytes_per_s
            ),
            (30 << 20, 30 << 20)
        );
        process.transfer.bytes_per_second = ByteSize::mib(5);
        assert_eq!(
            budgets(&process, Some(&speed())).transfer_bytes_per_s,
            5 << 20
        );
    }

    #[test]
    fn a_flush_slower_than_the_setting_is_warned_of() {
        let text = slow_flush_warning(100, &speed()).unwrap();
        assert!(text.contains("120 ms") && text.contains("= 100"), "{text}");
        assert_eq!(slow_flush_warning(500, &speed()), None);
    }

    #[test]
    fn a_damaged_file_and_one_of_another_drive_are_left_aside() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::system();
        assert_eq!(load(&root, dir.path()), None);
        std::fs::write(dir.path().join(SPEED_FILE), "format = 1\n").unwrap();
        assert_eq!(load(&root, dir.path()), None);
        speed().save(dir.path()).unwrap();
        assert_eq!(load(&root, dir.path()), Some(speed()));
        // On a file system without a drive the size is not known, and anything matches.
        let other = DriveSpeed {
            drives_bytes: 1,
            ..speed()
        };
        other.save(dir.path()).unwrap();
        let is_known = Place::of(&root, dir.path()).drives_bytes > 0;
        assert_eq!(load(&root, dir.path()).is_none(), is_known);
    }
}
