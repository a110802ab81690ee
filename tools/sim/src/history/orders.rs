//! Rows that have one order of changes: lists that are appended to, and counters.
//!
//! What a client sees of them says at which place it stands in that order: an item of a list is at its place, a sum of a
//! counter is the number of increments so far, and what a read returns is all changes up to a place. Then linearizability
//! needs no search either: sort all operations by their place, and each must end after everything before it has begun.

use super::{Ending, History, Key, Moment, Violation, shown};
use pegasus_replication::ids::Instant;
use std::collections::{BTreeMap, BTreeSet};

/// Number of a change: an item that is appended once, or an increment by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item(pub u32);

/// What a read has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    List(Vec<Item>),
    Count(u64),
}

#[derive(Clone, Copy, Debug)]
struct Change {
    key: Key,
    begun: Moment,
    ending: Ending,
    /// What a counter came to by it.
    sum: Option<u64>,
}

#[derive(Clone, Debug)]
struct Look {
    begun: Moment,
    ended: Moment,
    seen: Seen,
}

/// All changes and reads of such rows.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// By item, from 1.
    changes: Vec<Change>,
    looks: BTreeMap<Key, Vec<Look>>,
}

/// An operation at its place in the order of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    /// Changes up to and including it.
    place: u64,
    /// A read comes behind the change of its place.
    is_read: bool,
    begun: Moment,
    ended: Moment,
}

impl History {
    /// A client begins to change a row; each change has an item of its own.
    pub fn begin_change(&mut self, at: Instant, key: Key) -> Item {
        let begun = self.moment(at);
        let changes = &mut self.orders.changes;
        changes.push(Change {
            key,
            begun,
            ending: Ending::Open,
            sum: None,
        });
        Item(u32::try_from(changes.len()).expect("changes of a run are few"))
    }

    /// It is done, and a counter came to `sum` by it.
    pub fn acknowledge_change(&mut self, at: Instant, item: Item, sum: Option<u64>) {
        let moment = self.moment(at);
        self.acknowledged += 1;
        let change = self.orders.change_mut(item);
        change.ending = Ending::Acknowledged(moment);
        change.sum = sum;
    }

    pub fn change_not_executed(&mut self, item: Item) {
        self.orders.change_mut(item).ending = Ending::NotExecuted;
    }

    /// A read of such a row has returned `seen`.
    pub fn end_look(&mut self, at: Instant, key: Key, begun: Moment, seen: Seen) {
        let ended = self.moment(at);
        self.read_count += 1;
        let look = Look { begun, ended, seen };
        self.orders.looks.entry(key).or_default().push(look);
    }

    /// Every row that anybody changed in this way.
    #[must_use]
    pub fn ordered_keys(&self) -> Vec<Key> {
        let keys: BTreeSet<Key> = self.orders.changes.iter().map(|it| it.key).collect();
        keys.into_iter().collect()
    }
}

impl Orders {
    fn change_mut(&mut self, item: Item) -> &mut Change {
        let index = usize::try_from(item.0).expect("32 bits fit") - 1;
        self.changes
            .get_mut(index)
            .expect("a change ends after it has begun")
    }

    fn change(&self, item: Item) -> Option<&Change> {
        let index = usize::try_from(item.0.checked_sub(1)?).ok()?;
        self.changes.get(index)
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        let mut changes: BTreeMap<Key, Vec<(Item, &Change)>> = BTreeMap::new();
        for (number, change) in (1..).zip(&self.changes) {
            let of_key = changes.entry(change.key).or_default();
            of_key.push((Item(number), change));
        }
        for (key, changes) in changes {
            let looks = self.looks.get(&key).map_or(&[][..], Vec::as_slice);
            let is_list = looks.iter().any(|it| matches!(it.seen, Seen::List(_)));
            let placed = if is_list {
                self.place_items(key, &changes, looks)?
            } else {
                place_sums(key, &changes, looks)?
            };
            check_order(key, placed)?;
        }
        Ok(())
    }

    /// The longest list that was read has every item at its place; all others are the beginning of it.
    fn place_items(
        &self,
        key: Key,
        changes: &[(Item, &Change)],
        looks: &[Look],
    ) -> Result<Vec<Placed>, Violation> {
        let lists = || {
            looks.iter().filter_map(|look| match &look.seen {
                Seen::List(items) => Some((look, items)),
                Seen::Count(_) => None,
            })
        };
        let longest = lists().map(|(_, items)| items).max_by_key(|it| it.len());
        let longest = longest.map_or(&[][..], Vec::as_slice);
        let mut places = BTreeMap::new();
        for (place, item) in (1..).zip(longest) {
            self.check_item(key, *item)?;
            if places.insert(*item, place).is_some() {
                return Err(violation(key, format!("item {} is there twice", item.0)));
            }
        }
        let mut placed = Vec::new();
        for (look, items) in lists() {
            if !longest.starts_with(items) {
                let text = format!(
                    "a list was read at {} that no later one goes on from",
                    shown(look.ended)
                );
                return Err(violation(key, text));
            }
            placed.push(Placed::of_look(look, items.len() as u64));
        }
        for (item, change) in changes {
            // Of what was acknowledged and is not there, the place is behind all that was seen.
            let place = places.get(item).copied();
            let place = place.unwrap_or(longest.len() as u64 + 1);
            placed.extend(Placed::of_change(change, place, places.contains_key(item)));
        }
        Ok(placed)
    }

    /// Somebody appended it, to this row, and was not told that it was not executed.
    fn check_item(&self, key: Key, item: Item) -> Result<(), Violation> {
        let what = match self.change(item) {
            None => "nobody appended it".to_owned(),
            Some(change) if change.key != key => format!("it was appended to {}", change.key),
            Some(change) if change.ending == Ending::NotExecuted => {
                "its client was told that it was not executed".to_owned()
            }
            Some(_) => return Ok(()),
        };
        Err(violation(key, format!("item {} is there: {what}", item.0)))
    }
}

/// Each sum is the place of its increment. The others were increments of open outcome, the first to begin the lowest.
fn place_sums(
    key: Key,
    changes: &[(Item, &Change)],
    looks: &[Look],
) -> Result<Vec<Placed>, Violation> {
    let mut placed = Vec::new();
    let mut sums = BTreeSet::new();
    for (item, change) in changes {
        let Some(sum) = change.sum else {
            continue;
        };
        if !sums.insert(sum) {
            let text = format!("two increments came to {sum}, one of them {}", item.0);
            return Err(violation(key, text));
        }
        placed.extend(Placed::of_change(change, sum, true));
    }
    for look in looks {
        if let Seen::Count(count) = look.seen {
            placed.push(Placed::of_look(look, count));
        }
    }
    let highest = placed.iter().map(|it| it.place).max().unwrap_or_default();
    let mut open = changes
        .iter()
        .filter(|(_, change)| change.ending == Ending::Open);
    for place in (1..=highest).filter(|place| !sums.contains(place)) {
        let Some((_, change)) = open.next() else {
            let told = sums.len();
            let text = format!(
                "it came to {highest}, by {told} increments that were acknowledged and too few of open outcome"
            );
            return Err(violation(key, text));
        };
        placed.extend(Placed::of_change(change, place, true));
    }
    Ok(placed)
}

impl Placed {
    const fn of_look(look: &Look, place: u64) -> Self {
        Self {
            place,
            is_read: true,
            begun: look.begun,
            ended: look.ended,
        }
    }

    /// `None`: it need not have a place.
    fn of_change(change: &Change, place: u64, is_seen: bool) -> Option<Self> {
        let ended = match change.ending {
            Ending::Acknowledged(moment) => moment,
            Ending::Open if is_seen => Moment::NEVER,
            Ending::Open | Ending::NotExecuted => return None,
        };
        Some(Self {
            place,
            is_read: false,
            begun: change.begun,
            ended,
        })
    }
}

fn check_order(key: Key, mut placed: Vec<Placed>) -> Result<(), Violation> {
    placed.sort_unstable();
    let mut begun = Moment::BEFORE_ALL;
    for it in placed {
        if it.ended < begun {
            let (what, place) = (if it.is_read { "read" } else { "change" }, it.place);
            return Err(violation(
                key,
                format!(
                    "the {what} at place {place} ended at {}, and something before it began only at {}",
                    shown(it.ended),
                    shown(begun)
                ),
            ));
        }
        begun = begun.max(it.begun);
    }
    Ok(())
}

fn violation(key: Key, text: String) -> Violation {
    Violation::history(format!("{key}: {text}"))
}
