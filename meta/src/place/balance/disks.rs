//! Disks: the fullest gives replicas to the emptiest, in exchange for smaller ones so that the numbers stay.

use super::model::{ALIKE_PERMILLE, Core, Model, Part, permille};
use super::{DISK_GIVE_PERCENT, DISK_MARGIN_PERCENT, Options, Reason, Standing};
use std::cmp::Reverse;

/// Emptier disks that are looked at for one step.
const NODES_MAX: usize = 8;
/// Replicas that are looked at for one step, the largest first.
const PARTS_MAX: usize = 64;

/// A step, found.
#[derive(Clone, Copy, Debug)]
struct Step {
    part: Part,
    from: Core,
    to: Core,
    back: Option<Part>,
    gain: u64,
}

pub(super) fn level(model: &mut Model, options: &Options) {
    while let Some(step) = find(model, options) {
        let Step {
            part,
            from,
            to,
            back,
            gain,
        } = step;
        model.move_replica(part, from, to, Reason::Disk, gain / 10);
        if let Some(back) = back {
            model.move_replica(back, to, from, Reason::Disk, 0);
        }
    }
}

fn find(model: &Model, options: &Options) -> Option<Step> {
    let open = |number: &usize| model.nodes[*number].facts.standing == Standing::Open;
    let known = (0..model.nodes.len()).filter(open);
    let mut by_use: Vec<(u64, usize)> = known
        .filter_map(|number| Some((model.nodes[number].used_permille()?, number)))
        .collect();
    by_use.sort_unstable();
    let &(most, fullest) = by_use.last()?;
    let gives = most >= DISK_GIVE_PERCENT * 10;
    for &(used, emptier) in by_use.iter().take(NODES_MAX) {
        let gap = most - used;
        if gap < DISK_MARGIN_PERCENT * 10 && !(gives && gap > ALIKE_PERMILLE) {
            return None;
        }
        let step = step(model, fullest, emptier, gap, gives, options);
        if step.is_some() {
            return step;
        }
    }
    None
}

/// The largest replica that may go from the one node to the other without making that the fuller one.
fn step(
    model: &Model,
    fullest: usize,
    emptier: usize,
    gap: u64,
    gives: bool,
    options: &Options,
) -> Option<Step> {
    let total = model.nodes[emptier]
        .facts
        .disk_total
        .min(model.nodes[fullest].facts.disk_total);
    let mut parts: Vec<(bool, Reverse<u64>, Part, Core)> = Vec::new();
    for from in cores_of(model, fullest) {
        for &part in &model.core(from).parts {
            let it = model.part(part);
            let bytes = it.load.bytes;
            let is_small = permille(bytes, total).is_some_and(|share| share * 2 <= gap);
            if bytes > 0 && is_small && it.is_unsettled() {
                parts.push((it.lead() == from, Reverse(bytes), part, from));
            }
        }
    }
    parts.sort_unstable();
    // The numbers of others may become uneven only for much.
    let may_add = gives && gap >= DISK_MARGIN_PERCENT * 10;
    let mut takers: Vec<Core> = cores_of(model, emptier).collect();
    takers.sort_unstable_by_key(|&core| (model.core(core).replicas(), core));
    parts
        .into_iter()
        .take(PARTS_MAX)
        .find_map(|(_, Reverse(bytes), part, from)| {
            takers.iter().find_map(|&to| {
                let may = model.fits(part, from, to)
                    && model.may_take(to, bytes)
                    && model.has_room(bytes * 2, options);
                if !may {
                    return None;
                }
                let is_plain = model.core(from).replicas() > model.core(to).replicas();
                let back = smaller(model, part, from, to).filter(|_| !is_plain);
                (is_plain || back.is_some() || may_add).then_some(Step {
                    part,
                    from,
                    to,
                    back,
                    gain: gap,
                })
            })
        })
}

/// The smallest replica on `to` that may come back, at most half as large.
fn smaller(model: &Model, part: Part, from: Core, to: Core) -> Option<Part> {
    let bytes = model.part(part).load.bytes;
    let all = model.core(to).parts.iter().copied();
    let may = all.filter(|&back| {
        let it = model.part(back);
        it.load.bytes * 2 <= bytes
            && it.is_unsettled()
            && it.lead() != to
            && model.fits(back, to, from)
    });
    may.min_by_key(|&back| (model.part(back).load.bytes, back))
}

fn cores_of(model: &Model, node: usize) -> impl Iterator<Item = Core> {
    let node = &model.nodes[node];
    node.first_core..node.first_core + u32::from(node.facts.cores)
}
