//! What must hold after every event: within one replica, and across the replicas of a partition at one instant.
//!
//! 1. Committed prefixes of any two replicas agree; a commit point never goes back.
//! 2. `committed(secondary) <= committed(primary) <= prepared(any member)`.
//! 3. At most one primary serves at any instant.
//! 4. Every configuration contains every acknowledged mutation.
//! 5. An acknowledged write survives any crash of all nodes at once.
//!
//! A snapshot shows 1 (as far as entries are in memory) and 2, and 3 by [`Shard::may_read`](crate::shard::Shard::may_read), with
//! each core's own clock; that commit points do not go back and 5 need a history,
//! which the randomized test and the simulator keep. 4 follows from 2 for as long as meta keeps the members.

use super::{Phase, Replica, Role};
use crate::ids::Ballot;

impl Replica {
    /// Checks what must hold within one replica.
    ///
    /// # Panics
    /// If it does not: a bug here, or a broken contract of the caller.
    pub fn check(&self) {
        let partition = self.partition;
        assert!(
            self.flushed <= self.issued,
            "{partition}: the engine has flushed what it was not given"
        );
        assert!(
            self.applied <= self.issued,
            "{partition}: applied without an order to"
        );
        assert!(
            self.issued <= self.committed,
            "{partition}: issued before the commit"
        );
        assert!(
            self.committed <= self.durable,
            "{partition}: committed and not durable here"
        );
        assert!(
            self.durable <= self.list.last(),
            "{partition}: durable and not held"
        );
        assert!(
            self.list.base() <= self.applied,
            "{partition}: released before it was applied"
        );
        assert!(
            self.ballot_durable <= self.ballot,
            "{partition}: an adoption durable before it was made"
        );
        assert!(
            self.ballot_installed <= self.ballot,
            "{partition}: a role in a ballot that is not adopted"
        );
        self.check_stamps();
        self.check_role();
        self.check_gates();
    }

    fn check_stamps(&self) {
        let mut stamp = Ballot::NONE;
        let acting = matches!(&self.role, Role::Primary(primary) if primary.acts());
        for slot in self.list.slots() {
            let entry = &slot.entry;
            assert!(
                entry.ballot <= self.ballot,
                "{}: an entry of a ballot not adopted",
                self.partition
            );
            // Behind the matched part there may be the tail of an older ballot that is prepared again entry by entry.
            if entry.decree <= self.matched || acting {
                assert!(
                    entry.ballot >= stamp,
                    "{}: ballots fall at decree {}",
                    self.partition,
                    entry.decree
                );
                stamp = entry.ballot;
            }
            let waits = slot.waiter.is_some();
            assert!(
                !waits || matches!(self.role, Role::Primary(_)),
                "{}: a client waits for a replica that is no primary",
                self.partition
            );
        }
    }

    fn check_role(&self) {
        let Role::Primary(primary) = &self.role else {
            return;
        };
        assert_eq!(
            self.ballot, self.ballot_installed,
            "{}: primary of a ballot of an earlier life",
            self.partition
        );
        if !primary.acts() {
            return;
        }
        assert_eq!(
            self.ballot, self.ballot_durable,
            "{}: acts before the adoption is durable",
            self.partition
        );
        for progress in primary.peers() {
            assert!(
                progress.acknowledged <= self.list.last(),
                "{}: acknowledged and not sent",
                self.partition
            );
            assert!(
                progress.sent <= self.list.last(),
                "{}: sent and not held",
                self.partition
            );
        }
    }
}

/// Checks invariants 1 and 2 across `replicas`, all of one partition and at one instant: those that are alive, in any order.
///
/// # Panics
/// If one does not hold, with the partition and the decree.
pub fn check_group(replicas: &[&Replica]) {
    for replica in replicas {
        replica.check();
    }
    for (index, one) in replicas.iter().enumerate() {
        for other in replicas.iter().skip(index + 1) {
            check_committed_agree(one, other);
        }
    }
    for replica in replicas {
        if let Role::Primary(primary) = &replica.role
            && primary.acts()
        {
            check_commit_points(replica, replicas);
        }
    }
}

fn check_committed_agree(one: &Replica, other: &Replica) {
    assert_eq!(one.partition, other.partition);
    let common = one.committed.min(other.committed);
    for entry in one.entries().take_while(|entry| entry.decree <= common) {
        if let Some(twin) = other.list.entry(entry.decree) {
            assert_eq!(
                entry.mutation, twin.mutation,
                "{}: committed mutations differ at decree {}",
                one.partition, entry.decree
            );
        }
    }
}

/// Whether `replica` has gone on to a ballot above that of `primary`, and is not known to be a member there: it may learn anew.
fn has_left(replica: &Replica, primary: &Replica) -> bool {
    let newest = replica.configuration.as_ref();
    let newest = newest.filter(|newest| newest.ballot >= replica.ballot);
    let is_member = newest.is_some_and(|newest| {
        let mut members = newest.members();
        members.any(|member| member.incarnation == replica.incarnation)
    });
    replica.ballot > primary.ballot && !is_member
}

fn check_commit_points(primary: &Replica, replicas: &[&Replica]) {
    let partition = primary.partition;
    let configuration = primary
        .configuration
        .as_ref()
        .expect("a primary has a configuration");
    for replica in replicas {
        let is_member = configuration
            .secondaries
            .iter()
            .any(|member| member.incarnation == replica.incarnation);
        if !is_member || replica.is_out_of_service() || has_left(replica, primary) {
            continue;
        }
        assert!(
            primary.committed <= replica.durable,
            "{partition}: committed {} and a member holds only {}",
            primary.committed,
            replica.durable
        );
        let serves = matches!(&primary.role, Role::Primary(role) if role.phase() == Phase::Serving);
        if serves && replica.ballot == primary.ballot {
            assert!(
                replica.committed <= primary.committed,
                "{partition}: a secondary has committed {}, the primary only {}",
                replica.committed,
                primary.committed
            );
        }
    }
}
