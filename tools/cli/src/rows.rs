//! `pegasus get|set|del|exist|ttl`: single rows; `atomic` changes them by what they are, `many` is for rows of a hash key,
//! `place` says where one lives.

pub(crate) mod atomic;
pub(crate) mod many;
pub(crate) mod place;

use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style};
use crate::text;
use anyhow::Context as _;
use clap::Args;
use pegasus_client::{Row, Table, Ttl};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, SystemTime};

/// Names one row.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pegasus del demo user-1 name
  pegasus ttl demo user-1 session
  pegasus exist demo --escaped 'user\\x00one' name && echo there")]
pub(crate) struct Key {
    /// Name of the table
    table: String,
    /// The hash key, which decides where the row lives
    #[arg(allow_negative_numbers = true)]
    hash_key: OsString,
    /// The sort key; empty if left out
    #[arg(default_value = "", allow_negative_numbers = true)]
    sort_key: OsString,
    /// Keys (and the value) are written with C-style escapes: \\ \t \n \r \0 \xHH
    #[arg(long, short)]
    escaped: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pegasus get demo user-1 name
  pegasus get demo user-1 photo --raw > photo.jpg
  pegasus get demo user-1 name --json")]
pub(crate) struct Get {
    #[command(flatten)]
    key: Key,
    /// Print the value as it is: no escapes, no newline
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pegasus set demo user-1 name Ada
  pegasus set demo user-1 session 8f14e45f --ttl 3600
  pegasus set demo user-1 photo - < photo.jpg")]
pub(crate) struct Set {
    /// Name of the table
    table: String,
    /// The hash key, which decides where the row lives
    #[arg(allow_negative_numbers = true)]
    hash_key: OsString,
    /// The sort key; '' is an empty one
    #[arg(allow_negative_numbers = true)]
    sort_key: OsString,
    /// The value; - reads it from standard input
    #[arg(allow_negative_numbers = true)]
    value: OsString,
    /// Seconds until the row expires, as --ttl
    #[arg(
        value_name = "SECONDS",
        allow_negative_numbers = true,
        conflicts_with = "ttl"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=TTL_SECONDS_MAX))]
    ttl_seconds: Option<u32>,
    /// Seconds until the row expires [default: never]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=TTL_SECONDS_MAX))]
    ttl: Option<u32>,
    /// Keys and value are written with C-style escapes: \\ \t \n \r \0 \xHH
    #[arg(long, short)]
    escaped: bool,
}

/// What a server can tell again as the time a row has left: 68 years.
const TTL_SECONDS_MAX: i64 = i32::MAX as i64;

pub(crate) async fn get(get: &Get, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let (hash_key, sort_key) = get.key.bytes()?;
    let table = connect.table(&get.key.table).await?;
    let Some(value) = table.get(&hash_key, &sort_key).await? else {
        return Err(no_row(&hash_key, &sort_key));
    };
    match out.style {
        _ if get.raw => Ok(out.raw(&value)?),
        Style::Json => out.json(&key_json(
            &hash_key,
            &sort_key,
            [("value", text::to_json(&value))],
        )),
        Style::People => {
            let line = out.escape(&value);
            Ok(out.line(line)?)
        }
    }
}

pub(crate) async fn set(set: &Set, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let bytes = |argument: &OsString| argument_bytes(argument, set.escaped);
    let (hash_key, sort_key) = (bytes(&set.hash_key)?, bytes(&set.sort_key)?);
    let value = if set.value == "-" {
        read_stdin()?
    } else {
        bytes(&set.value)?
    };
    let table = connect.table(&set.table).await?;
    let ttl = set.ttl.or(set.ttl_seconds).unwrap_or(0);
    put(&table, &hash_key, &sort_key, &value, ttl).await?;
    match out.style {
        Style::Json => out.json(&key_json(&hash_key, &sort_key, [("written", json!(true))])),
        Style::People => Ok(()),
    }
}

/// Writes a row; `ttl_seconds` 0 = it never expires.
pub(crate) async fn put(
    table: &Table,
    hash_key: &[u8],
    sort_key: &[u8],
    value: &[u8],
    ttl_seconds: u32,
) -> anyhow::Result<()> {
    match ttl_seconds {
        0 => table.put(hash_key, sort_key, value).await?,
        seconds => {
            table
                .put_with_ttl(
                    hash_key,
                    sort_key,
                    value,
                    Duration::from_secs(seconds.into()),
                )
                .await?
        }
    }
    Ok(())
}

pub(crate) async fn del(key: &Key, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let (hash_key, sort_key) = key.bytes()?;
    connect
        .table(&key.table)
        .await?
        .remove(&hash_key, &sort_key)
        .await?;
    match out.style {
        Style::Json => out.json(&key_json(&hash_key, &sort_key, [("removed", json!(true))])),
        Style::People => Ok(()),
    }
}

pub(crate) async fn exist(key: &Key, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let (hash_key, sort_key) = key.bytes()?;
    let exists = connect
        .table(&key.table)
        .await?
        .exist(&hash_key, &sort_key)
        .await?;
    match out.style {
        Style::Json => out.json(&key_json(&hash_key, &sort_key, [("exists", json!(exists))]))?,
        Style::People => out.line(if exists { "yes" } else { "no" })?,
    }
    if exists {
        Ok(())
    } else {
        Err(Failed::told(Exit::NotFound))
    }
}

pub(crate) async fn ttl(key: &Key, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let (hash_key, sort_key) = key.bytes()?;
    let seconds = match connect
        .table(&key.table)
        .await?
        .ttl(&hash_key, &sort_key)
        .await?
    {
        None => return Err(no_row(&hash_key, &sort_key)),
        Some(Ttl::Never) => None,
        Some(Ttl::Remaining(left)) => Some(left.as_secs()),
    };
    match out.style {
        Style::Json => out.json(&key_json(&hash_key, &sort_key, [("ttl", json!(seconds))])),
        Style::People => {
            Ok(out.line(seconds.map_or("never expires".to_owned(), |s| s.to_string()))?)
        }
    }
}

impl Key {
    fn bytes(&self) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
        Ok((
            argument_bytes(&self.hash_key, self.escaped)?,
            argument_bytes(&self.sort_key, self.escaped)?,
        ))
    }
}

/// The bytes of a key or value on the command line.
pub(crate) fn argument_bytes(argument: &OsString, escaped: bool) -> anyhow::Result<Vec<u8>> {
    if !escaped {
        return Ok(argument.as_bytes().to_vec());
    }
    text::unescape(argument.as_bytes()).map_err(|error| {
        Failed::error(
            Exit::Usage,
            format!("'{}': {error}", argument.to_string_lossy()),
        )
    })
}

/// A value larger than any row is refused by the server; this only keeps a wrong pipe from filling the memory.
fn read_stdin() -> anyhow::Result<Vec<u8>> {
    const VALUE_BYTES_MAX: u64 = 64 << 20;
    let mut value = Vec::new();
    std::io::stdin()
        .take(VALUE_BYTES_MAX + 1)
        .read_to_end(&mut value)
        .context("standard input")?;
    anyhow::ensure!(
        value.len() as u64 <= VALUE_BYTES_MAX,
        "standard input is longer than {VALUE_BYTES_MAX} bytes"
    );
    Ok(value)
}

fn no_row(hash_key: &[u8], sort_key: &[u8]) -> anyhow::Error {
    let (hash_key, sort_key) = (
        text::escape_short(hash_key, 100),
        text::escape_short(sort_key, 100),
    );
    Failed::error(
        Exit::NotFound,
        format!("no row with hash key '{hash_key}' and sort key '{sort_key}'"),
    )
}

fn key_json<const N: usize>(hash_key: &[u8], sort_key: &[u8], more: [(&str, Value); N]) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("hash_key".to_owned(), text::to_json(hash_key));
    object.insert("sort_key".to_owned(), text::to_json(sort_key));
    object.extend(more.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(object)
}

/// A row as `scan --json` and `export --format jsonl` write it and `import --format jsonl` reads it: hash key, sort key,
/// value, and the seconds it has left if it expires.
pub(crate) fn row_json(row: &Row) -> Value {
    let mut object = key_json(
        &row.hash_key,
        &row.sort_key,
        [("value", text::to_json(&row.value))],
    );
    if let (Some(expires), Value::Object(fields)) = (row.expires(), &mut object) {
        let seconds = seconds_left(expires, SystemTime::now());
        fields.insert("ttl".to_owned(), json!(seconds));
    }
    object
}

/// At least 1: 0 would mean that the row never expires.
pub(crate) fn seconds_left(expires: SystemTime, now: SystemTime) -> u64 {
    expires
        .duration_since(now)
        .map_or(1, |left| left.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn arguments_are_taken_as_they_are_unless_they_are_escaped() {
        assert_eq!(argument_bytes(&r"a\x00".into(), false).unwrap(), br"a\x00");
        assert_eq!(argument_bytes(&r"a\x00".into(), true).unwrap(), b"a\0");
        let refused = argument_bytes(&r"a\q".into(), true).unwrap_err();
        assert_eq!(crate::exit::exit_of(&refused), Exit::Usage);
    }

    #[test]
    fn the_time_left_is_never_taken_for_no_expiry() {
        let now = SystemTime::now();
        assert_eq!(seconds_left(now + Duration::from_secs(60), now), 60);
        assert_eq!(seconds_left(now + Duration::from_millis(10), now), 1);
        assert_eq!(seconds_left(now, now + Duration::from_secs(60)), 1);
    }

    #[test]
    fn keys_come_first_in_json() {
        let json = key_json(b"h", b"\xff", [("value", text::to_json(b"v"))]).to_string();
        assert_eq!(
            json,
            r#"{"hash_key":"h","sort_key":{"b64":"/w=="},"value":"v"}"#
        );
    }
}
