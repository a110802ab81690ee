//! Who waits for which reply on one connection.

use pegasus_fbs::frame::Frame;
use tokio::sync::oneshot;

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
}

/// Waiting requests, found by their id in constant time. An id is the number of the request on this connection (high
/// 32 bits, from 1) and its place (low 32 bits), so an answer that comes after its asker has gone finds nobody.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    places: Vec<Option<Waiting>>,
    free: Vec<u32>,
    number: u32,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    sender: oneshot::Sender<Outcome>,
}

impl Pending {
    /// Adds a waiting request and returns its id; `None` when a connection has used up its numbers or places.
    pub(crate) fn insert(&mut self, sender: oneshot::Sender<Outcome>) -> Option<u64> {
        self.number = self.number.checked_add(1)?;
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.places.push(None);
                u32::try_from(self.places.len() - 1).ok()?
            }
        };
        let id = (u64::from(self.number) << 32) | u64::from(place);
        *self.places.get_mut(place as usize)? = Some(Waiting { id, sender });
        Some(id)
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
    pub(crate) fn newest(&self) -> u32 {
        self.number
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Ends all waiting requests; those numbered above `sent_upto` were never given to the socket.
    pub(crate) fn fail_all(&mut self, sent_upto: u32, reason: &str) {
        self.free.clear();
        for waiting in self.places.drain(..).flatten() {
            let lost = if waiting.id >> 32 > u64::from(sent_upto) {
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

    #[test]
    fn a_late_answer_finds_nobody_even_if_its_place_is_taken_again() {
        let mut pending = Pending::default();
        let first = pending.insert(oneshot::channel().0).unwrap();
        assert!(pending.take(first).is_some());
        let second = pending.insert(oneshot::channel().0).unwrap();
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
        pending.insert(oneshot::channel().0).unwrap();
        for id in [0, 1, u64::MAX, 1 << 33] {
            assert!(pending.take(id).is_none(), "{id}");
        }
    }

    #[test]
    fn requests_that_were_never_written_are_told_apart_at_the_end() {
        let mut pending = Pending::default();
        let (sender, mut written) = oneshot::channel();
        pending.insert(sender).unwrap();
        let sent_upto = pending.newest();
        let (sender, mut buffered) = oneshot::channel();
        pending.insert(sender).unwrap();
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
}
