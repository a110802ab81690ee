//! The bytes of a batch of changes. A text is its length (2) and UTF-8; a list its count (4) and its items; an optional
//! number is 0 (1), or 1 (1) and the number.
//!
//! | kind | change | fields |
//! |---|---|---|
//! | 1 | Cluster | id (16), name, epoch (2) |
//! | 2 | Counters | next node (4), next table (4), next incarnation (8) |
//! | 3 | NodeNumbered | node (4) |
//! | 4 | NodeJoined | node (4), incarnation (8), host, pid (4), stats dir, list of cores: client address, peer address, cpu (4) |
//! | 5 | TableCreated | table (4), name, replica count (1), min replicas (1), created ms (8), optional dropped ms (8), partition count (4), list of partitions: ballot (8), stage (1: 0 creating, 1 active), has a primary (1), list of members, the primary first: node (4), core (2), incarnation (8) |
//! | 6 | TableDropped | table (4), at ms (8) |
//! | 7 | TableForgotten | table (4) |
//! | 8 | PartitionsActivated | table (4), list of indices (4) |
//! | 9 | BallotsGrown | table (4), list of: index (4), ballot (8) |
//! | 10 | PartitionsChanged | table (4), list of: index (4), a partition as in 5, has a learner (1): node (4), core (2), incarnation (8), is fresh (1), since ms (8); optional degraded since ms (8); list of back-offs: node (4), step (1), until ms (8); order (1): 0 none, 1 lead: member, until ms (8), 2 move: member, node (4), core (2), until ms (8) |
//! | 11 | NodeDrained | node (4), what leaves (1): 0 nothing, 1 primaries, 2 all replicas |
//! | 12 | TableKept | table (4), at ms (8), until ms (8) |
//! | 13 | TableExpired | table (4) |
//! | 14 | TableRecalled | table (4), name |
//! | 15 | TableRenamed | table (4), name |
//! | 16 | TableEnvs | table (4), list of: key, value |
//! | 17 | LevelSet | level (2): 100 to 500 |
//! | 19 | BalanceSet | paused (1), wanted (1): 0 nothing, 1 primaries, 2 everything; copies, copies of a node, hand-overs (2 each) |
//! | 20 | ReplicaCountSet | table (4), replica count (1), min_replicas (1) |
//! | 21 to 27 | Backup | backups, policies, restores: `super::backup` |
//!
//! 10 and 11 came with format 2, 12 to 17 with format 3, 18 to 20 with format 4, 21 to 27 with format 5.

use super::backup;
use crate::state::{
    Backoff, BalanceLimits, BalanceSettings, Change, Cluster, ClusterId, Core, Counters, Drain,
    Goal, Intent, Learner, Level, Node, Partition, Table, Wanted,
};
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, NodeId, NodeIncarnation, ReplicaIncarnation, TableId,
};
use std::collections::BTreeMap;

/// Appends the batch to `out`. Bounds of counts and texts are those of the state, far below what their lengths can say.
pub fn encode_batch(changes: &[Change], out: &mut Vec<u8>) {
    put_list(out, changes, put_change);
}

/// The batch that `bytes` are; `None` if they are none, or more than one.
#[must_use]
pub fn decode_batch(bytes: &[u8]) -> Option<Vec<Change>> {
    let mut reader = Reader { rest: bytes };
    let changes = reader.list(Reader::change)?;
    reader.rest.is_empty().then_some(changes)
}

fn put_change(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Cluster(cluster) => {
            out.push(1);
            out.extend(cluster.id.0.to_le_bytes());
            put_text(out, &cluster.name);
            out.extend(cluster.epoch.to_le_bytes());
        }
        Change::Counters(counters) => {
            out.push(2);
            out.extend(counters.next_node.to_le_bytes());
            out.extend(counters.next_table.to_le_bytes());
            out.extend(counters.next_incarnation.to_le_bytes());
        }
        Change::NodeNumbered { node } => {
            out.push(3);
            out.extend(node.0.to_le_bytes());
        }
        Change::NodeJoined(node) => {
            out.push(4);
            put_node(out, node);
        }
        Change::TableCreated(table) => {
            out.push(5);
            put_table(out, table);
        }
        Change::TableDropped { table, at_ms } => {
            out.push(6);
            out.extend(table.0.to_le_bytes());
            out.extend(at_ms.to_le_bytes());
        }
        Change::TableForgotten { table } => {
            out.push(7);
            out.extend(table.0.to_le_bytes());
        }
        Change::PartitionsActivated { table, partitions } => {
            out.push(8);
            out.extend(table.0.to_le_bytes());
            put_list(out, partitions, |out, index| {
                out.extend(index.to_le_bytes())
            });
        }
        Change::BallotsGrown { table, ballots } => {
            out.push(9);
            out.extend(table.0.to_le_bytes());
            put_list(out, ballots, |out, (index, ballot)| {
                out.extend(index.to_le_bytes());
                out.extend(ballot.0.to_le_bytes());
            });
        }
        Change::PartitionsChanged { table, partitions } => {
            out.push(10);
            out.extend(table.0.to_le_bytes());
            put_list(out, partitions, |out, (index, partition)| {
                out.extend(index.to_le_bytes());
                put_partition(out, partition);
                put_plans(out, partition);
            });
        }
        Change::NodeDrained { node, drain } => {
            out.push(11);
            out.extend(node.0.to_le_bytes());
            out.push(match drain {
                None => 0,
                Some(Drain::Primaries) => 1,
                Some(Drain::Replicas) => 2,
                Some(Drain::Decommission) => 3,
            });
        }
        Change::TableKept {
            table,
            at_ms,
            until_ms,
        } => {
            out.push(12);
            out.extend(table.0.to_le_bytes());
            out.extend(at_ms.to_le_bytes());
            out.extend(until_ms.to_le_bytes());
        }
        Change::TableExpired { table } => {
            out.push(13);
            out.extend(table.0.to_le_bytes());
        }
        Change::TableRecalled { table, name } => {
            out.push(14);
            out.extend(table.0.to_le_bytes());
            put_text(out, name);
        }
        Change::TableRenamed { table, name } => {
            out.push(15);
            out.extend(table.0.to_le_bytes());
            put_text(out, name);
        }
        Change::TableEnvs { table, envs } => {
            out.push(16);
            out.extend(table.0.to_le_bytes());
            let pairs: Vec<(&String, &String)> = envs.iter().collect();
            put_list(out, &pairs, |out, (key, value)| {
                put_text(out, key);
                put_text(out, value);
            });
        }
        Change::BalanceSet(settings) => {
            out.push(19);
            put_balance(out, settings);
        }
        Change::ReplicaCountSet {
            table,
            replica_count,
            min_replicas,
        } => {
            out.push(20);
            out.extend(table.0.to_le_bytes());
            out.extend([*replica_count, *min_replicas]);
        }
        Change::Backup(change) => backup::put(out, change),
        Change::LevelSet(level) => {
            out.push(17);
            out.extend(level.number().to_le_bytes());
        }
        Change::NodeForgotten { node } => {
            out.push(18);
            out.extend(node.0.to_le_bytes());
        }
    }
}

fn put_node(out: &mut Vec<u8>, node: &Node) {
    out.extend(node.id.0.to_le_bytes());
    out.extend(node.incarnation.0.to_le_bytes());
    put_text(out, &node.host);
    out.extend(node.pid.to_le_bytes());
    put_text(out, &node.stats_dir);
    put_list(out, &node.cores, |out, core| {
        put_text(out, &core.client_address);
        put_text(out, &core.peer_address);
        out.extend(core.cpu.to_le_bytes());
    });
}

fn put_table(out: &mut Vec<u8>, table: &Table) {
    out.extend(table.id.0.to_le_bytes());
    put_text(out, &table.name);
    out.extend([table.replica_count, table.min_replicas]);
    out.extend(table.created_ms.to_le_bytes());
    put_optional(out, table.dropped_ms);
    out.extend(table.partition_count.to_le_bytes());
    put_list(out, &table.partitions, put_partition);
}

fn put_partition(out: &mut Vec<u8>, partition: &Partition) {
    out.extend(partition.ballot.0.to_le_bytes());
    out.push(match partition.stage {
        Stage::Creating => 0,
        Stage::Active => 1,
    });
    out.push(u8::from(partition.primary.is_some()));
    let members: Vec<Member> = partition.members().copied().collect();
    put_list(out, &members, put_member);
}

/// What a partition has beyond its configuration.
fn put_plans(out: &mut Vec<u8>, partition: &Partition) {
    out.push(u8::from(partition.learner.is_some()));
    if let Some(learner) = &partition.learner {
        put_member(out, &learner.member);
        out.push(u8::from(learner.is_fresh));
        out.extend(learner.since_ms.to_le_bytes());
    }
    put_optional(out, partition.degraded_ms);
    put_list(out, &partition.backoffs, |out, backoff| {
        out.extend(backoff.node.0.to_le_bytes());
        out.push(backoff.step);
        out.extend(backoff.until_ms.to_le_bytes());
    });
    let Some(intent) = &partition.intent else {
        out.push(0);
        return;
    };
    match &intent.goal {
        Goal::Lead { to } => {
            out.push(1);
            put_member(out, to);
        }
        Goal::Move { from, to } => {
            out.push(2);
            put_member(out, from);
            put_address(out, to);
        }
    }
    out.extend(intent.until_ms.to_le_bytes());
}

fn put_member(out: &mut Vec<u8>, member: &Member) {
    put_address(out, &member.address);
    out.extend(member.incarnation.0.to_le_bytes());
}

fn put_address(out: &mut Vec<u8>, address: &CoreAddress) {
    out.extend(address.node.0.to_le_bytes());
    out.extend(address.core.0.to_le_bytes());
}

fn put_balance(out: &mut Vec<u8>, settings: &BalanceSettings) {
    out.push(u8::from(settings.is_paused));
    out.push(match settings.wanted {
        Wanted::Nothing => 0,
        Wanted::Primaries => 1,
        Wanted::Everything => 2,
    });
    let limits = &settings.limits;
    let numbers = [
        limits.copies_max,
        limits.copies_per_node_max,
        limits.hand_overs_max,
    ];
    out.extend(numbers.into_iter().flat_map(u16::to_le_bytes));
}

pub(super) fn put_optional(out: &mut Vec<u8>, number: Option<u64>) {
    out.push(u8::from(number.is_some()));
    out.extend(number.into_iter().flat_map(u64::to_le_bytes));
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("texts of the state are bounded to 16,384 bytes");
    out.extend(length.to_le_bytes());
    out.extend(text.as_bytes());
}

pub(super) fn put_list<T>(out: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    let count =
        u32::try_from(items.len()).expect("lists of the state are bounded to 262,144 items");
    out.extend(count.to_le_bytes());
    items.iter().for_each(|item| put(out, item));
}

/// Cuts fields off the front; `None` once bytes are missing or make no sense.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn change(&mut self) -> Option<Change> {
        Some(match self.u8()? {
            1 => Change::Cluster(self.cluster()?),
            2 => Change::Counters(Counters {
                next_node: self.u32()?,
                next_table: self.u32()?,
                next_incarnation: self.u64()?,
            }),
            3 => Change::NodeNumbered {
                node: NodeId(self.u32()?),
            },
            4 => Change::NodeJoined(self.node()?),
            5 => Change::TableCreated(self.table()?),
            6 => Change::TableDropped {
                table: TableId(self.u32()?),
                at_ms: self.u64()?,
            },
            7 => Change::TableForgotten {
                table: TableId(self.u32()?),
            },
            8 => Change::PartitionsActivated {
                table: TableId(self.u32()?),
                partitions: self.list(Self::u32)?,
            },
            9 => Change::BallotsGrown {
                table: TableId(self.u32()?),
                ballots: self.list(Self::ballot)?,
            },
            10 => Change::PartitionsChanged {
                table: TableId(self.u32()?),
                partitions: self.list(|it| Some((it.u32()?, it.planned_partition()?)))?,
            },
            11 => Change::NodeDrained {
                node: NodeId(self.u32()?),
                drain: match self.u8()? {
                    0 => None,
                    1 => Some(Drain::Primaries),
                    2 => Some(Drain::Replicas),
                    3 => Some(Drain::Decommission),
                    _ => return None,
                },
            },
            12 => Change::TableKept {
                table: TableId(self.u32()?),
                at_ms: self.u64()?,
                until_ms: self.u64()?,
            },
            13 => Change::TableExpired {
                table: TableId(self.u32()?),
            },
            14 => Change::TableRecalled {
                table: TableId(self.u32()?),
                name: self.text()?,
            },
            15 => Change::TableRenamed {
                table: TableId(self.u32()?),
                name: self.text()?,
            },
            16 => Change::TableEnvs {
                table: TableId(self.u32()?),
                envs: self.envs()?,
            },
            17 => Change::LevelSet(Level::from_number(self.u16()?)?),
            18 => Change::NodeForgotten {
                node: NodeId(self.u32()?),
            },
            19 => Change::BalanceSet(self.balance()?),
            20 => Change::ReplicaCountSet {
                table: TableId(self.u32()?),
                replica_count: self.u8()?,
                min_replicas: self.u8()?,
            },
            kind => Change::Backup(self.backup(kind)?),
        })
    }

    fn balance(&mut self) -> Option<BalanceSettings> {
        Some(BalanceSettings {
            is_paused: self.flag()?,
            wanted: match self.u8()? {
                0 => Wanted::Nothing,
                1 => Wanted::Primaries,
                2 => Wanted::Everything,
                _ => return None,
            },
            limits: BalanceLimits {
                copies_max: self.u16()?,
                copies_per_node_max: self.u16()?,
                hand_overs_max: self.u16()?,
            },
        })
    }

    fn cluster(&mut self) -> Option<Cluster> {
        Some(Cluster {
            id: ClusterId(u128::from_le_bytes(self.array()?)),
            name: self.text()?,
            epoch: self.u16()?,
        })
    }

    fn node(&mut self) -> Option<Node> {
        Some(Node {
            id: NodeId(self.u32()?),
            incarnation: NodeIncarnation(self.u64()?),
            host: self.text()?,
            pid: self.u32()?,
            stats_dir: self.text()?,
            cores: self.list(Self::core)?,
        })
    }

    fn core(&mut self) -> Option<Core> {
        Some(Core {
            client_address: self.text()?,
            peer_address: self.text()?,
            cpu: self.u32()?,
        })
    }

    fn table(&mut self) -> Option<Table> {
        Some(Table {
            id: TableId(self.u32()?),
            name: self.text()?,
            replica_count: self.u8()?,
            min_replicas: self.u8()?,
            created_ms: self.u64()?,
            dropped_ms: self.optional()?,
            kept_until_ms: None,
            envs: BTreeMap::new(),
            partition_count: self.u32()?,
            partitions: self.list(Self::partition)?,
        })
    }

    /// In the order of their keys, each once.
    fn envs(&mut self) -> Option<BTreeMap<String, String>> {
        let pairs = self.list(|it| Some((it.text()?, it.text()?)))?;
        let is_sorted = pairs.is_sorted_by(|(a, _), (b, _)| a < b);
        is_sorted.then(|| pairs.into_iter().collect())
    }

    fn partition(&mut self) -> Option<Partition> {
        let ballot = Ballot(self.u64()?);
        let stage = if self.flag()? {
            Stage::Active
        } else {
            Stage::Creating
        };
        let has_primary = self.flag()?;
        let members = self.list(Self::member)?;
        let bare = Partition {
            stage,
            ..Partition::creating(ballot, members)
        };
        // One without a primary, or said to have one and without members, is none of ours.
        let has_member = bare.primary.is_some();
        (has_primary && has_member).then_some(bare)
    }

    fn planned_partition(&mut self) -> Option<Partition> {
        let bare = self.partition()?;
        let learner = if self.flag()? {
            Some(Learner {
                member: self.member()?,
                is_fresh: self.flag()?,
                since_ms: self.u64()?,
            })
        } else {
            None
        };
        Some(Partition {
            learner,
            degraded_ms: self.optional()?,
            backoffs: self.list(Self::backoff)?,
            intent: self.intent()?,
            ..bare
        })
    }

    fn backoff(&mut self) -> Option<Backoff> {
        Some(Backoff {
            node: NodeId(self.u32()?),
            step: self.u8()?,
            until_ms: self.u64()?,
        })
    }

    /// The outer `None`: bytes that are no order.
    fn intent(&mut self) -> Option<Option<Intent>> {
        let goal = match self.u8()? {
            0 => return Some(None),
            1 => Goal::Lead { to: self.member()? },
            2 => Goal::Move {
                from: self.member()?,
                to: self.address()?,
            },
            _ => return None,
        };
        let until_ms = self.u64()?;
        Some(Some(Intent { goal, until_ms }))
    }

    fn member(&mut self) -> Option<Member> {
        Some(Member {
            address: self.address()?,
            incarnation: ReplicaIncarnation(self.u64()?),
        })
    }

    fn address(&mut self) -> Option<CoreAddress> {
        Some(CoreAddress {
            node: NodeId(self.u32()?),
            core: CoreId(self.u16()?),
        })
    }

    /// The outer `None`: bytes that are no number.
    pub(super) fn optional(&mut self) -> Option<Option<u64>> {
        Some(if self.flag()? {
            Some(self.u64()?)
        } else {
            None
        })
    }

    fn ballot(&mut self) -> Option<(u32, Ballot)> {
        Some((self.u32()?, Ballot(self.u64()?)))
    }

    pub(super) fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.u32()?).ok()?;
        // Each item has at least a byte, so that a wrong count cannot ask for memory.
        let mut items = Vec::with_capacity(count.min(self.rest.len() / 8));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.u16()?;
        let (text, rest) = self.rest.split_at_checked(usize::from(length))?;
        self.rest = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }
}
