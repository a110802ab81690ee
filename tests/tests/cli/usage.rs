//! Command lines that are wrong, and servers that are none.

use super::Done;
use e2e::cluster::program;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

fn pegasus(arguments: &[&str]) -> Done {
    let mut command = Command::new(program("pegasus"));
    command
        .args(arguments)
        .env_remove("PEGASUS_META")
        .env_remove("PEGASUS_LOCAL_DIR")
        .stdin(Stdio::null());
    Done::run(&mut command)
}

#[test]
fn a_wrong_command_line_is_refused_before_anything_is_done() {
    for arguments in [
        &["nonsense"][..],
        &["get", "t"],
        &["get", "t", "h", "s", "too", "many"],
        &["--meta", "127.0.0.1", "table", "list"],
        &["--meta", "127.0.0.1:99999", "table", "list"],
        &["--meta", "", "table", "list"],
        &["--timeout", "0", "table", "list"],
        &["--timeout", "nan", "table", "list"],
        &["--timeout", "-1", "table", "list"],
        &[
            "table",
            "create",
            "t",
            "--partitions",
            "7",
            "--replicas",
            "3",
        ],
        &[
            "table",
            "create",
            "t",
            "--partitions",
            "131072",
            "--replicas",
            "3",
        ],
        &[
            "table",
            "create",
            "t",
            "--partitions",
            "8",
            "--replicas",
            "0",
        ],
        &[
            "table",
            "create",
            "t",
            "--partitions",
            "8",
            "--replicas",
            "8",
        ],
        &[
            "table",
            "create",
            "t",
            "--partitions",
            "-8",
            "--replicas",
            "3",
        ],
        &["set", "t", "h", "s", "v", "--ttl", "0"],
        &["set", "t", "h", "s", "v", "--ttl", "99999999999"],
        &["scan", "t", "--limit", "-1"],
        &["core", "list", "--interval", "0"],
        &["core", "list", "--interval", "1e9"],
        &["core", "list", "--node", "x"],
        &["core", "list", "--over", "pigeon"],
        &["core", "show", "1"],
        &["core", "show", "a/b"],
        &["core", "show", "1/0", "--since-start", "--interval", "3"],
        &["local", "start", "--nodes", "0"],
        &["local", "start", "--nodes", "-1"],
        &["local", "start", "--cores", "101"],
        &["local", "start", "--base-port", "70000"],
        &["local", "start", "--wait", "18446744073709551615"],
        &["export", "--table", "t", "--format", "xml"],
    ] {
        let refused = pegasus(arguments);
        assert_eq!(
            (refused.code, refused.out.as_str()),
            (2, ""),
            "{arguments:?}"
        );
        assert!(!refused.err.is_empty(), "{arguments:?}");
        let with_json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let refused = pegasus(&with_json);
        assert_eq!(refused.code, 2, "{arguments:?}");
        assert_eq!(refused.error()["kind"], "usage", "{arguments:?}");
    }
}

#[test]
fn help_has_the_exit_codes_and_an_example_for_every_verb() {
    let help = pegasus(&["--help"]);
    assert_eq!(help.code, 0);
    for text in [
        "Exit codes:",
        "130",
        "pegasus local start",
        "pegasus core list",
    ] {
        assert!(help.out.contains(text), "{text}");
    }
    assert!(!help.out.contains("in-background"), "{}", help.out);
    for verbs in [
        &["local", "start"][..],
        &["table", "create"],
        &["core", "list"],
        &["core", "show"],
        &["get"],
        &["set"],
        &["del"],
        &["exist"],
        &["ttl"],
        &["scan"],
        &["import"],
        &["export"],
    ] {
        let arguments: Vec<&str> = verbs.iter().copied().chain(["--help"]).collect();
        let help = pegasus(&arguments);
        assert_eq!(help.code, 0, "{verbs:?}");
        assert!(help.out.contains("Examples:"), "{verbs:?}");
    }
    let nothing = pegasus(&[]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.err.contains("A first session:"), "{}", nothing.err);
}

/// Answers whatever comes with these bytes.
fn server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 256];
            // The client may be gone already.
            let _ = stream
                .read(&mut request)
                .and_then(|_| stream.write_all(answer));
        }
    });
    address
}

#[test]
fn a_server_that_is_none_of_ours_is_told_from_one_that_is_down() {
    let redis = server(b"-ERR unknown command\r\n");
    let http = server(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    for address in [&redis, &http] {
        for verbs in [
            &["table", "list"][..],
            &["get", "t", "h"],
            &["core", "list"],
        ] {
            let arguments: Vec<&str> = ["--meta", address].iter().chain(verbs).copied().collect();
            let refused = pegasus(&arguments);
            assert_eq!(refused.code, 1, "{}", refused.err);
            assert!(refused.err.contains("no Pegasus server"), "{}", refused.err);
        }
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = closed.local_addr().unwrap().to_string();
    drop(closed);
    let refused = pegasus(&["--meta", &nobody, "--json", "node", "list"]);
    assert_eq!(
        (refused.code, &refused.error()["kind"]),
        (4, &"unavailable".into())
    );
    let dumb = server(b"");
    assert_eq!(pegasus(&["--meta", &dumb, "table", "list"]).code, 4);
}
