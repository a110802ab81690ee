//! The next ballot with the same members (protocol rule: a restarted primary never assigns decrees in a ballot that it
//! adopted in an earlier life).

use super::command::{Answer, Refusal};
use super::report::Proposal;
use super::{Change, State, Work};
use pegasus_replication::config::Stage;
use pegasus_replication::ids::{Ballot, NodeId, NodeIncarnation, TableId};
use std::collections::BTreeMap;

/// The highest counter that a ballot can have.
const COUNTER_MAX: u64 = (1 << 47) - 1;

impl State {
    /// One step for each partition whose primary names the current ballot; for all others the proposer is told what
    /// holds, so that a proposal that was sent twice does no harm.
    pub(super) fn handle_proposals(
        &mut self,
        node: NodeId,
        incarnation: NodeIncarnation,
        proposals: &[Proposal],
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        self.expect_life(node, incarnation)?;
        let mut steps: BTreeMap<TableId, BTreeMap<u32, Ballot>> = BTreeMap::new();
        for proposal in proposals {
            match self.judge(node, proposal) {
                Verdict::Step(ballot) => {
                    let partition = proposal.replica.partition;
                    steps
                        .entry(partition.table)
                        .or_default()
                        .insert(partition.index, ballot);
                }
                Verdict::TellAgain => self.tell_again(node, proposal, work),
                Verdict::Ignore => {}
            }
        }
        for (table, ballots) in steps {
            let ballots: Vec<_> = ballots.into_iter().collect();
            self.change(
                Change::BallotsGrown {
                    table,
                    ballots: ballots.clone(),
                },
                work,
            );
            let Some(table) = self.durable.tables().get(&table) else {
                continue;
            };
            let configurations = ballots
                .iter()
                .filter_map(|&(index, _)| table.configuration(index));
            configurations.for_each(|configuration| work.pushes.configuration(&configuration));
        }
        Ok(Answer::Done)
    }

    fn judge(&self, node: NodeId, proposal: &Proposal) -> Verdict {
        let id = proposal.replica.partition;
        let Some(table) = self
            .durable
            .tables()
            .get(&id.table)
            .filter(|table| !table.is_dropped())
        else {
            return Verdict::Ignore;
        };
        let Some(partition) = table.partition(id.index) else {
            return Verdict::Ignore;
        };
        let is_it = |member: &&pegasus_replication::config::Member| {
            member.address.node == node && member.incarnation == proposal.replica.incarnation
        };
        if !partition.members().any(|member| is_it(&member)) {
            return Verdict::Ignore;
        }
        let is_primary = partition.primary.as_ref().filter(is_it).is_some();
        let is_current = partition.ballot == proposal.ballot && partition.stage == Stage::Active;
        let may_grow = partition.ballot.counter() < COUNTER_MAX;
        if is_primary && is_current && may_grow {
            Verdict::Step(partition.ballot.next())
        } else {
            Verdict::TellAgain
        }
    }

    fn tell_again(&self, node: NodeId, proposal: &Proposal, work: &mut Work) {
        let id = proposal.replica.partition;
        let configuration = self
            .durable
            .tables()
            .get(&id.table)
            .and_then(|table| table.configuration(id.index));
        let sync = work.pushes.to(node);
        sync.configurations
            .extend(configuration.filter(|it| !sync.configurations.contains(it)));
    }
}

enum Verdict {
    /// To this ballot.
    Step(Ballot),
    /// The proposer does not know what holds.
    TellAgain,
    /// Not a member of anything that is there.
    Ignore,
}
