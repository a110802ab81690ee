//! A node proves that it knows the cluster's token, and meta proves it first.

use super::letter::Failed;
use hmac::{Hmac, Mac};
use pegasus_fbs::code::Code;
use sha2::Sha256;

/// Version of the protocol between nodes and meta.
pub(super) const PROTOCOL: u16 = 1;
pub(super) const NONCE_BYTES: usize = 16;
/// A node's nonce may be longer, up to this.
const NONCE_BYTES_MAX: usize = 64;

/// Both sides' random bytes.
#[derive(Clone, Debug)]
pub(super) struct Nonces {
    node: Vec<u8>,
    meta: [u8; NONCE_BYTES],
}

impl Nonces {
    /// Takes the node's nonce and makes ours.
    pub(super) fn answer(node: &[u8]) -> Result<Self, Failed> {
        if !(NONCE_BYTES..=NONCE_BYTES_MAX).contains(&node.len()) {
            let message = format!(
                "a nonce has {NONCE_BYTES} to {NONCE_BYTES_MAX} bytes, this one {}",
                node.len()
            );
            return Err(Failed::new(Code::InvalidArgument, message));
        }
        Ok(Self {
            node: node.to_vec(),
            meta: rand::random(),
        })
    }

    pub(super) const fn meta(&self) -> &[u8; NONCE_BYTES] {
        &self.meta
    }

    /// HMAC-SHA256(token, "meta" | node's nonce | meta's nonce).
    pub(super) fn proof_of_meta(&self, token: &[u8]) -> Vec<u8> {
        self.keyed(token, b"meta").finalize().into_bytes().to_vec()
    }

    /// Whether `proof` is HMAC-SHA256(token, "node" | node's nonce | meta's nonce); compared in constant time.
    pub(super) fn proves_node(&self, token: &[u8], proof: &[u8]) -> bool {
        self.keyed(token, b"node").verify_slice(proof).is_ok()
    }

    fn keyed(&self, token: &[u8], role: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(token).expect("HMAC takes keys of any length");
        [role, &self.node, &self.meta]
            .into_iter()
            .for_each(|part| mac.update(part));
        mac
    }
}
