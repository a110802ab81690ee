//! A meta that follows the rules of the real one: durable, one change per ballot, late in hearing and in telling.

use crate::world::{World, address};
use pegasus_replication::config::{Configuration, Member, Proposal, RemovalCause, Stage};
use pegasus_replication::event::{Effect, Event};
use pegasus_replication::ids::{Ballot, PartitionId, ReplicaIncarnation};
use pegasus_replication::{Health, Replica};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) struct Meta {
    pub(crate) learners: BTreeMap<PartitionId, Member>,
    /// What each node has asked, in order.
    inbox: BTreeMap<u32, VecDeque<Asked>>,
    /// What each node will be told, in order.
    outbox: BTreeMap<u32, VecDeque<Event>>,
    next_incarnation: u64,
    pub(crate) is_down: bool,
    /// Changes made, by name.
    pub(crate) changes: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Copy)]
struct Asked {
    partition: PartitionId,
    incarnation: ReplicaIncarnation,
    ballot: Ballot,
    proposal: Proposal,
}

impl Meta {
    pub(crate) fn new() -> Self {
        Self {
            learners: BTreeMap::new(),
            inbox: BTreeMap::new(),
            outbox: BTreeMap::new(),
            next_incarnation: 100,
            is_down: false,
            changes: BTreeMap::new(),
        }
    }

    /// Takes what `node` says to the outside. Whatever is no proposal is given back.
    pub(crate) fn hear(&mut self, node: u32, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Propose {
                partition,
                incarnation,
                ballot,
                proposal,
            } => {
                if !self.is_down {
                    self.inbox.entry(node).or_default().push_back(Asked {
                        partition,
                        incarnation,
                        ballot,
                        proposal,
                    });
                }
                None
            }
            other => Some(other),
        }
    }

    /// The connection to `node` is gone, with all under way on it.
    pub(crate) fn disconnect(&mut self, node: u32) {
        self.inbox.remove(&node);
        self.outbox.remove(&node);
    }

    /// `node` joins: it is told everything that concerns it.
    pub(crate) fn join(&mut self, node: u32, world: &World) {
        self.disconnect(node);
        for configuration in world.configurations.values().cloned().collect::<Vec<_>>() {
            let is_member = configuration
                .members()
                .any(|member| member.address == address(node));
            let learner = self.learners.get(&configuration.partition).copied();
            let learns = learner.is_some_and(|learner| learner.address == address(node));
            if is_member || learns {
                self.tell(node, &configuration);
            }
        }
    }

    fn tell(&mut self, node: u32, configuration: &Configuration) {
        let learner = self.learners.get(&configuration.partition).copied();
        let out = self.outbox.entry(node).or_default();
        out.push_back(Event::Configured {
            configuration: configuration.clone(),
        });
        out.push_back(Event::LearnerAssigned {
            configuration: configuration.clone(),
            learner,
            is_fresh: true,
        });
    }

    /// Tells `node` the next thing. False: there is nothing.
    pub(crate) fn step_out(&mut self, node: u32, world: &mut World) -> bool {
        if self.is_down {
            return false;
        }
        let event = self.outbox.get_mut(&node).and_then(VecDeque::pop_front);
        let Some(event) = event else { return false };
        world.feed(node, event);
        true
    }

    /// Hears the next thing that `node` has asked. False: there is nothing.
    pub(crate) fn step_in(&mut self, node: u32, world: &mut World) -> bool {
        if self.is_down {
            return false;
        }
        let asked = self.inbox.get_mut(&node).and_then(VecDeque::pop_front);
        let Some(asked) = asked else { return false };
        let before = world.configurations[&asked.partition].clone();
        match self.decide(node, &before, &asked) {
            Some((name, next)) => {
                *self.changes.entry(name).or_default() += 1;
                self.change(&before, next, world);
            }
            None => self.tell(node, &before),
        }
        true
    }

    /// The configuration that a proposal makes, if it is one to grant.
    fn decide(
        &mut self,
        node: u32,
        before: &Configuration,
        asked: &Asked,
    ) -> Option<(&'static str, Configuration)> {
        let own = Member {
            address: address(node),
            incarnation: asked.incarnation,
        };
        if before.ballot != asked.ballot {
            return None;
        }
        let mut next = before.clone();
        next.ballot = before.ballot.next();
        let leads = before.primary == Some(own);
        let without = |member: Member| {
            let all = before.secondaries.iter().copied();
            all.filter(|other| *other != member).collect::<Vec<_>>()
        };
        let partition = before.partition;
        match asked.proposal {
            Proposal::NextBallot if leads => Some(("next ballot", next)),
            Proposal::TakeOver { .. } if before.secondaries.contains(&own) => {
                next.primary = Some(own);
                next.secondaries = without(own);
                Some(("take over", next))
            }
            Proposal::Remove { member, cause } if leads && before.secondaries.contains(&member) => {
                let too_few = before.members().count() <= usize::from(before.min_replicas);
                if cause == RemovalCause::Slow && too_few {
                    return None;
                }
                next.secondaries = without(member);
                Some(("remove", next))
            }
            Proposal::Add { member } if leads && self.learners.get(&partition) == Some(&member) => {
                self.learners.remove(&partition);
                next.secondaries.push(member);
                Some(("add", next))
            }
            Proposal::HandOver { to } if leads && before.secondaries.contains(&to) => {
                next.primary = Some(to);
                next.secondaries = without(to);
                next.secondaries.push(own);
                Some(("hand over", next))
            }
            Proposal::WithdrawLearner { member }
                if leads && self.learners.get(&partition) == Some(&member) =>
            {
                self.learners.remove(&partition);
                *self.changes.entry("withdraw").or_default() += 1;
                None
            }
            _ => None,
        }
    }

    fn change(&mut self, before: &Configuration, next: Configuration, world: &mut World) {
        let learner = self.learners.get(&before.partition);
        let concerned: BTreeSet<u32> = before
            .members()
            .chain(next.members())
            .chain(learner)
            .map(|member| member.address.node.0)
            .collect();
        world.configurations.insert(next.partition, next.clone());
        for node in concerned {
            self.tell(node, &next);
        }
    }

    /// Gives a partition that lacks members somebody who learns it, or the copy that is there a push.
    pub(crate) fn heal(&mut self, partition: PartitionId, target: u32, world: &mut World) {
        let configuration = world.configurations[&partition].clone();
        let assigned = self.learners.get(&partition).copied();
        let leads_nowhere = assigned.is_some_and(|learner| {
            let copy = world.replica(learner.address.node.0, partition);
            copy.is_some_and(|copy| {
                copy.health() == Health::OutOfService || copy.incarnation() != learner.incarnation
            })
        });
        if leads_nowhere {
            self.withdraw(partition, world);
        }
        let primary = configuration.primary.map(|member| member.address.node.0);
        let serves = primary
            .and_then(|node| world.replica(node, partition))
            .is_some_and(|replica| replica.health() == Health::Serving);
        let members = configuration.members().count();
        let is_member = configuration.member_on(address(target).node).is_some();
        if self.is_down
            || configuration.stage != Stage::Active
            || self.learners.contains_key(&partition)
            || members >= usize::from(configuration.replica_count)
            || is_member
            || !serves
            || !world.is_alive(target)
        {
            return;
        }
        let here = world.replica(target, partition);
        let here = here.map(|copy: &Replica| (copy.health(), copy.incarnation()));
        let incarnation = match here {
            Some((Health::OutOfService, incarnation)) => {
                self.outbox
                    .entry(target)
                    .or_default()
                    .push_back(Event::Dropped {
                        partition,
                        incarnation,
                    });
                return;
            }
            Some((_, incarnation)) => incarnation,
            None => {
                self.next_incarnation += 1;
                ReplicaIncarnation(self.next_incarnation)
            }
        };
        let learner = Member {
            address: address(target),
            incarnation,
        };
        self.learners.insert(partition, learner);
        *self.changes.entry("assign").or_default() += 1;
        self.tell(target, &configuration);
        self.tell(primary.expect("it serves"), &configuration);
    }

    /// Takes an assignment back that leads nowhere.
    pub(crate) fn withdraw(&mut self, partition: PartitionId, world: &World) {
        if self.is_down {
            return;
        }
        let Some(learner) = self.learners.remove(&partition) else {
            return;
        };
        let configuration = &world.configurations[&partition];
        let primary = configuration.primary.map(|member| member.address.node.0);
        self.tell(learner.address.node.0, configuration);
        if let Some(primary) = primary {
            self.tell(primary, configuration);
        }
    }

    /// Wants another primary.
    pub(crate) fn hand_over(&mut self, partition: PartitionId, to: usize, world: &World) {
        let configuration = &world.configurations[&partition];
        let to = configuration.secondaries.get(to);
        let primary = configuration.primary.map(|member| member.address.node.0);
        if let (false, Some(to), Some(primary)) = (self.is_down, to, primary) {
            self.outbox
                .entry(primary)
                .or_default()
                .push_back(Event::HandOver {
                    partition,
                    ballot: configuration.ballot,
                    to: *to,
                });
        }
    }
}
