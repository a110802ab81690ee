//! What a node keeps of its members, and what meta pushes: any bytes are refused by a sentence; what is read of the file reads
//! the same when it is written again. Run by the tests and by the fuzz target `meta_pushes`.

use super::frames::read_sync;
use crate::members::{decode, encode};
use pegasus_fbs::frame::{FrameKind, Header, encode_frame};

/// Magic and format of the file.
const PREFACE: &[u8; 8] = b"PGMB\x01\0\0\0";

/// The first byte says what the rest is.
pub(crate) fn run(input: &[u8]) {
    let Some((what, rest)) = input.split_first() else {
        return;
    };
    match what % 3 {
        0 => file(rest),
        1 => {
            // The frame has a checksum, which random bytes do not meet.
            let mut signed = PREFACE.to_vec();
            encode_frame(&mut signed, &Header::request(FrameKind::Heartbeat, 0), rest);
            file(&signed);
        }
        _ => push(rest),
    }
}

fn file(bytes: &[u8]) {
    match decode(bytes) {
        Ok(remembered) => {
            let Some(again) = encode(&remembered) else {
                return;
            };
            assert_eq!(decode(&again).as_ref(), Ok(&remembered));
        }
        Err(error) => check_sentence(&error.to_string()),
    }
}

fn push(body: &[u8]) {
    match read_sync(body) {
        Ok(sync) => {
            let elements = [
                sync.nodes.len(),
                sync.tables.len(),
                sync.configurations.len(),
                sync.drops.len(),
                sync.learners.len(),
                sync.handovers.len(),
            ];
            assert!(elements.iter().all(|count| *count <= body.len()));
        }
        Err(error) => check_sentence(&error.to_string()),
    }
}

fn check_sentence(sentence: &str) {
    assert!(!sentence.is_empty() && sentence.len() < 500 && !sentence.contains('\n'));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use pegasus_fbs::flatbuffers::FlatBufferBuilder;
    use pegasus_fbs::meta;
    use std::path::PathBuf;

    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/MEMBERS.1");

    fn pushed() -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let name = Some(builder.create_string("orders"));
        let key = Some(builder.create_string("default_ttl"));
        let value = Some(builder.create_string("86400"));
        let env = meta::Env::create(&mut builder, &meta::EnvArgs { key, value });
        let envs = Some(builder.create_vector(&[env]));
        let table = meta::TableInfoArgs {
            table_id: 7,
            name,
            partition_count: 4,
            envs,
            ..meta::TableInfoArgs::default()
        };
        let table = meta::TableInfo::create(&mut builder, &table);
        let address = builder.create_string("127.0.0.1:34801");
        let addresses = builder.create_vector(&[address]);
        let node = meta::NodeAddressArgs {
            node: 1,
            alive: true,
            peer_addresses: Some(addresses),
            client_addresses: Some(addresses),
        };
        let node = meta::NodeAddress::create(&mut builder, &node);
        let drops = [meta::ReplicaKey::new(40, 7, 3)];
        let sync = meta::SyncArgs {
            full: true,
            digest: 9,
            nodes: Some(builder.create_vector(&[node])),
            tables: Some(builder.create_vector(&[table])),
            drops: Some(builder.create_vector(&drops)),
            ..meta::SyncArgs::default()
        };
        let root = meta::Sync::create(&mut builder, &sync);
        builder.finish(root, None);
        builder.finished_data().to_vec()
    }

    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let (_, frame) = GOLDEN.split_first_chunk::<8>().unwrap();
        let body = match pegasus_fbs::frame::parse(frame, 1 << 20).unwrap() {
            pegasus_fbs::frame::Parsed::Frame { body, .. } => body,
            other => panic!("{other:?}"),
        };
        let push = pushed();
        vec![
            ("file", [b"\0", GOLDEN].concat()),
            ("file_of_a_later_format", b"\0PGMB\x02\0\0\0".to_vec()),
            ("body_of_a_file", [b"\x01", body].concat()),
            ("push", [b"\x02", &push[..]].concat()),
            ("push_cut", [b"\x02", &push[..push.len() / 2]].concat()),
            ("body_as_push", [b"\x02", body].concat()),
        ]
    }

    #[test]
    fn the_seeds_are_what_they_are_named_after() {
        let table = read_sync(&pushed()).unwrap().tables;
        assert_eq!(table[0].1.as_ref().unwrap().name, "orders");
        assert_eq!(decode(GOLDEN).unwrap().configurations.len(), 2);
    }

    /// `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.
    #[test]
    fn files_of_members_and_pushes_of_meta_are_refused_by_a_sentence_or_read() {
        let corpus =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/meta_pushes");
        for (name, seed) in seeds() {
            if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
                std::fs::create_dir_all(&corpus).unwrap();
                std::fs::write(corpus.join(name), &seed).unwrap();
            }
            assert_eq!(std::fs::read(corpus.join(name)).unwrap(), seed, "{name}");
        }
        for entry in std::fs::read_dir(corpus).unwrap() {
            run(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }
}
