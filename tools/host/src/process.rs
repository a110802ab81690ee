//! What the calling process takes of the machine.

use crate::Root;

/// Of one moment; zeros where the kernel does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    pub virtual_bytes: u64,
    pub resident_bytes: u64,
    /// CPU time in user and kernel mode since the start, in ticks of a hundredth of a second.
    pub cpu_ticks: u64,
    pub threads: u64,
    pub open_files: u64,
    /// How many it may have open; 0 = any number.
    pub open_files_max: u64,
}

/// Ticks of a second in `/proc/PID/stat`: 100 on every Linux of today, whatever the kernel's own clock does.
pub const TICKS_PER_SECOND: u64 = 100;

/// Reads `/proc/self`, a few files.
#[must_use]
pub fn process_usage(root: &Root) -> ProcessUsage {
    let read = |path: &str| std::fs::read_to_string(root.path(path)).unwrap_or_default();
    let stat = read("proc/self/stat");
    let limits = read("proc/self/limits");
    let files = std::fs::read_dir(root.path("proc/self/fd")).map_or(0, Iterator::count);
    ProcessUsage {
        // The directory itself is open while it is read.
        open_files: (files as u64).saturating_sub(1),
        open_files_max: open_files_max(&limits),
        ..usage_of_stat(&stat, rustix::param::page_size() as u64)
    }
}

/// Fields of `/proc/PID/stat` (proc(5)), counted behind the name, which may have blanks and brackets in it.
fn usage_of_stat(stat: &str, page_bytes: u64) -> ProcessUsage {
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return ProcessUsage::default();
    };
    let fields: Vec<u64> = fields
        .split_ascii_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // Field 3, the state, is the first of them.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    ProcessUsage {
        cpu_ticks: field(14).saturating_add(field(15)),
        threads: field(20),
        virtual_bytes: field(23),
        resident_bytes: field(24).saturating_mul(page_bytes),
        ..ProcessUsage::default()
    }
}

fn open_files_max(limits: &str) -> u64 {
    let line = limits
        .lines()
        .find_map(|it| it.strip_prefix("Max open files"));
    let soft = line.and_then(|it| it.split_ascii_whitespace().next());
    soft.and_then(|it| it.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_name_has_brackets_is_read_all_the_same() {
        let stat =
            "17 (a) (b c)) S 1 17 17 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 5 8192000 300 1";
        let usage = usage_of_stat(stat, 4096);
        assert_eq!(usage.cpu_ticks, 300);
        assert_eq!(usage.threads, 9);
        assert_eq!(usage.virtual_bytes, 8_192_000);
        assert_eq!(usage.resident_bytes, 300 * 4096);
        assert_eq!(usage_of_stat("", 4096), ProcessUsage::default());
    }

    #[test]
    fn this_process_takes_something() {
        let usage = process_usage(&Root::system());
        assert!(usage.resident_bytes > 0 && usage.resident_bytes <= usage.virtual_bytes);
        assert!(usage.threads > 0 && usage.open_files > 2);
    }

    #[test]
    fn the_soft_limit_of_files_counts() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(open_files_max(limits), 1024);
        assert_eq!(
            open_files_max("Max open files unlimited unlimited files"),
            0
        );
    }
}
