//! The drives of the data directory, its file system, and how it is mounted.

use crate::tune::row::{Choice, Row, Verdict, not_told};
use crate::tune::settings::NodeSettings;
use pegasus_host::mount::Mount;
use pegasus_host::speed::DriveSpeed;
use pegasus_host::{Root, drive, drive::Drive, mount};
use std::path::Path;

const READ_AHEAD_KIB_MAX: u64 = 512;

pub(super) fn rows(root: &Root, settings: &NodeSettings) -> Vec<Row> {
    let Some(dir) = &settings.dir else {
        let why = "the drive, its file system and its mount are looked at when --dir or --config names the data directory";
        return vec![missing("drive", why.to_owned())];
    };
    let mount = match mount::existing(dir).and_then(|dir| mount::of(root, &dir)) {
        Ok(mount) => mount,
        Err(error) => {
            return vec![missing("drive", not_told(&error)).of(dir.display().to_string())];
        }
    };
    let mut rows = vec![file_system(&mount), options(&mount)];
    match drive::of(root, &mount) {
        Ok(drives) => rows.extend(drives.iter().flat_map(|drive| of_drive(root, drive))),
        Err(error) => rows.push(missing("drive", error.to_string())),
    }
    rows.push(measured(dir));
    rows
}

fn missing(name: &'static str, why: String) -> Row {
    Row {
        verdict: Verdict::Unknown,
        ..Row::new(name, "-", "-", why)
    }
}

fn file_system(mount: &Mount) -> Row {
    let why = match mount.kind.as_str() {
        "ext4" | "xfs" => {
            "overwrites of the log stay in place, so that a flush writes nothing but them"
        }
        "tmpfs" | "ramfs" => "this is memory: everything is lost when the machine stops",
        "overlay" | "aufs" => "the writable layer of a container: use a volume on ext4 or xfs",
        "nfs" | "nfs4" | "cifs" | "9p" | "fuse" | "ceph" | "virtiofs" => {
            "every flush goes over the network"
        }
        _ => {
            "a file system that copies on write, or journals data, makes every flush of the log slower; ext4 and xfs are what is tested"
        }
    };
    Row::new("drive.filesystem", mount.kind.clone(), "ext4 or xfs", why)
        .of(mount.point.display().to_string())
        .unless(matches!(mount.kind.as_str(), "ext4" | "xfs"), Verdict::Warn)
}

fn options(mount: &Mount) -> Row {
    let row = |now: &str, wanted: &str, why: &str, verdict| {
        Row::new("drive.mount", now, wanted, why)
            .of(mount.point.display().to_string())
            .unless(false, verdict)
    };
    let unsafe_barrier = mount.has("nobarrier") || mount.value("barrier") == Some("0");
    if unsafe_barrier {
        return row(
            "nobarrier",
            "without it",
            "fdatasync then does not reach the drive: acknowledged writes are lost with the power",
            Verdict::Warn,
        );
    }
    if mount.has("ro") {
        return row("ro", "rw", "nothing can be written", Verdict::Warn);
    }
    if mount.value("data") == Some("journal") {
        return row(
            "data=journal",
            "data=ordered",
            "everything is written twice",
            Verdict::Warn,
        );
    }
    if mount.has("sync") || mount.has("dirsync") {
        return row(
            "sync",
            "without it",
            "each write to a table file waits for the drive",
            Verdict::Warn,
        );
    }
    if mount.has("discard") {
        return row(
            "discard",
            "without it; fstrim.timer instead",
            "deleting a table file sends its discards at once, and the log waits behind them in the drive's queue",
            Verdict::Advice,
        );
    }
    if mount.has("strictatime") {
        return row(
            "strictatime",
            "relatime or noatime",
            "each read of a file writes its time of access",
            Verdict::Advice,
        );
    }
    Row::new(
        "drive.mount",
        shown(mount),
        "no discard, no sync, no nobarrier",
        "nothing here slows a flush down or weakens it",
    )
    .of(mount.point.display().to_string())
}

fn shown(mount: &Mount) -> String {
    let mut options = mount.options.clone();
    options.dedup();
    options.truncate(6);
    options.join(",")
}

fn of_drive(root: &Root, drive: &Drive) -> Vec<Row> {
    let rows = [
        scheduler(root, drive),
        write_cache(root, drive),
        rotational(root, drive),
        read_ahead(root, drive),
    ];
    rows.into_iter().map(|row| row.of(&drive.name)).collect()
}

fn scheduler(root: &Root, drive: &Drive) -> Row {
    let path = drive.queue("scheduler");
    let why = "the node orders its own work; on a drive that serves many requests at once a scheduler only adds CPU time and waiting";
    let is_slow = root
        .number(drive.queue("rotational"))
        .is_ok_and(|flag| flag == 1)
        && !is_virtual(drive);
    let wanted = if is_slow { "mq-deadline" } else { "none" };
    match Choice::read(root, &path) {
        Ok(choice) => {
            let row = Row::new("drive.scheduler", choice.now.clone(), wanted, why)
                .unless(choice.now == wanted, Verdict::Advice);
            if choice.has(wanted) {
                row.fixed_by(path, wanted)
            } else {
                row
            }
        }
        Err(error) => Row::unknown("drive.scheduler", wanted, &error),
    }
}

/// Drives of hypervisors often call themselves spinning.
fn is_virtual(drive: &Drive) -> bool {
    ["vd", "xvd", "nbd", "rbd"]
        .iter()
        .any(|prefix| drive.name.starts_with(prefix))
}

fn write_cache(root: &Root, drive: &Drive) -> Row {
    let wanted = "write back or write through";
    match root.text(drive.queue("write_cache")) {
        Ok(now) if now == "write through" => Row::new(
            "drive.write_cache",
            now,
            wanted,
            "a write is durable when the drive has answered: a flush costs next to nothing",
        ),
        Ok(now) => Row::new(
            "drive.write_cache",
            now,
            wanted,
            "the drive has a cache of its own: each batch of the log is followed by a flush. A drive with power-loss protection should say `write through`",
        ),
        Err(error) => Row::unknown("drive.write_cache", wanted, &error),
    }
}

fn rotational(root: &Root, drive: &Drive) -> Row {
    let why = "a node wants an NVMe or SSD drive: each durable write waits for one flush";
    match root.number(drive.queue("rotational")) {
        Ok(0) => Row::new("drive.rotational", "no", "no", why),
        Ok(_) if is_virtual(drive) => Row::new(
            "drive.rotational",
            "says yes",
            "no",
            "a virtual drive that calls itself spinning; `pegasus tune disk` tells how fast it is",
        ),
        Ok(_) => Row::new("drive.rotational", "yes", "no", why).unless(false, Verdict::Warn),
        Err(error) => Row::unknown("drive.rotational", "no", &error),
    }
}

fn read_ahead(root: &Root, drive: &Drive) -> Row {
    let path = drive.queue("read_ahead_kb");
    let wanted = format!("at most {READ_AHEAD_KIB_MAX}");
    match root.number(&path) {
        Ok(now) => Row::new(
            "drive.read_ahead",
            format!("{now} KiB"),
            wanted,
            "files that are read in order take the drive for so long at a time, while others wait",
        )
        .unless(now <= READ_AHEAD_KIB_MAX, Verdict::Advice)
        .fixed_by(path, "128"),
        Err(error) => Row::unknown("drive.read_ahead", wanted, &error),
    }
}

fn measured(dir: &Path) -> Row {
    let wanted = "measured";
    match DriveSpeed::load(dir) {
        Ok(Some(speed)) => {
            let now = format!(
                "flush p50 {:.0}, p99.9 {:.0} us",
                speed.flush.p50_us, speed.flush.p999_us
            );
            Row::new(
                "drive.measured",
                now,
                wanted,
                "what copies of replicas and compactions may take follows from it",
            )
        }
        Ok(None) => Row {
            verdict: Verdict::Unknown,
            ..Row::new(
                "drive.measured",
                "no",
                wanted,
                "`pegasus tune disk` measures the drive; without it the node takes fixed budgets for background work",
            )
        },
        Err(error) => Row::new(
            "drive.measured",
            "unusable",
            wanted,
            format!("{error}; `pegasus tune disk` makes a new one"),
        )
        .unless(false, Verdict::Advice),
    }
}
