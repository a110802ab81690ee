//! Scans over rows that were removed: RocksDB keeps a mark for each until compactions have dropped it, an iterator passes
//! them one by one, and millions of them in a row would keep it for seconds without a row to show.
//!
//! RocksDB can be told to give up after so many, but does not say where it was. So a scan that gives up looks at pieces of
//! its range that it can be through with: first the keys that differ from where it stands in their last byte only, then in
//! their last two, and so on. A page that found nothing ends between rows, at the end of the last piece. Keys that begin with
//! one another (`a`, `a0`, `a00`, all zeros) lie in one piece however long what its keys have in common: such a piece is
//! looked through to its end.

use crate::scan::{Order, ScanPage, ScanSpec, Stop};
use crate::{ReadError, key};
use bytes::{Bytes, BytesMut};
use std::ops::Bound;
use std::time::{Duration, Instant};

/// Pieces of one page, and those that were too large.
const PIECES_MAX: usize = 512;
const CUT_OFF_MAX: usize = 4;
/// Of those from one place: a piece that is smaller still is looked through, however many removed rows it has.
const NARROWED_MAX: usize = 64;
/// After this no further piece is begun.
const TIME_MAX: Duration = Duration::from_millis(5);
/// The smallest raw key.
const FIRST: &[u8] = &[0; key::HASH_KEY_LENGTH_BYTES];

/// What became of a look at a range.
pub(super) enum Attempt {
    Page(ScanPage),
    /// It has passed too many removed rows before anything was found.
    CutOff,
}

pub(super) fn may_rest(spec: &ScanSpec) -> bool {
    spec.may_rest_between_rows && spec.order == Order::Ascending
}

/// One page; `attempt` reads a page of whatever range it is given, and is cut off only where the read may rest.
pub(super) fn scan(
    spec: &ScanSpec,
    attempt: impl Fn(&ScanSpec) -> Result<Attempt, ReadError>,
) -> Result<ScanPage, ReadError> {
    if let Attempt::Page(page) = attempt(spec)? {
        return Ok(page);
    }
    let began = Instant::now();
    let mut walk = Walk::new(spec);
    for _ in 0..PIECES_MAX {
        let Some(piece) = walk.piece(spec) else {
            return Ok(ScanPage::empty());
        };
        match attempt(&piece.spec)? {
            Attempt::Page(page) if piece.is_last || page.stop != Stop::Exhausted => {
                return Ok(page);
            }
            Attempt::Page(page) if page.examined > 0 => {
                return Ok(ScanPage {
                    stop: Stop::Yield { after: piece.end },
                    ..page
                });
            }
            Attempt::Page(_) => walk.pass(piece.end),
            Attempt::CutOff => walk.narrow(),
        }
        let is_time = began.elapsed() >= TIME_MAX || walk.cut_off >= CUT_OFF_MAX;
        if is_time && walk.passed.is_some() {
            break;
        }
    }
    let after = walk
        .passed
        .expect("pieces are passed after NARROWED_MAX that were too large");
    Ok(ScanPage {
        stop: Stop::Yield { after },
        ..ScanPage::empty()
    })
}

/// Where a scan stands between rows, and how far it dares to go.
struct Walk {
    /// The next piece begins with this key.
    from: Bytes,
    /// Bytes that all keys of a piece have in common, but for the last of them.
    depth: usize,
    /// Pieces of fewer bytes have been too large.
    depth_min: usize,
    /// The last key of what is done.
    passed: Option<Bytes>,
    cut_off: usize,
}

struct Piece {
    spec: ScanSpec,
    /// Its last key.
    end: Bytes,
    /// It reaches the end of the scan.
    is_last: bool,
}

impl Walk {
    fn new(spec: &ScanSpec) -> Self {
        let from = match &spec.start {
            Bound::Included(key) => key.clone(),
            Bound::Excluded(key) => following(key),
            Bound::Unbounded => Bytes::from_static(FIRST),
        };
        Self {
            depth: from.len(),
            from,
            depth_min: 1,
            passed: None,
            cut_off: 0,
        }
    }

    /// The next piece; `None`: nothing lies behind.
    fn piece(&self, spec: &ScanSpec) -> Option<Piece> {
        let mut common = BytesMut::from(&self.from[..]);
        common.resize(self.depth, 0);
        let end = key::prefix_successor(&common).map(well_formed);
        let is_last = end.as_ref().is_none_or(|end| is_behind(end, &spec.stop));
        let stop = match &end {
            Some(end) if !is_last => Bound::Included(end.clone()),
            _ => spec.stop.clone(),
        };
        let spec = ScanSpec {
            start: Bound::Included(self.from.clone()),
            stop,
            within: None,
            may_rest_between_rows: self.cut_off < NARROWED_MAX,
            ..spec.clone()
        };
        (!spec.is_empty()).then_some(Piece {
            spec,
            end: end.unwrap_or_default(),
            is_last,
        })
    }

    /// Nothing is up to `end`, which included: on with larger pieces.
    fn pass(&mut self, end: Bytes) {
        self.from = following(&end);
        self.passed = Some(end);
        self.depth = (self.depth - 1).max(self.depth_min);
    }

    /// The piece was too large.
    fn narrow(&mut self) {
        self.cut_off += 1;
        self.depth += 1;
        self.depth_min = self.depth;
    }
}

fn is_behind(end: &Bytes, stop: &Bound<Bytes>) -> bool {
    match stop {
        Bound::Included(stop) | Bound::Excluded(stop) => end >= stop,
        Bound::Unbounded => false,
    }
}

/// The smallest key above `key`.
fn following(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

/// The smallest raw key from `bytes` on: as long as the length of its hash key says.
fn well_formed(bytes: Bytes) -> Bytes {
    let mut padded = BytesMut::from(&bytes[..]);
    padded.resize(bytes.len().max(key::HASH_KEY_LENGTH_BYTES), 0);
    let [high, low, ..] = padded[..] else {
        return bytes;
    };
    let least = key::HASH_KEY_LENGTH_BYTES + usize::from(u16::from_be_bytes([high, low]));
    padded.resize(padded.len().max(least), 0);
    padded.freeze()
}

#[cfg(test)]
mod tests;
