//! The other members, as openraft calls them. A connection serves one call at a time and is kept for the next one; a call
//! that is given up takes its connection with it.

use super::codec::{MemberId, Put, SnapshotRequest, Take};
use super::link::{Hello, Link, LinkError, PROTOCOL};
use super::raft::{Member, Types, Vote};
use crate::state::ClusterId;
use openraft::error::{
    Fatal, InstallSnapshotError, RPCError, RaftError, ReplicationClosed, StreamingError,
    Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot};
use pegasus_fbs::frame::FrameKind;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Connections to one member that are kept while nothing is asked.
const IDLE_MAX: usize = 4;
/// Between two calls of a member that does not answer.
const PAUSE: Duration = Duration::from_millis(100);
/// A member that has answered so lately is up.
const UP_FOR: Duration = Duration::from_millis(1_500);
/// The same refusal is not logged again for this long.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// Who we are to other members.
#[derive(Clone, Debug)]
pub(super) struct Us {
    pub(super) cluster: ClusterId,
    pub(super) member: MemberId,
    pub(super) incarnation: u64,
    pub(super) client_address: String,
    pub(super) peer_address: String,
    pub(super) token: Vec<u8>,
}

impl Us {
    /// What we say to `target`.
    pub(super) fn hello(&self, target: MemberId) -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster: self.cluster,
            member: self.member,
            incarnation: self.incarnation,
            client_address: self.client_address.clone(),
            peer_address: self.peer_address.clone(),
            target,
            nonce: rand_u64(),
            nonce_more: rand_u64(),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a nonce decides nothing")]
fn rand_u64() -> u64 {
    rand::random()
}

/// Connections to all members, shared by everything that calls them.
#[derive(Debug)]
pub(super) struct Peers {
    pub(super) us: Us,
    known: Mutex<BTreeMap<MemberId, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    idle: Vec<Link>,
    answered: Option<Instant>,
    told: Option<Instant>,
}

impl Peers {
    pub(super) fn new(us: Us) -> Self {
        Self {
            us,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<MemberId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a member that is called all the time has answered lately.
    pub(super) fn is_up(&self, member: MemberId) -> bool {
        let known = self.known();
        let answered = known.get(&member).and_then(|it| it.answered);
        answered.is_some_and(|at| at.elapsed() < UP_FOR)
    }

    /// Who listens at `address`.
    pub(super) async fn probe(&self, address: &str) -> Result<Hello, LinkError> {
        let link = Link::new(TcpStream::connect(address).await?);
        let (_, them) = link.dial(&self.us.hello(0), &self.us.token).await?;
        self.check(&them)?;
        Ok(them)
    }

    fn check(&self, them: &Hello) -> Result<(), LinkError> {
        let (ours, theirs) = (self.us.cluster, them.cluster);
        if ours != theirs {
            let sentence = format!("it is of cluster {theirs}, this is {ours}");
            return Err(LinkError::Foreign(sentence));
        }
        Ok(())
    }

    async fn dial(&self, target: MemberId, member: &Member) -> Result<Link, LinkError> {
        let link = Link::new(TcpStream::connect(&member.peer_address).await?);
        let (link, them) = link.dial(&self.us.hello(target), &self.us.token).await?;
        self.check(&them)?;
        if (them.member, them.incarnation) != (target, member.incarnation) {
            let sentence = format!(
                "it is member {} with another directory than the member {target} that was added; \
                 a member that has lost its directory is removed and added under a new number",
                them.member
            );
            return Err(LinkError::Foreign(sentence));
        }
        Ok(link)
    }

    async fn call(
        &self,
        target: MemberId,
        member: &Member,
        kind: FrameKind,
        message: &[u8],
    ) -> Result<Vec<u8>, LinkError> {
        let kept = self.known().entry(target).or_default().idle.pop();
        if let Some(mut link) = kept
            && let Ok(answer) = link.ask(kind, message).await
        {
            self.keep(target, link);
            return Ok(answer);
        }
        // The others are as old as the one that broke.
        self.known().entry(target).or_default().idle.clear();
        let mut link = self.dial(target, member).await?;
        let answer = link.ask(kind, message).await?;
        self.keep(target, link);
        Ok(answer)
    }

    fn keep(&self, target: MemberId, link: Link) {
        let mut known = self.known();
        let known = known.entry(target).or_default();
        known.answered = Some(Instant::now());
        if known.idle.len() < IDLE_MAX {
            known.idle.push(link);
        }
    }

    /// Logs what somebody should look at, from time to time.
    fn tell(&self, target: MemberId, member: &Member, error: &LinkError) {
        if matches!(error, LinkError::Io(_)) {
            return;
        }
        let mut known = self.known();
        let known = known.entry(target).or_default();
        if known.told.is_none_or(|at| at.elapsed() > TOLD_EVERY) {
            known.told = Some(Instant::now());
            tracing::error!(member = target, address = member.peer_address, %error, "a member of the group is refused, or refuses");
        }
    }
}

/// Makes the callers that openraft asks for.
#[derive(Clone, Debug)]
pub(super) struct Network(pub(super) Arc<Peers>);

/// Calls one member.
#[derive(Debug)]
pub(super) struct Peer {
    peers: Arc<Peers>,
    target: MemberId,
    member: Member,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: MemberId, node: &Member) -> Peer {
        Peer {
            peers: Arc::clone(&self.0),
            target,
            member: node.clone(),
        }
    }
}

impl Peer {
    async fn call<T: Take>(&self, kind: FrameKind, message: Vec<u8>) -> Result<T, Unreachable> {
        let called = self
            .peers
            .call(self.target, &self.member, kind, &message)
            .await;
        let answer = called.and_then(|bytes| {
            T::from_bytes(&bytes)
                .ok_or_else(|| LinkError::Garbage("an answer that is none".to_owned()))
        });
        answer.map_err(|error| {
            self.peers.tell(self.target, &self.member, &error);
            Unreachable::new(&error)
        })
    }
}

type CallError<E = openraft::error::Infallible> =
    RPCError<MemberId, Member, RaftError<MemberId, E>>;

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<MemberId>, CallError> {
        Ok(self.call(FrameKind::GroupAppend, rpc.to_bytes()).await?)
    }

    async fn install_snapshot(
        &mut self,
        _rpc: openraft::raft::InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Result<openraft::raft::InstallSnapshotResponse<MemberId>, CallError<InstallSnapshotError>>
    {
        let error = LinkError::Garbage("snapshots travel as a whole".to_owned());
        Err(Unreachable::new(&error).into())
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<MemberId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<MemberId>, CallError> {
        Ok(self.call(FrameKind::GroupVote, rpc.to_bytes()).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<MemberId>, StreamingError<Types, Fatal<MemberId>>> {
        let request = SnapshotRequest {
            vote,
            meta: snapshot.meta,
            data: *snapshot.snapshot,
        };
        let sent = self.call(FrameKind::GroupSnapshot, request.to_bytes());
        tokio::select! {
            sent = tokio::time::timeout(option.hard_ttl(), sent) => match sent {
                Ok(answer) => Ok(answer?),
                Err(late) => Err(Unreachable::new(&late).into()),
            },
            closed = cancel => Err(closed.into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(PAUSE))
    }
}
