//! One thing that was looked at: what it is, what it should be, why, and what would change it.

use pegasus_host::Root;
use serde::Serialize;
use std::io;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// The kernel does not tell, or it depends on what was not said.
    Unknown,
    /// It would be faster otherwise.
    Advice,
    /// Slow, or unsafe.
    Warn,
}

impl Verdict {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Advice => "advice",
            Self::Warn => "warn",
        }
    }
}

/// A file of the kernel and what to write into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fix {
    pub(super) path: String,
    pub(super) value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) verdict: Verdict,
    /// Such as `drive.scheduler`: the same in every version.
    pub(super) name: &'static str,
    /// Which one of several: a drive, a network device. Empty if there is one only.
    pub(super) subject: String,
    pub(super) now: String,
    pub(super) wanted: String,
    pub(super) why: String,
    /// What `tune apply` would write; empty where nothing is wrong, or root cannot change it while the machine runs.
    pub(super) fixes: Vec<Fix>,
}

impl Row {
    pub(super) fn new(
        name: &'static str,
        now: impl Into<String>,
        wanted: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Ok,
            name,
            subject: String::new(),
            now: now.into(),
            wanted: wanted.into(),
            why: why.into(),
            fixes: Vec::new(),
        }
    }

    /// The kernel does not tell what this is.
    pub(super) fn unknown(
        name: &'static str,
        wanted: impl Into<String>,
        error: &io::Error,
    ) -> Self {
        Self {
            verdict: Verdict::Unknown,
            ..Self::new(name, "-", wanted, not_told(error))
        }
    }

    pub(super) fn of(self, subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            ..self
        }
    }

    /// As `verdict`, unless it is as it should be.
    pub(super) fn unless(self, is_right: bool, verdict: Verdict) -> Self {
        Self {
            verdict: if is_right { Verdict::Ok } else { verdict },
            ..self
        }
    }

    /// Would be put right by this; for a row that is right nothing is noted.
    pub(super) fn fixed_by(mut self, path: impl Into<String>, value: impl Into<String>) -> Self {
        if !matches!(self.verdict, Verdict::Ok | Verdict::Unknown) {
            self.fixes.push(Fix {
                path: path.into(),
                value: value.into(),
            });
        }
        self
    }

    /// What it is about, for people: `drive.scheduler nvme0n1`.
    pub(super) fn what(&self) -> String {
        match self.subject.as_str() {
            "" => self.name.to_owned(),
            subject => format!("{} {subject}", self.name),
        }
    }
}

/// Why the kernel does not tell, for people.
pub(super) fn not_told(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "the kernel shows no such setting here, as in many guests and containers".to_owned()
        }
        io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

/// A choice as the kernel shows it: `none [mq-deadline]`; without brackets there is one only.
pub(super) struct Choice {
    pub(super) now: String,
    pub(super) all: Vec<String>,
}

impl Choice {
    pub(super) fn read(root: &Root, path: &str) -> io::Result<Self> {
        let text = root.text(path)?;
        let is_chosen = |word: &&str| word.starts_with('[') && word.ends_with(']');
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let now = words.iter().copied().find(is_chosen).unwrap_or(&text);
        let bare = |word: &str| word.trim_matches(['[', ']']).to_owned();
        Ok(Self {
            now: bare(now),
            all: words.into_iter().map(bare).collect(),
        })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.all.iter().any(|other| other == name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_choice_is_what_stands_in_brackets() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        for (text, now, count) in [
            ("none [mq-deadline] bfq\n", "mq-deadline", 3),
            ("none\n", "none", 1),
            ("", "", 0),
        ] {
            std::fs::write(dir.path().join("x"), text).unwrap();
            let choice = Choice::read(&root, "/x").unwrap();
            assert_eq!((choice.now.as_str(), choice.all.len()), (now, count));
        }
    }

    #[test]
    fn what_is_right_has_no_fix() {
        let row = || Row::new("a.b", "1", "2", "because");
        assert!(
            row()
                .unless(true, Verdict::Warn)
                .fixed_by("/x", "2")
                .fixes
                .is_empty()
        );
        assert_eq!(
            row()
                .unless(false, Verdict::Warn)
                .fixed_by("/x", "2")
                .fixes
                .len(),
            1
        );
    }
}
