//! A store of plain maps under the evaluator, and answers as short texts.

#![allow(dead_code, reason = "each test file uses its part")]

use bytes::{Bytes, BytesMut};
use pegasus_redis::{
    Call, Calls, Context, Need, READ_ROWS_MAX, Row, State, WRITE_ROWS_MAX, evaluate, replacement,
};
use pegasus_resp::{CommandDecoder, Value};
use std::collections::BTreeMap;

/// Unix second at which tests begin.
pub(crate) const NOW_S: u64 = 1_800_000_000;
const EPOCH_S: u64 = 1_451_606_400;

type Rows = BTreeMap<Bytes, Row>;

pub(crate) struct Store {
    pub(crate) rows: BTreeMap<Bytes, Rows>,
    pub(crate) now_ms: u64,
    pub(crate) default_ttl_s: u32,
    /// Rows that evaluation has asked for, and the most in one command.
    pub(crate) rounds_max: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            now_ms: NOW_S * 1000,
            default_ttl_s: 0,
            rounds_max: 0,
        }
    }
}

impl Store {
    /// Runs a line, one key at a time as a server does, and says what it answers.
    pub(crate) fn text(&mut self, line: &str) -> String {
        text_of(&self.answer(line))
    }

    pub(crate) fn answer(&mut self, line: &str) -> Value {
        match call(line) {
            Ok(call) => self.run(Calls::One(call)),
            Err(value) => value,
        }
    }

    pub(crate) fn transaction(&mut self, lines: &[&str]) -> String {
        let calls = lines.iter().map(|line| call(line).unwrap()).collect();
        text_of(&self.run(Calls::Transaction(calls)))
    }

    pub(crate) fn run(&mut self, calls: Calls) -> Value {
        let key = calls.key().unwrap().unwrap_or_default();
        let now_s = u32::try_from(self.now_ms / 1000 - EPOCH_S).unwrap();
        let stored = self.rows.entry(key).or_default();
        stored.retain(|_, row| row.expire_at == 0 || row.expire_at > now_s);
        let rows_max = if calls.writes() {
            WRITE_ROWS_MAX
        } else {
            READ_ROWS_MAX
        };
        let context = Context {
            now_ms: self.now_ms,
            default_ttl_s: self.default_ttl_s,
        };
        let (answer, state, rounds) = evaluated(&calls, State::new(rows_max), &context, stored);
        if stored.keys().all(Bytes::is_empty) {
            let mut told = State::new(rows_max);
            told.know_plain();
            let (as_told, told, rounds_told) = evaluated(&calls, told, &context, stored);
            assert_eq!(
                as_told, answer,
                "whether it is told that the key is no hash"
            );
            assert_eq!(after(stored, &told), after(stored, &state));
            assert!(rounds_told <= rounds);
            if let Some((value, expire_at)) = replacement(&calls, &context) {
                let row = Row { value, expire_at };
                assert_eq!(after(stored, &state), Rows::from([(Bytes::new(), row)]));
                assert_eq!(answer, pegasus_redis::answer::ok());
            }
        }
        self.rounds_max = self.rounds_max.max(rounds);
        *stored = after(stored, &state);
        answer
    }

    pub(crate) fn expiries(&self, key: &str) -> Vec<u32> {
        self.rows[key.as_bytes()]
            .values()
            .map(|row| row.expire_at)
            .collect()
    }
}

/// The answer, what is to be written, and how often rows were asked for.
fn evaluated(
    calls: &Calls,
    mut state: State,
    context: &Context,
    stored: &Rows,
) -> (Value, State, usize) {
    let mut rounds = 0;
    loop {
        match evaluate(calls, &mut state, context) {
            Ok(answer) => return (answer, state, rounds),
            Err(need) => load(stored, need, &mut state),
        }
        rounds += 1;
        assert!(rounds < 100, "evaluation ends");
    }
}

fn after(stored: &Rows, state: &State) -> Rows {
    let mut rows = stored.clone();
    for (sort_key, row) in state.writes() {
        match row {
            Some(row) => rows.insert(sort_key.clone(), row.clone()),
            None => rows.remove(sort_key),
        };
    }
    rows
}

fn load(stored: &Rows, need: Need, state: &mut State) {
    match need {
        Need::Rows(sort_keys) => {
            let distinct: std::collections::BTreeSet<_> = sort_keys.iter().collect();
            assert_eq!(distinct.len(), sort_keys.len(), "a row is asked for once");
            for sort_key in sort_keys {
                let row = stored.get(&sort_key).cloned();
                state.know(sort_key, row);
            }
        }
        Need::Head(asked) => {
            let head = stored
                .iter()
                .take(asked)
                .map(|(key, row)| (key.clone(), row.clone()));
            state.know_head(head.collect(), asked);
        }
    }
}

pub(crate) fn call(line: &str) -> Result<Call, Value> {
    let mut bytes = BytesMut::from(format!("{line}\r\n").as_bytes());
    let limits = pegasus_resp::Limits {
        line_bytes_max: 4 << 20,
        ..pegasus_resp::Limits::DEFAULT
    };
    let command = CommandDecoder::new(limits)
        .decode(&mut bytes)
        .unwrap()
        .unwrap();
    Call::new(command).map_err(|refusal| refusal.0)
}

pub(crate) fn text_of(value: &Value) -> String {
    let all = |values: &[Value]| values.iter().map(text_of).collect::<Vec<_>>().join(" ");
    match value {
        Value::Simple(text) | Value::Error(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Bulk(text) if text.is_empty() => "\"\"".to_owned(),
        Value::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Null => "nil".to_owned(),
        Value::Array(values) => format!("[{}]", all(values)),
        Value::Map(pairs) => {
            let pairs: Vec<String> = pairs
                .iter()
                .map(|(key, value)| format!("{}:{}", text_of(key), text_of(value)))
                .collect();
            format!("{{{}}}", pairs.join(" "))
        }
        other => panic!("{other:?}"),
    }
}
