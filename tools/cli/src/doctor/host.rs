//! Kernel and hardware of this machine, as the files of /proc and /sys say it.

use super::archive::Archive;
use super::redact;
use std::path::Path;

const FILES: [&str; 14] = [
    "/proc/version",
    "/proc/cmdline",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/pressure/memory",
    "/proc/mounts",
    "/proc/diskstats",
    "/proc/interrupts",
    "/proc/net/snmp",
    "/proc/self/limits",
    "/etc/os-release",
];

pub(super) fn collect(archive: &mut Archive) {
    for file in FILES {
        let path = Path::new(file);
        // Not every kernel has all of them.
        if path.exists() {
            let name = file.trim_start_matches('/').replace('/', "_");
            archive.add_file(&format!("host/{name}"), path, redact::settings_of_kernel);
        }
    }
}
