//! What a primary knows of one secondary: how far it has acknowledged, what is under way to it, whether it takes part.

use crate::config::Member;
use crate::ids::Decree;
use crate::shard::links::Links;
use std::collections::VecDeque;

/// Whether prepares go to a secondary. The link itself (up or down) is the shard's business.
///
/// ```text
///   Probing <---- gap, link broken ---- Steady
///      |  \------- its state ----------->  |
///      |                                   |
///      +----> OutOfService (until it answers with a state)
///      +----> Lost (until a newer ballot)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Asked by a beacon where to send from; nothing is sent before the answer.
    Probing,
    /// Prepares follow one another.
    Steady,
    /// It has said that it has no replica, or one that is quarantined or opening.
    OutOfService,
    /// It lacks what it had acknowledged, or cannot be matched.
    Lost,
}

#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) member: Member,
    pub(crate) reach: Reach,
    /// Durable there under our ballot.
    pub(crate) acknowledged: Decree,
    /// The last decree sent since it was last settled where to send from.
    pub(crate) sent: Decree,
    /// Answers to beacons before this number belong to an earlier link.
    pub(crate) fresh_from: u64,
    /// Sent and not acknowledged, with their sizes: they count against the window of the link.
    unacknowledged: VecDeque<(Decree, usize)>,
    /// Gaps since the last acknowledgement that moved.
    gaps: u32,
}

impl Progress {
    /// Gaps in a row before a secondary counts as one that cannot be matched. Each costs a round trip and is answered by
    /// sending again from where the secondary says it is, so that more than a few mean that the two orders differ.
    const GAPS_MAX: u32 = 8;

    pub(crate) fn new(member: Member) -> Self {
        let (acknowledged, sent) = (Decree::ZERO, Decree::ZERO);
        let unacknowledged = VecDeque::new();
        Self {
            member,
            reach: Reach::Probing,
            acknowledged,
            sent,
            fresh_from: 0,
            unacknowledged,
            gaps: 0,
        }
    }

    /// A prepare of `bytes` leaves.
    pub(crate) fn note_sent(&mut self, decree: Decree, bytes: usize, links: &mut Links) {
        assert_eq!(decree, self.sent.next(), "a prepare out of order");
        self.sent = decree;
        self.unacknowledged.push_back((decree, bytes));
        links.link(self.member.address).inflight_bytes += bytes;
    }

    /// Everything up to `prepared` is durable there. True if that is news.
    pub(crate) fn note_acknowledged(&mut self, prepared: Decree, links: &mut Links) -> bool {
        let link = links.link(self.member.address);
        while let Some((decree, bytes)) = self.unacknowledged.front().copied() {
            if decree > prepared {
                break;
            }
            self.unacknowledged.pop_front();
            link.inflight_bytes = link
                .inflight_bytes
                .checked_sub(bytes)
                .expect("counted when it was sent");
        }
        let news = prepared > self.acknowledged;
        if news {
            self.acknowledged = prepared;
            self.gaps = 0;
        }
        news
    }

    /// Nothing that was sent counts any more; the next prepare is the one after `sent`.
    pub(crate) fn restart_after(&mut self, sent: Decree, links: &mut Links) {
        let bytes: usize = self.unacknowledged.drain(..).map(|(_, bytes)| bytes).sum();
        let link = links.link(self.member.address);
        link.inflight_bytes = link
            .inflight_bytes
            .checked_sub(bytes)
            .expect("counted when it was sent");
        self.sent = sent;
    }

    /// Counts a gap; false when there were too many in a row.
    pub(crate) fn note_gap(&mut self) -> bool {
        self.gaps += 1;
        self.gaps <= Self::GAPS_MAX
    }

    /// Whether it is known not to take part.
    pub(crate) fn is_out(&self) -> bool {
        matches!(self.reach, Reach::OutOfService | Reach::Lost)
    }
}
