//! Forwarded commands and their answers: any bytes are refused, or mean the same when they are written again. Run by the tests
//! and by the fuzz target `forwarded`.

use crate::forward::{Answer, Question};
use pegasus_fbs::code::Code;

/// An even first byte: the rest is a question; an odd one: an answer.
pub(crate) fn run(input: &[u8]) {
    let Some((what, rest)) = input.split_first() else {
        return;
    };
    if what & 1 == 0 {
        question(rest);
    } else {
        answer(rest);
    }
}

fn question(body: &[u8]) {
    let Ok(question) = Question::decode(body) else {
        return;
    };
    let calls = question.calls.as_slice();
    assert!(!calls.is_empty() && calls.len() <= body.len());
    for call in calls {
        assert!(call.key_positions().all(|at| !call.argument(at).is_empty()));
        assert!(call.count() <= body.len());
    }
    assert_eq!(Question::decode(&question.encode()).as_ref(), Ok(&question));
}

fn answer(body: &[u8]) {
    let Ok(answer) = Answer::decode(body) else {
        return;
    };
    if let Err(failure) = &answer.reply {
        assert_ne!(failure.code, Code::Ok);
        assert!(failure.message.len() <= body.len());
    }
    // As bytes: a double that is not a number equals nothing.
    let bytes = answer.encode();
    let again = Answer::decode(&bytes).expect("our own answer");
    assert_eq!(again.encode(), bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::path::PathBuf;

    /// `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.
    #[test]
    fn forwarded_commands_and_answers_are_refused_or_travel_again() {
        let corpus =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/forwarded");
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
        (
            "one",
            b"\0\x07\0\0\0\0\0\0\0\x03\0\0\0\x05\0\0\0\xd2\x04\0\0\0*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
        ),
        (
            "transaction",
            b"\0\x07\0\0\0\0\0\0\0\x03\0\0\0\x05\0\0\0\xd2\x04\0\0\x01*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n*4\r\n$4\r\nHSET\r\n$1\r\nk\r\n$1\r\nf\r\n$0\r\n\r\n",
        ),
        (
            "length_near_2_to_the_31",
            b"\0\x07\0\0\0\0\0\0\0\x03\0\0\0\x05\0\0\0\xd2\x04\0\0\0*2\r\n$3\r\nGET\r\n$2147483647\r\n",
        ),
        (
            "answer",
            b"\x01\x07\0\0\0\0\0\0\0\0\0*3\r\n$1\r\nv\r\n:-1\r\n_\r\n",
        ),
        (
            "failure",
            b"\x01\x07\0\0\0\0\0\0\0\x01\0\x09\0\0\0\x0f127.0.0.1:34801partition 5",
        ),
        (
            "failure_of_another_length",
            b"\x01\x07\0\0\0\0\0\0\0\x01\0\x09\0\0\0\xff127.0.0.1:34801",
        ),
    ];
}
