//! What a core wants others to do and could not hand over yet: tried again every turn, in order.
//!
//! Bounded by what it is about: reports by replicas (the newest replaces the one before), jobs by replicas and segments,
//! mesh answers by the requests that other cores handed over.

use super::answer::MeshMessage;
use crate::background::{Background, BackgroundJob};
use crate::engine_pool::{EnginePool, Job, PoolClass};
use crate::inbox::InboxSender;
use crate::meta_link::{MetaMail, MetaSender, ReplicaKey, Report, Wish};
use crate::transfer::{FetchJob, Transfers};
use pegasus_net::mesh::MeshEnd;
use pegasus_replication::ids::CoreId;
use std::collections::{BTreeMap, VecDeque};

/// Letters, jobs and answers of one core that wait for room.
pub(super) struct Outbox {
    core: CoreId,
    meta: MetaSender,
    pool: EnginePool,
    background: Background,
    transfers: Transfers,
    inbox: InboxSender,
    reports: BTreeMap<ReplicaKey, Report>,
    wishes: VecDeque<Wish>,
    upkeep: VecDeque<Job>,
    segments: VecDeque<BackgroundJob>,
    fetches: VecDeque<FetchJob>,
    mesh: VecDeque<(usize, MeshMessage)>,
}

impl Outbox {
    pub(super) const fn new(
        core: CoreId,
        meta: MetaSender,
        pool: EnginePool,
        background: Background,
        transfers: Transfers,
        inbox: InboxSender,
    ) -> Self {
        Self {
            core,
            meta,
            pool,
            background,
            transfers,
            inbox,
            reports: BTreeMap::new(),
            wishes: VecDeque::new(),
            upkeep: VecDeque::new(),
            segments: VecDeque::new(),
            fetches: VecDeque::new(),
            mesh: VecDeque::new(),
        }
    }

    pub(super) fn report(&mut self, key: ReplicaKey, report: Report) {
        self.reports.insert(key, report);
    }

    /// The newest wish of a replica about the same member takes the place of the one before.
    pub(super) fn propose(&mut self, wish: Wish) {
        self.wishes
            .retain(|before| before.key != wish.key || before.ballot == wish.ballot);
        if !self.wishes.contains(&wish) {
            tracing::debug!(partition = %wish.key.partition, ballot = %wish.ballot, proposal = ?wish.proposal, "asks meta");
            self.wishes.push_back(wish);
        }
    }

    /// The number of a new transfer.
    pub(super) fn next_fetch(&self) -> u64 {
        self.transfers.next_job()
    }

    pub(super) fn fetch(&mut self, job: FetchJob) {
        self.fetches.push_back(job);
    }

    pub(super) fn upkeep(&mut self, job: Job) {
        self.upkeep.push_back(job);
    }

    pub(super) fn segment(&mut self, job: BackgroundJob) {
        self.segments.push_back(job);
    }

    pub(super) fn mesh(&mut self, core: usize, message: MeshMessage) {
        self.mesh.push_back((core, message));
    }

    /// Hands a read to the pool.
    ///
    /// # Errors
    /// The pool's queue is full: the client is told to come back.
    pub(super) fn read(&self, job: Job) -> Result<(), Job> {
        self.pool.submit(PoolClass::Read, &self.inbox, job)
    }

    /// Upkeep jobs that wait for the pool to have room.
    pub(super) fn upkeep_waiting(&self) -> usize {
        self.upkeep.len()
    }

    /// Something could not be handed over: do not sleep long.
    pub(super) fn is_waiting(&self) -> bool {
        !(self.reports.is_empty()
            && self.wishes.is_empty()
            && self.fetches.is_empty()
            && self.upkeep.is_empty()
            && self.segments.is_empty()
            && self.mesh.is_empty())
    }

    /// Hands over as much as there is room for.
    pub(super) fn flush(&mut self, mesh: &mut MeshEnd<MeshMessage>) {
        while let Some((core, message)) = self.mesh.pop_front() {
            if let Err(message) = mesh.send(core, message) {
                self.mesh.push_front((core, message));
                break;
            }
        }
        while let Some(job) = self.upkeep.pop_front() {
            if let Err(job) = self.pool.submit(PoolClass::Upkeep, &self.inbox, job) {
                self.upkeep.push_front(job);
                break;
            }
        }
        while let Some(job) = self.segments.pop_front() {
            if let Err(job) = self.background.submit(job) {
                self.segments.push_front(job);
                break;
            }
        }
        while let Some(job) = self.fetches.pop_front() {
            if let Err(job) = self.transfers.fetch(job) {
                self.fetches.push_front(job);
                break;
            }
        }
        self.flush_mail();
    }

    fn flush_mail(&mut self) {
        let core = self.core;
        while let Some((key, report)) = self.reports.pop_first() {
            let report = Box::new(report);
            if let Err(MetaMail::Report { key, report, .. }) =
                self.meta.send(MetaMail::Report { core, key, report })
            {
                self.reports.insert(key, *report);
                return;
            }
        }
        while let Some(wish) = self.wishes.pop_front() {
            if self.meta.send(MetaMail::Propose(wish)).is_err() {
                self.wishes.push_front(wish);
                return;
            }
        }
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}
