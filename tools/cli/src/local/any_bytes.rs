//! `cluster.toml` and pid files: any text is refused by a sentence, or describes something that can be and reads the
//! same when it is written again. Run by the tests and by the fuzz target `local_files`.

use super::cluster_file::ClusterFile;
use super::process::Identity;

/// An even first byte: the rest is a `cluster.toml`; an odd one: a pid file.
pub(crate) fn run(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    if choice & 1 == 0 {
        match ClusterFile::parse(text) {
            Ok(file) => {
                let ports = file.node_ports(file.nodes);
                assert!(ports.iter().all(|port| *port >= file.node_port(1)));
                assert!(file.meta_address(1).port() > 1024);
                let written = file.to_toml().expect("it was a file");
                assert_eq!(ClusterFile::parse(&written).ok(), Some(file));
            }
            Err(error) => assert!(!format!("{error:#}").is_empty()),
        }
    } else if let Some(process) = Identity::parse(text) {
        assert_eq!(Identity::parse(&process.to_string()), Some(process));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::PathBuf;

    /// `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.
    #[test]
    fn files_of_a_local_cluster_are_read_or_refused() {
        let corpus =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/local_files");
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
        ("cluster", b"\0format = 1\nnodes = 3\ncores = 1\nbase_port = 34600\nnode_options = [\"--cache-size\", \"1MiB\"]\n"),
        ("later_format", b"\0format = 2\nnodes = 3\ncores = 1\nbase_port = 34600\n"),
        ("ports_too_high", b"\0format = 1\nnodes = 10\ncores = 99\nbase_port = 63336\n"),
        ("no_toml", b"\0hello"),
        ("pid", b"\x01123 456 0123-abcd\n"),
        ("pid_too_large", b"\x0199999999999 1 b"),
    ];
}
