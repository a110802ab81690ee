//! What meta has not been told yet: reports of replicas and proposals of ballots.

use super::{Health, ReplicaKey, Report};
use crate::meta_link::frames;
use pegasus_replication::config::Configuration;
use pegasus_replication::ids::{Ballot, CoreId, PartitionId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Bounded by the replicas of the node.
#[derive(Debug, Default)]
pub(super) struct Reports {
    replicas: BTreeMap<ReplicaKey, (CoreId, Report)>,
    /// Changed since the last heartbeat.
    changed: BTreeSet<ReplicaKey>,
    /// On the node, but in no configuration of its own.
    unknown: BTreeSet<ReplicaKey>,
    proposals: BTreeMap<PartitionId, (ReplicaKey, Ballot)>,
    /// The next heartbeat names all replicas.
    is_full: bool,
    is_urgent: bool,
}

impl Reports {
    /// A new session starts: meta may have forgotten everything.
    pub(super) fn all_again(&mut self) {
        self.is_full = true;
        self.is_urgent = true;
    }

    pub(super) fn put(&mut self, core: CoreId, key: ReplicaKey, report: Report) {
        let before = self
            .replicas
            .get(&key)
            .map(|(_, report)| (report.health, report.ballot));
        self.is_urgent |= before != Some((report.health, report.ballot));
        self.changed.insert(key);
        self.replicas.insert(key, (core, report));
    }

    pub(super) fn propose(&mut self, key: ReplicaKey, ballot: Ballot) {
        let before = self.proposals.insert(key.partition, (key, ballot));
        self.is_urgent |= before != Some((key, ballot));
    }

    /// Whether something waits that should not wait for the next period.
    pub(super) const fn are_urgent(&self) -> bool {
        self.is_urgent
    }

    /// The core that holds a replica.
    pub(super) fn core_of(&self, key: ReplicaKey) -> Option<CoreId> {
        self.replicas.get(&key).map(|(core, _)| *core)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = ReplicaKey> {
        self.replicas.keys().copied()
    }

    /// Replicas that meta's last full push did not name.
    pub(super) fn set_unknown(&mut self, unknown: BTreeSet<ReplicaKey>) {
        for key in self.unknown.symmetric_difference(&unknown) {
            self.changed.insert(*key);
        }
        self.unknown = unknown;
    }

    /// Drops the proposals that a newer configuration has answered, and those for partitions that are not ours any more.
    pub(super) fn forget_answered(&mut self, configurations: &HashMap<PartitionId, Configuration>) {
        self.proposals.retain(|partition, (_, ballot)| {
            configurations
                .get(partition)
                .is_some_and(|configuration| configuration.ballot <= *ballot)
        });
    }

    /// The body of the next heartbeat. Replicas reported gone are forgotten once they have been in one.
    pub(super) fn heartbeat(&mut self, digest: u64, disk: (u64, u64)) -> Vec<u8> {
        let is_full = std::mem::take(&mut self.is_full);
        self.is_urgent = false;
        let changed = std::mem::take(&mut self.changed);
        let named = self
            .replicas
            .iter()
            .filter(|(key, _)| is_full || changed.contains(key));
        let named = named.map(|(key, (_, report))| (*key, report, self.unknown.contains(key)));
        let body = frames::write_heartbeat(digest, is_full, disk, named);
        self.replicas
            .retain(|_, (_, report)| report.health != Health::Gone);
        body
    }

    /// The body with all proposals that wait for an answer, if any.
    pub(super) fn proposals(&self) -> Option<Vec<u8>> {
        (!self.proposals.is_empty())
            .then(|| frames::write_proposals(self.proposals.values().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_replication::config::Stage;
    use pegasus_replication::ids::{Decree, ReplicaIncarnation, TableId};

    fn key(index: u32) -> ReplicaKey {
        ReplicaKey {
            partition: PartitionId {
                table: TableId(1),
                index,
            },
            incarnation: ReplicaIncarnation(9),
        }
    }

    fn report(health: Health) -> Report {
        Report {
            ballot: Ballot(1),
            committed: Decree(0),
            prepared: Decree(0),
            health,
            reason: String::new(),
        }
    }

    fn named(body: &[u8]) -> usize {
        let heartbeat = pegasus_fbs::body::read::<pegasus_fbs::meta::Heartbeat<'_>>(body)
            .expect("our own body");
        heartbeat.replicas().map_or(0, |replicas| replicas.len())
    }

    #[test]
    fn a_heartbeat_names_what_has_changed_and_a_new_session_everything() {
        let mut reports = Reports::default();
        reports.put(CoreId(0), key(0), report(Health::Ready));
        reports.put(CoreId(0), key(1), report(Health::Ready));
        assert!(reports.are_urgent());
        assert_eq!(named(&reports.heartbeat(0, (0, 0))), 2);
        reports.put(CoreId(0), key(1), report(Health::Ready));
        assert!(!reports.are_urgent());
        assert_eq!(named(&reports.heartbeat(0, (0, 0))), 1);
        reports.all_again();
        assert_eq!(named(&reports.heartbeat(0, (0, 0))), 2);
    }

    #[test]
    fn a_proposal_is_repeated_until_it_is_answered_or_its_partition_is_dropped() {
        let configuration = |index: u32, ballot: u64| Configuration {
            partition: key(index).partition,
            ballot: Ballot(ballot),
            stage: Stage::Active,
            primary: None,
            secondaries: Vec::new(),
            replica_count: 1,
            min_replicas: 1,
        };
        let mut reports = Reports::default();
        (0..3).for_each(|index| reports.propose(key(index), Ballot(1)));
        let known = [configuration(0, 1), configuration(1, 2)];
        let known = known.map(|configuration| (configuration.partition, configuration));
        reports.forget_answered(&HashMap::from(known));
        let left: Vec<PartitionId> = reports.proposals.keys().copied().collect();
        assert_eq!(left, [key(0).partition]);
    }

    #[test]
    fn a_replica_that_is_gone_is_said_once() {
        let mut reports = Reports::default();
        reports.put(CoreId(0), key(0), report(Health::Gone));
        assert_eq!(named(&reports.heartbeat(0, (0, 0))), 1);
        reports.all_again();
        assert_eq!(named(&reports.heartbeat(0, (0, 0))), 0);
    }
}
