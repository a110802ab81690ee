//! What a primary knows of one secondary or learner: how far it has acknowledged, what is under way to it, whether it takes
//! part.

use super::lease::Lease;
use crate::config::Member;
use crate::ids::{Decree, Instant};
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

/// What its acknowledgements are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of the configuration: commits and leases wait for it.
    Secondary,
    /// It catches up; nobody waits for it.
    Learner,
    /// It has caught up and is waited for as a secondary is, before meta is asked to make it one.
    Counted,
}

#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) member: Member,
    pub(crate) kind: Kind,
    pub(crate) reach: Reach,
    /// Durable there under our ballot.
    pub(crate) acknowledged: Decree,
    /// The last decree sent since it was last settled where to send from.
    pub(crate) sent: Decree,
    /// Answers to beacons before this number belong to an earlier link.
    pub(crate) fresh_from: u64,
    /// The first beacon that has said our ballot: acknowledgements of earlier ones were for another.
    pub(crate) covered_from: u64,
    /// It has acknowledged a beacon of our ballot: the configuration need not be repeated.
    pub(crate) knows_ballot: bool,
    /// The newest beacon sent that it has acknowledged.
    pub(crate) lease: Option<Lease>,
    /// When it last acknowledged a beacon, or we began to act.
    pub(crate) heard_at: Instant,
    /// A learner is counted once it has acknowledged this.
    pub(crate) target: Decree,
    /// Sent and not acknowledged: it counts against the window of the link.
    unacknowledged: VecDeque<Sent>,
    /// Gaps since the last acknowledgement that moved.
    gaps: u32,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    decree: Decree,
    bytes: usize,
    at: Instant,
}

impl Progress {
    /// Gaps in a row before a secondary counts as one that cannot be matched. Each costs a round trip and is answered by
    /// sending again from where the secondary says it is, so that more than a few mean that the two orders differ.
    const GAPS_MAX: u32 = 8;

    pub(crate) fn new(member: Member, kind: Kind) -> Self {
        Self {
            member,
            kind,
            reach: Reach::Probing,
            acknowledged: Decree::ZERO,
            sent: Decree::ZERO,
            fresh_from: 0,
            covered_from: 0,
            knows_ballot: false,
            lease: None,
            heard_at: Instant::default(),
            target: Decree::ZERO,
            unacknowledged: VecDeque::new(),
            gaps: 0,
        }
    }

    /// Whether commits and leases wait for it.
    pub(crate) fn is_counted(&self) -> bool {
        self.kind != Kind::Learner
    }

    /// A prepare of `bytes` leaves.
    pub(crate) fn note_sent(
        &mut self,
        decree: Decree,
        bytes: usize,
        at: Instant,
        links: &mut Links,
    ) {
        assert_eq!(decree, self.sent.next(), "a prepare out of order");
        self.sent = decree;
        self.unacknowledged.push_back(Sent { decree, bytes, at });
        links.link(self.member.address).inflight_bytes += bytes;
    }

    /// Everything up to `prepared` is durable there. True if that is news.
    pub(crate) fn note_acknowledged(&mut self, prepared: Decree, links: &mut Links) -> bool {
        let link = links.link(self.member.address);
        while let Some(sent) = self.unacknowledged.front().copied() {
            if sent.decree > prepared {
                break;
            }
            self.unacknowledged.pop_front();
            link.inflight_bytes = link
                .inflight_bytes
                .checked_sub(sent.bytes)
                .expect("counted when it was sent");
        }
        // It may hold more than was sent since it was last settled where to send from.
        self.sent = self.sent.max(prepared);
        let news = prepared > self.acknowledged;
        if news {
            self.acknowledged = prepared;
            self.gaps = 0;
        }
        news
    }

    /// Nothing that was sent counts any more; the next prepare is the one after `sent`.
    pub(crate) fn restart_after(&mut self, sent: Decree, links: &mut Links) {
        let bytes: usize = self.unacknowledged.drain(..).map(|sent| sent.bytes).sum();
        let link = links.link(self.member.address);
        link.inflight_bytes = link
            .inflight_bytes
            .checked_sub(bytes)
            .expect("counted when it was sent");
        self.sent = sent;
    }

    /// When the oldest prepare that it has not acknowledged was sent.
    pub(crate) fn lags_since(&self) -> Option<Instant> {
        self.unacknowledged.front().map(|sent| sent.at)
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

    /// Whether the next beacon has to carry the configuration, and so to ask for its state.
    pub(crate) fn is_asked(&self) -> bool {
        !self.knows_ballot || matches!(self.reach, Reach::Probing | Reach::OutOfService)
    }
}
