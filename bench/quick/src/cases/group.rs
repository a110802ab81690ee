//! One replica group without a network, disks or an engine: messages arrive, logs are flushed and mutations applied as soon
//! as they are asked for. The clock stands still.

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use pegasus_replication::Shard;
use pegasus_replication::config::{Configuration, Member, ReplicationOptions, Stage};
use pegasus_replication::event::{Effect, Effects, Event};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, Instant, NodeId, PartitionId, ReplicaIncarnation,
    RequestId, TableId, Ticket,
};
use pegasus_replication::log::recover::{SegmentSource, recover};
use pegasus_replication::log::{LogIdentity, LogOptions, SegmentId};
use std::collections::{BTreeMap, VecDeque};

pub(super) const PARTITION: PartitionId = PartitionId {
    table: TableId(1),
    index: 0,
};

const NOW: Instant = Instant(1_000_000_000);
const LATER: Instant = Instant(10_000_000_000);

pub(super) struct Group {
    /// The first is the primary.
    shards: Vec<Shard>,
    /// What shards are still to be told.
    queue: VecDeque<(usize, Event)>,
    effects: Effects,
    /// Tickets that were answered, and reads that the engine was asked for.
    pub(super) replies: u64,
    pub(super) reads: u64,
    last_ticket: u64,
}

/// Disks on which nothing is.
struct Empty;

impl SegmentSource for Empty {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        Vec::new()
    }

    fn read(&mut self, segment: SegmentId, _: u64, _: usize) -> Result<Bytes, String> {
        Err(format!("there is no segment {segment:?}"))
    }
}

impl Group {
    /// A group of so many members that serves.
    pub(super) fn serving(members: u32) -> anyhow::Result<Self> {
        let shards = (1..=members).map(shard).collect::<anyhow::Result<_>>()?;
        let mut group = Self {
            shards,
            queue: VecDeque::new(),
            effects: Effects::new(),
            replies: 0,
            reads: 0,
            last_ticket: 0,
        };
        for index in 0..group.shards.len() {
            group.turn(index, Shard::start);
        }
        group.connect();
        for stage in [Stage::Creating, Stage::Active] {
            for index in 0..group.shards.len() {
                let configuration = configuration(members, stage);
                group.tell(index, Event::Configured { configuration });
            }
            group.settle();
        }
        // Its first beacon, and the lease with the answers.
        group.tell(0, Event::Timeout);
        group.settle();
        let primary = group.shards.first().context("a group has a primary")?;
        ensure!(
            primary.may_read(PARTITION, NOW),
            "the group does not serve: {:?}",
            primary.replica(PARTITION)
        );
        Ok(group)
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    /// Writes of one turn of the primary, to their answers.
    pub(super) fn write(&mut self, payload: &Bytes, count: u32) {
        for _ in 0..count {
            let event = Event::Write {
                partition: PARTITION,
                ticket: self.ticket(),
                request_id: RequestId::default(),
                gate: self.last_ticket,
                wall_us: 1_000_000,
                payload: payload.clone(),
                deadline: LATER,
            };
            if let Some(primary) = self.shards.first_mut() {
                primary.handle(NOW, event, &mut self.effects);
            }
        }
        self.turn(0, |_, _, _| ());
        self.settle();
    }

    /// A read of the primary, to its answer.
    pub(super) fn read(&mut self) {
        let event = Event::Read {
            partition: PARTITION,
            ticket: self.ticket(),
            deadline: LATER,
        };
        self.tell(0, event);
        self.settle();
    }

    fn connect(&mut self) {
        for one in 0..self.shards.len() {
            for other in (0..self.shards.len()).filter(|other| *other != one) {
                let peer = address(number(other));
                self.tell(one, Event::PeerUp { peer });
            }
        }
        self.settle();
    }

    fn tell(&mut self, index: usize, event: Event) {
        self.queue.push_back((index, event));
    }

    fn settle(&mut self) {
        while let Some((index, event)) = self.queue.pop_front() {
            self.turn(index, |shard, now, effects| {
                shard.handle(now, event, effects)
            });
        }
    }

    fn turn(&mut self, index: usize, work: impl FnOnce(&mut Shard, Instant, &mut Effects)) {
        let Some(shard) = self.shards.get_mut(index) else {
            return;
        };
        work(shard, NOW, &mut self.effects);
        shard.finish_turn(NOW, &mut self.effects);
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.perform(index, effect);
        }
        self.effects = effects;
    }

    fn perform(&mut self, index: usize, effect: Effect) {
        let event = match effect {
            Effect::WriteLog(write) => Event::LogDurable { write: write.id },
            Effect::PrepareSegment { segment } => Event::SegmentReady { segment },
            Effect::Create {
                partition,
                incarnation,
            } => Event::Created {
                partition,
                incarnation,
                decree: Decree::ZERO,
            },
            Effect::Apply { partition, entry } => Event::Applied {
                partition,
                decree: entry.decree,
            },
            Effect::Read { partition, ticket } => {
                self.reads += 1;
                Event::ReadDone { partition, ticket }
            }
            Effect::Send { to, message } => {
                let from = address(number(index));
                let to = (to.node.0 as usize).saturating_sub(1);
                return self.tell(to, Event::Message { from, message });
            }
            Effect::Reply { .. } => {
                self.replies += 1;
                return;
            }
            _ => return,
        };
        self.tell(index, event);
    }
}

/// Nodes count from 1.
fn number(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

fn address(node: u32) -> CoreAddress {
    CoreAddress {
        node: NodeId(node),
        core: CoreId(0),
    }
}

fn shard(node: u32) -> anyhow::Result<Shard> {
    let identity = LogIdentity {
        cluster: 7,
        node: NodeId(node),
        shard: CoreId(0),
    };
    let recovery = recover(&mut Empty, identity, &BTreeMap::new())
        .map_err(|error| anyhow!("an empty log: {error:?}"))?;
    Ok(Shard::new(
        ReplicationOptions::default(),
        LogOptions::default(),
        address(node),
        recovery,
        &[],
    ))
}

fn configuration(members: u32, stage: Stage) -> Configuration {
    let mut all = (1..=members).map(|node| Member {
        address: address(node),
        incarnation: ReplicaIncarnation(u64::from(node) + 10),
    });
    Configuration {
        partition: PARTITION,
        ballot: Ballot(1),
        stage,
        primary: all.next(),
        secondaries: all.collect(),
        replica_count: u8::try_from(members).unwrap_or(u8::MAX),
        min_replicas: 1,
    }
}
