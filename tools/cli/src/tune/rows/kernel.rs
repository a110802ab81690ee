//! The kernel itself: is it new enough, and does it let this process use io_uring.

use crate::tune::row::{Row, Verdict};
use crate::tune::settings::NodeSettings;
use pegasus_host::Root;
use pegasus_host::cpus::field;

/// The first with everything that the ring of a core asks for.
const OLDEST: (u32, u32) = (6, 1);

pub(super) fn rows(root: &Root, _: &NodeSettings) -> Vec<Row> {
    vec![version(root), io_uring(root)]
}

fn version(root: &Root) -> Row {
    const NAME: &str = "kernel.version";
    let wanted = format!("{}.{} or newer", OLDEST.0, OLDEST.1);
    let why = "one thread for each ring, whose completions wait until it asks (io_uring SINGLE_ISSUER, DEFER_TASKRUN); older ones do not start a node";
    match root.text("/proc/sys/kernel/osrelease") {
        Ok(now) => match parsed(&now) {
            Some(found) => Row::new(NAME, now, wanted, why).unless(found >= OLDEST, Verdict::Warn),
            None => Row::new(NAME, now, wanted, "this is no version of a Linux kernel")
                .unless(false, Verdict::Unknown),
        },
        Err(error) => Row::unknown(NAME, wanted, &error),
    }
}

/// `6.18.44-fc` is 6.18.
fn parsed(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn io_uring(root: &Root) -> Row {
    const NAME: &str = "kernel.io_uring";
    const PATH: &str = "/proc/sys/kernel/io_uring_disabled";
    let row = |now: &str, why: &str| Row::new(NAME, now, "allowed", why);
    let is_filtered = root
        .text("/proc/self/status")
        .is_ok_and(|status| field(&status, "Seccomp") == Some("2"));
    match root.number(PATH) {
        Ok(0) if is_filtered => row("allowed, but a filter is on", "system calls of this process are filtered (seccomp), as by container engines, many of which forbid io_uring: the node says so when it starts").unless(false, Verdict::Unknown),
        Ok(0) => row("allowed", "the node does all its I/O by it"),
        Ok(1) => row("for privileged processes", "others need to be in the group of kernel.io_uring_group").unless(false, Verdict::Advice).fixed_by(PATH, "0"),
        Ok(_) => row("forbidden", "the node does all its I/O by it and does not start").unless(false, Verdict::Warn).fixed_by(PATH, "0"),
        // Kernels before 6.6 have no such switch.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => row("no switch", "this kernel cannot forbid it").unless(false, Verdict::Unknown),
        Err(error) => Row::unknown(NAME, "allowed", &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parsed("6.18.44-fc-v669"), Some((6, 18)));
        assert!(parsed("5.15.0-91-generic") < Some(OLDEST));
        assert_eq!(parsed("6"), None);
        assert_eq!(parsed(""), None);
    }
}
