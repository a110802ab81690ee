//! Answers for clients that ask a data node where a table's partitions are: meta's own answer while meta is there,
//! otherwise what was last heard, for a while.
//!
//! One thread with a connection of its own, so that a slow meta delays neither heartbeats nor cores. An answer of meta
//! is good for 100 ms; without meta the last one is used for at most 30 s, corrected by the configurations of this
//! node's replicas. Ballots and table numbers never go back within one process.

use crate::connection::Connection;
use crate::inbox::{CoreInput, InboxSender};
use crate::meta_link::KnownRoutes;
use crossbeam_channel::{Receiver, Sender, bounded};
use pegasus_fbs::body::{self, FailureBody};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::kv;
use pegasus_net::ReplyTo;
use pegasus_net::request::{Failure, PartitionRoute, Reply, Response, Route};
use pegasus_replication::config::Configuration;
use pegasus_replication::ids::{CoreAddress, PartitionId, TableId};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const QUESTIONS_MAX: usize = 4096;
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);
const FRESH: Duration = Duration::from_millis(100);
const STALE_MAX: Duration = Duration::from_secs(30);
/// After meta was silent it is not asked again for this long; meanwhile the last answers serve.
const SILENCE: Duration = Duration::from_millis(500);
const TABLES_MAX: usize = 4096;

/// A question of one core, or of one of its clients.
#[derive(Debug)]
pub struct RouteQuestion {
    pub core: InboxSender,
    pub to: RouteAsker,
    pub table_name: String,
}

/// Who wants to know.
#[derive(Debug)]
pub enum RouteAsker {
    Client(ReplyTo),
    /// The core itself.
    Core,
}

/// What to tell whoever has asked.
#[derive(Debug)]
pub struct RouteAnswer {
    pub to: RouteAsker,
    pub table_name: String,
    pub reply: Reply,
}

/// Where cores drop questions; cheap to clone. The thread ends when all are gone.
#[derive(Clone, Debug)]
pub struct RouteRelay {
    questions: Sender<RouteQuestion>,
}

impl RouteRelay {
    /// Starts the relay's thread.
    ///
    /// # Errors
    /// The process may not have more threads.
    pub fn start(
        meta: Vec<SocketAddr>,
        known: Arc<Mutex<KnownRoutes>>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (questions, queue) = bounded(QUESTIONS_MAX);
        let thread = std::thread::Builder::new()
            .name("route-relay".to_owned())
            .spawn(move || {
                let mut relay = Relay {
                    meta,
                    known,
                    connection: None,
                    silent_until: None,
                    heard: HashMap::new(),
                };
                relay.run(&queue);
            })?;
        Ok((Self { questions }, thread))
    }

    /// Asks without waiting; the answer comes to the inbox of `question.core`.
    ///
    /// # Errors
    /// Too many questions wait: the question comes back.
    pub fn ask(&self, question: RouteQuestion) -> Result<(), RouteQuestion> {
        self.questions
            .try_send(question)
            .map_err(crossbeam_channel::TrySendError::into_inner)
    }
}

struct Relay {
    meta: Vec<SocketAddr>,
    known: Arc<Mutex<KnownRoutes>>,
    connection: Option<Connection>,
    silent_until: Option<Instant>,
    heard: HashMap<String, Heard>,
}

/// Meta's last answer about one table.
struct Heard {
    at: Instant,
    route: Route,
}

/// What came of a question to one meta.
enum Asked {
    Answered(Result<Route, Failure>),
    /// It does not lead; this one does, if it knows.
    Elsewhere(Option<SocketAddr>),
}

impl Relay {
    fn run(&mut self, queue: &Receiver<RouteQuestion>) {
        for RouteQuestion {
            core,
            to,
            table_name,
        } in queue
        {
            let reply = self.answer(&table_name);
            core.send(CoreInput::Route(RouteAnswer {
                to,
                table_name,
                reply,
            }));
        }
    }

    fn answer(&mut self, table_name: &str) -> Reply {
        if let Some(heard) = self
            .heard
            .get(table_name)
            .filter(|heard| heard.at.elapsed() < FRESH)
        {
            return Ok(Response::Route(heard.route.clone()));
        }
        match self.ask_meta(table_name) {
            Some(Ok(route)) => Ok(Response::Route(self.keep(table_name, route))),
            Some(Err(failure)) => {
                self.heard.remove(table_name);
                Err(failure)
            }
            None => self.answer_without_meta(table_name),
        }
    }

    /// `None`: meta is silent.
    fn ask_meta(&mut self, table_name: &str) -> Option<Result<Route, Failure>> {
        if self
            .silent_until
            .is_some_and(|until| Instant::now() < until)
        {
            return None;
        }
        // Each meta may be gone or name another one: as many attempts as there are, and one to follow a hint.
        let attempts = match self.meta.len() {
            0 | 1 => 1,
            many => many + 1,
        };
        for _ in 0..attempts {
            match self.exchange(table_name) {
                Ok(Asked::Answered(answer)) => {
                    self.silent_until = None;
                    return Some(answer);
                }
                Ok(Asked::Elsewhere(leader)) => self.prefer(leader),
                Err(error) => {
                    tracing::debug!(%error, "a meta does not answer for routes");
                    self.prefer(None);
                }
            }
            self.connection = None;
        }
        self.silent_until = Some(Instant::now() + SILENCE);
        None
    }

    fn exchange(&mut self, table_name: &str) -> io::Result<Asked> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&mut self.meta)?),
        };
        let mut builder = FlatBufferBuilder::new();
        let name = builder.create_string(table_name);
        let root = kv::RouteRequest::create(
            &mut builder,
            &kv::RouteRequestArgs {
                table_name: Some(name),
            },
        );
        builder.finish(root, None);
        let id = connection.send(FrameKind::Route, builder.finished_data())?;
        loop {
            let frame = connection.receive()?;
            if frame.header.request_id != id {
                continue;
            }
            if frame.header.is_failure() {
                let failure = FailureBody::read(&frame.body).map_err(io::Error::other)?;
                if failure.code == Code::NotPrimary {
                    return Ok(Asked::Elsewhere(failure.primary.parse().ok()));
                }
                let failure = Failure::new(failure.code, failure.message);
                return Ok(Asked::Answered(Err(failure)));
            }
            let route = read_route(&frame.body).map_err(io::Error::other)?;
            return Ok(Asked::Answered(Ok(route)));
        }
    }

    /// Another meta is asked next: the one that leads, if that is known.
    fn prefer(&mut self, leader: Option<SocketAddr>) {
        let known = leader.and_then(|leader| self.meta.iter().position(|it| *it == leader));
        let count = self.meta.len().max(1);
        self.meta.rotate_left(known.unwrap_or(1) % count);
    }

    /// Remembers an answer, except where an older one had a higher ballot: meta itself may answer from the past.
    fn keep(&mut self, table_name: &str, mut route: Route) -> Route {
        if let Some(heard) = self
            .heard
            .get(table_name)
            .filter(|heard| heard.route.table == route.table)
        {
            for (new, old) in route.partitions.iter_mut().zip(&heard.route.partitions) {
                if old.ballot > new.ballot {
                    new.clone_from(old);
                }
            }
        }
        if self.heard.len() >= TABLES_MAX {
            self.heard.clear();
        }
        self.heard.insert(
            table_name.to_owned(),
            Heard {
                at: Instant::now(),
                route: route.clone(),
            },
        );
        route
    }

    fn answer_without_meta(&self, table_name: &str) -> Reply {
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let heard = self
            .heard
            .get(table_name)
            .filter(|heard| heard.at.elapsed() < STALE_MAX);
        let table = known
            .directory
            .tables
            .iter()
            .find(|(_, table)| table.name == table_name);
        let mut route = match (heard, table) {
            (Some(heard), _) => heard.route.clone(),
            (None, Some((table, info))) => {
                let partitions = vec![PartitionRoute::default(); info.partition_count as usize];
                Route {
                    table: table.0,
                    partitions,
                }
            }
            (None, None) => {
                let message =
                    format!("meta is silent and this node knows nothing of table {table_name}");
                return Err(Failure::new(Code::NotServing, message));
            }
        };
        correct(&mut route, &known);
        Ok(Response::Route(route))
    }
}

/// Takes over the partitions that this node knows better.
fn correct(route: &mut Route, known: &KnownRoutes) {
    for (index, partition) in (0..).zip(&mut route.partitions) {
        let id = PartitionId {
            table: TableId(route.table),
            index,
        };
        if let Some(configuration) = known
            .configurations
            .get(&id)
            .filter(|known| known.ballot.0 > partition.ballot)
        {
            *partition = route_of(configuration, known);
        }
    }
}

fn route_of(configuration: &Configuration, known: &KnownRoutes) -> PartitionRoute {
    let address = |core: CoreAddress| {
        known
            .directory
            .client(core)
            .map(|address| address.to_string())
            .unwrap_or_default()
    };
    PartitionRoute {
        ballot: configuration.ballot.0,
        primary: configuration
            .primary
            .map(|member| address(member.address))
            .unwrap_or_default(),
        secondaries: configuration
            .secondaries
            .iter()
            .map(|member| address(member.address))
            .collect(),
    }
}

/// Connects to the first meta that answers, which is asked first from then on.
fn connect(metas: &mut [SocketAddr]) -> io::Result<Connection> {
    let mut last = io::Error::other("no meta server is configured");
    for index in 0..metas.len() {
        match Connection::open(metas[index], ANSWER_TIMEOUT) {
            Ok(connection) => {
                metas.rotate_left(index);
                return Ok(connection);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn read_route(bytes: &[u8]) -> Result<Route, body::BodyError> {
    let reply = body::read::<kv::RouteReply<'_>>(bytes)?;
    let partitions = reply
        .partitions()
        .into_iter()
        .flatten()
        .map(|partition| PartitionRoute {
            ballot: partition.ballot(),
            primary: partition.primary().unwrap_or_default().to_owned(),
            secondaries: partition
                .secondaries()
                .iter()
                .flatten()
                .map(str::to_owned)
                .collect(),
        });
    Ok(Route {
        table: reply.table_id(),
        partitions: partitions.collect(),
    })
}
