//! The machine a measurement was made on: what makes two reports comparable, or not.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// Facts of a host, as far as it tells them; text that is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) host: String,
    pub(crate) kernel: String,
    pub(crate) cpu_model: String,
    /// CPUs that this process may use.
    pub(crate) cpus: usize,
    pub(crate) memory_bytes: u64,
    /// Frequency governor of the first CPU; guests often have none.
    pub(crate) governor: String,
    pub(crate) clocksource: String,
    /// Whether the CPU says that it is a guest of a hypervisor.
    pub(crate) guest: bool,
    /// Processes that wanted a CPU, mean of the minute before the measurement.
    pub(crate) load_before: f64,
}

impl Machine {
    pub(crate) fn of_this_host() -> Self {
        let uname = rustix::system::uname();
        let cpuinfo = text("/proc/cpuinfo");
        Self {
            host: uname.nodename().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            cpu_model: field(&cpuinfo, "model name").to_owned(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: memory_bytes(&text("/proc/meminfo")),
            governor: text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clocksource: text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            guest: field(&cpuinfo, "flags")
                .split(' ')
                .any(|flag| flag == "hypervisor"),
            load_before: text("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
        }
    }

    /// Whether it was busy with something else before the measurement, as a sentence.
    pub(crate) fn busy(&self) -> Option<String> {
        let busy = self.cpus > 0 && self.load_before > self.cpus as f64;
        busy.then(|| {
            format!(
                "the machine was busy before the measurement: load {:.1} on {} CPUs in the minute before",
                self.load_before, self.cpus
            )
        })
    }

    /// One line for people.
    pub(crate) fn sentence(&self) -> String {
        let known = |what: &str, text: &str| match text {
            "" => String::new(),
            text => format!(", {what} {text}"),
        };
        format!(
            "{}: {} x {}{}, {:.1} GiB, kernel {}{}{}, load {:.1}",
            or_unknown(&self.host),
            self.cpus,
            or_unknown(&self.cpu_model),
            if self.guest { " (guest)" } else { "" },
            self.memory_bytes as f64 / f64::from(1 << 30),
            self.kernel,
            known("governor", &self.governor),
            known("clocksource", &self.clocksource),
            self.load_before
        )
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

/// The content of a small file of the kernel without its last line end; empty if there is none.
fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

/// The first `name : value` of a list of such lines.
fn field<'a>(list: &'a str, name: &str) -> &'a str {
    list.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map_or("", |(_, value)| value.trim())
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kib: u64 = field(meminfo, "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(0);
    kib * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_in_the_kernels_lists() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A: fast one\nflags\t\t: fpu hypervisor\n";
        assert_eq!(field(cpuinfo, "model name"), "A: fast one");
        assert_eq!(field(cpuinfo, "cache size"), "");
        assert_eq!(memory_bytes("MemTotal:       16 kB\n"), 16 << 10);
        assert_eq!(memory_bytes(""), 0);
    }

    #[test]
    fn a_machine_with_more_work_than_cpus_was_busy() {
        let machine = |load_before| Machine {
            cpus: 2,
            load_before,
            ..Machine::default()
        };
        assert_eq!(machine(1.9).busy(), None);
        assert!(
            machine(7.7)
                .busy()
                .is_some_and(|it| it.contains("load 7.7"))
        );
    }

    #[test]
    fn this_host_tells_its_kernel_and_cpus() {
        let machine = Machine::of_this_host();
        assert!(!machine.kernel.is_empty() && machine.cpus > 0 && machine.memory_bytes > 0);
        assert!(machine.sentence().contains(&machine.kernel));
    }
}
