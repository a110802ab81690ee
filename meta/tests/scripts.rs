//! Runs `tests/scripts/*.txt` against the state machine. A line `> command` is carried out, the lines after it up to the
//! next one are what must come of it. `UPDATE_SCRIPTS=1` writes what comes of it into the file.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and read their scripts"
)]

mod backup_words;
mod fixture;

use fixture::{cluster, node, ready};
use pegasus_meta::place::balance::Kind;
use pegasus_meta::state::{
    Answer, Assignment, BalanceOrder, BalanceView, Command, CreateTable, Drain, EnvChange,
    HealOptions, Level, Order, Outcome, PlannedMove, Proposed, ReplicaHealth, ReplicaKey,
    ReplicaStatus, Report, State, Sync, Wanted,
};
use pegasus_replication::config::{Configuration, Member, Proposal, RemovalCause, Stage};
use pegasus_replication::ids::{
    Ballot, CoreAddress, CoreId, Decree, NodeId, NodeIncarnation, PartitionId, ReplicaIncarnation,
    TableId,
};
use std::fmt::Write as _;
use std::path::Path;

struct Script {
    state: State,
    now_ms: u64,
    /// The last order that was taken.
    order: Option<Order>,
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
        order: None,
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
                may_exist: false,
                envs: std::collections::BTreeMap::new(),
                now_ms: self.now_ms,
            }),
            // drop TABLE [SECONDS]: it can be recalled for so long.
            "drop" => Command::DropTable {
                name: words[1].to_owned(),
                keep_seconds: Some(words.get(2).map_or(0, |it| it.parse().unwrap())),
                now_ms: self.now_ms,
            },
            "recall" => Command::RecallTable {
                table: TableId(small(1)),
                name: words.get(2).map(|it| (*it).to_owned()),
                now_ms: self.now_ms,
            },
            "rename" => Command::RenameTable {
                from: words[1].to_owned(),
                to: words[2].to_owned(),
                now_ms: self.now_ms,
            },
            // env TABLE set KEY VALUE.. | del KEY.. | clear [PREFIX]
            "env" => Command::ChangeEnvs {
                table: words[1].to_owned(),
                change: env_change(&words[2..]),
                now_ms: self.now_ms,
            },
            "level" => Command::SetLevel {
                level: Level::ALL.into_iter().find(|it| it.name() == words[1]),
                now_ms: self.now_ms,
            },
            "wait" => {
                self.now_ms += number(1);
                Command::Tick {
                    now_ms: self.now_ms,
                }
            }
            // lose NODE INCARNATION: its connection has ended.
            "lose" => Command::NodeLost {
                node: NodeId(small(1)),
                incarnation: NodeIncarnation(number(2)),
                now_ms: self.now_ms,
            },
            // report NODE INCARNATION all HEALTH: every replica that the node should have, and no other.
            "report" => self.report(NodeId(small(1)), NodeIncarnation(number(2)), words[4]),
            // tell NODE INCARNATION TABLE.INDEX REPLICA-INCARNATION HEALTH CORE COUNTER PREPARED [REASON]: of one replica.
            // The commit point is the same as what is prepared.
            "tell" => self.tell(&words),
            // propose NODE INCARNATION TABLE.INDEX REPLICA-INCARNATION COUNTER WHAT [MEMBER] [CAUSE]
            "propose" => {
                let proposed = Proposed {
                    replica: key(words[3], number(4)),
                    ballot: Ballot::new(0, number(5)),
                    proposal: proposal(&words[6..]),
                };
                Command::Propose {
                    node: NodeId(small(1)),
                    incarnation: NodeIncarnation(number(2)),
                    proposals: vec![proposed],
                    now_ms: self.now_ms,
                }
            }
            "move-primary" => Command::MovePrimary {
                table: words[1].to_owned(),
                index: small(2),
                to: NodeId(small(3)),
                now_ms: self.now_ms,
            },
            // move-replica TABLE INDEX FROM-NODE TO-NODE/CORE
            "move-replica" => Command::MoveReplica {
                table: words[1].to_owned(),
                index: small(2),
                from: NodeId(small(3)),
                to: address(words[4]),
                now_ms: self.now_ms,
            },
            "drain" | "undrain" => Command::DrainNode {
                node: NodeId(small(1)),
                drain: match (words[0], words.get(2)) {
                    ("drain", Some(_)) => Some(Drain::Replicas),
                    ("drain", None) => Some(Drain::Primaries),
                    _ => None,
                },
                now_ms: self.now_ms,
            },
            "rebalance" => Command::Rebalance {
                now_ms: self.now_ms,
            },
            // balance run | run-primaries | pause | resume | limit COPIES COPIES-OF-A-NODE HAND-OVERS
            "balance" => Command::Balance {
                order: balance_order(&words[1..]),
                now_ms: self.now_ms,
            },
            // plan [primaries]: what would be moved now.
            "plan" => {
                let wanted = match words.get(1) {
                    Some(_) => Wanted::Primaries,
                    None => Wanted::Everything,
                };
                return show_balance(&self.state.balance_plan(wanted));
            }
            "balancing" => return show_balance(&self.state.balance_view()),
            "set-replicas" => Command::SetReplicas {
                table: words[1].to_owned(),
                replica_count: u8::try_from(number(2)).unwrap(),
                now_ms: self.now_ms,
            },
            // load NODE INCARNATION TABLE.INDEX REPLICA-INCARNATION COUNTER READS WRITES: of a primary that serves.
            "load" => self.load(&words),
            "progress" => {
                let order = self.order.expect("there was an order");
                return format!("{:?}\n", self.state.order_progress(&order));
            }
            // balance-after MILLISECONDS, or balance-never
            "balance-after" | "balance-never" => {
                let options = HealOptions {
                    balance_primaries: words[0] == "balance-after",
                    balance_delay_ms: words.get(1).map_or(0, |_| number(1)),
                    ..HealOptions::default()
                };
                self.state = self.state.clone().with_options(options);
                return String::new();
            }
            // heal-after MILLISECONDS
            "heal-after" => {
                let options = HealOptions {
                    heal_delay_ms: number(1),
                    ..HealOptions::default()
                };
                self.state = self.state.clone().with_options(options);
                return String::new();
            }
            "restart" => {
                self.state = State::from_durable(self.state.durable().clone());
                return "state read again\n".to_owned();
            }
            "show" => return self.show(words[1]),
            other => {
                if let Some(shown) = backup_words::show(self, &words) {
                    return shown;
                }
                let command = backup_words::command(self, &words);
                command.unwrap_or_else(|| panic!("unknown command {other}"))
            }
        };
        let outcome = self.state.apply(command);
        if let Answer::Ordered(order) | Answer::ReplicasSet { order, .. } = outcome.answer {
            self.order = Some(order);
        }
        show_outcome(&outcome)
    }

    fn tell(&self, words: &[&str]) -> Command {
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let status = ReplicaStatus {
            core: Some(CoreId(words[6].parse().unwrap())),
            prepared: Decree(number(8)),
            committed: Decree(number(8)),
            prepared_ballot: Ballot::new(0, number(7)),
            reason: words[9..].join(" "),
            ..fixture::status(Ballot::new(0, number(7)), health(words[5]))
        };
        let node = NodeId(words[1].parse().unwrap());
        let report = Report {
            digest: self.state.durable().digest(node),
            replicas: vec![(key(words[3], number(4)), status)],
            ..Report::default()
        };
        Command::Report {
            node,
            incarnation: NodeIncarnation(number(2)),
            report,
            now_ms: self.now_ms,
        }
    }

    fn load(&self, words: &[&str]) -> Command {
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let small = |at: usize| words[at].parse::<u32>().unwrap();
        let node = NodeId(small(1));
        let status = ReplicaStatus {
            reads_per_second: small(6),
            writes_per_second: small(7),
            ..fixture::status(Ballot::new(0, number(5)), ReplicaHealth::Serving)
        };
        let report = Report {
            digest: self.state.durable().digest(node),
            replicas: vec![(key(words[3], number(4)), status)],
            ..Report::default()
        };
        Command::Report {
            node,
            incarnation: NodeIncarnation(number(2)),
            report,
            now_ms: self.now_ms,
        }
    }

    fn report(&self, node: NodeId, incarnation: NodeIncarnation, named: &str) -> Command {
        let sync = self.state.full_sync(node);
        let health = health(named);
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
            full: true,
            replicas,
            disk_total: 100,
            disk_free: 50,
            ..Report::default()
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
            let members: Vec<String> = view.partition.members().map(show_member).collect();
            write!(
                out,
                "  {}.{index} {:?} {} [{}]",
                table.id,
                view.health,
                view.partition.ballot,
                members.join(" ")
            )
            .unwrap();
            if let Some(since) = view.degraded_ms {
                write!(out, " degraded since {since}").unwrap();
            }
            if let Some(learner) = view.learner {
                let kind = if learner.is_fresh { "new" } else { "returning" };
                let member = show_member(&learner.view.member);
                write!(out, ", {kind} learner {member} since {}", learner.since_ms).unwrap();
            }
            for backoff in &view.partition.backoffs {
                write!(
                    out,
                    ", node {} waits until {}",
                    backoff.node, backoff.until_ms
                )
                .unwrap();
            }
            if let Some(intent) = view.partition.intent {
                write!(out, ", {:?}", intent.goal).unwrap();
            }
            writeln!(out).unwrap();
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

fn health(name: &str) -> ReplicaHealth {
    match name {
        "gone" => ReplicaHealth::Gone,
        "ready" => ReplicaHealth::Ready,
        "serving" => ReplicaHealth::Serving,
        "out-of-service" => ReplicaHealth::OutOfService,
        "unknown" => ReplicaHealth::Unknown,
        other => panic!("unknown health {other}"),
    }
}

fn balance_order(words: &[&str]) -> BalanceOrder {
    let number = |at: usize| words[at].parse::<u16>().unwrap();
    match words[0] {
        "run" => BalanceOrder::Run(Wanted::Everything),
        "run-primaries" => BalanceOrder::Run(Wanted::Primaries),
        "pause" => BalanceOrder::Pause,
        "resume" => BalanceOrder::Resume,
        "limit" => BalanceOrder::Limit {
            copies_max: number(1),
            copies_per_node_max: number(2),
            hand_overs_max: number(3),
        },
        other => panic!("unknown order {other}"),
    }
}

fn show_balance(view: &BalanceView) -> String {
    let it = &view.evenness;
    let mut out = format!(
        "replicas {}-{}, primaries {}-{}, load up to {}; {} moves",
        it.replicas_min,
        it.replicas_max,
        it.primaries_min,
        it.primaries_max,
        it.load_max,
        view.total
    );
    if let Some(reason) = &view.waits_for {
        write!(out, "; waits: {reason}").unwrap();
    }
    out.push('\n');
    for PlannedMove {
        planned,
        is_running,
    } in &view.moves
    {
        let what = match planned.kind {
            Kind::Lead => "lead",
            Kind::Replica => "replica",
        };
        let running = if *is_running { " (under way)" } else { "" };
        writeln!(
            out,
            "  {what} {} from {} to {}: {}, gain {}{running}",
            planned.partition,
            planned.from,
            planned.to,
            planned.reason.words(),
            planned.gain
        )
        .unwrap();
    }
    out
}

/// WHAT [MEMBER] [CAUSE], or take-over PREPARED.
fn proposal(words: &[&str]) -> Proposal {
    let member = || member(words[1]);
    match words[0] {
        "next-ballot" => Proposal::NextBallot,
        "take-over" => Proposal::TakeOver {
            prepared: Decree(words[1].parse().unwrap()),
            prepared_ballot: Ballot::new(0, 1),
        },
        "remove" => Proposal::Remove {
            member: member(),
            cause: match words[2] {
                "down" => RemovalCause::Down,
                "slow" => RemovalCause::Slow,
                "lost" => RemovalCause::Lost,
                "out-of-service" => RemovalCause::OutOfService,
                other => panic!("unknown cause {other}"),
            },
        },
        "add" => Proposal::Add { member: member() },
        "hand-over" => Proposal::HandOver { to: member() },
        "withdraw" => Proposal::WithdrawLearner { member: member() },
        other => panic!("unknown proposal {other}"),
    }
}

/// NODE/CORE#INCARNATION
fn member(text: &str) -> Member {
    let (at, incarnation) = text.split_once('#').unwrap();
    Member {
        address: address(at),
        incarnation: ReplicaIncarnation(incarnation.parse().unwrap()),
    }
}

fn address(text: &str) -> CoreAddress {
    let (node, core) = text.split_once('/').unwrap();
    CoreAddress {
        node: NodeId(node.parse().unwrap()),
        core: CoreId(core.parse().unwrap()),
    }
}

fn show_member(member: &Member) -> String {
    format!("{}#{}", member.address, member.incarnation)
}

fn show_configuration(it: &Configuration) -> String {
    let members: Vec<String> = it.members().map(show_member).collect();
    let stage = if it.stage == Stage::Active {
        "active"
    } else {
        "creating"
    };
    format!(
        "{} {} {stage} [{}]",
        it.partition,
        it.ballot,
        members.join(" ")
    )
}

fn show_assignment(it: &Assignment) -> String {
    let (partition, ballot) = (it.configuration.partition, it.configuration.ballot);
    match &it.learner {
        None => format!("nobody learns {partition} {ballot}"),
        Some(member) => {
            let kind = if it.is_fresh { "new" } else { "returning" };
            format!("{kind} {} learns {partition} {ballot}", show_member(member))
        }
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

fn env_change(words: &[&str]) -> EnvChange {
    let rest = || words[1..].iter().map(|it| (*it).to_owned());
    match words[0] {
        "set" => EnvChange::Set(rest().step_by(2).zip(rest().skip(1).step_by(2)).collect()),
        "del" => EnvChange::Delete(rest().collect()),
        _ => EnvChange::Clear {
            prefix: rest().next().unwrap_or_default(),
        },
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
            "table {}{}{}",
            it.name,
            if it.dropped { " dropped" } else { "" },
            it.envs
                .iter()
                .fold(String::new(), |all, (key, value)| format!(
                    "{all} {key}={value}"
                ))
        )
    }));
    parts.extend(sync.configurations.iter().map(show_configuration));
    parts.extend(sync.assignments.iter().map(show_assignment));
    parts.extend(sync.handovers.iter().map(|it| {
        let to = show_member(&it.to);
        format!("hand {} {} over to {to}", it.partition, it.ballot)
    }));
    parts.extend(
        sync.drops
            .iter()
            .map(|it| format!("delete {}#{}", it.partition, it.incarnation)),
    );
    parts.extend(backup_words::show_orders(sync));
    parts.join(" ")
}
