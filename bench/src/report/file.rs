//! Reports in files: written whole, and read only when they are of a format this program knows.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::path::Path;

/// A report of a long run with its time series has a few hundred kilobytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The report in a file, if its `schema` is one of `known`. `made_by` is the command that writes such files.
pub(crate) fn read_json(path: &Path, known: &[&str], made_by: &str) -> anyhow::Result<Value> {
    let name = path.display();
    let file = std::fs::File::open(path).with_context(|| name.to_string())?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| name.to_string())?;
    ensure!(
        text.len() as u64 <= FILE_BYTES_MAX,
        "{name}: longer than {FILE_BYTES_MAX} bytes, so it is no report"
    );
    let value: Value = serde_json::from_str(&text)
        .with_context(|| format!("{name} is not JSON; a file of `{made_by}` is expected"))?;
    let wanted = known.join(" or ");
    match value.get("schema").and_then(Value::as_str) {
        Some(schema) if known.contains(&schema) => Ok(value),
        Some(schema) => bail!(
            "{name} has the format {schema}, this program reads {wanted}: measure it again with `{made_by}`"
        ),
        None => bail!("{name} is no report of pegasus-bench ({wanted}), as `{made_by}` writes it"),
    }
}

/// Writes the JSON where it is wanted; the text goes to standard output, unless the JSON is wanted there.
pub(crate) fn publish(
    json: Option<&Path>,
    value: &impl serde::Serialize,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    if let Some(path) = json {
        let mut content = serde_json::to_string_pretty(value)?;
        content.push('\n');
        if path == Path::new("-") {
            return Ok(stdout.write_all(content.as_bytes())?);
        }
        std::fs::write(path, content).with_context(|| path.display().to_string())?;
    }
    stdout.write_all(text().as_bytes())?;
    Ok(())
}

/// Writes a page.
pub(crate) fn write_html(path: &Path, page: &str) -> anyhow::Result<()> {
    std::fs::write(path, page).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn read(text: &str) -> anyhow::Result<Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        std::fs::write(&path, text).unwrap();
        read_json(&path, &["pegasus-bench/2"], "pegasus-bench run --json")
    }

    #[test]
    fn a_report_of_an_older_format_is_refused_with_what_to_do() {
        assert!(read(r#"{"schema": "pegasus-bench/2"}"#).is_ok());
        let error = format!(
            "{:#}",
            read(r#"{"schema": "pegasus-bench/1"}"#).unwrap_err()
        );
        assert!(
            error.contains(
                "a.json has the format pegasus-bench/1, this program reads pegasus-bench/2: measure it again with \
                 `pegasus-bench run --json`"
            ),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_report_is_refused_by_name() {
        for text in ["", "{", "[]", "7", "{}", r#"{"schema": 2}"#] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains("a.json"), "{error}");
        }
    }
}
