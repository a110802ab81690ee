//! What the attempts of one operation so far mean for its outcome.

use super::{CallOptions, Class, Problem};
use crate::error::{Cause, Error, Result};
use pegasus_fbs::body::FailureBody;
use pegasus_fbs::code::{Code, Execution};
use std::time::Duration;
use tokio::time::Instant;

/// What to do before the next attempt.
pub(super) struct Next {
    /// Address of the primary, as the refusing core knows it, and the ballot of the configuration that it has it from.
    pub(super) redirect: Option<(String, u64)>,
    pub(super) refresh: bool,
    /// There is no table of the number that was asked for.
    pub(super) disown: bool,
    pub(super) pause: Pause,
}

impl Next {
    /// Ask where the partition is, then try again.
    pub(super) fn refresh(pause: Duration) -> Self {
        Self {
            redirect: None,
            refresh: true,
            disown: false,
            pause: Pause::AtLeast(pause),
        }
    }
}

pub(super) enum Pause {
    None,
    /// The usual one, or longer if the server says so.
    AtLeast(Duration),
}

/// What the attempts so far mean for the outcome.
pub(super) struct Progress {
    class: Class,
    options: CallOptions,
    started: Instant,
    /// The current attempt may have left this process.
    pub(super) sent: bool,
    /// An earlier attempt may have been executed.
    ambiguous: bool,
    redirects: u32,
    /// The lasting refusal that every attempt since has met.
    refused: Option<(Code, Instant)>,
    last: Option<Cause>,
}

impl Progress {
    pub(super) fn new(class: Class, options: CallOptions, started: Instant) -> Self {
        Self {
            class,
            options,
            started,
            sent: false,
            ambiguous: false,
            redirects: 0,
            refused: None,
            last: None,
        }
    }

    /// How long all attempts together may take.
    pub(super) fn time_limit(&self) -> Duration {
        self.options.timeout
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Whether a write may be sent again although it may have been executed.
    pub(super) fn may_repeat_unknown(&self) -> bool {
        self.options.retry_unknown
    }

    /// What follows from an attempt without an answer: what to do next, or the final error.
    pub(super) fn judge(&mut self, problem: Problem) -> Result<Next> {
        if !matches!(problem, Problem::Refused(_)) {
            self.refused = None;
        }
        match problem {
            Problem::Unsent(reason) => {
                self.sent = false;
                self.last = Some(Cause::local(reason));
                Ok(Next::refresh(Duration::ZERO))
            }
            Problem::Moved { sent } => Ok(self.judge_moved(sent)),
            Problem::Lost(reason) => self.judge_unknown(Cause::local(reason), true),
            Problem::Refused(failure) => self.judge_refusal(failure),
            Problem::Expired => Err(self.expired()),
        }
    }

    fn judge_refusal(&mut self, failure: FailureBody) -> Result<Next> {
        let code = failure.code;
        match code.execution() {
            Execution::Unknown if code == Code::Internal && self.class == Class::Read => {
                self.sent = false;
                Err(Error::failed(code, failure.message))
            }
            Execution::Unknown => self.judge_unknown(failure.into(), false),
            Execution::NotExecuted if code.may_retry() || code == Code::UnknownTable => {
                self.sent = false;
                if self.is_refused_for_long(code) {
                    self.last = Some(failure.into());
                    return Err(self.give_up());
                }
                Ok(self.judge_retryable(failure))
            }
            Execution::NotExecuted if code == Code::Expired => {
                self.sent = false;
                self.last = Some(failure.into());
                Err(self.give_up())
            }
            Execution::NotExecuted | Execution::Executed => {
                self.sent = false;
                Err(self.final_error(Error::failed(code, failure.message)))
            }
        }
    }

    /// Whether the same state has refused every attempt for longer than the caller wants to wait for its end.
    fn is_refused_for_long(&mut self, code: Code) -> bool {
        if !matches!(code, Code::NotEnoughMembers | Code::OutOfService) {
            self.refused = None;
            return false;
        }
        let now = Instant::now();
        let since = match self.refused {
            Some((before, since)) if before == code => since,
            _ => now,
        };
        self.refused = Some((code, since));
        now.duration_since(since) >= self.options.refusal_timeout
    }

    /// The first redirects are followed at once; then cores contradict each other, and every third time meta decides.
    fn judge_retryable(&mut self, failure: FailureBody) -> Next {
        const REDIRECTS_AT_ONCE: u32 = 2;
        let redirected = failure.code == Code::NotPrimary && !failure.primary.is_empty();
        self.redirects += u32::from(redirected);
        let follow = redirected && !self.redirects.is_multiple_of(REDIRECTS_AT_ONCE + 1);
        let at_once = follow && self.redirects <= REDIRECTS_AT_ONCE;
        let next = Next {
            redirect: follow.then(|| (failure.primary.clone(), failure.ballot)),
            refresh: failure.code.refreshes_routing() && !follow,
            disown: failure.code == Code::UnknownTable,
            pause: if at_once {
                Pause::None
            } else {
                Pause::AtLeast(failure.retry_after)
            },
        };
        self.last = Some(failure.into());
        next
    }

    /// The attempt may have been executed. Reads do no harm twice; a write only with the caller's leave.
    fn judge_unknown(&mut self, cause: Cause, refresh: bool) -> Result<Next> {
        if self.class == Class::Write {
            if !self.options.retry_unknown || cause.code == Some(Code::Internal) {
                return Err(Error::Unknown(cause));
            }
            self.ambiguous = true;
        }
        self.last = Some(cause);
        Ok(Next {
            refresh,
            ..Next::refresh(Duration::ZERO)
        })
    }

    /// The attempt ended because its partition is elsewhere now; only what may be repeated ends so once it is sent.
    fn judge_moved(&mut self, sent: bool) -> Next {
        self.sent = false;
        self.ambiguous |= sent && self.class == Class::Write;
        self.last = Some(Cause::local("the partition moved to another core"));
        Next {
            redirect: None,
            refresh: false,
            disown: false,
            pause: Pause::None,
        }
    }

    /// The error of the last attempt, softened to unknown if an earlier one may have been executed.
    pub(super) fn final_error(&self, error: Error) -> Error {
        match error {
            Error::Failed { code, message } if self.ambiguous => Error::Unknown(Cause {
                code: Some(code),
                message: format!("{message}, after an attempt without answer"),
            }),
            Error::NotExecuted(cause) if self.ambiguous => Error::Unknown(cause),
            error => error,
        }
    }

    /// No further attempt.
    pub(super) fn give_up(&mut self) -> Error {
        let cause = self
            .last
            .take()
            .unwrap_or_else(|| Cause::local("too many attempts"));
        if self.ambiguous {
            Error::Unknown(cause)
        } else {
            Error::NotExecuted(self.with_time(cause))
        }
    }

    /// The deadline has passed.
    pub(super) fn expired(&mut self) -> Error {
        let Some(last) = self.last.take().filter(|_| !self.sent) else {
            return self.unanswered();
        };
        if self.class == Class::Write && self.ambiguous {
            return Error::Unknown(last);
        }
        Error::NotExecuted(self.with_time(last))
    }

    /// The deadline has passed while an attempt was under way, or before there was any.
    fn unanswered(&mut self) -> Error {
        let cause = Cause::local(format!("no answer within {:?}", self.options.timeout));
        if self.class == Class::Write && (self.sent || self.ambiguous) {
            Error::Unknown(cause)
        } else {
            Error::NotExecuted(cause)
        }
    }

    /// Says how long it was tried, unless the first attempt was the last.
    fn with_time(&self, mut cause: Cause) -> Cause {
        let tried = self.started.elapsed();
        if tried >= Duration::from_millis(100) {
            let gap = if cause.message.is_empty() { "" } else { "; " };
            let tried = format!("{gap}tried for {:.1} s", tried.as_secs_f64());
            cause.message.push_str(&tried);
        }
        cause
    }
}
