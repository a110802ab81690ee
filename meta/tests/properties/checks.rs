//! What holds between any two commands.

use pegasus_meta::state::{Durable, Partition};
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::NodeId;
use std::collections::BTreeSet;

/// Between any two commands: ballots only grow, and grow when members change; who leads was a member; who joins was the
/// learner; somebody stays. (A proposal at a time, so that there is one step at most.)
pub(crate) fn check_succession(before: &Durable, after: &Durable) {
    for table in after.tables().values().filter(|it| !it.is_dropped()) {
        let Some(old) = before.tables().get(&table.id) else {
            continue;
        };
        for (index, now) in table.indexed() {
            let was = old.partition(index).unwrap();
            let members = |it: &Partition| it.members().copied().collect::<BTreeSet<Member>>();
            let (old_members, new_members) = (members(was), members(now));
            assert!(now.ballot >= was.ballot, "a ballot fell");
            let is_same = old_members == new_members && was.primary == now.primary;
            assert!(
                is_same || now.ballot > was.ballot,
                "members changed under one ballot"
            );
            // Before it was made nothing was written: then it may be made by others.
            let was_made = was.stage == Stage::Active;
            assert!(
                !was_made || old_members.contains(&now.primary.unwrap()),
                "somebody else leads"
            );
            let joined: Vec<_> = new_members.difference(&old_members).collect();
            let learner = was.learner.map(|it| it.member);
            assert!(
                !was_made || joined.iter().all(|it| Some(**it) == learner),
                "somebody else joined"
            );
            let stays = learner.is_none()
                || now.learner.map(|it| it.member) == learner
                || learner.is_some_and(|it| new_members.contains(&it));
            assert!(
                stays || now.ballot > was.ballot,
                "a learner left without a ballot"
            );
            let nodes: BTreeSet<NodeId> = new_members.iter().map(|it| it.address.node).collect();
            assert_eq!(nodes.len(), new_members.len(), "two members on one node");
            let most = old_members.len().max(usize::from(table.replica_count) + 1);
            assert!(new_members.len() <= most, "more members than wanted");
        }
    }
}
