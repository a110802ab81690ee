//! Decoders against any bytes. The bodies of these tests are fuzz targets too (`tests/fuzz`), and what the fuzzer found
//! worth keeping is replayed here. `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod resp_commands;
mod resp_values;

use std::path::PathBuf;

#[test]
fn commands_in_pieces_are_the_commands_of_the_whole_stream() {
    let seeds: [(&str, &[u8]); 6] = [
        (
            "two",
            b"\x03*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n",
        ),
        ("cut", b"\x00*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nval"),
        (
            "inline",
            b"\x05\r\nSET \"a\\x41\" 'b c'\r\nPING\n*0\r\n*-1\r\n",
        ),
        ("quotes", b"\x07SET \"a\r\n"),
        ("huge", b"\x09*1\r\n$99999999999\r\n"),
        ("not_bulk", b"\x09*1\r\n:5\r\n"),
    ];
    replay("resp_commands", resp_commands::run, &seeds);
}

#[test]
fn values_in_pieces_are_the_values_of_the_whole_stream() {
    let seeds: [(&str, &[u8]); 7] = [
        (
            "resp2",
            b"\x03+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n",
        ),
        ("arrays", b"\x04*3\r\n*0\r\n*2\r\n$1\r\na\r\n$-1\r\n:1\r\n"),
        (
            "resp3",
            b"\x06_\r\n#t\r\n,3.25\r\n,-inf\r\n(123456789012345678901\r\n!3\r\nE\r\n\r\n",
        ),
        (
            "maps",
            b"\x06%1\r\n+a\r\n~1\r\n+b\r\n>1\r\n+c\r\n|1\r\n+k\r\n+v\r\n=7\r\ntxt:abc\r\n",
        ),
        (
            "deep",
            b"\x30*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        ),
        ("many", b"\x06*1000\r\n*1000\r\n"),
        ("streamed", b"\x06$?\r\n;1\r\na\r\n"),
    ];
    replay("resp_values", resp_values::run, &seeds);
}

/// Runs every file of a corpus, in which the seeds must be.
fn replay(target: &str, run: impl Fn(&[u8]), seeds: &[(&str, &[u8])]) {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fuzz/corpus")
        .join(target);
    for (name, seed) in seeds {
        if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&corpus).unwrap();
            std::fs::write(corpus.join(name), seed).unwrap();
        }
        assert_eq!(&std::fs::read(corpus.join(name)).unwrap(), seed, "{name}");
    }
    for entry in std::fs::read_dir(corpus).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}
