//! A state as a file: every damage is refused with its line, and the program moves it between stores.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests fail by panicking, start the program and look at files"
)]

mod fixture;

use fixture::{cluster, node};
use pegasus_meta::export::{self, ImportError};
use pegasus_meta::group;
use pegasus_meta::state::{Command, CreateTable, Durable, EnvChange, State};
use pegasus_meta::store::FileStore;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn state() -> Durable {
    let mut state = State::new(cluster());
    for id in 1..=3 {
        _ = state.apply(Command::NumberNode);
        let now_ms = 1_000;
        _ = state.apply(Command::JoinNode {
            node: node(id, 1, 2),
            now_ms,
        });
    }
    for name in ["users", "gone"] {
        _ = state.apply(Command::CreateTable(CreateTable {
            name: name.to_owned(),
            partition_count: 4,
            replica_count: 3,
            allow_degraded: false,
            may_exist: false,
            envs: BTreeMap::new(),
            now_ms: 1_000,
        }));
    }
    _ = state.apply(Command::ChangeEnvs {
        table: "users".to_owned(),
        change: EnvChange::Set(vec![("default_ttl".to_owned(), "60".to_owned())]),
        now_ms: 1_000,
    });
    _ = state.apply(Command::DropTable {
        name: "gone".to_owned(),
        keep_seconds: None,
        now_ms: 2_000,
    });
    state.durable().clone()
}

fn exported(durable: &Durable) -> String {
    let mut file = Vec::new();
    export::write(durable, &mut file).unwrap();
    String::from_utf8(file).unwrap()
}

fn refusal(text: &str) -> String {
    export::read(&mut text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn people_can_read_what_is_in_it() {
    let text = exported(&state());
    for words in [
        "\"pegasus_meta_export\":1",
        "\"nodes\":3,\"tables\":2",
        "node 2 on host-2: 127.0.0.2:34801 127.0.0.2:34802",
        "table 1 users, 4 partitions of 3 replicas, created at 1000 ms: 0 at 0|1 (being made) on 1/0#1",
        "table 1, settings: default_ttl=60",
        "table 2, dropped at 2000 ms, can be recalled until 604802000 ms",
        "{\"end\":true,\"crc32c\":\"",
    ] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    let mut text = text.as_bytes();
    assert_eq!(export::cluster_of(&mut text).unwrap(), cluster().id);
}

#[test]
fn every_changed_byte_and_every_cut_is_refused() {
    let durable = state();
    let text = exported(&durable);
    assert_eq!(export::read(&mut text.as_bytes()).unwrap(), durable);
    for at in (0..text.len()).step_by(7) {
        let mut bad = text.clone().into_bytes();
        bad[at] ^= 1;
        assert!(export::read(&mut &bad[..]).is_err(), "byte {at}");
        assert!(
            export::read(&mut &text.as_bytes()[..at]).is_err(),
            "cut at {at}"
        );
    }
    let lines: Vec<&str> = text.lines().collect();
    let without_end = format!("{}\n", lines[..lines.len() - 1].join("\n"));
    assert!(
        refusal(&without_end).contains("it was cut short"),
        "{}",
        refusal(&without_end)
    );
    assert_eq!(
        refusal(&lines[0][..20]),
        "it ends after line 0, without its last line: it was cut short"
    );
    assert!(refusal("hello\n").contains("line 1: it is not an export of meta"));
    assert!(refusal(&format!("{text}more\n")).contains("something follows its last line"));
    // Words are changed and bytes are not: the file is not the one that was written.
    let said = text.replace("users", "other");
    assert!(
        refusal(&said).contains("checksum mismatch"),
        "{}",
        refusal(&said)
    );
}

#[test]
fn a_file_of_a_later_program_is_refused_by_its_version() {
    let text = exported(&state());
    let later = text.replace("\"pegasus_meta_export\":1", "\"pegasus_meta_export\":2");
    let error = export::read(&mut later.as_bytes()).unwrap_err();
    assert!(matches!(error, ImportError::Format { found: 2 }), "{error}");
    let current = pegasus_meta::store::format::FORMAT;
    let later = text.replace(
        &format!("\"store_format\":{current}"),
        "\"store_format\":999",
    );
    let error = export::read(&mut later.as_bytes()).unwrap_err();
    assert!(
        matches!(error, ImportError::StoreFormat { found: 999 }),
        "{error}"
    );
}

/// What the program says, and whether it succeeded.
fn meta(arguments: &[&str]) -> (bool, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pegasus-meta"))
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_program_exports_a_stopped_store_and_imports_into_empty_ones_only() {
    let place = TempDir::new().unwrap();
    let at = |name: &str| place.path().join(name);
    let (old, new, member, file) = (at("old"), at("new"), at("member"), at("state.jsonl"));
    let durable = state();
    let store = FileStore::create_with(&old, &durable).unwrap();
    let (succeeded, said) = meta(&["export", "--dir", word(&old), "--out", word(&file)]);
    assert!(
        !succeeded && said.contains("another process uses this directory"),
        "{said}"
    );
    drop(store);
    let (succeeded, said) = meta(&["export", "--dir", word(&old), "--out", word(&file)]);
    assert!(succeeded && said.contains("3 nodes, 2 tables"), "{said}");
    let (succeeded, said) = meta(&["export", "--dir", word(&old), "--out", word(&file)]);
    assert!(!succeeded && said.contains("is there already"), "{said}");

    let (succeeded, said) = meta(&["import", word(&file), "--dir", word(&new)]);
    assert!(succeeded, "{said}");
    assert_eq!(FileStore::open(&new).unwrap().1, durable);
    let (succeeded, said) = meta(&["import", word(&file), "--dir", word(&new)]);
    assert!(
        !succeeded && said.contains("holds a meta store already"),
        "{said}"
    );
    let (succeeded, said) = meta(&[
        "import",
        word(&file),
        "--dir",
        word(&member),
        "--member",
        "1",
    ]);
    assert!(succeeded && group::is_member(&member), "{said}");
    let (succeeded, said) = meta(&["import", word(&file), "--dir", word(&member)]);
    assert!(
        !succeeded && said.contains("holds a meta store already"),
        "{said}"
    );
    // The first member of a group has to run before it has anything to tell.
    let of_member = at("of-member");
    let (succeeded, said) = meta(&["export", "--dir", word(&member), "--out", word(&of_member)]);
    assert!(
        !succeeded && said.contains("the group has not begun"),
        "{said}"
    );

    let text = fs::read_to_string(&file).unwrap().replace("users", "other");
    fs::write(&file, text).unwrap();
    let (succeeded, said) = meta(&["import", word(&file), "--dir", word(&at("third"))]);
    assert!(!succeeded && said.contains("checksum mismatch"), "{said}");
    assert!(!at("third").exists());
}
