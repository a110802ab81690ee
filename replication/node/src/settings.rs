//! Settings of a table as meta pushes them with it, and what follows from those that act on requests.

use crate::compaction::Wishes;
use crate::throttle::Throttles;
use pegasus_engine::rocks::{Scenario, Shape};
use std::collections::BTreeMap;
use std::time::Duration;

/// The key of [`Settings::denial`].
const DENY_CLIENT_REQUEST: &str = "replica.deny_client_request";
/// The key of [`Settings::slow_threshold`], in milliseconds.
const SLOW_QUERY_THRESHOLD: &str = "replica.slow_query_threshold";
/// The keys of [`Settings::shape`].
const USAGE_SCENARIO: &str = "rocksdb.usage_scenario";
const WRITE_BUFFER_SIZE: &str = "rocksdb.write_buffer_size";

/// What operators have set for a table. Meta has checked it; what is not understood here has no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    envs: BTreeMap<String, String>,
    deny: Option<Deny>,
    throttles: Option<Throttles>,
    wishes: Wishes,
    shape: Shape,
    slow_threshold: Option<Duration>,
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
        let wishes = Wishes::of(&envs);
        let shape = shape_of(&envs);
        let slow_threshold = number(&envs, SLOW_QUERY_THRESHOLD).map(Duration::from_millis);
        Self {
            envs,
            deny,
            throttles,
            wishes,
            shape,
            slow_threshold,
        }
    }

    /// Those of requests, if any are set.
    #[must_use]
    #[inline]
    pub const fn throttles(&self) -> Option<&Throttles> {
        self.throttles.as_ref()
    }

    /// When its replicas are to be compacted.
    #[must_use]
    pub const fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// How its replicas are to be kept.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// From which time on its requests are slow; `None`: as the node says.
    #[must_use]
    pub const fn slow_threshold(&self) -> Option<Duration> {
        self.slow_threshold
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

fn shape_of(envs: &BTreeMap<String, String>) -> Shape {
    let scenario = envs.get(USAGE_SCENARIO);
    Shape {
        scenario: scenario
            .and_then(|name| Scenario::named(name))
            .unwrap_or_default(),
        memtable_bytes: number(envs, WRITE_BUFFER_SIZE),
    }
}

fn number(envs: &BTreeMap<String, String>, key: &str) -> Option<u64> {
    envs.get(key)?.parse().ok()
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
    fn files_are_kept_and_requests_are_slow_as_an_operator_says() {
        let of = |envs: &[(&str, &str)]| {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            Settings::of(envs.iter().map(owned).collect())
        };
        assert_eq!(Settings::default().shape(), Shape::default());
        let settings = of(&[
            (USAGE_SCENARIO, "bulk_load"),
            (WRITE_BUFFER_SIZE, "33554432"),
            (SLOW_QUERY_THRESHOLD, "250"),
        ]);
        let shape = Shape {
            scenario: Scenario::BulkLoad,
            memtable_bytes: Some(32 << 20),
        };
        assert_eq!(settings.shape(), shape);
        assert_eq!(settings.slow_threshold(), Some(Duration::from_millis(250)));
        let senseless = of(&[(USAGE_SCENARIO, "fast"), (SLOW_QUERY_THRESHOLD, "soon")]);
        assert_eq!(senseless.shape(), Shape::default());
        assert_eq!(senseless.slow_threshold(), None);
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
