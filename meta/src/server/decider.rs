//! The one thread that owns the state and its store.

mod apache;

use super::Counters;
use super::answers;
use super::apache as foreign;
use super::backup::{self, Errand};
use super::clock::Clock;
use super::facts::Place;
use super::http;
use super::letter::{Failed, Letter, Query, Reply, Session};
use super::outbox::Outbox;
use super::redirect;
use super::wire;
use crate::state::{Answer, Change, Command, Order, OrderProgress, Outcome, Push, State};
use crate::store::{Store, StoreError};
use apache::Maker;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{FrameKind, Header};
use pegasus_replication::ids::{NodeId, TableId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How long an operator waits who names no time.
const PATIENCE_MS: u64 = 10_000;
const PATIENCE_MS_MAX: u64 = 600_000;
/// A new leader of a group waits so long for nodes before it carries out what operators want.
const SETTLE_MS: u64 = 600;
/// The same while not even half of them have come.
const SETTLE_MS_MAX: u64 = 5_000;
/// Letters that wait for that; more are carried out as things are.
const HELD_MAX: usize = 1_024;
/// Orders are looked at this often while somebody waits: a drain costs a walk over all partitions.
const LOOK_MS: u64 = 100;

pub(super) struct Decider {
    state: State,
    store: Box<dyn Store + Send>,
    clock: Clock,
    place: Place,
    counters: Arc<Counters>,
    sessions: BTreeMap<NodeId, Session>,
    waiters: Vec<Waiter>,
    makers: Vec<Maker>,
    settling: Option<Settling>,
}

/// A leader of a group that has just begun: nodes are on their way from the one before.
struct Settling {
    until_ms: u64,
    /// What operators want meanwhile. It would be refused for want of nodes.
    held: Vec<Letter>,
}

/// An operator who waits for something to be done.
struct Waiter {
    goal: Goal,
    deadline_ms: u64,
    header: Header,
    outbox: Outbox,
}

enum Goal {
    /// The table serves.
    Table {
        table: TableId,
        degraded: bool,
        /// All partitions before this one have been seen to serve.
        served: u32,
    },
    Order {
        order: Order,
        look_ms: u64,
    },
}

/// An outcome that waits for its flush.
struct Decided {
    reply: Reply,
    answer: Answer,
    pushes: Vec<Push>,
}

impl Decider {
    pub(super) fn new(
        state: State,
        store: Box<dyn Store + Send>,
        (clock, place): (Clock, Place),
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            state,
            store,
            clock,
            place,
            counters,
            sessions: BTreeMap::new(),
            waiters: Vec::new(),
            makers: Vec::new(),
            settling: None,
        }
    }

    /// Keeps what operators want for a moment, until nodes have come from the leader before.
    pub(super) fn settle(mut self) -> Self {
        self.settling = Some(Settling {
            until_ms: self.clock.now_ms() + SETTLE_MS_MAX,
            held: Vec::new(),
        });
        self
    }

    /// What is told of metas from now on.
    pub(super) fn know_metas(&mut self, place: &Place) {
        self.place.clone_from(place);
    }

    /// Decides everything, flushes once, tells everybody; then answers questions from what is durable.
    ///
    /// # Errors
    /// [`StoreError::Deposed`] once somebody else leads: whoever waited was told so. Else the store has failed for good.
    pub(super) fn handle_batch(&mut self, letters: Vec<Letter>) -> Result<(), StoreError> {
        let letters = self.hold_back(letters);
        let mut changes: Vec<Change> = Vec::new();
        let mut decided = Vec::new();
        let mut queries = Vec::new();
        let mut errands = Vec::new();
        for letter in letters {
            match letter {
                Letter::Command { command, reply } if self.is_heard(&reply) => {
                    let is_report = matches!(command, Command::Report { .. });
                    let Outcome {
                        changes: made,
                        answer,
                        pushes,
                    } = self.state.apply(command);
                    changes.extend(made);
                    if is_report && pushes.iter().any(|push| push.sync.full) {
                        Counters::count(&self.counters.resyncs);
                    }
                    decided.push(Decided {
                        reply,
                        answer,
                        pushes,
                    });
                }
                Letter::Query { .. } | Letter::Apache { .. } | Letter::Http { .. } => {
                    queries.push(letter);
                }
                Letter::ChangeMetas { header, outbox, .. } => {
                    outbox.refuse(&header, &Failed::not_leading(None));
                }
                Letter::Errands(answer) => errands.push(answer),
                Letter::ClusterName(answer) => {
                    let name = &self.state.durable().cluster().name;
                    _ = answer.send(Ok(name.clone()));
                }
                Letter::Command { .. } | Letter::Look | Letter::Stop => {}
            }
        }
        match self.make_durable(&changes, &decided, &queries) {
            Ok(()) => {
                self.count(&changes);
                decided.into_iter().for_each(|it| self.tell(it));
            }
            Err(error @ StoreError::Full { .. }) => self.take_back(decided, &error)?,
            Err(error) => {
                if let StoreError::Deposed { may_be_stored, .. } = error {
                    let may_be_stored = may_be_stored && !changes.is_empty();
                    let replies = decided.into_iter().map(|it| it.reply);
                    replies.for_each(|reply| redirect::reply(reply, None, may_be_stored));
                    queries
                        .into_iter()
                        .for_each(|query| redirect::letter(query, None));
                }
                return Err(error);
            }
        }
        queries.into_iter().for_each(|query| self.answer(query));
        for answer in errands {
            // What a store that is too old wants done at targets is not to be done.
            let is_behind = self.state.behind().is_some();
            let wanted = (!is_behind).then(|| Errand::all_of(&self.state));
            _ = answer.send(wanted.unwrap_or_default());
        }
        self.serve_waiters();
        self.serve_makers();
        self.snapshot_if_due()
    }

    /// Nothing is told before the changes are durable; and where there are none, not before it is sure that nobody else leads.
    fn make_durable(
        &mut self,
        changes: &[Change],
        decided: &[Decided],
        queries: &[Letter],
    ) -> Result<(), StoreError> {
        if !changes.is_empty() {
            return self.store.append(changes);
        }
        let is_told = |it: &Decided| !matches!(it.reply, Reply::Nobody) || !it.pushes.is_empty();
        let somebody_waits = !(self.waiters.is_empty() && self.makers.is_empty());
        if somebody_waits || !queries.is_empty() || decided.iter().any(is_told) {
            return self.store.confirm();
        }
        Ok(())
    }

    /// Takes out what operators want while nodes are still coming, and brings it back when they are there.
    fn hold_back(&mut self, letters: Vec<Letter>) -> Vec<Letter> {
        let Some(settling) = &mut self.settling else {
            return letters;
        };
        let nodes = self.state.durable().nodes();
        let joined = nodes.keys().filter(|node| self.sessions.contains_key(node));
        let joined = joined.count();
        let left_ms = settling.until_ms.saturating_sub(self.clock.now_ms());
        // A leader that hangs keeps its nodes for some seconds.
        let is_over =
            left_ms == 0 || (2 * joined > nodes.len() && left_ms <= SETTLE_MS_MAX - SETTLE_MS);
        if is_over || joined == nodes.len() {
            let mut all = std::mem::take(&mut settling.held);
            all.extend(letters);
            self.settling = None;
            return all;
        }
        let is_operators = |letter: &Letter| {
            let of = |reply: &Reply| matches!(reply, Reply::Frame { .. } | Reply::Apache { .. });
            matches!(letter, Letter::Command { reply, .. } if of(reply))
        };
        let (held, now): (Vec<_>, Vec<_>) = letters.into_iter().partition(is_operators);
        let room = HELD_MAX.saturating_sub(settling.held.len());
        let mut held = held.into_iter();
        settling.held.extend(held.by_ref().take(room));
        now.into_iter().chain(held).collect()
    }

    /// Somebody else leads: nodes go there, and whoever waits is told. What was ordered goes on.
    pub(super) fn leave(self) {
        self.sessions.values().for_each(|it| it.outbox.kick());
        for letter in self.settling.into_iter().flat_map(|it| it.held) {
            redirect::letter(letter, None);
        }
        for waiter in self.waiters {
            waiter.tell_deposed(&self.state);
        }
        for maker in self.makers {
            maker.tell_deposed();
        }
    }

    /// What has become durable.
    fn count(&self, changes: &[Change]) {
        if !changes.is_empty() {
            Counters::count(&self.counters.store_flushes);
        }
        let changed = changes.iter().map(|change| match change {
            Change::PartitionsChanged { partitions, .. } => partitions.len() as u64,
            _ => 0,
        });
        let counter = &self.counters.configuration_changes;
        counter.fetch_add(changed.sum(), Ordering::Relaxed);
    }

    /// A connection that was replaced by a newer one of the same node is not listened to.
    fn is_heard(&self, reply: &Reply) -> bool {
        let Reply::Session { session, .. } = reply else {
            return true;
        };
        self.sessions
            .get(&session.node)
            .is_some_and(|current| current.number == session.number)
    }

    fn tell(&mut self, decided: Decided) {
        let Decided {
            reply,
            answer,
            pushes,
        } = decided;
        let failed = match &answer {
            Answer::Refused(refusal) => Some(Failed::from(refusal)),
            _ => None,
        };
        match (reply, failed) {
            (Reply::Nobody, _) => {}
            (
                Reply::Apache {
                    rpc,
                    forgives_missing,
                    caller,
                },
                _,
            ) => self.tell_apache(rpc, forgives_missing, &answer, caller),
            (Reply::Frame { header, outbox }, Some(failed)) => {
                outbox.fail(&header, failed.code, &failed.message)
            }
            (Reply::Frame { header, outbox }, None) => self.tell_operator(answer, header, outbox),
            (Reply::Session { session, .. }, Some(failed)) => {
                tracing::warn!(node = %session.node, reason = failed.message, "closing a node's connection");
                session.outbox.kick();
            }
            (Reply::Session { header, session }, None) => self.tell_session(&header, &session),
            (Reply::Number(done), Some(failed)) => _ = done.send(Err(failed)),
            (Reply::Number(done), None) => {
                if let Answer::NodeNumbered(node) = answer {
                    _ = done.send(Ok(node));
                }
            }
            (Reply::Join { done, .. }, Some(failed)) => _ = done.send(Err(failed)),
            (Reply::Join { session, done }, None) => {
                self.take_session(session);
                _ = done.send(Ok(()));
            }
        }
        pushes.into_iter().for_each(|push| self.push(&push));
    }

    fn tell_operator(&mut self, answer: Answer, header: Header, outbox: Outbox) {
        match answer {
            Answer::TableCreated { table, .. } if header.kind == FrameKind::StartRestore => {
                let reply = backup::restore_reply(&self.state, table);
                outbox.send(&header.reply(), &reply);
            }
            Answer::BackupStarted { id } => {
                outbox.send(&header.reply(), &backup::started_reply(id));
            }
            Answer::TableCreated { table, degraded } => {
                let goal = Goal::Table {
                    table,
                    degraded,
                    served: 0,
                };
                self.wait_for(goal, header, outbox);
            }
            Answer::Ordered(order) | Answer::ReplicasSet { order, .. } => {
                self.wait_for(Goal::Order { order, look_ms: 0 }, header, outbox);
            }
            Answer::TableDropped { table } => {
                outbox.send(&header.reply(), &wire::drop_reply(table))
            }
            Answer::TableRecalled { table } => {
                let goal = Goal::Table {
                    table,
                    degraded: self.is_degraded(table),
                    served: 0,
                };
                self.wait_for(goal, header, outbox);
            }
            Answer::LevelWas { before, now } => {
                outbox.send(&header.reply(), &wire::level_reply(before, now));
            }
            Answer::Done => outbox.send(&header.reply(), &wire::change_reply(true, "")),
            Answer::NodeNumbered(_) | Answer::Refused(_) => {}
        }
    }

    fn is_degraded(&self, table: TableId) -> bool {
        let table = self.state.durable().tables().get(&table);
        table.is_some_and(crate::state::Table::is_degraded)
    }

    fn wait_for(&mut self, goal: Goal, header: Header, outbox: Outbox) {
        let wanted_ms = match header.timeout_ms {
            0 => PATIENCE_MS,
            // The answer has to arrive before the asker gives up.
            wanted => u64::from(wanted).min(PATIENCE_MS_MAX) * 9 / 10,
        };
        self.waiters.push(Waiter {
            goal,
            deadline_ms: self.clock.now_ms() + wanted_ms,
            header,
            outbox,
        });
    }

    fn tell_session(&self, header: &Header, session: &Session) {
        if header.kind == FrameKind::Heartbeat {
            let reply = Header {
                kind: FrameKind::HeartbeatReply,
                ..header.reply()
            };
            session.outbox.send(
                &reply,
                &wire::heartbeat_reply(
                    self.state.durable().digest(session.node),
                    self.held(session.node),
                ),
            );
        }
    }

    /// What a node that leaves waits for.
    fn held(&self, node: NodeId) -> Option<u32> {
        let leaves = self.state.is_leaving(node);
        leaves.then(|| self.state.held_by_leaving(node))
    }

    fn take_session(&mut self, session: Session) {
        tracing::info!(node = %session.node, incarnation = %session.incarnation, "node joined");
        if let Some(before) = self.sessions.insert(session.node, session) {
            before.outbox.kick();
        }
    }

    fn push(&self, push: &Push) {
        let Some(session) = self.sessions.get(&push.node) else {
            return;
        };
        session.outbox.send(
            &Header::request(FrameKind::Sync, 0),
            &wire::sync(&push.sync),
        );
    }

    /// Nothing of this batch is durable and nobody has heard of it: back to what is.
    fn take_back(&mut self, decided: Vec<Decided>, error: &StoreError) -> Result<(), StoreError> {
        tracing::error!(%error, "refusing changes");
        self.state.restore(self.store.load()?);
        let failed = Failed::new(
            Code::DiskFull,
            format!("meta cannot store a change: {error}"),
        );
        for Decided { reply, .. } in decided {
            match reply {
                Reply::Nobody => {}
                Reply::Frame { header, outbox } => {
                    outbox.fail(&header, failed.code, &failed.message)
                }
                // Proposals are repeated by the node; what it reported is kept.
                Reply::Session { header, session } => self.tell_session(&header, &session),
                Reply::Apache { rpc, caller, .. } => Self::fail_apache(rpc, &failed, &caller),
                Reply::Number(done) => _ = done.send(Err(failed.clone())),
                Reply::Join { done, .. } => _ = done.send(Err(failed.clone())),
            }
        }
        Ok(())
    }

    fn answer(&self, letter: Letter) {
        match letter {
            Letter::Query {
                query,
                header,
                outbox,
            } => self.answer_frame(query, &header, &outbox),
            Letter::Apache { question, caller } => {
                foreign::answer(&self.state, &self.place, &question, &caller);
            }
            Letter::Http { request, done } => {
                let past = http::Past {
                    counters: &self.counters,
                    started_s: self.clock.started_s(),
                };
                _ = done.send(http::answer(&self.state, &self.place, past, &request));
            }
            Letter::Command { .. }
            | Letter::ChangeMetas { .. }
            | Letter::Errands(_)
            | Letter::ClusterName(_)
            | Letter::Look
            | Letter::Stop => {}
        }
    }

    fn answer_frame(&self, query: Query, header: &Header, outbox: &Outbox) {
        let now_ms = self.clock.now_ms();
        let answered = match query {
            Query::Route { name } => answers::route(&self.state, &name),
            Query::ListTables { dropped } => Ok(answers::list_tables(&self.state, dropped)),
            Query::ShowEnvs { name } => answers::show_envs(&self.state, &name),
            Query::ShowBalance { plan } => Ok(answers::show_balance(&self.state, plan)),
            Query::ShowDrain { node } => Ok(answers::show_drain(&self.state, node)),
            Query::ShowCluster => Ok(answers::show_cluster(&self.state, &self.place)),
            Query::ShowTable { name } => answers::show_table(&self.state, &name),
            Query::Backup { query, options } => {
                backup::answer(&self.state, &options.targets, &query, now_ms)
            }
            Query::ListNodes => Ok(answers::list_nodes(&self.state, now_ms)),
            Query::MayJoin { node, answer } => {
                _ = answer.send(
                    self.state
                        .may_join(&node)
                        .map_err(|refusal| Failed::from(&refusal)),
                );
                return;
            }
        };
        match answered {
            Ok(body) => outbox.send(&header.reply(), &body),
            Err(failed) => outbox.refuse(header, &failed),
        }
    }

    /// Answers those for whom there is nothing more to wait for.
    fn serve_waiters(&mut self) {
        let now_ms = self.clock.now_ms();
        let state = &self.state;
        self.waiters.retain_mut(|waiter| match &mut waiter.goal {
            Goal::Table { .. } => waiter.awaits_table(state, now_ms),
            Goal::Order { .. } => waiter.awaits_order(state, now_ms),
        });
    }

    fn snapshot_if_due(&mut self) -> Result<(), StoreError> {
        if !self.store.wants_snapshot() {
            return Ok(());
        }
        match self.store.snapshot(self.state.durable()) {
            // The log goes on; the next batch tries again.
            Err(error @ StoreError::Full { .. }) => tracing::warn!(%error, "no snapshot"),
            other => return other,
        }
        Ok(())
    }
}

impl Waiter {
    /// Whether the table is still to be waited for; if not, the answer is sent.
    fn awaits_table(&mut self, state: &State, now_ms: u64) -> bool {
        let Goal::Table {
            table,
            degraded,
            served,
        } = &mut self.goal
        else {
            return false;
        };
        let there = state.durable().tables().get(table);
        if there.is_none_or(crate::state::Table::is_dropped) {
            let message = "the table was dropped while it was made";
            self.outbox.fail(&self.header, Code::UnknownTable, message);
            return false;
        }
        let Some(waiting) = state.first_not_serving(*table, *served) else {
            let reply = wire::create_reply(*table, *degraded);
            self.outbox.send(&self.header.reply(), &reply);
            return false;
        };
        *served = waiting;
        if now_ms < self.deadline_ms {
            return true;
        }
        let message = answers::creating(state, *table);
        self.outbox.fail(&self.header, Code::Creating, &message);
        false
    }

    /// The same for an order. Not done in time is no failure: it goes on.
    fn awaits_order(&mut self, state: &State, now_ms: u64) -> bool {
        let Goal::Order { order, look_ms } = &mut self.goal else {
            return false;
        };
        if now_ms < (*look_ms).min(self.deadline_ms) {
            return true;
        }
        *look_ms = now_ms + LOOK_MS;
        match state.order_progress(order) {
            OrderProgress::Waiting(_) if now_ms < self.deadline_ms => return true,
            OrderProgress::Waiting(reason) => self.reply_change(false, &reason),
            OrderProgress::Done => self.reply_change(true, ""),
            OrderProgress::GivenUp(reason) => {
                self.outbox.fail(&self.header, Code::Internal, &reason);
            }
        }
        false
    }

    /// The next leader goes on with it.
    fn tell_deposed(&self, state: &State) {
        match &self.goal {
            Goal::Table { table, .. } => {
                let message = answers::creating(state, *table);
                self.outbox.fail(&self.header, Code::Creating, &message);
            }
            Goal::Order { .. } => {
                self.reply_change(false, "another meta leads now; the order goes on there");
            }
        }
    }

    fn reply_change(&self, done: bool, message: &str) {
        let reply = wire::change_reply(done, message);
        self.outbox.send(&self.header.reply(), &reply);
    }
}
