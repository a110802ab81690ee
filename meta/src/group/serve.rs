//! The port that other members call.

#![allow(clippy::disallowed_types, reason = "the port of a member")]

use super::codec::{Put, SnapshotRequest, Take};
use super::link::{Hello, Link, LinkError, PROTOCOL};
use super::peers::Us;
use super::raft::{Membership, Raft};
use openraft::Snapshot;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{Frame, FrameKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections of other members, at most.
const CONNECTIONS_MAX: usize = 256;
/// For the whole of an introduction.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// For the next request; a leader calls ten times a second.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Answers whoever connects, for good.
pub(super) async fn serve(listener: TcpListener, us: Arc<Us>, raft: Raft) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a member");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            continue;
        };
        let (us, raft) = (Arc::clone(&us), raft.clone());
        tokio::spawn(async move {
            match converse(stream, peer, &us, &raft).await {
                Ok(()) | Err(LinkError::Io(_)) => {}
                Err(error) => tracing::warn!(%peer, %error, "closing a connection of a member"),
            }
            drop(permit);
        });
    }
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    us: &Us,
    raft: &Raft,
) -> Result<(), LinkError> {
    let judge = |them: &Hello| {
        let membership = raft.metrics().borrow().membership_config.clone();
        judge(us, membership.membership(), them, peer)
    };
    let accepted = tokio::time::timeout(HELLO_TIMEOUT, Link::new(stream).accept(&us.token, judge));
    let Ok(accepted) = accepted.await else {
        return Ok(());
    };
    let (mut link, _) = accepted?;
    while let Ok(request) = tokio::time::timeout(IDLE_TIMEOUT, link.receive()).await {
        let request = request?;
        match answer(&request, raft).await {
            Ok(answer) => link.send(&request.header.reply(), &answer).await?,
            Err((code, message)) => link.fail(&request.header, code, &message).await?,
        }
    }
    Ok(())
}

/// What we answer to somebody who introduces itself, or why not.
fn judge(
    us: &Us,
    members: &Membership,
    them: &Hello,
    peer: SocketAddr,
) -> Result<Hello, (Code, String)> {
    if them.protocol != PROTOCOL {
        let message = format!(
            "this member speaks protocol {PROTOCOL}, the other one {}",
            them.protocol
        );
        return Err((Code::Incompatible, message));
    }
    if them.cluster != us.cluster {
        let message = format!(
            "the caller is of cluster {}, this is {}",
            them.cluster, us.cluster
        );
        return Err((Code::WrongCluster, message));
    }
    if us.token.is_empty() && !peer.ip().is_loopback() {
        let message = "without a cluster token members talk over loopback addresses only";
        return Err((Code::Unauthenticated, message.to_owned()));
    }
    if them.target != 0 && them.target != us.member {
        let message = format!("this is member {}, not {}", us.member, them.target);
        return Err((Code::InvalidArgument, message));
    }
    if them.member == us.member && them.incarnation != us.incarnation {
        let message = format!(
            "this is member {} of the group; two cannot have the same number",
            us.member
        );
        return Err((Code::InvalidArgument, message));
    }
    // One that is not known may have been added since.
    if let Some(known) = members.get_node(&them.member) {
        if known.incarnation != them.incarnation {
            let message = format!(
                "member {} of this group has another directory; one that has lost its directory is removed and \
                 added under a new number",
                them.member
            );
            return Err((Code::InvalidArgument, message));
        }
        if known.peer_address != them.peer_address {
            let message = format!(
                "member {} of this group is at {}, not at {}: two with the same directory, or one that has moved; \
                 one that moves is removed and added under a new number",
                them.member, known.peer_address, them.peer_address
            );
            return Err((Code::InvalidArgument, message));
        }
    }
    Ok(us.hello(them.member))
}

async fn answer(request: &Frame, raft: &Raft) -> Result<Vec<u8>, (Code, String)> {
    let malformed = || {
        (
            Code::InvalidArgument,
            format!("a malformed {:?}", request.header.kind),
        )
    };
    let stopped = |error: String| (Code::NotServing, error);
    let body = &request.body;
    match request.header.kind {
        FrameKind::GroupAppend => {
            let request = Take::from_bytes(body).ok_or_else(malformed)?;
            let answer = raft.append_entries(request).await;
            answer
                .map(|it| it.to_bytes())
                .map_err(|error| stopped(error.to_string()))
        }
        FrameKind::GroupVote => {
            let request = Take::from_bytes(body).ok_or_else(malformed)?;
            let answer = raft.vote(request).await;
            answer
                .map(|it| it.to_bytes())
                .map_err(|error| stopped(error.to_string()))
        }
        FrameKind::GroupSnapshot => {
            let request = SnapshotRequest::from_bytes(body).ok_or_else(malformed)?;
            let snapshot = Snapshot {
                meta: request.meta,
                snapshot: Box::new(request.data),
            };
            let answer = raft.install_full_snapshot(request.vote, snapshot).await;
            answer
                .map(|it| it.to_bytes())
                .map_err(|error| stopped(error.to_string()))
        }
        other => Err((
            Code::Unsupported,
            format!("a member does not answer {other:?}"),
        )),
    }
}
