//! Writes of one connection on one key, in the order in which they came.
//!
//! ```text
//!   a line    [ Away | Refused | Failed | Away ]   [ Ready | Coming | Ready ]
//!               sent, all of them one way            not sent yet
//! ```
//!
//! Writes of a line are sent one behind the other without waiting for answers: whatever way they take keeps them in order.
//! When one is refused, nothing more is sent until all that were sent have their answers. If all were refused they are sent
//! again, in order. If a later one was executed, or may have been, those refused before it are overtaken: they would change
//! the key after what the client has sent later, so they are not sent again.

use super::commands::PartId;
use pegasus_net::spread::Spread;
use pegasus_replication::ids::CoreAddress;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

/// Names the writes of one connection on one key, by the key's hash. Tables are not told apart: they wait without need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LineId {
    pub(super) connection: u64,
    pub(super) key: u64,
}

/// All lines with writes that are not answered.
#[derive(Debug, Default)]
pub(super) struct Order {
    lines: HashMap<LineId, Line, Spread>,
    /// Of lines that are over, for new ones.
    spare: Vec<VecDeque<Place>>,
}

#[derive(Debug, Default)]
struct Line {
    places: VecDeque<Place>,
    /// So many from the front were sent.
    sent: usize,
    /// So many of those were not executed and are still here.
    stopped: usize,
    /// Where they were sent; `None` = nobody knew where to.
    way: Option<CoreAddress>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    part: PartId,
    state: State,
    /// A later one was executed, or may have been.
    is_overtaken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its command does not ask for it yet.
    Coming,
    Ready,
    Away,
    /// Not answered, and nobody has looked why.
    Failed,
    /// To be sent again.
    Refused,
}

/// What a line needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// This one may be sent if it goes where the others went; with `way` = `None` anywhere.
    Send {
        part: PartId,
        way: Option<Way>,
    },
    /// All that were sent were refused: they are to be sent again.
    Resume,
}

/// Where those that are away went.
pub(super) type Way = Option<CoreAddress>;

impl Order {
    /// A write has come.
    pub(super) fn join(&mut self, line: LineId, part: PartId) {
        let place = Place {
            part,
            state: State::Coming,
            is_overtaken: false,
        };
        let line = match self.lines.entry(line) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Line {
                places: self.spare.pop().unwrap_or_default(),
                ..Line::default()
            }),
        };
        line.places.push_back(place);
    }

    /// Its command asks for it. Returns what the line needs now.
    pub(super) fn make_ready(&mut self, line: LineId, part: PartId) -> Next {
        let Some(line) = self.lines.get_mut(&line) else {
            return Next::Nothing;
        };
        let mut unsent = line.places.range_mut(line.sent..);
        if let Some(place) = unsent.find(|it| it.part == part) {
            place.state = State::Ready;
        }
        line.next()
    }

    pub(super) fn next(&self, line: LineId) -> Next {
        self.lines.get(&line).map_or(Next::Nothing, Line::next)
    }

    /// The one that [`Order::next`] named is sent.
    pub(super) fn send(&mut self, line: LineId, way: Way) {
        if let Some(line) = self.lines.get_mut(&line)
            && let Some(place) = line.places.get_mut(line.sent)
        {
            place.state = State::Away;
            line.sent += 1;
            line.way = way;
        }
    }

    /// It was not answered: nothing is sent behind it.
    pub(super) fn fail(&mut self, line: LineId, part: PartId) {
        if let Some(line) = self.lines.get_mut(&line)
            && let Some(place) = line.places.iter_mut().find(|it| it.part == part)
            && place.state == State::Away
        {
            place.state = State::Failed;
            line.stopped += 1;
        }
    }

    /// It is to be sent again, if no later one is executed until then. False: one was, and it stays as it is.
    pub(super) fn refuse(&mut self, line: LineId, part: PartId) -> bool {
        if let Some(line) = self.lines.get_mut(&line)
            && let Some(place) = line.places.iter_mut().find(|it| it.part == part)
            && place.state == State::Failed
            && !place.is_overtaken
        {
            place.state = State::Refused;
            return true;
        }
        false
    }

    /// All that were refused may be sent again, if there is nothing else that was sent.
    pub(super) fn resume(&mut self, line: LineId) {
        if self.next(line) != Next::Resume {
            return;
        }
        if let Some(line) = self.lines.get_mut(&line) {
            for place in line.places.range_mut(..line.sent) {
                place.state = State::Ready;
            }
            line.sent = 0;
            line.stopped = 0;
        }
    }

    /// It has its answer, or is given up; `took_effect` if it was executed or may have been. Returns those before it that
    /// were to be sent again, and now must not be; and what the line needs now.
    pub(super) fn leave(
        &mut self,
        id: LineId,
        part: PartId,
        took_effect: bool,
    ) -> (Vec<PartId>, Next) {
        let Entry::Occupied(mut entry) = self.lines.entry(id) else {
            return (Vec::new(), Next::Nothing);
        };
        let line = entry.get_mut();
        let overtaken = line.leave(part, took_effect);
        let next = line.next();
        if line.places.is_empty() {
            let Line { places, .. } = entry.remove();
            if self.spare.len() < SPARE_MAX && places.capacity() <= SPARE_PLACES_MAX {
                self.spare.push(places);
            }
            if self.lines.is_empty() && self.lines.capacity() > LINES_KEPT {
                self.lines = HashMap::default();
            }
        }
        (overtaken, next)
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl Line {
    fn next(&self) -> Next {
        if self.stopped > 0 {
            let mut sent = self.places.range(..self.sent);
            let is_again = self.stopped == self.sent && sent.all(|it| it.state == State::Refused);
            return if is_again {
                Next::Resume
            } else {
                Next::Nothing
            };
        }
        match self.places.get(self.sent) {
            Some(place) if place.state == State::Ready && self.sent < AWAY_MAX => Next::Send {
                part: place.part,
                way: (self.sent > 0).then_some(self.way),
            },
            _ => Next::Nothing,
        }
    }

    fn leave(&mut self, part: PartId, took_effect: bool) -> Vec<PartId> {
        let Some(index) = self.places.iter().position(|it| it.part == part) else {
            return Vec::new();
        };
        let Some(place) = self.places.remove(index) else {
            return Vec::new();
        };
        let was_stopped = matches!(place.state, State::Failed | State::Refused);
        self.stopped -= usize::from(was_stopped);
        self.sent -= usize::from(index < self.sent);
        // Given up while it is away: nobody knows.
        if took_effect || place.state == State::Away {
            self.overtake(index)
        } else {
            Vec::new()
        }
    }

    /// What stood before this index is older than what was executed.
    fn overtake(&mut self, index: usize) -> Vec<PartId> {
        let mut overtaken = Vec::new();
        for place in self.places.range_mut(..index) {
            place.is_overtaken = true;
            if place.state == State::Refused {
                place.state = State::Failed;
                overtaken.push(place.part);
            }
        }
        overtaken
    }
}

/// Writes of a line that are sent without an answer: as many as a connection may have in work. Whoever executes them keeps
/// them in order while it has no room for them; only when their primary is lost may some be overtaken.
const AWAY_MAX: usize = 256;
/// Room for lines that an idle core keeps.
const LINES_KEPT: usize = 4096;
/// Room for places of lines to come: so many, of so many places each.
const SPARE_MAX: usize = 1024;
const SPARE_PLACES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_replication::ids::{CoreId, NodeId};

    const LINE: LineId = LineId {
        connection: 1,
        key: 7,
    };

    const fn way(core: u16) -> Way {
        Some(CoreAddress {
            node: NodeId(1),
            core: CoreId(core),
        })
    }

    /// A line of so many writes that are ready.
    fn line(count: u32) -> (Order, Vec<PartId>) {
        let mut order = Order::default();
        let parts: Vec<PartId> = (0..count).map(PartId::of_number).collect();
        for part in &parts {
            order.join(LINE, *part);
            order.make_ready(LINE, *part);
        }
        (order, parts)
    }

    /// Sends what may be sent on one way.
    fn send_all(order: &mut Order) -> Vec<PartId> {
        let mut sent = Vec::new();
        while let Next::Send { part, .. } = order.next(LINE) {
            order.send(LINE, way(0));
            sent.push(part);
        }
        sent
    }

    #[test]
    fn writes_are_sent_one_behind_the_other_without_waiting() {
        let (mut order, parts) = line(3);
        assert_eq!(send_all(&mut order), parts);
        for part in parts {
            assert!(order.leave(LINE, part, true).0.is_empty());
        }
        assert!(order.is_empty());
    }

    #[test]
    fn only_so_many_of_a_line_are_on_their_way() {
        let (mut order, parts) = line(260);
        assert_eq!(send_all(&mut order), parts[..AWAY_MAX]);
        let next = order.leave(LINE, parts[0], true).1;
        assert!(matches!(next, Next::Send { part, .. } if part == parts[AWAY_MAX]));
    }

    #[test]
    fn nothing_overtakes_a_write_whose_command_waits() {
        let mut order = Order::default();
        let (first, second) = (PartId::of_number(0), PartId::of_number(1));
        order.join(LINE, first);
        order.join(LINE, second);
        order.make_ready(LINE, second);
        assert_eq!(order.next(LINE), Next::Nothing);
        order.make_ready(LINE, first);
        assert_eq!(send_all(&mut order), [first, second]);
    }

    #[test]
    fn all_that_were_refused_are_sent_again_in_order() {
        let (mut order, parts) = line(3);
        send_all(&mut order);
        order.fail(LINE, parts[1]);
        let late = PartId::of_number(9);
        order.join(LINE, late);
        order.make_ready(LINE, late);
        assert_eq!(order.next(LINE), Next::Nothing, "nothing goes behind it");
        for part in [parts[0], parts[2]] {
            order.fail(LINE, part);
        }
        for part in &parts {
            assert_eq!(order.next(LINE), Next::Nothing);
            assert!(order.refuse(LINE, *part));
        }
        assert_eq!(order.next(LINE), Next::Resume);
        order.resume(LINE);
        assert_eq!(send_all(&mut order), [parts[0], parts[1], parts[2], late]);
    }

    #[test]
    fn a_write_that_was_overtaken_is_not_sent_again() {
        let (mut order, parts) = line(4);
        send_all(&mut order);
        order.fail(LINE, parts[0]);
        assert!(order.refuse(LINE, parts[0]));
        assert_eq!(order.leave(LINE, parts[2], true).0, [parts[0]]);
        assert!(!order.refuse(LINE, parts[0]));
        order.fail(LINE, parts[1]);
        assert!(!order.refuse(LINE, parts[1]), "it is older, too");
        order.fail(LINE, parts[3]);
        assert!(order.refuse(LINE, parts[3]), "nothing is newer");
        order.leave(LINE, parts[0], false);
        order.leave(LINE, parts[1], false);
        assert_eq!(order.next(LINE), Next::Resume);
        order.resume(LINE);
        assert_eq!(send_all(&mut order), [parts[3]]);
    }

    #[test]
    fn a_write_that_is_given_up_while_it_is_away_may_have_been_executed() {
        let (mut order, parts) = line(2);
        send_all(&mut order);
        order.fail(LINE, parts[0]);
        assert!(order.refuse(LINE, parts[0]));
        assert_eq!(order.leave(LINE, parts[1], false).0, [parts[0]]);
        let (mut order, parts) = line(2);
        send_all(&mut order);
        for part in &parts {
            order.fail(LINE, *part);
        }
        assert!(order.refuse(LINE, parts[0]));
        assert!(order.leave(LINE, parts[1], false).0.is_empty());
        assert_eq!(order.next(LINE), Next::Resume);
    }

    #[test]
    fn the_way_of_those_that_are_away_is_known() {
        let (mut order, parts) = line(2);
        let first = Next::Send {
            part: parts[0],
            way: None,
        };
        assert_eq!(order.next(LINE), first);
        order.send(LINE, way(3));
        let second = Next::Send {
            part: parts[1],
            way: Some(way(3)),
        };
        assert_eq!(order.next(LINE), second);
        order.leave(LINE, parts[0], true);
        let alone = Next::Send {
            part: parts[1],
            way: None,
        };
        assert_eq!(order.next(LINE), alone);
    }
}
