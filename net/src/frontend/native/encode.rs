//! Answers to FlatBuffers bodies in reply frames.

use crate::frontend::Tag;
use crate::request::{
    Checked, CheckedValue, Compacting, Failure, HotKeys, Incremented, PartitionRoute, Reply,
    Response, Route, Row, Rows, Scrubbing,
};
use pegasus_fbs::body::FailureBody;
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, WIPOffset};
use pegasus_fbs::frame::{BODY_BYTES_MAX, FrameKind, Header, encode_frame};
use pegasus_fbs::kv;
use std::time::Duration;

pub(super) fn reply(
    tag: &Tag,
    reply: &Reply,
    builder: &mut FlatBufferBuilder<'static>,
    output: &mut Vec<u8>,
) {
    let kind = FrameKind::try_from(tag.kind).expect("the tag was made from a frame's header");
    let header = Header::request(kind, tag.id).to_partition(tag.table, tag.partition);
    match reply {
        // Denied by an operator: the asker's deadline is to pass.
        Ok(Response::Silent) => {}
        Ok(
            Response::Page(_)
            | Response::InvalidArgument(_)
            | Response::Http(_)
            | Response::Redis(_),
        ) => {
            let message = "the native protocol does not ask for this";
            let reason = Failure::new(Code::Internal, message);
            failure(&header, &reason, builder, output);
        }
        Ok(response) => {
            builder.reset();
            response_body(response, builder);
            finished(&header, builder, output);
        }
        Err(reason) => failure(&header, reason, builder, output),
    }
}

/// The answer to a get that found this value.
pub(super) fn value_reply(
    tag: &Tag,
    value: &[u8],
    builder: &mut FlatBufferBuilder<'static>,
    output: &mut Vec<u8>,
) {
    let kind = FrameKind::try_from(tag.kind).expect("the tag was made from a frame's header");
    let header = Header::request(kind, tag.id).to_partition(tag.table, tag.partition);
    builder.reset();
    value_body(value, builder);
    finished(&header, builder, output);
}

/// Sends what the builder has finished, if it fits into a frame.
fn finished(header: &Header, builder: &mut FlatBufferBuilder<'static>, output: &mut Vec<u8>) {
    let body = builder.finished_data();
    if body.len() <= BODY_BYTES_MAX {
        encode_frame(output, &header.reply(), body);
        return;
    }
    let bytes = body.len();
    let message = format!("answer of {bytes} bytes, the limit is {BODY_BYTES_MAX}: ask for less");
    let reason = Failure::new(Code::TooLarge, message);
    failure(header, &reason, builder, output);
}

fn value_body(value: &[u8], builder: &mut FlatBufferBuilder<'static>) {
    let value = Some(builder.create_vector(value));
    let root = kv::ValueReply::create(builder, &kv::ValueReplyArgs { value });
    builder.finish(root, None);
}

fn failure(
    header: &Header,
    failure: &Failure,
    builder: &mut FlatBufferBuilder<'static>,
    output: &mut Vec<u8>,
) {
    let body = FailureBody {
        code: failure.code,
        message: failure.message.clone(),
        retry_after: Duration::from_millis(failure.retry_after_ms.into()),
        primary: failure
            .primary
            .map(|address| address.to_string())
            .unwrap_or_default(),
        ballot: failure.ballot,
    };
    encode_frame(output, &header.failure(), body.write(builder));
}

fn response_body(response: &Response, builder: &mut FlatBufferBuilder<'static>) {
    match response {
        Response::Written { decree, count } => {
            let args = kv::WriteReplyArgs {
                decree: *decree,
                count: *count,
            };
            let root = kv::WriteReply::create(builder, &args);
            builder.finish(root, None);
        }
        Response::Incremented {
            outcome,
            value,
            decree,
        } => {
            let args = kv::IncrReplyArgs {
                outcome: match outcome {
                    Incremented::Done => kv::IncrOutcome::Done,
                    Incremented::NotANumber => kv::IncrOutcome::NotANumber,
                    Incremented::Overflow => kv::IncrOutcome::Overflow,
                },
                value: *value,
                decree: *decree,
            };
            let root = kv::IncrReply::create(builder, &args);
            builder.finish(root, None);
        }
        Response::Checked {
            outcome,
            checked_value,
            decree,
        } => check_body(*outcome, checked_value, *decree, builder),
        Response::Value(value) => value_body(value, builder),
        Response::Exists(exists) => {
            let root = kv::ExistReply::create(builder, &kv::ExistReplyArgs { exists: *exists });
            builder.finish(root, None);
        }
        Response::Ttl(ttl) => {
            let ttl_seconds = ttl.map_or(-1, |seconds| i32::try_from(seconds).unwrap_or(i32::MAX));
            let root = kv::TtlReply::create(builder, &kv::TtlReplyArgs { ttl_seconds });
            builder.finish(root, None);
        }
        Response::Count(count) => {
            let root = kv::CountReply::create(builder, &kv::CountReplyArgs { count: *count });
            builder.finish(root, None);
        }
        Response::Rows(rows) => rows_body(rows, builder),
        Response::Route(route) => route_body(route, builder),
        // A ping is answered by a frame without fields.
        Response::Pong => {
            let root = kv::WriteReply::create(builder, &kv::WriteReplyArgs::default());
            builder.finish(root, None);
        }
        Response::CoreStats(words) => {
            let words = Some(builder.create_vector(words));
            let root = kv::CoreStatsReply::create(builder, &kv::CoreStatsReplyArgs { words });
            builder.finish(root, None);
        }
        Response::HotKeys(told) => hot_keys_body(told, builder),
        Response::Scrub(scrubbing) => scrub_body(scrubbing, builder),
        Response::Compact(compacting) => compact_body(*compacting, builder),
        Response::Text(text) => {
            let text = Some(builder.create_string(text));
            let args = kv::RemoteCommandReplyArgs { text };
            let root = kv::RemoteCommandReply::create(builder, &args);
            builder.finish(root, None);
        }
        Response::Page(_)
        | Response::Silent
        | Response::InvalidArgument(_)
        | Response::Http(_)
        | Response::Redis(_) => unreachable!("answered as a failure"),
    }
}

fn check_body(
    outcome: Checked,
    checked_value: &CheckedValue,
    decree: u64,
    builder: &mut FlatBufferBuilder<'static>,
) {
    let (checked, value) = match checked_value {
        CheckedValue::NotAsked => (kv::CheckedRow::NotAsked, None),
        CheckedValue::Missing => (kv::CheckedRow::Missing, None),
        CheckedValue::Found(value) => (kv::CheckedRow::Found, vector(value, builder)),
        CheckedValue::Forgotten => (kv::CheckedRow::Forgotten, None),
    };
    let args = kv::CheckReplyArgs {
        outcome: match outcome {
            Checked::Passed => kv::CheckOutcome::Passed,
            Checked::Failed => kv::CheckOutcome::Failed,
            Checked::Invalid => kv::CheckOutcome::Invalid,
        },
        checked,
        checked_value: value,
        decree,
    };
    let root = kv::CheckReply::create(builder, &args);
    builder.finish(root, None);
}

fn scrub_body(scrubbing: &Scrubbing, builder: &mut FlatBufferBuilder<'static>) {
    let findings = scrubbing.findings.iter();
    let findings: Vec<_> = findings.map(|it| builder.create_string(it)).collect();
    let args = kv::ScrubReplyArgs {
        running: scrubbing.is_running,
        done: scrubbing.done,
        total: scrubbing.total,
        finished_unix_s: scrubbing.finished_unix_s,
        findings: Some(builder.create_vector(&findings)),
        began: scrubbing.began,
    };
    let root = kv::ScrubReply::create(builder, &args);
    builder.finish(root, None);
}

fn hot_keys_body(told: &HotKeys, builder: &mut FlatBufferBuilder<'static>) {
    let keys: Vec<_> = told
        .keys
        .iter()
        .map(|it| {
            let key = Some(builder.create_vector(&it.key));
            let args = kv::HotKeyArgs {
                table_id: it.table,
                partition: it.partition,
                write: it.is_write,
                key,
                key_bytes: it.key_bytes,
                count: it.count,
                error: it.error,
            };
            kv::HotKey::create(builder, &args)
        })
        .collect();
    let keys = Some(builder.create_vector(&keys));
    let args = kv::HotKeysReplyArgs {
        window_ms: told.window_ms,
        reads: told.reads,
        writes: told.writes,
        keys,
    };
    let root = kv::HotKeysReply::create(builder, &args);
    builder.finish(root, None);
}

fn compact_body(compacting: Compacting, builder: &mut FlatBufferBuilder<'static>) {
    let args = kv::CompactReplyArgs {
        running: compacting.is_running,
        done: compacting.done,
        total: compacting.total,
        waiting: compacting.waiting,
        finished_unix_s: compacting.finished_unix_s,
        began: compacting.began,
    };
    let root = kv::CompactReply::create(builder, &args);
    builder.finish(root, None);
}

fn rows_body(rows: &Rows, builder: &mut FlatBufferBuilder<'static>) {
    let tables: Vec<_> = rows.rows.iter().map(|found| row(found, builder)).collect();
    let args = kv::RowsReplyArgs {
        rows: Some(builder.create_vector(&tables)),
        complete: rows.complete,
        resume_key: vector(&rows.resume_key, builder),
        count: rows.count,
    };
    let root = kv::RowsReply::create(builder, &args);
    builder.finish(root, None);
}

fn row(row: &Row, builder: &mut FlatBufferBuilder<'static>) -> WIPOffset<kv::Row<'static>> {
    let args = kv::RowArgs {
        hash_key: vector(&row.hash_key, builder),
        sort_key: vector(&row.sort_key, builder),
        value: vector(&row.value, builder),
        expire_at: row.expire_at,
    };
    kv::Row::create(builder, &args)
}

fn route_body(route: &Route, builder: &mut FlatBufferBuilder<'static>) {
    let partitions: Vec<_> = route
        .partitions
        .iter()
        .map(|partition| partition_route(partition, builder))
        .collect();
    let args = kv::RouteReplyArgs {
        table_id: route.table,
        partition_count: u32::try_from(partitions.len()).expect("at most 65,536 partitions"),
        partitions: Some(builder.create_vector(&partitions)),
    };
    let root = kv::RouteReply::create(builder, &args);
    builder.finish(root, None);
}

fn partition_route(
    route: &PartitionRoute,
    builder: &mut FlatBufferBuilder<'static>,
) -> WIPOffset<kv::PartitionRoute<'static>> {
    let secondaries: Vec<_> = route
        .secondaries
        .iter()
        .map(|address| builder.create_string(address))
        .collect();
    let args = kv::PartitionRouteArgs {
        ballot: route.ballot,
        primary: Some(builder.create_string(&route.primary)),
        secondaries: Some(builder.create_vector(&secondaries)),
    };
    kv::PartitionRoute::create(builder, &args)
}

/// Absent = empty: saves the bytes.
fn vector(
    bytes: &[u8],
    builder: &mut FlatBufferBuilder<'static>,
) -> Option<WIPOffset<pegasus_fbs::flatbuffers::Vector<'static, u8>>> {
    (!bytes.is_empty()).then(|| builder.create_vector(bytes))
}
