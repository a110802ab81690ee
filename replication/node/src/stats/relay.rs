//! Answers for clients that ask a core for the statistics of a core of this node (copies of the mapped pages), or how
//! scrubbing or compacting of the node is: made by a thread of its own.
//!
//! So an answer costs no data core more than its sending, and a core that is stuck, or a pool whose threads all wait for a
//! disk, does not keep its numbers from anybody who asks another core.

use super::hot_keys::Board;
use super::page_map::PageMap;
use crate::compaction::Compaction;
use crate::http::{self, CoreState, Subject};
use crate::inbox::{CoreInput, InboxSender};
use crate::remote_command;
use crate::scrub::Scrub;
use crate::slow::name_in;
use crate::view::NodeView;
use crossbeam_channel::{RecvTimeoutError, Sender, TrySendError, bounded};
use pegasus_fbs::code::Code;
use pegasus_fbs::stats_page::{Snapshot, compact, copy_of};
use pegasus_net::ReplyTo;
use pegasus_net::request::{Compacting, Failure, Reply, Response, Scrubbing};
use pegasus_replication::ids::TableId;
use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

/// How often slow requests are looked after when nobody asks.
const SLOW_LOOK_PERIOD: Duration = Duration::from_millis(200);

/// Questions that wait; a copy takes well under a millisecond.
const QUESTIONS_MAX: usize = 64;

/// A question of one client of one core.
#[derive(Debug)]
pub struct StatsQuestion {
    pub core: InboxSender,
    pub to: ReplyTo,
    pub about: About,
}

/// What is asked about.
#[derive(Debug)]
pub enum About {
    /// The statistics of the core of this index.
    Core(u16),
    /// The keys that the core of this index is asked for most.
    HotKeys(u16),
    /// Scrubbing of the node; with `start` a pass is ordered first.
    Scrub { start: bool },
    /// Compacting by hand on the node; with `start` the replicas of a table, or of all, are ordered first.
    Compact { table: Option<u32>, start: bool },
    /// Something that a tool of Apache Pegasus, or a collector of metrics, asks of the core of this index.
    Tool {
        core: u16,
        state: CoreState,
        ask: Ask,
    },
}

/// What tools ask.
#[derive(Debug)]
pub enum Ask {
    Http(Box<pegasus_http::Request>),
    Command {
        name: String,
        arguments: Vec<String>,
    },
}

/// What is the same for all cores of a node, and their addresses.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The cluster's number, in hexadecimal.
    pub cluster: String,
    /// Client ports, by core.
    pub addresses: Vec<SocketAddr>,
}

/// What to tell the client.
#[derive(Debug)]
pub struct StatsAnswer {
    pub to: ReplyTo,
    pub reply: Reply,
}

/// Where cores drop questions; cheap to clone. The thread ends when all are gone.
#[derive(Clone, Debug)]
pub struct StatsRelay {
    questions: Sender<StatsQuestion>,
}

/// The mapped pages of all cores of a node, by core; made by [`super::Stats::page`].
#[derive(Clone, Debug)]
pub struct Pages(pub(super) Vec<CorePage>);

/// What one core lets others read.
#[derive(Clone, Debug)]
pub(super) struct CorePage {
    pub(super) page: PageMap,
    pub(super) hot_keys: Board,
}

impl FromIterator<Self> for Pages {
    fn from_iter<I: IntoIterator<Item = Self>>(pages: I) -> Self {
        Self(pages.into_iter().flat_map(|pages| pages.0).collect())
    }
}

impl StatsRelay {
    /// Starts the relay's thread.
    ///
    /// # Errors
    /// The process may not have more threads.
    pub fn start(mut node: NodeView) -> io::Result<(Self, JoinHandle<()>)> {
        let (questions, queue) = bounded::<StatsQuestion>(QUESTIONS_MAX);
        let thread = std::thread::Builder::new()
            .name("stats-relay".to_owned())
            .spawn(move || {
                loop {
                    match queue.recv_timeout(SLOW_LOOK_PERIOD) {
                        Ok(StatsQuestion { core, to, about }) => {
                            let reply = answer(&mut node, about);
                            core.send(CoreInput::Stats(StatsAnswer { to, reply }));
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                    let directory = node.directory();
                    node.slow.collect(|table| name_in(&directory, table));
                }
            })?;
        Ok((Self { questions }, thread))
    }

    /// Asks without waiting; the answer comes to the inbox of `question.core`.
    ///
    /// # Errors
    /// Too many questions wait: whom to tell so.
    pub fn ask(&self, question: StatsQuestion) -> Result<(), ReplyTo> {
        self.questions
            .try_send(question)
            .map_err(|refused: TrySendError<_>| refused.into_inner().to)
    }
}

fn answer(node: &mut NodeView, about: About) -> Reply {
    match about {
        About::Core(core) => node.pages.answer(core),
        About::HotKeys(core) => node.pages.hot_keys(core),
        About::Scrub { start } => Ok(Response::Scrub(scrubbing(&node.scrub, start))),
        About::Compact { table, start } => Ok(Response::Compact(compacting(
            &node.compaction,
            table,
            start,
        ))),
        About::Tool { core, state, ask } => answer_tool(node, core, state, &ask),
    }
}

fn answer_tool(node: &mut NodeView, core: u16, state: CoreState, ask: &Ask) -> Reply {
    let it = node.pages.of_core(core)?;
    let index = usize::from(core);
    let Some(address) = node.names.addresses.get(index) else {
        let message = format!("core {core} has no address");
        return Err(Failure::new(Code::Internal, message));
    };
    let page = Snapshot::of_words(&copy_of(it.page.as_ref()))
        .map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
    let subject = Subject {
        page,
        core: index,
        address: *address,
        cluster: node.names.cluster.clone(),
        state,
    };
    Ok(match ask {
        Ask::Http(request) => Response::Http(Box::new(http::answer(request, &subject, node))),
        Ask::Command { name, arguments } => {
            Response::Text(remote_command::answer(name, arguments, &subject, node))
        }
    })
}

fn scrubbing(scrub: &Scrub, start: bool) -> Scrubbing {
    let began = start && scrub.begin();
    let status = scrub.status();
    let (done, total) = status.running.unwrap_or_default();
    Scrubbing {
        began,
        is_running: status.running.is_some(),
        done,
        total,
        finished_unix_s: status.finished_unix_s,
        findings: status.findings,
    }
}

fn compacting(compaction: &Compaction, table: Option<u32>, start: bool) -> Compacting {
    let began = start && compaction.begin(table.map(TableId));
    let status = compaction.status();
    let (done, total) = status.running.unwrap_or_default();
    Compacting {
        began,
        is_running: status.running.is_some() || status.waiting > 0,
        done,
        total,
        waiting: status.waiting,
        finished_unix_s: status.finished_unix_s,
    }
}

impl Pages {
    fn answer(&self, about: u16) -> Reply {
        let page = &self.of_core(about)?.page;
        Ok(Response::CoreStats(compact(&copy_of(page.as_ref()))))
    }

    fn hot_keys(&self, about: u16) -> Reply {
        Ok(Response::HotKeys(self.of_core(about)?.hot_keys.read()))
    }

    fn of_core(&self, about: u16) -> Result<&CorePage, Failure> {
        self.0.get(usize::from(about)).ok_or_else(|| {
            let count = self.0.len();
            let message = format!("there is no core {about}, this node has {count} from 0");
            Failure::new(Code::NotFound, message)
        })
    }

    /// Copies of all pages, by core.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let copies = self.0.iter().map(|it| copy_of(it.page.as_ref()));
        // The writers are of this very program: their layout is known.
        copies
            .filter_map(|words| Snapshot::of_words(&words).ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compaction::CompactionParts;
    use crate::config::ScrubConfig;
    use crate::config::StagesConfig;
    use crate::stats::Stats;
    use pegasus_fbs::stats_page::{Counter, Snapshot, expand, read_at};
    use pegasus_replication::ids::{CoreId, NodeId};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// Nobody runs these cores: what is asked about may be stuck for ever.
    #[test]
    fn a_core_that_never_runs_again_is_told_about_as_its_file_says() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |core: u16| dir.path().join(core.to_string());
        let create = |core| {
            let core = CoreId(core);
            Stats::create(&path(core.0), NodeId(3), core, 1, StagesConfig::On).expect("a page")
        };
        let mut cores = [create(0), create(1)];
        cores[1].add(Counter::Stalls, 5);
        cores[1].publish(pegasus_replication::ids::Instant(1), 2_000_000);
        let pages: Pages = cores.iter().map(Stats::page).collect();
        let Ok(Response::CoreStats(words)) = pages.answer(1) else {
            panic!("core 1 has a page")
        };
        let told = expand(&words).map(|words| Snapshot::of_words(&words).expect("a page"));
        let on_disk = read_at(&path(1)).expect("a page");
        assert_eq!(told.as_ref(), Ok(&on_disk));
        assert_eq!(on_disk.counter(Counter::Stalls), 5);
        assert!(words.len() < 500, "{} words", words.len());
        let refused = pages.answer(2).expect_err("there are two");
        assert_eq!(refused.code, Code::NotFound);
        assert_eq!(
            refused.message,
            "there is no core 2, this node has 2 from 0"
        );
    }

    /// Nothing is on this disk: a pass is over as soon as it is begun.
    #[test]
    fn a_pass_is_begun_when_it_is_asked_for_and_told_to_whoever_asks() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = ScrubConfig {
            period_hours: 0,
            ..ScrubConfig::default()
        };
        let (scrub, thread) =
            Scrub::start(dir.path(), Vec::new(), &config, || ()).expect("a thread");
        assert_eq!(scrubbing(&scrub, false), Scrubbing::default());
        assert!(scrubbing(&scrub, true).began);
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut told = scrubbing(&scrub, false);
        while told.is_running && Instant::now() < deadline {
            std::thread::yield_now();
            told = scrubbing(&scrub, false);
        }
        assert!(!told.began);
        drop(scrub);
        thread.join().expect("it ends when nobody can ask");
        assert!(told.finished_unix_s > 0, "{told:?}");
    }

    #[test]
    fn an_order_to_compact_is_taken_carried_out_and_told_to_whoever_asks() {
        let dir = tempfile::tempdir().expect("a directory");
        let parts = CompactionParts {
            stores: Vec::new(),
            known: Arc::default(),
        };
        let (compaction, thread) = Compaction::start(parts, dir.path(), || ()).expect("a thread");
        assert_eq!(compacting(&compaction, None, false), Compacting::default());
        assert!(compacting(&compaction, Some(1), true).began);
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut told = compacting(&compaction, None, false);
        while told.is_running && Instant::now() < deadline {
            std::thread::yield_now();
            told = compacting(&compaction, None, false);
        }
        compaction.stop();
        thread.join().expect("it ends when nobody can ask");
        assert!(told.finished_unix_s > 0 && !told.began, "{told:?}");
    }
}
