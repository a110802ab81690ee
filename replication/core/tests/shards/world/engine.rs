//! Storage of the replicas, and the work that waits for it.

use super::{World, identity};
use bytes::Bytes;
use pegasus_replication::config::Member;
use pegasus_replication::event::{Compute, Computed, Effect, Event};
use pegasus_replication::ids::{Ballot, Decree, PartitionId, ReplicaIncarnation};
use pegasus_replication::log::recover::{Suffix, SuffixRange};
use pegasus_replication::message::Entry;

/// One replica's storage: all it has applied, and how much of that would survive.
#[derive(Clone)]
pub(crate) struct Storage {
    pub(crate) incarnation: ReplicaIncarnation,
    pub(crate) applied: Vec<Entry>,
    pub(crate) durable: usize,
}

/// What a node says to those who want entries of its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fetches {
    #[default]
    Work,
    /// Others are served, or it is not to be reached.
    Busy,
    /// They are not in the log.
    Missing,
}

impl World {
    /// Works out the atomic operation whose turn it is. False: none waits.
    pub(crate) fn step_gate(&mut self, node: u32) -> bool {
        let one = self.nodes.get_mut(&node).unwrap();
        let Some(compute) = one.computes.pop_front() else {
            return false;
        };
        let Compute {
            partition,
            ticket,
            gate,
            ..
        } = compute;
        let counting = self.counting.get_mut(&ticket).unwrap();
        let applied = one.engine.get(&partition);
        let applied = applied.map_or(&[][..], |storage| &storage.applied);
        let id = counting.request_id;
        let number = |payload: &Bytes| std::str::from_utf8(payload).ok()?.parse::<u64>().ok();
        let same = |entry: &&Entry| id.client > 0 && entry.mutation.request_id == id;
        let outcome = if let Some(before) = applied.iter().find(same) {
            counting.value = number(&before.mutation.payload);
            Computed::Remembered
        } else {
            let shard = one.shard.as_ref().unwrap();
            let mut inflight = shard.inflight(partition, gate);
            let prepared = inflight.find_map(number);
            let mut stored = applied.iter().rev();
            let stored = || stored.find_map(|entry| number(&entry.mutation.payload));
            let value = prepared.or_else(stored).unwrap_or(0);
            let value = value + u64::from(counting.is_increment);
            counting.value = Some(value);
            if counting.is_increment {
                let payload = Bytes::from(value.to_string());
                self.writes.insert(ticket, (partition, payload.clone()));
                Computed::Write { payload }
            } else {
                Computed::Answer
            }
        };
        self.feed(
            node,
            Event::Computed {
                partition,
                ticket,
                gate,
                outcome,
            },
        );
        true
    }

    /// Carries out one effect that waits for the engine or the segment maker. False: none waits.
    pub(crate) fn step_engine(&mut self, node: u32) -> bool {
        let one = self.nodes.get_mut(&node).unwrap();
        let Some(effect) = one.engine_queue.pop_front() else {
            return false;
        };
        match effect {
            Effect::PrepareSegment { segment } => self.feed(node, Event::SegmentReady { segment }),
            Effect::Apply { partition, entry } => {
                if let Some(storage) = one.engine.get_mut(&partition) {
                    let decree = entry.decree;
                    if decree.0 <= storage.applied.len() as u64 {
                        // Given before a checkpoint took the storage's place.
                        return true;
                    }
                    assert_eq!(
                        decree.0,
                        storage.applied.len() as u64 + 1,
                        "applied in order, each once"
                    );
                    storage.applied.push(entry);
                    self.feed(node, Event::Applied { partition, decree });
                }
            }
            Effect::Read { partition, ticket } => {
                let storage = one.engine.get(&partition);
                let found = storage.map_or(0, |storage| storage.applied.len());
                if let Some(reading) = self.readings.get_mut(&ticket) {
                    reading.found = Decree(found as u64);
                }
                self.feed(node, Event::ReadDone { partition, ticket })
            }
            Effect::FetchLog {
                partition,
                incarnation,
                source,
                from,
                to,
            } => {
                let found = self.read_log(node, source, partition, from, to);
                self.feed(
                    node,
                    match found {
                        Ok(entries) => Event::LogFetched {
                            partition,
                            incarnation,
                            entries,
                        },
                        Err(is_missing) => Event::FetchFailed {
                            partition,
                            incarnation,
                            is_missing,
                        },
                    },
                );
            }
            Effect::FetchCheckpoint {
                partition,
                incarnation,
                source,
            } => {
                let event = self.fetch_checkpoint(node, source, partition, incarnation);
                self.feed(node, event);
            }
            Effect::Flush { .. } if one.flushes_fail => {}
            Effect::Flush { partition } => self.flush(node, partition),
            Effect::Create {
                partition,
                incarnation,
            } => self.create(node, partition, incarnation),
            _ => unreachable!(),
        }
        true
    }

    pub(crate) fn flush(&mut self, node: u32, partition: PartitionId) {
        if let Some(storage) = self
            .nodes
            .get_mut(&node)
            .unwrap()
            .engine
            .get_mut(&partition)
        {
            storage.durable = storage.applied.len();
            let decree = Decree(storage.durable as u64);
            self.feed(node, Event::Flushed { partition, decree });
        }
    }

    /// The first few entries that the log of `source` gives, or else whether it has them no more.
    fn read_log(
        &mut self,
        node: u32,
        source: Member,
        partition: PartitionId,
        from: Decree,
        to: Decree,
    ) -> Result<Vec<Entry>, bool> {
        let other = source.address.node.0;
        if !self.runs(other) || self.is_cut(node, other) {
            return Err(false);
        }
        let range = SuffixRange {
            partition,
            incarnation: source.incarnation,
            after: from.previous(),
            up_to: to,
        };
        let source = self.nodes.get_mut(&other).unwrap();
        match source.fetches {
            Fetches::Work => {}
            Fetches::Busy => return Err(false),
            Fetches::Missing => return Err(true),
        }
        let start = source.shard.as_ref().unwrap().log().suffix_start(&[range]);
        let suffix = Suffix::open(&mut source.disk, identity(other), &[range], start);
        let piece = suffix.map_err(|_| true)?.next_piece(2000);
        let (_, piece) = piece.expect("one is wanted");
        Ok(piece.map_err(|_| true)?.entries)
    }

    fn fetch_checkpoint(
        &mut self,
        node: u32,
        source: Member,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    ) -> Event {
        let other = source.address.node.0;
        let is_reached = self.runs(other) && !self.is_cut(node, other);
        let found = self.nodes[&other].engine.get(&partition);
        let found = found.filter(|storage| is_reached && storage.incarnation == source.incarnation);
        let Some(found) = found.cloned() else {
            return failed(partition, incarnation);
        };
        let one = self.nodes.get_mut(&node).unwrap();
        if !one.engine.contains_key(&partition) {
            return failed(partition, incarnation);
        }
        let last = found.applied.last();
        let ballot = last.map_or(Ballot::NONE, |entry| entry.ballot);
        let durable = found.applied.len();
        let decree = Decree(durable as u64);
        one.engine.insert(
            partition,
            Storage {
                incarnation,
                applied: found.applied,
                durable,
            },
        );
        Event::CheckpointInstalled {
            partition,
            incarnation,
            decree,
            ballot,
        }
    }

    /// Creates the storage that a node was told to create.
    pub(crate) fn create(
        &mut self,
        node: u32,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    ) {
        let storage = Storage {
            incarnation,
            applied: Vec::new(),
            durable: 0,
        };
        self.nodes
            .get_mut(&node)
            .unwrap()
            .engine
            .insert(partition, storage);
        self.feed(
            node,
            Event::Created {
                partition,
                incarnation,
                decree: Decree::ZERO,
            },
        );
    }
}

fn failed(partition: PartitionId, incarnation: ReplicaIncarnation) -> Event {
    Event::FetchFailed {
        partition,
        incarnation,
        is_missing: false,
    }
}
