//! Limits of processes. They are those of this command: a service started another way has its own.

use crate::output::{bytes, count};
use crate::tune::row::{Row, Verdict};
use crate::tune::settings::NodeSettings;
use pegasus_host::Root;
use pegasus_host::limits::{self, Limit};

pub(super) fn rows(root: &Root, settings: &NodeSettings) -> Vec<Row> {
    vec![files(root, settings), locked(root, settings)]
}

fn files(root: &Root, settings: &NodeSettings) -> Row {
    const NAME: &str = "limit.files";
    let cores = settings.cores.count() as u64;
    let needed = limits::files_needed(cores, settings.connections_max);
    let wanted = limits::files_wanted(cores, settings.connections_max);
    let text = format!("at least {}", count(wanted));
    match limits::own(root, "Max open files") {
        Ok(limit) if limit.hard < needed => Row::new(NAME, shown(limit, count), text, format!("fewer than the {} without which the node does not start; LimitNOFILE= of its service", count(needed))).unless(false, Verdict::Warn),
        Ok(limit) => Row::new(NAME, shown(limit, count), text, "table files, log segments and as many connections as listen.connections_max allows; the node raises its soft limit itself. Here: of this shell, a service has LimitNOFILE=")
            .unless(limit.hard >= wanted, Verdict::Advice),
        Err(error) => Row::unknown(NAME, text, &error),
    }
}

fn locked(root: &Root, settings: &NodeSettings) -> Row {
    const NAME: &str = "limit.memlock";
    let needed = limits::memlock_needed(settings.cores.count() as u64);
    let text = format!("at least {}", bytes(needed));
    match limits::own(root, "Max locked memory") {
        Ok(limit) => Row::new(NAME, shown(limit, bytes), text, "pinned by the ring of each core; with less the node does not start. Here: of this shell, a service has LimitMEMLOCK=")
            .unless(limit.soft >= needed, Verdict::Warn),
        Err(error) => Row::unknown(NAME, text, &error),
    }
}

fn shown(limit: Limit, text: fn(u64) -> String) -> String {
    let one = |value: u64| {
        if value == u64::MAX {
            "unlimited".to_owned()
        } else {
            text(value)
        }
    };
    match limit.soft == limit.hard {
        true => one(limit.soft),
        false => format!("{}, may be raised to {}", one(limit.soft), one(limit.hard)),
    }
}
