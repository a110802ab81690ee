//! What a server tells about itself: HELLO, COMMAND, CONFIG GET.

use bytes::Bytes;
use pegasus_redis::spec::{self, COMMANDS, Spec};
use pegasus_redis::{Call, Kind, Place, answer, glob};
use pegasus_resp::{Value, Version};

/// The version of Redis whose commands and words are these.
pub const REDIS_VERSION: &str = "7.0.0";

pub(super) fn hello(id: u64, version: Version) -> Value {
    let proto = if version == Version::Resp3 { 3 } else { 2 };
    map([
        ("server", answer::text("redis")),
        ("version", answer::text(REDIS_VERSION)),
        ("proto", Value::Integer(proto)),
        ("id", Value::Integer(i64::try_from(id).unwrap_or(i64::MAX))),
        ("mode", answer::text("standalone")),
        ("role", answer::text("master")),
        ("modules", Value::Array(Vec::new())),
    ])
}

/// COMMAND and its subcommands.
pub(super) fn command(call: &Call) -> Value {
    let names = || (2..call.count()).map(|at| spec::find(call.argument(at)));
    match &call.argument(1).to_ascii_uppercase()[..] {
        _ if call.count() == 1 => Value::Array(COMMANDS.iter().map(entry).collect()),
        b"COUNT" if call.count() == 2 => answer::count(COMMANDS.len()),
        b"LIST" if call.count() == 2 => Value::Array(
            COMMANDS
                .iter()
                .map(|spec| answer::text(spec.name))
                .collect(),
        ),
        b"INFO" if call.count() == 2 => Value::Array(COMMANDS.iter().map(entry).collect()),
        b"INFO" => Value::Array(
            names()
                .map(|spec| spec.map_or(Value::NullArray, entry))
                .collect(),
        ),
        b"DOCS" if call.count() == 2 => Value::Map(COMMANDS.iter().map(docs).collect()),
        b"DOCS" => Value::Map(names().flatten().map(docs).collect()),
        b"COUNT" | b"LIST" => {
            let word = String::from_utf8_lossy(call.argument(1)).to_ascii_lowercase();
            answer::wrong_arity(&format!("command|{word}"))
        }
        _ => answer::unknown_subcommand("command", call.argument(1)),
    }
}

/// As COMMAND describes a command since Redis 7.
fn entry(spec: &Spec) -> Value {
    let flag = |text: &'static str| Value::Simple(Bytes::from_static(text.as_bytes()));
    let flags = match spec.place {
        Place::Key | Place::Keys(_) if spec.writes => vec![flag("write")],
        Place::Key | Place::Keys(_) | Place::Partitions => vec![flag("readonly")],
        _ => vec![flag("fast")],
    };
    let number = |number: i8| Value::Integer(i64::from(number));
    Value::Array(vec![
        answer::text(spec.name),
        number(spec.arity),
        Value::Set(flags),
        number(spec.keys.first),
        number(spec.keys.last),
        number(spec.keys.step),
        Value::Set(Vec::new()),
        Value::Array(Vec::new()),
        Value::Array(Vec::new()),
        Value::Array(Vec::new()),
    ])
}

fn docs(spec: &Spec) -> (Value, Value) {
    let about = map([
        ("summary", answer::text(spec.summary)),
        ("since", answer::text("1.0.0")),
        ("group", answer::text(group(spec))),
    ]);
    (answer::text(spec.name), about)
}

fn group(spec: &Spec) -> &'static str {
    match (spec.place, spec.kind) {
        (Place::Connection, Kind::Multi | Kind::Exec | Kind::Discard | Kind::Unwatch) => {
            "transactions"
        }
        (Place::Connection, Kind::Command | Kind::Config)
        | (Place::Node, Kind::Info | Kind::Time) => "server",
        (Place::Connection, Kind::Cluster) => "cluster",
        (Place::Connection, _) | (Place::Node, _) => "connection",
        (_, Kind::Scan | Kind::Del | Kind::Exists | Kind::Type | Kind::Persist) => "generic",
        (_, Kind::Expire | Kind::PExpire | Kind::ExpireAt | Kind::PExpireAt) => "generic",
        (_, Kind::Ttl | Kind::PTtl | Kind::ExpireTime | Kind::PExpireTime) => "generic",
        (Place::Refused(_), _) | (Place::Partitions, _) => "server",
        _ if spec.name.starts_with('h') => "hash",
        _ => "string",
    }
}

/// CONFIG GET: what clients and benchmarks ask for, none of which can be set.
pub(super) fn config(call: &Call) -> Value {
    match &call.argument(1).to_ascii_uppercase()[..] {
        b"GET" if call.count() >= 3 => {
            let patterns = (2..call.count()).map(|at| call.argument(at).len());
            if patterns.sum::<usize>() > glob::PATTERN_BYTES_MAX {
                return answer::error(answer::LONG_PATTERN);
            }
            let is_asked = |name: &str| {
                (2..call.count()).any(|at| {
                    glob::matches(&call.argument(at).to_ascii_lowercase(), name.as_bytes())
                })
            };
            let settings = SETTINGS.iter().filter(|(name, _)| is_asked(name));
            let pair = |(name, value): &(&'static str, &'static str)| {
                (answer::text(name), answer::text(value))
            };
            Value::Map(settings.map(pair).collect())
        }
        b"GET" => answer::wrong_arity("config|get"),
        _ => answer::unknown_subcommand("config", call.argument(1)),
    }
}

/// Every write is durable before it is answered; nothing is evicted.
const SETTINGS: &[(&str, &str)] = &[
    ("appendfsync", "always"),
    ("appendonly", "yes"),
    ("databases", "1"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("proto-max-bulk-len", "4194304"),
    ("save", ""),
    ("timeout", "0"),
];

fn map<const N: usize>(pairs: [(&'static str, Value); N]) -> Value {
    Value::Map(
        pairs
            .into_iter()
            .map(|(name, value)| (answer::text(name), value))
            .collect(),
    )
}
