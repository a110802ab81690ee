//! The partitions of one table: where each one's primary is, and under which ballot that was heard.
//!
//! Answers come from meta and from cores that repeat what they heard last, in any order; redirects come from cores, and
//! from those that know it with the ballot of the configuration that names the primary. What is known of a partition never goes back to an older ballot:
//!
//! ```text
//! heard                          known: ballot b from an answer     known: a redirect under ballot b
//! answer, ballot > b             taken                              taken
//! answer, ballot = b             taken                              kept, unless the redirect is in doubt
//! answer, ballot < b             kept, for a minute                 kept, for a minute
//! redirect, ballot > b           taken, and the ballot with it
//! redirect, ballot < b           not taken: meta is asked
//! redirect, ballot = b or none   taken, unless it leads back to the primary before: that is asked for first
//! ```

use crate::endpoint::Endpoint;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::time::Instant;

/// One table as it was heard.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) table_id: u32,
    /// Ballot and primary of each partition.
    pub(super) partitions: Vec<(u64, Option<Arc<Endpoint>>)>,
    /// A few cores that are secondaries.
    pub(super) secondaries: Vec<Arc<Endpoint>>,
}

/// One table as it is known; primaries change in place when a redirect names a newer one.
#[derive(Debug)]
pub(crate) struct Routes {
    pub(crate) table_id: u32,
    /// Grows with each answer.
    pub(crate) generation: u64,
    places: Vec<RwLock<Place>>,
    secondaries: Vec<Arc<Endpoint>>,
    /// A core says that there is no table of this number.
    is_disowned: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Place {
    ballot: u64,
    primary: Option<Arc<Endpoint>>,
    /// The primary is known from a redirect, under this ballot or a newer one.
    is_redirect: bool,
    /// The primary before this one, to see through redirects of cores that are behind.
    before: Option<Arc<Endpoint>>,
    /// Since when every answer has an older ballot.
    older_since: Option<Instant>,
}

/// Repeated answers are at most half a minute old (a core that has lost meta gives none that is older). Who still hears
/// nothing but older ballots talks to a cluster that was made anew.
const OLDER_TAKEN_AFTER: Duration = Duration::from_secs(60);

impl Routes {
    pub(super) fn first(heard: Heard) -> Self {
        let places = heard.partitions.into_iter().map(|(ballot, primary)| Place {
            ballot,
            primary,
            ..Place::default()
        });
        Self {
            table_id: heard.table_id,
            generation: 1,
            places: places.map(RwLock::new).collect(),
            secondaries: heard.secondaries,
            is_disowned: AtomicBool::new(false),
        }
    }

    /// What is known after an answer.
    pub(super) fn merged(&self, heard: Heard, now: Instant) -> Self {
        let generation = self.generation + 1;
        let is_same =
            heard.table_id == self.table_id && heard.partitions.len() == self.places.len();
        if is_same {
            let merge = |(place, heard)| RwLock::new(read(place).merged(heard, now));
            return Self {
                table_id: self.table_id,
                generation,
                places: self
                    .places
                    .iter()
                    .zip(heard.partitions)
                    .map(merge)
                    .collect(),
                secondaries: heard.secondaries,
                is_disowned: AtomicBool::new(self.is_disowned.load(Ordering::Relaxed)),
            };
        }
        // Numbers of tables grow: a lower one is of a table that was dropped, unless the one that is known is.
        let is_older = heard.table_id < self.table_id && !self.is_disowned.load(Ordering::Relaxed);
        if is_older {
            return Self {
                table_id: self.table_id,
                generation,
                places: self
                    .places
                    .iter()
                    .map(|place| RwLock::new(read(place).clone()))
                    .collect(),
                secondaries: self.secondaries.clone(),
                is_disowned: AtomicBool::new(false),
            };
        }
        Self {
            generation,
            ..Self::first(heard)
        }
    }

    pub(crate) fn partition_count(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    /// The primary's core, when it is known.
    pub(crate) fn primary(&self, partition: u32) -> Option<Arc<Endpoint>> {
        read(self.places.get(partition as usize)?).primary.clone()
    }

    pub(super) fn has_primary_at(&self, address: &str) -> bool {
        let is_there = |primary: &Arc<Endpoint>| primary.address() == address;
        self.places
            .iter()
            .any(|place| read(place).primary.as_ref().is_some_and(is_there))
    }

    /// Corrects one partition after the core `from` named `to` as its primary. Says whether to go where this leads:
    /// not if it leads back to the primary before, the first time.
    /// Not either if it is of an older configuration than the one that is known.
    pub(super) fn redirect(
        &self,
        partition: u32,
        from: &Arc<Endpoint>,
        to: Arc<Endpoint>,
        ballot: u64,
    ) -> bool {
        let Some(place) = self.places.get(partition as usize) else {
            return false;
        };
        let mut place = place.write().unwrap_or_else(PoisonError::into_inner);
        if !is(place.primary.as_ref(), from) {
            return true; // somebody has learned more since
        }
        if ballot != 0 && ballot < place.ballot {
            return false;
        }
        // Under a newer ballot it may well have come back.
        if ballot <= place.ballot && is(place.before.as_ref(), &to) {
            place.before = None;
            return false;
        }
        place.ballot = place.ballot.max(ballot);
        place.before = place.primary.replace(to);
        place.is_redirect = true;
        true
    }

    /// The primary `at` gave no answer that helps: the next answer of meta counts more than a redirect there.
    pub(crate) fn doubt(&self, partition: u32, at: &Arc<Endpoint>) {
        if let Some(place) = self.places.get(partition as usize) {
            let mut place = place.write().unwrap_or_else(PoisonError::into_inner);
            if is(place.primary.as_ref(), at) {
                place.is_redirect = false;
            }
        }
    }

    /// A core says that there is no such table: the next answer is taken, whatever its number.
    pub(crate) fn disown(&self) {
        self.is_disowned.store(true, Ordering::Relaxed);
    }

    /// Whether anything is different from `old`, and the cores that partitions have left since.
    pub(super) fn changes_since(&self, old: &Self) -> (bool, Vec<Arc<Endpoint>>) {
        let mut is_changed = self.table_id != old.table_id || self.places.len() != old.places.len();
        let mut left: Vec<Arc<Endpoint>> = Vec::new();
        for (old, new) in old.places.iter().zip(&self.places) {
            let (old, new) = (read(old), read(new));
            is_changed |= old.ballot != new.ballot;
            let (Some(from), Some(to)) = (&old.primary, &new.primary) else {
                is_changed |= old.primary.is_some() != new.primary.is_some();
                continue;
            };
            if !Arc::ptr_eq(from, to) {
                is_changed = true;
                if !left.iter().any(|known| Arc::ptr_eq(known, from)) {
                    left.push(Arc::clone(from));
                }
            }
        }
        (is_changed, left)
    }

    /// Distinct cores that may know where partitions are: primaries from the one of `start` on, then secondaries.
    pub(super) fn cores(&self, start: usize) -> Vec<Arc<Endpoint>> {
        const PRIMARIES_MAX: usize = 16;
        let mut cores: Vec<Arc<Endpoint>> = Vec::new();
        let places = self
            .places
            .iter()
            .cycle()
            .skip(start)
            .take(self.places.len());
        for primary in places.filter_map(|place| read(place).primary.clone()) {
            if !cores.iter().any(|core| Arc::ptr_eq(core, &primary)) {
                cores.push(primary);
            }
            if cores.len() == PRIMARIES_MAX {
                break;
            }
        }
        for secondary in &self.secondaries {
            if !cores.iter().any(|core| Arc::ptr_eq(core, secondary)) {
                cores.push(Arc::clone(secondary));
            }
        }
        cores
    }
}

impl Place {
    fn merged(&self, (ballot, primary): (u64, Option<Arc<Endpoint>>), now: Instant) -> Self {
        if ballot < self.ballot {
            let since = self.older_since.unwrap_or(now);
            if now.saturating_duration_since(since) < OLDER_TAKEN_AFTER {
                return Self {
                    older_since: Some(since),
                    ..self.clone()
                };
            }
        }
        let is_known = ballot == self.ballot && (self.is_redirect || primary.is_none());
        if is_known {
            return Self {
                older_since: None,
                ..self.clone()
            };
        }
        let before = match &primary {
            Some(primary) if is(self.primary.as_ref(), primary) => self.before.clone(),
            _ => self.primary.clone(),
        };
        Self {
            ballot,
            primary,
            before,
            is_redirect: false,
            older_since: None,
        }
    }
}

fn read(place: &RwLock<Place>) -> RwLockReadGuard<'_, Place> {
    place.read().unwrap_or_else(PoisonError::into_inner)
}

fn is(known: Option<&Arc<Endpoint>>, endpoint: &Arc<Endpoint>) -> bool {
    known.is_some_and(|known| Arc::ptr_eq(known, endpoint))
}

#[cfg(test)]
mod tests;
