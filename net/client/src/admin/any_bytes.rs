//! Answers of servers: any body is refused by an error, or becomes values that share the body's memory. Run by the tests
//! and by the fuzz target `client_replies`.

use super::{compact, hot_keys, info, scrub};
use crate::error::{Error, Result};
use crate::reply::{self, Row, Ttl};
use bytes::Bytes;
use pegasus_fbs::admin;
use pegasus_fbs::body::FailureBody;
use pegasus_fbs::code::{Code, Execution};
use pegasus_fbs::stats_page::SLOW_SLOTS;

/// The first byte says which answer was asked for, the rest is the body.
pub fn run(input: &[u8]) {
    let Some((what, body)) = input.split_first() else {
        return;
    };
    let frame = Bytes::copy_from_slice(body);
    match what % 13 {
        0 => check(reply::read_value(&frame), |value| {
            assert_within(&frame, value)
        }),
        1 => check(reply::read_exist(&frame), |_| ()),
        2 => check(reply::read_ttl(&frame), |ttl| {
            assert!(matches!(ttl, Ttl::Never | Ttl::Remaining(_)));
        }),
        3 => check(reply::read_count(&frame), |_| ()),
        4 => {
            if let Err(error) = reply::read_write_count(&frame) {
                assert!(matches!(error, Error::Unknown(_)), "{error}");
            }
        }
        5 => check(reply::read_rows(&frame), |rows| {
            rows.rows.iter().for_each(|row| check_row(&frame, row));
        }),
        6 => check(reply::read_page(&frame), |page| {
            page.rows.iter().for_each(|row| check_row(&frame, row));
            assert_within(&frame, &page.resume_key);
        }),
        7 => check(
            reply::read::<admin::TableDetail<'_>>(&frame).map(info::table_info),
            |table| {
                assert!(table.partitions.len() <= frame.len());
                assert!(table.name.len() <= frame.len());
            },
        ),
        8 => check(reply::read::<admin::ListNodesReply<'_>>(&frame), |reply| {
            for node in reply.nodes().iter().flatten().map(info::node_info) {
                assert!(node.cores.len() <= frame.len());
                assert!(node.host.len() + node.stats_dir.len() <= 2 * frame.len());
            }
        }),
        10 => check_core_stats(&frame),
        11 => check(scrub::read_scrub(&frame), |scrub| {
            assert!(scrub.findings.len() <= scrub::FINDINGS_MAX);
            assert!(scrub.finished_unix_s != Some(0));
        }),
        12 => check(compact::read_compact(&frame), |compact| {
            assert!(compact.finished_unix_s != Some(0));
        }),
        13 => check(hot_keys::read_hot_keys(&frame), |told| {
            for key in &told.keys {
                assert_within(&frame, &key.key);
                assert!(key.at_least() <= key.count);
            }
        }),
        _ => {
            if let Ok(failure) = FailureBody::read(&frame) {
                let known = failure.code.execution();
                assert!(failure.code != Code::Internal || known == Execution::Unknown);
                assert!(failure.message.len() <= frame.len());
            }
        }
    }
}

fn check_core_stats(frame: &Bytes) {
    match reply::read_core_stats(frame) {
        Ok(snapshot) => assert!(snapshot.slow_requests().len() <= SLOW_SLOTS),
        Err(error) => {
            let code = error.code();
            assert!(matches!(code, Some(Code::Internal | Code::Incompatible)));
            assert!(!error.to_string().contains('\n'));
        }
    }
}

fn check<T>(result: Result<T>, good: impl Fn(&T)) {
    match result {
        Ok(value) => good(&value),
        Err(error) => {
            assert_eq!(error.code(), Some(Code::Internal));
            let sentence = error.to_string();
            assert!(sentence.len() < 500 && !sentence.contains('\n'));
        }
    }
}

fn check_row(frame: &Bytes, row: &Row) {
    for data in [&row.hash_key, &row.sort_key, &row.value] {
        assert_within(frame, data);
    }
    assert_eq!(row.expires().is_some(), row.expire_at > 0);
}

/// Nothing is copied: what was read lies in the frame.
fn assert_within(frame: &Bytes, data: &Bytes) {
    let whole = frame.as_ptr_range();
    let part = data.as_ptr_range();
    assert!(data.is_empty() || (whole.start <= part.start && part.end <= whole.end));
}

#[cfg(test)]
mod tests {
    use pegasus_fbs::flatbuffers::{FlatBufferBuilder, WIPOffset};
    use pegasus_fbs::stats_page::{PAGE_WORDS, Writer, compact, copy_of};
    use pegasus_fbs::{admin, kv};
    use std::path::PathBuf;
    use std::sync::atomic::AtomicU64;

    type Builder = FlatBufferBuilder<'static>;

    fn answer<T>(what: u8, write: impl Fn(&mut Builder) -> WIPOffset<T>) -> Vec<u8> {
        let mut builder = Builder::new();
        let root = write(&mut builder);
        builder.finish(root, None);
        [&[what], builder.finished_data()].concat()
    }

    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let value = |b: &mut Builder| {
            let value = Some(b.create_vector(b"Ada"));
            kv::ValueReply::create(b, &kv::ValueReplyArgs { value })
        };
        let rows = |b: &mut Builder| {
            let data = Some(b.create_vector(b"data"));
            let arguments = kv::RowArgs {
                hash_key: data,
                sort_key: data,
                value: data,
                expire_at: u32::MAX,
            };
            let row = kv::Row::create(b, &arguments);
            let rows = Some(b.create_vector(&[row, row]));
            let arguments = kv::RowsReplyArgs {
                rows,
                resume_key: data,
                ..Default::default()
            };
            kv::RowsReply::create(b, &arguments)
        };
        let table = |b: &mut Builder| {
            let address = Some(b.create_string("127.0.0.1:34801"));
            let arguments = admin::MemberDetailArgs {
                node: 1,
                address,
                ..Default::default()
            };
            let member = admin::MemberDetail::create(b, &arguments);
            let secondaries = Some(b.create_vector(&[member]));
            let arguments = admin::PartitionDetailArgs {
                primary: Some(member),
                secondaries,
                ..Default::default()
            };
            let partition = admin::PartitionDetail::create(b, &arguments);
            let partitions = Some(b.create_vector(&[partition]));
            let arguments = admin::TableDetailArgs {
                name: address,
                partitions,
                ..Default::default()
            };
            admin::TableDetail::create(b, &arguments)
        };
        let ttl = |b: &mut Builder| kv::TtlReply::create(b, &kv::TtlReplyArgs { ttl_seconds: -1 });
        let core_stats = |words: Vec<u64>| {
            move |b: &mut Builder| {
                let words = Some(b.create_vector(&words));
                kv::CoreStatsReply::create(b, &kv::CoreStatsReplyArgs { words })
            }
        };
        let page: Vec<AtomicU64> = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
        drop(Writer::new(&page[..], 1, 2, 3, 4));
        let page = compact(&copy_of(&page));
        let scrub = |b: &mut Builder| {
            let finding = b.create_string("log of core 0: corrupt");
            let arguments = kv::ScrubReplyArgs {
                running: true,
                done: 3,
                total: u64::MAX,
                findings: Some(b.create_vector(&vec![finding; 65])),
                ..Default::default()
            };
            kv::ScrubReply::create(b, &arguments)
        };
        let compacting = |b: &mut Builder| {
            let arguments = kv::CompactReplyArgs {
                running: true,
                total: u64::MAX,
                ..Default::default()
            };
            kv::CompactReply::create(b, &arguments)
        };
        let hot_keys = |b: &mut Builder| {
            let arguments = kv::HotKeyArgs {
                key: Some(b.create_vector(b"Ada")),
                key_bytes: u32::MAX,
                count: 1,
                error: 2,
                ..Default::default()
            };
            let key = kv::HotKey::create(b, &arguments);
            let arguments = kv::HotKeysReplyArgs {
                window_ms: u64::MAX,
                keys: Some(b.create_vector(&[key])),
                ..Default::default()
            };
            kv::HotKeysReply::create(b, &arguments)
        };
        let failure = |b: &mut Builder| {
            let message = Some(b.create_string("later"));
            let arguments = kv::FailureArgs {
                code: 999,
                message,
                retry_after_ms: u32::MAX,
                ..Default::default()
            };
            kv::Failure::create(b, &arguments)
        };
        vec![
            ("value", answer(0, value)),
            ("value_as_count", answer(4, value)),
            ("ttl", answer(2, ttl)),
            ("rows", answer(5, rows)),
            ("page", answer(6, rows)),
            ("table", answer(7, table)),
            ("table_as_nodes", answer(8, table)),
            ("failure", answer(9, failure)),
            ("core_stats", answer(10, core_stats(page))),
            ("core_stats_cut", answer(10, core_stats(vec![9 << 32, 1]))),
            (
                "core_stats_as_rows",
                answer(5, core_stats(vec![1 << 32, 1])),
            ),
            ("scrub", answer(11, scrub)),
            ("compact", answer(12, compacting)),
            ("scrub_as_table", answer(7, scrub)),
            ("hot_keys", answer(13, hot_keys)),
            ("hot_keys_as_rows", answer(5, hot_keys)),
        ]
    }

    /// `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.
    #[test]
    fn answers_are_refused_or_become_values_in_their_frame() {
        let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/fuzz/corpus/client_replies");
        for (name, seed) in seeds() {
            if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
                std::fs::create_dir_all(&corpus).unwrap();
                std::fs::write(corpus.join(name), &seed).unwrap();
            }
            assert_eq!(std::fs::read(corpus.join(name)).unwrap(), seed, "{name}");
        }
        for entry in std::fs::read_dir(corpus).unwrap() {
            super::run(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }
}
