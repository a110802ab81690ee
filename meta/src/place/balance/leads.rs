//! Primaries by number: chains of hand-overs take the lead from cores that have two more than others to those.
//!
//! A chain is a shortest path: a core gives one of its partitions to another member, that one gives another partition on, and
//! so forth; only its ends change. It is looked for from the side that has fewer cores, those with too many or those with too
//! few, so that a new empty node costs as little as one that leads too much.

use super::Reason;
use super::model::{Core, Model, Part, number_of};
use pegasus_replication::ids::TableId;
use std::collections::{BTreeMap, VecDeque};

/// Cores that one search visits: chains are short, or there are none.
const VISITS_MAX: usize = 4_096;
/// Cores that all searches together visit, so that a plan takes no longer than it may.
const VISITS_TOTAL_MAX: usize = 1_000_000;
/// Looks at all nodes, at most.
const ROUNDS_MAX: usize = 16;

/// Spreads the primaries of each table over the cores that hold something of it.
pub(super) fn level_tables(model: &mut Model) {
    let mut cores: BTreeMap<TableId, Vec<Core>> = BTreeMap::new();
    for it in &model.parts {
        let known = cores.entry(it.id.table).or_default();
        known.extend(it.members());
    }
    let mut search = Search::new(model);
    for (table, mut cores) in cores {
        cores.sort_unstable();
        cores.dedup();
        level(model, &cores, Some(table), &mut search);
    }
}

/// Spreads the primaries of all tables, as far as none of them becomes less even.
pub(super) fn level_all(model: &mut Model) {
    let cores: Vec<Core> = model.open_cores().collect();
    let mut search = Search::new(model);
    level(model, &cores, None, &mut search);
}

/// Of cores that lead as many as each other but for one, those lead more whose nodes lead less.
pub(super) fn level_nodes(model: &mut Model) {
    for _ in 0..ROUNDS_MAX {
        let mut moved = false;
        for part in 0..number_of(model.parts.len()) {
            if !model.may_hand_over(part) {
                continue;
            }
            let from = model.part(part).lead();
            let others = model.part(part).secondaries().iter().copied();
            let best = others
                .filter(|&to| is_better_on_node(model, part, from, to))
                .min_by_key(|&to| (model.node_of(to).leads, to));
            if let Some(to) = best {
                let gain = model
                    .node_of(from)
                    .leads
                    .saturating_sub(model.node_of(to).leads);
                model.hand_over(part, to, Reason::Primaries, gain);
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
}

fn is_better_on_node(model: &Model, part: Part, from: Core, to: Core) -> bool {
    let (giver, taker) = (model.core(from), model.core(to));
    let (loser, winner) = (model.node_of(from), model.node_of(to));
    let per_core = |leads: u64, cores: u16| leads * u64::from(cores);
    // After it the one has not less for each core than the other.
    let is_uphill = per_core(loser.leads.saturating_sub(1), winner.facts.cores)
        >= per_core(winner.leads + 1, loser.facts.cores);
    model.may_lead(to)
        && giver.node != taker.node
        && giver.leads == taker.leads + 1
        && is_fair(model, part, from, to)
        && is_uphill
        && loser.leads > 0
}

/// Spreads over `cores`: the primaries of one table, or of all.
fn level(model: &mut Model, cores: &[Core], table: Option<TableId>, search: &mut Search) {
    let mut pool: Vec<Core> = cores
        .iter()
        .copied()
        .filter(|&it| model.may_lead(it))
        .collect();
    loop {
        let counts = || pool.iter().map(|&core| count(model, core, table));
        let (Some(least), Some(most)) = (counts().min(), counts().max()) else {
            return;
        };
        if most < least + 2 {
            return;
        }
        let those = |wanted: u32| -> Vec<Core> {
            let all = pool.iter().copied();
            all.filter(|&core| count(model, core, table) == wanted)
                .collect()
        };
        let (fullest, emptiest) = (those(most), those(least));
        let way = if fullest.len() <= emptiest.len() {
            Way::Give
        } else {
            Way::Take
        };
        let starts = match way {
            Way::Give => fullest,
            Way::Take => emptiest,
        };
        let mut stuck: Vec<Core> = Vec::new();
        for start in starts {
            let now = count(model, start, table);
            if now != most && now != least {
                continue;
            }
            if !search.run(model, start, table, way) {
                stuck.push(start);
            }
        }
        // Around these it is as even as it can be; they are passed through still.
        pool.retain(|core| stuck.binary_search(core).is_err());
    }
}

fn count(model: &Model, core: Core, table: Option<TableId>) -> u32 {
    let core = model.core(core);
    table.map_or(core.leads, |table| core.table_leads(table))
}

/// Whether a search starts at a core that has too many, or at one that has too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Give,
    Take,
}

/// A breadth-first search, with its memory kept from one to the next.
#[derive(Debug)]
struct Search {
    /// By core: the search that reached it last, through which partition, and from which core.
    reached: Vec<(u32, Part, Core)>,
    number: u32,
    queue: VecDeque<Core>,
    visits_left: usize,
}

impl Search {
    fn new(model: &Model) -> Self {
        Self {
            reached: vec![(0, 0, 0); model.cores.len()],
            number: 0,
            queue: VecDeque::new(),
            visits_left: VISITS_TOTAL_MAX,
        }
    }

    /// Finds the shortest chain from `start` and carries it out; false if there is none.
    fn run(&mut self, model: &mut Model, start: Core, table: Option<TableId>, way: Way) -> bool {
        let own = count(model, start, table);
        let Some(end) = self.find(model, start, table, way) else {
            return false;
        };
        let gain = u64::from(own.abs_diff(count(model, end, table)));
        let reason = match table {
            Some(_) => Reason::TablePrimaries,
            None => Reason::Primaries,
        };
        let mut core = end;
        while core != start {
            let (_, part, before) = self.reached[core as usize];
            let to = match way {
                Way::Give => core,
                Way::Take => before,
            };
            model.hand_over(part, to, reason, gain);
            core = before;
        }
        true
    }

    fn find(
        &mut self,
        model: &Model,
        start: Core,
        table: Option<TableId>,
        way: Way,
    ) -> Option<Core> {
        let own = count(model, start, table);
        let is_end = |core: Core| match way {
            Way::Give => count(model, core, table) + 2 <= own,
            Way::Take => count(model, core, table) >= own + 2,
        };
        self.number += 1;
        self.reached[start as usize].0 = self.number;
        self.queue.clear();
        self.queue.push_back(start);
        let mut visits = 0;
        while let Some(core) = self.queue.pop_front() {
            visits += 1;
            self.visits_left = self.visits_left.saturating_sub(1);
            if visits > VISITS_MAX || self.visits_left == 0 {
                return None;
            }
            for &part in &model.core(core).parts {
                let it = model.part(part);
                let leads = it.lead() == core;
                let is_other = table.is_some_and(|table| it.id.table != table);
                if is_other || leads != (way == Way::Give) || !model.may_hand_over(part) {
                    continue;
                }
                // Who may get it, or who may give it.
                let steps = match way {
                    Way::Give => it.secondaries(),
                    Way::Take => &it.members()[..1],
                };
                for &next in steps {
                    let is_new = self.reached[next as usize].0 != self.number;
                    let (from, to) = match way {
                        Way::Give => (core, next),
                        Way::Take => (next, core),
                    };
                    let is_fair = table.is_some() || is_fair(model, part, from, to);
                    if !is_new || !is_fair || !model.may_lead(next) {
                        continue;
                    }
                    self.reached[next as usize] = (self.number, part, core);
                    if is_end(next) {
                        return Some(next);
                    }
                    self.queue.push_back(next);
                }
            }
        }
        None
    }
}

/// Its table does not become less even.
pub(super) fn is_fair(model: &Model, part: Part, from: Core, to: Core) -> bool {
    let table = model.table(part);
    model.core(from).table_leads(table) > model.core(to).table_leads(table)
}
