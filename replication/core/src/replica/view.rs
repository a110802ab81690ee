//! What a replica shows of itself: to the shard, to reports and statistics, to its peers.

use super::{Health, LearnStage, Phase, Replica, Role, RoleName};
use crate::config::{Configuration, Member};
use crate::ids::{Ballot, CoreAddress, Decree, PartitionId, ReplicaIncarnation, Ticket};
use crate::log::Record;
use crate::message::{Entry, ReplicaState};

impl Replica {
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    pub fn incarnation(&self) -> ReplicaIncarnation {
        self.incarnation
    }

    /// The newest configuration known here; `None` until meta or a primary has told one in this life.
    pub fn configuration(&self) -> Option<&Configuration> {
        self.configuration.as_ref()
    }

    /// Adopted, perhaps not durably yet.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Durable in the engine.
    pub fn flushed(&self) -> Decree {
        self.flushed
    }

    /// Held by the engine.
    pub fn applied(&self) -> Decree {
        self.applied
    }

    /// The commit point: every member has everything up to here.
    pub fn committed(&self) -> Decree {
        self.committed
    }

    /// Durable in our log, or in the engine.
    pub fn prepared(&self) -> Decree {
        self.durable
    }

    /// In the log's buffer at least.
    pub fn last(&self) -> Decree {
        self.list.last()
    }

    /// The client that waits for the mutation at `decree`, for whoever measures where its time goes.
    pub fn waiting_ticket(&self, decree: Decree) -> Option<Ticket> {
        self.list.waiting_ticket(decree)
    }

    /// Entries held in memory, in decree order: all above the applied decree.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.list.slots().map(|slot| &slot.entry)
    }

    /// Prepared and not yet committed, in mutations.
    pub fn inflight(&self) -> usize {
        usize::try_from(self.last().0 - self.committed.0).unwrap_or(usize::MAX)
    }

    /// Committed and not yet applied, in mutations.
    pub fn apply_queue(&self) -> usize {
        usize::try_from(self.committed.0 - self.applied.0).unwrap_or(usize::MAX)
    }

    /// Reads waiting for the replica to serve, or for its lease.
    pub fn parked_reads(&self) -> usize {
        self.parked.len()
    }

    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Creating { .. } => RoleName::Creating,
            Role::Idle => RoleName::Idle,
            Role::Secondary => RoleName::Secondary,
            Role::Primary(primary) => RoleName::Primary(primary.phase()),
            Role::Learner(_) => RoleName::Learner,
            Role::OutOfService { .. } => RoleName::OutOfService,
        }
    }

    pub fn health(&self) -> Health {
        match &self.role {
            Role::Creating { .. } => Health::Opening,
            Role::OutOfService { .. } => Health::OutOfService,
            Role::Primary(primary) if primary.phase() == Phase::Serving => Health::Serving,
            Role::Idle if self.issued < self.committed => Health::Opening,
            Role::Learner(_) if !self.is_attached() => Health::Opening,
            Role::Idle | Role::Secondary | Role::Primary(_) | Role::Learner(_) => Health::Ready,
        }
    }

    /// Why the replica is out of service.
    pub fn reason(&self) -> Option<&str> {
        match &self.role {
            Role::OutOfService { reason } => Some(reason),
            Role::Creating { .. }
            | Role::Idle
            | Role::Secondary
            | Role::Primary(_)
            | Role::Learner(_) => None,
        }
    }

    /// What this replica says of itself to a peer: durable facts only.
    pub fn state(&self) -> ReplicaState {
        ReplicaState {
            partition: self.partition,
            ballot: self.ballot_durable,
            prepared: self.durable,
            prepared_ballot: self.list.stamp(self.durable).unwrap_or(Ballot::NONE),
            committed: self.committed,
        }
    }

    /// Entries `first..=last`, if all of them are still in memory; for appending them again. Those that are not committed
    /// hold back a segment as well, and for long where a member is out of service.
    pub(crate) fn unflushed(&self, first: Decree, last: Decree) -> Option<Vec<Record>> {
        let (partition, incarnation, committed) =
            (self.partition, self.incarnation, self.committed);
        let mut records = Vec::new();
        let mut decree = first;
        while decree <= last {
            let entry = self.unflushed.entry(decree);
            records.push(Record::Entry {
                partition,
                incarnation,
                committed,
                entry: entry.or_else(|| self.list.entry(decree))?.clone(),
            });
            decree = decree.next();
        }
        Some(records)
    }

    /// Keeps the storage's creation to its end, then has it removed.
    pub(crate) fn remove_when_created(&mut self) {
        self.role = Role::Creating { removed: true };
    }

    pub(crate) fn is_removed(&self) -> bool {
        matches!(self.role, Role::Creating { removed: true })
    }

    pub(crate) fn is_creating(&self) -> bool {
        matches!(self.role, Role::Creating { .. })
    }

    pub(crate) fn is_out_of_service(&self) -> bool {
        matches!(self.role, Role::OutOfService { .. })
    }

    /// Takes what a primary sends: a secondary, or a learner.
    pub(super) fn is_follower(&self) -> bool {
        matches!(self.role, Role::Secondary | Role::Learner(_))
    }

    pub(super) fn is_attached(&self) -> bool {
        self.learn_stage() == Some(LearnStage::Attached)
    }

    pub(super) fn primary_member(&self) -> Option<Member> {
        self.configuration.as_ref()?.primary
    }

    pub(super) fn primary_hint(&self) -> Option<CoreAddress> {
        self.primary_member().map(|member| member.address)
    }
}
