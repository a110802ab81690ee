//! `node.toml` with any text: refused by one sentence that names the directory, which stays as it was; or a node that
//! counts on. Run by the tests and by the fuzz target `node_toml`.

use crate::data_dir::DataDir;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const CORES: u16 = 2;

/// The input is the file.
pub(crate) fn run(input: &[u8]) {
    let dir = TemporaryDir::new();
    let file = dir.0.join("node.toml");
    std::fs::write(&file, input).expect("a temporary file");
    match open(&dir.0) {
        Ok(opened) => {
            let before = opened.identity();
            assert!(before.incarnation.0 > 0);
            drop(opened);
            let again = open(&dir.0).expect("our own node.toml").identity();
            assert_eq!((again.cluster, again.node), (before.cluster, before.node));
            assert_eq!(again.incarnation.0, before.incarnation.0 + 1);
        }
        Err(sentence) => {
            let name = dir.0.to_str().expect("a path of ours");
            assert!(sentence.contains(name), "{sentence}");
            assert!(!sentence.contains('\n'), "{sentence}");
            assert!(sentence.len() < 1_000 + input.len(), "{sentence}");
            let content = std::fs::read(&file).expect("it was there");
            assert_eq!(content, input, "a refused directory was changed");
        }
    }
}

fn open(root: &Path) -> Result<DataDir, String> {
    DataDir::open_within(root, CORES, Duration::ZERO).map_err(|error| error.to_string())
}

/// A directory of its own for each run.
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pegasus-node-toml-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const GOOD: &str = "format = 1\ncluster = \"00000000000000000000000000000007\"\nnode = 3\nincarnation = 4\nshards = 2\n";

    fn seeds() -> Vec<(&'static str, String)> {
        vec![
            ("good", GOOD.to_owned()),
            (
                "fresh",
                GOOD.replace("00000000000000000000000000000007", ""),
            ),
            (
                "later_format",
                GOOD.replace("format = 1", "format = 2\nnew = 1"),
            ),
            ("more_shards", GOOD.replace("shards = 2", "shards = 9")),
            ("cluster_0", GOOD.replace('7', "0")),
            ("signed_cluster", GOOD.replace("\"00", "\"+0")),
            (
                "last_incarnation",
                GOOD.replace("incarnation = 4", "incarnation = 9223372036854775807"),
            ),
            ("cut", GOOD[..40].to_owned()),
            ("empty", String::new()),
        ]
    }

    /// `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.
    #[test]
    fn a_node_toml_with_any_text_is_refused_in_a_sentence_or_counts_on() {
        let corpus =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/node_toml");
        for (name, seed) in seeds() {
            if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
                std::fs::create_dir_all(&corpus).unwrap();
                std::fs::write(corpus.join(name), &seed).unwrap();
            }
            assert_eq!(
                std::fs::read_to_string(corpus.join(name)).unwrap(),
                seed,
                "{name}"
            );
        }
        for entry in std::fs::read_dir(corpus).unwrap() {
            run(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn a_cluster_id_is_digits_without_a_sign() {
        use crate::data_dir::ClusterId;
        let digits = "00000000000000000000000000000007";
        assert_eq!(digits.parse(), Ok(ClusterId(7)));
        assert!(digits.replacen('0', "+", 1).parse::<ClusterId>().is_err());
    }
}
