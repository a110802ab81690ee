//! Real input: the index of Debian's packages that apt keeps on disk, as rows (package, field, value).

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Rows by (package, field); continuation lines are joined by a space, tabs become spaces, so that TSV can hold them.
pub type Rows = BTreeMap<(String, String), String>;

/// Reads the largest `Packages` index of apt, whatever its compression.
pub fn read_index() -> Result<Rows> {
    let output = Command::new("/usr/lib/apt/apt-helper")
        .arg("cat-file")
        .arg(largest_index()?)
        .output()?;
    ensure!(
        output.status.success(),
        "apt-helper cat-file: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows = parse(&String::from_utf8_lossy(&output.stdout));
    ensure!(
        rows.len() > 10_000,
        "the index has only {} fields",
        rows.len()
    );
    Ok(rows)
}

/// One line a row.
#[must_use]
pub fn to_tsv(rows: &Rows) -> String {
    let mut text = String::new();
    for ((package, field), value) in rows {
        text.push_str(&format!("{package}\t{field}\t{value}\n"));
    }
    text
}

fn largest_index() -> Result<PathBuf> {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(FILENAME)",
            "Created-By: Packages",
        ])
        .output()?;
    let files = String::from_utf8_lossy(&output.stdout).into_owned();
    let sizes = files
        .lines()
        .map(PathBuf::from)
        .filter_map(|file| Some((file.metadata().ok()?.len(), file)));
    let (_, file) = sizes
        .max()
        .context("apt has no Packages index on disk: run `apt-get update` first")?;
    Ok(file)
}

fn parse(index: &str) -> Rows {
    let mut rows = Rows::new();
    let mut package = String::new();
    let mut field = String::new();
    for line in index.lines() {
        let clean = line.replace('\t', " ");
        if clean.starts_with(' ') {
            if let Some(value) = rows.get_mut(&(package.clone(), field.clone())) {
                value.push_str(&clean);
            }
        } else if let Some((name, value)) = clean.split_once(':') {
            if name == "Package" {
                package = value.trim().to_owned();
            }
            field = name.to_owned();
            rows.insert((package.clone(), field.clone()), value.trim().to_owned());
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_become_rows_with_their_continuation_lines() {
        let rows = parse("Package: a\nDepends: b,\n c\n\nPackage: d\nTag: x\ty\n");
        let row =
            |package: &str, field: &str| rows[&(package.to_owned(), field.to_owned())].clone();
        assert_eq!(row("a", "Depends"), "b, c");
        assert_eq!(row("d", "Tag"), "x y");
        assert_eq!(rows.len(), 4);
        assert_eq!(to_tsv(&rows).lines().count(), 4);
    }
}
