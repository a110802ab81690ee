//! Who is at the other end of a link: cluster, node, core, incarnation, versions, and proof of the cluster's token.
//!
//! Each side proves that it knows the token by an HMAC-SHA256 over both sides' nonces (the dialler's first) under a word
//! that names its role, so that no answer can be replayed or reflected. The token itself never travels.

use crate::options::{Identity, LeaseTerms, PeerId};
use hmac::{Hmac, Mac};
use pegasus_fbs::body::{bytes, read};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, WIPOffset};
use pegasus_fbs::peer;
use sha2::Sha256;
use std::fs::File;
use std::io::{self, Read};

/// Lowest and highest version of the frames between peers that this build speaks.
pub const PROTOCOL_VERSIONS: (u16, u16) = (1, 1);

pub type Nonce = [u8; 16];

/// Both nonces of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonces {
    pub dialler: Nonce,
    pub listener: Nonce,
}

/// Why the other side is not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub sentence: String,
}

/// What a hello says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub peer: PeerId,
    pub node_incarnation: u64,
    pub nonce: Nonce,
}

/// Makes and checks handshake bodies for one core.
#[derive(Debug)]
pub struct Handshaker {
    identity: Identity,
    random: File,
}

const REPLY_LABEL: &[u8] = b"reply";
const DIAL_LABEL: &[u8] = b"dial";

impl Handshaker {
    pub fn new(identity: Identity) -> io::Result<Self> {
        Ok(Self {
            identity,
            random: File::open("/dev/urandom")?,
        })
    }

    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Never used twice.
    pub fn nonce(&mut self) -> io::Result<Nonce> {
        let mut nonce = Nonce::default();
        self.random.read_exact(&mut nonce)?;
        Ok(nonce)
    }

    /// The dialler's first frame.
    pub fn hello(&self, target: PeerId, nonce: &Nonce) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let hello = self.introduce(&mut builder, target, nonce);
        builder.finish(hello, None);
        builder.finished_data().to_vec()
    }

    /// What the listener makes of it.
    pub fn check_hello(&self, body: &[u8]) -> Result<Introduction, Refusal> {
        self.check_introduction(&read::<peer::Hello<'_>>(body).map_err(malformed)?)
    }

    /// The listener's answer: who it is, and its proof.
    pub fn reply(&self, target: PeerId, nonces: &Nonces) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let hello = Some(self.introduce(&mut builder, target, &nonces.listener));
        let proof = Some(builder.create_vector(&self.prove(REPLY_LABEL, nonces)));
        let reply = peer::HelloReply::create(&mut builder, &peer::HelloReplyArgs { hello, proof });
        builder.finish(reply, None);
        builder.finished_data().to_vec()
    }

    /// What the dialler makes of it: it must be the core that was dialled.
    pub fn check_reply(
        &self,
        body: &[u8],
        dialled: PeerId,
        nonce: Nonce,
    ) -> Result<(Introduction, Nonces), Refusal> {
        let reply = read::<peer::HelloReply<'_>>(body).map_err(malformed)?;
        let Some(hello) = reply.hello() else {
            return Err(invalid("hello reply without a hello"));
        };
        let introduction = self.check_introduction(&hello)?;
        if introduction.peer != dialled {
            return Err(invalid(format!(
                "dialled core {dialled}, core {} answers",
                introduction.peer
            )));
        }
        let nonces = Nonces {
            dialler: nonce,
            listener: introduction.nonce,
        };
        self.verify(REPLY_LABEL, &nonces, bytes(reply.proof()))?;
        Ok((introduction, nonces))
    }

    /// The dialler's proof.
    pub fn proof(&self, nonces: &Nonces) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let proof = Some(builder.create_vector(&self.prove(DIAL_LABEL, nonces)));
        let proof = peer::HelloProof::create(&mut builder, &peer::HelloProofArgs { proof });
        builder.finish(proof, None);
        builder.finished_data().to_vec()
    }

    pub fn check_proof(&self, body: &[u8], nonces: &Nonces) -> Result<(), Refusal> {
        let proof = read::<peer::HelloProof<'_>>(body).map_err(malformed)?;
        self.verify(DIAL_LABEL, nonces, bytes(proof.proof()))
    }

    fn introduce<'a>(
        &self,
        builder: &mut FlatBufferBuilder<'a>,
        target: PeerId,
        nonce: &Nonce,
    ) -> WIPOffset<peer::Hello<'a>> {
        let identity = &self.identity;
        let (cluster_high, cluster_low) = halves(identity.cluster);
        let args = peer::HelloArgs {
            protocol_min: PROTOCOL_VERSIONS.0,
            protocol_max: PROTOCOL_VERSIONS.1,
            disk_format: identity.disk_format,
            cluster_high,
            cluster_low,
            node: identity.node,
            core: identity.core,
            node_incarnation: identity.node_incarnation,
            target_node: target.node,
            target_core: target.core,
            nonce: Some(builder.create_vector(nonce)),
            lease_ms: identity.leases.lease_ms,
            grace_ms: identity.leases.grace_ms,
        };
        peer::Hello::create(builder, &args)
    }

    fn check_introduction(&self, hello: &peer::Hello<'_>) -> Result<Introduction, Refusal> {
        let own = &self.identity;
        if (hello.cluster_high(), hello.cluster_low()) != halves(own.cluster) {
            let theirs = u128::from(hello.cluster_high()) << 64 | u128::from(hello.cluster_low());
            let sentence = format!(
                "it belongs to cluster {theirs:032x}, this node to {:032x}",
                own.cluster
            );
            return Err(Refusal {
                code: Code::WrongCluster,
                sentence,
            });
        }
        let (lowest, highest) = (hello.protocol_min(), hello.protocol_max());
        if lowest > PROTOCOL_VERSIONS.1 || highest < PROTOCOL_VERSIONS.0 {
            let sentence = format!(
                "it speaks protocol versions {lowest} to {highest}, this node {PROTOCOL_VERSIONS:?}"
            );
            return Err(Refusal {
                code: Code::Incompatible,
                sentence,
            });
        }
        if hello.disk_format() != own.disk_format {
            let sentence = format!(
                "its disk format is {}, this node's {}",
                hello.disk_format(),
                own.disk_format
            );
            return Err(Refusal {
                code: Code::Incompatible,
                sentence,
            });
        }
        let theirs = LeaseTerms {
            lease_ms: hello.lease_ms(),
            grace_ms: hello.grace_ms(),
        };
        if !own.leases.waits_for(&theirs) || !theirs.waits_for(&own.leases) {
            let sentence = format!(
                "its lease is {} ms and its grace {} ms, this node's {} and {}: no grace may be under 1.25 times the other's lease",
                theirs.lease_ms, theirs.grace_ms, own.leases.lease_ms, own.leases.grace_ms
            );
            return Err(Refusal {
                code: Code::Incompatible,
                sentence,
            });
        }
        let target = PeerId {
            node: hello.target_node(),
            core: hello.target_core(),
        };
        if target != own.id() {
            return Err(invalid(format!(
                "it wants core {target}, this is core {}",
                own.id()
            )));
        }
        let peer = PeerId {
            node: hello.node(),
            core: hello.core(),
        };
        if peer == own.id() {
            return Err(invalid(format!("core {peer} talks to itself")));
        }
        let Ok(nonce) = Nonce::try_from(bytes(hello.nonce())) else {
            return Err(invalid("nonce is not 16 bytes"));
        };
        Ok(Introduction {
            peer,
            node_incarnation: hello.node_incarnation(),
            nonce,
        })
    }

    fn mac(&self, label: &[u8], nonces: &Nonces) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.identity.token)
            .expect("HMAC takes a key of any length");
        mac.update(label);
        mac.update(&nonces.dialler);
        mac.update(&nonces.listener);
        mac
    }

    fn prove(&self, label: &[u8], nonces: &Nonces) -> [u8; 32] {
        self.mac(label, nonces).finalize().into_bytes().into()
    }

    /// In constant time.
    fn verify(&self, label: &[u8], nonces: &Nonces, proof: &[u8]) -> Result<(), Refusal> {
        self.mac(label, nonces)
            .verify_slice(proof)
            .map_err(|_| Refusal {
                code: Code::Unauthenticated,
                sentence: "the cluster token does not match".to_owned(),
            })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves of a u128")]
const fn halves(cluster: u128) -> (u64, u64) {
    ((cluster >> 64) as u64, cluster as u64)
}

fn malformed(error: pegasus_fbs::body::BodyError) -> Refusal {
    invalid(error.to_string())
}

fn invalid(sentence: impl Into<String>) -> Refusal {
    Refusal {
        code: Code::InvalidArgument,
        sentence: sentence.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshaker(node: u32, token: &str) -> Handshaker {
        let identity = Identity {
            cluster: 7 << 64 | 9,
            node,
            core: 1,
            node_incarnation: 3,
            disk_format: 1,
            token: token.into(),
            leases: LeaseTerms {
                lease_ms: 400,
                grace_ms: 550,
            },
        };
        Handshaker::new(identity).unwrap()
    }

    const ONE: PeerId = PeerId { node: 1, core: 1 };
    const TWO: PeerId = PeerId { node: 2, core: 1 };

    #[test]
    fn two_cores_with_the_same_token_accept_each_other() {
        let (mut one, mut two) = (handshaker(1, "secret"), handshaker(2, "secret"));
        let nonce = one.nonce().unwrap();
        let seen = two.check_hello(&one.hello(TWO, &nonce)).unwrap();
        assert_eq!(
            seen,
            Introduction {
                peer: ONE,
                node_incarnation: 3,
                nonce
            }
        );
        let nonces = Nonces {
            dialler: nonce,
            listener: two.nonce().unwrap(),
        };
        let (seen, both) = one
            .check_reply(&two.reply(ONE, &nonces), TWO, nonce)
            .unwrap();
        assert_eq!((seen.peer, both), (TWO, nonces));
        two.check_proof(&one.proof(&nonces), &nonces).unwrap();
    }

    #[test]
    fn another_token_is_refused_by_both_sides() {
        let (one, two) = (handshaker(1, "secret"), handshaker(2, "other"));
        let nonces = Nonces {
            dialler: [1; 16],
            listener: [2; 16],
        };
        let refusal = one
            .check_reply(&two.reply(ONE, &nonces), TWO, nonces.dialler)
            .unwrap_err();
        assert_eq!(refusal.code, Code::Unauthenticated);
        assert_eq!(
            two.check_proof(&one.proof(&nonces), &nonces)
                .unwrap_err()
                .code,
            Code::Unauthenticated
        );
    }

    #[test]
    fn a_proof_does_not_fit_another_handshake_or_the_other_role() {
        let (one, two) = (handshaker(1, "secret"), handshaker(2, "secret"));
        let nonces = Nonces {
            dialler: [1; 16],
            listener: [2; 16],
        };
        let other = Nonces {
            listener: [3; 16],
            ..nonces
        };
        assert!(two.check_proof(&one.proof(&nonces), &other).is_err());
        assert_ne!(
            one.prove(DIAL_LABEL, &nonces),
            one.prove(REPLY_LABEL, &nonces)
        );
    }

    #[test]
    fn a_hello_of_another_cluster_version_or_address_is_refused_by_name() {
        let one = handshaker(1, "");
        let mut other = handshaker(2, "");
        assert_eq!(
            other
                .check_hello(&one.hello(ONE, &[0; 16]))
                .unwrap_err()
                .code,
            Code::InvalidArgument
        );
        other.identity.disk_format = 2;
        assert_eq!(
            other
                .check_hello(&one.hello(TWO, &[0; 16]))
                .unwrap_err()
                .code,
            Code::Incompatible
        );
        other.identity.cluster = 1;
        assert_eq!(
            other
                .check_hello(&one.hello(TWO, &[0; 16]))
                .unwrap_err()
                .code,
            Code::WrongCluster
        );
        assert!(one.check_hello(b"garbage").is_err());
    }

    #[test]
    fn terms_under_which_two_primaries_could_serve_are_refused_both_ways() {
        let one = handshaker(1, "");
        let mut other = handshaker(2, "");
        let terms = |lease_ms, grace_ms| LeaseTerms { lease_ms, grace_ms };
        for (leases, is_safe) in [
            (terms(440, 550), true),
            (terms(100, 500), true),
            (terms(441, 600), false),
            (terms(100, 499), false),
        ] {
            other.identity.leases = leases;
            let hello = one.hello(TWO, &[0; 16]);
            assert_eq!(other.check_hello(&hello).is_ok(), is_safe, "{leases:?}");
            let hello = other.hello(ONE, &[0; 16]);
            let refusal = one.check_hello(&hello).err();
            assert_eq!(refusal.is_none(), is_safe, "{leases:?}");
            assert!(refusal.is_none_or(|refusal| refusal.code == Code::Incompatible));
        }
    }
}
