//! The file that remembers lines from one shell to the next. Rows may be secrets: it is for its owner alone.

use reedline::FileBackedHistory;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 10_000;
const OWNER_ONLY: u32 = 0o600;

/// `$XDG_STATE_HOME/pegasus/shell_history`, by default below `~/.local/state`; `None` without a home.
pub(super) fn path() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let state =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("pegasus/shell_history"))
}

/// # Errors
/// The file cannot be made, read or kept to its owner.
pub(super) fn open(path: &Path) -> anyhow::Result<FileBackedHistory> {
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(OWNER_ONLY)
        .open(path)?;
    // One that was there before may be open to others.
    file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
    Ok(FileBackedHistory::with_file(LINES_MAX, path.to_owned())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn nobody_else_can_read_the_history() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/pegasus/shell_history");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        open(&path).unwrap();
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        open(&path).unwrap();
        assert_eq!(mode(), 0o600);
    }
}
