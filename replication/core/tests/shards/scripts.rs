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
//! flushes N fail | work        of the engine                       fetches N busy | missing | work   of its log, by learners
//! save N | roll-back N         disk and engine as they were            fill P N COUNT BYTES that many writes, one by one
//! put-aside A B | bring-back A B    messages under way are late       show [P]             the state of every replica
//! ```

mod commands;
mod outcome;

use crate::world::{Fetches, Storage, World, address, partition};
use commands::tamper;
use pegasus_replication::config::{ReplicationOptions, Stage};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{PartitionId, Ticket};
use pegasus_replication::log::SegmentId;
use pegasus_replication::message::Message;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

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
            "fetches" => {
                let node = self.world.nodes.get_mut(&number(1)).unwrap();
                node.fetches = match words[2] {
                    "work" => Fetches::Work,
                    "busy" => Fetches::Busy,
                    "missing" => Fetches::Missing,
                    other => panic!("fetches {other}"),
                };
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
