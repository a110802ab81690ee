//! Where the numbers of cores come from: the statistics pages of nodes on this machine, or an answer over the wire.
//!
//! A page is a file that the node's core writes and anybody may read, also while the node is stuck or after it has died. Over
//! the wire any core of a node answers for the others.

use super::state::State;
use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use futures::future::join_all;
use pegasus_client::{Client, NodeInfo};
use pegasus_fbs::stats_page::{Snapshot, read_at};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which way to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Over {
    /// Pages of nodes on this machine, the wire for the others
    Auto,
    /// Statistics pages only, so nodes of this machine
    Pages,
    /// Ask the nodes, this machine's too
    Wire,
}

/// Which way was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    Page,
    Wire,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Where {
    /// How to read the statistics of a core
    #[arg(long, value_enum, default_value_t = Over::Auto)]
    over: Over,
    /// Read the pages in this directory and ask nobody, not even meta (may be given several times)
    #[arg(long, value_name = "DIR", conflicts_with = "over")]
    stats_dir: Vec<PathBuf>,
}

impl Where {
    /// Pages of nodes on this machine, the wire for the others.
    pub(crate) fn auto() -> Self {
        Self {
            over: Over::Auto,
            stats_dir: Vec::new(),
        }
    }
}

/// One reading of one core.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) node: u32,
    pub(crate) core: u32,
    pub(crate) way: Way,
    pub(crate) state: State,
    /// What was read, or why nothing was.
    pub(crate) page: Result<Snapshot, String>,
}

/// The nodes to read and how.
#[derive(Debug)]
pub(crate) struct Places {
    places: Vec<Place>,
    client: Option<Client>,
}

/// One node, or one directory of pages.
#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    Pages(NodeInfo),
    Wire(NodeInfo),
}

impl Places {
    /// `only` leaves out the other nodes.
    pub(crate) async fn find(
        options: &Where,
        connect: &Connect,
        only: Option<u32>,
    ) -> anyhow::Result<Self> {
        /// A node that is stuck accepts connections and never answers.
        const ANSWER_WAIT: Duration = Duration::from_secs(2);
        if !options.stats_dir.is_empty() {
            let directories = options.stats_dir.iter().cloned();
            return Ok(Self {
                places: directories.map(Place::Directory).collect(),
                client: None,
            });
        }
        let wait = connect.timeout_or(ANSWER_WAIT);
        let client = connect
            .client_with(|options| options.admin_timeout = wait)
            .await
            .context(WITHOUT_META)?;
        let nodes = client.list_nodes().await.context(WITHOUT_META)?.nodes;
        let known: Vec<String> = nodes.iter().map(|node| node.node.to_string()).collect();
        let wanted = nodes
            .into_iter()
            .filter(|node| only.is_none_or(|only| node.node == only));
        let host = this_host();
        let places: Vec<Place> = wanted
            .map(|node| match options.over {
                Over::Pages => Place::Pages(node),
                Over::Wire => Place::Wire(node),
                Over::Auto if has_pages_here(&node, &host) => Place::Pages(node),
                Over::Auto => Place::Wire(node),
            })
            .collect();
        match only {
            Some(node) if places.is_empty() => Err(Failed::error(
                Exit::NotFound,
                format!("node {node}: no such node; there are: {}", known.join(", ")),
            )),
            _ => Ok(Self {
                places,
                client: Some(client),
            }),
        }
    }

    /// A client of the cluster, unless only directories are read.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// What meta knows of all nodes that are read.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.places.iter().filter_map(|place| match place {
            Place::Pages(node) | Place::Wire(node) => Some(node),
            Place::Directory(_) => None,
        })
    }

    /// What meta knows of a node.
    pub(crate) fn node(&self, number: u32) -> Option<&NodeInfo> {
        self.places.iter().find_map(|place| match place {
            Place::Pages(node) | Place::Wire(node) if node.node == number => Some(node),
            _ => None,
        })
    }

    /// Every core by node and core, and what could not be read and belongs to none.
    pub(crate) async fn read(&self) -> (BTreeMap<(u32, u32), Reading>, Vec<String>) {
        let mut problems = Vec::new();
        let mut readings = Vec::new();
        for place in &self.places {
            match place {
                Place::Directory(directory) => {
                    readings.extend(read_directory(directory, None, &mut problems));
                }
                Place::Pages(node) => readings.extend(read_pages(node, &mut problems)),
                Place::Wire(_) => {}
            }
        }
        let asked = self.places.iter().filter_map(|place| match place {
            Place::Wire(node) => Some(ask_node(self.client.as_ref()?, node)),
            _ => None,
        });
        readings.extend(join_all(asked).await.into_iter().flatten());
        let by_core = readings
            .into_iter()
            .map(|reading| ((reading.node, reading.core), reading));
        (by_core.collect(), problems)
    }
}

const WITHOUT_META: &str = "meta names the nodes; --stats-dir reads their pages without it";

fn this_host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The same path may exist on every machine: the host has to be this one, and the pages that node's.
fn has_pages_here(node: &NodeInfo, host: &str) -> bool {
    node.host == host
        && !node.stats_dir.is_empty()
        && files(Path::new(&node.stats_dir)).is_ok_and(|files| {
            let mut pages = files.iter().filter_map(|path| read_at(path).ok());
            pages.any(|page| page.identity().node == node.node)
        })
}

/// A reading for every core that meta knows, with or without a page.
fn read_pages(node: &NodeInfo, problems: &mut Vec<String>) -> Vec<Reading> {
    let directory = Path::new(&node.stats_dir);
    let mut readings = read_directory(directory, Some(node.node), problems);
    for reading in &mut readings {
        let is_of_this_life = |page: &Snapshot| page.identity().pid == node.pid;
        let has_ended = matches!(reading.state, State::Dead | State::Stopped);
        if node.alive && has_ended && !reading.page.as_ref().is_ok_and(is_of_this_life) {
            reading.state = State::Starting;
        }
    }
    for core in 0..u32::try_from(node.cores.len()).unwrap_or(u32::MAX) {
        if readings.iter().all(|reading| reading.core != core) {
            readings.push(Reading {
                node: node.node,
                core,
                way: Way::Page,
                state: State::Silent,
                page: Err(format!(
                    "no page in {} on this machine; the node is on {}",
                    node.stats_dir, node.host
                )),
            });
        }
    }
    readings
}

/// All pages in a directory; with `node`, its only.
fn read_directory(directory: &Path, node: Option<u32>, problems: &mut Vec<String>) -> Vec<Reading> {
    let files = match files(directory) {
        Ok(files) => files,
        Err(error) => {
            problems.push(format!("{}: {error}", directory.display()));
            return Vec::new();
        }
    };
    let mut readings = Vec::new();
    for path in files {
        match read_at(&path) {
            Ok(page) if node.is_some_and(|node| page.identity().node != node) => {}
            Ok(page) => readings.push(Reading {
                node: page.identity().node,
                core: page.identity().core,
                way: Way::Page,
                state: State::of_page(&page),
                page: Ok(page),
            }),
            Err(error) => problems.push(error.to_string()),
        }
    }
    readings
}

fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Asks every core of a node for itself, then one that has answered for those that have not.
async fn ask_node(client: &Client, node: &NodeInfo) -> Vec<Reading> {
    let own = node
        .cores
        .iter()
        .map(|core| client.core_stats(&core.client_address, None));
    let mut answers: Vec<Result<Snapshot, String>> = join_all(own)
        .await
        .into_iter()
        .map(|answer| answer.map_err(|error| error.to_string()))
        .collect();
    let helper = answers.iter().position(Result::is_ok);
    if let Some(helper) = helper.and_then(|index| node.cores.get(index)) {
        for (index, answer) in answers.iter_mut().enumerate() {
            if let (Err(_), Ok(core)) = (&answer, u16::try_from(index)) {
                let told = client.core_stats(&helper.client_address, Some(core)).await;
                *answer = told.map_err(|error| error.to_string());
            }
        }
    }
    of_answers(node, answers)
}

fn of_answers(node: &NodeInfo, answers: Vec<Result<Snapshot, String>>) -> Vec<Reading> {
    // The clock of that machine: a core that runs has published within the last second.
    let published = answers.iter().flatten().map(Snapshot::published_unix_us);
    let now_us = published.max().unwrap_or(0);
    let cores = (0_u32..).zip(answers);
    cores
        .map(|(core, answer)| {
            let answer = answer.and_then(|page| match page.identity() {
                identity if identity.node == node.node => Ok(page),
                other => Err(format!("node {} answers there", other.node)),
            });
            Reading {
                node: node.node,
                core,
                way: Way::Wire,
                state: match &answer {
                    Ok(page) => State::of_answer(page, now_us),
                    Err(_) => State::Silent,
                },
                page: answer,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::fake::{node, page_bytes, page_bytes_of, snapshot};
    use super::*;

    #[test]
    fn files_that_are_no_pages_are_named_and_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("00"), page_bytes(1, 0)).unwrap();
        std::fs::write(dir.path().join("notes"), "x").unwrap();
        let mut problems = Vec::new();
        let readings = read_directory(dir.path(), None, &mut problems);
        assert_eq!((readings.len(), readings[0].node), (1, 1));
        assert!(read_directory(&dir.path().join("absent"), None, &mut problems).is_empty());
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("notes") && problems[1].contains("absent"));
    }

    #[test]
    fn pages_count_as_here_only_on_the_nodes_own_host_and_if_they_are_its_own() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("00"), page_bytes(1, 0)).unwrap();
        let (ours, other) = (node(1, 1, dir.path()), node(2, 1, dir.path()));
        assert!(has_pages_here(&ours, "host"));
        assert!(!has_pages_here(&ours, "elsewhere"));
        assert!(!has_pages_here(&other, "host"));
    }

    #[test]
    fn a_core_without_a_page_is_told_and_pages_of_another_node_are_not_taken_for_its_own() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("00"), page_bytes(1, 0)).unwrap();
        std::fs::write(dir.path().join("01"), page_bytes(2, 1)).unwrap();
        let readings = read_pages(&node(1, 2, dir.path()), &mut Vec::new());
        assert!(readings[0].page.is_ok());
        assert_eq!(readings[1].state, State::Silent);
        assert!(readings[1].page.as_ref().unwrap_err().contains("no page"));
    }

    #[test]
    fn a_page_of_the_life_before_means_that_the_core_is_starting() {
        let dir = tempfile::tempdir().unwrap();
        // Its process is gone: no pid is that large.
        let of_pid = |pid| page_bytes_of(1, 0, pid);
        std::fs::write(dir.path().join("00"), of_pid(u32::MAX)).unwrap();
        let mut node = node(1, 1, dir.path());
        let state = |node: &NodeInfo| read_pages(node, &mut Vec::new())[0].state;
        assert_eq!(state(&node), State::Starting);
        node.pid = u32::MAX;
        assert_eq!(state(&node), State::Dead);
        (node.pid, node.alive) = (77, false);
        assert_eq!(state(&node), State::Dead);
    }

    #[test]
    fn over_the_wire_a_stuck_core_shows_beside_one_that_runs_whatever_the_clocks_say() {
        let long_ago = 5_000_000;
        let answers = vec![
            Ok(snapshot(1, 0, long_ago + 10_000_000)),
            Ok(snapshot(1, 1, long_ago)),
            Err("no answer".to_owned()),
            Ok(snapshot(9, 3, long_ago + 10_000_000)),
        ];
        let readings = of_answers(&node(1, 4, Path::new("")), answers);
        let states: Vec<State> = readings.iter().map(|reading| reading.state).collect();
        assert_eq!(
            states,
            [State::Running, State::Stuck, State::Silent, State::Silent]
        );
        assert!(readings[3].page.as_ref().unwrap_err().contains("node 9"));
    }
}
