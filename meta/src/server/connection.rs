//! One connection: frames in, letters to the decider. Its first bytes say which protocol it speaks.

mod apache;
mod backups;
mod http;

use super::apache::command;
use super::backup;
use super::letter::{Failed, Letter, Query, Reply, Session};
use super::outbox::Outbox;
use super::register::{Nonces, PROTOCOL};
use super::sniff::{Sniffed, sniff};
use super::{Counters, Shared, wire};
use crate::state::{Command, Node};
use bytes::BytesMut;
use pegasus_fbs::body::BodyError;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{BODY_BYTES_MAX, Decoder, Frame, FrameKind, Header};
use pegasus_http::RequestDecoder;
use pegasus_replication::ids::NodeId;
use pegasus_thrift::{Protocol, RpcAddress};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};

/// Bodies of everybody but registered nodes.
const SMALL_BODY_BYTES_MAX: usize = 64 << 10;
/// For the rest of a frame whose start is there.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// For the first frame, and for each of a registration.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// For the next request of a client.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// For the next heartbeat of a node.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 16 << 10;

/// What Redis clients are told, who take any port for one that serves them.
const NO_REDIS: &[u8] = b"-ERR this is a meta server; Redis clients connect to a client port of a node, e.g. 127.0.0.1:34801\r\n";

static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// Who is at the other end.
enum Phase {
    /// Nothing said yet.
    Fresh,
    /// A client or an operator.
    Client,
    /// A node that has still to prove itself.
    Proving {
        node: Box<Node>,
        nonces: Nonces,
    },
    Member(Session),
}

/// Why a connection ends.
enum End {
    /// The other side went, or we stop.
    Quiet,
    /// It does not speak our protocol.
    Garbage(String),
}

/// The protocol of a connection, chosen once.
enum Speech {
    Native,
    Apache(Protocol),
    Http(RequestDecoder),
}

struct Connection<'a> {
    shared: &'a Shared,
    peer: SocketAddr,
    /// This end of the connection.
    here: RpcAddress,
    outbox: Outbox,
    phase: Phase,
}

/// Serves one connection until it ends.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, shared: &Shared) {
    _ = stream.set_nodelay(true);
    let here = match stream.local_addr() {
        Ok(SocketAddr::V4(address)) => RpcAddress::new(address),
        _ => RpcAddress::NONE,
    };
    let (mut reader, writer) = stream.into_split();
    let (outbox, frames) = Outbox::new(shared.counters.clone());
    let writing = tokio::spawn(write(writer, frames, outbox.clone()));
    let mut connection = Connection {
        shared,
        peer,
        here,
        outbox: outbox.clone(),
        phase: Phase::Fresh,
    };
    let mut stop = shared.stop.clone();
    let end = tokio::select! {
        end = connection.read(&mut reader) => end,
        () = outbox.kicked() => End::Quiet,
        _ = stop.wait_for(|stopped| *stopped) => End::Quiet,
    };
    connection.say_lost().await;
    if let End::Garbage(reason) = end {
        Counters::count(&shared.counters.garbage);
        tracing::debug!(%peer, reason, "closing a connection");
    }
    // What was answered before still leaves, within bounds: nobody waits for a reader that does not read.
    if outbox.send_last() {
        _ = tokio::time::timeout(WRITE_TIMEOUT, writing).await;
    } else {
        writing.abort();
    }
}

async fn write(mut writer: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>, outbox: Outbox) {
    while let Some(frame) = frames.recv().await.filter(|frame| !frame.is_empty()) {
        let written = tokio::time::timeout(WRITE_TIMEOUT, writer.write_all(&frame)).await;
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    outbox.kick();
}

impl Connection<'_> {
    async fn read(&mut self, reader: &mut (impl AsyncReadExt + Unpin)) -> End {
        let mut buffer = BytesMut::new();
        let mut speech = None;
        loop {
            if speech.is_none() {
                speech = match self.choose(&buffer) {
                    Ok(chosen) => chosen,
                    Err(end) => return end,
                };
            }
            let taken = match &mut speech {
                None => Ok(()),
                Some(Speech::Native) => self.take_frames(&mut buffer).await,
                Some(Speech::Apache(protocol)) => self.take_apache(*protocol, &mut buffer).await,
                Some(Speech::Http(decoder)) => self.take_http(decoder, &mut buffer).await,
            };
            if let Err(end) = taken {
                return end;
            }
            buffer.reserve(READ_BYTES);
            let timeout = if buffer.is_empty() {
                self.patience()
            } else {
                FRAME_TIMEOUT
            };
            match tokio::time::timeout(timeout, reader.read_buf(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => return End::Quiet,
                Ok(Ok(_)) => {}
                Err(_) if buffer.is_empty() => return End::Quiet,
                Err(_) => return End::Garbage("a frame was begun and not finished".to_owned()),
            }
        }
    }

    /// `None`: the first bytes do not say it yet.
    fn choose(&mut self, input: &[u8]) -> Result<Option<Speech>, End> {
        let speech = match sniff(input) {
            Sniffed::NeedMore => return Ok(None),
            Sniffed::Native => return Ok(Some(Speech::Native)),
            Sniffed::Apache(protocol) => Speech::Apache(protocol),
            Sniffed::Http => Speech::Http(RequestDecoder::new(pegasus_http::Limits::DEFAULT)),
            Sniffed::Text => {
                self.outbox.send_bytes(NO_REDIS.to_vec());
                return Err(End::Garbage("text that is no HTTP".to_owned()));
            }
        };
        self.phase = Phase::Client;
        Ok(Some(speech))
    }

    async fn take_frames(&mut self, buffer: &mut BytesMut) -> Result<(), End> {
        loop {
            match self.decoder().decode(buffer) {
                Ok(None) => return Ok(()),
                Err(error) => return Err(End::Garbage(error.to_string())),
                Ok(Some(frame)) => self.handle(frame).await?,
            }
        }
    }

    const fn decoder(&self) -> Decoder {
        match self.phase {
            Phase::Member(_) => Decoder::new(BODY_BYTES_MAX),
            Phase::Fresh | Phase::Client | Phase::Proving { .. } => {
                Decoder::new(SMALL_BODY_BYTES_MAX)
            }
        }
    }

    const fn patience(&self) -> Duration {
        match self.phase {
            Phase::Fresh | Phase::Proving { .. } => FIRST_FRAME_TIMEOUT,
            Phase::Client => IDLE_TIMEOUT,
            Phase::Member(_) => SILENCE_TIMEOUT,
        }
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), End> {
        let Frame { header, body } = frame;
        if header.is_reply() {
            return Err(End::Garbage(format!(
                "a reply of kind {:?} that nobody asked for",
                header.kind
            )));
        }
        if matches!(self.phase, Phase::Fresh) && header.kind != FrameKind::Register {
            self.phase = Phase::Client;
        }
        match header.kind {
            FrameKind::Ping => self.outbox.send(&header.reply(), &[]),
            FrameKind::RemoteCommand => self.on_remote_command(header, &body),
            FrameKind::Route
            | FrameKind::ListTables
            | FrameKind::ShowTable
            | FrameKind::ShowEnvs
            | FrameKind::ShowCluster
            | FrameKind::ShowDrain
            | FrameKind::ShowBalance
            | FrameKind::ListNodes => {
                self.ask(header, wire::query(header.kind, &body)).await?;
            }
            FrameKind::CreateTable
            | FrameKind::DropTable
            | FrameKind::RecallTable
            | FrameKind::RenameTable
            | FrameKind::ChangeEnvs
            | FrameKind::SetLevel
            | FrameKind::MovePrimary
            | FrameKind::MoveReplica
            | FrameKind::DrainNode
            | FrameKind::UndrainNode
            | FrameKind::DecommissionNode
            | FrameKind::OrderBalance
            | FrameKind::SetReplicas
            | FrameKind::Rebalance => {
                self.order(
                    header,
                    wire::order(header.kind, &body, self.shared.clock.now_ms()),
                )
                .await?;
            }
            FrameKind::ChangeMetas => self.on_change_metas(header, &body).await?,
            FrameKind::Register => self.on_register(header, &body).await?,
            FrameKind::RegisterProof => self.on_proof(header, &body).await?,
            FrameKind::ListBackups
            | FrameKind::ShowBackup
            | FrameKind::ListBackupPolicies
            | FrameKind::ShowRestore => self.ask_of_backups(header, &body).await?,
            FrameKind::StartBackup
            | FrameKind::CancelBackup
            | FrameKind::DeleteBackup
            | FrameKind::OrderBackupPolicy => self.order_backup(header, &body).await?,
            FrameKind::StartRestore => self.order_restore(header, &body).await?,
            FrameKind::Heartbeat
            | FrameKind::ProposeNextBallot
            | FrameKind::ProposeChange
            | FrameKind::BackupProgress => self.on_session(header, &body).await?,
            _ => {
                let message = format!("meta does not answer {:?}", header.kind);
                self.outbox.fail(&header, Code::Unsupported, &message);
            }
        }
        Ok(())
    }

    fn on_remote_command(&self, header: Header, body: &[u8]) {
        match wire::remote_command(body) {
            Ok((name, arguments)) => {
                let clock = self.shared.clock;
                let text = command(&name, &arguments, clock.started_s(), clock.now_ms());
                let reply = wire::remote_command_reply(&text);
                self.outbox.send(&header.reply(), &reply);
            }
            Err(failed) => self.outbox.fail(&header, failed.code, &failed.message),
        }
    }

    async fn on_change_metas(&self, header: Header, body: &[u8]) -> Result<(), End> {
        let outbox = self.outbox.clone();
        match wire::member_change(body) {
            Ok(change) => {
                self.post(Letter::ChangeMetas {
                    change,
                    header,
                    outbox,
                })
                .await
            }
            Err(failed) => {
                outbox.fail(&header, failed.code, &failed.message);
                Ok(())
            }
        }
    }

    async fn ask(&self, header: Header, query: Result<Query, Failed>) -> Result<(), End> {
        match query {
            Ok(query) => {
                self.post(Letter::Query {
                    query,
                    header,
                    outbox: self.outbox.clone(),
                })
                .await
            }
            Err(failed) => {
                self.outbox.fail(&header, failed.code, &failed.message);
                Ok(())
            }
        }
    }

    async fn order(&self, header: Header, command: Result<Command, Failed>) -> Result<(), End> {
        match command {
            Ok(command) => {
                let reply = Reply::Frame {
                    header,
                    outbox: self.outbox.clone(),
                };
                self.post(Letter::Command { command, reply }).await
            }
            Err(failed) => {
                self.outbox.fail(&header, failed.code, &failed.message);
                Ok(())
            }
        }
    }

    async fn on_register(&mut self, header: Header, body: &[u8]) -> Result<(), End> {
        match self.introduce(body).await {
            Ok((node, nonces)) => {
                let reply = Header {
                    kind: FrameKind::RegisterReply,
                    ..header.reply()
                };
                let proof = nonces.proof_of_meta(&self.shared.token);
                self.outbox.send(
                    &reply,
                    &wire::register_reply(self.shared.cluster, node.id, nonces.meta(), &proof),
                );
                self.phase = Phase::Proving {
                    node: Box::new(node),
                    nonces,
                };
                Ok(())
            }
            Err(failed) => Err(self.refuse(header, &failed)),
        }
    }

    /// Everything that can be refused before the node has proved itself.
    async fn introduce(&self, body: &[u8]) -> Result<(Node, Nonces), Failed> {
        let register = wire::register(body)?;
        if !(register.protocol_min..=register.protocol_max).contains(&PROTOCOL) {
            let message = format!(
                "meta speaks protocol {PROTOCOL}, the node {} to {}",
                register.protocol_min, register.protocol_max
            );
            return Err(Failed::new(Code::Incompatible, message));
        }
        let is_fresh = register.cluster.0 == 0;
        if !is_fresh && register.cluster != self.shared.cluster {
            let message = format!(
                "the node is of cluster {}, this is {}",
                register.cluster, self.shared.cluster
            );
            return Err(Failed::new(Code::WrongCluster, message));
        }
        if is_fresh && register.node.id.0 != 0 {
            return Err(Failed::new(
                Code::InvalidArgument,
                "a node with a number names its cluster",
            ));
        }
        if self.shared.token.is_empty() && !self.peer.ip().is_loopback() {
            let message = "without a cluster token nodes join from loopback addresses only";
            return Err(Failed::new(Code::Unauthenticated, message));
        }
        let nonces = Nonces::answer(&register.nonce)?;
        let mut node = register.node;
        if node.id.0 == 0 {
            node.id = self.number().await?;
        }
        self.may_join(node.clone()).await?;
        Ok((node, nonces))
    }

    async fn number(&self) -> Result<NodeId, Failed> {
        let (done, answer) = oneshot::channel();
        self.consult(
            Letter::Command {
                command: Command::NumberNode,
                reply: Reply::Number(done),
            },
            answer,
        )
        .await
    }

    async fn may_join(&self, node: Node) -> Result<(), Failed> {
        let (answer, answered) = oneshot::channel();
        let query = Query::MayJoin {
            node: Box::new(node),
            answer,
        };
        let header = Header::request(FrameKind::Register, 0);
        self.consult(
            Letter::Query {
                query,
                header,
                outbox: self.outbox.clone(),
            },
            answered,
        )
        .await
    }

    async fn on_proof(&mut self, header: Header, body: &[u8]) -> Result<(), End> {
        let Phase::Proving { node, nonces } = std::mem::replace(&mut self.phase, Phase::Fresh)
        else {
            return Err(End::Garbage("a proof without a registration".to_owned()));
        };
        match self.join(*node, &nonces, body).await {
            Ok(session) => {
                self.phase = Phase::Member(session);
                Ok(())
            }
            Err(failed) => Err(self.refuse(header, &failed)),
        }
    }

    async fn join(&self, node: Node, nonces: &Nonces, body: &[u8]) -> Result<Session, Failed> {
        if !nonces.proves_node(&self.shared.token, &wire::proof(body)?) {
            return Err(Failed::new(
                Code::Unauthenticated,
                "the node does not know this cluster's token",
            ));
        }
        let session = Session {
            node: node.id,
            incarnation: node.incarnation,
            number: SESSIONS.fetch_add(1, Ordering::Relaxed),
            outbox: self.outbox.clone(),
        };
        let (done, answer) = oneshot::channel();
        let command = Command::JoinNode {
            node,
            now_ms: self.shared.clock.now_ms(),
        };
        let reply = Reply::Join {
            session: session.clone(),
            done,
        };
        self.consult(Letter::Command { command, reply }, answer)
            .await?;
        Ok(session)
    }

    async fn on_session(&self, header: Header, body: &[u8]) -> Result<(), End> {
        let Phase::Member(session) = &self.phase else {
            return Err(End::Garbage(format!(
                "{:?} before a registration",
                header.kind
            )));
        };
        let (node, incarnation) = (session.node, session.incarnation);
        let malformed = |error: BodyError| End::Garbage(error.to_string());
        let now_ms = self.shared.clock.now_ms();
        let propose = |proposals| Command::Propose {
            node,
            incarnation,
            proposals,
            now_ms,
        };
        let command = match header.kind {
            FrameKind::Heartbeat => Command::Report {
                node,
                incarnation,
                report: wire::report(body).map_err(malformed)?,
                now_ms,
            },
            FrameKind::BackupProgress => {
                backup::progress(node, incarnation, body, now_ms).map_err(malformed)?
            }
            FrameKind::ProposeNextBallot => propose(wire::next_ballots(body).map_err(malformed)?),
            _ => propose(wire::proposals(body).map_err(malformed)?),
        };
        self.post(Letter::Command {
            command,
            reply: Reply::Session {
                header,
                session: session.clone(),
            },
        })
        .await
    }

    /// The node at the other end, if it is one, is not heard over this connection any more.
    async fn say_lost(&self) {
        let Phase::Member(session) = &self.phase else {
            return;
        };
        let command = Command::NodeLost {
            node: session.node,
            incarnation: session.incarnation,
            now_ms: self.shared.clock.now_ms(),
        };
        let reply = Reply::Session {
            header: Header::request(FrameKind::Ping, 0),
            session: session.clone(),
        };
        // If nobody takes it any more, meta is stopping.
        _ = self.post(Letter::Command { command, reply }).await;
    }

    /// Answers a registration by a failure; the connection ends.
    fn refuse(&self, header: Header, failed: &Failed) -> End {
        if failed.code == Code::NotPrimary {
            tracing::debug!(peer = %self.peer, leader = failed.leader, "told a node who leads");
        } else {
            Counters::count(&self.shared.counters.registrations_refused);
            tracing::warn!(peer = %self.peer, reason = failed.message, "refused a node");
        }
        self.outbox.refuse(&header, failed);
        End::Quiet
    }

    async fn post(&self, letter: Letter) -> Result<(), End> {
        self.shared
            .letters
            .send(letter)
            .await
            .map_err(|_| End::Quiet)
    }

    async fn consult<T>(
        &self,
        letter: Letter,
        answer: oneshot::Receiver<Result<T, Failed>>,
    ) -> Result<T, Failed> {
        let stopped = || Failed::new(Code::NotServing, "meta is stopping");
        self.post(letter).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}
