//! The decoder against any bytes. The body of this test is a fuzz target too (`tests/fuzz`), and what the fuzzer found
//! worth keeping is replayed here. `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod http_requests;

use std::path::PathBuf;

#[test]
fn requests_in_pieces_are_the_requests_of_the_whole_stream() {
    let seeds: [(&str, &[u8]); 6] = [
        (
            "two",
            b"\x03GET / HTTP/1.1\r\n\r\nGET /a?b=c&d HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        ),
        (
            "post",
            b"\x00POST /x HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody",
        ),
        (
            "feeds",
            b"\x02\r\n\nGET /%2f%zz HTTP/1.1\n\nGET / HTTP/1.1\n\r\n",
        ),
        (
            "smuggled",
            b"\x07POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ),
        (
            "huge",
            b"\x09POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
        ),
        (
            "chunked",
            b"\x09POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ];
    replay("http_requests", http_requests::run, &seeds);
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
