//! Lists of CPUs as the kernel spells them (`0-3,8`), and which CPUs there are.

use crate::Root;
use std::collections::BTreeSet;
use std::io;

/// CPUs by number, ascending.
pub type Cpus = BTreeSet<u32>;

/// The most that a list may name: above any kernel's limit.
const CPUS_MAX: usize = 1 << 16;

/// Reads `0-3,8`; the empty text is the empty set.
///
/// # Errors
/// Anything else, with the text in the error.
pub fn parse(text: &str) -> Result<Cpus, String> {
    let refused = || format!("`{text}` is no list of CPUs such as 0-3,8");
    let mut cpus = Cpus::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u32 = first.trim().parse().map_err(|_| refused())?;
        let last: u32 = last.trim().parse().map_err(|_| refused())?;
        if last as usize >= CPUS_MAX || first > last {
            return Err(refused());
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

/// Spells a set as the kernel does: `0-3,8`; the empty set is the empty text.
#[must_use]
pub fn spell(cpus: &Cpus) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => ranges.push((*cpu, *cpu)),
        }
    }
    let parts = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    parts.collect::<Vec<_>>().join(",")
}

/// A list in a file of the kernel.
///
/// # Errors
/// It cannot be read, or holds something else.
pub fn read(root: &Root, path: &str) -> io::Result<Cpus> {
    parse(&root.text(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// CPUs that are switched on.
///
/// # Errors
/// The kernel does not tell.
pub fn online(root: &Root) -> io::Result<Cpus> {
    read(root, "/sys/devices/system/cpu/online")
}

/// CPUs that the calling process may use: what its cpuset and its parent's mask leave.
///
/// # Errors
/// The kernel does not tell.
pub fn allowed(root: &Root) -> io::Result<Cpus> {
    let status = root.text("/proc/self/status")?;
    let list = field(&status, "Cpus_allowed_list").unwrap_or_default();
    let cpus = parse(list).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if cpus.is_empty() {
        return Err(io::Error::other("/proc/self/status names no CPU"));
    }
    Ok(cpus)
}

/// CPUs that share an execution core with this one, itself included.
#[must_use]
pub fn siblings(root: &Root, cpu: u32) -> Cpus {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    read(root, &path).unwrap_or_else(|_| Cpus::from([cpu]))
}

/// The value of `Name: value` in a list of such lines.
#[must_use]
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.trim() == name);
    values.next().map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_back_what_they_spell() {
        for text in ["", "0", "0-3,8", "1,3,5-6", "65535"] {
            assert_eq!(spell(&parse(text).unwrap()), text);
        }
        assert_eq!(parse(" 2 , 1\n").unwrap(), Cpus::from([1, 2]));
    }

    #[test]
    fn nonsense_and_lists_without_end_are_refused() {
        for text in ["x", "3-1", "0-99999999", "-", "1-2-3", "-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn this_process_may_use_a_cpu_that_is_online() {
        let root = Root::system();
        assert!(allowed(&root).unwrap().is_subset(&online(&root).unwrap()));
    }
}
