//! Names of requests, as short as RDSN has room for.

use crate::Rpc;
use std::fmt;

/// The name of a request, of an answer or of an error: at most 47 bytes. Longer ones are cut, as in Apache Pegasus.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name(Bytes);

/// Known names are not copied: there is one of them in every request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Bytes {
    Known(Rpc),
    Other {
        length: u8,
        bytes: [u8; Name::BYTES_MAX],
    },
}

impl Name {
    pub const BYTES_MAX: usize = 47;

    #[must_use]
    pub fn new(name: &[u8]) -> Self {
        Rpc::of_name(name).map_or_else(|| Self::other(name), |rpc| Self(Bytes::Known(rpc)))
    }

    fn other(name: &[u8]) -> Self {
        let name = name.get(..Self::BYTES_MAX).unwrap_or(name);
        let mut bytes = [0; Self::BYTES_MAX];
        let (kept, _) = bytes.split_at_mut(name.len());
        kept.copy_from_slice(name);
        #[allow(clippy::cast_possible_truncation, reason = "cut to 47 above")]
        let length = name.len() as u8;
        Self(Bytes::Other { length, bytes })
    }

    /// The request of this name.
    #[must_use]
    pub const fn rpc(&self) -> Option<Rpc> {
        match self.0 {
            Bytes::Known(rpc) => Some(rpc),
            Bytes::Other { .. } => None,
        }
    }

    /// Up to the first zero.
    pub(super) fn of_padded(padded: &[u8; Self::BYTES_MAX + 1]) -> Self {
        let end = padded.iter().position(|byte| *byte == 0);
        let name = padded.get(..end.unwrap_or(padded.len()));
        Self::new(name.unwrap_or_default())
    }

    pub(super) fn padded(&self) -> [u8; Self::BYTES_MAX + 1] {
        let mut padded = [0; Self::BYTES_MAX + 1];
        let (kept, _) = padded.split_at_mut(self.as_bytes().len());
        kept.copy_from_slice(self.as_bytes());
        padded
    }

    /// The name of the answer to the request with this name.
    #[must_use]
    pub fn ack(&self) -> Self {
        if let Bytes::Known(rpc) = self.0 {
            return Self::other(rpc.ack_name().as_bytes());
        }
        let mut name = [0; Self::BYTES_MAX + ACK.len()];
        let length = self.as_bytes().len();
        let (start, rest) = name.split_at_mut(length);
        start.copy_from_slice(self.as_bytes());
        let (end, _) = rest.split_at_mut(ACK.len());
        end.copy_from_slice(ACK);
        Self::new(name.get(..length + ACK.len()).unwrap_or_default())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Known(rpc) => rpc.name().as_bytes(),
            Bytes::Other { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }
}

/// What answers add to the name of their request.
pub(super) const ACK: &[u8] = b"_ACK";

impl Default for Name {
    fn default() -> Self {
        Self::other(b"")
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self::new(name.as_bytes())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}
