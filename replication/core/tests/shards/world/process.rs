//! Processes that start, crash, and stand still for a while.

use super::{Disk, World, address, identity, log_options};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{Ballot, Decree, Instant, PartitionId};
use pegasus_replication::log::{LogWrite, Marker, recover};
use pegasus_replication::{Shard, StoredReplica};
use std::collections::BTreeMap;

impl World {
    /// Starts the shard of `node` on what its disk and engine hold, and connects it to those that are alive.
    pub(crate) fn boot(&mut self, node: u32) {
        let options = self.options.clone();
        let one = self.nodes.get_mut(&node).unwrap();
        assert!(one.shard.is_none());
        let stored: Vec<StoredReplica> = one
            .engine
            .iter()
            .map(|(partition, storage)| {
                let ballot = storage
                    .applied
                    .last()
                    .map_or(Ballot::NONE, |entry| entry.ballot);
                let decree = Decree(storage.durable as u64);
                StoredReplica {
                    partition: *partition,
                    incarnation: storage.incarnation,
                    decree,
                    ballot,
                }
            })
            .collect();
        let markers: BTreeMap<PartitionId, Marker> = stored
            .iter()
            .map(|one| (one.partition, one.marker()))
            .collect();
        let recovery = recover(&mut one.disk, identity(node), &markers).expect("our own log");
        let mut shard = Shard::new(options, log_options(), address(node), recovery, &stored);
        let mut effects = std::mem::take(&mut self.effects);
        let now = Instant(self.now.0 * one.rate / 1000);
        shard.start(now, &mut effects);
        shard.finish_turn(now, &mut effects);
        one.shard = Some(shard);
        one.committed.clear();
        self.effects = effects;
        self.perform(node);
        for peer in self.alive() {
            if peer != node && !self.is_cut(node, peer) {
                self.feed(
                    node,
                    Event::PeerUp {
                        peer: address(peer),
                    },
                );
                self.feed(
                    peer,
                    Event::PeerUp {
                        peer: address(node),
                    },
                );
            }
        }
    }

    /// The process ends: unfinished log writes go as `keep` says, the engine falls back to its marker.
    pub(crate) fn crash(&mut self, node: u32, mut keep: impl FnMut(&LogWrite, &mut Disk)) {
        let one = self.nodes.get_mut(&node).unwrap();
        one.shard = None;
        one.is_paused = false;
        one.asleep.clear();
        for write in std::mem::take(&mut one.disk.pending) {
            keep(&write, &mut one.disk);
        }
        for storage in one.engine.values_mut() {
            storage.applied.truncate(storage.durable);
        }
        one.engine_queue.clear();
        one.computes.clear();
        self.wires
            .retain(|(from, to), _| *from != node && *to != node);
        for peer in self.alive() {
            if !self.is_cut(node, peer) {
                self.feed(
                    peer,
                    Event::PeerDown {
                        peer: address(node),
                    },
                );
            }
        }
    }

    pub(crate) fn is_alive(&self, node: u32) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|node| node.shard.is_some())
    }

    pub(crate) fn alive(&self) -> Vec<u32> {
        self.nodes
            .keys()
            .copied()
            .filter(|node| self.is_alive(*node))
            .collect()
    }

    pub(crate) fn pause(&mut self, node: u32) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.is_paused = node.shard.is_some();
        }
    }

    /// Goes on, and finds what has happened meanwhile.
    pub(crate) fn go_on(&mut self, node: u32) {
        let asleep = self.nodes.get_mut(&node).map(|node| {
            node.is_paused = false;
            std::mem::take(&mut node.asleep)
        });
        for event in asleep.into_iter().flatten() {
            self.feed(node, event);
        }
    }

    /// Whether the process is there and not paused.
    pub(crate) fn runs(&self, node: u32) -> bool {
        self.is_alive(node) && !self.nodes[&node].is_paused
    }
}
