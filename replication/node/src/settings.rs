//! Settings of a table as meta pushes them with it, and what follows from those that act on requests.

use crate::throttle::Throttles;
use std::collections::BTreeMap;

/// The key of [`Settings::denial`].
const DENY_CLIENT_REQUEST: &str = "replica.deny_client_request";

/// What operators have set for a table. Meta has checked it; what is not understood here has no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    envs: BTreeMap<String, String>,
    deny: Option<Deny>,
    throttles: Option<Throttles>,
}

/// Which requests are denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Deny {
    reads: bool,
    writes: bool,
    denial: Denial,
}

/// How a denied request fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It gets no answer.
    Silent,
    /// It is told to look for another primary.
    Refused,
}

impl Settings {
    #[must_use]
    pub fn of(envs: BTreeMap<String, String>) -> Self {
        let deny = envs.get(DENY_CLIENT_REQUEST).and_then(|it| Deny::of(it));
        let throttles = Throttles::of(&envs);
        Self {
            envs,
            deny,
            throttles,
        }
    }

    /// Those of requests, if any are set.
    #[must_use]
    #[inline]
    pub const fn throttles(&self) -> Option<&Throttles> {
        self.throttles.as_ref()
    }

    /// By key.
    #[must_use]
    pub const fn envs(&self) -> &BTreeMap<String, String> {
        &self.envs
    }

    /// Whether a write, or else a read, is denied, and how.
    #[must_use]
    #[inline]
    pub fn denial(&self, is_write: bool) -> Option<Denial> {
        let deny = self.deny?;
        let concerns = if is_write { deny.writes } else { deny.reads };
        concerns.then_some(deny.denial)
    }
}

impl Deny {
    /// `timeout` or `reconfig`, `*`, `all`, `read` or `write` (Apache Pegasus).
    fn of(value: &str) -> Option<Self> {
        let (how, what) = value.split_once('*')?;
        let denial = match how {
            "timeout" => Denial::Silent,
            "reconfig" => Denial::Refused,
            _ => return None,
        };
        let (reads, writes) = match what {
            "all" => (true, true),
            "read" => (true, false),
            "write" => (false, true),
            _ => return None,
        };
        Some(Self {
            reads,
            writes,
            denial,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(value: &str) -> Settings {
        Settings::of(BTreeMap::from([(
            DENY_CLIENT_REQUEST.to_owned(),
            value.to_owned(),
        )]))
    }

    #[test]
    fn requests_are_denied_as_an_operator_says() {
        let cases = [
            ("timeout*all", Some(Denial::Silent), Some(Denial::Silent)),
            ("reconfig*read", Some(Denial::Refused), None),
            ("timeout*write", None, Some(Denial::Silent)),
            ("reconfig*scan", None, None),
            ("", None, None),
        ];
        for (value, reads, writes) in cases {
            let settings = settings(value);
            assert_eq!(settings.denial(false), reads, "{value}");
            assert_eq!(settings.denial(true), writes, "{value}");
        }
    }
}
