//! The native protocol, by the client.

use super::{Speaker, now, rounded};
use e2e::model::{Answer, Change, Check, ExpireAt, Filter, Match, MultiGet, Operation, Seen};
use pegasus_client::{
    Bytes, CheckKind, CheckedRow, Client, ClientOptions, Code, Error, Expiry, FullScan, IncrExpiry,
    Mutation, Pattern, Result, Set, SortKeyRange, Table, Ttl,
};
use std::time::Duration;
use tokio::runtime::Runtime;

pub(super) struct Native {
    runtime: Runtime,
    table: Table,
}

impl Native {
    pub(super) fn open(meta: &str, table: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let options = ClientOptions {
            timeout: Duration::from_secs(30),
            ..ClientOptions::new([meta])
        };
        let table = runtime.block_on(async {
            let client = Client::connect(options).await.unwrap();
            client.table(table).await.unwrap()
        });
        Self { runtime, table }
    }

    /// All rows there are, in order, and when they expire.
    pub(super) fn visible(&mut self) -> Vec<(Seen, ExpireAt)> {
        self.runtime
            .block_on(rows(&self.table, &FullScan::default()))
    }
}

impl Speaker for Native {
    fn ask(&mut self, operation: &Operation) -> Option<Answer> {
        // The client has no words for these.
        if operation.names_unknown() || matches!(operation, Operation::Malformed(..)) {
            return None;
        }
        let answer = self.runtime.block_on(ask(&self.table, operation));
        Some(match answer {
            Ok(answer) => answer,
            Err(Error::Failed {
                code: Code::InvalidArgument,
                message,
            }) => refused(&message, operation),
            // Apache Pegasus has one error for both.
            Err(Error::Failed {
                code: Code::TooLarge,
                ..
            }) => Answer::Invalid,
            Err(error) => panic!("{operation:?}: {error}"),
        })
    }
}

/// A refused increment says why: it is no number, or what it was when the sum had no room.
fn refused(message: &str, operation: &Operation) -> Answer {
    match operation {
        Operation::Incr(..) if message.contains("no number") => Answer::NotANumber,
        Operation::Incr(..) => {
            let old = message.split(' ').next().unwrap();
            Answer::Overflow(Some(old.parse().unwrap()))
        }
        _ => Answer::Invalid,
    }
}

async fn ask(table: &Table, operation: &Operation) -> Result<Answer> {
    Ok(match operation {
        Operation::Put(hash, sort, value, expire_at) => {
            table
                .put_with_expiry(hash, sort, value, at(*expire_at))
                .await?;
            Answer::Done
        }
        Operation::Remove(hash, sort) => {
            table.remove(hash, sort).await?;
            Answer::Done
        }
        Operation::Get(hash, sort) => {
            Answer::Value(table.get(hash, sort).await?.map(|value| value.to_vec()))
        }
        Operation::Ttl(hash, sort) => {
            Answer::Ttl(table.ttl(hash, sort).await?.map(|ttl| match ttl {
                Ttl::Never => 0,
                Ttl::Remaining(left) => rounded(now() + u32::try_from(left.as_secs()).unwrap()),
            }))
        }
        Operation::MultiPut(hash, rows, 0) => {
            table.multi_put(hash, rows).await?;
            Answer::Done
        }
        Operation::MultiPut(hash, rows, expire_at) => {
            let ttl = Duration::from_secs((expire_at - now()).into());
            table.multi_put_with_ttl(hash, rows, ttl).await?;
            Answer::Done
        }
        Operation::MultiRemove(hash, keys) => Answer::Count(table.multi_remove(hash, keys).await?),
        Operation::MultiGet(hash, asked) => {
            let found = table.multi_get(hash, &multi_get(asked)).await?;
            let row = |row: pegasus_client::Row| (row.sort_key.to_vec(), row.value.to_vec());
            let rows = found.rows.into_iter().map(row).collect();
            Answer::Rows(rows, Some(found.complete))
        }
        Operation::SortkeyCount(hash) => Answer::Count(table.sortkey_count(hash).await?),
        Operation::BatchGet(_, keys) if keys.is_empty() => Answer::Invalid,
        Operation::BatchGet(hash, keys) => {
            let named: Vec<_> = keys.iter().map(|sort| (hash, sort)).collect();
            let found = table.batch_get(&named).await?;
            let row = |(sort, value): (&Vec<u8>, Option<Bytes>)| {
                Some((hash.clone(), sort.clone(), value?.to_vec()))
            };
            let mut rows: Vec<Seen> = keys.iter().zip(found).filter_map(row).collect();
            rows.sort();
            rows.dedup();
            Answer::Seen(rows)
        }
        Operation::Incr(hash, sort, by, expire) => {
            let expiry = match expire {
                0 => IncrExpiry::Keep,
                at => u32::try_from(*at).map_or(IncrExpiry::Remove, IncrExpiry::At),
            };
            Answer::Sum(table.incr_with_expiry(hash, sort, *by, expiry).await?)
        }
        Operation::CheckAndSet(hash, condition, sort, value, expire_at) => {
            let set = Set {
                sort_key: sort.clone().map(Bytes::from),
                value: value.clone().into(),
                expiry: at(*expire_at),
            };
            checked(table.check_and_set(hash, &check(condition), &set).await?)
        }
        Operation::CheckAndMutate(hash, condition, changes) => {
            let mutations: Vec<_> = changes.iter().map(mutation).collect();
            checked(
                table
                    .check_and_mutate(hash, &check(condition), &mutations)
                    .await?,
            )
        }
        Operation::Scan(hash, sort, page) => {
            let options = FullScan {
                batch_rows: *page,
                ..full_scan(hash, sort)
            };
            let rows = rows(table, &options).await;
            Answer::Seen(rows.into_iter().map(|(seen, _)| seen).collect())
        }
        Operation::Count(hash, sort) => Answer::Count(table.count(&full_scan(hash, sort)).await?),
        Operation::Malformed(..) => unreachable!("the client encodes keys"),
    })
}

async fn rows(table: &Table, options: &FullScan) -> Vec<(Seen, ExpireAt)> {
    let (mut scanner, mut rows) = (table.full_scan(options), Vec::new());
    while let Some(row) = scanner.next().await {
        let row = row.unwrap();
        let seen = (
            row.hash_key.to_vec(),
            row.sort_key.to_vec(),
            row.value.to_vec(),
        );
        rows.push((seen, rounded(row.expire_at)));
    }
    rows.sort();
    rows
}

fn at(expire_at: ExpireAt) -> Expiry {
    match expire_at {
        0 => Expiry::Default,
        at => Expiry::At(at),
    }
}

fn check(check: &Check) -> pegasus_client::Check {
    const KINDS: [CheckKind; 18] = [
        CheckKind::NoCheck,
        CheckKind::NotExist,
        CheckKind::NotExistOrEmpty,
        CheckKind::Exist,
        CheckKind::NotEmpty,
        CheckKind::MatchAnywhere,
        CheckKind::MatchPrefix,
        CheckKind::MatchPostfix,
        CheckKind::BytesLess,
        CheckKind::BytesLessOrEqual,
        CheckKind::BytesEqual,
        CheckKind::BytesGreaterOrEqual,
        CheckKind::BytesGreater,
        CheckKind::IntLess,
        CheckKind::IntLessOrEqual,
        CheckKind::IntEqual,
        CheckKind::IntGreaterOrEqual,
        CheckKind::IntGreater,
    ];
    pegasus_client::Check {
        sort_key: check.sort_key.clone().into(),
        kind: KINDS[usize::try_from(check.kind).unwrap()],
        operand: check.operand.clone().into(),
    }
}

fn checked(outcome: pegasus_client::CheckOutcome) -> Answer {
    let row = match outcome.checked {
        CheckedRow::Missing => Some(None),
        CheckedRow::Found(value) => Some(Some(value.to_vec())),
        CheckedRow::Forgotten => None,
    };
    Answer::Checked(outcome.passed, row)
}

fn mutation(change: &Change) -> Mutation {
    match change {
        Change::Put(sort, value, expire_at) => Mutation::Put {
            sort_key: sort.clone().into(),
            value: value.clone().into(),
            expiry: at(*expire_at),
        },
        Change::Remove(sort) => Mutation::Remove {
            sort_key: sort.clone().into(),
        },
        Change::Unknown(_) => unreachable!("the client knows all it can say"),
    }
}

fn multi_get(asked: &MultiGet) -> pegasus_client::MultiGet {
    pegasus_client::MultiGet {
        sort_keys: asked.sort_keys.iter().cloned().map(Bytes::from).collect(),
        range: SortKeyRange {
            start: asked.start.clone().into(),
            start_inclusive: asked.start_inclusive,
            stop: asked.stop.clone().into(),
            stop_inclusive: asked.stop_inclusive,
        },
        filter: pattern(&asked.filter),
        reverse: asked.reverse,
        no_value: asked.no_value,
        max_rows: asked.max_rows,
        max_bytes: asked.max_bytes,
    }
}

fn full_scan(hash: &Filter, sort: &Filter) -> FullScan {
    FullScan {
        hash_filter: pattern(hash),
        sort_filter: pattern(sort),
        ..FullScan::default()
    }
}

fn pattern(filter: &Filter) -> Option<Pattern> {
    filter.as_ref().map(|(kind, text)| match kind {
        Match::Anywhere => Pattern::anywhere(text.clone()),
        Match::Prefix => Pattern::prefix(text.clone()),
        Match::Postfix => Pattern::postfix(text.clone()),
        Match::Unknown(_) => unreachable!("the client knows all it can say"),
    })
}
