//! Clients of other projects that tests run unmodified.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The directory that `.ci/foreign` installs them into: `venv/` with pypegasus3, redis-py and pytest, and the unpacked
/// distribution of pypegasus3, whose tests are not installed. Quick when they are there already.
///
/// # Errors
/// What the script said, for example that a package index cannot be reached.
pub fn home() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/foreign");
    let output = Command::new(&script)
        .stdin(Stdio::null())
        .output()
        .with_context(|| script.display().to_string())?;
    ensure!(
        output.status.success(),
        "{}: {}",
        script.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(PathBuf::from(
        String::from_utf8(output.stdout)?.trim_end().to_owned(),
    ))
}
