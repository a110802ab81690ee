//! The end of a run: no more faults, and all gets well.

use super::{MS, NODES, PARTITIONS, Run};
use crate::world::partition;
use pegasus_replication::Health;

impl Run {
    /// No more faults: everything is delivered, everybody serves with all members, nothing acknowledged is missing.
    pub(super) fn settle(&mut self) {
        while !self.down.is_empty() {
            self.restart();
        }
        self.meta.is_down = false;
        NODES.iter().for_each(|node| self.world.go_on(*node));
        self.mend();
        for _ in 0..4000 {
            self.quiet();
            self.world.advance(10 * MS);
            self.heal();
            if PARTITIONS.iter().all(|index| self.is_settled(*index)) {
                break;
            }
        }
        for index in PARTITIONS {
            assert!(
                self.is_settled(index),
                "partition {index} does not get well again: {}",
                self.describe(index)
            );
        }
        self.world.check_acknowledged();
    }

    pub(super) fn quiet(&mut self) {
        let (mut moved, mut rounds) = (true, 0);
        while moved {
            moved = false;
            rounds += 1;
            assert!(
                rounds < 20_000,
                "does not come to rest: {}",
                self.describe(0) + &self.describe(1)
            );
            for from in NODES {
                if !self.world.runs(from) {
                    continue;
                }
                moved |= self.world.step_disk(from) | self.world.step_engine(from);
                for to in NODES {
                    moved |= self.world.step_wire(from, to);
                }
            }
            self.hear();
            for node in NODES {
                moved |= self.meta.step_in(node, &mut self.world);
                moved |= self.meta.step_out(node, &mut self.world);
            }
        }
    }

    pub(super) fn is_settled(&self, index: u32) -> bool {
        let configuration = &self.world.configurations[&partition(index)];
        let members: Vec<_> = configuration
            .members()
            .filter_map(|member| self.world.replica(member.address.node.0, partition(index)))
            .collect();
        let last = members.iter().map(|replica| replica.last()).max();
        let serves = |replica: &&&pegasus_replication::Replica| replica.health() == Health::Serving;
        members.len() == usize::from(configuration.replica_count)
            && members.iter().filter(serves).count() == 1
            && members
                .iter()
                .all(|replica| Some(replica.applied()) == last)
    }

    pub(super) fn describe(&self, index: u32) -> String {
        let configuration = &self.world.configurations[&partition(index)];
        let learner = self.meta.learners.get(&partition(index));
        let mut out = format!("{configuration:?}\nlearner {learner:?}\n");
        for node in NODES {
            let Some(replica) = self.world.replica(node, partition(index)) else {
                continue;
            };
            out.push_str(&format!(
                "node {node} {:?} {:?} ballot {} committed {} prepared {} last {} reason {:?}\n",
                replica.role(),
                replica.learn_stage(),
                replica.ballot(),
                replica.committed(),
                replica.prepared(),
                replica.last(),
                replica.reason(),
            ));
        }
        out
    }
}
