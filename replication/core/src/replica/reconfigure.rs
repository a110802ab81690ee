//! Configurations: which are adopted, and what becomes of the role and of everybody who waits.

use super::learner::Fetch;
use super::prepared_list::PreparedList;
use super::primary::{Phase, Primary};
use super::{Replica, Role, Timer};
use crate::config::{Configuration, Stage};
use crate::event::{Effect, Reject};
use crate::ids::{Ballot, Decree};
use crate::log::Record;
use crate::shard::turn::Turn;

impl Replica {
    /// Meta's word. Older ones and repetitions change nothing.
    pub(crate) fn handle_configured(&mut self, configuration: Configuration, turn: &mut Turn<'_>) {
        assert_eq!(configuration.partition, self.partition);
        if matches!(self.role, Role::Creating { .. } | Role::OutOfService { .. }) {
            self.remember(configuration);
            return;
        }
        let identity = turn.desk.identity;
        let own = configuration
            .members()
            .find(|member| member.address == identity);
        if configuration.ballot < self.ballot {
            return;
        }
        if let Some(member) = own
            && member.incarnation != self.incarnation
        {
            let reason = format!(
                "the configuration names incarnation {}, this is {}",
                member.incarnation, self.incarnation
            );
            turn.effects.push(Effect::Quarantine {
                partition: self.partition,
                reason: reason.clone(),
            });
            self.leave_service(reason, turn);
            self.remember(configuration);
            return;
        }
        match configuration.stage {
            Stage::Creating => self.remember(configuration),
            Stage::Active if configuration.ballot > self.ballot_installed => {
                self.install(configuration, turn)
            }
            Stage::Active => {}
        }
    }

    /// The engine has made the storage, which holds everything up to `decree`: what meta has said meanwhile counts now.
    pub(crate) fn handle_created(&mut self, decree: Decree, turn: &mut Turn<'_>) {
        assert!(
            matches!(self.role, Role::Creating { .. }),
            "{}: created twice",
            self.partition
        );
        self.role = Role::Idle;
        if decree > Decree::ZERO {
            self.begin_at(decree, turn);
        }
        if let Some(configuration) = self.configuration.clone() {
            self.handle_configured(configuration, turn);
        }
    }

    /// What is there is of another partition's order: nothing of it is in this log, and its ballots mean nothing here.
    fn begin_at(&mut self, decree: Decree, turn: &mut Turn<'_>) {
        assert_eq!(
            self.list.last(),
            Decree::ZERO,
            "{}: restored over what it has prepared",
            self.partition
        );
        self.list = PreparedList::new(decree, Ballot::NONE);
        (self.flushed, self.applied, self.issued) = (decree, decree, decree);
        (self.committed, self.durable, self.matched) = (decree, decree, decree);
        turn.desk.log.set_durable_in_engine(self.partition, decree);
    }

    fn remember(&mut self, configuration: Configuration) {
        let known = self
            .configuration
            .as_ref()
            .map_or(Ballot::NONE, |known| known.ballot);
        if configuration.ballot >= known {
            self.configuration = Some(configuration);
        }
    }

    /// Takes the role that `configuration` gives. Its ballot is adopted, if it was not in an earlier life already.
    ///
    /// A primary that stays primary keeps its clients: what they wait for is prepared again under the new ballot.
    pub(super) fn install(&mut self, configuration: Configuration, turn: &mut Turn<'_>) {
        assert_eq!(
            configuration.stage,
            Stage::Active,
            "{}: nobody acts while members are created",
            self.partition
        );
        assert!(
            configuration.ballot >= self.ballot,
            "{}: ballots never go back",
            self.partition
        );
        assert!(
            configuration.ballot > self.ballot_installed,
            "{}: installed twice",
            self.partition
        );
        let identity = turn.desk.identity;
        let primary = configuration.primary.map(|member| member.address);
        let next = if primary == Some(identity) {
            Role::Primary(self.next_primary(&configuration, turn))
        } else {
            self.refuse_everybody(Reject::NotPrimary { primary }, turn);
            let is_secondary = configuration
                .secondaries
                .iter()
                .any(|member| member.address == identity);
            if is_secondary {
                Role::Secondary
            } else {
                Role::Idle
            }
        };
        let has_lost = self.lacks_members_of_before(&configuration);
        self.leave_role(turn);
        let adopted_before = configuration.ballot == self.ballot;
        let must_wait = matches!(&next, Role::Primary(next) if next.phase() == Phase::Waiting);
        if !adopted_before {
            self.enter_ballot(configuration.ballot);
            if !must_wait {
                self.append_adoption(turn);
            }
        }
        self.ballot_installed = configuration.ballot;
        self.role = next;
        if configuration
            .members()
            .any(|member| Some(*member) == self.learner)
        {
            self.learner = None;
        }
        self.configuration = Some(configuration);
        self.keep_for_the_lost(has_lost, turn);
        if self.fetch == Some(Fetch::Checkpoint) && !matches!(self.role, Role::Idle) {
            // A member's storage must not be replaced. Nobody makes us one meanwhile, as nobody can count us.
            self.leave_service("a member while it gets a checkpoint".to_owned(), turn);
            return;
        }
        self.begin_role(turn);
    }

    /// The role is new: what it does first.
    fn begin_role(&mut self, turn: &mut Turn<'_>) {
        match &self.role {
            Role::Primary(primary) => {
                let wait_until = primary.wait_until;
                if let Some(at) = wait_until {
                    self.timers.set(Timer::Wait, at, self.partition, turn);
                }
                self.cover_members(turn);
                // Only a ballot of an earlier life calls for anything before it is adopted.
                self.propose(turn);
            }
            Role::Secondary => self.watch_primary(turn),
            Role::Idle if self.is_assigned(turn) => self.become_learner(turn),
            Role::Idle | Role::Creating { .. } | Role::Learner(_) | Role::OutOfService { .. } => {}
        }
    }

    /// What we are as primary by `configuration`, which is not installed yet.
    fn next_primary(&mut self, configuration: &Configuration, turn: &mut Turn<'_>) -> Primary {
        let ballot = configuration.ballot;
        let wait_until = self.earlier_primary_may_serve_until(configuration, turn);
        let wait_until = wait_until.filter(|until| *until > turn.now);
        let phase = if ballot == self.ballot {
            Phase::WaitingForBallot
        } else if wait_until.is_some() {
            Phase::Waiting
        } else {
            Phase::Adopting
        };
        let is_next = self.ballot.next() == ballot && self.ballot_installed == self.ballot;
        let before = match &self.role {
            Role::Primary(before) if is_next => Some(before),
            _ => None,
        };
        let reign = before.map_or(ballot, |before| before.reign);
        let mut primary = Primary::new(phase, reign, configuration);
        primary.wait_until = wait_until.filter(|_| phase == Phase::Waiting);
        for progress in &mut primary.peers {
            // It does not matter under which ballot a beacon was acknowledged.
            let known = before.and_then(|before| {
                let mut peers = before.peers().iter();
                peers.find(|peer| peer.member == progress.member)
            });
            progress.lease = known.and_then(|known| known.lease);
        }
        if before.is_none() {
            // Others may have served meanwhile, so what was read then proves nothing.
            self.refuse_at_gates(Reject::NotServing, turn);
            self.refuse_parked_reads(Reject::NotServing, turn);
        }
        primary
    }

    /// From here on everything older is refused.
    pub(super) fn enter_ballot(&mut self, ballot: Ballot) {
        self.ballot = ballot;
        if !planted!(CommitPointOfWrongBallot) {
            self.matched = self.committed;
        }
        self.acknowledged = Decree::ZERO;
        self.beacon_owed = None;
        self.restamp = None;
        self.promised = false;
    }

    /// Our commit point goes into the log first: entries up to it are acknowledged under the new ballot without being appended
    /// again, so it has to survive as long as the adoption does.
    pub(super) fn append_adoption(&mut self, turn: &mut Turn<'_>) {
        let (partition, incarnation, ballot) = (self.partition, self.incarnation, self.ballot);
        if self.committed > Decree::ZERO {
            turn.desk.log.append(Record::Committed {
                partition,
                incarnation,
                decree: self.committed,
            });
        }
        turn.desk.log.append(Record::Adopt {
            partition,
            incarnation,
            ballot,
        });
    }
}
