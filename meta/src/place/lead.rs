//! Which member of each group becomes primary.

use super::Ring;
use std::collections::VecDeque;

/// Rounds of improvement at most; each one strictly improves the balance, a few are enough.
const ROUNDS_MAX: usize = 64;

/// The place of the primary of each group: primaries spread evenly over cores, then over nodes, then with those of other
/// tables.
pub(super) fn choose(ring: &Ring, groups: &[Vec<usize>]) -> Vec<usize> {
    let mut count = Count::new(ring);
    let mut leads: Vec<usize> = Vec::with_capacity(groups.len());
    for group in groups {
        let lead = count.lightest(group);
        count.add(lead);
        leads.push(lead);
    }
    settle(&mut count, groups, &mut leads);
    even_out(&mut count, groups, &mut leads);
    settle(&mut count, groups, &mut leads);
    leads
}

/// As even as [`choose`], from the leads that are there: only those change that make it more even.
pub(super) fn improve_on(ring: &Ring, groups: &[Vec<usize>], mut leads: Vec<usize>) -> Vec<usize> {
    let mut count = Count::new(ring);
    leads.iter().for_each(|&lead| count.add(lead));
    settle(&mut count, groups, &mut leads);
    even_out(&mut count, groups, &mut leads);
    settle(&mut count, groups, &mut leads);
    leads
}

fn settle(count: &mut Count<'_>, groups: &[Vec<usize>], leads: &mut [usize]) {
    for _ in 0..ROUNDS_MAX {
        if !improve(count, groups, leads) {
            break;
        }
    }
}

/// Passes leads on along chains of groups, from a core with two more than the core at the chain's end, until there are
/// no such chains: then no choice of leads is more even over cores.
fn even_out(count: &mut Count<'_>, groups: &[Vec<usize>], leads: &mut [usize]) {
    for start in 0..count.cores.len() {
        while let Some(chain) = chain_from(start, count, groups, leads) {
            for (group, to) in chain {
                count.remove(leads[group]);
                leads[group] = to;
                count.add(to);
            }
        }
    }
}

/// The shortest chain of (group, its new lead) that takes one lead from `start` to a core with at least two fewer.
fn chain_from(
    start: usize,
    count: &Count<'_>,
    groups: &[Vec<usize>],
    leads: &[usize],
) -> Option<Vec<(usize, usize)>> {
    let target = count.cores[start].checked_sub(2)?;
    if count.cores.iter().all(|&leads| leads > target) {
        return None;
    }
    let mut led: Vec<Vec<usize>> = vec![Vec::new(); count.cores.len()];
    leads
        .iter()
        .enumerate()
        .for_each(|(group, &lead)| led[lead].push(group));
    // By core: the group through which it was reached, and from which core.
    let mut reached: Vec<Option<(usize, usize)>> = vec![None; count.cores.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(core) = queue.pop_front() {
        if count.cores[core] <= target {
            return Some(chain_back(start, core, &reached));
        }
        for &group in &led[core] {
            for &member in groups[group].iter().filter(|&&member| member != start) {
                if reached[member].is_none() {
                    reached[member] = Some((group, core));
                    queue.push_back(member);
                }
            }
        }
    }
    None
}

fn chain_back(start: usize, end: usize, reached: &[Option<(usize, usize)>]) -> Vec<(usize, usize)> {
    let mut chain = Vec::new();
    let mut core = end;
    while let Some((group, from)) = reached[core].filter(|_| core != start) {
        chain.push((group, core));
        core = from;
    }
    chain
}

/// Moves each lead that weighs more than another member would; returns whether any moved.
fn improve(count: &mut Count<'_>, groups: &[Vec<usize>], leads: &mut [usize]) -> bool {
    let mut moved = false;
    for (group, lead) in groups.iter().zip(leads) {
        let weight = count.weight_without(*lead);
        count.remove(*lead);
        let lightest = count.lightest(group);
        if count.weight(lightest) < weight {
            *lead = lightest;
            moved = true;
        }
        count.add(*lead);
    }
    moved
}

struct Count<'a> {
    ring: &'a Ring,
    cores: Vec<u64>,
    nodes: Vec<u64>,
}

impl<'a> Count<'a> {
    fn new(ring: &'a Ring) -> Self {
        Self {
            ring,
            cores: vec![0; ring.cores.len()],
            nodes: vec![0; ring.node_count],
        }
    }

    fn add(&mut self, place: usize) {
        self.cores[place] += 1;
        self.nodes[self.ring.cores[place].node] += 1;
    }

    fn remove(&mut self, place: usize) {
        self.cores[place] -= 1;
        self.nodes[self.ring.cores[place].node] -= 1;
    }

    /// What makes a core the worse lead, most important first.
    fn weight(&self, place: usize) -> (u64, u64, u64) {
        let slot = &self.ring.cores[place];
        (
            self.cores[place],
            self.nodes[slot.node],
            slot.before.primaries,
        )
    }

    /// The weight of `place` if it led one group less.
    fn weight_without(&self, place: usize) -> (u64, u64, u64) {
        let (cores, nodes, before) = self.weight(place);
        (cores - 1, nodes - 1, before)
    }

    fn lightest(&self, group: &[usize]) -> usize {
        let lightest = group
            .iter()
            .copied()
            .min_by_key(|&place| (self.weight(place), place));
        lightest.expect("a group has at least one member")
    }
}
