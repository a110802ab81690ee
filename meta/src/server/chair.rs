//! Who answers letters: the decider while this meta leads, otherwise somebody who says who does.

use super::clock::Clock;
use super::decider::Decider;
use super::facts::Place;
use super::http;
use super::letter::{Failed, Letter};
use super::{Counters, redirect, wire};
use crate::leadership::{Leadership, Standing};
use crate::state::{HealOptions, State};
use crate::store::StoreError;
use pegasus_fbs::code::Code;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Letters that are decided together, and flushed once.
const BATCH_MAX: usize = 256;

/// The thread's work.
pub(super) struct Chair {
    leadership: Box<dyn Leadership>,
    heal: HealOptions,
    clock: Clock,
    place: Place,
    counters: Arc<Counters>,
    /// While this meta leads.
    decider: Option<Decider>,
    /// While another one does.
    leader: Option<String>,
}

impl Chair {
    pub(super) fn new(
        leadership: Box<dyn Leadership>,
        heal: HealOptions,
        (clock, place): (Clock, Place),
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            leadership,
            heal,
            clock,
            place,
            counters,
            decider: None,
            leader: None,
        }
    }

    /// Works until it is told to stop.
    ///
    /// # Errors
    /// The store has failed for good.
    pub(super) fn run(mut self, mut mailbox: mpsc::Receiver<Letter>) -> Result<(), StoreError> {
        let mut outcome = self.look();
        while outcome.is_ok()
            && let Some(first) = mailbox.blocking_recv()
        {
            let mut letters = vec![first];
            while let Some(letter) = mailbox
                .try_recv()
                .ok()
                .filter(|_| letters.len() < BATCH_MAX)
            {
                letters.push(letter);
            }
            let stops = letters.iter().any(|letter| matches!(letter, Letter::Stop));
            outcome = self.look().and_then(|()| self.handle(letters));
            if stops {
                break;
            }
        }
        self.leadership.resign();
        outcome
    }

    /// Takes the lead, or lets go of it.
    fn look(&mut self) -> Result<(), StoreError> {
        match self.leadership.standing()? {
            Standing::Leads if self.decider.is_none() => self.begin(),
            Standing::Leads => Ok(()),
            Standing::Follows { leader } => {
                self.depose("it follows");
                self.leader = leader;
                Ok(())
            }
        }
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        let term = match self.leadership.begin() {
            Ok(term) => term,
            Err(StoreError::Deposed { reason, .. }) => {
                tracing::debug!(reason, "not leading yet");
                self.leader = None;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let state = State::from_durable(term.durable).with_options(self.heal);
        state.check();
        self.place.term = term.number;
        self.place.leads = true;
        self.leader = None;
        let is_one_of_many = term.number > 0;
        if is_one_of_many {
            tracing::info!(
                term = term.number,
                tables = state.durable().tables().len(),
                "leading"
            );
        }
        let seat = (self.clock, self.place.clone());
        let decider = Decider::new(state, term.store, seat, Arc::clone(&self.counters));
        self.decider = Some(if is_one_of_many {
            decider.settle()
        } else {
            decider
        });
        Ok(())
    }

    fn depose(&mut self, reason: &str) {
        self.place.leads = false;
        if let Some(decider) = self.decider.take() {
            tracing::warn!(term = self.place.term, reason, "not leading any more");
            decider.leave();
        }
    }

    fn handle(&mut self, letters: Vec<Letter>) -> Result<(), StoreError> {
        let asks = |letter: &Letter| {
            matches!(
                letter,
                Letter::Query { .. } | Letter::Apache { .. } | Letter::Http { .. }
            )
        };
        if letters.iter().any(asks) {
            self.place.members = self.leadership.members();
        }
        let letters = self.change_metas(letters);
        let Some(decider) = &mut self.decider else {
            letters
                .into_iter()
                .for_each(|letter| self.turn_away(letter));
            return Ok(());
        };
        decider.know_metas(&self.place);
        match decider.handle_batch(letters) {
            Err(StoreError::Deposed { reason, .. }) => {
                self.depose(&reason);
                Ok(())
            }
            handled => handled,
        }
    }

    /// Members are changed beside what is decided, and take a while.
    fn change_metas(&mut self, letters: Vec<Letter>) -> Vec<Letter> {
        let mut others = Vec::with_capacity(letters.len());
        for letter in letters {
            match letter {
                Letter::ChangeMetas {
                    change,
                    header,
                    outbox,
                } if self.decider.is_some() => {
                    let done = move |changed: Result<(), String>| match changed {
                        Ok(()) => outbox.send(&header.reply(), &wire::change_reply(true, "")),
                        Err(message) => {
                            outbox.refuse(&header, &Failed::new(Code::InvalidArgument, message));
                        }
                    };
                    self.leadership.change_members(change, Box::new(done));
                }
                other => others.push(other),
            }
        }
        others
    }

    /// Says who leads.
    fn turn_away(&self, letter: Letter) {
        let leader = self.leader.as_deref();
        match letter {
            Letter::Http { request, done } => {
                let past = http::Past {
                    counters: &self.counters,
                    started_s: self.clock.started_s(),
                };
                _ = done.send(http::answer_following(&self.place, leader, past, &request));
            }
            other => redirect::letter(other, leader),
        }
    }
}
