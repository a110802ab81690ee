//! The cluster as dense arrays: cores and partitions by number, and what each core carries.

use super::{
    DISK_FULL_PERCENT, DISK_TAKE_PERCENT, Evenness, Freedom, Kind, Move, NodeFacts, Options,
    PartitionLoad, Reason, Standing,
};
use pegasus_replication::ids::{CoreAddress, CoreId, NodeId, PartitionId, TableId};
use std::collections::BTreeMap;

/// What a write costs a primary, and a secondary, in reads: it is decoded, logged, sent, acknowledged, applied and answered;
/// and received, logged, acknowledged and applied.
const PRIMARY_WRITE: u64 = 3;
const SECONDARY_WRITE: u64 = 2;
/// Two disks are about as full as each other within this difference.
pub(super) const ALIKE_PERMILLE: u64 = 50;
/// A core is crowded that carries so many times what cannot be taken off it.
const CROWDED: f64 = 1.25;
/// Members that are kept in place; a partition with more stays as it is.
pub(super) const MEMBERS_MAX: usize = 8;

/// Number of a core, of a node, of a partition.
pub(super) type Core = u32;
pub(super) type Part = u32;

#[derive(Clone, Debug)]
pub(super) struct NodeState {
    pub(super) facts: NodeFacts,
    pub(super) first_core: u32,
    /// Of its cores.
    pub(super) leads: u64,
    pub(super) replicas: u64,
}

impl NodeState {
    /// What is used of its disk, in tenths of a percent; `None` if it is not known.
    pub(super) fn used_permille(&self) -> Option<u64> {
        permille(self.facts.disk_used, self.facts.disk_total)
    }
}

pub(super) fn permille(used: u64, total: u64) -> Option<u64> {
    let share = u128::from(used) * 1_000 / u128::from(total.max(1));
    (total > 0).then(|| u64::try_from(share).unwrap_or(u64::MAX))
}

#[derive(Clone, Debug, Default)]
pub(super) struct CoreState {
    pub(super) node: u32,
    /// Every partition that has a member here.
    pub(super) parts: Vec<Part>,
    pub(super) leads: u32,
    /// Weighted requests a second.
    pub(super) load: u64,
    /// What of each table is here.
    tables: BTreeMap<TableId, Share>,
}

/// What a core has of a table.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    replicas: u32,
    leads: u32,
}

impl CoreState {
    /// Partitions of this table that it leads.
    pub(super) fn table_leads(&self, table: TableId) -> u32 {
        self.tables.get(&table).map_or(0, |share| share.leads)
    }

    /// Partitions of this table that it holds.
    pub(super) fn table_replicas(&self, table: TableId) -> u32 {
        self.tables.get(&table).map_or(0, |share| share.replicas)
    }

    fn share(&mut self, table: TableId) -> &mut Share {
        self.tables.entry(table).or_default()
    }

    pub(super) fn replicas(&self) -> u32 {
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX)
    }
}

#[derive(Clone, Debug)]
pub(super) struct PartState {
    pub(super) id: PartitionId,
    members: [Core; MEMBERS_MAX],
    /// The primary before anything moved.
    led_by: Core,
    pub(super) load: PartitionLoad,
    pub(super) freedom: Freedom,
    count: u8,
    /// A replica of it has moved in this plan.
    pub(super) has_moved: bool,
    /// Why its lead moved last, and what that gained.
    why: (Reason, u64),
}

impl PartState {
    pub(super) fn members(&self) -> &[Core] {
        &self.members[..usize::from(self.count)]
    }

    pub(super) fn lead(&self) -> Core {
        self.members[0]
    }

    pub(super) fn secondaries(&self) -> &[Core] {
        &self.members()[1..]
    }

    /// What it costs a secondary.
    pub(super) fn follow_cost(&self) -> u64 {
        SECONDARY_WRITE * u64::from(self.load.writes)
    }

    /// What it costs its primary on top of that.
    pub(super) fn lead_cost(&self) -> u64 {
        u64::from(self.load.reads) + (PRIMARY_WRITE - SECONDARY_WRITE) * u64::from(self.load.writes)
    }

    pub(super) fn is_free(&self) -> bool {
        self.freedom != Freedom::Fixed
    }

    /// A replica of it may move for more than numbers.
    pub(super) fn is_unsettled(&self) -> bool {
        self.freedom == Freedom::Free && !self.has_moved
    }
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) nodes: Vec<NodeState>,
    pub(super) cores: Vec<CoreState>,
    pub(super) parts: Vec<PartState>,
    by_node: BTreeMap<NodeId, u32>,
    moves: Vec<Move>,
    moved_bytes: u64,
}

impl Model {
    pub(super) fn new(mut facts: Vec<NodeFacts>) -> Self {
        facts.sort_by_key(|it| it.node);
        let mut nodes = Vec::with_capacity(facts.len());
        let mut cores = Vec::new();
        let mut by_node = BTreeMap::new();
        for (number, facts) in (0u32..).zip(facts) {
            let first_core = number_of(cores.len());
            by_node.insert(facts.node, number);
            cores.extend((0..facts.cores).map(|_| CoreState {
                node: number,
                ..CoreState::default()
            }));
            nodes.push(NodeState {
                facts,
                first_core,
                leads: 0,
                replicas: 0,
            });
        }
        Self {
            nodes,
            cores,
            parts: Vec::new(),
            by_node,
            moves: Vec::new(),
            moved_bytes: 0,
        }
    }

    fn core_at(&self, address: CoreAddress) -> Option<Core> {
        let node = &self.nodes[*self.by_node.get(&address.node)? as usize];
        let is_there = address.core.0 < node.facts.cores;
        is_there.then(|| node.first_core + u32::from(address.core.0))
    }

    pub(super) fn address(&self, core: Core) -> CoreAddress {
        let node = self.node_of(core);
        let number = u16::try_from(core - node.first_core).unwrap_or(u16::MAX);
        CoreAddress {
            node: node.facts.node,
            core: CoreId(number),
        }
    }

    pub(super) fn add(
        &mut self,
        id: PartitionId,
        addresses: impl Iterator<Item = CoreAddress>,
        load: PartitionLoad,
        freedom: Freedom,
    ) {
        debug_assert!(
            self.parts.last().is_none_or(|last| last.id < id),
            "partitions do not come in order"
        );
        let mut members = [0; MEMBERS_MAX];
        let mut count = 0_u8;
        let mut freedom = freedom;
        for address in addresses {
            match self.core_at(address) {
                Some(core) if usize::from(count) < MEMBERS_MAX => {
                    members[usize::from(count)] = core;
                    count += 1;
                }
                _ => freedom = Freedom::Fixed,
            }
        }
        if count == 0 {
            return;
        }
        let part = number_of(self.parts.len());
        let state = PartState {
            id,
            members,
            led_by: members[0],
            load,
            freedom,
            count,
            has_moved: false,
            why: (Reason::Primaries, 0),
        };
        for (place, &core) in state.members().iter().enumerate() {
            let follow = state.follow_cost();
            let lead = if place == 0 { state.lead_cost() } else { 0 };
            let node = &mut self.nodes[self.cores[core as usize].node as usize];
            node.replicas += 1;
            node.leads += u64::from(place == 0);
            let core = &mut self.cores[core as usize];
            core.parts.push(part);
            core.load += follow + lead;
            core.leads += u32::from(place == 0);
            let share = core.share(id.table);
            share.replicas += 1;
            share.leads += u32::from(place == 0);
        }
        self.parts.push(state);
    }

    pub(super) fn core(&self, core: Core) -> &CoreState {
        &self.cores[core as usize]
    }

    pub(super) fn part(&self, part: Part) -> &PartState {
        &self.parts[part as usize]
    }

    pub(super) fn node_of(&self, core: Core) -> &NodeState {
        &self.nodes[self.core(core).node as usize]
    }

    pub(super) fn table(&self, part: Part) -> TableId {
        self.part(part).id.table
    }

    pub(super) fn may_lead(&self, core: Core) -> bool {
        self.node_of(core).facts.standing == Standing::Open
    }

    /// May get a replica with `bytes`.
    pub(super) fn may_take(&self, core: Core, bytes: u64) -> bool {
        let facts = &self.node_of(core).facts;
        let used = permille(facts.disk_used.saturating_add(bytes), facts.disk_total);
        facts.standing == Standing::Open && used.is_none_or(|used| used < DISK_FULL_PERCENT * 10)
    }

    /// May get it from `from`: onto a disk that is rather full only from one that is about as full.
    pub(super) fn may_take_from(&self, from: Core, to: Core, bytes: u64) -> bool {
        let (giver, taker) = (self.node_of(from), self.node_of(to));
        let facts = &taker.facts;
        let used = permille(facts.disk_used.saturating_add(bytes), facts.disk_total);
        let is_roomy = used.is_none_or(|used| used < DISK_TAKE_PERCENT * 10);
        let giver = giver.used_permille().unwrap_or(0);
        let is_alike = taker
            .used_permille()
            .is_none_or(|used| used <= giver + ALIKE_PERMILLE);
        self.may_take(to, bytes) && (is_roomy || is_alike)
    }

    /// May give what it has.
    pub(super) fn may_give(&self, core: Core) -> bool {
        matches!(
            self.node_of(core).facts.standing,
            Standing::Open | Standing::Leaving
        )
    }

    /// All members' nodes are there to work with.
    pub(super) fn may_hand_over(&self, part: Part) -> bool {
        let it = self.part(part);
        it.is_free() && self.may_lead(it.lead())
    }

    /// `to` may have a replica of it in the place of the one at `from`.
    pub(super) fn fits(&self, part: Part, from: Core, to: Core) -> bool {
        let it = self.part(part);
        let node = self.core(to).node;
        let is_free = |&member: &Core| member == from || self.core(member).node != node;
        from != to && it.members().iter().all(is_free)
    }

    /// Whether the plan has room for one more copy of so many bytes.
    pub(super) fn has_room(&self, bytes: u64, options: &Options) -> bool {
        let is_first = self.moves.is_empty();
        self.moves.len() < options.moves_max
            && (is_first || self.moved_bytes.saturating_add(bytes) <= options.bytes_max)
    }

    /// Moves a replica and writes it down.
    pub(super) fn move_replica(
        &mut self,
        part: Part,
        from: Core,
        to: Core,
        reason: Reason,
        gain: u64,
    ) {
        assert!(self.fits(part, from, to), "two replicas would share a node");
        self.lead_elsewhere(part, from);
        let bytes = self.part(part).load.bytes;
        self.moves.push(Move {
            partition: self.part(part).id,
            kind: Kind::Replica,
            from: self.address(from),
            to: self.address(to),
            reason,
            gain,
            bytes,
        });
        self.moved_bytes = self.moved_bytes.saturating_add(bytes);
        self.shift_replica(part, from, to);
        let it = &mut self.parts[part as usize];
        it.has_moved = true;
        if it.led_by == from {
            it.led_by = it.members[0];
        }
    }

    /// A replica that moves hands over first, if somebody may lead: so does meta.
    fn lead_elsewhere(&mut self, part: Part, from: Core) {
        let it = self.part(part);
        if it.lead() != from {
            return;
        }
        let may = it.secondaries().iter().filter(|&&core| self.may_lead(core));
        let best = may
            .min_by_key(|&&core| (self.core(core).leads, core))
            .copied();
        if let Some(best) = best {
            self.hand_over(part, best, Reason::Primaries, 0);
            self.parts[part as usize].led_by = best;
        }
    }

    fn shift_replica(&mut self, part: Part, from: Core, to: Core) {
        let it = &mut self.parts[part as usize];
        let count = usize::from(it.count);
        let leads = it.members[0] == from;
        let place = it.members[..count].iter().position(|&core| core == from);
        let place = place.expect("the replica that moves is there");
        it.members[place] = to;
        let (follow, lead) = (it.follow_cost(), if leads { it.lead_cost() } else { 0 });
        let (bytes, table) = (it.load.bytes, it.id.table);
        let cost = follow + lead;
        let giver = &mut self.cores[from as usize];
        giver.parts.retain(|&held| held != part);
        giver.load -= cost;
        giver.leads -= u32::from(leads);
        giver.share(table).replicas -= 1;
        giver.share(table).leads -= u32::from(leads);
        let from_node = giver.node as usize;
        let taker = &mut self.cores[to as usize];
        taker.parts.push(part);
        taker.load += cost;
        taker.leads += u32::from(leads);
        taker.share(table).replicas += 1;
        taker.share(table).leads += u32::from(leads);
        let to_node = taker.node as usize;
        let node = &mut self.nodes[from_node];
        node.replicas -= 1;
        node.leads -= u64::from(leads);
        node.facts.disk_used = node.facts.disk_used.saturating_sub(bytes);
        let node = &mut self.nodes[to_node];
        node.replicas += 1;
        node.leads += u64::from(leads);
        node.facts.disk_used = node.facts.disk_used.saturating_add(bytes);
    }

    /// Hands the lead over to the member on `to`.
    pub(super) fn hand_over(&mut self, part: Part, to: Core, reason: Reason, gain: u64) {
        let it = &mut self.parts[part as usize];
        let from = it.members[0];
        let count = usize::from(it.count);
        let place = it.members[..count].iter().position(|&core| core == to);
        let place = place.expect("who is to lead is a member");
        it.members.swap(0, place);
        it.why = (reason, gain);
        let (cost, table) = (it.lead_cost(), it.id.table);
        let giver = &mut self.cores[from as usize];
        giver.leads -= 1;
        giver.share(table).leads -= 1;
        giver.load -= cost;
        let from_node = giver.node as usize;
        let taker = &mut self.cores[to as usize];
        taker.leads += 1;
        taker.share(table).leads += 1;
        taker.load += cost;
        let to_node = taker.node as usize;
        self.nodes[from_node].leads -= 1;
        self.nodes[to_node].leads += 1;
    }

    /// Everything that has moved since the last time: replicas in the order in which they were chosen, then every partition
    /// that another member leads than before.
    pub(super) fn take_moves(&mut self) -> Vec<Move> {
        let mut moves = std::mem::take(&mut self.moves);
        self.moved_bytes = 0;
        let mut led: Vec<Move> = Vec::new();
        for it in &self.parts {
            let (reason, gain) = it.why;
            if it.led_by != it.lead() {
                led.push(Move {
                    partition: it.id,
                    kind: Kind::Lead,
                    from: self.address(it.led_by),
                    to: self.address(it.lead()),
                    reason,
                    gain,
                    bytes: 0,
                });
            }
        }
        for it in &mut self.parts {
            it.led_by = it.members[0];
            it.has_moved = false;
        }
        led.sort_by_key(|it| (it.reason, std::cmp::Reverse(it.gain)));
        moves.extend(led);
        moves
    }

    pub(super) fn placement(&self) -> impl Iterator<Item = (PartitionId, Vec<CoreAddress>)> + '_ {
        let members = |it: &PartState| it.members().iter().map(|&it| self.address(it)).collect();
        self.parts.iter().map(move |it| (it.id, members(it)))
    }

    /// Cores of nodes that may lead.
    pub(super) fn open_cores(&self) -> impl Iterator<Item = Core> + '_ {
        let all = 0..number_of(self.cores.len());
        all.filter(|&core| self.may_lead(core))
    }

    pub(super) fn evenness(&self) -> Evenness {
        let open: Vec<&CoreState> = self.open_cores().map(|core| self.core(core)).collect();
        let mut loads: Vec<u64> = open.iter().map(|it| it.load).collect();
        loads.sort_unstable();
        let total: u64 = loads.iter().sum();
        let mean = mean(total, loads.len());
        let crowding = self.open_cores().map(|core| self.crowding(core, mean));
        let crowding: Vec<f64> = crowding.collect();
        let crowded = crowding.iter().filter(|&&it| it > CROWDED);
        let hottest = self
            .parts
            .iter()
            .map(|it| it.lead_cost() + it.follow_cost());
        let p99 = loads.get(loads.len().saturating_sub(loads.len() / 100 + 1));
        Evenness {
            cores: number_of(open.len()),
            replicas_min: open.iter().map(|it| it.replicas()).min().unwrap_or(0),
            replicas_max: open.iter().map(|it| it.replicas()).max().unwrap_or(0),
            primaries_min: open.iter().map(|it| it.leads).min().unwrap_or(0),
            primaries_max: open.iter().map(|it| it.leads).max().unwrap_or(0),
            load_mean: mean,
            load_max: loads.last().copied().unwrap_or(0),
            load_p99: p99.copied().unwrap_or(0),
            load_bound: mean.max(as_float(hottest.max().unwrap_or(0))),
            crowding_max: crowding.iter().copied().fold(0.0, f64::max),
            crowded_cores: number_of(crowded.count()),
        }
    }

    fn crowding(&self, core: Core, mean: f64) -> f64 {
        let state = self.core(core);
        let costs = state.parts.iter().map(|&part| {
            let it = self.part(part);
            let lead = if it.lead() == core { it.lead_cost() } else { 0 };
            it.follow_cost() + lead
        });
        let alone = mean.max(as_float(costs.max().unwrap_or(0)));
        if alone > 0.0 {
            as_float(state.load) / alone
        } else {
            0.0
        }
    }
}

fn mean(total: u64, count: usize) -> f64 {
    as_float(total) / as_float(count.max(1) as u64)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "for display: requests a second are far below 2^52"
)]
fn as_float(number: u64) -> f64 {
    number as f64
}

/// Cores and partitions are bounded to a few hundred thousand.
pub(super) fn number_of(count: usize) -> u32 {
    u32::try_from(count).expect("cores and partitions are far fewer than 2^32")
}
