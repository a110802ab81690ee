//! What was counted at some commit, in a file that is checked in.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// More than this above the record fails; less than this below asks for a new record.
const TOLERANCE_PERCENT: f64 = 10.0;

const HEADER: &str = "\
# Instructions of one operation on the hot paths, by callgrind; written by `make bench-quick UPDATE=1`.
# `make bench-quick` fails when one takes a tenth more.
";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    commit: String,
    /// Counts differ between compilers.
    rust: String,
    instructions: BTreeMap<String, u64>,
}

/// What became of each case.
#[derive(Debug)]
pub(crate) struct Verdict {
    lines: Vec<Line>,
    commit: String,
}

#[derive(Debug)]
struct Line {
    name: String,
    recorded: Option<u64>,
    counted: Option<u64>,
}

impl Record {
    pub(crate) fn new(commit: String, instructions: BTreeMap<String, u64>) -> Self {
        Self {
            commit,
            rust: env!("CARGO_PKG_RUST_VERSION").to_owned(),
            instructions,
        }
    }

    /// # Errors
    /// Names the file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let named = || path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(named)?;
        let record: Self = toml::from_str(&text).with_context(named)?;
        ensure!(
            !record.instructions.is_empty(),
            "{}: no case is recorded",
            path.display()
        );
        Ok(record)
    }

    /// # Errors
    /// Names the file.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = format!("{HEADER}{}", toml::to_string(self)?);
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
        for (name, count) in &self.instructions {
            eprintln!("{name:<24} {count:>10} instructions");
        }
        Ok(())
    }

    pub(crate) fn judge(&self, counted: &BTreeMap<String, u64>) -> Verdict {
        let names = self.instructions.keys().chain(counted.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort_unstable();
        names.dedup();
        let line = |name: &String| Line {
            name: name.clone(),
            recorded: self.instructions.get(name).copied(),
            counted: counted.get(name).copied(),
        };
        Verdict {
            lines: names.into_iter().map(line).collect(),
            commit: self.commit.clone(),
        }
    }
}

impl Verdict {
    pub(crate) fn is_fine(&self) -> bool {
        self.lines.iter().all(Line::is_fine)
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("instructions, against those of {}\n", self.commit);
        for line in &self.lines {
            let shown = |count: Option<u64>| count.map_or("-".to_owned(), |it| it.to_string());
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:<24} {:>10} recorded {:>10} now  {}",
                line.name,
                shown(line.recorded),
                shown(line.counted),
                line.sentence()
            );
        }
        text
    }
}

impl Line {
    /// Growth in percent.
    fn growth(&self) -> Option<f64> {
        let (recorded, counted) = (self.recorded?, self.counted?);
        let (recorded, counted) = (recorded.max(1) as f64, counted as f64);
        Some((counted - recorded) * 100.0 / recorded)
    }

    fn is_fine(&self) -> bool {
        self.growth()
            .is_some_and(|growth| growth <= TOLERANCE_PERCENT)
    }

    fn sentence(&self) -> String {
        const RECORD: &str = "`make bench-quick UPDATE=1` records anew";
        match self.growth() {
            None if self.recorded.is_none() => format!("FAILED: not recorded; {RECORD}"),
            None => format!("FAILED: there is no such case any more; {RECORD}"),
            Some(growth) if growth > TOLERANCE_PERCENT => {
                format!(
                    "FAILED: {growth:+.1} %, at most {TOLERANCE_PERCENT:+.0} % is allowed; if it has to be, {RECORD}"
                )
            }
            Some(growth) if growth < -TOLERANCE_PERCENT => {
                format!("{growth:+.1} %: better; {RECORD}")
            }
            Some(growth) => format!("{growth:+.1} %"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    fn is_fine(counted: &[(&str, u64)]) -> bool {
        let record = Record::new(
            "c0ffee".to_owned(),
            counts(&[("get", 1_000), ("put", 5_000)]),
        );
        record.judge(&counts(counted)).is_fine()
    }

    #[test]
    fn a_tenth_more_fails_and_less_does_not() {
        assert!(is_fine(&[("get", 1_000), ("put", 5_000)]));
        assert!(is_fine(&[("get", 1_100), ("put", 5_499)]));
        assert!(!is_fine(&[("get", 1_101), ("put", 5_000)]));
        assert!(is_fine(&[("get", 100), ("put", 5_000)]));
    }

    #[test]
    fn a_case_that_came_or_went_fails_until_it_is_recorded() {
        assert!(!is_fine(&[("get", 1_000)]));
        assert!(!is_fine(&[("get", 1_000), ("put", 5_000), ("scan", 1)]));
    }

    #[test]
    fn a_failure_has_the_numbers() {
        let record = Record::new("c0ffee".to_owned(), counts(&[("get", 1_000)]));
        let text = record.judge(&counts(&[("get", 1_250)])).text();
        for part in ["c0ffee", "1000 recorded", "1250 now", "FAILED: +25.0 %"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn a_record_survives_its_file_and_an_empty_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("counts.toml");
        let record = Record::new("c0ffee".to_owned(), counts(&[("get", 1_000)]));
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
        Record::new("c0ffee".to_owned(), BTreeMap::new())
            .write(&path)
            .unwrap();
        let error = Record::read(&path).unwrap_err().to_string();
        assert!(error.contains("no case"), "{error}");
    }
}
