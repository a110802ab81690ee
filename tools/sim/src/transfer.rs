//! What learners fetch: checkpoints and pieces of logs, which take their time and may die on either side.

use crate::action::{Action, Life};
use crate::history::Violation;
use crate::world::World;
use pegasus_engine::MemCheckpoint;
use pegasus_replication::config::Member;
use pegasus_replication::event::Event;
use pegasus_replication::ids::{CoreAddress, Decree, PartitionId, ReplicaIncarnation};
use pegasus_replication::log::LogIdentity;
use pegasus_replication::log::recover::{Suffix, SuffixRange};
use pegasus_replication::message::Entry;
use std::ops::Range;
use std::time::Duration;

const ASK_DELAY: Range<Duration> = Duration::from_micros(100)..Duration::from_millis(20);
const COPY_DELAY: Range<Duration> = Duration::from_millis(5)..Duration::from_secs(2);
const PIECE_DELAY: Range<Duration> = Duration::from_millis(1)..Duration::from_millis(200);
const INSTALL_DELAY: Range<Duration> = Duration::from_millis(1)..Duration::from_millis(200);
/// After what time without a sign the learner's side gives up.
const GIVE_UP: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(3);
/// Payload bytes of one piece of a log: small, so that there are several.
const PIECE_BYTES: usize = 2 << 10;
/// Other replicas that are read for in the same pass.
const COMPANIONS_MAX: usize = 2;

/// One transfer, as the learner's side knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetch {
    pub(crate) number: u64,
    pub(crate) learner: CoreAddress,
    /// Of the learner's node.
    pub(crate) life: Life,
    pub(crate) partition: PartitionId,
    pub(crate) incarnation: ReplicaIncarnation,
    pub(crate) source: Member,
    pub(crate) wanted: Wanted,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    Checkpoint,
    Log { from: Decree, to: Decree },
}

/// What the source has sent.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    Checkpoint(MemCheckpoint),
    Entries(Vec<Entry>),
}

impl World {
    /// A learner asks for a copy of its source. An earlier transfer of the partition to this core is given up.
    pub(crate) fn fetch(
        &mut self,
        learner: CoreAddress,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        source: Member,
        wanted: Wanted,
    ) {
        self.next_fetch += 1;
        let fetch = Fetch {
            number: self.next_fetch,
            learner,
            life: self.life(learner.node),
            partition,
            incarnation,
            source,
            wanted,
        };
        let fetches = &mut self.core_mut(learner).fetches;
        fetches.insert(partition, fetch.number);
        let at = self.now.after(self.random.network.delay(ASK_DELAY));
        self.queue.add(at, Action::FetchAsked { fetch });
    }

    /// Nobody has started another one, or lost interest with its life.
    fn is_current(&self, fetch: &Fetch) -> bool {
        let current = self.core(fetch.learner).fetches.get(&fetch.partition);
        self.life(fetch.learner.node) == fetch.life && current == Some(&fetch.number)
    }

    /// The request reaches the source.
    pub(crate) fn fetch_asked(&mut self, fetch: Fetch) -> Result<(), Violation> {
        let source = fetch.source.address;
        let core = self.core(source);
        let replica = core
            .shard
            .as_ref()
            .and_then(|shard| shard.replica(fetch.partition));
        let is_there = replica.is_some_and(|replica| {
            replica.incarnation() == fetch.source.incarnation && replica.reason().is_none()
        });
        if !is_there || self.network.is_cut_between(source, fetch.learner) {
            self.fail_fetch(&fetch, false);
            return Ok(());
        }
        let sent = match fetch.wanted {
            Wanted::Checkpoint => self.export(&fetch)?,
            Wanted::Log { from, to } => self.read_log(&fetch, from, to),
        };
        let Some((parcel, delay)) = sent else {
            self.fail_fetch(&fetch, true);
            return Ok(());
        };
        let source_life = self.life(source.node);
        let arrives = Action::FetchArrives {
            fetch,
            source_life,
            parcel,
        };
        self.queue.add(self.now.after(delay), arrives);
        Ok(())
    }

    /// The source's engine is flushed for it, of which its core hears.
    fn export(&mut self, fetch: &Fetch) -> Result<Option<(Parcel, Duration)>, Violation> {
        let (source, partition) = (fetch.source.address, fetch.partition);
        let Some(checkpoint) = self.core_mut(source).engine.export(partition) else {
            return Ok(None);
        };
        let decree = checkpoint.decree();
        self.core_event(source, Event::Flushed { partition, decree })?;
        self.totals.coverage.note("checkpoint exported");
        let delay = self.random.network.delay(COPY_DELAY);
        Ok(Some((Parcel::Checkpoint(checkpoint), delay)))
    }

    fn read_log(&mut self, fetch: &Fetch, from: Decree, to: Decree) -> Option<(Parcel, Duration)> {
        let source = fetch.source.address;
        let identity = LogIdentity {
            cluster: crate::meta::cluster().id.0,
            node: source.node,
            shard: source.core,
        };
        let range = SuffixRange {
            partition: fetch.partition,
            incarnation: fetch.source.incarnation,
            after: from.previous(),
            up_to: to,
        };
        let core = self.core_mut(source);
        let shard = core.shard.as_ref()?;
        // One pass serves several learners of a node.
        let others = shard
            .replicas()
            .filter(|other| other.partition() != fetch.partition);
        let others = others.take(COMPANIONS_MAX).map(|other| SuffixRange {
            partition: other.partition(),
            incarnation: other.incarnation(),
            after: Decree(other.committed().0 / 2),
            up_to: other.committed(),
        });
        let ranges: Vec<SuffixRange> = others.chain([range]).collect();
        let start = shard.log().suffix_start(&ranges);
        let mut suffix = Suffix::open(&mut core.disk, identity, &ranges, start).ok()?;
        let pieces = std::iter::from_fn(|| suffix.next_piece(PIECE_BYTES));
        let mut of_learner = pieces.filter(|(partition, _)| *partition == fetch.partition);
        let piece = of_learner.next()?.1.ok()?;
        self.totals.coverage.note("log piece read");
        let delay = self.random.network.delay(PIECE_DELAY);
        Some((Parcel::Entries(piece.entries), delay))
    }

    /// What was sent reaches the learner, unless its source has died on the way.
    pub(crate) fn fetch_arrives(
        &mut self,
        fetch: Fetch,
        source_life: Life,
        parcel: Parcel,
    ) -> Result<(), Violation> {
        if !self.is_current(&fetch) {
            return Ok(());
        }
        let source = fetch.source.address;
        let is_alive = self.life(source.node) == source_life;
        if !is_alive || self.network.is_cut_between(source, fetch.learner) {
            self.totals.coverage.note("transfer died");
            self.fail_fetch(&fetch, false);
            return Ok(());
        }
        match parcel {
            Parcel::Entries(entries) => {
                self.end_fetch(&fetch);
                let fetched = Event::LogFetched {
                    partition: fetch.partition,
                    incarnation: fetch.incarnation,
                    entries,
                };
                self.core_event(fetch.learner, fetched)
            }
            Parcel::Checkpoint(checkpoint) => {
                self.begin_install(fetch, checkpoint);
                Ok(())
            }
        }
    }

    /// The files are there: the old storage goes, and what has come takes its place a little later.
    fn begin_install(&mut self, fetch: Fetch, checkpoint: MemCheckpoint) {
        let core = self.core_mut(fetch.learner);
        if core.engine.incarnation(fetch.partition) != Some(fetch.incarnation) {
            core.fetches.remove(&fetch.partition);
            return;
        }
        core.waiting.retain(|(of, _)| *of != fetch.partition);
        core.engine.drop_replica(fetch.partition, fetch.incarnation);
        let at = self.now.after(self.random.engine.delay(INSTALL_DELAY));
        let installed = Action::FetchInstalled { fetch, checkpoint };
        self.queue.add(at, installed);
    }

    pub(crate) fn fetch_installed(
        &mut self,
        fetch: Fetch,
        checkpoint: MemCheckpoint,
    ) -> Result<(), Violation> {
        if self.life(fetch.learner.node) != fetch.life {
            return Ok(());
        }
        let (partition, incarnation) = (fetch.partition, fetch.incarnation);
        let is_current = self.is_current(&fetch);
        let core = self.core_mut(fetch.learner);
        let replica = core.shard.as_ref().and_then(|it| it.replica(partition));
        if replica.is_none_or(|replica| replica.incarnation() != incarnation) {
            return Ok(());
        }
        let Some(applied) = core.engine.import(partition, incarnation, checkpoint) else {
            return Ok(());
        };
        // Once begun it is not called off, but nobody may wait for it any more.
        if !is_current {
            return Ok(());
        }
        self.end_fetch(&fetch);
        self.totals.coverage.note("checkpoint installed");
        let installed = Event::CheckpointInstalled {
            partition,
            incarnation,
            decree: applied.decree,
            ballot: applied.ballot,
        };
        self.core_event(fetch.learner, installed)
    }

    fn end_fetch(&mut self, fetch: &Fetch) {
        self.core_mut(fetch.learner)
            .fetches
            .remove(&fetch.partition);
    }

    /// The learner's side hears of a failure, at once or after it has waited in vain.
    fn fail_fetch(&mut self, fetch: &Fetch, is_missing: bool) {
        if !self.is_current(fetch) {
            return;
        }
        self.end_fetch(fetch);
        let delay = self.random.network.delay(GIVE_UP);
        let failed = Event::FetchFailed {
            partition: fetch.partition,
            incarnation: fetch.incarnation,
            is_missing,
        };
        self.later(fetch.learner, delay, failed);
    }
}
