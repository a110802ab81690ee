//! Whether a text is a value of some kind.

use super::keys::Kind;
use serde_json::Value;

/// Numbers of a throttle are below 2^63 / 2^20, so that `M` does not run over.
const UNITS_MAX: u64 = 1 << 43;
/// Times of day in one list.
const DAILY_TIMES_MAX: usize = 24 * 60;
/// Nesting and number of rules are bounded by the length of a value.
const RULE_TYPES: [&str; 3] = [
    "FRT_HASHKEY_PATTERN",
    "FRT_SORTKEY_PATTERN",
    "FRT_TTL_RANGE",
];
const MATCH_TYPES: [&str; 3] = [
    "SMT_MATCH_ANYWHERE",
    "SMT_MATCH_PREFIX",
    "SMT_MATCH_POSTFIX",
];
const UPDATE_TYPES: [&str; 3] = ["UTOT_FROM_NOW", "UTOT_FROM_CURRENT", "UTOT_TIMESTAMP"];

pub(super) fn fits(kind: Kind, value: &str) -> bool {
    match kind {
        Kind::Text => true,
        Kind::Bool => matches!(value, "true" | "false"),
        Kind::Int32From(min) => number::<i32>(value).is_some_and(|it| it >= min),
        Kind::Int64From(min) => number::<i64>(value).is_some_and(|it| it >= min),
        Kind::Int64Within(min, max) => {
            number::<i64>(value).is_some_and(|it| (min..=max).contains(&it))
        }
        Kind::CompactionLevel => number::<i32>(value).is_some_and(|it| it == -1 || it >= 1),
        Kind::OneOf(values) => values.contains(&value),
        Kind::Deny => parse_deny(value).is_some(),
        Kind::Throttle => is_throttle(value),
        Kind::SizeThrottle => units(value).is_some() || is_throttle(value),
        Kind::DailyTimes => is_daily(value),
        Kind::Json => serde_json::from_str::<Value>(value).is_ok(),
        Kind::CompactionRules => are_compaction_rules(value),
    }
}

/// Decimal digits, with a minus before them if wanted: nothing else, no `+`.
fn number<N: std::str::FromStr>(value: &str) -> Option<N> {
    let is_plain = !value.starts_with('+');
    is_plain.then(|| value.parse().ok()).flatten()
}

/// Which requests are denied, and how: (is answered, reads, writes). `None`: it is no such value.
#[must_use]
pub fn parse_deny(value: &str) -> Option<(bool, bool, bool)> {
    let (how, what) = value.split_once('*')?;
    let is_answered = match how {
        "timeout" => false,
        "reconfig" => true,
        _ => return None,
    };
    match what {
        "all" => Some((is_answered, true, true)),
        "read" => Some((is_answered, true, false)),
        "write" => Some((is_answered, false, true)),
        _ => None,
    }
}

/// At most one part that delays and one that rejects.
fn is_throttle(value: &str) -> bool {
    let (mut delays, mut rejects) = (0, 0);
    for part in value.split(',') {
        let fields: Vec<&str> = part.split('*').collect();
        let &[amount, what, milliseconds] = &fields[..] else {
            return false;
        };
        match what {
            "delay" => delays += 1,
            "reject" => rejects += 1,
            _ => return false,
        }
        if units(amount).is_none() || number::<u32>(milliseconds).is_none() {
            return false;
        }
    }
    delays <= 1 && rejects <= 1
}

/// A number, with `K` (1,024) or `M` (1,048,576) if wanted.
fn units(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let count = number::<u64>(digits).filter(|&it| it < UNITS_MAX)?;
    count.checked_mul(factor)
}

fn is_daily(value: &str) -> bool {
    let times: Vec<&str> = value.split(',').collect();
    times.len() <= DAILY_TIMES_MAX && times.iter().all(|time| is_time(time))
}

fn is_time(text: &str) -> bool {
    let Some((hour, minute)) = text.split_once(':') else {
        return false;
    };
    let fits = |digits: &str, max: u8| {
        (1..=2).contains(&digits.len()) && number::<u8>(digits).is_some_and(|it| it <= max)
    };
    fits(hour, 23) && fits(minute, 59)
}

fn are_compaction_rules(value: &str) -> bool {
    let Ok(rules) = serde_json::from_str::<Value>(value) else {
        return false;
    };
    let operations = rules.get("ops").and_then(Value::as_array);
    operations.is_some_and(|them| !them.is_empty() && them.iter().all(is_operation))
}

fn is_operation(it: &Value) -> bool {
    let fits = match text(it, "type") {
        Some("COT_DELETE") => true,
        Some("COT_UPDATE_TTL") => params(it).is_some_and(|params| {
            has_one_of(&params, "type", &UPDATE_TYPES) && is_count(&params, "value")
        }),
        _ => false,
    };
    let rules = it.get("rules").and_then(Value::as_array);
    fits && rules.is_some_and(|them| !them.is_empty() && them.iter().all(is_rule))
}

fn is_rule(it: &Value) -> bool {
    let Some(kind) = text(it, "type").filter(|kind| RULE_TYPES.contains(kind)) else {
        return false;
    };
    let Some(params) = params(it) else {
        return false;
    };
    if kind == "FRT_TTL_RANGE" {
        return is_count(&params, "start_ttl") && is_count(&params, "stop_ttl");
    }
    text(&params, "pattern").is_some() && has_one_of(&params, "match_type", &MATCH_TYPES)
}

/// JSON in a text of JSON, as Apache's tools write it.
fn params(it: &Value) -> Option<Value> {
    serde_json::from_str(text(it, "params")?).ok()
}

fn text<'a>(it: &'a Value, key: &str) -> Option<&'a str> {
    it.get(key)?.as_str()
}

fn has_one_of(it: &Value, key: &str, allowed: &[&str]) -> bool {
    text(it, key).is_some_and(|value| allowed.contains(&value))
}

fn is_count(it: &Value, key: &str) -> bool {
    it.get(key)
        .and_then(Value::as_i64)
        .is_some_and(|it| it >= 0)
}

#[cfg(test)]
mod tests;
