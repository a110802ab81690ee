//! What meta is told of this core's replicas: changes of health at once, positions once a second.

mod load;

use super::ShardLoop;
use crate::meta_link::{Health, ReplicaKey, ReplicaLoad, Report};
use load::Loads;
use pegasus_replication::config::Configuration;
use pegasus_replication::ids::{Ballot, CoreAddress, Decree, Instant, PartitionId};
use pegasus_replication::replica::{self, Replica};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often replicas whose health is about to change are looked at.
const WATCH_PERIOD: Duration = Duration::from_millis(1);
/// How often all are.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// What has been reported, and what is expected to change.
#[derive(Debug, Default)]
pub(super) struct Reports {
    told: BTreeMap<PartitionId, (ReplicaKey, Report)>,
    watched: BTreeSet<PartitionId>,
    watch_at: Instant,
    sweep_at: Instant,
    loads: Loads,
}

impl Reports {
    /// Something has happened that changes this replica's health now or soon.
    pub(super) fn watch(&mut self, partition: PartitionId) {
        self.watched.insert(partition);
        self.watch_at = Instant::default();
    }

    /// When to look next.
    pub(super) fn deadline(&self) -> Instant {
        if self.watched.is_empty() {
            self.sweep_at
        } else {
            self.watch_at.min(self.sweep_at)
        }
    }
}

/// The last report of a removed replica.
pub(super) const fn gone() -> Report {
    Report {
        ballot: Ballot::NONE,
        committed: Decree::ZERO,
        prepared: Decree::ZERO,
        health: Health::Gone,
        reason: String::new(),
        prepared_ballot: Ballot::NONE,
        applied: Decree::ZERO,
        configuration: None,
        load: ReplicaLoad {
            reads: 0,
            writes: 0,
        },
    }
}

impl ShardLoop {
    pub(super) fn report(&mut self) {
        if self.now >= self.reports.watch_at && !self.reports.watched.is_empty() {
            self.reports.watch_at = self.now.after(WATCH_PERIOD);
            for partition in std::mem::take(&mut self.reports.watched) {
                if !self.report_one(partition) {
                    self.reports.watched.insert(partition);
                }
            }
        }
        if self.now >= self.reports.sweep_at {
            self.reports.sweep_at = self.now.after(SWEEP_PERIOD);
            self.forget_useless_peers();
            self.gather_partitions();
            let partitions: Vec<PartitionId> =
                self.shard.replicas().map(Replica::partition).collect();
            self.measure_loads(&partitions);
            for partition in partitions {
                self.report_one(partition);
            }
        }
    }

    fn forget_useless_peers(&mut self) {
        let configurations = self.shard.replicas().filter_map(Replica::configuration);
        let members = configurations.flat_map(Configuration::members);
        let mut useful: BTreeSet<CoreAddress> = members.map(|member| member.address).collect();
        let linked = self.shard.peers().filter(|(_, is_up, _)| *is_up);
        useful.extend(linked.map(|(peer, _, _)| peer));
        self.peers
            .forget(|core| !useful.contains(&core), &mut self.io);
    }

    fn measure_loads(&mut self, partitions: &[PartitionId]) {
        self.reports.loads.keep(partitions);
        for &partition in partitions {
            let Some(replica) = self.shard.replica(partition) else {
                continue;
            };
            // What a learner fetches is not what it has to do.
            if matches!(replica.role(), replica::RoleName::Learner) {
                self.reports.loads.forget(partition);
                continue;
            }
            let reads = self.stats.partition(partition).map_or(0, |it| it.reads());
            let total = load::Totals {
                reads,
                writes: replica.applied().0,
            };
            self.reports.loads.measure(partition, total, self.now);
        }
    }

    /// Reports a replica if it has changed. True: its health is one that lasts.
    fn report_one(&mut self, partition: PartitionId) -> bool {
        let Some(replica) = self.shard.replica(partition) else {
            self.reports.told.remove(&partition);
            return true;
        };
        // Before anybody is told that it serves, so that all that it is asked for is counted.
        self.stats.keep_partition(partition);
        let key = ReplicaKey {
            partition,
            incarnation: replica.incarnation(),
        };
        let report = Report {
            ballot: replica.ballot(),
            committed: replica.committed(),
            prepared: replica.prepared(),
            health: health_of(replica),
            reason: replica.reason().unwrap_or_default().to_owned(),
            prepared_ballot: replica.state().prepared_ballot,
            applied: replica.applied(),
            configuration: replica.configuration().cloned(),
            load: self.reports.loads.told(partition),
        };
        let is_settled = is_settled(replica);
        let is_news = self
            .reports
            .told
            .get(&partition)
            .is_none_or(|told| *told != (key, report.clone()));
        if is_news {
            self.reports.told.insert(partition, (key, report.clone()));
            self.outbox.report(key, report);
        }
        is_settled
    }
}

fn health_of(replica: &Replica) -> Health {
    match replica.health() {
        replica::Health::Opening => Health::Opening,
        replica::Health::Ready => Health::Ready,
        replica::Health::Serving => Health::Serving,
        replica::Health::OutOfService => Health::OutOfService,
    }
}

/// Ready is an end for a secondary and a step for a primary.
fn is_settled(replica: &Replica) -> bool {
    match replica.health() {
        replica::Health::Serving | replica::Health::OutOfService => true,
        replica::Health::Opening => false,
        replica::Health::Ready => !matches!(replica.role(), replica::RoleName::Primary(_)),
    }
}
