//! Lines of files to import: any bytes are a row or a sentence, and a row that is written out reads back. Run by the
//! tests and by the fuzz target `import_lines`.

use super::columns::{Format, Parser, Row, Selection};
use crate::text;

/// Bits of the first byte choose the format, a header and further columns; the rest is the file.
pub(crate) fn run(input: &[u8]) {
    let Some((choice, file)) = input.split_first() else {
        return;
    };
    let format = if choice & 1 == 0 {
        Format::Tsv
    } else {
        Format::Jsonl
    };
    let has_header = choice & 2 != 0 && format == Format::Tsv;
    let selection = selection(format, choice & 4 != 0, has_header);
    let mut lines = file.split(|byte| *byte == b'\n');
    let header = if has_header { lines.next() } else { None };
    let Ok(parser) = Parser::new(format, &selection, header) else {
        return;
    };
    for line in lines {
        match parser.parse(line) {
            Ok(row) => check(format, line, &row),
            Err(error) => {
                let sentence = format!("{error:#}");
                assert!(!sentence.is_empty() && !sentence.contains('\n'));
                assert!(sentence.len() < 500, "{sentence}");
            }
        }
    }
    let shown = text::escape(file);
    assert!(shown.bytes().all(|byte| byte >= b' '));
    assert_eq!(text::unescape(shown.as_bytes()).as_deref(), Ok(file));
    if let Ok(bytes) = text::unescape(file) {
        assert!(bytes.len() <= file.len());
    }
}

fn selection(format: Format, all: bool, by_name: bool) -> Selection {
    let column = |number: &str, name: &str| {
        let wanted = if by_name || format == Format::Jsonl {
            name
        } else {
            number
        };
        Some(wanted.to_owned())
    };
    Selection {
        hash_key: column("1", "k"),
        sort_key: column("3", "s").filter(|_| all),
        value: column("2", "v"),
        ttl: column("4", "t").filter(|_| all),
    }
}

/// Nothing comes out that was not in the line, and JSON carries the row there and back.
fn check(format: Format, line: &[u8], row: &Row) {
    let bytes = row.hash_key.len() + row.sort_key.len() + row.value.len();
    match format {
        // The same column may be asked for more than once.
        Format::Tsv => assert!(bytes <= 3 * line.len()),
        Format::Jsonl => {
            assert!(bytes <= 3 * line.len() + 64);
            let again = serde_json::json!({
                "k": text::to_json(&row.hash_key),
                "s": text::to_json(&row.sort_key),
                "v": text::to_json(&row.value),
                "t": row.ttl_seconds,
            });
            let parser = Parser::new(format, &selection(format, true, true), None);
            let read = parser.and_then(|parser| parser.parse(again.to_string().as_bytes()));
            assert_eq!(read.ok().as_ref(), Some(row));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::PathBuf;

    /// `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.
    #[test]
    fn lines_are_rows_or_sentences() {
        let corpus =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/import_lines");
        for (name, seed) in SEEDS {
            if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
                std::fs::create_dir_all(&corpus).unwrap();
                std::fs::write(corpus.join(name), seed).unwrap();
            }
            assert_eq!(std::fs::read(corpus.join(name)).unwrap(), *seed, "{name}");
        }
        for entry in std::fs::read_dir(corpus).unwrap() {
            super::run(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }

    const SEEDS: &[(&str, &[u8])] = &[
        ("tsv", b"\0a\t1\nb\t2\n"),
        ("tsv_all", b"\x04a\t1\ts\t60\nb\t2\t\t\nc\t3\t\t-1"),
        ("tsv_header", b"\x06k\tv\ts\tt\na\t1\ts\t60\n"),
        (
            "jsonl",
            b"\x01{\"k\":\"a\",\"v\":17}\n{\"k\":{\"b64\":\"/wA=\"},\"v\":true}\n{\"k\":null}",
        ),
        (
            "jsonl_all",
            b"\x05{\"k\":\"a\",\"s\":\"b\",\"v\":1e400,\"t\":60}\n[]\n{\"k\":\"\\ud800\"}",
        ),
        ("escapes", b"\0naive\xff\xe2\x80\xae\\x41\\q"),
    ];
}
