//! What the processes of a local cluster do, and what to do about one that does not run.

use super::process::{Life, Process};
use pegasus_fbs::stats_page::read_at;
use serde::Serialize;
use std::path::PathBuf;

/// What `local status` shows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) dir: PathBuf,
    /// What `--meta` and PEGASUS_META take.
    pub(crate) meta: String,
    pub(crate) processes: Vec<ProcessStatus>,
}

/// One process of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProcessStatus {
    pub(crate) name: String,
    pub(crate) state: State,
    /// Absent: not running.
    pub(crate) pid: Option<u32>,
    /// Meta: it answers. A node: meta hears from it, and all its cores answer.
    pub(crate) answers: bool,
    /// Where clients connect, by core.
    pub(crate) addresses: Vec<String>,
    /// Of a node: where other nodes fetch copies of replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transfer_address: Option<String>,
    pub(crate) log: PathBuf,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Running,
    NotAnswering,
    /// Stopped by a signal: it is there and does nothing.
    Paused,
    /// It has ended as it should, or was never started.
    Stopped,
    /// It has ended otherwise.
    Dead,
}

impl State {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::NotAnswering => "not answering",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
        }
    }

    fn of(process: &Process, life: Life, answers: bool) -> Self {
        match life {
            Life::Runs { paused: true, .. } => Self::Paused,
            Life::Runs { .. } if answers => Self::Running,
            Life::Runs { .. } => Self::NotAnswering,
            Life::None => Self::Stopped,
            Life::Ended if said_farewell(process) => Self::Stopped,
            Life::Ended => Self::Dead,
        }
    }
}

/// Whether every core of a node has said on its statistics page that it ends as it should: somebody has stopped the
/// node by hand. Meta has no page.
fn said_farewell(process: &Process) -> bool {
    let Ok(entries) = std::fs::read_dir(process.data_dir().join("stats")) else {
        return false;
    };
    let mut pages = entries
        .flatten()
        .filter_map(|entry| read_at(&entry.path()).ok())
        .peekable();
    pages.peek().is_some() && pages.all(|page| page.is_stopped())
}

impl ProcessStatus {
    /// `answers` counts only while the process is there.
    pub(crate) fn look(process: &Process, answers: bool, addresses: Vec<String>) -> Self {
        let life = process.life();
        let pid = life.pid();
        Self {
            name: process.name.clone(),
            state: State::of(process, life, answers),
            pid,
            answers: answers && matches!(life, Life::Runs { paused: false, .. }),
            addresses,
            transfer_address: None,
            log: process.log_path(),
        }
    }

    /// The first address and how many follow it: `127.0.0.1:34801..34804`.
    pub(crate) fn addresses_short(&self) -> String {
        match self.addresses.as_slice() {
            [] => String::new(),
            [only] => only.clone(),
            [first, .., last] => {
                let last_port = last.rsplit(':').next().unwrap_or_default();
                format!("{first}..{last_port}")
            }
        }
    }

    /// What to do about it, if something is to be done.
    pub(super) fn advice(&self, start: &str) -> Option<String> {
        let name = &self.name;
        let log = self.log.display();
        Some(match self.state {
            State::Running => return None,
            State::NotAnswering => format!(
                "{name} runs and does not answer: it starts, waits for meta, or hangs; its log {log} tells"
            ),
            State::Paused => format!(
                "{name} is paused by a signal (SIGSTOP); `kill -CONT {}` lets it go on",
                self.pid.unwrap_or_default()
            ),
            State::Stopped => format!("{name} is stopped; `{start}` starts it"),
            State::Dead => format!(
                "{name} is dead: it was killed, has failed (the end of {log} tells), or the machine went down; `{start}` starts it again"
            ),
        })
    }
}

impl Status {
    /// What starts whatever of the cluster does not run.
    pub(super) fn start_command(&self) -> String {
        format!("pegasus local start --dir {}", self.dir.display())
    }

    /// What to do about every process that does not run and answer; `None` when all do.
    pub(crate) fn advice(&self) -> Option<String> {
        let start = self.start_command();
        let is_stopped = |process: &ProcessStatus| process.state == State::Stopped;
        if self.processes.iter().all(is_stopped) {
            return Some(format!("the cluster is stopped; `{start}` starts it"));
        }
        let advice: Vec<String> = self
            .processes
            .iter()
            .filter_map(|process| process.advice(&start))
            .collect();
        (!advice.is_empty()).then(|| advice.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use pegasus_fbs::stats_page::{PAGE_WORDS, Writer};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn page(stopped: bool) -> Vec<u8> {
        let words: Arc<[AtomicU64]> = (0..PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
        let mut writer = Writer::new(Arc::clone(&words), 1, 0, 77, 0);
        writer.publish(1);
        if stopped {
            writer.stop(2);
        }
        let words = words.iter().map(|word| word.load(Ordering::Relaxed));
        words.flat_map(u64::to_le_bytes).collect()
    }

    fn node(dir: &Path, pages: &[bool]) -> Process {
        let process = Process::new("node-1", dir);
        let stats = process.data_dir().join("stats");
        std::fs::create_dir_all(&stats).unwrap();
        for (core, stopped) in pages.iter().enumerate() {
            std::fs::write(stats.join(format!("{core:02}")), page(*stopped)).unwrap();
        }
        process
    }

    #[test]
    fn a_node_that_ended_is_dead_unless_all_its_cores_have_said_that_they_stop() {
        let states = |pages: &[bool]| {
            let dir = tempfile::tempdir().unwrap();
            State::of(&node(dir.path(), pages), Life::Ended, false)
        };
        assert_eq!(states(&[true, true]), State::Stopped);
        assert_eq!(states(&[true, false]), State::Dead);
        assert_eq!(states(&[]), State::Dead);
    }

    #[test]
    fn a_process_that_is_there_runs_is_paused_or_does_not_answer() {
        let process = Process::new("meta", Path::new("/nonexistent"));
        let life = |paused| Life::Runs { pid: 7, paused };
        assert_eq!(State::of(&process, life(false), true), State::Running);
        assert_eq!(State::of(&process, life(false), false), State::NotAnswering);
        assert_eq!(State::of(&process, life(true), true), State::Paused);
        assert_eq!(State::of(&process, Life::None, false), State::Stopped);
        assert_eq!(State::of(&process, Life::Ended, false), State::Dead);
    }

    #[test]
    fn whatever_does_not_run_comes_with_what_to_do() {
        let one = |name: &str, state| ProcessStatus {
            name: name.to_owned(),
            state,
            pid: Some(7),
            answers: false,
            addresses: Vec::new(),
            transfer_address: None,
            log: "/c/log".into(),
        };
        let status = |processes| Status {
            dir: "/c".into(),
            meta: String::new(),
            processes,
        };
        assert_eq!(status(vec![one("meta", State::Running)]).advice(), None);
        let all_stopped = status(vec![
            one("meta", State::Stopped),
            one("node-1", State::Stopped),
        ]);
        assert!(
            all_stopped
                .advice()
                .unwrap()
                .starts_with("the cluster is stopped")
        );
        let mixed = status(vec![
            one("meta", State::Running),
            one("node-1", State::Dead),
            one("node-2", State::Paused),
        ]);
        let advice = mixed.advice().unwrap();
        assert!(
            advice.contains("node-1 is dead") && advice.contains("`pegasus local start --dir /c`")
        );
        assert!(advice.contains("kill -CONT 7") && !advice.contains("meta"));
    }

    #[test]
    fn many_addresses_are_shown_as_a_range() {
        let mut process = ProcessStatus::look(
            &Process::new("x", Path::new("/nonexistent")),
            false,
            vec![
                "127.0.0.1:1".into(),
                "127.0.0.1:2".into(),
                "127.0.0.1:3".into(),
            ],
        );
        assert_eq!(process.addresses_short(), "127.0.0.1:1..3");
        process.addresses.truncate(1);
        assert_eq!(process.addresses_short(), "127.0.0.1:1");
    }
}
