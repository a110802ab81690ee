//! Handshake frames of strangers: any body is refused by a sentence, or introduces another core of this cluster. Nobody
//! proves a token without knowing it. Run by the tests and by the fuzz target `peer_handshake`.

use super::handshake::{Handshaker, Nonces};
use crate::options::{Identity, LeaseTerms, PeerId};

pub(crate) const OWN: PeerId = PeerId { node: 1, core: 1 };
pub(crate) const PEER: PeerId = PeerId { node: 2, core: 0 };
const NONCES: Nonces = Nonces {
    dialler: [1; 16],
    listener: [2; 16],
};

/// The first byte says which frame it is: hello (0), reply (1) or proof (2); the rest is its body.
pub fn run(input: &[u8]) {
    let Some((what, body)) = input.split_first() else {
        return;
    };
    let own = handshaker(OWN, "secret");
    let refusal = match what % 3 {
        0 => own.check_hello(body).map(|hello| {
            assert_ne!(hello.peer, OWN);
            assert!(own.reply(hello.peer, &NONCES).len() < 4 << 10);
        }),
        1 => own
            .check_reply(body, PEER, NONCES.dialler)
            .map(|(hello, nonces)| {
                assert_eq!(hello.peer, PEER);
                assert_eq!(nonces.dialler, NONCES.dialler);
                let known = handshaker(PEER, "secret").reply(OWN, &nonces);
                assert!(own.check_reply(&known, PEER, NONCES.dialler).is_ok());
            }),
        _ => own.check_proof(body, &NONCES),
    };
    if let Err(refusal) = refusal {
        let sentence = refusal.sentence;
        assert!(!sentence.is_empty() && sentence.len() < 500 && !sentence.contains('\n'));
    }
}

pub(crate) fn handshaker(core: PeerId, token: &str) -> Handshaker {
    let identity = Identity {
        cluster: 7 << 64 | 9,
        node: core.node,
        core: core.core,
        node_incarnation: 3,
        disk_format: 1,
        token: token.into(),
        leases: LeaseTerms::default(),
    };
    Handshaker::new(identity).expect("/dev/urandom")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let peer = handshaker(PEER, "secret");
        let other = handshaker(PEER, "other");
        let with = |what: u8, body: Vec<u8>| [vec![what], body].concat();
        vec![
            ("hello", with(0, peer.hello(OWN, &NONCES.dialler))),
            (
                "hello_to_another",
                with(0, peer.hello(PEER, &NONCES.dialler)),
            ),
            ("reply", with(1, peer.reply(OWN, &NONCES))),
            ("reply_of_another_token", with(1, other.reply(OWN, &NONCES))),
            ("hello_as_reply", with(1, peer.hello(OWN, &NONCES.dialler))),
            ("proof", with(2, peer.proof(&NONCES))),
            ("proof_of_another_token", with(2, other.proof(&NONCES))),
        ]
    }

    /// `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.
    #[test]
    fn strangers_are_refused_by_a_sentence_or_introduced() {
        let corpus =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/peer_handshake");
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
