//! What must hold between any two commands.

use super::durable::Durable;
use super::table::{Partition, Table};
use super::{Change, State};
use std::collections::BTreeSet;

impl State {
    /// Asserts everything that must hold. Costs a walk over all partitions.
    ///
    /// # Panics
    /// One of the invariants does not hold: a bug of ours.
    pub fn check(&self) {
        check_names(&self.durable);
        check_incarnations(&self.durable);
        self.durable
            .tables()
            .values()
            .for_each(|table| check_table(&self.durable, table));
        self.check_live();
        check_replay(&self.durable);
    }

    fn check_live(&self) {
        for (node, live) in &self.live {
            let known = self.durable.nodes().get(node);
            assert!(
                known.is_some(),
                "node {node} is heard of but has never joined"
            );
            assert!(
                live.unknown_replicas < u64::MAX,
                "node {node}: a count ran over"
            );
        }
        let waiting: BTreeSet<_> = super::creating(&self.durable);
        assert_eq!(
            self.creating, waiting,
            "the set of partitions in creation is wrong"
        );
        let ailing: BTreeSet<_> = super::ailing(&self.durable);
        assert_eq!(
            self.ailing, ailing,
            "the set of partitions that need looking after is wrong"
        );
    }
}

fn check_names(durable: &Durable) {
    let live = durable
        .tables()
        .values()
        .filter(|table| !table.is_dropped())
        .count();
    assert_eq!(
        durable.names().len(),
        live,
        "tables and names differ in number"
    );
    for (name, id) in durable.names() {
        let named = durable
            .tables()
            .get(id)
            .is_some_and(|table| table.name == *name);
        assert!(named, "name {name} leads to another table");
    }
}

/// Within a partition they are told apart by `Partition::fault`; that they are given once is seen from the counter.
fn check_incarnations(durable: &Durable) {
    let members = durable
        .tables()
        .values()
        .flat_map(|table| &table.partitions)
        .flat_map(Partition::holders);
    for member in members {
        assert!(
            member.incarnation.0 < durable.counters().next_incarnation,
            "an incarnation would be given again"
        );
    }
}

fn check_table(durable: &Durable, table: &Table) {
    assert!(
        table.id.0 < durable.counters().next_table,
        "number of table {} would be given again",
        table.id
    );
    assert_eq!(table.fault(), None, "table {}", table.id);
    for (index, partition) in table.indexed() {
        let epoch = partition.ballot.epoch();
        assert!(
            epoch <= durable.cluster().epoch,
            "partition {}.{index} is of a later epoch",
            table.id
        );
        assert!(
            partition.primary.is_some(),
            "partition {}.{index} has no primary",
            table.id
        );
        for member in partition.holders() {
            let core = durable
                .nodes()
                .get(&member.address.node)
                .and_then(|node| node.core(member.address.core));
            assert!(
                core.is_some(),
                "partition {}.{index} names a core that is not there",
                table.id
            );
        }
    }
}

/// What a restart would make of it is the same, digests included.
fn check_replay(durable: &Durable) {
    let snapshot: Vec<Change> = durable.snapshot();
    let replayed = Durable::replay(&snapshot);
    assert!(
        replayed.is_ok(),
        "the snapshot does not replay: {replayed:?}"
    );
    if let Ok(replayed) = replayed {
        for node in durable.nodes().keys() {
            assert_eq!(
                replayed.digest(*node),
                durable.digest(*node),
                "node {node}: digests drift"
            );
        }
        assert_eq!(replayed.counters(), durable.counters(), "counters drift");
        assert_eq!(replayed.tables(), durable.tables(), "tables drift");
        assert_eq!(replayed.nodes(), durable.nodes(), "nodes drift");
        assert_eq!(replayed.drained(), durable.drained(), "drains drift");
        assert_eq!(replayed.backups(), durable.backups(), "backups drift");
        let gone = |node: &pegasus_replication::ids::NodeId| {
            replayed.is_forgotten(*node) || durable.is_forgotten(*node)
        };
        assert!(
            !durable.nodes().keys().any(gone),
            "a forgotten node is there"
        );
    }
}
