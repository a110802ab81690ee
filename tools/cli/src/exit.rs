//! Exit codes, for scripts. `pegasus --help` lists them; `EXIT_CODES` is that text.

use std::fmt;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    /// A definite refusal, a bad file, or something local went wrong.
    Failed = 1,
    Usage = 2,
    /// The table, the row or the local cluster does not exist.
    NotFound = 3,
    /// Nothing was done, and the same command may succeed later.
    Unavailable = 4,
    /// A write may or may not have been done.
    Unknown = 5,
    /// Ctrl-C or SIGTERM: 128 and the number of SIGINT, as shells have it.
    Interrupted = 130,
}

impl Exit {
    /// The name in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::Interrupted => "interrupted",
        }
    }
}

/// For the help text.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failed: refused for good, a bad file, a local problem
    2  usage: the command line is wrong
    3  not_found: no such table, row, node, core or local cluster
    4  unavailable: nothing was done, the same command may succeed later
    5  unknown: a write may or may not have been done; writing again is safe for set, del and import
  130  interrupted: Ctrl-C or SIGTERM; import says how far it came, export leaves no file behind
With --json an error is one line of JSON on standard error: {\"error\": \"..\", \"kind\": \"not_found\", \"exit\": 3}";

/// An error that knows its exit code. Everything else ends with `Exit::Failed`.
#[derive(Debug)]
pub(crate) struct Failed {
    exit: Exit,
    message: String,
}

impl Failed {
    pub(crate) fn error(exit: Exit, message: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Self {
            exit,
            message: message.into(),
        })
    }

    /// A wrong command line, exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
        Self::error(Exit::Usage, message)
    }

    /// An exit code whose reason is on standard output already: nothing more is said.
    pub(crate) fn told(exit: Exit) -> anyhow::Error {
        Self::error(exit, "")
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}

/// The exit code of an error: the first cause that has one decides.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    error
        .chain()
        .find_map(|cause| {
            if let Some(failed) = cause.downcast_ref::<Failed>() {
                return Some(failed.exit);
            }
            cause
                .downcast_ref::<pegasus_client::Error>()
                .map(exit_of_client)
        })
        .unwrap_or(Exit::Failed)
}

fn exit_of_client(error: &pegasus_client::Error) -> Exit {
    use pegasus_client::{Code, Error};
    match error {
        Error::NotExecuted(_) => Exit::Unavailable,
        Error::Unknown(_) => Exit::Unknown,
        Error::Failed {
            code: Code::UnknownTable | Code::NotFound,
            ..
        } => Exit::NotFound,
        // Recorded, and getting there.
        Error::Failed {
            code: Code::Creating,
            ..
        } => Exit::Unavailable,
        Error::Failed { .. } => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use pegasus_client::{Cause, Code, Error};

    fn exit(error: Error) -> Exit {
        let result: anyhow::Result<()> = Err(error).context("table t");
        result.map_or_else(|error| exit_of(&error), |()| Exit::Ok)
    }

    #[test]
    fn scripts_can_tell_a_refusal_from_an_unknown_outcome_and_both_from_a_mistake() {
        let cause = || Cause {
            code: Some(Code::Busy),
            message: String::new(),
        };
        let failed = |code| Error::Failed {
            code,
            message: String::new(),
        };
        assert_eq!(exit(Error::NotExecuted(cause())), Exit::Unavailable);
        assert_eq!(exit(Error::Unknown(cause())), Exit::Unknown);
        assert_eq!(exit(failed(Code::UnknownTable)), Exit::NotFound);
        assert_eq!(exit(failed(Code::TooLarge)), Exit::Failed);
        assert_eq!(exit_of(&anyhow::anyhow!("anything else")), Exit::Failed);
        assert_eq!(
            exit_of(&Failed::error(Exit::NotFound, "x").context("y")),
            Exit::NotFound
        );
    }

    #[test]
    fn the_help_lists_every_code() {
        let listed =
            |line: &str, exit: Exit| line.trim_start().starts_with(&format!("{}  ", exit as u8));
        for exit in [
            Exit::Ok,
            Exit::Failed,
            Exit::Usage,
            Exit::NotFound,
            Exit::Unavailable,
            Exit::Unknown,
            Exit::Interrupted,
        ] {
            assert!(
                EXIT_CODES.lines().any(|line| listed(line, exit)),
                "{exit:?}"
            );
        }
    }
}
