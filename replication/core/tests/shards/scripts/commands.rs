//! What each command does to the world.

use super::{MS, Script};
use crate::world::{configuration, member, partition};
use bytes::Bytes;
use pegasus_replication::config::{Configuration, Stage};
use pegasus_replication::event::{Effect, Event, Pressure};
use pegasus_replication::ids::{Instant, NodeId, ReplicaIncarnation, RequestId};
use pegasus_replication::message::Message;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

impl Script {
    pub(super) fn option(&mut self, name: &str, value: u32) {
        let value = value as usize;
        match name {
            "learner_entries_max" => self.options.learner_entries_max = value,
            "prepare_inflight_max" => self.options.prepare_inflight_max = value,
            "log_keep_period_ms" => {
                self.options.log_keep_period = Duration::from_millis(value as u64);
            }
            other => panic!("`{other}` is no option here"),
        }
    }

    /// `words`: the primary, the secondaries, and perhaps `to` and who is told.
    pub(super) fn meta(&mut self, index: u32, ballot: u32, stage: Stage, words: &[&str]) {
        let (members, to) = match words.iter().position(|word| *word == "to") {
            Some(at) => (&words[..at], Some(&words[at + 1..])),
            None => (words, None),
        };
        let members: Vec<(u32, u64)> = members.iter().map(|word| copy_on(word)).collect();
        let configuration = configuration(index, u64::from(ballot), stage, &members, 2);
        let all: Vec<u32> = self.world.nodes.keys().copied().collect();
        let to = to.map(|to| to.iter().map(|word| word.parse().unwrap()).collect());
        self.world.configure(&configuration, &to.unwrap_or(all));
    }

    /// Meta lets the copy `word` learn, or takes that back.
    pub(super) fn assign(&mut self, index: u32, word: &str) {
        let learner = (word != "none").then(|| {
            let (node, incarnation) = copy_on(word);
            member(node, incarnation)
        });
        let configuration = self.world.configurations[&partition(index)].clone();
        let all: Vec<u32> = self.world.nodes.keys().copied().collect();
        for node in all {
            let configuration = configuration.clone();
            self.world.feed(
                node,
                Event::LearnerAssigned {
                    configuration,
                    learner,
                    is_fresh: true,
                },
            );
        }
    }

    pub(super) fn hand_over(&mut self, index: u32, node: u32) {
        let configuration = self.world.configurations[&partition(index)].clone();
        let to = *configuration.member_on(NodeId(node)).expect("a member");
        let event = Event::HandOver {
            partition: partition(index),
            ballot: configuration.ballot,
            to,
        };
        let primary = configuration.primary.expect("a primary").address.node.0;
        self.world.feed(primary, event);
    }

    /// Which nodes may answer reads of the partition now.
    pub(super) fn may_read(&self, index: u32) -> String {
        let mut out = String::new();
        for (node, one) in &self.world.nodes {
            let now = self.world.local(*node);
            let may = one
                .shard
                .as_ref()
                .is_some_and(|shard| shard.may_read(partition(index), now));
            if may {
                writeln!(out, "  {node}").unwrap();
            }
        }
        out
    }

    /// Meta names another copy on `node`.
    pub(super) fn foreign(&mut self, index: u32, ballot: u32, node: u32, incarnation: u32) {
        let members = [(node, u64::from(incarnation))];
        let configuration = configuration(index, u64::from(ballot), Stage::Active, &members, 1);
        self.world.feed(node, Event::Configured { configuration });
    }

    pub(super) fn ask(&mut self, words: &[&str], index: u32, node: u32) {
        let ms = words.get(4).map_or(1000, |ms| ms.parse().unwrap());
        let deadline = Instant(self.world.now.0 + ms * MS);
        // The answer may come at once, so the name has to be known before.
        let ticket = self.world.next_ticket();
        self.names.insert(ticket, words[1].to_owned());
        if words[0] == "write" {
            let payload = Bytes::from(words[1].to_owned());
            self.world.write(node, partition(index), payload, deadline);
        } else {
            self.world.read(node, partition(index), deadline);
        }
    }

    /// `words`: partition, node, milliseconds. Without an id it only looks if it is not called an increment.
    pub(super) fn count(&mut self, name: &str, id: u32, words: &[&str]) {
        let ms = words.get(2).map_or(1000, |ms| ms.parse().unwrap());
        let deadline = Instant(self.world.now.0 + ms * MS);
        let ticket = self.world.next_ticket();
        self.names.insert(ticket, name.to_owned());
        let request_id = RequestId {
            client: u64::from(id > 0),
            sequence: id.into(),
        };
        let (index, node) = (words[0].parse().unwrap(), words[1].parse().unwrap());
        let is_increment = !name.starts_with("look");
        self.world
            .count(node, request_id, partition(index), is_increment, deadline);
    }

    pub(super) fn run(&mut self) {
        let nodes: Vec<u32> = self.world.nodes.keys().copied().collect();
        let mut moved = true;
        while moved {
            moved = false;
            for node in &nodes {
                if self.world.is_alive(*node) {
                    moved |= !self.is_held(&format!("gate {node}")) && self.world.step_gate(*node);
                    moved |= !self.is_held(&format!("disk {node}")) && self.world.step_disk(*node);
                    moved |=
                        !self.is_held(&format!("engine {node}")) && self.world.step_engine(*node);
                }
                for to in &nodes {
                    moved |= !self.is_held(&format!("wire {node} {to}"))
                        && self.world.step_wire(*node, *to);
                }
            }
        }
    }

    /// Time passes from one deadline to the next, and everything moves in between.
    pub(super) fn pass(&mut self, nanos: u64) {
        let until = Instant(self.world.now.0 + nanos);
        self.run();
        while let Some(at) = self.world.next_deadline().filter(|at| *at <= until) {
            self.world.advance(at.0.saturating_sub(self.world.now.0));
            self.run();
        }
        self.world.advance(until.0 - self.world.now.0);
        self.run();
    }

    pub(super) fn is_held(&self, what: &str) -> bool {
        self.held.contains(what)
    }

    pub(super) fn step(&mut self, words: &[&str], node: u32) {
        let moved = match words[1] {
            "disk" => self.world.step_disk(node),
            "engine" => self.world.step_engine(node),
            "wire" => self.world.step_wire(node, words[3].parse().unwrap()),
            "gate" => self.world.step_gate(node),
            other => panic!("`{other}` cannot be stepped"),
        };
        assert!(moved, "nothing to step: {words:?}");
    }

    /// As a node does it: boot, then meta's newest configurations.
    pub(super) fn restart(&mut self, node: u32) {
        self.world.boot(node);
        let configurations: Vec<Configuration> =
            self.world.configurations.values().cloned().collect();
        for configuration in configurations {
            self.world.feed(node, Event::Configured { configuration });
        }
    }

    pub(super) fn drop_replica(&mut self, index: u32, node: u32) {
        let incarnation = ReplicaIncarnation(10 + u64::from(node));
        self.world.damaged.insert(node);
        self.world.feed(
            node,
            Event::Dropped {
                partition: partition(index),
                incarnation,
            },
        );
    }

    pub(super) fn pressure(&mut self, node: u32, word: &str) {
        let pressure = match word {
            "none" => Pressure::None,
            "engine" => Pressure::Engine,
            "disk" => Pressure::DiskFull,
            other => panic!("`{other}` is no pressure"),
        };
        self.world.feed(node, Event::Pressure { pressure });
    }

    /// The drive shows an older state, as after the restore of an image.
    pub(super) fn roll_back(&mut self, node: u32) {
        assert!(!self.world.is_alive(node), "only of a stopped node");
        let (segments, engine) = self.saved.remove(&node).expect("saved before");
        self.world.damaged.insert(node);
        let node = self.world.nodes.get_mut(&node).unwrap();
        (node.disk.segments, node.engine) = (segments, engine);
        for storage in node.engine.values_mut() {
            storage.applied.truncate(storage.durable);
        }
    }

    pub(super) fn fill(&mut self, index: u32, node: u32, count: u32, bytes: u32) {
        for number in 0..count {
            let mut payload = format!("{number}:").into_bytes();
            payload.resize(bytes as usize, b'.');
            let ticket = self.world.next_ticket();
            self.names.insert(ticket, String::new());
            let deadline = Instant(self.world.now.0 + 1000 * MS);
            self.world
                .write(node, partition(index), Bytes::from(payload), deadline);
            self.run();
        }
        self.world
            .said
            .retain(|(_, effect)| !matches!(effect, Effect::Reply { .. }));
    }

    pub(super) fn wipe_log(&mut self, node: u32) {
        assert!(!self.world.is_alive(node), "only of a stopped node");
        self.world.damaged.insert(node);
        self.world
            .nodes
            .get_mut(&node)
            .unwrap()
            .disk
            .segments
            .clear();
    }

    pub(super) fn on_next_message(
        &mut self,
        from: u32,
        to: u32,
        act: impl FnOnce(&mut Message, &mut VecDeque<Message>),
    ) {
        let wire = self
            .world
            .wires
            .get_mut(&(from, to))
            .expect("messages under way");
        let mut message = wire.pop_front().expect("a message under way");
        act(&mut message, wire);
        wire.push_front(message);
    }
}

/// A node with its first copy, or `node:incarnation`.
fn copy_on(word: &str) -> (u32, u64) {
    let number = |text: &str| {
        text.parse::<u32>()
            .unwrap_or_else(|_| panic!("`{text}` is no number"))
    };
    match word.split_once(':') {
        Some((node, incarnation)) => (number(node), u64::from(number(incarnation))),
        None => (number(word), 10 + u64::from(number(word))),
    }
}

pub(super) fn tamper(message: &mut Message) {
    match message {
        Message::Prepare(prepare) => {
            prepare.entry.mutation.payload = Bytes::from_static(b"something else")
        }
        other => panic!("{other:?} is no prepare"),
    }
}
