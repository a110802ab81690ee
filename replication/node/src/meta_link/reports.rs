//! What meta has not been told yet of the replicas of this node.

use super::{Health, ReplicaKey, Report};
use crate::directory::Table;
use crate::members::Members;
use crate::meta_link::frames::{self, HeartbeatHead, OwnWords};
use pegasus_replication::ids::{CoreId, TableId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Bounded by the replicas of the node.
#[derive(Debug, Default)]
pub(super) struct Reports {
    replicas: BTreeMap<ReplicaKey, (CoreId, Report)>,
    /// Changed since the last heartbeat.
    changed: BTreeSet<ReplicaKey>,
    /// The next heartbeat names all replicas.
    is_full: bool,
    is_urgent: bool,
    /// Bytes of files, as last looked at.
    sizes: HashMap<ReplicaKey, u64>,
}

impl Reports {
    /// A new session starts: meta may have forgotten everything.
    pub(super) fn all_again(&mut self) {
        self.is_full = true;
        self.is_urgent = true;
    }

    /// Takes a replica's words. One that does not know its members yet is reported with those that `members` has kept.
    pub(super) fn put(
        &mut self,
        core: CoreId,
        key: ReplicaKey,
        mut report: Report,
        members: &mut Members,
    ) {
        match &report.configuration {
            _ if report.health == Health::Gone => members.forget(key),
            Some(configuration) => members.note(key, configuration),
            None => report.configuration = members.configuration(key).cloned(),
        }
        let before = self
            .replicas
            .get(&key)
            .map(|(_, report)| (report.health, report.ballot));
        self.is_urgent |= before != Some((report.health, report.ballot));
        self.changed.insert(key);
        self.replicas.insert(key, (core, report));
    }

    /// Takes the sizes of replicas of a core. What has not grown or shrunk by much is told with the next word of the replica.
    pub(super) fn put_sizes(&mut self, sizes: Vec<(ReplicaKey, u64)>) {
        for (key, bytes) in sizes {
            let before = self.sizes.insert(key, bytes).unwrap_or(0);
            let is_known = self.replicas.contains_key(&key);
            if is_known && bytes.abs_diff(before) > before / 16 {
                self.changed.insert(key);
            }
        }
    }

    /// Whether something waits that should not wait for the next period.
    pub(super) const fn are_urgent(&self) -> bool {
        self.is_urgent
    }

    /// The core that holds a replica.
    pub(super) fn core_of(&self, key: ReplicaKey) -> Option<CoreId> {
        self.replicas.get(&key).map(|(core, _)| *core)
    }

    /// The body of the next heartbeat. Replicas reported gone are forgotten once they have been in one.
    pub(super) fn heartbeat(
        &mut self,
        digest: u64,
        (disk, own): ((u64, u64), OwnWords),
        tables: &HashMap<TableId, Table>,
    ) -> Vec<u8> {
        let is_full = std::mem::take(&mut self.is_full);
        self.is_urgent = false;
        let changed = std::mem::take(&mut self.changed);
        let named = self
            .replicas
            .iter()
            .filter(|(key, _)| is_full || changed.contains(key));
        let named = named.map(|(key, (core, report))| (*key, *core, report));
        let head = HeartbeatHead {
            digest,
            disk,
            full: is_full.then_some(tables),
            own,
            sizes: &self.sizes,
        };
        let body = frames::write_heartbeat(&head, named);
        self.replicas
            .retain(|_, (_, report)| report.health != Health::Gone);
        let replicas = &self.replicas;
        self.sizes.retain(|key, _| replicas.contains_key(key));
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pegasus_replication::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation, TableId};

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
            prepared_ballot: Ballot(1),
            applied: Decree(0),
            configuration: None,
            load: crate::meta_link::ReplicaLoad::default(),
        }
    }

    fn put(reports: &mut Reports, key: ReplicaKey, health: Health) {
        reports.put(CoreId(0), key, report(health), &mut Members::forgetful());
    }

    fn said(reports: &mut Reports) -> Vec<u8> {
        reports.heartbeat(0, ((0, 0), OwnWords::default()), &HashMap::new())
    }

    fn named(body: &[u8]) -> usize {
        let heartbeat = pegasus_fbs::body::read::<pegasus_fbs::meta::Heartbeat<'_>>(body)
            .expect("our own body");
        heartbeat.replicas().map_or(0, |replicas| replicas.len())
    }

    #[test]
    fn a_heartbeat_names_what_has_changed_and_a_new_session_everything() {
        let mut reports = Reports::default();
        put(&mut reports, key(0), Health::Ready);
        put(&mut reports, key(1), Health::Ready);
        assert!(reports.are_urgent());
        assert_eq!(named(&said(&mut reports)), 2);
        put(&mut reports, key(1), Health::Ready);
        assert!(!reports.are_urgent());
        assert_eq!(named(&said(&mut reports)), 1);
        reports.all_again();
        assert_eq!(named(&said(&mut reports)), 2);
    }

    #[test]
    fn a_replica_that_is_gone_is_said_once() {
        let mut reports = Reports::default();
        put(&mut reports, key(0), Health::Gone);
        assert_eq!(named(&said(&mut reports)), 1);
        reports.all_again();
        assert_eq!(named(&said(&mut reports)), 0);
    }

    #[test]
    fn a_size_is_told_when_it_has_changed_by_much() {
        let mut reports = Reports::default();
        put(&mut reports, key(0), Health::Ready);
        said(&mut reports);
        reports.put_sizes(vec![(key(0), 1_600)]);
        assert_eq!(named(&said(&mut reports)), 1);
        reports.put_sizes(vec![(key(0), 1_650)]);
        assert_eq!(named(&said(&mut reports)), 0);
        reports.put_sizes(vec![(key(0), 800)]);
        assert_eq!(named(&said(&mut reports)), 1);
    }
}
