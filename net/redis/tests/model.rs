//! Random commands against a small model of what Redis does with them: maps, and no rows.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use proptest::prelude::*;
use std::collections::BTreeMap;
use support::{NOW_S, Store};

const WRONG: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
const NO_INTEGER: &str = "ERR value is not an integer or out of range";

/// Keys of the model, with the Unix second at which each goes.
#[derive(Default)]
struct Model {
    keys: BTreeMap<String, (Thing, Option<u64>)>,
    now_s: u64,
}

enum Thing {
    Text(String),
    Hash(BTreeMap<String, String>),
}

impl Model {
    fn run(&mut self, line: &str) -> String {
        let now = self.now_s;
        self.keys
            .retain(|_, (_, until)| until.is_none_or(|until| until > now));
        let words: Vec<&str> = line.split(' ').collect();
        let (name, key) = (words[0], words[1]);
        if let Some((Thing::Hash(_), _)) = self.keys.get(key)
            && ["GET", "APPEND", "INCRBY", "GETSET", "GETDEL", "STRLEN"].contains(&name)
        {
            return WRONG.to_owned();
        }
        if let Some((Thing::Text(_), _)) = self.keys.get(key)
            && name.starts_with('H')
        {
            return WRONG.to_owned();
        }
        match name {
            "GET" | "STRLEN" | "GETDEL" | "APPEND" | "INCRBY" => self.text(name, key, &words),
            "SET" | "SETNX" | "SETEX" | "GETSET" => self.set(name, key, &words),
            "DEL" => i32::from(self.keys.remove(key).is_some()).to_string(),
            "EXISTS" => i32::from(self.keys.contains_key(key)).to_string(),
            "TYPE" => match self.keys.get(key) {
                None => "none",
                Some((Thing::Text(_), _)) => "string",
                Some((Thing::Hash(_), _)) => "hash",
            }
            .to_owned(),
            "EXPIRE" => match self.keys.get_mut(key) {
                None => "0".to_owned(),
                Some((_, until)) => {
                    *until = Some(now + words[2].parse::<u64>().unwrap());
                    "1".to_owned()
                }
            },
            "PERSIST" => match self.keys.get_mut(key) {
                Some((_, until)) if until.is_some() => {
                    *until = None;
                    "1".to_owned()
                }
                _ => "0".to_owned(),
            },
            "TTL" => match self.keys.get(key) {
                None => "-2".to_owned(),
                Some((_, None)) => "-1".to_owned(),
                Some((_, Some(until))) => (until - now).to_string(),
            },
            _ => self.hash(name, key, &words),
        }
    }

    fn text(&mut self, name: &str, key: &str, words: &[&str]) -> String {
        let old = match self.keys.get(key) {
            Some((Thing::Text(text), _)) => Some(text.clone()),
            _ => None,
        };
        let until = self.keys.get(key).and_then(|(_, until)| *until);
        match name {
            "GET" => shown(old),
            "STRLEN" => old.unwrap_or_default().len().to_string(),
            "GETDEL" => {
                self.keys.remove(key);
                shown(old)
            }
            "APPEND" => {
                let text = old.unwrap_or_default() + words[2];
                let length = text.len().to_string();
                self.keys.insert(key.to_owned(), (Thing::Text(text), until));
                length
            }
            _ => {
                let Some(number) = number(&old.unwrap_or_else(|| "0".to_owned())) else {
                    return NO_INTEGER.to_owned();
                };
                let sum = number + words[2].parse::<i64>().unwrap();
                self.keys
                    .insert(key.to_owned(), (Thing::Text(sum.to_string()), until));
                sum.to_string()
            }
        }
    }

    fn set(&mut self, name: &str, key: &str, words: &[&str]) -> String {
        let old = match self.keys.get(key) {
            Some((Thing::Text(text), _)) => Some(text.clone()),
            _ => None,
        };
        if name == "SETNX" && self.keys.contains_key(key) {
            return "0".to_owned();
        }
        let until = (name == "SETEX").then(|| self.now_s + words[2].parse::<u64>().unwrap());
        let text = words.last().unwrap().to_string();
        self.keys.insert(key.to_owned(), (Thing::Text(text), until));
        match name {
            "SETNX" => "1".to_owned(),
            "GETSET" => shown(old),
            _ => "OK".to_owned(),
        }
    }

    fn hash(&mut self, name: &str, key: &str, words: &[&str]) -> String {
        let fresh = (Thing::Hash(BTreeMap::new()), None);
        let entry = self.keys.entry(key.to_owned()).or_insert(fresh);
        let Thing::Hash(fields) = &mut entry.0 else {
            unreachable!("types were checked");
        };
        let answer = match name {
            "HSET" => {
                let pairs = words[2..].chunks(2);
                let added = pairs.filter(|pair| {
                    fields
                        .insert(pair[0].to_owned(), pair[1].to_owned())
                        .is_none()
                });
                added.count().to_string()
            }
            "HGET" => shown(fields.get(words[2]).cloned()),
            "HDEL" => {
                let removed = words[2..]
                    .iter()
                    .filter(|field| fields.remove(**field).is_some());
                removed.count().to_string()
            }
            "HLEN" => fields.len().to_string(),
            "HINCRBY" => match number(fields.get(words[2]).map_or("0", String::as_str)) {
                Some(number) => {
                    let sum = number + words[3].parse::<i64>().unwrap();
                    fields.insert(words[2].to_owned(), sum.to_string());
                    sum.to_string()
                }
                None => "ERR hash value is not an integer".to_owned(),
            },
            _ => {
                let pairs: Vec<String> = fields
                    .iter()
                    .map(|(field, value)| format!("{field}:{value}"))
                    .collect();
                format!("{{{}}}", pairs.join(" "))
            }
        };
        if fields.is_empty() {
            self.keys.remove(key);
        }
        answer
    }
}

/// In its only spelling.
fn number(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn shown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "nil".to_owned())
}

/// Few keys and fields, so that commands meet.
fn line() -> impl Strategy<Value = String> {
    let key = || prop::sample::select(vec!["a", "b"]);
    let field = || prop::sample::select(vec!["x", "y", "z"]);
    let value = || prop::sample::select(vec!["1", "20", "text", "-3"]);
    let seconds = || 1..20_u32;
    prop_oneof![
        (
            prop::sample::select(vec![
                "GET", "STRLEN", "GETDEL", "DEL", "EXISTS", "TYPE", "PERSIST", "TTL", "HLEN",
                "HGETALL"
            ]),
            key()
        )
            .prop_map(|(name, key)| format!("{name} {key}")),
        (
            prop::sample::select(vec!["SET", "SETNX", "GETSET", "APPEND"]),
            key(),
            value()
        )
            .prop_map(|(name, key, value)| format!("{name} {key} {value}")),
        (key(), -5..5_i32).prop_map(|(key, by)| format!("INCRBY {key} {by}")),
        (key(), seconds(), value())
            .prop_map(|(key, seconds, value)| format!("SETEX {key} {seconds} {value}")),
        (key(), seconds()).prop_map(|(key, seconds)| format!("EXPIRE {key} {seconds}")),
        (key(), field(), value())
            .prop_map(|(key, field, value)| format!("HSET {key} {field} {value}")),
        (key(), field(), value(), field(), value())
            .prop_map(|(key, f, v, g, w)| format!("HSET {key} {f} {v} {g} {w}")),
        (prop::sample::select(vec!["HGET", "HDEL"]), key(), field())
            .prop_map(|(name, key, field)| format!("{name} {key} {field}")),
        (key(), field(), field()).prop_map(|(key, f, g)| format!("HDEL {key} {f} {g}")),
        (key(), field(), -5..5_i32)
            .prop_map(|(key, field, by)| format!("HINCRBY {key} {field} {by}")),
        (0..15_u32).prop_map(|seconds| format!("pass {seconds}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_that_of_the_model(lines in prop::collection::vec(line(), 1..60)) {
        let (mut store, mut model) = (Store::default(), Model { now_s: NOW_S, ..Model::default() });
        for line in &lines {
            if let Some(seconds) = line.strip_prefix("pass ") {
                let seconds: u64 = seconds.parse().unwrap();
                store.now_ms += seconds * 1000;
                model.now_s += seconds;
                continue;
            }
            prop_assert_eq!(store.text(line), model.run(line), "{} in {:?}", line, lines);
        }
    }

    /// Within a transaction each command answers as it would alone, and what is written is the same.
    #[test]
    fn a_transaction_is_its_commands_one_after_the_other(lines in prop::collection::vec(line(), 1..12)) {
        let lines: Vec<String> = lines
            .iter()
            .filter(|line| !line.starts_with("pass"))
            .map(|line| line.replacen(" b", " a", 1))
            .collect();
        prop_assume!(!lines.is_empty());
        let (mut one, mut each) = (Store::default(), Store::default());
        let answers: Vec<String> = lines.iter().map(|line| each.text(line)).collect();
        let all: Vec<&str> = lines.iter().map(String::as_str).collect();
        prop_assert_eq!(one.transaction(&all), format!("[{}]", answers.join(" ")));
        let alive = |store: &Store| -> Vec<_> { store.rows.values().filter(|rows| !rows.is_empty()).cloned().collect() };
        prop_assert_eq!(alive(&one), alive(&each));
    }
}
