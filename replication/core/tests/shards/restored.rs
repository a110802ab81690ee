//! A replica whose storage comes from a backup: it goes on where the backup ends.

use bytes::Bytes;
use pegasus_replication::Shard;
use pegasus_replication::config::{Configuration, Member, ReplicationOptions, Stage};
use pegasus_replication::event::{Effect, Effects, Event};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, Instant, NodeId, PartitionId, ReplicaIncarnation, TableId,
};
use pegasus_replication::log::recover::{SegmentSource, recover};
use pegasus_replication::log::{LogIdentity, LogOptions, SegmentId};
use std::collections::{BTreeMap, VecDeque};

const PARTITION: PartitionId = PartitionId {
    table: TableId(1),
    index: 0,
};
const OWN: CoreAddress = CoreAddress {
    node: NodeId(1),
    core: CoreId(0),
};
const INCARNATION: ReplicaIncarnation = ReplicaIncarnation(5);
const NOW: Instant = Instant(1_000_000_000);

/// A disk on which nothing is.
struct Empty;

impl SegmentSource for Empty {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        Vec::new()
    }

    fn read(&mut self, segment: SegmentId, _: u64, _: usize) -> Result<Bytes, String> {
        Err(format!("there is no segment {segment:?}"))
    }
}

fn shard() -> Shard {
    let identity = LogIdentity {
        cluster: 1,
        node: OWN.node,
        shard: OWN.core,
    };
    let recovery = recover(&mut Empty, identity, &BTreeMap::new()).unwrap();
    let (replication, log) = (ReplicationOptions::default(), LogOptions::default());
    Shard::new(replication, log, OWN, recovery, &[])
}

fn configuration(stage: Stage) -> Configuration {
    Configuration {
        partition: PARTITION,
        ballot: Ballot::new(0, 1),
        stage,
        primary: Some(Member {
            address: OWN,
            incarnation: INCARNATION,
        }),
        secondaries: Vec::new(),
        replica_count: 1,
        min_replicas: 1,
    }
}

/// Carries everything out at once; returns the decrees that were applied.
fn drive(shard: &mut Shard, first: Vec<Event>, restored: Decree) -> Vec<Decree> {
    let (mut queue, mut applied) = (VecDeque::from(first), Vec::new());
    let mut effects = Effects::new();
    shard.finish_turn(NOW, &mut effects);
    loop {
        for effect in std::mem::take(&mut effects) {
            queue.extend(match effect {
                Effect::WriteLog(write) => Some(Event::LogDurable { write: write.id }),
                Effect::PrepareSegment { segment } => Some(Event::SegmentReady { segment }),
                Effect::Create {
                    partition,
                    incarnation,
                } => Some(Event::Created {
                    partition,
                    incarnation,
                    decree: restored,
                }),
                Effect::Apply { partition, entry } => {
                    applied.push(entry.decree);
                    let decree = entry.decree;
                    Some(Event::Applied { partition, decree })
                }
                _ => None,
            });
        }
        let Some(event) = queue.pop_front() else {
            return applied;
        };
        shard.handle(NOW, event, &mut effects);
        shard.finish_turn(NOW, &mut effects);
        shard.check();
    }
}

#[test]
fn a_restored_replica_serves_from_the_decree_of_its_backup_on() {
    let mut shard = shard();
    let mut effects = Effects::new();
    shard.start(NOW, &mut effects);
    let stages = [Stage::Creating, Stage::Active].map(|stage| Event::Configured {
        configuration: configuration(stage),
    });
    let [creating, active] = stages;
    assert_eq!(drive(&mut shard, vec![creating], Decree(70)), []);
    let replica = shard.replica(PARTITION).unwrap();
    assert_eq!(replica.committed(), Decree(70));
    // A no-op opens the new order, above everything restored.
    assert_eq!(drive(&mut shard, vec![active], Decree(70)), [Decree(71)]);
    assert!(shard.may_read(PARTITION, NOW));
}
