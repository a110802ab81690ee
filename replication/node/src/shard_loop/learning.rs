//! Copies that learners of this core fetch, and copies of this core's replicas that other nodes fetch.
//!
//! The replication core asks for one piece of a log at a time; a transfer streams until it is at its end. The pieces wait here
//! in between, a few of them: whoever sends them is held up meanwhile.

use super::ShardLoop;
use crate::engine_pool::PoolDone;
use crate::transfer::{ExportRequest, Exported, FetchJob, Fetched, Permit, Wanted};
use pegasus_engine::{Applied, Engine};
use pegasus_fbs::stats_page::Counter;
use pegasus_replication::config::Member;
use pegasus_replication::event::Event;
use pegasus_replication::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};
use pegasus_replication::message::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Transfers under way, at most one for each learner.
#[derive(Debug, Default)]
pub(super) struct Learning {
    sessions: BTreeMap<PartitionId, Session>,
}

#[derive(Debug)]
struct Session {
    job: u64,
    incarnation: ReplicaIncarnation,
    source: Member,
    is_cancelled: Arc<AtomicBool>,
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Checkpoint,
    Log {
        /// Behind everything that was handed to the replication core.
        next: Decree,
        pieces: VecDeque<(Vec<Entry>, Permit)>,
        /// No more pieces come.
        is_over: bool,
        /// The replication core waits, for entries up to this decree.
        wanted: Option<Decree>,
    },
}

impl Learning {
    /// Whether a checkpoint is on its way into the engine, whose markers the replica does not know yet.
    pub(super) fn is_installing(&self, partition: PartitionId) -> bool {
        let session = self.sessions.get(&partition);
        session.is_some_and(|session| matches!(session.stream, Stream::Checkpoint))
    }
}

impl Session {
    /// Whether it goes on where the replication core is.
    fn continues(&self, incarnation: ReplicaIncarnation, source: Member, from: Decree) -> bool {
        let Stream::Log {
            next,
            pieces,
            is_over,
            ..
        } = &self.stream
        else {
            return false;
        };
        let has_more = !pieces.is_empty() || !is_over;
        self.incarnation == incarnation && self.source == source && *next == from && has_more
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.is_cancelled.store(true, Ordering::Release);
    }
}

impl ShardLoop {
    pub(super) fn fetch_log(
        &mut self,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        source: Member,
        from: Decree,
        to: Decree,
    ) {
        let known = self.learning.sessions.get(&partition);
        if !known.is_some_and(|session| session.continues(incarnation, source, from)) {
            let stream = Stream::Log {
                next: from,
                pieces: VecDeque::new(),
                is_over: false,
                wanted: None,
            };
            let wanted = Wanted::Log {
                after: from.previous(),
                up_to: to,
            };
            self.start_fetch(partition, incarnation, source, stream, wanted);
        }
        if let Some(session) = self.learning.sessions.get_mut(&partition)
            && let Stream::Log { wanted, .. } = &mut session.stream
        {
            *wanted = Some(to);
        }
        self.learning_due.push(partition);
    }

    pub(super) fn fetch_checkpoint(
        &mut self,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        source: Member,
    ) {
        self.start_fetch(
            partition,
            incarnation,
            source,
            Stream::Checkpoint,
            Wanted::Checkpoint,
        );
    }

    fn start_fetch(
        &mut self,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
        source: Member,
        stream: Stream,
        wanted: Wanted,
    ) {
        let job = self.outbox.next_fetch();
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let session = Session {
            job,
            incarnation,
            source,
            is_cancelled: Arc::clone(&is_cancelled),
            stream,
        };
        self.learning.sessions.insert(partition, session);
        let Some(source_address) = self.directory.transfer(source.address.node) else {
            // The address of its node is not known yet.
            self.learning_failed.push(partition);
            return;
        };
        self.outbox.fetch(FetchJob {
            number: job,
            core: self.address.core,
            partition,
            source: source.address,
            source_incarnation: source.incarnation,
            source_address,
            wanted,
            is_cancelled,
        });
    }

    /// Hands the replication core what it waits for. Not done where effects are carried out: it decides.
    pub(super) fn continue_learning(&mut self) {
        for partition in std::mem::take(&mut self.learning_failed) {
            self.fail_fetch(partition, false);
        }
        for partition in std::mem::take(&mut self.learning_due) {
            self.hand_piece_over(partition);
        }
    }

    fn hand_piece_over(&mut self, partition: PartitionId) {
        let Some(session) = self.learning.sessions.get_mut(&partition) else {
            return;
        };
        let incarnation = session.incarnation;
        let Stream::Log {
            next,
            pieces,
            is_over,
            wanted,
        } = &mut session.stream
        else {
            return;
        };
        let Some(to) = *wanted else { return };
        let Some((mut entries, permit)) = pieces.pop_front() else {
            if *is_over {
                // It has sent less than it was asked for.
                self.fail_fetch(partition, true);
            }
            return;
        };
        *wanted = None;
        entries.retain(|entry| entry.decree <= to);
        drop(permit);
        let Some(last) = entries.last() else {
            // It has sent more than it was asked for.
            self.fail_fetch(partition, false);
            return;
        };
        *next = last.decree.next();
        self.stats.add(Counter::LearnEntries, entries.len() as u64);
        self.decide(Event::LogFetched {
            partition,
            incarnation,
            entries,
        });
    }

    pub(super) fn on_fetched(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Entries {
                job,
                partition,
                entries,
                is_last,
                permit,
            } => {
                let Some(session) = self.learning.sessions.get_mut(&partition) else {
                    return;
                };
                let Stream::Log {
                    pieces, is_over, ..
                } = &mut session.stream
                else {
                    return;
                };
                if session.job != job {
                    return;
                }
                *is_over |= is_last;
                if !entries.is_empty() {
                    pieces.push_back((entries, permit));
                }
                self.hand_piece_over(partition);
            }
            Fetched::Checkpoint {
                job,
                partition,
                directory,
            } => self.install_checkpoint(job, partition, directory),
            Fetched::Failed {
                job,
                partition,
                error: _,
                is_missing,
            } => {
                let is_ours = self.learning.sessions.get(&partition);
                if is_ours.is_some_and(|session| session.job == job) {
                    self.fail_fetch(partition, is_missing);
                }
            }
        }
    }

    fn fail_fetch(&mut self, partition: PartitionId, is_missing: bool) {
        if let Some(session) = self.learning.sessions.remove(&partition) {
            self.decide(Event::FetchFailed {
                partition,
                incarnation: session.incarnation,
                is_missing,
            });
        }
    }

    /// All files are here: they take the place of the replica's storage, on the engine pool.
    fn install_checkpoint(&mut self, job: u64, partition: PartitionId, directory: PathBuf) {
        let Some(session) = self.learning.sessions.get(&partition) else {
            return;
        };
        if session.job != job {
            return;
        }
        let incarnation = session.incarnation;
        self.engine.forget(partition);
        self.engine_work.forget(partition);
        let store = self.store.clone();
        self.outbox.upkeep(Box::new(move |done| {
            let installed = store
                .drop_replica(partition, incarnation)
                .and_then(|()| store.import(partition, incarnation, &directory))
                .map(|marker| Applied {
                    decree: marker.decree,
                    ballot: marker.ballot,
                })
                .map_err(|error| error.to_string());
            remove_directory(&directory);
            done(PoolDone::Installed {
                job,
                partition,
                installed,
            });
        }));
    }

    pub(super) fn on_installed(
        &mut self,
        job: u64,
        partition: PartitionId,
        installed: Result<Applied, String>,
    ) {
        self.engine.forget(partition);
        let is_ours = self.learning.sessions.get(&partition);
        let is_ours = is_ours.is_some_and(|session| session.job == job);
        match installed {
            Ok(Applied { decree, ballot }) if is_ours => {
                let incarnation = self.learning.sessions[&partition].incarnation;
                self.learning.sessions.remove(&partition);
                self.stats.count(Counter::LearnCheckpoints);
                self.decide(Event::CheckpointInstalled {
                    partition,
                    incarnation,
                    decree,
                    ballot,
                });
            }
            Ok(_) => {}
            // What was there is gone, and nothing has come in its place.
            Err(error) => {
                self.learning.sessions.remove(&partition);
                let error = format!("the checkpoint could not be installed: {error}");
                self.decide(Event::ReplicaFailed { partition, error });
            }
        }
    }

    /// The replica is gone or takes another role: nobody waits for its transfer any more.
    pub(super) fn forget_learning(&mut self, partition: PartitionId) {
        self.learning.sessions.remove(&partition);
    }

    /// Another node's learner wants a replica's files.
    pub(super) fn export(&mut self, request: ExportRequest) {
        let ExportRequest {
            partition,
            incarnation,
            directory,
            answer,
        } = request;
        let replica = self.shard.replica(partition);
        let may_export = replica.is_some_and(|replica| {
            replica.incarnation() == incarnation && replica.reason().is_none()
        });
        if !may_export {
            let _ = answer.send(Err(format!(
                "replica {partition} of incarnation {incarnation} is not here, or out of service"
            )));
            return;
        }
        if let Err(error) = self.engine.begin_flush(partition) {
            let _ = answer.send(Err(error.to_string()));
            return;
        }
        let store = self.store.clone();
        self.outbox.upkeep(Box::new(move |done| {
            let result = store
                .export(partition, &directory)
                .map(|export| (export.marker.decree, export.marker.ballot))
                .map_err(|error| error.to_string());
            done(PoolDone::Flushed {
                partition,
                incarnation,
                result: result.clone().map(|(decree, _)| decree),
            });
            let exported =
                result.map(|(decree, ballot): (Decree, Ballot)| Exported { decree, ballot });
            if answer.send(exported).is_err() {
                // Nobody waits for it any more.
                remove_directory(&directory);
            }
        }));
    }
}

fn remove_directory(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(directory = %directory.display(), %error, "files of a transfer could not be removed");
    }
}
