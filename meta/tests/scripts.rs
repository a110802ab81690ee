//! Runs `tests/scripts/*.txt` against the state machine. A line `> command` is carried out, the lines after it up to the
//! next one are what must come of it. `UPDATE_SCRIPTS=1` writes what comes of it into the file.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and read their scripts"
)]

mod fixture;

use fixture::{cluster, node, ready};
use pegasus_meta::state::{
    Answer, Command, CreateTable, Outcome, Proposal, ReplicaHealth, ReplicaKey, Report, State, Sync,
};
use pegasus_replication::config::Stage;
use pegasus_replication::ids::{
    Ballot, NodeId, NodeIncarnation, PartitionId, ReplicaIncarnation, TableId,
};
use std::fmt::Write as _;
use std::path::Path;

struct Script {
    state: State,
    now_ms: u64,
}

#[test]
fn scripts_come_out_as_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are no scripts");
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let found = run(&text);
        if std::env::var("UPDATE_SCRIPTS").is_ok() {
            std::fs::write(&path, &found).unwrap();
            continue;
        }
        assert_eq!(text, found, "{}", path.display());
    }
}

fn run(text: &str) -> String {
    let mut script = Script {
        state: State::new(cluster()),
        now_ms: 1_000,
    };
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with('#') || line.is_empty() {
            writeln!(out, "{line}").unwrap();
        } else if let Some(command) = line.strip_prefix("> ") {
            writeln!(out, "{line}").unwrap();
            out.push_str(&script.carry_out(command));
            script.state.check();
        }
    }
    out
}

impl Script {
    fn carry_out(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let small = |at: usize| words[at].parse::<u32>().unwrap();
        let command = match words[0] {
            "number" => Command::NumberNode,
            "join" => Command::JoinNode {
                node: node(small(1), number(2), u16::try_from(number(3)).unwrap()),
                now_ms: self.now_ms,
            },
            "create" => Command::CreateTable(CreateTable {
                name: words[1].to_owned(),
                partition_count: small(2),
                replica_count: u8::try_from(number(3)).unwrap(),
                allow_degraded: words.get(4) == Some(&"allow-degraded"),
                now_ms: self.now_ms,
            }),
            "drop" => Command::DropTable {
                name: words[1].to_owned(),
                now_ms: self.now_ms,
            },
            "wait" => {
                self.now_ms += number(1);
                Command::Tick {
                    now_ms: self.now_ms,
                }
            }
            // report NODE INCARNATION all HEALTH: every replica that the node should have.
            "report" => self.report(NodeId(small(1)), NodeIncarnation(number(2)), words[4]),
            // propose NODE INCARNATION TABLE.INDEX REPLICA-INCARNATION COUNTER
            "propose" => {
                let proposal = Proposal {
                    replica: key(words[3], number(4)),
                    ballot: Ballot::new(0, number(5)),
                };
                Command::ProposeNextBallot {
                    node: NodeId(small(1)),
                    incarnation: NodeIncarnation(number(2)),
                    proposals: vec![proposal],
                }
            }
            "restart" => {
                self.state = State::from_durable(self.state.durable().clone());
                return "state read again\n".to_owned();
            }
            "show" => return self.show(words[1]),
            other => panic!("unknown command {other}"),
        };
        show_outcome(&self.state.apply(command))
    }

    fn report(&self, node: NodeId, incarnation: NodeIncarnation, health: &str) -> Command {
        let sync = self.state.full_sync(node);
        let health = match health {
            "gone" => ReplicaHealth::Gone,
            "ready" => ReplicaHealth::Ready,
            "serving" => ReplicaHealth::Serving,
            "out-of-service" => ReplicaHealth::OutOfService,
            other => panic!("unknown health {other}"),
        };
        let mut replicas = ready(node, &sync);
        replicas.extend(
            sync.drops
                .iter()
                .map(|key| (*key, fixture::status(Ballot::NONE, ReplicaHealth::Ready))),
        );
        for (key, status) in &mut replicas {
            let leads = sync.configurations.iter().any(|it| {
                it.primary
                    .is_some_and(|it| it.incarnation == key.incarnation)
            });
            status.health = if health == ReplicaHealth::Serving && !leads {
                ReplicaHealth::Ready
            } else {
                health
            };
            if health == ReplicaHealth::OutOfService {
                status.reason = "replica missing".to_owned();
            }
        }
        let report = Report {
            digest: sync.digest,
            full: false,
            replicas,
            disk_total: 100,
            disk_free: 50,
        };
        Command::Report {
            node,
            incarnation,
            report,
            now_ms: self.now_ms,
        }
    }

    fn show(&self, name: &str) -> String {
        let Some(table) = self.state.durable().table_named(name) else {
            return format!("no table {name}\n");
        };
        let mut out = format!(
            "table {} wants {} replicas, writes need {}\n",
            table.id, table.replica_count, table.min_replicas
        );
        for index in 0..table.partition_count {
            let view = self.state.partition_view(table, index).unwrap();
            let members: Vec<String> = view
                .partition
                .members()
                .map(|it| format!("{}#{}", it.address, it.incarnation))
                .collect();
            writeln!(
                out,
                "  {}.{index} {:?} {} [{}]",
                table.id,
                view.health,
                view.partition.ballot,
                members.join(" ")
            )
            .unwrap();
        }
        let progress = self.state.progress(table.id).unwrap();
        writeln!(
            out,
            "  {} of {} serve{}",
            progress.serving,
            progress.total,
            prefixed(&progress.missing)
        )
        .unwrap();
        out
    }
}

fn prefixed(missing: &str) -> String {
    if missing.is_empty() {
        String::new()
    } else {
        format!("; {missing}")
    }
}

fn key(partition: &str, incarnation: u64) -> ReplicaKey {
    let (table, index) = partition.split_once('.').unwrap();
    let partition = PartitionId {
        table: TableId(table.parse().unwrap()),
        index: index.parse().unwrap(),
    };
    ReplicaKey {
        partition,
        incarnation: ReplicaIncarnation(incarnation),
    }
}

fn show_outcome(outcome: &Outcome) -> String {
    let mut out = match &outcome.answer {
        Answer::Refused(refusal) => format!("refused: {refusal}\n"),
        answer => format!("{answer:?}, {} changes\n", outcome.changes.len()),
    };
    for push in &outcome.pushes {
        writeln!(out, "  to node {}: {}", push.node, show_sync(&push.sync)).unwrap();
    }
    out
}

fn show_sync(sync: &Sync) -> String {
    let mut parts = vec![if sync.full {
        "everything:".to_owned()
    } else {
        "changes:".to_owned()
    }];
    parts.extend(sync.nodes.iter().map(|it| format!("node {}", it.node)));
    parts.extend(sync.tables.iter().map(|it| {
        format!(
            "table {}{}",
            it.name,
            if it.dropped { " dropped" } else { "" }
        )
    }));
    parts.extend(sync.configurations.iter().map(|it| {
        let stage = if it.stage == Stage::Active {
            "active"
        } else {
            "creating"
        };
        format!("{} {} {stage}", it.partition, it.ballot)
    }));
    parts.extend(
        sync.drops
            .iter()
            .map(|it| format!("delete {}#{}", it.partition, it.incarnation)),
    );
    parts.join(" ")
}
