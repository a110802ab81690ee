//! What the shards said and how they stand, in words.

use super::Script;
use crate::world::partition;
use pegasus_replication::config::{Member, Proposal};
use pegasus_replication::event::Effect;
use pegasus_replication::ids::{Ballot, PartitionId};
use pegasus_replication::{LearnStage, Phase, Replica, RoleName};
use std::fmt::Write as _;

impl Script {
    pub(super) fn said(&mut self) -> String {
        let mut out = String::new();
        // Proposals are repeated until something comes of them: once is enough to know.
        let mut proposed = Vec::new();
        for (node, effect) in std::mem::take(&mut self.world.said) {
            if matches!(effect, Effect::Propose { .. }) {
                if proposed.contains(&(node, effect.clone())) {
                    continue;
                }
                proposed.push((node, effect.clone()));
            }
            let text = match effect {
                Effect::Reply { ticket, decree } => {
                    let counting = self.world.counting.get(&ticket);
                    let value = counting.and_then(|counting| counting.value);
                    let value = value.map_or(String::new(), |value| format!("{value}, "));
                    format!("{} ok, {value}decree {decree}", self.names[&ticket])
                }
                Effect::Reject { ticket, reason } => {
                    format!("{} refused: {reason:?}", self.names[&ticket])
                }
                Effect::Propose {
                    partition,
                    ballot,
                    proposal,
                    ..
                } => propose(partition, ballot, proposal),
                Effect::Quarantine { partition, reason } => {
                    format!("{partition} out of service: {reason}")
                }
                Effect::MemberLost {
                    partition,
                    member,
                    reason,
                } => {
                    format!(
                        "{partition} lost its member on {}: {reason}",
                        member.address
                    )
                }
                Effect::Create {
                    partition,
                    incarnation,
                } => format!("{partition} create incarnation {incarnation}"),
                Effect::Remove {
                    partition,
                    incarnation,
                } => format!("{partition} remove incarnation {incarnation}"),
                Effect::Flush { partition } => format!("{partition} flush"),
                Effect::FetchLog {
                    partition,
                    source,
                    from,
                    to,
                    ..
                } => {
                    format!(
                        "{partition} fetch {from} to {to} from the log of {}",
                        source.address
                    )
                }
                Effect::FetchCheckpoint {
                    partition, source, ..
                } => format!("{partition} fetch a checkpoint from {}", source.address),
                other => format!("{other:?}"),
            };
            writeln!(out, "  {node}: {text}").unwrap();
        }
        out
    }

    pub(super) fn show(&self, only: Option<u32>) -> String {
        let mut out = String::new();
        for (node, one) in &self.world.nodes {
            let Some(shard) = &one.shard else {
                writeln!(out, "  {node}: down").unwrap();
                continue;
            };
            for replica in shard.replicas() {
                if only.is_none_or(|index| partition(index) == replica.partition()) {
                    writeln!(out, "  {node}: {}", describe(replica)).unwrap();
                }
            }
        }
        out
    }
}

fn propose(partition: PartitionId, ballot: Ballot, proposal: Proposal) -> String {
    let on = |member: Member| member.address;
    match proposal {
        Proposal::NextBallot => format!("{partition} asks for the ballot after {ballot}"),
        Proposal::TakeOver {
            prepared,
            prepared_ballot,
        } => {
            let stamp = prepared_ballot.counter();
            format!("{partition} asks to take over after {ballot}, prepared {prepared}({stamp})")
        }
        Proposal::Remove { member, cause } => {
            format!(
                "{partition} asks to remove {} after {ballot}: {cause:?}",
                on(member)
            )
        }
        Proposal::Add { member } => {
            format!("{partition} asks to add {} after {ballot}", on(member))
        }
        Proposal::HandOver { to } => {
            format!("{partition} asks to hand over to {} after {ballot}", on(to))
        }
        Proposal::WithdrawLearner { member } => {
            format!("{partition} asks to withdraw the learner {}", on(member))
        }
    }
}

fn describe(replica: &Replica) -> String {
    let role = match replica.role() {
        RoleName::Creating => "creating",
        RoleName::Idle => "idle",
        RoleName::Secondary => "secondary",
        RoleName::OutOfService => "out of service",
        RoleName::Primary(Phase::WaitingForBallot) => "primary, waits for a ballot",
        RoleName::Primary(Phase::Waiting) => "primary, waits for the one before",
        RoleName::Primary(Phase::Adopting) => "primary, adopts",
        RoleName::Primary(Phase::Reconciling) => "primary, reconciles",
        RoleName::Primary(Phase::Serving) => "primary, serves",
        RoleName::Primary(Phase::Superseded) => "primary, superseded",
        RoleName::Primary(Phase::Yielded) => "primary, yielded",
        RoleName::Learner => match replica.learn_stage() {
            Some(LearnStage::Asking { .. }) => "learner, asks",
            Some(LearnStage::Cutting) => "learner, cuts",
            Some(LearnStage::FetchingLog { .. }) => "learner, fetches the log",
            Some(LearnStage::FetchingCheckpoint) => "learner, fetches a checkpoint",
            Some(LearnStage::Attached) => "learner, attached",
            None => panic!("a learner has a stage"),
        },
    };
    let entries: Vec<String> = replica
        .entries()
        .map(|entry| {
            let payload = String::from_utf8_lossy(&entry.mutation.payload).into_owned();
            let name = if payload.is_empty() {
                "no-op".to_owned()
            } else {
                payload
            };
            format!("{}({}) {name}", entry.decree, entry.ballot.counter())
        })
        .collect();
    let list = if entries.is_empty() {
        String::new()
    } else {
        format!(" [{}]", entries.join(", "))
    };
    format!(
        "{} {role}, ballot {}, flushed {} applied {} committed {} prepared {} last {}{list}",
        replica.partition(),
        replica.ballot().counter(),
        replica.flushed(),
        replica.applied(),
        replica.committed(),
        replica.prepared(),
        replica.last(),
    )
}
