//! One copy of a partition: its place in the order, its role, and what each event means in that role.
//!
//! ```text
//!              Created            Active, named primary             no-op applied
//!   Creating ----------> Idle --------------------------> Primary ----------------> (serving)
//!                        | ^ | \                             |
//!        named secondary | | |  \ assigned by meta           | a newer ballot names another primary
//!                        v | |   v                           v
//!                    Secondary <-- Learner               Secondary
//!                          any --> OutOfService: corruption, mismatch, foreign incarnation, too old to learn
//! ```
//!
//! The replica's order, from left to right: everything up to `flushed` survives in the engine, up to `applied` the engine
//! holds it, up to `committed` every member has it, up to `durable` our log has it, up to `last` it is in our log's buffer.

mod deadline;
mod dedupe;
mod durable;
mod gate;
mod handover;
mod invariants;
mod learner;
mod lease;
mod peers;
mod prepared_list;
mod primary;
mod progress;
mod read;
mod reconfigure;
mod removal;
mod secondary;
mod session;
mod unflushed;
mod view;

pub use invariants::check_group;
pub use learner::LearnStage;
pub use primary::Phase;

use crate::config::{Configuration, Member, Proposal};
use crate::event::{Effect, Reject};
use crate::ids::{Ballot, CoreAddress, Decree, Instant, PartitionId, ReplicaIncarnation, Ticket};
use crate::log::Record;
use crate::message::Entry;
use crate::shard::turn::Turn;
use deadline::Timers;
pub(crate) use deadline::{Deadlines, Due, Timer};
pub(crate) use gate::Atomic;
use gate::Gates;
use learner::{Fetch, Learner};
use prepared_list::{PreparedList, Waiter};
use primary::Primary;
pub(crate) use primary::Write;
use read::Parked;
pub(crate) use secondary::BeaconAnswer;
use session::{Kept, Session};
use std::collections::{BTreeMap, VecDeque};
use unflushed::Unflushed;

/// One replica of a shard. Changed by `Shard` alone; everybody else reads.
#[derive(Debug)]
pub struct Replica {
    partition: PartitionId,
    incarnation: ReplicaIncarnation,
    role: Role,
    /// The newest configuration known, whether or not it is adopted yet (while `Creating` it is not).
    configuration: Option<Configuration>,
    /// Adopted: everything older is refused. Its record is in the log's buffer at least.
    ballot: Ballot,
    /// The adoption that is durable: what we may acknowledge under, and say of ourselves.
    ballot_durable: Ballot,
    /// The ballot in which we took our role in this life of the process; never one from before a restart
    /// (docs/replication.md, "Ballots and adoption").
    ballot_installed: Ballot,
    list: PreparedList,
    unflushed: Unflushed,
    flushed: Decree,
    applied: Decree,
    /// Handed to the engine, `Applied` may not have come back yet.
    issued: Decree,
    committed: Decree,
    /// Our log holds everything up to here, without a gap; of entries that are being prepared again, perhaps by their old stamp.
    durable: Decree,
    /// Entries of an older ballot that are being prepared again under ours, unchanged.
    restamp: Option<Restamp>,
    /// Known to equal the order of the primary of `ballot` up to here. On a primary not used.
    matched: Decree,
    /// The last acknowledgement sent under `ballot`.
    acknowledged: Decree,
    /// A beacon that waits for its adoption to become durable.
    beacon_owed: Option<(CoreAddress, u64)>,
    /// The newest stamp given or seen; the next is larger.
    timestamp_us: u64,
    /// Reads in the engine, with the reign under which they were admitted and their deadlines.
    reads: BTreeMap<Ticket, (Ballot, Instant)>,
    /// Reads that wait for us to serve.
    parked: VecDeque<Parked>,
    /// Atomic operations, and who waits for them.
    gates: Gates,
    /// When this copy last acknowledged a beacon of this partition, or took a role, or started.
    heard_at: Instant,
    /// It has asked to take over and acknowledges nothing of `ballot`.
    promised: bool,
    /// The primary of this ballot has said that it will not serve again.
    yielded: Option<Ballot>,
    /// Who learns this partition, as meta has said last.
    learner: Option<Member>,
    /// Made in this life of the process, and empty then.
    is_fresh: bool,
    /// Of the last question to a primary.
    learn_number: u64,
    /// The engine is getting something from another core. Until it has answered nothing else is asked for or taken: a
    /// checkpoint replaces the storage whenever it comes.
    fetch: Option<Fetch>,
    /// What we keep for a learner, as primary.
    session: Option<Session>,
    /// What we keep for copies that have left, as primary.
    kept: Option<Kept>,
    /// Bytes of payloads kept in the list although they are applied.
    retained_bytes: usize,
    /// What meta was asked last under this ballot.
    proposed: Option<Proposal>,
    timers: Timers,
}

#[derive(Debug)]
pub(crate) enum Role {
    /// The engine makes the empty storage.
    Creating {
        removed: bool,
    },
    /// No part in the newest configuration, or none known yet.
    Idle,
    Secondary,
    Primary(Primary),
    /// No member, but meta wants it to become one.
    Learner(Learner),
    OutOfService {
        reason: String,
    },
}

/// What a replica can do, for reports to meta and for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Being created, or what the log holds is still being replayed into the engine.
    Opening,
    /// The storage is there and it takes part as its configuration says.
    Ready,
    /// A primary that answers its clients.
    Serving,
    /// See `Replica::reason`.
    OutOfService,
}

/// The role for statistics and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    Creating,
    Idle,
    Secondary,
    Primary(Phase),
    /// Catching up; not a member.
    Learner,
    OutOfService,
}

/// Entries `low..=high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Restamp {
    low: Decree,
    high: Decree,
    /// Their new records are in the log's buffer; before, more may come.
    is_appended: bool,
}

/// A replica as the engine and the log have it at start.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) partition: PartitionId,
    pub(crate) incarnation: ReplicaIncarnation,
    /// What the engine holds durably.
    pub(crate) marker: Decree,
    pub(crate) marker_ballot: Ballot,
    pub(crate) ballot: Ballot,
    pub(crate) committed: Decree,
    /// Above the marker, without a gap.
    pub(crate) entries: Vec<Entry>,
}

impl Replica {
    /// A replica whose storage the engine has yet to make.
    pub(crate) fn creating(partition: PartitionId, incarnation: ReplicaIncarnation) -> Self {
        let entries = Vec::new();
        let (marker, marker_ballot, ballot, committed) =
            (Decree::ZERO, Ballot::NONE, Ballot::NONE, Decree::ZERO);
        let found = Found {
            partition,
            incarnation,
            marker,
            marker_ballot,
            ballot,
            committed,
            entries,
        };
        Self {
            role: Role::Creating { removed: false },
            is_fresh: true,
            ..Self::found(found)
        }
    }

    /// A partition that a configuration says is here, and is not. Takes part in nothing.
    pub(crate) fn missing(configuration: Configuration, incarnation: ReplicaIncarnation) -> Self {
        let mut replica = Self::creating(configuration.partition, incarnation);
        replica.role = Role::OutOfService {
            reason: "replica missing".to_owned(),
        };
        replica.configuration = Some(configuration);
        replica
    }

    /// A replica that was here before this start. All that the log gave back is durable.
    pub(crate) fn found(found: Found) -> Self {
        let mut list = PreparedList::new(found.marker, found.marker_ballot);
        let mut timestamp_us = 0;
        for entry in found.entries {
            timestamp_us = timestamp_us.max(entry.mutation.timestamp_us);
            list.push(entry);
        }
        let last = list.last();
        let committed = found.committed.max(found.marker).min(last);
        // An adoption is in the log before the first entry under it; the marker alone may outlive both.
        let ballot = found.ballot.max(list.last_ballot());
        // Received under the adopted ballot, and so matched, with all before it.
        let matched = if list.last_ballot() == ballot {
            last
        } else {
            committed
        };
        Self {
            partition: found.partition,
            incarnation: found.incarnation,
            role: Role::Idle,
            configuration: None,
            ballot,
            ballot_durable: ballot,
            ballot_installed: Ballot::NONE,
            list,
            unflushed: Unflushed::default(),
            flushed: found.marker,
            applied: found.marker,
            issued: found.marker,
            committed,
            durable: last,
            restamp: None,
            matched,
            acknowledged: Decree::ZERO,
            beacon_owed: None,
            timestamp_us,
            reads: BTreeMap::new(),
            parked: VecDeque::new(),
            gates: Gates::default(),
            heard_at: Instant::default(),
            promised: false,
            yielded: None,
            learner: None,
            is_fresh: false,
            learn_number: 0,
            fetch: None,
            session: None,
            kept: None,
            retained_bytes: 0,
            proposed: None,
            timers: Timers::default(),
        }
    }

    /// The process has started: whoever led this partition before may still rely on what an earlier life acknowledged.
    pub(crate) fn begin(&mut self, turn: &mut Turn<'_>) {
        self.heard_at = turn.now;
        self.issue_applies(turn);
    }

    /// The engine holds everything up to `decree`.
    pub(crate) fn handle_applied(&mut self, decree: Decree, turn: &mut Turn<'_>) {
        assert!(
            decree <= self.issued,
            "{}: applied {decree}, which was never issued",
            self.partition
        );
        if decree <= self.applied {
            return;
        }
        self.answer_writes(decree, turn);
        self.applied = decree;
        self.release(turn);
        self.issue_applies(turn);
        self.let_followers_go_on(turn);
        match self.role {
            Role::Primary(_) => {
                self.may_start_serving(turn);
                self.may_yield(turn);
            }
            Role::Secondary => self.owe_acknowledgement(turn),
            Role::Learner(_) => {
                self.owe_acknowledgement(turn);
                self.go_on_learning(turn);
            }
            Role::Creating { .. } | Role::Idle | Role::OutOfService { .. } => {}
        }
    }

    /// The engine's marker is durable at `decree`.
    pub(crate) fn handle_flushed(&mut self, decree: Decree) {
        // Of storage that is made from a backup, before it is told that it is there: that tells the decree.
        if matches!(self.role, Role::Creating { .. }) {
            return;
        }
        assert!(
            decree <= self.issued,
            "{}: flushed {decree}, which was never issued",
            self.partition
        );
        self.flushed = self.flushed.max(decree);
        self.unflushed.forget_to(decree);
    }

    /// Hands committed entries to the engine, in order, never more than the bound at a time.
    pub(crate) fn issue_applies(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.role, Role::OutOfService { .. }) {
            return;
        }
        let window = turn.desk.options.apply_queue_max as u64;
        while self.issued < self.committed && self.issued.0 - self.applied.0 < window {
            let decree = self.issued.next();
            let entry = self
                .list
                .entry(decree)
                .expect("entries stay until they are applied")
                .clone();
            turn.effects.push(Effect::Apply {
                partition: self.partition,
                entry,
            });
            self.issued = decree;
        }
    }

    /// Out of service from the start; `Effect::Quarantine` is the shard's to say.
    pub(crate) fn suspect(mut self, reason: String) -> Self {
        self.role = Role::OutOfService { reason };
        self
    }

    /// Takes the replica out of service for good, restarts included, and says so.
    pub(crate) fn quarantine(&mut self, reason: String, turn: &mut Turn<'_>) {
        if matches!(self.role, Role::OutOfService { .. }) {
            return;
        }
        let (partition, incarnation) = (self.partition, self.incarnation);
        if !self.is_creating() {
            turn.desk.log.append(Record::Suspect {
                partition,
                incarnation,
            });
        }
        turn.effects.push(Effect::Quarantine {
            partition,
            reason: reason.clone(),
        });
        self.leave_service(reason, turn);
    }

    /// Takes part in nothing any more, in this life of the process; the copy itself may be sound.
    pub(crate) fn leave_service(&mut self, reason: String, turn: &mut Turn<'_>) {
        self.refuse_everybody(Reject::OutOfService, turn);
        self.leave_role(turn);
        self.kept = None;
        turn.desk.log.unpin(self.partition);
        self.role = Role::OutOfService { reason };
    }

    /// Gives back what the role holds of the shared things.
    pub(crate) fn leave_role(&mut self, turn: &mut Turn<'_>) {
        self.leave_links(turn);
        self.timers.clear_all(self.partition, turn);
        self.proposed = None;
    }

    /// One of our timers has gone off.
    pub(crate) fn on_timer(&mut self, timer: Timer, turn: &mut Turn<'_>) {
        self.timers.on_due(timer);
        match timer {
            Timer::Propose => self.propose(turn),
            Timer::Suspect => self.on_suspect(turn),
            Timer::Wait => self.end_wait(turn),
            Timer::Learn => self.on_learn_timer(turn),
            Timer::Drain => self.give_up_hand_over(),
            Timer::Keep => self.end_keeping(turn),
        }
    }

    /// Answers all who wait: pending writes with `Unknown`, parked reads with `reason`.
    pub(crate) fn refuse_everybody(&mut self, reason: Reject, turn: &mut Turn<'_>) {
        self.refuse_pending_writes(turn);
        self.refuse_at_gates(reason, turn);
        self.refuse_parked_reads(reason, turn);
    }

    fn refuse_pending_writes(&mut self, turn: &mut Turn<'_>) {
        for slot in self.list.slots_mut() {
            if let Some(waiter) = slot.waiter.take() {
                turn.desk.deadlines.remove(
                    waiter.deadline,
                    self.partition,
                    Due::Write(slot.entry.decree),
                );
                let (ticket, reason) = (waiter.ticket, Reject::Unknown);
                turn.effects.push(if planted!(ReplyForDroppedMutation) {
                    let decree = slot.entry.decree;
                    Effect::Reply { ticket, decree }
                } else {
                    Effect::Reject { ticket, reason }
                });
            }
        }
    }

    /// Replies to the clients of all mutations up to `decree`, which are committed and applied.
    fn answer_writes(&mut self, decree: Decree, turn: &mut Turn<'_>) {
        assert!(
            decree <= self.committed,
            "{}: answered before the commit",
            self.partition
        );
        let mut next = self.applied.next();
        while next <= decree {
            let slot = self
                .list
                .slot_mut(next)
                .expect("entries stay until they are applied");
            self.retained_bytes += slot.entry.mutation.payload.len();
            if let Some(waiter) = slot.waiter.take() {
                turn.desk
                    .deadlines
                    .remove(waiter.deadline, self.partition, Due::Write(next));
                turn.effects.push(Effect::Reply {
                    ticket: waiter.ticket,
                    decree: next,
                });
            }
            next = next.next();
        }
    }

    /// Appends to the log and to the prepared list.
    fn append(&mut self, entry: Entry, turn: &mut Turn<'_>) {
        self.append_from_client(entry, None, 0, turn);
    }

    /// The same for a mutation of this gate whose client waits.
    fn append_from_client(
        &mut self,
        entry: Entry,
        waiter: Option<Waiter>,
        gate: u64,
        turn: &mut Turn<'_>,
    ) {
        assert_eq!(
            entry.ballot, self.ballot,
            "{}: an entry of another ballot than the adopted one",
            self.partition
        );
        self.timestamp_us = self.timestamp_us.max(entry.mutation.timestamp_us);
        self.append_record(&entry, turn);
        self.list.push_from_client(entry, waiter, gate);
    }

    fn append_record(&self, entry: &Entry, turn: &mut Turn<'_>) {
        let (partition, incarnation, committed) =
            (self.partition, self.incarnation, self.committed);
        turn.desk.log.append(Record::Entry {
            partition,
            incarnation,
            committed,
            entry: entry.clone(),
        });
    }
}
