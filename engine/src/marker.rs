//! The marker: what a replica's own column family says of itself, durable together with the rows it describes.
//!
//! It lies under a key of one byte, which every reader of rows skips (raw keys have at least two), and is written in
//! the same atomic batch as the rows of its decree. So whatever a crash leaves, the marker's decree and everything
//! before it are there. Layout: `docs/formats.md`, "Marker".

use crate::atomic::RequestOutcome;
use crate::plain::PlainKeys;
use bytes::{Buf, BufMut, Bytes};
use pegasus_replication::ids::{Ballot, Decree, ReplicaIncarnation, RequestId};
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

/// The marker's key; sorts before every raw key.
pub const MARKER_KEY: [u8; 1] = [0];

/// A marker is written at least every so many decrees, or a quarter of the request ids that it holds if that is more...
pub const MARKER_DECREES_MAX: u64 = 256;
/// ... or bytes of payload applied, whichever comes first, and right before a flush of ours.
pub const MARKER_BYTES_MAX: u64 = 1 << 20;

/// The newest version this code writes and reads. Where nothing is known of plain hash keys it writes version 2, and without
/// floors then version 1.
pub const MARKER_VERSION: u8 = 3;

const VERSION_BARE: u8 = 1;
const VERSION_WITH_FLOORS: u8 = 2;

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

/// The last mutations with a request id, oldest first, and what is known of those before.
///
/// Clients number their requests upwards. Of a client whose mutations have been pushed out of the window the highest number
/// of them is kept, its *floor*: what is not in the window and not above the floor may have been applied.
#[derive(Clone, Debug, Default)]
pub struct RequestWindow {
    entries: VecDeque<WindowEntry>,
    /// Mutations that have been pushed out so far; with the place in `entries` it gives the values of `places`.
    pushed_out: u64,
    /// Where the newest mutation of an id is, counted from the first ever.
    places: HashMap<RequestId, u64>,
    floors: Floors,
}

/// Client and the highest number forgotten of it, the one that grew last at the end.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Floors {
    floors: VecDeque<(u64, u64)>,
    /// Floors have been dropped: a client without one is new, or old.
    are_partial: bool,
}

impl RequestWindow {
    /// Mutations remembered per replica; an older id can only be answered "unknown".
    pub const LENGTH_MAX: usize = 4096;
    /// Bytes of one remembered result.
    pub const RESULT_BYTES_MAX: usize = crate::op::RESULT_BYTES_MAX;
    /// Clients whose floor is kept.
    pub const FLOORS_MAX: usize = 256;

    /// Remembers `entry`, forgetting the oldest one if the window is full. A client of 0 means "none" and is not kept.
    pub fn push(&mut self, entry: WindowEntry) {
        if entry.id.client == 0 {
            return;
        }
        if self.entries.len() == Self::LENGTH_MAX {
            self.forget_oldest();
        }
        let place = self.pushed_out + self.entries.len() as u64;
        self.places.insert(entry.id, place);
        self.entries.push_back(entry);
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else {
            return;
        };
        if self.places.get(&oldest.id) == Some(&self.pushed_out) {
            self.places.remove(&oldest.id);
        }
        self.pushed_out += 1;
        self.floors.raise(oldest.id);
    }

    /// The remembered mutation of `id`, if any; the newest if it was applied twice.
    #[must_use]
    pub fn find(&self, id: RequestId) -> Option<&WindowEntry> {
        let place = self.places.get(&id)?.checked_sub(self.pushed_out)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// What is known of `id`; `is_retry`: it was sent before. A first attempt of a client without a floor counts as new even
    /// if floors have been dropped: a client that comes anew has none.
    #[must_use]
    pub fn outcome(&self, id: RequestId, is_retry: bool) -> RequestOutcome {
        if let Some(entry) = self.find(id) {
            return RequestOutcome::Applied {
                decree: entry.decree,
                result: entry.result.clone(),
            };
        }
        match self.floors.of(id.client) {
            Some(floor) if id.sequence <= floor => RequestOutcome::Forgotten,
            None if is_retry && self.floors.are_partial => RequestOutcome::Forgotten,
            _ => RequestOutcome::New,
        }
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

impl PartialEq for RequestWindow {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries && self.floors == other.floors
    }
}

impl Eq for RequestWindow {}

impl Floors {
    fn raise(&mut self, id: RequestId) {
        let mut floors = self.floors.iter();
        let known = floors.rposition(|(client, _)| *client == id.client);
        let before = known.and_then(|position| self.floors.remove(position));
        let floor = before.map_or(id.sequence, |(_, floor)| floor.max(id.sequence));
        if self.floors.len() == RequestWindow::FLOORS_MAX {
            self.floors.pop_front();
            self.are_partial = true;
        }
        self.floors.push_back((id.client, floor));
    }

    fn of(&self, client: u64) -> Option<u64> {
        let floor = self.floors.iter().rev().find(|(of, _)| *of == client);
        floor.map(|(_, floor)| *floor)
    }

    fn is_nothing(&self) -> bool {
        self.floors.is_empty() && !self.are_partial
    }

    fn put(&self, out: &mut Vec<u8>) {
        let count = u16::try_from(self.floors.len()).expect("at most 256 floors are kept");
        out.put_u8(self.are_partial.into());
        out.put_u16_le(count);
        for (client, floor) in &self.floors {
            out.put_u64_le(*client);
            out.put_u64_le(*floor);
        }
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        if rest.len() < 3 {
            return None;
        }
        let mut floors = Self {
            are_partial: rest.get_u8() != 0,
            floors: VecDeque::new(),
        };
        let count = usize::from(rest.get_u16_le());
        if count > RequestWindow::FLOORS_MAX || rest.len() < 16 * count {
            return None;
        }
        let clients = (0..count).map(|_| (rest.get_u64_le(), rest.get_u64_le()));
        floors.floors.extend(clients);
        Some(floors)
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
    /// Hash keys without rows that have a sort key.
    pub(crate) plain: PlainKeys,
}

/// Bytes that are not a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    #[error("marker has format version {version}, this build reads 1 to {MARKER_VERSION}")]
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
            plain: PlainKeys::All,
        }
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(
            self.incarnation,
            self.decree,
            self.ballot,
            &self.window,
            None,
            &self.plain,
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
        if !(VERSION_BARE..=MARKER_VERSION).contains(&version) {
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
        if version >= VERSION_WITH_FLOORS {
            marker.window.floors = Floors::take(&mut rest).ok_or(truncated)?;
        }
        marker.plain = PlainKeys::Unknown;
        if version == MARKER_VERSION {
            marker.plain = PlainKeys::take(&mut rest).ok_or(truncated)?;
        }
        if !rest.is_empty() {
            return Err(MarkerError::Trailing { bytes: rest.len() });
        }
        Ok(marker)
    }
}

/// Encodes without owning a [`Marker`]: of `window`, with `newest` pushed into it.
pub(crate) fn encode(
    incarnation: ReplicaIncarnation,
    decree: Decree,
    ballot: Ballot,
    window: &RequestWindow,
    newest: Option<&WindowEntry>,
    plain: &PlainKeys,
) -> Vec<u8> {
    let newest = newest.filter(|newest| newest.id.client != 0);
    let mut floors = Cow::Borrowed(&window.floors);
    let mut oldest = 0;
    if newest.is_some()
        && window.entries.len() == RequestWindow::LENGTH_MAX
        && let Some(pushed_out) = window.entries.front()
    {
        floors.to_mut().raise(pushed_out.id);
        oldest = 1;
    }
    let count = window.entries.len() - oldest + usize::from(newest.is_some());
    let entries = window.entries.iter().skip(oldest).chain(newest);
    let count = u16::try_from(count).expect("a window holds at most 4,096 entries");
    let plain = plain.encode();
    let version = match &plain {
        Some(_) => MARKER_VERSION,
        None if floors.is_nothing() => VERSION_BARE,
        None => VERSION_WITH_FLOORS,
    };
    let mut out = Vec::with_capacity(FIXED_BYTES + usize::from(count) * 36 + CHECKSUM_BYTES);
    out.put_u8(version);
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
    if version >= VERSION_WITH_FLOORS {
        floors.put(&mut out);
    }
    if let Some(plain) = plain {
        out.put_slice(&plain);
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
        fn decoding_inverts_encoding(entries in 0_u64..5000) {
            let marker = marker(entries);
            prop_assert_eq!(Marker::decode(&marker.encode()).unwrap(), marker);
        }

        #[test]
        fn a_marker_is_encoded_as_if_its_newest_request_were_pushed(entries in 4090_u64..4110) {
            let (before, after) = (marker(entries), marker(entries + 1));
            let newest = entry(entries + 1);
            let encoded = encode(after.incarnation, after.decree, after.ballot, &before.window, Some(&newest), &after.plain);
            prop_assert_eq!(encoded, after.encode());
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
                bytes[0] = 1 + bytes[0] % MARKER_VERSION;
                let checksum = crc32c::crc32c(&bytes);
                bytes.put_u32_le(checksum);
            }
            let _ = Marker::decode(&bytes);
        }
    }

    fn id(client: u64, sequence: u64) -> RequestId {
        RequestId { client, sequence }
    }

    fn pushed(window: &mut RequestWindow, client: u64, sequence: u64) {
        window.push(WindowEntry {
            id: id(client, sequence),
            decree: Decree(sequence),
            result: Bytes::from_static(b"r"),
        });
    }

    #[test]
    fn an_id_is_applied_new_or_forgotten() {
        let length = RequestWindow::LENGTH_MAX as u64;
        let mut window = RequestWindow::default();
        (1..=length).for_each(|sequence| pushed(&mut window, 7, sequence));
        assert_eq!(window.outcome(id(7, length + 1), true), RequestOutcome::New);
        assert_eq!(
            window.outcome(id(7, 1), true),
            RequestOutcome::Applied {
                decree: Decree(1),
                result: Bytes::from_static(b"r")
            }
        );
        // Number 3 came late, and is pushed out before higher ones: those below the highest pushed out are not certain.
        pushed(&mut window, 8, 1);
        pushed(&mut window, 8, 2);
        for forgotten in [0, 1, 2] {
            assert_eq!(
                window.outcome(id(7, forgotten), false),
                RequestOutcome::Forgotten
            );
        }
        assert!(matches!(
            window.outcome(id(7, 3), false),
            RequestOutcome::Applied { .. }
        ));
        assert_eq!(window.outcome(id(9, 1), true), RequestOutcome::New);
    }

    #[test]
    fn a_retry_of_a_client_whose_floor_is_dropped_is_not_certain() {
        let clients = RequestWindow::FLOORS_MAX as u64 + 1;
        let mut window = RequestWindow::default();
        (1..=clients).for_each(|client| pushed(&mut window, client, 5));
        (0..RequestWindow::LENGTH_MAX as u64)
            .for_each(|sequence| pushed(&mut window, 9999, sequence));
        assert_eq!(window.outcome(id(1, 5), true), RequestOutcome::Forgotten);
        assert_eq!(window.outcome(id(1, 5), false), RequestOutcome::New);
        assert_eq!(window.outcome(id(2, 5), false), RequestOutcome::Forgotten);
        assert_eq!(window.outcome(id(2, 6), true), RequestOutcome::New);
    }

    #[test]
    fn what_is_forgotten_is_so_after_a_start_too() {
        let mut before = marker(RequestWindow::LENGTH_MAX as u64 + 9);
        pushed(&mut before.window, 3, 1);
        let after = Marker::decode(&before.encode()).unwrap();
        assert_eq!(after, before);
        assert_eq!(
            after.window.outcome(id(7, 10), false),
            RequestOutcome::Forgotten
        );
        assert!(matches!(
            after.window.outcome(id(7, 11), false),
            RequestOutcome::Applied { .. }
        ));
    }

    #[test]
    fn markers_of_all_versions_are_read() {
        let newest = marker(3);
        assert_eq!(newest.encode()[0], MARKER_VERSION);
        assert_eq!(Marker::decode(&newest.encode()).unwrap(), newest);
        let window = RequestWindow::LENGTH_MAX as u64;
        for (version, entries) in [(VERSION_BARE, 3), (VERSION_WITH_FLOORS, window + 1)] {
            let old = Marker {
                plain: PlainKeys::Unknown,
                ..marker(entries)
            };
            assert_eq!(old.encode()[0], version);
            assert_eq!(Marker::decode(&old.encode()).unwrap(), old);
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
