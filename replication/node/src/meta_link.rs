//! The link to meta: one thread, one connection, tried for ever. Traffic goes on without it.
//!
//! ```text
//! connect -> Register/RegisterReply/RegisterProof -> Sync -> [ heartbeats out | Syncs in ] -> lost -> back-off -> connect
//! ```
//!
//! The thread tells the cores what concerns them (`inbox`), keeps their reports until meta has heard them, and repeats
//! what is not answered. Cores never wait for it: their mail is a bounded channel, and what does not fit they send later.

#[cfg(test)]
mod any_bytes;
mod assignment;
mod farewell;
pub(crate) mod frames;
mod orders;
mod reports;
mod session;
mod told;

pub use farewell::Parting;
pub use orders::{BackupOrder, BackupReport, RestoreOrder, RestoreReport, RunState};
pub use session::{LinkIdentity, Registered, SessionError};
pub use told::{Health, ReplicaKey, ReplicaLoad, Report, Wish};

use crate::background::backup::Backups;
use crate::clock;
use crate::inbox::InboxSender;
use crate::members::Members;
use assignment::Assignment;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use farewell::Farewell;
use frames::OwnWords;
use pegasus_fbs::frame::FrameKind;
use pegasus_replication::ids::CoreId;
use reports::Reports;
use session::Session;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Letters of all cores that wait for the link's thread.
const MAIL_MAX: usize = 65_536;
const HEARTBEAT_PERIOD: Duration = Duration::from_secs(1);
/// The same while the node leaves: each answer says how much is still held.
const LEAVING_PERIOD: Duration = Duration::from_millis(20);
/// Changes told within this time share one heartbeat: a table's partitions become ready in a burst.
const GATHER: Duration = Duration::from_millis(2);
/// Wishes of one event, a node that died for example, share one frame.
const GATHER_WISHES: Duration = Duration::from_micros(500);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// The same where several metas are configured: one of them leads soon.
const BACKOFF_MAX_OF_MANY: Duration = Duration::from_millis(150);
/// A meta that has not answered a heartbeat for so long is left, if there are others to go to.
const SILENCE: Duration = Duration::from_millis(2_500);

/// What a core, or the disk watch, tells meta.
#[derive(Debug)]
pub enum MetaMail {
    Report {
        core: CoreId,
        key: ReplicaKey,
        report: Box<Report>,
    },
    /// A replica wants another configuration. Sent once: the core repeats it for as long as it wants it.
    Propose(Wish),
    Disk {
        total: u64,
        free: u64,
        /// It is too full for writes.
        is_full: bool,
    },
    /// Bytes of the files of replicas.
    Sizes(Vec<(ReplicaKey, u64)>),
    /// How far backups and restores are. Sent once: whoever misses it asks again.
    Backups {
        backups: Vec<BackupReport>,
        restores: Vec<RestoreReport>,
    },
    /// The node was told to stop.
    Leave,
    /// From the reader of the connection.
    Frame {
        session: u64,
        kind: FrameKind,
        body: bytes::Bytes,
    },
    Lost {
        session: u64,
        error: String,
    },
    Stop,
}

/// Where cores drop their mail; cheap to clone.
#[derive(Clone, Debug)]
pub struct MetaSender {
    sender: Sender<MetaMail>,
}

impl MetaSender {
    /// Hands one letter over without waiting.
    ///
    /// # Errors
    /// There is no room: the letter comes back, send it again later.
    pub fn send(&self, mail: MetaMail) -> Result<(), MetaMail> {
        self.sender
            .try_send(mail)
            .map_err(crossbeam_channel::TrySendError::into_inner)
    }
}

/// The mailbox of the link, made before the link so that cores can be given its sender.
#[must_use]
pub fn mailbox() -> (MetaSender, Receiver<MetaMail>) {
    let (sender, receiver) = bounded(MAIL_MAX);
    (MetaSender { sender }, receiver)
}

/// What the link needs to know of its node.
#[derive(Debug)]
pub struct MetaLinkOptions {
    pub addresses: Vec<SocketAddr>,
    pub identity: LinkIdentity,
    /// Inboxes by core number.
    pub cores: Vec<InboxSender>,
    /// What replicas and tables were, kept on disk.
    pub members: Members,
    /// The newest copy of routes, for when meta is silent.
    pub known: Arc<Mutex<KnownRoutes>>,
    /// Who makes backups, and replicas from backups.
    pub backups: Backups,
}

/// What was last pushed, as the route relay needs it.
pub type KnownRoutes = assignment::Known;

/// The running link.
#[derive(Debug)]
pub struct MetaLink {
    sender: MetaSender,
    farewell: Farewell,
    thread: Option<JoinHandle<()>>,
}

/// Joins the cluster: tries every meta server in turn until one has registered this node. Used at start, where a fresh
/// directory cannot go on without a node number; `stop` is asked between attempts.
///
/// # Errors
/// Meta refuses this node for good (another cluster, no common version, wrong token), or `stop` said so.
pub fn join(
    addresses: &[SocketAddr],
    identity: &LinkIdentity,
    stop: &dyn Fn() -> bool,
) -> Result<Registered, SessionError> {
    let mut backoff = BACKOFF_FIRST;
    for attempt in 0_u64.. {
        match session::register(addresses, identity) {
            Ok((_, registered)) => return Ok(registered),
            Err(error) if error.is_final() => return Err(error),
            Err(error) if attempt == 0 => tracing::warn!(%error, "no meta yet, waiting for it"),
            Err(error) => tracing::debug!(%error, "no meta yet"),
        }
        if stop() {
            return Err(SessionError::Stopped);
        }
        std::thread::sleep(backoff);
        backoff = (backoff * 2).min(backoff_max(addresses));
    }
    Err(SessionError::Stopped)
}

/// Asks meta once whether this node may start; `None`: no meta answers, which keeps no known node from starting.
///
/// # Errors
/// Meta refuses this node for good: another cluster, no common version, wrong token.
pub fn greet(
    addresses: &[SocketAddr],
    identity: &LinkIdentity,
) -> Result<Option<Registered>, SessionError> {
    match session::register(addresses, identity) {
        Ok((_, registered)) => Ok(Some(registered)),
        Err(error) if error.is_final() => Err(error),
        Err(error) => {
            tracing::warn!(%error, "no meta, starting without it");
            Ok(None)
        }
    }
}

impl MetaLink {
    /// Starts the link's thread. `sender` and `mail` come from [`mailbox`].
    ///
    /// # Errors
    /// The process may not have more threads.
    pub fn start(
        options: MetaLinkOptions,
        sender: MetaSender,
        mail: Receiver<MetaMail>,
    ) -> io::Result<Self> {
        let letters = sender.sender.clone();
        let farewell = Farewell::new();
        let told = farewell.clone();
        let thread = std::thread::Builder::new()
            .name("meta-link".to_owned())
            .spawn(move || {
                let assignment = Assignment::new(
                    options.identity.node,
                    options.cores,
                    options.known,
                    options.backups,
                );
                let mut link = Link {
                    addresses: options.addresses,
                    identity: options.identity,
                    assignment,
                    reports: Reports::default(),
                    members: options.members,
                    letters,
                    mail,
                    later: VecDeque::new(),
                    wishes: Vec::new(),
                    sessions: 0,
                    disk: (0, 0),
                    own: OwnWords {
                        started_ms: clock::wall_us() / 1_000,
                        ..OwnWords::default()
                    },
                    farewell: told,
                };
                link.run();
                link.members.close();
            })?;
        Ok(Self {
            sender,
            farewell,
            thread: Some(thread),
        })
    }

    /// Asks meta to take over what this node leads and to let go of it, and waits until that is done, for `limit` at most.
    #[must_use]
    pub fn leave(&self, limit: Duration) -> Parting {
        // The mailbox has room unless the link's thread is stuck: then nothing comes of it either.
        let _ = self.sender.send(MetaMail::Leave);
        self.farewell.wait(limit)
    }

    /// Ends the thread; what meta has not heard it hears after the next start.
    pub fn stop(mut self) {
        let _ = self.sender.sender.send(MetaMail::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Link {
    addresses: Vec<SocketAddr>,
    identity: LinkIdentity,
    assignment: Assignment,
    reports: Reports,
    members: Members,
    letters: Sender<MetaMail>,
    mail: Receiver<MetaMail>,
    /// Taken out of the mailbox while wishes were gathered.
    later: VecDeque<MetaMail>,
    /// For the next frame of proposals.
    wishes: Vec<Wish>,
    sessions: u64,
    disk: (u64, u64),
    own: OwnWords,
    farewell: Farewell,
}

/// Why a session's loop has ended.
enum End {
    Lost(String),
    Stop,
}

impl Link {
    fn run(&mut self) {
        let mut backoff = BACKOFF_FIRST;
        loop {
            match self.open_session() {
                Ok(session) => {
                    backoff = BACKOFF_FIRST;
                    self.farewell.link(true);
                    let end = self.run_session(session);
                    self.farewell.link(false);
                    match end {
                        End::Stop => return,
                        End::Lost(error) => {
                            tracing::warn!(%error, "link to meta lost, traffic goes on")
                        }
                    }
                }
                Err(error) if error.is_final() => tracing::error!(%error, "meta refuses this node"),
                Err(error) => tracing::debug!(%error, "no meta"),
            }
            // The one that was lost is asked last.
            self.addresses.rotate_left(1);
            if self.wait_for_retry(jittered(backoff)) {
                return;
            }
            backoff = (backoff * 2).min(backoff_max(&self.addresses));
        }
    }

    fn open_session(&mut self) -> Result<Session, SessionError> {
        let (stream, registered) = session::register(&self.addresses, &self.identity)?;
        self.identity.refuse_change(&registered)?;
        self.sessions += 1;
        tracing::info!(meta = %registered.meta, "registered with meta");
        if let Some(at) = self.addresses.iter().position(|it| *it == registered.meta) {
            self.addresses.rotate_left(at);
        }
        Session::start(stream, self.sessions, self.letters.clone())
    }

    /// Takes mail in while there is no connection. True: stop.
    fn wait_for_retry(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            match self.next_mail(until) {
                Ok(MetaMail::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                // The cores repeat what they still want when meta is back.
                Ok(MetaMail::Propose(_) | MetaMail::Backups { .. }) => {}
                Ok(mail) => self.take(mail),
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    fn run_session(&mut self, mut session: Session) -> End {
        self.reports.all_again();
        // Of a session before: the cores repeat what they still want.
        self.wishes.clear();
        // The first heartbeat follows the first Sync, so that it carries what was just told.
        let mut heartbeat_at = Instant::now() + HEARTBEAT_PERIOD;
        let mut heard_at = Instant::now();
        loop {
            match self.next_mail(heartbeat_at) {
                Ok(MetaMail::Stop) | Err(RecvTimeoutError::Disconnected) => return End::Stop,
                Ok(MetaMail::Lost {
                    session: lost,
                    error,
                }) if lost == session.number => return End::Lost(error),
                Ok(MetaMail::Frame {
                    session: from,
                    kind,
                    body,
                }) if from == session.number => {
                    heard_at = Instant::now();
                    if let Err(error) = self.on_frame(kind, &body) {
                        return End::Lost(error);
                    }
                    if kind == FrameKind::Sync {
                        heartbeat_at = heartbeat_at.min(Instant::now() + GATHER);
                    }
                }
                Ok(MetaMail::Backups { backups, restores }) => {
                    let progress = orders::write_progress(&backups, &restores);
                    if let Err(error) = session.send(FrameKind::BackupProgress, &progress) {
                        return End::Lost(error.to_string());
                    }
                }
                Ok(mail) => {
                    let is_wish = matches!(mail, MetaMail::Propose(_));
                    let is_report = matches!(mail, MetaMail::Report { .. });
                    let leaves_now = matches!(mail, MetaMail::Leave);
                    self.take(mail);
                    if is_wish && let Err(error) = self.send_wishes(&mut session) {
                        return End::Lost(error.to_string());
                    }
                    if leaves_now {
                        heartbeat_at = Instant::now();
                    }
                    if is_report && self.reports.are_urgent() {
                        heartbeat_at = heartbeat_at.min(Instant::now() + GATHER);
                    }
                }
                Err(RecvTimeoutError::Timeout)
                    if self.addresses.len() > 1 && heard_at.elapsed() > SILENCE =>
                {
                    return End::Lost(format!("meta is silent for {SILENCE:?}"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.send_heartbeat(&mut session) {
                        return End::Lost(error.to_string());
                    }
                    heartbeat_at = Instant::now() + self.heartbeat_period();
                }
            }
        }
    }

    fn on_frame(&mut self, kind: FrameKind, body: &[u8]) -> Result<(), String> {
        match kind {
            FrameKind::Sync => {
                let sync = frames::read_sync(body).map_err(|error| error.to_string())?;
                self.assignment.take(sync, &self.reports);
                if let Some(directory) = self.assignment.directory() {
                    self.members.take_tables(directory);
                }
                Ok(())
            }
            FrameKind::HeartbeatReply if self.own.is_leaving => {
                let held = frames::read_held(body).map_err(|error| error.to_string())?;
                held.into_iter().for_each(|held| self.farewell.hold(held));
                Ok(())
            }
            FrameKind::HeartbeatReply => Ok(()),
            other => Err(format!("meta sent a frame of kind {other:?}")),
        }
    }

    fn take(&mut self, mail: MetaMail) {
        match mail {
            MetaMail::Report { core, key, report } => {
                self.reports.put(core, key, *report, &mut self.members);
            }
            MetaMail::Propose(wish) => self.wishes.push(wish),
            MetaMail::Disk {
                total,
                free,
                is_full,
            } => {
                self.disk = (total, free);
                self.own.refuses_writes = is_full;
            }
            MetaMail::Sizes(sizes) => self.reports.put_sizes(sizes),
            MetaMail::Leave => self.own.is_leaving = true,
            // Of a connection that is no more, or handled by the caller.
            MetaMail::Frame { .. }
            | MetaMail::Lost { .. }
            | MetaMail::Backups { .. }
            | MetaMail::Stop => {}
        }
    }

    fn send_heartbeat(&mut self, session: &mut Session) -> io::Result<()> {
        self.members.save();
        self.own.wall_ms = clock::wall_us() / 1_000;
        let heartbeat = self.reports.heartbeat(
            self.assignment.digest(),
            (self.disk, self.own),
            self.members.tables(),
        );
        session.send(FrameKind::Heartbeat, &heartbeat)
    }

    const fn heartbeat_period(&self) -> Duration {
        if self.own.is_leaving {
            LEAVING_PERIOD
        } else {
            HEARTBEAT_PERIOD
        }
    }

    /// What a turn of a core wants comes in one burst and goes in one frame. Wishes that a newer configuration has answered
    /// already are left out.
    fn send_wishes(&mut self, session: &mut Session) -> io::Result<()> {
        let until = Instant::now() + GATHER_WISHES;
        while let Ok(mail) = self.mail.recv_deadline(until) {
            let is_wish = matches!(mail, MetaMail::Propose(_));
            if is_wish || matches!(mail, MetaMail::Report { .. } | MetaMail::Disk { .. }) {
                self.take(mail);
            } else {
                // Of the connection, or the end: after this.
                self.later.push_back(mail);
                break;
            }
        }
        let wishes = std::mem::take(&mut self.wishes);
        let is_open = |wish: &&Wish| {
            let known = self.assignment.ballot(wish.key.partition);
            known.is_none_or(|known| known <= wish.ballot)
        };
        let mut open = wishes.iter().filter(is_open).peekable();
        if open.peek().is_none() {
            return Ok(());
        }
        session.send(FrameKind::ProposeChange, &frames::write_proposals(open))
    }

    /// The next mail by `until`.
    fn next_mail(&mut self, until: Instant) -> Result<MetaMail, RecvTimeoutError> {
        match self.later.pop_front() {
            Some(mail) => Ok(mail),
            None => self.mail.recv_deadline(until),
        }
    }
}

/// The longest pause between two attempts.
const fn backoff_max(addresses: &[SocketAddr]) -> Duration {
    if addresses.len() > 1 {
        BACKOFF_MAX_OF_MANY
    } else {
        BACKOFF_MAX
    }
}

/// 75 to 125 % of `wait`, so that nodes that lost meta together do not all come back together.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.75..1.25))
}
