//! Links that break, and ways on which nothing passes.

use crate::action::Action;
use crate::history::Violation;
use crate::network::Way;
use crate::scenario::Fault;
use crate::world::World;
use pegasus_replication::ids::NodeId;
use std::collections::BTreeSet;
use std::time::Duration;

const CUT_MAX: Duration = Duration::from_secs(3);

impl World {
    pub(super) fn break_some_link(&mut self) -> Result<(), Violation> {
        let pairs = self.network.pairs();
        if pairs.is_empty() {
            return Ok(());
        }
        let pair = *self.random.fault.pick(&pairs);
        let roles = self.roles(&[pair.0.node, pair.1.node]);
        self.totals.coverage.note_fault(Fault::BreakLink, roles);
        self.break_link(pair)
    }

    /// One node and another, or one and all others.
    pub(super) fn cut_some_nodes(&mut self, fault: Fault) -> Result<(), Violation> {
        let one = self.some_node();
        let others: Vec<NodeId> = if self.random.fault.one_in(3) {
            self.others(one)
        } else {
            let others = self.others(one);
            vec![*self.random.fault.pick(&others)]
        };
        let mut ways: Vec<Way> = others.iter().map(|other| (one, *other)).collect();
        if self.random.fault.one_in(2) {
            ways = ways.into_iter().map(|(a, b)| (b, a)).collect();
        }
        if fault != Fault::CutOneWay {
            ways.extend(ways.clone().into_iter().map(|(a, b)| (b, a)));
        }
        let struck: Vec<NodeId> = others.iter().copied().chain([one]).collect();
        let roles = self.roles(&struck);
        self.totals.coverage.note_fault(fault, roles);
        self.block(&ways);
        if fault == Fault::CutNodes {
            let links = others
                .iter()
                .flat_map(|other| self.network.links_between(one, *other));
            let links: Vec<_> = links.collect();
            for (pair, _) in links {
                self.break_link(pair)?;
            }
        }
        self.after_pause(CUT_MAX, Action::Unblock { ways });
        Ok(())
    }

    /// Several nodes are isolated one after another, and come back in another order.
    pub(super) fn swizzle(&mut self) -> Result<(), Violation> {
        let count = 1 + self.random.fault.index(self.nodes.len() - 1);
        let mut chosen = BTreeSet::new();
        while chosen.len() < count {
            chosen.insert(self.some_node());
        }
        let nodes: Vec<NodeId> = chosen.iter().copied().collect();
        let roles = self.roles(&nodes);
        self.totals.coverage.note_fault(Fault::Swizzle, roles);
        for node in nodes {
            let others = self.others(node).into_iter();
            let ways: Vec<Way> = others.flat_map(|it| [(node, it), (it, node)]).collect();
            let begin = self.some_pause(CUT_MAX / 2);
            let end = begin + self.some_pause(CUT_MAX);
            let block = Action::Block { ways: ways.clone() };
            self.queue.add(self.now.after(begin), block);
            self.queue
                .add(self.now.after(end), Action::Unblock { ways });
        }
        Ok(())
    }

    fn some_node(&mut self) -> NodeId {
        self.random.fault.pick(&self.nodes).id
    }

    fn others(&self, one: NodeId) -> Vec<NodeId> {
        let ids = self.nodes.iter().map(|node| node.id);
        ids.filter(|id| *id != one).collect()
    }
}
