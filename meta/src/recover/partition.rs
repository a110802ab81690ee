//! Who holds a partition, decided from its copies.

use super::{Case, NamedTable};
use crate::state::{Partition, ReplicaHealth, ReplicaStatus};
use pegasus_replication::config::{Configuration, Member, Stage};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, NodeId, PartitionId, ReplicaIncarnation,
};
use std::collections::BTreeSet;

/// One copy that a node has told of.
#[derive(Clone, Copy, Debug)]
struct Copy<'a> {
    member: Member,
    status: &'a ReplicaStatus,
}

impl Copy<'_> {
    /// It can be used as it is.
    fn is_good(&self) -> bool {
        self.status.is_created() || self.status.health == ReplicaHealth::Unknown
    }

    /// Its last entry: equal stamps mean equal prefixes, and whoever has the later stamp has it from a primary that had
    /// everything acknowledged before. The ballot adopted says less: a learner may have adopted one and hold nothing.
    fn rank(&self) -> (Ballot, Decree, Ballot) {
        let status = self.status;
        (status.prepared_ballot, status.prepared, status.ballot)
    }
}

impl Case {
    /// The partition as it goes on, or why that cannot be said.
    pub(super) fn decide(
        &self,
        id: PartitionId,
        table: &NamedTable,
        epoch: u16,
        next_incarnation: &mut u64,
    ) -> Result<Partition, String> {
        let copies = self.copies(id)?;
        refuse_opening_members(&copies)?;
        let ballot = Ballot::new(epoch, 1);
        let decided = self.by_configuration(&copies, table).or_else(|first| {
            let best = self.by_best_copy(&copies);
            best.map_err(|second| format!("{first}; {second}"))
        });
        let decided = match decided {
            Err(_) if self.accept_loss.contains(&id) => {
                best_good(&copies).map(|it| vec![it.member])
            }
            decided => Some(decided?),
        };
        match decided {
            Some(members) => Ok(Partition {
                stage: Stage::Active,
                ..Partition::creating(ballot, members)
            }),
            None => self.empty(id, ballot, next_incarnation),
        }
    }

    fn copies(&self, id: PartitionId) -> Result<Vec<Copy<'_>>, String> {
        let here = self.statuses().filter(|(_, key, _)| key.partition == id);
        here.map(|(node, key, status)| {
            let no_core = || format!("node {node} does not say which core holds its copy");
            let core = status.core.ok_or_else(no_core)?;
            let witness = &self.witnesses[&node].node;
            if witness.core(core).is_none() || key.incarnation.0 == 0 {
                return Err(format!("node {node} reports a copy that cannot be"));
            }
            let address = CoreAddress { node, core };
            let incarnation = key.incarnation;
            let member = Member {
                address,
                incarnation,
            };
            Ok(Copy { member, status })
        })
        .collect()
    }

    /// The first proof: all members of the newest configuration say that there was no later one.
    fn by_configuration(
        &self,
        copies: &[Copy<'_>],
        table: &NamedTable,
    ) -> Result<Vec<Member>, String> {
        let newest = newest_of(copies).ok_or("no copy knows who the members are")?;
        if copies.iter().any(|it| it.status.ballot > newest.ballot) {
            return Err("a copy has adopted a ballot whose members nobody knows".to_owned());
        }
        let missing = self.missing();
        let is_full = newest.members().count() >= usize::from(table.replica_count);
        if !missing.is_empty() && !is_full {
            return Err(format!(
                "it lacked a replica, and one may have been made on {}",
                named(&missing)
            ));
        }
        let members = self.members_of(newest, copies)?;
        let good = |member: &Member| copies.iter().any(|it| it.member == *member && it.is_good());
        let good: Vec<Member> = members.into_iter().filter(good).collect();
        if good.is_empty() {
            return Err("all its members are out of service".to_owned());
        }
        Ok(self.led_by_best(newest, copies, good))
    }

    /// All members, the primary first, if each of them has reported.
    fn members_of(
        &self,
        newest: &Configuration,
        copies: &[Copy<'_>],
    ) -> Result<Vec<Member>, String> {
        let is_there = |member: &&Member| copies.iter().any(|it| it.member == **member);
        let members: Vec<Member> = newest.members().copied().collect();
        let absent: BTreeSet<NodeId> = newest
            .members()
            .filter(|member| !is_there(member))
            .map(|member| member.address.node)
            .collect();
        let nodes: BTreeSet<NodeId> = members.iter().map(|it| it.address.node).collect();
        match absent.is_empty() {
            _ if nodes.len() != members.len() => Err("two of its members share a node".to_owned()),
            true => Ok(members),
            false => Err(format!("its member on {} is missing", named(&absent))),
        }
    }

    /// The primary stays if it can, else the member that is farthest along leads.
    #[allow(clippy::unused_self, reason = "one of the steps of a decision")]
    fn led_by_best(
        &self,
        newest: &Configuration,
        copies: &[Copy<'_>],
        mut good: Vec<Member>,
    ) -> Vec<Member> {
        let stays = newest.primary.is_some_and(|it| good.first() == Some(&it));
        if !stays {
            let rank = |member: &Member| {
                let copy = copies.iter().find(|it| it.member == *member);
                copy.map(Copy::rank)
            };
            good.sort_by_key(|member| std::cmp::Reverse(rank(member)));
        }
        good
    }

    /// The second proof: no copy is unseen, and this one has everything that any of them has.
    fn by_best_copy(&self, copies: &[Copy<'_>]) -> Result<Vec<Member>, String> {
        let missing = self.missing();
        if !missing.is_empty() {
            return Err(format!(
                "{} may have a copy and has not reported",
                named(&missing)
            ));
        }
        if let Some(newest) = newest_of(copies)
            && !self.was_being_made(newest, copies)
        {
            self.members_of(newest, copies)?;
        }
        let best = copies.iter().max_by_key(|it| it.rank());
        let best = best.ok_or("there is no copy of it")?;
        let good = best_good(copies).filter(|it| it.rank() == best.rank());
        let good = good.ok_or_else(|| {
            let node = best.member.address.node;
            match best.status.health {
                ReplicaHealth::Opening => {
                    format!("the newest copy is not whole yet, on node {node}: it learns")
                }
                _ => format!(
                    "the newest copy is out of service, on node {node}: {}",
                    best.status.reason
                ),
            }
        })?;
        Ok(vec![good.member])
    }

    /// Whether meta was lost before all members had made their replicas, so that nobody has served and nothing was written:
    /// whoever serves has adopted a ballot, durably, and so has each member that a write waited for.
    ///
    /// A member whose copy is not there has never made it, as its node has told all that it has.
    fn was_being_made(&self, newest: &Configuration, copies: &[Copy<'_>]) -> bool {
        let has_told_all = |member: &Member| {
            let node = member.address.node;
            self.nodes.contains(&node) && !self.missing().contains(&node)
        };
        let is_untouched = |copy: &Copy<'_>| {
            let status = copy.status;
            let known = status.configuration.as_deref();
            status.ballot == Ballot::NONE
                && (status.prepared, status.committed) == (Decree::ZERO, Decree::ZERO)
                && status.applied == Decree::ZERO
                && known.is_none_or(|it| it.stage == Stage::Creating)
        };
        newest.members().all(has_told_all) && copies.iter().all(is_untouched)
    }

    /// An empty partition in the place of one that is lost for good.
    fn empty(
        &self,
        id: PartitionId,
        ballot: Ballot,
        next_incarnation: &mut u64,
    ) -> Result<Partition, String> {
        // Any of them: a node has at least one core, and healing makes the other replicas.
        let nodes: Vec<NodeId> = self.witnesses.keys().copied().collect();
        let turn = usize::try_from(id.index).unwrap_or(0) % nodes.len().max(1);
        let node = nodes.get(turn).copied().ok_or("there is no node for it")?;
        let incarnation = ReplicaIncarnation(*next_incarnation);
        *next_incarnation = next_incarnation
            .checked_add(1)
            .ok_or("there are no more numbers")?;
        let address = CoreAddress {
            node,
            core: CoreId(0),
        };
        let member = Member {
            address,
            incarnation,
        };
        Ok(Partition::creating(ballot, [member]))
    }
}

fn newest_of<'a>(copies: &[Copy<'a>]) -> Option<&'a Configuration> {
    let known = copies
        .iter()
        .filter_map(|it| it.status.configuration.as_deref());
    known.max_by_key(|it| it.ballot)
}

/// A member that is being opened is worth waiting for. Another copy is not: a learner may wait for its primary, and that for
/// a meta. What its log says counts all the same, but it is not used.
fn refuse_opening_members(copies: &[Copy<'_>]) -> Result<(), String> {
    let newest = newest_of(copies);
    let is_member = |copy: &Copy<'_>| {
        newest.is_none_or(|newest| newest.members().any(|member| *member == copy.member))
    };
    let mut opening = copies
        .iter()
        .filter(|it| it.status.health == ReplicaHealth::Opening);
    opening.find(|it| is_member(it)).map_or(Ok(()), |copy| {
        let node = copy.member.address.node;
        Err(format!(
            "node {node} is still opening its copy; wait longer"
        ))
    })
}

fn best_good<'a, 'b>(copies: &'a [Copy<'b>]) -> Option<&'a Copy<'b>> {
    copies
        .iter()
        .filter(|it| it.is_good())
        .max_by_key(|it| it.rank())
}

/// "node 1, node 2".
fn named(nodes: &BTreeSet<NodeId>) -> String {
    let names: Vec<String> = nodes.iter().map(|node| format!("node {node}")).collect();
    names.join(", ")
}
