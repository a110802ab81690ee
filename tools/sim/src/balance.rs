//! The planner of meta on clusters larger than any machine holds: how long it takes to decide, how many moves it asks for,
//! and how even the cluster is after each round.
//!
//! A round is what meta does: the cluster is taken as it is, a plan is made and carried out. Rounds follow each other until a
//! plan is empty. Everything but the time is the same in every run.

mod chart;
mod cluster;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use cluster::Cluster;
use pegasus_meta::place::balance::{Evenness, Kind, Options};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Rounds after which it should have come to an end.
const ROUNDS_MAX: usize = 200;

#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(4..=4_000))]
    nodes: u32,
    /// Of each node.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    cores: u16,
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=262_144))]
    partitions: u32,
    /// What happens to the cluster.
    #[arg(long, value_enum, default_value_t = Scenario::All)]
    scenario: Scenario,
    /// Nodes that join or leave [default: one of a hundred].
    #[arg(long)]
    change: Option<u32>,
    /// Replicas that one plan moves, at most.
    #[arg(long, default_value_t = 1_024)]
    moves: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the pictures of all scenarios to this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Empty nodes are added.
    Join,
    /// Nodes are emptied.
    Leave,
    /// A few partitions have most of the load.
    Zipfian,
    /// All of them, one after the other.
    All,
}

impl Scenario {
    fn each(self) -> Vec<Self> {
        match self {
            Self::All => vec![Self::Join, Self::Leave, Self::Zipfian],
            one => vec![one],
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Join => "nodes join",
            Self::Leave => "nodes leave",
            Self::Zipfian => "zipfian load",
            Self::All => "all",
        }
    }
}

/// One round, and how even it is after it.
#[derive(Clone, Debug)]
struct Round {
    time: Duration,
    copies: usize,
    copied_bytes: u64,
    hand_overs: usize,
    evenness: Evenness,
}

/// One scenario from its beginning to its end.
#[derive(Clone, Debug)]
struct Story {
    scenario: Scenario,
    before: Evenness,
    rounds: Vec<Round>,
    /// Replicas that nodes being emptied still hold.
    left_behind: usize,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut stories = Vec::new();
    for scenario in arguments.scenario.each() {
        let story = play(arguments, scenario)?;
        print(arguments, &story);
        stories.push(story);
    }
    if let Some(path) = &arguments.svg {
        let picture = chart::picture(&stories);
        std::fs::write(path, picture).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn play(arguments: &Arguments, scenario: Scenario) -> Result<Story> {
    let change = arguments.change.unwrap_or(arguments.nodes.div_ceil(100));
    ensure!(
        change + 3 <= arguments.nodes,
        "--change {change}: at least 3 of {} nodes have to stay",
        arguments.nodes
    );
    let mut cluster = Cluster::new(
        arguments.nodes,
        arguments.cores,
        arguments.partitions,
        arguments.seed,
    );
    // As an even load has left it.
    settle(&mut cluster);
    match scenario {
        Scenario::Join => cluster.add_nodes(change),
        Scenario::Leave => cluster.empty_nodes(change),
        Scenario::Zipfian | Scenario::All => cluster.make_zipfian(arguments.seed),
    }
    let before = cluster.planner().evenness();
    let options = Options {
        moves_max: arguments.moves,
        ..Options::default()
    };
    let mut rounds = Vec::new();
    loop {
        ensure!(rounds.len() < ROUNDS_MAX, "it comes to no end");
        let round = play_round(&mut cluster, &options);
        if round.copies + round.hand_overs == 0 {
            break;
        }
        rounds.push(round);
    }
    Ok(Story {
        scenario,
        before,
        rounds,
        left_behind: cluster.replicas_on_leaving(),
    })
}

fn settle(cluster: &mut Cluster) {
    let options = Options {
        moves_replicas: false,
        by_load: false,
        ..Options::default()
    };
    let mut planner = cluster.planner();
    _ = planner.plan(&options);
    cluster.take_placement(&planner);
}

fn play_round(cluster: &mut Cluster, options: &Options) -> Round {
    let start = Stopwatch::start();
    let mut planner = cluster.planner();
    let moves = planner.plan(options);
    let time = start.elapsed();
    cluster.take_placement(&planner);
    let copies = moves.iter().filter(|it| it.kind == Kind::Replica);
    Round {
        time,
        copies: copies.clone().count(),
        copied_bytes: copies.map(|it| it.bytes).sum(),
        hand_overs: moves.iter().filter(|it| it.kind == Kind::Lead).count(),
        evenness: planner.evenness(),
    }
}

/// Time on a CPU if the kernel tells it, so that a busy machine does not count; else time.
struct Stopwatch {
    at: Instant,
    on_cpu: Option<Duration>,
}

impl Stopwatch {
    fn start() -> Self {
        Self {
            at: Instant::now(),
            on_cpu: on_cpu(),
        }
    }

    fn elapsed(&self) -> Duration {
        let on_cpu = self.on_cpu.zip(on_cpu());
        on_cpu.map_or_else(
            || self.at.elapsed(),
            |(before, now)| now.saturating_sub(before),
        )
    }
}

/// Of this thread: the first number of its line, in nanoseconds (proc_pid_schedstat).
fn on_cpu() -> Option<Duration> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = line.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

#[allow(clippy::print_stdout, reason = "it is what the command is for")]
fn print(arguments: &Arguments, story: &Story) {
    println!(
        "{}: {} nodes x {} cores, {} partitions x 3",
        story.scenario.name(),
        arguments.nodes,
        arguments.cores,
        arguments.partitions
    );
    println!(
        "  round  decided in   copies      GiB  hand-overs  replicas  primaries  load max/mean  max/bound  crowding  crowded"
    );
    println!("  before {}", shown(&story.before, "", 0, 0, 0));
    for (number, round) in (1..).zip(&story.rounds) {
        let time = format!("{:.0} ms", round.time.as_secs_f64() * 1e3);
        let gib = round.copied_bytes >> 30;
        let line = shown(&round.evenness, &time, round.copies, gib, round.hand_overs);
        println!("  {number:>6} {line}");
    }
    let sum = |part: fn(&Round) -> usize| story.rounds.iter().map(part).sum::<usize>();
    let longest = story
        .rounds
        .iter()
        .map(|it| it.time)
        .max()
        .unwrap_or_default();
    println!(
        "  {} copies, {} hand-overs, longest decision {:.0} ms, {} replicas left on nodes that leave\n",
        sum(|it| it.copies),
        sum(|it| it.hand_overs),
        longest.as_secs_f64() * 1e3,
        story.left_behind
    );
}

fn shown(it: &Evenness, time: &str, copies: usize, gib: u64, hand_overs: usize) -> String {
    let replicas = format!("{}-{}", it.replicas_min, it.replicas_max);
    let primaries = format!("{}-{}", it.primaries_min, it.primaries_max);
    format!(
        "{time:>11} {copies:>8} {gib:>8} {hand_overs:>11} {replicas:>9} {primaries:>10} {:>14.2} {:>10.2} {:>9.2} {:>8}",
        chart::ratio(it.load_max, it.load_mean),
        chart::ratio(it.load_max, it.load_bound),
        it.crowding_max,
        it.crowded_cores,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(scenario: Scenario) -> Arguments {
        Arguments {
            nodes: 40,
            cores: 8,
            partitions: 1_000,
            scenario,
            change: Some(2),
            moves: 100,
            seed: 1,
            svg: None,
        }
    }

    fn played(scenario: Scenario) -> Story {
        play(&arguments(scenario), scenario).unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn copies(story: &Story) -> usize {
        story.rounds.iter().map(|it| it.copies).sum()
    }

    fn last(story: &Story) -> &Evenness {
        &story
            .rounds
            .last()
            .expect("there was something to do")
            .evenness
    }

    #[test]
    fn nodes_that_join_get_their_share_and_no_replica_moves_in_vain() {
        let story = played(Scenario::Join);
        let end = last(&story);
        assert_eq!(
            (story.before.replicas_min, story.before.primaries_min),
            (0, 0)
        );
        assert!(end.replicas_max - end.replicas_min <= 1, "{end:?}");
        assert!(end.primaries_max - end.primaries_min <= 1, "{end:?}");
        // 3,000 replicas on 336 cores: 8 or 9 for each of the 16 new ones.
        assert!(
            (16 * 8..=16 * 9).contains(&copies(&story)),
            "{} copies",
            copies(&story)
        );
    }

    #[test]
    fn nodes_that_leave_are_emptied_and_what_they_had_is_spread() {
        let story = played(Scenario::Leave);
        let end = last(&story);
        assert_eq!(story.left_behind, 0);
        assert!(end.replicas_max - end.replicas_min <= 1, "{end:?}");
        assert!(end.primaries_max - end.primaries_min <= 1, "{end:?}");
        // 16 cores had 9 or 10 replicas each.
        assert!(copies(&story) <= 16 * 10, "{} copies", copies(&story));
    }

    #[test]
    fn hot_partitions_are_spread_until_the_hottest_is_the_bound() {
        let story = played(Scenario::Zipfian);
        let end = last(&story);
        let (began, reached) = (story.before.crowded_cores, end.crowded_cores);
        assert!(began >= 10, "it was even: {began} cores were crowded");
        assert!(
            reached * 3 <= began,
            "{reached} cores are crowded, {began} were"
        );
        assert!(chart::ratio(end.load_max, end.load_bound) <= 1.2, "{end:?}");
        assert!(end.replicas_max - end.replicas_min <= 1, "{end:?}");
        assert!(end.primaries_max - end.primaries_min <= 1, "{end:?}");
        assert!(copies(&story) <= 200, "{} copies", copies(&story));
    }

    #[test]
    fn the_picture_shows_every_scenario() {
        let stories = [played(Scenario::Join), played(Scenario::Zipfian)];
        let picture = chart::picture(&stories);
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
        for story in &stories {
            assert!(picture.contains(story.scenario.name()));
        }
    }
}
