//! What goes wrong at a target, in kinds that say whether trying again helps.

use opendal::ErrorKind;
use std::error::Error as _;
use std::io;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The section of the target is wrong.
    Config,
    /// There is no such file.
    NotFound,
    /// The target does not let us.
    NoRights,
    /// The target is full.
    NoSpace,
    /// A file is not what the backup says of it.
    Damaged,
    /// Somebody has said that it is not wanted any more.
    Cancelled,
    /// The target is not to be reached, or answers with an error.
    Away,
    /// The disk of this machine.
    Local,
}

impl Trouble {
    /// Whether the same may work a little later.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        matches!(
            self,
            Self::Away | Self::NoSpace | Self::Local | Self::NoRights
        )
    }
}

/// A failure, with the target and the file that it is about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("backup target {target:?}: {path}{separator}{detail}", separator = if path.is_empty() { "" } else { ": " })]
pub struct TargetError {
    pub trouble: Trouble,
    pub target: String,
    /// Below the target's root; a local path if the trouble is local.
    pub path: String,
    pub detail: String,
}

impl TargetError {
    pub(crate) fn new(
        trouble: Trouble,
        target: &str,
        path: &str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            trouble,
            target: target.to_owned(),
            path: path.to_owned(),
            detail: detail.into(),
        }
    }

    pub(crate) fn config(target: &str, detail: impl Into<String>) -> Self {
        Self::new(Trouble::Config, target, "", detail)
    }

    pub(crate) fn io(target: &str, path: &str, error: &io::Error) -> Self {
        Self::new(of_io(error), target, path, error.to_string())
    }

    /// On this machine, not at the target.
    pub(crate) fn local(target: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let path = path.display().to_string();
        Self::new(
            Trouble::Local,
            target,
            &path,
            format!("on this machine: {error}"),
        )
    }

    pub(crate) fn store(target: &str, path: &str, error: &opendal::Error) -> Self {
        let inner = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>());
        let text = error.to_string();
        let trouble = match error.kind() {
            ErrorKind::NotFound => Trouble::NotFound,
            ErrorKind::PermissionDenied => Trouble::NoRights,
            ErrorKind::ConfigInvalid => Trouble::Config,
            _ if text.contains("NoSuchBucket") => Trouble::Config,
            _ => inner.map_or_else(|| of_text(&text), of_io),
        };
        // What is before the arrow is for who debugs the library.
        let first = text.lines().next().unwrap_or_default();
        let detail = first.rsplit_once(" => ").map_or(first, |(_, what)| what);
        let detail = match inner {
            Some(inner) => inner.to_string(),
            None => shortened(detail),
        };
        Self::new(trouble, target, path, detail)
    }
}

fn of_io(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::NotFound => Trouble::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Trouble::NoRights,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::NoSpace,
        _ => Trouble::Away,
    }
}

fn of_text(text: &str) -> Trouble {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["No space left", "quota", "Quota"]) {
        Trouble::NoSpace
    } else if says(&[
        "Permission denied",
        "AccessDenied",
        "AccessControlException",
    ]) {
        Trouble::NoRights
    } else {
        Trouble::Away
    }
}

/// Bytes of a library's message that are passed on.
const DETAIL_BYTES_MAX: usize = 500;

fn shortened(text: &str) -> String {
    let end = text
        .char_indices()
        .map(|(at, _)| at)
        .take_while(|at| *at <= DETAIL_BYTES_MAX)
        .last()
        .unwrap_or(0);
    if text.len() > DETAIL_BYTES_MAX {
        format!("{}..", &text[..end])
    } else {
        text.to_owned()
    }
}
