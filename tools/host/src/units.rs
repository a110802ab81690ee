//! Values with units, as they are spelled in files and flags.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes: `65536`, `"64 KiB"`, `"2MiB"`, `"1 GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A number of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// The data cores of a node: how many, or which CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// So many, on the first CPUs that no other node has claimed.
    Count(usize),
    /// One on each of these CPUs, by shard number.
    List(Vec<u32>),
}

/// CPUs have numbers of 16 bits here; a list of more names one twice.
const CPUS_MAX: usize = 1 << 16;

const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl ByteSize {
    /// So many MiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// As a length in memory; saturates where addresses are smaller.
    #[must_use]
    pub fn usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("`{text}` is not a size such as 65536, 64 KiB, 2 MiB or 1 GiB");
        let (digits, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits, *factor)))
            .unwrap_or((text, 1));
        let count: u64 = digits.trim().parse().map_err(|_| refused())?;
        count.checked_mul(factor).map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = UNITS
            .iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        let (unit, factor) = fitting.unwrap_or(&("B", 1));
        write!(f, "{} {unit}", self.0 / factor)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a size such as 65536 or \"64 MiB\"")]
        enum Spelled {
            Number(u64),
            Text(String),
        }
        match Spelled::deserialize(deserializer)? {
            Spelled::Number(bytes) => Ok(Self(bytes)),
            Spelled::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

impl Millis {
    /// As the standard library spells it.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

impl Cores {
    /// How many.
    #[must_use]
    pub const fn count(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::List(cpus) => cpus.len(),
        }
    }

    /// Whether this CPU is named.
    #[must_use]
    pub fn lists(&self, cpu: u32) -> bool {
        matches!(self, Self::List(cpus) if cpus.contains(&cpu))
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(count) = text.parse() {
            return Ok(Self::Count(count));
        }
        let refused =
            || format!("`{text}` is neither a count (2) nor a list of CPUs (cpu:2, 2,3 or 2-5)");
        let mut cpus = Vec::new();
        for part in text.strip_prefix("cpu:").unwrap_or(text).split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u16 = first.trim().parse().map_err(|_| refused())?;
            let last: u16 = last.trim().parse().map_err(|_| refused())?;
            cpus.extend((first..=last).map(u32::from));
            if cpus.len() > CPUS_MAX {
                return Err(refused());
            }
        }
        let count = cpus.len();
        let unique: std::collections::BTreeSet<u32> = cpus.iter().copied().collect();
        if count == 0 || unique.len() != count {
            return Err(refused());
        }
        Ok(Self::List(cpus))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::List(cpus) => {
                let names: Vec<String> = cpus.iter().map(u32::to_string).collect();
                write!(f, "cpu:{}", names.join(","))
            }
        }
    }
}

impl Serialize for Cores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a number of cores, a list of CPUs, or text such as \"2-5\""
        )]
        enum Spelled {
            Count(usize),
            List(Vec<u32>),
            Text(String),
        }
        match Spelled::deserialize(deserializer)? {
            Spelled::Count(count) => Ok(Self::Count(count)),
            Spelled::List(cpus) => Ok(Self::List(cpus)),
            Spelled::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_what_they_print() {
        for bytes in [0, 1, 1023, 1024, 3 << 20, 5 << 30] {
            assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }
        assert!("12 MB".parse::<ByteSize>().is_err());
        assert!("99999999999999 GiB".parse::<ByteSize>().is_err());
    }

    #[test]
    fn cores_are_a_count_or_a_list() {
        assert_eq!("2".parse(), Ok(Cores::Count(2)));
        assert_eq!("cpu:2".parse(), Ok(Cores::List(vec![2])));
        assert_eq!("0,3-5".parse(), Ok(Cores::List(vec![0, 3, 4, 5])));
        assert!("1,1".parse::<Cores>().is_err());
        assert!("x".parse::<Cores>().is_err());
    }
}
