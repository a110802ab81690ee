//! Who is in the group, and how that changes.

use super::codec::MemberId;
use super::peers::Peers;
use super::raft::{Member, Raft};
use crate::leadership::{MemberChange, MetaMember};
use openraft::ChangeMembers;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Members that vote, at most: more would make every change slower and nothing safer.
const VOTERS_MAX: usize = 7;
/// For a new member to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// For a new member to be sent everything.
const LEARN_TIMEOUT: Duration = Duration::from_secs(120);
/// For a majority to agree.
const AGREE_TIMEOUT: Duration = Duration::from_secs(10);

/// All members, by number.
pub(super) fn list(raft: &Raft, peers: &Peers) -> Vec<MetaMember> {
    let metrics = raft.metrics().borrow().clone();
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<MemberId> = membership.voter_ids().collect();
    let leads_here = metrics.state.is_leader();
    let member = |(&id, member): (&MemberId, &Member)| {
        let is_us = id == peers.us.member;
        MetaMember {
            id,
            address: member.client_address.clone(),
            peer_address: member.peer_address.clone(),
            leads: metrics.current_leader == Some(id),
            is_up: (leads_here || is_us).then(|| is_us || peers.is_up(id)),
            is_learner: !voters.contains(&id),
        }
    };
    membership.nodes().map(member).collect()
}

/// Changes the members as is wanted; `highest` is the highest number that any ever had.
pub(super) async fn change(
    raft: &Raft,
    peers: &Arc<Peers>,
    highest: MemberId,
    change: MemberChange,
) -> Result<(), String> {
    match change {
        MemberChange::Add { id, peer_address } => {
            add(raft, peers, highest, id, &peer_address).await
        }
        MemberChange::Remove { id } => remove(raft, id).await,
    }
}

async fn add(
    raft: &Raft,
    peers: &Arc<Peers>,
    highest: MemberId,
    id: MemberId,
    address: &str,
) -> Result<(), String> {
    let them = match timeout(PROBE_TIMEOUT, peers.probe(address)).await {
        Ok(Ok(them)) => them,
        Ok(Err(error)) => return Err(format!("no member answers at {address}: {error}")),
        Err(_) => return Err(format!("no member answers at {address}")),
    };
    if them.member != id {
        return Err(format!("at {address} is member {}, not {id}", them.member));
    }
    let membership = raft.metrics().borrow().membership_config.clone();
    let membership = membership.membership();
    match membership.get_node(&id) {
        // An addition that was cut short goes on.
        Some(known) if known.incarnation == them.incarnation => {}
        Some(_) => {
            return Err(format!(
                "the group has a member {id} already, with another directory; one that has lost its directory is \
                 removed, and added under a new number"
            ));
        }
        None if id <= highest => {
            return Err(format!(
                "numbers up to {highest} were given before, and none is given again: a member that forgot its votes \
                 could vote twice; make the new one with a higher number"
            ));
        }
        None => {}
    }
    let voters: BTreeSet<MemberId> = membership.voter_ids().collect();
    if voters.contains(&id) {
        return Ok(());
    }
    if voters.len() >= VOTERS_MAX {
        return Err(format!("a group has at most {VOTERS_MAX} members"));
    }
    let member = Member {
        client_address: them.client_address,
        peer_address: them.peer_address,
        incarnation: them.incarnation,
    };
    let learns = timeout(LEARN_TIMEOUT, raft.add_learner(id, member, true));
    let learned = learns
        .await
        .map_err(|_| format!("member {id} has not caught up in time; it goes on"))?;
    learned.map_err(|error| error.to_string())?;
    agree(raft, ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
}

async fn remove(raft: &Raft, id: MemberId) -> Result<(), String> {
    let membership = raft.metrics().borrow().membership_config.clone();
    let membership = membership.membership();
    if membership.get_node(&id).is_none() {
        return Err(format!("the group has no member {id}"));
    }
    let voters: BTreeSet<MemberId> = membership.voter_ids().collect();
    if !voters.contains(&id) {
        return agree(raft, ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await;
    }
    if voters.len() == 1 {
        return Err(format!("member {id} is the only one that is left"));
    }
    agree(raft, ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await
}

async fn agree(raft: &Raft, change: ChangeMembers<MemberId, Member>) -> Result<(), String> {
    match timeout(AGREE_TIMEOUT, raft.change_membership(change, false)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            Err("no majority of the group answers; the change may still come about".to_owned())
        }
    }
}
