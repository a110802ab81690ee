//! Replicas by number: leaving nodes are emptied, and cores come to hold as many as each other.

use super::model::{Core, Model, Part, number_of};
use super::{Options, Reason, Standing};
use std::collections::BTreeSet;

/// Cores that are looked at for one replica, the lightest first: nearly always the first of them fits.
const LOOKS_MAX: usize = 64;

/// Cores by what they hold. Of equals the one whose number in its node is lower comes first, so that they are taken from all
/// nodes in turn.
#[derive(Debug)]
pub(super) struct Ranks {
    set: BTreeSet<(u32, u64, Core)>,
    nodes: u64,
}

impl Ranks {
    pub(super) fn of(model: &Model, cores: impl Iterator<Item = Core>) -> Self {
        let mut ranks = Self {
            set: BTreeSet::new(),
            nodes: model.nodes.len() as u64,
        };
        cores.for_each(|core| ranks.put(model, core));
        ranks
    }

    fn rank(&self, model: &Model, core: Core) -> (u32, u64, Core) {
        let node = u64::from(model.core(core).node);
        let place = u64::from(core - model.node_of(core).first_core);
        (model.core(core).replicas(), place * self.nodes + node, core)
    }

    pub(super) fn put(&mut self, model: &Model, core: Core) {
        self.set.insert(self.rank(model, core));
    }

    /// Before what it holds changes. True: it was there.
    pub(super) fn take(&mut self, model: &Model, core: Core) -> bool {
        self.set.remove(&self.rank(model, core))
    }

    /// The lightest first.
    pub(super) fn lightest(&self) -> impl Iterator<Item = (u32, Core)> + '_ {
        self.set.iter().map(|&(count, _, core)| (count, core))
    }

    fn heaviest(&self) -> Option<(u32, Core)> {
        self.set.last().map(|&(count, _, core)| (count, core))
    }
}

/// Moves what nodes that are being emptied hold, to the lightest cores.
pub(super) fn empty_leaving(model: &mut Model, options: &Options) {
    let leaving: Vec<Core> = (0..number_of(model.cores.len()))
        .filter(|&core| model.node_of(core).facts.standing == Standing::Leaving)
        .collect();
    if leaving
        .iter()
        .all(|&core| model.core(core).parts.is_empty())
    {
        return;
    }
    let mut ranks = Ranks::of(model, model.open_cores());
    for from in leaving {
        for part in model.core(from).parts.clone() {
            let it = model.part(part);
            let bytes = it.load.bytes;
            if !it.is_free() || it.has_moved || !model.has_room(bytes, options) {
                continue;
            }
            let fits =
                |&(_, to): &(u32, Core)| model.fits(part, from, to) && model.may_take(to, bytes);
            let to = ranks.lightest().find(fits);
            if let Some((_, to)) = to {
                ranks.take(model, to);
                model.move_replica(part, from, to, Reason::Leaving, 1);
                ranks.put(model, to);
            }
        }
    }
}

/// Takes from the core that holds the most and gives to the one that holds the least, while they differ by two.
pub(super) fn level(model: &mut Model, options: &Options) {
    let mut givers = Ranks::of(model, model.open_cores());
    let takers = model.open_cores().filter(|&core| model.may_take(core, 0));
    let mut takers = Ranks::of(model, takers);
    while let Some((held, from)) = givers.heaviest() {
        let least = takers.lightest().next();
        if least.is_none_or(|(count, _)| held < count + 2) {
            return;
        }
        let near = takers.lightest().take(LOOKS_MAX);
        let far_below = near.take_while(|(count, _)| held >= count + 2);
        let choice = far_below
            .filter(|&(_, to)| to != from)
            .find_map(|(count, to)| Some((best_for(model, from, to, options)?, to, held - count)));
        let Some((part, to, gain)) = choice else {
            // Nothing of it fits anywhere.
            givers.take(model, from);
            continue;
        };
        let gives = givers.take(model, from);
        let takes = takers.take(model, from);
        let to_gives = givers.take(model, to);
        takers.take(model, to);
        model.move_replica(part, from, to, Reason::Replicas, u64::from(gain));
        for (core, gives, takes) in [(from, gives, takes), (to, to_gives, true)] {
            if gives {
                givers.put(model, core);
            }
            if takes && model.may_take(core, 0) {
                takers.put(model, core);
            }
        }
    }
}

/// What goes best from one core to the other: not a primary if possible, of the table of which they differ most, and small.
fn best_for(model: &Model, from: Core, to: Core, options: &Options) -> Option<Part> {
    let (giver, taker) = (model.core(from), model.core(to));
    let may = giver.parts.iter().copied().filter(|&part| {
        let it = model.part(part);
        let bytes = it.load.bytes;
        it.is_unsettled()
            && model.fits(part, from, to)
            && model.has_room(bytes, options)
            && model.may_take_from(from, to, bytes)
    });
    may.min_by_key(|&part| {
        let it = model.part(part);
        let table = it.id.table;
        let has = i64::from(giver.table_replicas(table)) - i64::from(taker.table_replicas(table));
        (it.lead() == from, -has, it.load.bytes, part)
    })
}
