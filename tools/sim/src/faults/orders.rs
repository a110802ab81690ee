//! What operators order while all of this goes on.

use crate::action::Action;
use crate::scenario::Fault;
use crate::world::World;
use pegasus_meta::state::{Command, Drain};
use pegasus_replication::ids::{NodeId, PartitionId};
use std::time::Duration;

const DRAIN_MAX: Duration = Duration::from_secs(20);

impl World {
    /// Whether it is possible is for meta to say.
    pub(super) fn order(&mut self, fault: Fault) {
        let Some(table) = self.table().filter(|_| self.meta.up) else {
            return;
        };
        let index = self.random.fault.below(u64::from(self.scenario.partitions));
        let index = u32::try_from(index).expect("few");
        let node = self.random.fault.index(self.nodes.len());
        let core = self.random.fault.index(usize::from(self.scenario.cores));
        let to = self.nodes[node].cores[core].address;
        let (name, now_ms) = (crate::meta::TABLE.to_owned(), self.now_ms());
        let command = match fault {
            Fault::MovePrimary => Command::MovePrimary {
                table: name,
                index,
                to: to.node,
                now_ms,
            },
            Fault::MoveReplica => {
                let configuration = self.configuration(PartitionId { table, index });
                let members = configuration.iter().flat_map(|it| it.members());
                let nodes: Vec<NodeId> = members.map(|member| member.address.node).collect();
                if nodes.is_empty() {
                    return;
                }
                Command::MoveReplica {
                    table: name,
                    index,
                    from: *self.random.fault.pick(&nodes),
                    to,
                    now_ms,
                }
            }
            _ => {
                let drain = *self.random.fault.pick(&[Drain::Primaries, Drain::Replicas]);
                let node = to.node;
                self.after_pause(DRAIN_MAX, Action::EndDrain { node });
                Command::DrainNode {
                    node,
                    drain: Some(drain),
                    now_ms,
                }
            }
        };
        self.decide(command, None);
    }

    pub(crate) fn end_drain(&mut self, node: NodeId) {
        if self.meta.up {
            let (drain, now_ms) = (None, self.now_ms());
            let command = Command::DrainNode {
                node,
                drain,
                now_ms,
            };
            self.decide(command, None);
        }
    }
}
