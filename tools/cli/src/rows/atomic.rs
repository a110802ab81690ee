//! `pegasus incr|check-and-set|check-and-mutate`: rows that are changed by what they are.

use super::{Key, TTL_SECONDS_MAX, argument_bytes, key_json};
use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style};
use crate::text;
use clap::{Args, ValueEnum};
use pegasus_client::{
    Check, CheckKind, CheckOutcome, CheckedRow, Expiry, IncrExpiry, Mutation, Set,
};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pegasus incr demo page-1 visits
  pegasus incr demo user-1 credit --by -20
  pegasus incr demo user-1 attempts --ttl 60

A missing row counts as 0. The command is safe to interrupt a server under: each increment happens once.")]
pub(crate) struct Incr {
    #[command(flatten)]
    key: Key,
    /// How much to add, as --by
    #[arg(
        value_name = "INCREMENT",
        allow_negative_numbers = true,
        conflicts_with = "by"
    )]
    increment: Option<i64>,
    /// How much to add [default: 1]
    #[arg(long, allow_negative_numbers = true)]
    by: Option<i64>,
    /// Seconds until the row expires [default: as before]
    #[arg(long, value_name = "SECONDS", conflicts_with = "no_ttl")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=TTL_SECONDS_MAX))]
    ttl: Option<u32>,
    /// The row expires no more, or as its table says
    #[arg(long)]
    no_ttl: bool,
}

/// What the row has to be like.
#[derive(Debug, Args)]
struct CheckArgs {
    /// Name of the table
    table: String,
    /// The hash key, which decides where the rows live
    #[arg(allow_negative_numbers = true)]
    hash_key: OsString,
    /// The sort key of the row that is checked; '' is an empty one
    #[arg(allow_negative_numbers = true)]
    sort_key: OsString,
    /// What the row has to be like
    #[arg(value_enum)]
    check: CheckWord,
    /// What its value is compared with
    #[arg(long, short, default_value = "", allow_negative_numbers = true)]
    operand: OsString,
    /// Seconds until what is written expires [default: as the table says]
    #[arg(long, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=TTL_SECONDS_MAX))]
    ttl: Option<u32>,
    /// Keys, operand and values are written with C-style escapes: \\ \t \n \r \0 \xHH
    #[arg(long, short)]
    escaped: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pegasus check-and-set demo lock owner not-exist me --ttl 30
  pegasus check-and-set demo user-1 name bytes-equal Grace --operand Ada
  pegasus check-and-set demo user-1 credit int-greater-or-equal yes --operand 100 --set-sort-key gold")]
pub(crate) struct CheckAndSet {
    #[command(flatten)]
    check: CheckArgs,
    /// The value to write
    #[arg(allow_negative_numbers = true)]
    value: OsString,
    /// The row to write [default: the one that is checked]
    #[arg(long, value_name = "SORT_KEY", allow_negative_numbers = true)]
    set_sort_key: Option<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pegasus check-and-mutate demo order-1 state bytes-equal --operand open state=closed closed-by=me
  pegasus check-and-mutate demo user-1 '' no-check name=Ada !nickname")]
pub(crate) struct CheckAndMutate {
    #[command(flatten)]
    check: CheckArgs,
    /// Rows to write (SORT_KEY=VALUE) and to delete (!SORT_KEY), in this order and as one
    #[arg(required = true, value_name = "CHANGE", allow_negative_numbers = true)]
    changes: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CheckWord {
    NoCheck,
    NotExist,
    NotExistOrEmpty,
    Exist,
    NotEmpty,
    MatchAnywhere,
    MatchPrefix,
    MatchPostfix,
    BytesLess,
    BytesLessOrEqual,
    BytesEqual,
    BytesGreaterOrEqual,
    BytesGreater,
    IntLess,
    IntLessOrEqual,
    IntEqual,
    IntGreaterOrEqual,
    IntGreater,
}

impl CheckWord {
    const fn kind(self) -> CheckKind {
        match self {
            Self::NoCheck => CheckKind::NoCheck,
            Self::NotExist => CheckKind::NotExist,
            Self::NotExistOrEmpty => CheckKind::NotExistOrEmpty,
            Self::Exist => CheckKind::Exist,
            Self::NotEmpty => CheckKind::NotEmpty,
            Self::MatchAnywhere => CheckKind::MatchAnywhere,
            Self::MatchPrefix => CheckKind::MatchPrefix,
            Self::MatchPostfix => CheckKind::MatchPostfix,
            Self::BytesLess => CheckKind::BytesLess,
            Self::BytesLessOrEqual => CheckKind::BytesLessOrEqual,
            Self::BytesEqual => CheckKind::BytesEqual,
            Self::BytesGreaterOrEqual => CheckKind::BytesGreaterOrEqual,
            Self::BytesGreater => CheckKind::BytesGreater,
            Self::IntLess => CheckKind::IntLess,
            Self::IntLessOrEqual => CheckKind::IntLessOrEqual,
            Self::IntEqual => CheckKind::IntEqual,
            Self::IntGreaterOrEqual => CheckKind::IntGreaterOrEqual,
            Self::IntGreater => CheckKind::IntGreater,
        }
    }
}

impl CheckArgs {
    fn bytes(&self, argument: &OsString) -> anyhow::Result<Vec<u8>> {
        argument_bytes(argument, self.escaped)
    }

    fn check(&self) -> anyhow::Result<Check> {
        Ok(Check {
            sort_key: self.bytes(&self.sort_key)?.into(),
            kind: self.check.kind(),
            operand: self.bytes(&self.operand)?.into(),
        })
    }

    fn expiry(&self) -> Expiry {
        let after = |seconds: u32| Expiry::After(Duration::from_secs(seconds.into()));
        self.ttl.map_or(Expiry::Default, after)
    }

    /// Tells what came of it; a check that failed is exit code 3, as a row that is missing.
    fn tell(&self, outcome: &CheckOutcome, out: &mut Output) -> anyhow::Result<()> {
        let (hash_key, sort_key) = (self.bytes(&self.hash_key)?, self.bytes(&self.sort_key)?);
        match out.style {
            Style::Json => {
                let value = match &outcome.checked {
                    CheckedRow::Found(value) => text::to_json(value),
                    CheckedRow::Missing | CheckedRow::Forgotten => Value::Null,
                };
                let more = [("passed", json!(outcome.passed)), ("before", value)];
                out.json(&key_json(&hash_key, &sort_key, more))?;
            }
            Style::People => {
                let before = match &outcome.checked {
                    CheckedRow::Found(value) => format!("the row was {}", out.escape(value)),
                    CheckedRow::Missing => "there was no row".to_owned(),
                    CheckedRow::Forgotten => "the row was long".to_owned(),
                };
                let passed = if outcome.passed {
                    "written"
                } else {
                    "not written"
                };
                out.line(format!("{passed}: {before}"))?;
            }
        }
        if outcome.passed {
            Ok(())
        } else {
            Err(Failed::told(Exit::NotFound))
        }
    }
}

pub(crate) async fn incr(incr: &Incr, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    let (hash_key, sort_key) = incr.key.bytes()?;
    let expiry = match (incr.no_ttl, incr.ttl) {
        (true, _) => IncrExpiry::Remove,
        (false, None) => IncrExpiry::Keep,
        (false, Some(seconds)) => IncrExpiry::After(Duration::from_secs(seconds.into())),
    };
    let table = connect.table(&incr.key.table).await?;
    let by = incr.by.or(incr.increment).unwrap_or(1);
    let sum = table
        .incr_with_expiry(&hash_key, &sort_key, by, expiry)
        .await?;
    match out.style {
        Style::Json => out.json(&key_json(&hash_key, &sort_key, [("value", json!(sum))])),
        Style::People => Ok(out.line(sum.to_string())?),
    }
}

pub(crate) async fn check_and_set(
    options: &CheckAndSet,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let check = &options.check;
    let sort_key = options.set_sort_key.as_ref();
    let sort_key = sort_key.map(|sort_key| check.bytes(sort_key)).transpose()?;
    let set = Set {
        sort_key: sort_key.map(Into::into),
        value: check.bytes(&options.value)?.into(),
        expiry: check.expiry(),
    };
    let table = connect.table(&check.table).await?;
    let outcome = table
        .check_and_set(&check.bytes(&check.hash_key)?, &check.check()?, &set)
        .await?;
    check.tell(&outcome, out)
}

pub(crate) async fn check_and_mutate(
    options: &CheckAndMutate,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let check = &options.check;
    let mutations = options
        .changes
        .iter()
        .map(|change| mutation(change, check))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let table = connect.table(&check.table).await?;
    let outcome = table
        .check_and_mutate(&check.bytes(&check.hash_key)?, &check.check()?, &mutations)
        .await?;
    check.tell(&outcome, out)
}

/// `SORT_KEY=VALUE` or `!SORT_KEY`; the first = ends the key.
fn mutation(change: &OsString, check: &CheckArgs) -> anyhow::Result<Mutation> {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let bytes = |part: &[u8]| check.bytes(&OsString::from_vec(part.to_vec()));
    let text = change.as_bytes();
    if let Some(sort_key) = text.strip_prefix(b"!") {
        let sort_key = bytes(sort_key)?.into();
        return Ok(Mutation::Remove { sort_key });
    }
    let Some(end) = text.iter().position(|byte| *byte == b'=') else {
        let message = format!(
            "'{}': a change is SORT_KEY=VALUE or !SORT_KEY",
            change.to_string_lossy()
        );
        return Err(Failed::error(Exit::Usage, message));
    };
    let (sort_key, value) = (&text[..end], &text[end + 1..]);
    Ok(Mutation::Put {
        sort_key: bytes(sort_key)?.into(),
        value: bytes(value)?.into(),
        expiry: check.expiry(),
    })
}
