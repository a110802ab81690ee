//! Atomic operations: what travels, and that all attempts are one operation.

use crate::fake::{Fake, client_of, finish, primaries};
use pegasus_client::{
    Bytes, Check, CheckKind, CheckOutcome, CheckedRow, Code, Error, Expiry, IncrExpiry, Mutation,
    Set, Table,
};
use pegasus_fbs::frame::{Frame, FrameKind};
use pegasus_fbs::{body, kv};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Frames = Arc<Mutex<Vec<Frame>>>;

/// A table on one core that keeps every request, does not know what became of the first `unknown`, and answers the rest.
async fn recording(unknown: usize, answer: Vec<u8>) -> (Vec<Fake>, Table, Frames) {
    let frames = Frames::default();
    let kept = Arc::clone(&frames);
    let core = Fake::start(move |frame, out| {
        let mut kept = kept.lock().unwrap();
        if kept.len() < unknown {
            out.fail(&frame.header, Code::Unknown);
        } else {
            out.reply(&frame.header, &answer);
        }
        kept.push(frame);
    })
    .await;
    let meta = Fake::meta(&primaries(&[&core.address, &core.address])).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    (vec![core, meta], table, frames)
}

fn incr_reply(outcome: kv::IncrOutcome, value: i64) -> Vec<u8> {
    let args = kv::IncrReplyArgs {
        outcome,
        value,
        decree: 7,
    };
    finish(|b| kv::IncrReply::create(b, &args))
}

fn check_reply(outcome: kv::CheckOutcome, checked: kv::CheckedRow, value: &[u8]) -> Vec<u8> {
    finish(|b| {
        let checked_value = Some(b.create_vector(value));
        let args = kv::CheckReplyArgs {
            outcome,
            checked,
            checked_value,
            decree: 7,
        };
        kv::CheckReply::create(b, &args)
    })
}

#[tokio::test]
async fn all_attempts_of_an_increment_have_one_identity_and_later_ones_say_so() {
    let (_servers, table, frames) = recording(2, incr_reply(kv::IncrOutcome::Done, 42)).await;
    assert_eq!(table.incr(b"h", b"s", -5).await.unwrap(), 42);
    assert_eq!(table.incr(b"h", b"s", 1).await.unwrap(), 42);
    let frames = frames.lock().unwrap();
    let sent: Vec<_> = frames
        .iter()
        .map(|frame| {
            assert_eq!(frame.header.kind, FrameKind::Incr);
            let incr = body::read::<kv::IncrRequest<'_>>(&frame.body).unwrap();
            let id = (incr.request_client(), incr.request_sequence());
            (incr.increment(), id, incr.retry())
        })
        .collect();
    let [
        (-5, first, false),
        (-5, second, true),
        (-5, third, true),
        (1, other, false),
    ] = sent[..]
    else {
        panic!("{sent:?}")
    };
    assert_ne!(first.0, 0);
    assert_eq!((first, first), (second, third));
    assert_eq!(other, (first.0, first.1 + 1));
}

#[tokio::test]
async fn an_increment_carries_its_expiry() {
    let (_servers, table, frames) = recording(0, incr_reply(kv::IncrOutcome::Done, 1)).await;
    let expiries = [
        (IncrExpiry::Keep, (0, 0, false)),
        (IncrExpiry::Remove, (0, 0, true)),
        (
            IncrExpiry::After(Duration::from_millis(1500)),
            (2, 0, false),
        ),
        (IncrExpiry::At(9), (0, 9, false)),
    ];
    for (expiry, fields) in expiries {
        table.incr_with_expiry(b"h", b"s", 1, expiry).await.unwrap();
        let frame = frames.lock().unwrap().pop().unwrap();
        let incr = body::read::<kv::IncrRequest<'_>>(&frame.body).unwrap();
        let found = (incr.ttl_seconds(), incr.expire_at(), incr.remove_expiry());
        assert_eq!(found, fields, "{expiry:?}");
    }
    let never = table.incr_with_expiry(b"h", b"s", 1, IncrExpiry::At(0));
    assert_eq!(never.await.unwrap_err().code(), Some(Code::InvalidArgument));
}

#[tokio::test]
async fn an_increment_that_is_refused_says_why() {
    let (_servers, table, _) = recording(0, incr_reply(kv::IncrOutcome::NotANumber, 0)).await;
    let error = table.incr(b"h", b"s", 1).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        Error::Failed {
            code: Code::InvalidArgument,
            message: "the value is no number".into()
        }
        .to_string()
    );
    let reply = incr_reply(kv::IncrOutcome::Overflow, i64::MAX);
    let (_servers, table, _) = recording(0, reply).await;
    let error = table.incr(b"h", b"s", 1).await.unwrap_err();
    assert!(error.to_string().contains(&i64::MAX.to_string()), "{error}");
}

fn check() -> Check {
    Check {
        sort_key: Bytes::from_static(b"c"),
        kind: CheckKind::IntGreater,
        operand: Bytes::from_static(b"9"),
    }
}

#[tokio::test]
async fn a_checked_write_carries_everything_and_tells_what_was_there() {
    let reply = check_reply(kv::CheckOutcome::Passed, kv::CheckedRow::Found, b"10");
    let (_servers, table, frames) = recording(1, reply).await;
    let set = Set {
        sort_key: Some(Bytes::from_static(b"o")),
        value: Bytes::from_static(b"v"),
        expiry: Expiry::At(77),
    };
    let outcome = table.check_and_set(b"h", &check(), &set).await.unwrap();
    let found = CheckedRow::Found(Bytes::from_static(b"10"));
    assert_eq!(
        outcome,
        CheckOutcome {
            passed: true,
            checked: found
        }
    );
    let frame = frames.lock().unwrap().pop().unwrap();
    let sent = body::read::<kv::CheckAndSetRequest<'_>>(&frame.body).unwrap();
    let check = sent.check().unwrap();
    assert_eq!(
        (check.kind(), body::bytes(check.operand())),
        (17, &b"9"[..])
    );
    assert_eq!(body::bytes(check.sort_key()), b"c");
    assert!(sent.set_other_row() && sent.return_check_value() && sent.retry());
    assert_eq!(body::bytes(sent.set_sort_key()), b"o");
    assert_eq!(
        (body::bytes(sent.value()), sent.expire_at()),
        (&b"v"[..], 77)
    );
}

#[tokio::test]
async fn checked_changes_keep_their_order() {
    let reply = check_reply(kv::CheckOutcome::Failed, kv::CheckedRow::Missing, b"");
    let (_servers, table, frames) = recording(0, reply).await;
    let sort_key = Bytes::from_static(b"a");
    let put = Mutation::Put {
        sort_key: sort_key.clone(),
        value: Bytes::from_static(b"1"),
        expiry: Expiry::After(Duration::from_secs(3)),
    };
    let changes = [Mutation::Remove { sort_key }, put];
    let outcome = table.check_and_mutate(b"h", &check(), &changes).await;
    let missing = CheckedRow::Missing;
    assert_eq!(
        outcome.unwrap(),
        CheckOutcome {
            passed: false,
            checked: missing
        }
    );
    let frame = frames.lock().unwrap().pop().unwrap();
    let sent = body::read::<kv::CheckAndMutateRequest<'_>>(&frame.body).unwrap();
    let kinds: Vec<_> = sent
        .mutations()
        .unwrap()
        .iter()
        .map(|it| (it.kind(), it.ttl_seconds()))
        .collect();
    assert_eq!(
        kinds,
        [(kv::MutateKind::Remove, 0), (kv::MutateKind::Put, 3)]
    );
    let none = table.check_and_mutate(b"h", &check(), &[]).await;
    assert_eq!(none.unwrap_err().code(), Some(Code::InvalidArgument));
}
