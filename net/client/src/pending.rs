//! Who waits for which reply on one connection.

use pegasus_fbs::frame::Frame;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a waiting request gets.
pub(crate) type Outcome = Result<Frame, Lost>;

/// Why there will be no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// No byte of the request was given to the socket: it was not executed.
    Unsent(String),
    /// The body, of so many bytes, is over the limit of a frame: it was not executed and never will be.
    TooLarge(usize),
    /// It may have reached the server.
    Sent(String),
    /// Its deadline has passed. Whether it was sent, the asker knows.
    Expired,
    /// Its partition is served by another core now, and it may be repeated there.
    Moved { sent: bool },
}

/// What is to be known about a request while it waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// When the asker has no use for an answer any more; `None` if the asker sees to that.
    pub(crate) deadline: Option<Instant>,
    pub(crate) table: u32,
    pub(crate) partition: u32,
    /// Whether it may be sent to another core although this one may have executed it.
    pub(crate) repeatable: bool,
}

/// Waiting requests, found by their id in constant time. An id is the number of the request on this connection (its low
/// 32 bits, never 0, above) and its place (below), so an answer that comes after its asker has gone finds nobody.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    places: Vec<Option<Waiting>>,
    free: Vec<u32>,
    number: u64,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    number: u64,
    terms: Terms,
    sender: oneshot::Sender<Outcome>,
}

impl Pending {
    /// Adds a waiting request and returns its id. The caller bounds how many there are.
    pub(crate) fn insert(&mut self, terms: Terms, sender: oneshot::Sender<Outcome>) -> u64 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("the window is bounded by a million")
        });
        self.number += 1;
        if self.number << 32 == 0 {
            self.number += 1;
        }
        let id = (self.number << 32) | u64::from(place);
        let waiting = Waiting {
            id,
            number: self.number,
            terms,
            sender,
        };
        self.places[place as usize] = Some(waiting);
        id
    }

    /// Takes the request with this id out, if it still waits.
    pub(crate) fn take(&mut self, id: u64) -> Option<oneshot::Sender<Outcome>> {
        let place = usize::try_from(id & u64::from(u32::MAX)).ok()?;
        let waiting = self
            .places
            .get_mut(place)?
            .take_if(|waiting| waiting.id == id)?;
        self.free.push(u32::try_from(place).ok()?);
        Some(waiting.sender)
    }

    /// The number of the newest request.
    pub(crate) fn newest(&self) -> u64 {
        self.number
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// The requests that may be sent to another core: id, table and partition of each.
    pub(crate) fn repeatable(&self) -> Vec<(u64, u32, u32)> {
        self.places
            .iter()
            .flatten()
            .filter(|waiting| waiting.terms.repeatable)
            .map(|waiting| (waiting.id, waiting.terms.table, waiting.terms.partition))
            .collect()
    }

    /// Ends the requests whose deadline has come; returns the next deadline of those that still wait.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for (place, slot) in (0..).zip(&mut self.places) {
            let Some(deadline) = slot.as_ref().and_then(|waiting| waiting.terms.deadline) else {
                continue;
            };
            if deadline > now {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            } else if let Some(waiting) = slot.take() {
                self.free.push(place);
                let _ = waiting.sender.send(Err(Lost::Expired));
            }
        }
        next
    }

    /// Ends all waiting requests; those numbered above `sent_upto` were never given to the socket.
    pub(crate) fn fail_all(&mut self, sent_upto: u64, reason: &str) {
        self.free.clear();
        for waiting in self.places.drain(..).flatten() {
            let lost = if waiting.number > sent_upto {
                Lost::Unsent
            } else {
                Lost::Sent
            };
            let _ = waiting.sender.send(Err(lost(reason.to_owned())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(deadline: Option<Instant>) -> Terms {
        Terms {
            deadline,
            table: 1,
            partition: 0,
            repeatable: false,
        }
    }

    #[test]
    fn a_late_answer_finds_nobody_even_if_its_place_is_taken_again() {
        let mut pending = Pending::default();
        let first = pending.insert(until(None), oneshot::channel().0);
        assert!(pending.take(first).is_some());
        let second = pending.insert(until(None), oneshot::channel().0);
        assert_eq!(
            first & 0xffff_ffff,
            second & 0xffff_ffff,
            "the place is used again"
        );
        assert!(pending.take(first).is_none());
        assert!(pending.take(second).is_some());
        assert!(pending.is_empty());
    }

    #[test]
    fn ids_from_the_network_find_nobody() {
        let mut pending = Pending::default();
        pending.insert(until(None), oneshot::channel().0);
        for id in [0, 1, u64::MAX, 1 << 33] {
            assert!(pending.take(id).is_none(), "{id}");
        }
    }

    #[test]
    fn numbers_go_on_beyond_the_bits_of_an_id() {
        let mut pending = Pending {
            number: (1 << 32) - 2,
            ..Pending::default()
        };
        let ids: Vec<u64> = (0..3)
            .map(|_| pending.insert(until(None), oneshot::channel().0))
            .collect();
        assert!(ids.iter().all(|id| id >> 32 != 0), "{ids:x?}");
        assert!(ids.iter().all(|id| pending.take(*id).is_some()));
    }

    #[test]
    fn requests_that_were_never_written_are_told_apart_at_the_end() {
        let mut pending = Pending::default();
        let (sender, mut written) = oneshot::channel();
        pending.insert(until(None), sender);
        let sent_upto = pending.newest();
        let (sender, mut buffered) = oneshot::channel();
        pending.insert(until(None), sender);
        pending.fail_all(sent_upto, "closed");
        assert_eq!(
            written.try_recv().unwrap(),
            Err(Lost::Sent("closed".into()))
        );
        assert_eq!(
            buffered.try_recv().unwrap(),
            Err(Lost::Unsent("closed".into()))
        );
    }

    #[test]
    fn requests_end_at_their_deadline_and_the_next_one_is_known() {
        let mut pending = Pending::default();
        let now = Instant::now();
        let in_seconds = |seconds| Some(now + std::time::Duration::from_secs(seconds));
        let mut waiting = Vec::new();
        for deadline in [in_seconds(3), in_seconds(1), None, in_seconds(2)] {
            let (sender, receiver) = oneshot::channel();
            pending.insert(until(deadline), sender);
            waiting.push(receiver);
        }
        assert_eq!(pending.expire(now), in_seconds(1));
        assert_eq!(pending.expire(in_seconds(2).unwrap()), in_seconds(3));
        let ended: Vec<bool> = waiting
            .iter_mut()
            .map(|receiver| receiver.try_recv() == Ok(Err(Lost::Expired)))
            .collect();
        assert_eq!(ended, [false, true, false, true]);
        assert_eq!(pending.expire(in_seconds(3).unwrap()), None);
        assert!(!pending.is_empty(), "one has no deadline");
    }

    #[test]
    fn only_requests_that_may_be_repeated_are_listed_as_such() {
        let mut pending = Pending::default();
        pending.insert(until(None), oneshot::channel().0);
        let terms = Terms {
            repeatable: true,
            table: 7,
            partition: 3,
            ..until(None)
        };
        let id = pending.insert(terms, oneshot::channel().0);
        assert_eq!(pending.repeatable(), [(id, 7, 3)]);
        pending.take(id);
        assert!(pending.repeatable().is_empty());
    }
}
