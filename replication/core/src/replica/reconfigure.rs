//! Configurations: which are adopted, and what becomes of the role and of everybody who waits.

use super::primary::{Phase, Primary};
use super::{Replica, Role};
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

    /// The engine has made the empty storage: what meta has said meanwhile counts now.
    pub(crate) fn handle_created(&mut self, turn: &mut Turn<'_>) {
        assert!(
            matches!(self.role, Role::Creating { .. }),
            "{}: created twice",
            self.partition
        );
        self.role = Role::Idle;
        if let Some(configuration) = self.configuration.clone() {
            self.handle_configured(configuration, turn);
        }
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
        let primary = configuration.primary.map(|member| member.address);
        self.refuse_everybody(Reject::NotPrimary { primary }, turn);
        self.leave_links(turn);
        let adopted_before = configuration.ballot == self.ballot;
        if !adopted_before {
            self.adopt(configuration.ballot, turn);
        }
        let identity = turn.desk.identity;
        self.ballot_installed = configuration.ballot;
        self.role = if primary == Some(identity) {
            let phase = if adopted_before {
                Phase::WaitingForBallot
            } else {
                Phase::Adopting
            };
            Role::Primary(Primary::new(phase, &configuration))
        } else if configuration
            .secondaries
            .iter()
            .any(|member| member.address == identity)
        {
            Role::Secondary
        } else {
            Role::Idle
        };
        self.configuration = Some(configuration);
        if adopted_before && matches!(self.role, Role::Primary(_)) {
            self.propose_next_ballot(turn);
        }
    }

    /// From here on everything older is refused. Our commit point goes into the log first: entries up to it are acknowledged
    /// under the new ballot without being appended again, so it has to survive as long as the adoption does.
    fn adopt(&mut self, ballot: Ballot, turn: &mut Turn<'_>) {
        let (partition, incarnation) = (self.partition, self.incarnation);
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
        self.ballot = ballot;
        self.matched = self.committed;
        self.acknowledged = Decree::ZERO;
        self.beacon_owed = None;
        self.restamp = None;
    }
}
