//! Sizes and cores as they are spelled in settings: any text is refused, or means the same when it is printed and read
//! again. Run by the tests and by the fuzz target `settings`.

use crate::config::{ByteSize, Cores};

/// CPUs that a machine can have; a list of more is refused before it is built.
const CPUS_MAX: usize = 1 << 16;

/// The input is the text.
pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match text.parse::<ByteSize>() {
        Ok(size) => assert_eq!(size.to_string().parse(), Ok(size)),
        Err(sentence) => assert!(sentence.contains(text)),
    }
    match text.parse::<Cores>() {
        Ok(cores) => {
            if let Cores::List(cpus) = &cores {
                assert!((1..=CPUS_MAX).contains(&cpus.len()));
                assert!(cores.lists(cpus[0]) && cores.count() == cpus.len());
            }
            assert_eq!(cores.to_string().parse(), Ok(cores));
        }
        Err(sentence) => assert!(sentence.contains(text)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::path::PathBuf;

    const SEEDS: [(&str, &str); 8] = [
        ("bytes", "65536"),
        ("gib", "1 GiB"),
        ("too_large", "18446744073709551615 KiB"),
        ("count", "2"),
        ("list", "cpu:2,3, 5-7"),
        ("twice", "2,2"),
        ("backwards", "7-5"),
        ("everything_twice", "0-65535,0-65535"),
    ];

    /// `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.
    #[test]
    fn values_with_units_are_refused_or_read_back() {
        let corpus =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/settings");
        for (name, seed) in SEEDS {
            if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
                std::fs::create_dir_all(&corpus).unwrap();
                std::fs::write(corpus.join(name), seed).unwrap();
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
}
