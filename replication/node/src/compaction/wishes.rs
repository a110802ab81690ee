//! When a table wants its replicas compacted, and how: the settings `manual_compact.*`.
//!
//! Source: Apache Pegasus, `pegasus_manual_compact_service.cpp`. Two differences: a time of `once` that is still to come is
//! waited for (there, compactions follow one another until then), and times of day are UTC.

use pegasus_engine::rocks::{Bottommost, Thorough};
use std::collections::BTreeMap;

const PREFIX: &str = "manual_compact.";
const DAY_S: u64 = 24 * 3600;

/// What operators have set for one table. What makes no sense has no effect; meta has checked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    pub is_disabled: bool,
    /// Replicas that a node compacts at a time, of whatever tables, before one of this table begins.
    pub running_max: u32,
    /// At this time, in Unix seconds.
    once: Option<(u64, Thorough)>,
    /// At these seconds of each day.
    daily: Option<(Vec<u64>, Thorough)>,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            is_disabled: false,
            running_max: 1,
            once: None,
            daily: None,
        }
    }
}

impl Wishes {
    #[must_use]
    pub fn of(envs: &BTreeMap<String, String>) -> Self {
        let get = |key: &str| envs.get(&format!("{PREFIX}{key}")).map(String::as_str);
        let once = get("once.trigger_time").and_then(|it| it.parse().ok());
        let once = once.filter(|time| *time > 0);
        let daily = get("periodic.trigger_time").map(times_of_day);
        let daily = daily.filter(|times| !times.is_empty());
        let running_max = get("max_concurrent_running_count").and_then(|it| it.parse().ok());
        Self {
            is_disabled: get("disabled") == Some("true"),
            running_max: running_max.unwrap_or(1),
            once: once.map(|time| (time, thorough("once", get))),
            daily: daily.map(|times| (times, thorough("periodic", get))),
        }
    }

    /// How a replica is to be compacted now that was compacted, or seen for the first time, at `last_s`; `None`: not now.
    /// Both in Unix seconds.
    #[must_use]
    pub fn due(&self, last_s: u64, now_s: u64) -> Option<Thorough> {
        if self.is_disabled || self.running_max == 0 {
            return None;
        }
        let is_due = |time_s: u64| last_s < time_s && time_s <= now_s;
        if let Some((time_s, thorough)) = self.once
            && is_due(time_s)
        {
            return Some(thorough);
        }
        let (times, thorough) = self.daily.as_ref()?;
        let today_s = now_s - now_s % DAY_S;
        let is_any_due = times.iter().any(|time_s| is_due(today_s + time_s));
        is_any_due.then_some(*thorough)
    }
}

/// Of `once` or `periodic`.
fn thorough<'a>(which: &str, get: impl Fn(&str) -> Option<&'a str>) -> Thorough {
    let level = get(&format!("{which}.target_level")).and_then(|it| it.parse().ok());
    let bottommost = get(&format!("{which}.bottommost_level_compaction"));
    Thorough {
        // -1: as RocksDB likes.
        target_level: level.filter(|level| *level >= 1),
        bottommost: match bottommost {
            Some("force") => Bottommost::Rewrite,
            _ => Bottommost::Skip,
        },
    }
}

/// `3:00,21:00`, in seconds of a day.
fn times_of_day(text: &str) -> Vec<u64> {
    let time = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u64, u64) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 3600 + minute * 60)
    };
    text.split(',').filter_map(time).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(envs: &[(&str, &str)]) -> Wishes {
        let named = |(key, value): &(&str, &str)| (format!("{PREFIX}{key}"), (*value).to_owned());
        Wishes::of(&envs.iter().map(named).collect())
    }

    const SKIP: Thorough = Thorough {
        target_level: None,
        bottommost: Bottommost::Skip,
    };

    #[test]
    fn once_is_once_and_not_before_its_time() {
        let wishes = wishes(&[("once.trigger_time", "1000")]);
        assert_eq!(wishes.due(500, 999), None);
        assert_eq!(wishes.due(500, 1000), Some(SKIP));
        assert_eq!(wishes.due(1000, 2000), None, "it has been compacted since");
        assert_eq!(Wishes::default().due(0, u64::MAX), None);
    }

    #[test]
    fn daily_times_come_again_every_day() {
        let wishes = wishes(&[("periodic.trigger_time", "3:00,21:30")]);
        let at = |day: u64, hour: u64, minute: u64| day * DAY_S + hour * 3600 + minute * 60;
        assert_eq!(wishes.due(at(9, 22, 0), at(10, 2, 59)), None);
        assert_eq!(wishes.due(at(9, 22, 0), at(10, 3, 0)), Some(SKIP));
        assert_eq!(wishes.due(at(10, 3, 10), at(10, 21, 29)), None);
        assert_eq!(wishes.due(at(10, 3, 10), at(10, 23, 0)), Some(SKIP));
        assert_eq!(wishes.due(at(10, 23, 1), at(11, 1, 0)), None);
        assert_eq!(wishes.due(at(10, 23, 1), at(11, 3, 1)), Some(SKIP));
    }

    #[test]
    fn how_thorough_is_said_for_each_of_them() {
        let wishes = wishes(&[
            ("once.trigger_time", "10"),
            ("once.target_level", "2"),
            ("once.bottommost_level_compaction", "force"),
            ("periodic.trigger_time", "0:00"),
            ("periodic.target_level", "-1"),
        ]);
        let forced = Thorough {
            target_level: Some(2),
            bottommost: Bottommost::Rewrite,
        };
        assert_eq!(wishes.due(0, 20), Some(forced));
        assert_eq!(wishes.due(10, DAY_S + 20), Some(SKIP));
    }

    #[test]
    fn nothing_is_due_where_it_is_disabled_or_none_may_run() {
        let once = ("once.trigger_time", "10");
        assert_eq!(wishes(&[once, ("disabled", "true")]).due(0, 20), None);
        let none = ("max_concurrent_running_count", "0");
        assert_eq!(wishes(&[once, none]).due(0, 20), None);
        let eight = ("max_concurrent_running_count", "8");
        assert_eq!(wishes(&[once, eight]).running_max, 8);
    }
}
