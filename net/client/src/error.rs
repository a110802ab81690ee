//! How an operation can fail, told apart by what is known about its execution.

use pegasus_fbs::body::FailureBody;
use pegasus_fbs::code::{Code, Execution};
use std::fmt;
use thiserror::Error;

/// Result of an operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed. Reads are never [`Error::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// It took no effect: it never reached a server that could execute it, or every server refused it for the moment
    /// until the deadline. The same call may succeed later.
    #[error("not executed: {0}")]
    NotExecuted(Cause),
    /// It was sent and no definite answer came: it may have taken effect, or may still do so.
    #[error("outcome unknown: {0}")]
    Unknown(Cause),
    /// The server refused it for good; it took no effect. Sending the same again changes nothing.
    #[error("{}", sentence(Some(*code), message))]
    Failed { code: Code, message: String },
}

/// What happened last before the operation was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The code a server gave; `None` when the client itself found out (no connection, deadline).
    pub code: Option<Code>,
    /// What is known beyond the code: the address, partition or bound concerned. May be empty where there is a code.
    pub message: String,
}

impl Error {
    /// What is known about the operation.
    #[must_use]
    pub const fn execution(&self) -> Execution {
        match self {
            Self::NotExecuted(_) | Self::Failed { .. } => Execution::NotExecuted,
            Self::Unknown(_) => Execution::Unknown,
        }
    }

    /// The server's code, if a server gave one.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::NotExecuted(cause) | Self::Unknown(cause) => cause.code,
            Self::Failed { code, .. } => Some(*code),
        }
    }

    pub(crate) fn failed(code: Code, message: impl Into<String>) -> Self {
        Self::Failed {
            code,
            message: message.into(),
        }
    }
}

impl Cause {
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self {
            code: None,
            message: message.into(),
        }
    }
}

impl From<FailureBody> for Cause {
    fn from(failure: FailureBody) -> Self {
        Self {
            code: Some(failure.code),
            message: failure.message,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sentence(self.code, &self.message))
    }
}

/// The code's sentence, and behind it what is known beyond it.
fn sentence(code: Option<Code>, message: &str) -> String {
    match code {
        Some(code) if message.is_empty() => code.to_string(),
        Some(code) => format!("{code}: {message}"),
        None => message.to_owned(),
    }
}
