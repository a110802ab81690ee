//! `pegasus-bench compare`: the command line.

use super::report::{CompareReport, Side};
use crate::report::{Report, publish, write_html};
use anyhow::{Context as _, ensure};
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// Reports of `run --json`, one of each side; the first is the base
    #[arg(value_name = "FILE", conflicts_with_all = ["a", "b"])]
    files: Vec<PathBuf>,
    /// Several runs of the base; `*` and `?` in a file's name stand for others
    #[arg(
        long,
        value_name = "FILE[,FILE]",
        value_delimiter = ',',
        requires = "b"
    )]
    a: Vec<PathBuf>,
    /// Several runs to compare with it
    #[arg(
        long,
        value_name = "FILE[,FILE]",
        value_delimiter = ',',
        requires = "a"
    )]
    b: Vec<PathBuf>,
    /// Fail (exit code 3) if rate, p50 or p99 of any operation is worse by more than this, beyond the spread of the runs
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_if_slower: Option<f64>,
    /// Write the comparison to this file, as JSON (- for standard output, instead of the text)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write it to this file as a page that can be opened anywhere
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs of one side at most; each holds its whole histograms.
const RUNS_MAX: usize = 1_000;

impl CompareOptions {
    /// True: no figure is worse than allowed.
    ///
    /// # Errors
    /// When a file is no report of this format, or there are fewer than two sides.
    pub(crate) fn run(&self) -> anyhow::Result<bool> {
        let sides = self.sides()?;
        let report = CompareReport::new(&sides, self.fail_if_slower);
        if let Some(path) = &self.html {
            write_html(path, &report.html(&sides))?;
        }
        publish(self.json.as_deref(), &report, || report.text())?;
        Ok(report.slower.is_empty())
    }

    fn sides(&self) -> anyhow::Result<Vec<Side>> {
        if !self.a.is_empty() {
            return Ok(vec![several("A", &self.a)?, several("B", &self.b)?]);
        }
        ensure!(
            self.files.len() >= 2,
            "two reports at least are needed: compare A.json B.json, or --a A1.json,A2.json --b B1.json,B2.json"
        );
        self.files
            .iter()
            .map(|file| several(&file.display().to_string(), std::slice::from_ref(file)))
            .collect()
    }
}

fn several(name: &str, patterns: &[PathBuf]) -> anyhow::Result<Side> {
    let mut files = Vec::new();
    for pattern in patterns {
        files.extend(expand(pattern)?);
    }
    ensure!(
        files.len() <= RUNS_MAX,
        "{name}: {} runs, at most {RUNS_MAX} are allowed",
        files.len()
    );
    Ok(Side {
        name: name.to_owned(),
        reports: files
            .iter()
            .map(|file| Report::load(file))
            .collect::<anyhow::Result<_>>()?,
        files: files
            .iter()
            .map(|file| file.display().to_string())
            .collect(),
    })
}

/// The files that a name with `*` and `?` stands for, ascending; a name without is itself.
fn expand(pattern: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = pattern
        .file_name()
        .with_context(|| format!("{}: no file", pattern.display()))?
        .to_string_lossy();
    if !name.contains(['*', '?']) {
        return Ok(vec![pattern.to_owned()]);
    }
    let dir = match pattern.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry.with_context(|| dir.display().to_string())?;
        if matches(&name, &entry.file_name().to_string_lossy()) {
            files.push(pattern.with_file_name(entry.file_name()));
        }
    }
    ensure!(!files.is_empty(), "{}: no such file", pattern.display());
    files.sort();
    Ok(files)
}

/// Whether `*` (any characters) and `?` (one) of the pattern can stand for the name. Takes the product of both lengths at most.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // reached[i]: the pattern so far can stand for the first i characters.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for wanted in pattern {
        let before = reached.clone();
        for index in 0..=name.len() {
            reached[index] = match wanted {
                '*' => before[index] || (index > 0 && reached[index - 1]),
                '?' => index > 0 && before[index - 1],
                other => index > 0 && before[index - 1] && name[index - 1] == other,
            };
        }
    }
    reached[name.len()]
}

/// `10` or `10%`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=10_000.0).contains(&percent) => Ok(percent),
        _ => Err("a percentage from 0 to 10000 is expected, such as 10%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_others() {
        for (pattern, name, fits) in [
            ("a*.json", "a1.json", true),
            ("a*.json", "a.json", true),
            ("a*.json", "b1.json", false),
            ("a?.json", "a1.json", true),
            ("a?.json", "a12.json", false),
            ("*", "", true),
            ("**a", "xa", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_are_expanded_in_order_and_must_fit_something() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b2.json", "b1.json", "a.json"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let files = expand(&dir.path().join("b*.json")).unwrap();
        assert_eq!(
            files,
            [dir.path().join("b1.json"), dir.path().join("b2.json")]
        );
        assert!(expand(&dir.path().join("c*.json")).is_err());
    }

    #[test]
    fn percentages_are_read_with_and_without_their_sign() {
        assert_eq!(percent("10%"), Ok(10.0));
        assert_eq!(percent("2.5"), Ok(2.5));
        assert!(percent("ten").is_err() && percent("-1%").is_err() && percent("nan").is_err());
    }
}
