//! Load: the hottest core gives a lead away and gets one that does less, so that the numbers stay as they are.
//!
//! What a core gives goes to another member. If that one leads fewer partitions, this is all; else something light comes back,
//! by a hand-over or by two, or from a core that leads more. If all members are hot themselves, one of them is replaced by a replica on a cool core first: that
//! copies, and is the last resort.

use super::leads::is_fair;
use super::model::{Core, Model, Part};
use super::{Freedom, LOAD_MIN, Options, Reason};
use std::collections::{BTreeSet, BinaryHeap};

/// Partitions of one core that are looked at for one step.
const PARTS_MAX: usize = 32;
/// Cool cores that are looked at for a new replica.
const CORES_MAX: usize = 32;
/// Steps of hand-overs in a plan, at most, for each core of the cluster.
const STEPS_PER_CORE: usize = 2;

/// What is hot, and what is worth a step.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    hot: u64,
    gain_min: u64,
}

/// One way to relieve a core: hand-overs, all or none.
#[derive(Clone, Debug)]
struct Relief {
    hand_overs: Vec<(Part, Core)>,
    gain: u64,
}

pub(super) fn level(model: &mut Model, options: &Options) {
    let cores: Vec<Core> = model.open_cores().collect();
    let total: u64 = cores.iter().map(|&core| model.core(core).load).sum();
    let mean = total / (cores.len().max(1) as u64);
    let bounds = Bounds {
        hot: (mean + mean * options.load_margin_percent / 100).max(LOAD_MIN),
        gain_min: (mean * options.load_margin_percent / 200).max(LOAD_MIN / 10),
    };
    let is_hot = |model: &Model, core: Core| model.core(core).load > bounds.hot;
    let hot = cores.iter().filter(|&&core| is_hot(model, core));
    let mut heap: BinaryHeap<(u64, Core)> =
        hot.map(|&core| (model.core(core).load, core)).collect();
    if heap.is_empty() {
        return;
    }
    let mut cool: BTreeSet<(u64, Core)> = cores
        .iter()
        .map(|&core| (model.core(core).load, core))
        .collect();
    let mut steps = STEPS_PER_CORE * cores.len();
    while let Some((load, core)) = heap.pop() {
        if steps == 0 {
            return;
        }
        steps -= 1;
        if model.core(core).load != load {
            if is_hot(model, core) {
                heap.push((model.core(core).load, core));
            }
            continue;
        }
        // What is worth a step grows with what there is.
        let bounds = Bounds {
            gain_min: bounds
                .gain_min
                .max(load * options.load_margin_percent / 200),
            ..bounds
        };
        let touched = match relief(model, core, bounds) {
            Some(relief) => Some(carry_out(model, &relief, core)),
            None if options.moves_replicas => copy_out(model, core, bounds, options, &cool)
                .or_else(|| follow_elsewhere(model, core, bounds, options, &cool)),
            None => None,
        };
        for (before, core) in touched.into_iter().flatten() {
            let now = model.core(core).load;
            if cool.remove(&(before, core)) {
                cool.insert((now, core));
            }
            if is_hot(model, core) {
                heap.push((now, core));
            }
        }
    }
}

/// Returns the cores whose load has changed, with what it was.
fn carry_out(model: &mut Model, relief: &Relief, start: Core) -> Vec<(u64, Core)> {
    let all = relief.hand_overs.iter().map(|&(_, to)| to).chain([start]);
    let touched: BTreeSet<Core> = all.collect();
    let before: Vec<(u64, Core)> = touched
        .into_iter()
        .map(|core| (model.core(core).load, core))
        .collect();
    for (place, &(part, to)) in relief.hand_overs.iter().enumerate() {
        let gain = if place == 0 { relief.gain } else { 0 };
        model.hand_over(part, to, Reason::Load, gain);
    }
    before
}

/// May be handed over for its load.
fn may_give(model: &Model, part: Part) -> bool {
    model.part(part).freedom == Freedom::Free && model.may_hand_over(part)
}

/// The heaviest lead that some other member can take, with what comes back for it.
fn relief(model: &Model, core: Core, bounds: Bounds) -> Option<Relief> {
    heavy_leads(model, core, bounds)
        .into_iter()
        .find_map(|part| {
            let others = model.part(part).secondaries().iter().copied();
            let takers = others.filter(|&to| model.may_lead(to));
            let ways = takers.filter_map(|to| exchange(model, part, core, to, bounds));
            ways.max_by_key(|it| it.gain)
        })
}

/// What `core` leads and could give, the heaviest first.
fn heavy_leads(model: &Model, core: Core, bounds: Bounds) -> Vec<Part> {
    let led = model.core(core).parts.iter().copied().filter(|&part| {
        let it = model.part(part);
        it.lead() == core && it.lead_cost() >= bounds.gain_min && may_give(model, part)
    });
    let mut led: Vec<Part> = led.collect();
    led.sort_unstable_by_key(|&part| (std::cmp::Reverse(model.part(part).lead_cost()), part));
    led.truncate(PARTS_MAX);
    led
}

/// `from` gives the lead of `part` to `to`, and gets something lighter back unless it leads more anyway.
fn exchange(model: &Model, part: Part, from: Core, to: Core, bounds: Bounds) -> Option<Relief> {
    let cost = model.part(part).lead_cost();
    let (hot, cool) = (model.core(from).load, model.core(to).load);
    let after = hot.saturating_sub(cost).max(cool + cost);
    let is_direct = model.core(from).leads > model.core(to).leads && is_fair(model, part, from, to);
    if is_direct && after + bounds.gain_min <= hot {
        return Some(Relief {
            hand_overs: vec![(part, to)],
            gain: hot - after,
        });
    }
    way_back(model, part, from, to, bounds)
}

/// The same with something that comes back from `to` to `from`, by one hand-over or by two.
fn way_back(model: &Model, part: Part, from: Core, to: Core, bounds: Bounds) -> Option<Relief> {
    let cost = model.part(part).lead_cost();
    let (hot, cool) = (model.core(from).load, model.core(to).load);
    let mut best: Option<Relief> = None;
    let mut offer = |peak: u64, hand_overs: &[(Part, Core)]| {
        let gain = hot.saturating_sub(peak);
        let is_better = best.as_ref().is_none_or(|it| gain > it.gain);
        if gain >= bounds.gain_min && is_better {
            best = Some(Relief {
                hand_overs: hand_overs.to_vec(),
                gain,
            });
        }
    };
    // Something light that `from` follows, from a core that leads more than `to` does.
    for back in light_follows(model, from, cost) {
        let lead = model.part(back).lead();
        let leads_more = model.core(lead).leads > model.core(to).leads;
        let is_fair_back = is_fair_pair(model, (part, from, to), (back, lead, from));
        if lead != to && leads_more && is_fair_back {
            let small = model.part(back).lead_cost();
            offer(
                (hot - cost + small).max(cool + cost),
                &[(part, to), (back, from)],
            );
        }
    }
    for back in light_leads(model, to, cost, part) {
        let small = model.part(back).lead_cost();
        let taker = cool + cost - small;
        if taker + bounds.gain_min > hot {
            continue;
        }
        for &next in model.part(back).secondaries() {
            let is_fair_back = is_fair_pair(model, (part, from, to), (back, to, next));
            if next == from && is_fair_back {
                let peak = (hot - cost + small).max(taker);
                offer(peak, &[(part, to), (back, from)]);
            }
            if next == from || next == to || !model.may_lead(next) || !is_fair_back {
                continue;
            }
            for last in light_leads(model, next, cost, part) {
                let least = model.part(last).lead_cost();
                let ends = model.part(last).secondaries().contains(&from);
                let middle = (model.core(next).load + small).saturating_sub(least);
                if ends && last != back && is_fair_pair(model, (part, from, to), (last, next, from))
                {
                    let peak = (hot - cost + least).max(taker).max(middle);
                    offer(peak, &[(part, to), (back, next), (last, from)]);
                }
            }
        }
    }
    best
}

/// Two hand-overs of one table leave it as even as it was; of two tables, each on its own must.
fn is_fair_pair(model: &Model, one: (Part, Core, Core), two: (Part, Core, Core)) -> bool {
    let is_same = model.table(one.0) == model.table(two.0);
    let fair = |(part, from, to): (Part, Core, Core)| is_fair(model, part, from, to);
    is_same || (fair(one) && fair(two))
}

/// What `core` follows and would cost less than half of `cost` to lead.
fn light_follows(model: &Model, core: Core, cost: u64) -> impl Iterator<Item = Part> + '_ {
    let all = model.core(core).parts.iter().copied();
    let light = all.filter(move |&part| {
        let it = model.part(part);
        it.lead() != core && it.lead_cost() * 2 < cost && may_give(model, part)
    });
    light.take(PARTS_MAX)
}

/// What `core` leads that costs less than half of `cost`.
fn light_leads(
    model: &Model,
    core: Core,
    cost: u64,
    except: Part,
) -> impl Iterator<Item = Part> + '_ {
    let all = model.core(core).parts.iter().copied();
    let light = all.filter(move |&part| {
        let it = model.part(part);
        let is_light = it.lead() == core && it.lead_cost() * 2 < cost;
        is_light && part != except && may_give(model, part)
    });
    light.take(PARTS_MAX)
}

/// Puts a replica of a hot partition on a cool core, in exchange for a light one, and hands over to it.
fn copy_out(
    model: &mut Model,
    core: Core,
    bounds: Bounds,
    options: &Options,
    cool: &BTreeSet<(u64, Core)>,
) -> Option<Vec<(u64, Core)>> {
    let heavy = heavy_leads(model, core, bounds);
    // Alone it would make any other core as hot.
    let rest: u64 = model.core(core).load;
    let worth = heavy.into_iter().filter(|&part| {
        let it = model.part(part);
        let moved = it.lead_cost() + it.follow_cost();
        !it.has_moved && moved + bounds.gain_min <= rest
    });
    for part in worth.collect::<Vec<_>>() {
        let takers = cool.iter().take(CORES_MAX).map(|&(_, to)| to);
        for to in takers {
            if let Some(copies) = copies(model, part, core, to, options) {
                let Some(relief) = relief_with(model, part, core, to, bounds) else {
                    continue;
                };
                return Some(copy(model, &copies, &relief, core));
            }
        }
    }
    None
}

/// Has another core follow what is written most here, in exchange for something light.
fn follow_elsewhere(
    model: &mut Model,
    core: Core,
    bounds: Bounds,
    options: &Options,
    cool: &BTreeSet<(u64, Core)>,
) -> Option<Vec<(u64, Core)>> {
    let hot = model.core(core).load;
    let mut followed: Vec<Part> = model.core(core).parts.clone();
    followed.retain(|&part| {
        let it = model.part(part);
        let is_worth = it.lead() != core && it.follow_cost() >= bounds.gain_min;
        is_worth && it.is_unsettled()
    });
    followed
        .sort_unstable_by_key(|&part| (std::cmp::Reverse(model.part(part).follow_cost()), part));
    followed.truncate(PARTS_MAX);
    let found = followed.into_iter().find_map(|part| {
        let it = model.part(part);
        let cost = it.follow_cost();
        let cooler = cool.iter().take(CORES_MAX).map(|&(_, to)| to);
        let mut takers = cooler.filter(|&to| model.core(to).load + cost + bounds.gain_min <= hot);
        takers.find_map(|to| {
            let may = model.has_room(it.load.bytes * 2, options)
                && model.may_take_from(core, to, it.load.bytes)
                && model.fits(part, core, to);
            may.then(|| swap(model, part, core, to)).flatten()
        })
    })?;
    let before = [found.from, found.to].map(|core| (model.core(core).load, core));
    let gain = model.part(found.part).follow_cost();
    move_both(model, &found, gain);
    Some(before.to_vec())
}

/// As if `to` were a member of `part` already.
fn relief_with(model: &Model, part: Part, from: Core, to: Core, bounds: Bounds) -> Option<Relief> {
    let it = model.part(part);
    let cost = it.lead_cost() + it.follow_cost();
    let has_room = model.core(to).load + cost + bounds.gain_min <= model.core(from).load;
    has_room
        .then(|| exchange(model, part, from, to, bounds))
        .flatten()
}

/// A secondary of `part` that moves to `to`, and what moves back for it if `to` would hold too much.
#[derive(Clone, Copy, Debug)]
struct Copies {
    part: Part,
    from: Core,
    to: Core,
    back: Option<Part>,
}

fn copies(model: &Model, part: Part, lead: Core, to: Core, options: &Options) -> Option<Copies> {
    let it = model.part(part);
    let bytes = it.load.bytes;
    let is_member = it.members().contains(&to);
    if is_member
        || !it.is_unsettled()
        || !model.has_room(bytes * 2, options)
        || !model.may_take(to, bytes)
    {
        return None;
    }
    let others = it.secondaries().iter().copied();
    let mut hottest: Vec<Core> = others
        .filter(|&core| core != lead && model.may_give(core))
        .collect();
    hottest.sort_unstable_by_key(|&core| (std::cmp::Reverse(model.core(core).load), core));
    hottest.into_iter().find_map(|from| {
        let may = model.fits(part, from, to) && model.may_take_from(from, to, bytes);
        may.then(|| swap(model, part, from, to)).flatten()
    })
}

/// The replica of `part` for a light one of `to`, or for nothing if `to` holds less anyway.
fn swap(model: &Model, part: Part, from: Core, to: Core) -> Option<Copies> {
    let is_plain = model.core(from).replicas() > model.core(to).replicas();
    let back = (!is_plain)
        .then(|| light_secondary(model, part, from, to))
        .flatten();
    (is_plain || back.is_some()).then_some(Copies {
        part,
        from,
        to,
        back,
    })
}

fn move_both(model: &mut Model, copies: &Copies, gain: u64) {
    let &Copies {
        part,
        from,
        to,
        back,
    } = copies;
    model.move_replica(part, from, to, Reason::Load, gain);
    if let Some(back) = back {
        model.move_replica(back, to, from, Reason::Load, 0);
    }
}

/// A light replica on `to` that may take the place of the one of `part` on `from`.
fn light_secondary(model: &Model, part: Part, from: Core, to: Core) -> Option<Part> {
    let cost = model.part(part).follow_cost();
    let all = model.core(to).parts.iter().copied();
    let light = all.filter(|&back| {
        let it = model.part(back);
        let is_light = it.lead() != to && it.follow_cost() * 2 <= cost;
        is_light
            && it.is_unsettled()
            && model.fits(back, to, from)
            && model.may_take(from, it.load.bytes)
    });
    light
        .take(PARTS_MAX)
        .min_by_key(|&back| (model.part(back).load.bytes, back))
}

fn copy(model: &mut Model, copies: &Copies, relief: &Relief, core: Core) -> Vec<(u64, Core)> {
    let ends = [copies.from, copies.to];
    let mut before: Vec<(u64, Core)> = ends.map(|core| (model.core(core).load, core)).to_vec();
    let path = relief.hand_overs.iter().map(|&(_, to)| to).chain([core]);
    for touched in path {
        if before.iter().all(|&(_, known)| known != touched) {
            before.push((model.core(touched).load, touched));
        }
    }
    move_both(model, copies, relief.gain);
    // Nobody's lead has changed by that, so that what was found before still holds.
    carry_out(model, relief, core);
    before
}
