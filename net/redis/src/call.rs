//! A command with its arguments, and how one that names several keys becomes several.

use crate::answer;
use crate::spec::{self, Kind, Place, Spec};
use crate::{KEY_BYTES_MAX, answer as sentence};
use bytes::Bytes;
use pegasus_resp::{Command, Value};

/// A command that is known and has a right number of arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub spec: &'static Spec,
    pub command: Command,
}

/// One command, or what stands between MULTI and EXEC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calls {
    One(Call),
    /// In order; executed as one.
    Transaction(Vec<Call>),
}

/// How the answers of the parts of a command become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// In the order of the keys.
    Array,
    /// Numbers, added up.
    Sum,
    /// OK if all are.
    AllOk,
}

/// Why a command is not executed: the answer to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal(pub Value);

impl Calls {
    #[must_use]
    pub fn as_slice(&self) -> &[Call] {
        match self {
            Self::One(call) => std::slice::from_ref(call),
            Self::Transaction(calls) => calls,
        }
    }

    /// Whether any of them may change rows.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.as_slice().iter().any(|call| call.spec.writes)
    }

    /// The one key they are all about; `None` if they name none.
    ///
    /// # Errors
    /// They name several.
    pub fn key(&self) -> Result<Option<Bytes>, Refusal> {
        let mut key: Option<Bytes> = None;
        for call in self.as_slice() {
            for at in call.key_positions() {
                match &key {
                    None => key = Some(call.shared(at)),
                    Some(key) if key == call.argument(at) => {}
                    Some(_) => return Err(Refusal(answer::error(sentence::CROSS_KEYS))),
                }
            }
        }
        Ok(key)
    }
}

impl Call {
    /// Looks the command up.
    ///
    /// # Errors
    /// Unknown, refused as a whole, or with a wrong number of arguments.
    pub fn new(command: Command) -> Result<Self, Refusal> {
        let name = command.argument(0).unwrap_or_default();
        let Some(spec) = spec::find(name) else {
            return Err(Refusal(answer::unknown_command(command.arguments())));
        };
        if !spec.takes(command.count()) {
            return Err(Refusal(answer::wrong_arity(spec.name)));
        }
        if let Place::Refused(reason) = spec.place {
            return Err(Refusal(answer::error(reason)));
        }
        let call = Self { spec, command };
        call.check_pairs()?;
        Ok(call)
    }

    /// An argument, the name being 0; empty beyond the last.
    #[must_use]
    pub fn argument(&self, index: usize) -> &[u8] {
        self.command.argument(index).unwrap_or_default()
    }

    /// The same without a copy.
    #[must_use]
    pub fn shared(&self, index: usize) -> Bytes {
        self.command.shared(index).unwrap_or_default()
    }

    /// Arguments, the name included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.command.count()
    }

    /// The first key it names; `None` for commands without keys.
    #[must_use]
    pub fn key(&self) -> Option<Bytes> {
        let first = usize::try_from(self.spec.keys.first)
            .ok()
            .filter(|first| *first > 0)?;
        self.command.shared(first)
    }

    /// The positions of all its keys.
    pub fn key_positions(&self) -> impl Iterator<Item = usize> + use<> {
        let keys = self.spec.keys;
        let first = usize::from(keys.first.unsigned_abs());
        let last = match usize::try_from(keys.last) {
            Ok(last) => last,
            Err(_) => self
                .count()
                .saturating_sub(usize::from(keys.last.unsigned_abs())),
        };
        let step = usize::from(keys.step.unsigned_abs()).max(1);
        (first..=last).step_by(step).filter(move |_| first > 0)
    }

    /// The same command for each of its keys.
    pub fn parts(&self) -> impl Iterator<Item = Self> + '_ {
        let step = usize::from(self.spec.keys.step.unsigned_abs()).max(1);
        self.key_positions().map(move |at| Self {
            spec: self.spec,
            command: self.command.with_arguments(at..at + step),
        })
    }

    /// Whether its keys can be stored.
    ///
    /// # Errors
    /// The answer that says why not.
    pub fn check_keys(&self) -> Result<(), Refusal> {
        for at in self.key_positions() {
            match self.argument(at).len() {
                0 => return Err(Refusal(answer::error(sentence::EMPTY_KEY))),
                1..=KEY_BYTES_MAX => {}
                _ => return Err(Refusal(answer::error(sentence::LONG_KEY))),
            }
        }
        Ok(())
    }

    /// Keys or fields with a value each; and MSETNX, which cannot be split, takes one of them.
    fn check_pairs(&self) -> Result<(), Refusal> {
        let (is_even, is_several) = match self.spec.kind {
            Kind::MSet | Kind::MSetNx => (self.count() % 2 == 1, self.count() > 3),
            Kind::HSet | Kind::HMSet => (self.count().is_multiple_of(2), false),
            _ => return Ok(()),
        };
        if !is_even {
            return Err(Refusal(answer::wrong_arity(self.spec.name)));
        }
        if is_several && self.spec.kind == Kind::MSetNx {
            return Err(Refusal(answer::error(MSETNX_ONE)));
        }
        Ok(())
    }
}

const MSETNX_ONE: &str =
    "CROSSSLOT MSETNX is supported with one key only, because several keys are not written as one";

impl Gather {
    /// One answer from those of the parts, in their order. Any error among them is the answer.
    #[must_use]
    pub fn combine(self, answers: Vec<Value>) -> Value {
        if let Some(error) = answers.iter().find(|answer| answer.error().is_some()) {
            return error.clone();
        }
        match self {
            Self::Array => Value::Array(answers),
            Self::AllOk => answer::ok(),
            Self::Sum => Value::Integer(
                answers
                    .iter()
                    .map(|answer| match answer {
                        Value::Integer(number) => *number,
                        _ => 0,
                    })
                    .sum(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use bytes::BytesMut;
    use pegasus_resp::CommandDecoder;

    fn call(line: &str) -> Result<Call, Refusal> {
        let mut bytes = BytesMut::from(format!("{line}\r\n").as_bytes());
        Call::new(
            CommandDecoder::default()
                .decode(&mut bytes)
                .unwrap()
                .unwrap(),
        )
    }

    fn refusal(line: &str) -> String {
        call(line).unwrap_err().0.error().unwrap()
    }

    fn parts(line: &str) -> Vec<Vec<String>> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let words = |part: Call| part.command.arguments().map(text).collect();
        call(line).unwrap().parts().map(words).collect()
    }

    #[test]
    fn refusals_are_in_the_words_of_redis() {
        assert_eq!(
            refusal("foo bar baz"),
            "ERR unknown command 'foo', with args beginning with: 'bar' 'baz' "
        );
        assert_eq!(
            refusal("get"),
            "ERR wrong number of arguments for 'get' command"
        );
        assert_eq!(
            refusal("MSET a 1 b"),
            "ERR wrong number of arguments for 'mset' command"
        );
        assert_eq!(
            refusal("HSET h f"),
            "ERR wrong number of arguments for 'hset' command"
        );
        assert_eq!(
            refusal("HSET h f v g"),
            "ERR wrong number of arguments for 'hset' command"
        );
        assert!(refusal("KEYS *").contains("SCAN"));
        assert!(refusal("MSETNX a 1 b 2").starts_with("CROSSSLOT"));
    }

    #[test]
    fn commands_of_several_keys_are_split_by_key() {
        assert_eq!(parts("del a b"), [["del", "a"], ["del", "b"]]);
        assert_eq!(
            parts("MSET a 1 b 2"),
            [["MSET", "a", "1"], ["MSET", "b", "2"]]
        );
        assert_eq!(parts("PING"), [[""; 0]; 0]);
    }

    #[test]
    fn keys_that_cannot_be_stored_are_refused() {
        assert!(call("MGET a b").unwrap().check_keys().is_ok());
        assert!(call("MGET a \"\"").unwrap().check_keys().is_err());
        assert!(
            call(&format!("GET {}", "k".repeat(60_000)))
                .unwrap()
                .check_keys()
                .is_ok()
        );
        let long = format!("*2\r\n$3\r\nGET\r\n$65535\r\n{}\r\n", "k".repeat(65_535));
        let mut bytes = BytesMut::from(long.as_bytes());
        let command = CommandDecoder::default()
            .decode(&mut bytes)
            .unwrap()
            .unwrap();
        assert!(Call::new(command).unwrap().check_keys().is_err());
    }

    #[test]
    fn answers_of_parts_are_gathered() {
        let numbers = || vec![Value::Integer(1), Value::Integer(2)];
        assert_eq!(Gather::Sum.combine(numbers()), Value::Integer(3));
        assert_eq!(Gather::Array.combine(numbers()), Value::Array(numbers()));
        assert_eq!(Gather::AllOk.combine(vec![answer::ok(); 2]), answer::ok());
        let error = answer::error("ERR no");
        assert_eq!(
            Gather::AllOk.combine(vec![answer::ok(), error.clone()]),
            error
        );
    }
}
