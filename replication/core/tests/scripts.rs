//! Runs `tests/scripts/*.txt`: commands, each followed by what the shards said, indented. `UPDATE_SCRIPTS=1` writes the
//! outcomes into the files; the difference is then reviewed like code.
//!
//! ```text
//! nodes N                      that many shards, all linked           hold|release disk N | engine N | wire A B
//! creating P BALLOT A B C      meta: A is primary, all create         run                  until nothing moves (but what is held)
//! active P BALLOT A B C [to X] meta: the members act; told to X only; a member is N or N:INCARNATION
//!                               step disk N | engine N | wire A B
//! write NAME P N [ms]          a client writes NAME on node N         tick MS              time passes, nothing else moves
//! pass MS                      time passes, and everything moves but what is held
//! read NAME P N [ms]           a client reads                         crash N | restart N  unsynced log writes are lost
//! incr NAME ID P N [ms]        the last number written, plus one, under a request id (0: none)
//! look NAME P N [ms]           an atomic operation that only tells it; hold|release|step gate N: its work
//! cut A B | mend A B           a link breaks, comes back              flush P N            the engine's marker is durable
//! assign P N[:INCARNATION]     meta lets a copy learn; none: no more   hand-over P to N   meta wants another primary
//! fence N                      its clock is in doubt                  pause N | resume N  nothing of it runs, time does
//! refused A B                  a dial of A to B is refused            may-read P          who may answer reads now
//! option NAME VALUE            of replication, before `nodes`
//! drop P N                     meta drops the replica                 pressure N none|engine|disk
//! fail-log N | fail-replica P N                                       wipe-log N           the log is gone, the engine stays
//! repeat A B | tamper A B      the next message comes twice, or altered
//! flushes N fail | work        of the engine
//! save N | roll-back N         disk and engine as they were            fill P N COUNT BYTES that many writes, one by one
//! put-aside A B | bring-back A B    messages under way are late       show [P]             the state of every replica
//! ```

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, with its place"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "the runner reads and writes the scripts; the core under test does not"
)]

#[path = "support/world.rs"]
#[allow(dead_code, reason = "shared with the randomized test")]
mod world;

use bytes::Bytes;
use pegasus_replication::config::{Configuration, Member, Proposal, ReplicationOptions, Stage};
use pegasus_replication::event::{Effect, Event, Pressure};
use pegasus_replication::ids::{
    Ballot, Instant, NodeId, PartitionId, ReplicaIncarnation, RequestId, Ticket,
};
use pegasus_replication::log::SegmentId;
use pegasus_replication::message::Message;
use pegasus_replication::{LearnStage, Phase, Replica, RoleName};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::Path;
use world::{Storage, World, address, configuration, member, partition};

const MS: u64 = 1_000_000;

/// Segments and storage of a node.
type Saved = (BTreeMap<SegmentId, Vec<u8>>, BTreeMap<PartitionId, Storage>);

struct Script {
    world: World,
    held: BTreeSet<String>,
    names: BTreeMap<Ticket, String>,
    aside: BTreeMap<(u32, u32), VecDeque<Message>>,
    saved: BTreeMap<u32, Saved>,
    options: ReplicationOptions,
}

impl Script {
    fn new() -> Self {
        let options = ReplicationOptions {
            prepare_inflight_max: 4,
            apply_queue_max: 4,
            peer_window_bytes_max: 4096,
            ..ReplicationOptions::default()
        };
        Self {
            world: World::new(0, options.clone()),
            held: BTreeSet::new(),
            names: BTreeMap::new(),
            aside: BTreeMap::new(),
            saved: BTreeMap::new(),
            options,
        }
    }

    /// Runs one command and returns what came of it.
    fn command(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| -> u32 {
            words[at]
                .parse()
                .unwrap_or_else(|_| panic!("`{line}`: word {at} is no number"))
        };
        match words[0] {
            "nodes" => {
                self.world = World::new(number(1), self.options.clone());
                self.run();
            }
            "option" => self.option(words[1], number(2)),
            "creating" => self.meta(number(1), number(2), Stage::Creating, &words[3..]),
            "active" => self.meta(number(1), number(2), Stage::Active, &words[3..]),
            "assign" => self.assign(number(1), words[2]),
            "hand-over" => self.hand_over(number(1), number(3)),
            "fence" => self.world.feed(number(1), Event::Fence),
            "refused" => {
                let peer = address(number(2));
                self.world.feed(number(1), Event::PeerRefused { peer });
            }
            "pause" => self.world.pause(number(1)),
            "resume" => self.world.go_on(number(1)),
            "may-read" => return self.may_read(number(1)),
            "incarnation" => self.foreign(number(1), number(2), number(3), number(4)),
            "write" | "read" => self.ask(&words, number(2), number(3)),
            "incr" => self.count(words[1], number(2), &words[3..]),
            "look" => self.count(words[1], 0, &words[2..]),
            "run" => self.run(),
            "step" => self.step(&words, number(2)),
            "hold" => {
                self.held.insert(words[1..].join(" "));
            }
            "release" => assert!(
                self.held.remove(&words[1..].join(" ")),
                "`{line}`: not held"
            ),
            "pass" => self.pass(u64::from(number(1)) * MS),
            "tick" => self.world.advance(u64::from(number(1)) * MS),
            "crash" => self.world.crash(number(1), |_, _| {}),
            "restart" => self.restart(number(1)),
            "cut" => self.world.cut(number(1), number(2)),
            "mend" => self.world.mend(number(1), number(2)),
            "flush" => self.world.flush(number(2), partition(number(1))),
            "drop" => self.drop_replica(number(1), number(2)),
            "pressure" => self.pressure(number(1), words[2]),
            "fail-log" => self.world.feed(
                number(1),
                Event::LogFailed {
                    error: "drive gone".to_owned(),
                },
            ),
            "fail-replica" => {
                let event = Event::ReplicaFailed {
                    partition: partition(number(1)),
                    error: "bad block".to_owned(),
                };
                self.world.feed(number(2), event);
            }
            "save" => {
                let node = &self.world.nodes[&number(1)];
                self.saved
                    .insert(number(1), (node.disk.segments.clone(), node.engine.clone()));
            }
            "flushes" => {
                let node = self.world.nodes.get_mut(&number(1)).unwrap();
                node.flushes_fail = words[2] == "fail";
            }
            "roll-back" => self.roll_back(number(1)),
            "fill" => self.fill(number(1), number(2), number(3), number(4)),
            "wipe-log" => self.wipe_log(number(1)),
            "repeat" => self.on_next_message(number(1), number(2), |message, wire| {
                wire.push_front(message.clone())
            }),
            "tamper" => self.on_next_message(number(1), number(2), |message, _| tamper(message)),
            "put-aside" => {
                let wire = (number(1), number(2));
                let messages = self.world.wires.remove(&wire).unwrap_or_default();
                self.aside.entry(wire).or_default().extend(messages);
            }
            "bring-back" => {
                let wire = (number(1), number(2));
                let messages = self.aside.remove(&wire).unwrap_or_default();
                self.world.wires.entry(wire).or_default().extend(messages);
            }
            "check" => self.world.check_acknowledged(),
            "show" => return self.show(words.get(1).map(|_| number(1))),
            other => panic!("`{other}` is no command"),
        }
        self.said()
    }

    fn option(&mut self, name: &str, value: u32) {
        let value = value as usize;
        match name {
            "learner_entries_max" => self.options.learner_entries_max = value,
            "prepare_inflight_max" => self.options.prepare_inflight_max = value,
            other => panic!("`{other}` is no option here"),
        }
    }

    /// `words`: the primary, the secondaries, and perhaps `to` and who is told.
    fn meta(&mut self, index: u32, ballot: u32, stage: Stage, words: &[&str]) {
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
    fn assign(&mut self, index: u32, word: &str) {
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

    fn hand_over(&mut self, index: u32, node: u32) {
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
    fn may_read(&self, index: u32) -> String {
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
    fn foreign(&mut self, index: u32, ballot: u32, node: u32, incarnation: u32) {
        let members = [(node, u64::from(incarnation))];
        let configuration = configuration(index, u64::from(ballot), Stage::Active, &members, 1);
        self.world.feed(node, Event::Configured { configuration });
    }

    fn ask(&mut self, words: &[&str], index: u32, node: u32) {
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
    fn count(&mut self, name: &str, id: u32, words: &[&str]) {
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

    fn run(&mut self) {
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
    fn pass(&mut self, nanos: u64) {
        let until = Instant(self.world.now.0 + nanos);
        self.run();
        while let Some(at) = self.world.next_deadline().filter(|at| *at <= until) {
            self.world.advance(at.0.saturating_sub(self.world.now.0));
            self.run();
        }
        self.world.advance(until.0 - self.world.now.0);
        self.run();
    }

    fn is_held(&self, what: &str) -> bool {
        self.held.contains(what)
    }

    fn step(&mut self, words: &[&str], node: u32) {
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
    fn restart(&mut self, node: u32) {
        self.world.boot(node);
        let configurations: Vec<Configuration> =
            self.world.configurations.values().cloned().collect();
        for configuration in configurations {
            self.world.feed(node, Event::Configured { configuration });
        }
    }

    fn drop_replica(&mut self, index: u32, node: u32) {
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

    fn pressure(&mut self, node: u32, word: &str) {
        let pressure = match word {
            "none" => Pressure::None,
            "engine" => Pressure::Engine,
            "disk" => Pressure::DiskFull,
            other => panic!("`{other}` is no pressure"),
        };
        self.world.feed(node, Event::Pressure { pressure });
    }

    /// The drive shows an older state, as after the restore of an image.
    fn roll_back(&mut self, node: u32) {
        assert!(!self.world.is_alive(node), "only of a stopped node");
        let (segments, engine) = self.saved.remove(&node).expect("saved before");
        self.world.damaged.insert(node);
        let node = self.world.nodes.get_mut(&node).unwrap();
        (node.disk.segments, node.engine) = (segments, engine);
        for storage in node.engine.values_mut() {
            storage.applied.truncate(storage.durable);
        }
    }

    fn fill(&mut self, index: u32, node: u32, count: u32, bytes: u32) {
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

    fn wipe_log(&mut self, node: u32) {
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

    fn on_next_message(
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

    fn said(&mut self) -> String {
        let mut out = String::new();
        // Proposals are repeated until something comes of them: once is enough to know.
        let mut proposed = Vec::new();
        for (node, effect) in std::mem::take(&mut self.world.said) {
            if matches!(effect, Effect::Propose { .. }) {
                if proposed.contains(&(node, effect.clone())) {
                    continue;
                }
                proposed.push((node, effect.clone()));
            }
            let text = match effect {
                Effect::Reply { ticket, decree } => {
                    let counting = self.world.counting.get(&ticket);
                    let value = counting.and_then(|counting| counting.value);
                    let value = value.map_or(String::new(), |value| format!("{value}, "));
                    format!("{} ok, {value}decree {decree}", self.names[&ticket])
                }
                Effect::Reject { ticket, reason } => {
                    format!("{} refused: {reason:?}", self.names[&ticket])
                }
                Effect::Propose {
                    partition,
                    ballot,
                    proposal,
                    ..
                } => propose(partition, ballot, proposal),
                Effect::Quarantine { partition, reason } => {
                    format!("{partition} out of service: {reason}")
                }
                Effect::MemberLost {
                    partition,
                    member,
                    reason,
                } => {
                    format!(
                        "{partition} lost its member on {}: {reason}",
                        member.address
                    )
                }
                Effect::Create {
                    partition,
                    incarnation,
                } => format!("{partition} create incarnation {incarnation}"),
                Effect::Remove {
                    partition,
                    incarnation,
                } => format!("{partition} remove incarnation {incarnation}"),
                Effect::Flush { partition } => format!("{partition} flush"),
                Effect::FetchLog {
                    partition,
                    source,
                    from,
                    to,
                    ..
                } => {
                    format!(
                        "{partition} fetch {from} to {to} from the log of {}",
                        source.address
                    )
                }
                Effect::FetchCheckpoint {
                    partition, source, ..
                } => format!("{partition} fetch a checkpoint from {}", source.address),
                other => format!("{other:?}"),
            };
            writeln!(out, "  {node}: {text}").unwrap();
        }
        out
    }

    fn show(&self, only: Option<u32>) -> String {
        let mut out = String::new();
        for (node, one) in &self.world.nodes {
            let Some(shard) = &one.shard else {
                writeln!(out, "  {node}: down").unwrap();
                continue;
            };
            for replica in shard.replicas() {
                if only.is_none_or(|index| partition(index) == replica.partition()) {
                    writeln!(out, "  {node}: {}", describe(replica)).unwrap();
                }
            }
        }
        out
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

fn propose(partition: PartitionId, ballot: Ballot, proposal: Proposal) -> String {
    let on = |member: Member| member.address;
    match proposal {
        Proposal::NextBallot => format!("{partition} asks for the ballot after {ballot}"),
        Proposal::TakeOver {
            prepared,
            prepared_ballot,
        } => {
            let stamp = prepared_ballot.counter();
            format!("{partition} asks to take over after {ballot}, prepared {prepared}({stamp})")
        }
        Proposal::Remove { member, cause } => {
            format!(
                "{partition} asks to remove {} after {ballot}: {cause:?}",
                on(member)
            )
        }
        Proposal::Add { member } => {
            format!("{partition} asks to add {} after {ballot}", on(member))
        }
        Proposal::HandOver { to } => {
            format!("{partition} asks to hand over to {} after {ballot}", on(to))
        }
        Proposal::WithdrawLearner { member } => {
            format!("{partition} asks to withdraw the learner {}", on(member))
        }
    }
}

fn tamper(message: &mut Message) {
    match message {
        Message::Prepare(prepare) => {
            prepare.entry.mutation.payload = Bytes::from_static(b"something else")
        }
        other => panic!("{other:?} is no prepare"),
    }
}

fn describe(replica: &Replica) -> String {
    let role = match replica.role() {
        RoleName::Creating => "creating",
        RoleName::Idle => "idle",
        RoleName::Secondary => "secondary",
        RoleName::OutOfService => "out of service",
        RoleName::Primary(Phase::WaitingForBallot) => "primary, waits for a ballot",
        RoleName::Primary(Phase::Waiting) => "primary, waits for the one before",
        RoleName::Primary(Phase::Adopting) => "primary, adopts",
        RoleName::Primary(Phase::Reconciling) => "primary, reconciles",
        RoleName::Primary(Phase::Serving) => "primary, serves",
        RoleName::Primary(Phase::Superseded) => "primary, superseded",
        RoleName::Primary(Phase::Yielded) => "primary, yielded",
        RoleName::Learner => match replica.learn_stage() {
            Some(LearnStage::Asking { .. }) => "learner, asks",
            Some(LearnStage::Cutting) => "learner, cuts",
            Some(LearnStage::FetchingLog { .. }) => "learner, fetches the log",
            Some(LearnStage::FetchingCheckpoint) => "learner, fetches a checkpoint",
            Some(LearnStage::Attached) => "learner, attached",
            None => panic!("a learner has a stage"),
        },
    };
    let entries: Vec<String> = replica
        .entries()
        .map(|entry| {
            let payload = String::from_utf8_lossy(&entry.mutation.payload).into_owned();
            let name = if payload.is_empty() {
                "no-op".to_owned()
            } else {
                payload
            };
            format!("{}({}) {name}", entry.decree, entry.ballot.counter())
        })
        .collect();
    let list = if entries.is_empty() {
        String::new()
    } else {
        format!(" [{}]", entries.join(", "))
    };
    format!(
        "{} {role}, ballot {}, flushed {} applied {} committed {} prepared {} last {}{list}",
        replica.partition(),
        replica.ballot().counter(),
        replica.flushed(),
        replica.applied(),
        replica.committed(),
        replica.prepared(),
        replica.last(),
    )
}

/// The file with fresh outcomes: comments and commands as they are, outcomes as they come.
fn play(text: &str) -> String {
    let mut script = Script::new();
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        out.push_str(line);
        out.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            out.push_str(&script.command(line));
        }
    }
    out
}

#[test]
fn scripts_do_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = std::env::var_os("UPDATE_SCRIPTS").is_some();
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 15, "scripts are missing");
    for path in paths {
        let expected = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let actual = std::panic::catch_unwind(|| play(&expected))
            .unwrap_or_else(|_| panic!("{name} failed, see above"));
        if update {
            std::fs::write(&path, &actual).unwrap();
        } else {
            assert_eq!(actual, expected, "{name} has another outcome");
        }
    }
}
