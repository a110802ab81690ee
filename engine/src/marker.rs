//! The marker: what a replica's own column family says of itself, durable together with the rows it describes.
//!
//! It lies under a key of one byte, which every reader of rows skips (raw keys have at least two), and is written in
//! the same atomic batch as the rows of its decree. So whatever a crash leaves, the marker's decree and everything
//! before it are there. Layout: `docs/formats.md`, "Marker".

use bytes::{Buf, BufMut, Bytes};
use pegasus_replication::ids::{Ballot, Decree, ReplicaIncarnation, RequestId};
use std::collections::VecDeque;

/// The marker's key; sorts before every raw key.
pub const MARKER_KEY: [u8; 1] = [0];

/// A marker is written at least every so many decrees...
pub const MARKER_DECREES_MAX: u64 = 256;
/// ... or bytes of payload applied, whichever comes first, and right before a flush of ours.
pub const MARKER_BYTES_MAX: u64 = 1 << 20;

/// The version this code writes.
pub const MARKER_VERSION: u8 = 1;

const FIXED_BYTES: usize = 1 + 8 + 8 + 8 + 2;
const CHECKSUM_BYTES: usize = 4;

/// Identity and outcome of one mutation, for exactly-once retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowEntry {
    pub id: RequestId,
    pub decree: Decree,
    /// What its client was answered, at most [`RequestWindow::RESULT_BYTES_MAX`] bytes; empty for blind writes.
    pub result: Bytes,
}

/// The last mutations with a request id, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RequestWindow {
    entries: VecDeque<WindowEntry>,
}

impl RequestWindow {
    /// Mutations remembered per replica; an older id can only be answered "unknown".
    pub const LENGTH_MAX: usize = 1024;
    /// Bytes of one remembered result.
    pub const RESULT_BYTES_MAX: usize = 255;

    /// Remembers `entry`, forgetting the oldest one if the window is full. A client of 0 means "none" and is not kept.
    pub fn push(&mut self, entry: WindowEntry) {
        if entry.id.client == 0 {
            return;
        }
        if self.entries.len() == Self::LENGTH_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// The remembered mutation of `id`, if any; the newest if it was applied twice. Costs a walk over the window.
    #[must_use]
    pub fn find(&self, id: RequestId) -> Option<&WindowEntry> {
        self.entries.iter().rev().find(|entry| entry.id == id)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &WindowEntry> {
        self.entries.iter()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// State of a replica as of `decree`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    pub incarnation: ReplicaIncarnation,
    /// 0 = nothing applied yet.
    pub decree: Decree,
    /// Ballot of the mutation at `decree`.
    pub ballot: Ballot,
    pub window: RequestWindow,
}

/// Bytes that are not a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    #[error("marker has format version {version}, this build reads {MARKER_VERSION}")]
    Version { version: u8 },
    #[error("marker of {bytes} bytes is too short")]
    Truncated { bytes: usize },
    #[error("marker checksum mismatch")]
    Checksum,
    #[error("marker holds {count} request ids, at most {max} are possible", max = RequestWindow::LENGTH_MAX)]
    WindowTooLong { count: usize },
    #[error("marker has {bytes} bytes after its window")]
    Trailing { bytes: usize },
}

impl Marker {
    /// The marker of a replica that has applied nothing.
    #[must_use]
    pub fn new(incarnation: ReplicaIncarnation) -> Self {
        Self {
            incarnation,
            decree: Decree::ZERO,
            ballot: Ballot::NONE,
            window: RequestWindow::default(),
        }
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(
            self.incarnation,
            self.decree,
            self.ballot,
            self.window.iter(),
        )
    }

    /// Survives any bytes.
    ///
    /// # Errors
    /// [`MarkerError`] naming what is wrong.
    pub fn decode(stored: &[u8]) -> Result<Self, MarkerError> {
        let truncated = MarkerError::Truncated {
            bytes: stored.len(),
        };
        let (&version, _) = stored.split_first().ok_or(truncated)?;
        if version != MARKER_VERSION {
            return Err(MarkerError::Version { version });
        }
        let (body, mut checksum) = stored
            .len()
            .checked_sub(CHECKSUM_BYTES)
            .filter(|&length| length >= FIXED_BYTES)
            .and_then(|length| stored.split_at_checked(length))
            .ok_or(truncated)?;
        if checksum.get_u32_le() != crc32c::crc32c(body) {
            return Err(MarkerError::Checksum);
        }
        let mut rest = &body[1..];
        let mut marker = Self::new(ReplicaIncarnation(rest.get_u64_le()));
        marker.decree = Decree(rest.get_u64_le());
        marker.ballot = Ballot(rest.get_u64_le());
        let count = usize::from(rest.get_u16_le());
        if count > RequestWindow::LENGTH_MAX {
            return Err(MarkerError::WindowTooLong { count });
        }
        for _ in 0..count {
            marker.window.push(take_entry(&mut rest).ok_or(truncated)?);
        }
        if !rest.is_empty() {
            return Err(MarkerError::Trailing { bytes: rest.len() });
        }
        Ok(marker)
    }
}

/// Encodes without owning a [`Marker`]. `entries`: at most [`RequestWindow::LENGTH_MAX`], oldest first.
pub(crate) fn encode<'a>(
    incarnation: ReplicaIncarnation,
    decree: Decree,
    ballot: Ballot,
    entries: impl ExactSizeIterator<Item = &'a WindowEntry>,
) -> Vec<u8> {
    let count = u16::try_from(entries.len()).expect("a window holds at most 1,024 entries");
    let mut out = Vec::with_capacity(FIXED_BYTES + usize::from(count) * 25 + CHECKSUM_BYTES);
    out.put_u8(MARKER_VERSION);
    out.put_u64_le(incarnation.0);
    out.put_u64_le(decree.0);
    out.put_u64_le(ballot.0);
    out.put_u16_le(count);
    for entry in entries {
        out.put_u64_le(entry.id.client);
        out.put_u64_le(entry.id.sequence);
        out.put_u64_le(entry.decree.0);
        out.put_u8(u8::try_from(entry.result.len()).expect("a result has at most 255 bytes"));
        out.put_slice(&entry.result);
    }
    let checksum = crc32c::crc32c(&out);
    out.put_u32_le(checksum);
    out
}

fn take_entry(rest: &mut &[u8]) -> Option<WindowEntry> {
    if rest.len() < 25 {
        return None;
    }
    let id = RequestId {
        client: rest.get_u64_le(),
        sequence: rest.get_u64_le(),
    };
    let decree = Decree(rest.get_u64_le());
    let length = usize::from(rest.get_u8());
    let (result, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(WindowEntry {
        id,
        decree,
        result: Bytes::copy_from_slice(result),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(sequence: u64) -> WindowEntry {
        let result = Bytes::from(vec![1; (sequence % 3) as usize]);
        WindowEntry {
            id: RequestId {
                client: 7,
                sequence,
            },
            decree: Decree(sequence),
            result,
        }
    }

    fn marker(entries: u64) -> Marker {
        let mut marker = Marker::new(ReplicaIncarnation(5));
        marker.decree = Decree(entries);
        marker.ballot = Ballot::new(1, 2);
        (1..=entries).for_each(|sequence| marker.window.push(entry(sequence)));
        marker
    }

    proptest! {
        #[test]
        fn decoding_inverts_encoding(entries in 0_u64..1500) {
            let marker = marker(entries);
            prop_assert_eq!(Marker::decode(&marker.encode()).unwrap(), marker);
        }

        #[test]
        fn any_flipped_bit_is_noticed(position in 0_usize..1000, bit in 0_u8..8) {
            let mut encoded = marker(3).encode();
            let length = encoded.len();
            encoded[position % length] ^= 1 << bit;
            prop_assert!(Marker::decode(&encoded).is_err());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..80), signed: bool) {
            if signed && !bytes.is_empty() {
                bytes[0] = MARKER_VERSION;
                let checksum = crc32c::crc32c(&bytes);
                bytes.put_u32_le(checksum);
            }
            let _ = Marker::decode(&bytes);
        }
    }

    #[test]
    fn the_window_keeps_the_newest_and_no_anonymous_requests() {
        let mut window = marker(RequestWindow::LENGTH_MAX as u64 + 1).window;
        assert_eq!(window.len(), RequestWindow::LENGTH_MAX);
        assert!(window.find(entry(1).id).is_none());
        assert_eq!(window.find(entry(2).id).unwrap().decree, Decree(2));
        window.push(WindowEntry {
            id: RequestId::default(),
            decree: Decree(9),
            result: Bytes::new(),
        });
        assert!(window.find(RequestId::default()).is_none());
    }
}
