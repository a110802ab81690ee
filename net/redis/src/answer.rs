//! Answers that many commands give, in the words of Redis: clients compare them.

use bytes::Bytes;
use pegasus_resp::Value;

/// `+OK`.
#[must_use]
pub const fn ok() -> Value {
    Value::Simple(Bytes::from_static(b"OK"))
}

/// An error of a fixed sentence, its code first.
#[must_use]
pub const fn error(sentence: &'static str) -> Value {
    Value::Error(Bytes::from_static(sentence.as_bytes()))
}

/// An error of a sentence made for the occasion, its code first.
#[must_use]
pub fn failure(sentence: String) -> Value {
    Value::Error(Bytes::from(sentence))
}

/// A number of things.
#[must_use]
pub fn count(number: usize) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A text without a copy.
#[must_use]
pub const fn text(text: &'static str) -> Value {
    Value::Bulk(Bytes::from_static(text.as_bytes()))
}

/// A command with too few or too many arguments.
#[must_use]
pub fn wrong_arity(name: &str) -> Value {
    failure(format!(
        "ERR wrong number of arguments for '{name}' command"
    ))
}

/// A command that nobody knows; its first arguments are quoted as Redis does, so that the user sees what was meant.
#[must_use]
pub fn unknown_command<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Value {
    let name = words.next().unwrap_or_default();
    let mut quoted = String::new();
    for word in words {
        if quoted.len() >= QUOTED_BYTES_MAX {
            break;
        }
        let room = QUOTED_BYTES_MAX - quoted.len();
        quoted.push('\'');
        quoted.push_str(&shortened(word, room));
        quoted.push_str("' ");
    }
    failure(format!(
        "ERR unknown command '{}', with args beginning with: {quoted}",
        shortened(name, QUOTED_BYTES_MAX)
    ))
}

/// A subcommand that nobody knows.
#[must_use]
pub fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Value {
    failure(format!(
        "ERR unknown subcommand '{}'. Try {} HELP.",
        shortened(subcommand, QUOTED_BYTES_MAX),
        command.to_ascii_uppercase()
    ))
}

/// Bytes of an answer, about: what it takes to keep it and to send it. A value that is shared counts wherever it stands.
#[must_use]
pub fn bytes(answer: &Value) -> usize {
    let own = match answer {
        Value::Simple(text)
        | Value::Error(text)
        | Value::Bulk(text)
        | Value::BigNumber(text)
        | Value::BulkError(text)
        | Value::Verbatim { text, .. } => text.len(),
        Value::Array(all) | Value::Set(all) | Value::Push(all) => all.iter().map(bytes).sum(),
        Value::Map(pairs) => pairs_bytes(pairs),
        Value::Attributed { attributes, value } => pairs_bytes(attributes) + bytes(value),
        Value::Integer(_)
        | Value::Null
        | Value::NullArray
        | Value::Boolean(_)
        | Value::Double(_) => 0,
    };
    VALUE_BYTES + own
}

fn pairs_bytes(pairs: &[(Value, Value)]) -> usize {
    pairs
        .iter()
        .map(|(key, value)| bytes(key) + bytes(value))
        .sum()
}

/// What a value costs beside what is in it.
const VALUE_BYTES: usize = 16;

fn shortened(word: &[u8], bytes_max: usize) -> String {
    let end = word.len().min(bytes_max);
    String::from_utf8_lossy(&word[..end]).into_owned()
}

const QUOTED_BYTES_MAX: usize = 128;

pub const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
pub const SYNTAX: &str = "ERR syntax error";
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub const NOT_A_FLOAT: &str = "ERR value is not a valid float";
pub const FIELD_NOT_AN_INTEGER: &str = "ERR hash value is not an integer";
pub const FIELD_NOT_A_FLOAT: &str = "ERR hash value is not a float";
pub const OVERFLOW: &str = "ERR increment or decrement would overflow";
pub const DECREMENT_OVERFLOW: &str = "ERR decrement would overflow";
pub const OFFSET: &str = "ERR offset is out of range";
pub const TOO_LONG: &str = "ERR string exceeds maximum allowed size (1000000 bytes)";
pub const EMPTY_KEY: &str = "ERR the empty key is not supported: a key has at least one byte";
pub const LONG_KEY: &str = "ERR key is too long: 65534 bytes at most";
pub const EMPTY_FIELD: &str = "ERR the empty field is not supported: a field has at least one byte";
pub const BIG_HASH_WRITE: &str =
    "ERR the hash has too many fields for one write (3000 at most): HSCAN and HDEL some first";
pub const BIG_HASH_READ: &str =
    "ERR the hash is too large for one answer (65536 fields, 16 MiB): use HSCAN";
/// A pattern above [`crate::glob::PATTERN_BYTES_MAX`].
pub const LONG_PATTERN: &str = "ERR a pattern of more than 1024 bytes";
/// A command that names too much.
pub const BIG_COMMAND: &str =
    "ERR the names of this command, each with its key, are larger than 32 MiB: ask for fewer";
pub const BIG_ANSWER: &str =
    "ERR the answer is too large (more than 20 MiB): ask for less at a time; nothing was done";
pub const CROSS_KEYS: &str =
    "CROSSSLOT a transaction is atomic within one key, and this one names several";
pub const INVALID_CURSOR: &str = "ERR invalid cursor";
