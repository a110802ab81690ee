//! Digests of assignments: sums without carry (XOR) of one well-mixed number for each item, so that a change costs
//! only the items it touches. A node never computes one; it returns the digest of the last Sync it has taken over.

use super::change::ClusterId;
use super::node::Node;
use super::table::{Partition, Table};
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{NodeId, TableId};

/// A running mix of 64-bit words (the finalizer of SplitMix64 after each).
struct Mix(u64);

impl Mix {
    const fn new(kind: u64) -> Self {
        Self(kind)
    }

    const fn word(mut self, word: u64) -> Self {
        let mut mixed = (self.0 ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = mixed ^ (mixed >> 31);
        self
    }

    fn text(self, text: &str) -> Self {
        let start = self.word(text.len() as u64);
        text.bytes()
            .fold(start, |mix, byte| mix.word(u64::from(byte)))
    }

    fn member(self, member: &Member) -> Self {
        let address = (u64::from(member.address.node.0) << 16) | u64::from(member.address.core.0);
        self.word(address).word(member.incarnation.0)
    }
}

/// A node's addresses.
pub(super) fn of_node(node: &Node) -> u64 {
    let start = Mix::new(1).word(u64::from(node.id.0));
    node.cores
        .iter()
        .fold(start, |mix, core| {
            mix.text(&core.client_address).text(&core.peer_address)
        })
        .0
}

/// A table that is not dropped, without its partitions.
pub(super) fn of_table(table: &Table) -> u64 {
    let start = Mix::new(2)
        .word(u64::from(table.id.0))
        .text(&table.name)
        .word(u64::from(table.partition_count));
    let with_envs = |mix: Mix, (key, value): (&String, &String)| mix.text(key).text(value);
    table.envs.iter().fold(start, with_envs).0
}

/// One configuration.
pub(super) fn of_partition(table: &Table, index: u32, partition: &Partition) -> u64 {
    let stage = match partition.stage {
        Stage::Creating => 0,
        Stage::Active => 1,
    };
    let counts = (u64::from(table.replica_count) << 8) | u64::from(table.min_replicas);
    let start = Mix::new(3)
        .word(id(table.id, index))
        .word(partition.ballot.0)
        .word(stage)
        .word(counts);
    let start = start.word(u64::from(partition.primary.is_some()));
    partition.members().fold(start, Mix::member).0
}

/// An assigned learner, as the node of the primary and its own know it.
pub(super) fn of_learner(table: &Table, index: u32, partition: &Partition, to: NodeId) -> u64 {
    let Some(learner) = partition.learner else {
        return 0;
    };
    let start = Mix::new(6)
        .word(of_partition(table, index, partition))
        .word(u64::from(to.0))
        .word(u64::from(learner.is_fresh));
    start.member(&learner.member).0
}

/// One order to delete.
pub(super) fn of_drop(table: TableId, index: u32, member: &Member) -> u64 {
    Mix::new(4).word(id(table, index)).member(member).0
}

/// What a node compares. Never 0, which a node says that has nothing yet.
pub(super) fn finish(cluster: ClusterId, shared: u64, own: u64) -> u64 {
    let (high, low) = cluster.halves();
    Mix::new(5)
        .word(high)
        .word(low)
        .word(shared)
        .word(own)
        .0
        .max(1)
}

fn id(table: TableId, index: u32) -> u64 {
    (u64::from(table.0) << 32) | u64::from(index)
}
