//! One connection to meta: registration with mutual proof of the cluster token, then frames in both directions.

use super::MetaMail;
use crate::connection::Connection;
use crate::data_dir::{ClusterId, DISK_FORMAT};
use crossbeam_channel::Sender;
use hmac::{Hmac, Mac};
use pegasus_fbs::body::{self, FailureBody};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use pegasus_fbs::frame::{Frame, FrameKind};
use pegasus_fbs::meta;
use pegasus_replication::ids::{NodeId, NodeIncarnation};
use sha2::Sha256;
use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

/// Version of the protocol between nodes and meta.
pub(super) const PROTOCOL: u16 = 1;
const NONCE_BYTES: usize = 16;
/// For each frame of the registration, and for a heartbeat to leave.
const FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// The same where there are other metas to ask.
const FRAME_TIMEOUT_OF_MANY: Duration = Duration::from_secs(1);

/// How this node introduces itself.
#[derive(Clone)]
pub struct LinkIdentity {
    /// `None`: a fresh directory joins whatever cluster this is.
    pub cluster: Option<ClusterId>,
    pub node: Option<NodeId>,
    pub incarnation: NodeIncarnation,
    pub token: Vec<u8>,
    /// By core number, as others connect to them.
    pub client_addresses: Vec<SocketAddr>,
    pub peer_addresses: Vec<SocketAddr>,
    pub cpus: Vec<u32>,
    pub stats_dir: String,
    pub host: String,
}

/// What meta said at registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    pub meta: SocketAddr,
    pub cluster: ClusterId,
    pub node: NodeId,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("meta {meta}: {error}")]
    Io { meta: SocketAddr, error: io::Error },
    #[error("meta {meta}: {reason}")]
    Protocol { meta: SocketAddr, reason: String },
    #[error("meta {meta}: {code}: {message}")]
    Refused {
        meta: SocketAddr,
        code: Code,
        message: String,
        /// The meta that leads, if this one does not and knows.
        leader: Option<SocketAddr>,
    },
    #[error("meta {meta}: it does not know this cluster's token")]
    Unproven { meta: SocketAddr },
    #[error("meta {meta}: it is cluster {theirs}, node {node}; this node is of cluster {ours}")]
    Foreign {
        meta: SocketAddr,
        ours: ClusterId,
        theirs: ClusterId,
        node: NodeId,
    },
    #[error("no meta server is configured")]
    NoAddress,
    #[error("stopped while waiting for meta")]
    Stopped,
}

impl SessionError {
    /// Trying again will not help: somebody has to change something.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Refused { code, .. } => {
                matches!(
                    code,
                    Code::WrongCluster
                        | Code::Incompatible
                        | Code::Unauthenticated
                        | Code::InvalidArgument
                )
            }
            Self::Unproven { .. } | Self::Foreign { .. } | Self::NoAddress | Self::Stopped => true,
            Self::Io { .. } | Self::Protocol { .. } => false,
        }
    }

    /// The meta to ask instead.
    const fn leader(&self) -> Option<SocketAddr> {
        match self {
            Self::Refused {
                code: Code::NotPrimary,
                leader,
                ..
            } => *leader,
            _ => None,
        }
    }
}

impl LinkIdentity {
    /// A node never follows another cluster's meta, nor one that gives it another number.
    pub(super) fn refuse_change(&self, registered: &Registered) -> Result<(), SessionError> {
        let Registered {
            meta,
            cluster,
            node,
        } = *registered;
        match self.cluster {
            Some(ours) if ours != cluster || self.node.is_some_and(|ours| ours != node) => {
                Err(SessionError::Foreign {
                    meta,
                    ours,
                    theirs: cluster,
                    node,
                })
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for LinkIdentity {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkIdentity")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

/// Registers with the meta that leads: asks one after the other, and follows whoever names the leader.
pub(super) fn register(
    addresses: &[SocketAddr],
    identity: &LinkIdentity,
) -> Result<(Connection, Registered), SessionError> {
    let timeout = if addresses.len() > 1 {
        FRAME_TIMEOUT_OF_MANY
    } else {
        FRAME_TIMEOUT
    };
    let mut last = SessionError::NoAddress;
    let mut asked = Vec::new();
    for meta in addresses {
        let mut next = Some(*meta);
        while let Some(meta) = next.take().filter(|it| !asked.contains(it)) {
            asked.push(meta);
            match register_at(meta, identity, timeout) {
                Ok(registered) => return Ok(registered),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    next = error.leader();
                    last = error;
                }
            }
        }
    }
    Err(last)
}

fn register_at(
    meta: SocketAddr,
    identity: &LinkIdentity,
    timeout: Duration,
) -> Result<(Connection, Registered), SessionError> {
    let io_error = |error| SessionError::Io { meta, error };
    let malformed = |error: body::BodyError| SessionError::Protocol {
        meta,
        reason: error.to_string(),
    };
    let mut connection = Connection::open(meta, timeout).map_err(io_error)?;
    let nonce: [u8; NONCE_BYTES] = rand::random();
    connection
        .send(FrameKind::Register, &write_register(identity, &nonce))
        .map_err(io_error)?;
    let frame = connection.receive().map_err(io_error)?;
    if frame.header.is_failure() {
        let failure = FailureBody::read(&frame.body).map_err(malformed)?;
        return Err(SessionError::Refused {
            meta,
            code: failure.code,
            message: failure.message,
            leader: failure.primary.parse().ok(),
        });
    }
    if frame.header.kind != FrameKind::RegisterReply {
        let reason = format!("it answered a registration by {:?}", frame.header.kind);
        return Err(SessionError::Protocol { meta, reason });
    }
    let reply = body::read::<meta::RegisterReply<'_>>(&frame.body).map_err(malformed)?;
    let theirs = body::bytes(reply.nonce());
    let mac = keyed(&identity.token, b"meta", &nonce, theirs);
    if mac.verify_slice(body::bytes(reply.proof())).is_err() {
        return Err(SessionError::Unproven { meta });
    }
    let cluster =
        ClusterId(u128::from(reply.cluster_high()) << 64 | u128::from(reply.cluster_low()));
    let registered = Registered {
        meta,
        cluster,
        node: NodeId(reply.node()),
    };
    identity.refuse_change(&registered)?;
    let proof = keyed(&identity.token, b"node", &nonce, theirs)
        .finalize()
        .into_bytes();
    connection
        .send(FrameKind::RegisterProof, &write_proof(&proof))
        .map_err(io_error)?;
    Ok((connection, registered))
}

fn keyed(token: &[u8], role: &[u8], node_nonce: &[u8], meta_nonce: &[u8]) -> Hmac<Sha256> {
    // An HMAC takes a key of any length, the empty one included.
    let mut mac = Hmac::<Sha256>::new_from_slice(token).expect("HMAC takes keys of any length");
    for part in [role, node_nonce, meta_nonce] {
        mac.update(part);
    }
    mac
}

fn write_register(identity: &LinkIdentity, nonce: &[u8]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let clients = write_addresses(&mut builder, &identity.client_addresses);
    let peers = write_addresses(&mut builder, &identity.peer_addresses);
    let cpus = builder.create_vector(&identity.cpus);
    let nonce = builder.create_vector(nonce);
    let stats_dir = builder.create_string(&identity.stats_dir);
    let host = builder.create_string(&identity.host);
    let cluster = identity.cluster.map_or(0, |cluster| cluster.0);
    let low_mask = u128::from(u64::MAX);
    let arguments = meta::RegisterArgs {
        protocol_min: PROTOCOL,
        protocol_max: PROTOCOL,
        disk_format: DISK_FORMAT,
        cluster_high: u64::try_from(cluster >> 64).unwrap_or_default(),
        cluster_low: u64::try_from(cluster & low_mask).unwrap_or_default(),
        node: identity.node.map_or(0, |node| node.0),
        node_incarnation: identity.incarnation.0,
        nonce: Some(nonce),
        client_addresses: Some(clients),
        peer_addresses: Some(peers),
        cpus: Some(cpus),
        stats_dir: Some(stats_dir),
        host: Some(host),
        pid: std::process::id(),
    };
    let root = meta::Register::create(&mut builder, &arguments);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

fn write_addresses<'a>(
    builder: &mut FlatBufferBuilder<'a>,
    addresses: &[SocketAddr],
) -> WIPOffset<Vector<'a, ForwardsUOffset<&'a str>>> {
    let texts: Vec<WIPOffset<&str>> = addresses
        .iter()
        .map(|address| builder.create_string(&address.to_string()))
        .collect();
    builder.create_vector(&texts)
}

fn write_proof(proof: &[u8]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let proof = builder.create_vector(proof);
    let root = meta::RegisterProof::create(
        &mut builder,
        &meta::RegisterProofArgs { proof: Some(proof) },
    );
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

/// A registered connection whose incoming frames are read by a thread of its own.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) number: u64,
    writer: Connection,
    reader: Option<JoinHandle<()>>,
}

impl Session {
    pub(super) fn start(
        mut connection: Connection,
        number: u64,
        letters: Sender<MetaMail>,
    ) -> Result<Self, SessionError> {
        let meta = connection
            .peer_address()
            .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let io_error = |error| SessionError::Io { meta, error };
        let mut reading = connection.split_reader().map_err(io_error)?;
        let read = move || {
            let error = loop {
                let mail = match reading.receive() {
                    Ok(frame) if frame.header.is_failure() => break failure_text(&frame),
                    Ok(Frame { header, body }) => MetaMail::Frame {
                        session: number,
                        kind: header.kind,
                        body,
                    },
                    Err(error) => break error.to_string(),
                };
                if letters.send(mail).is_err() {
                    return;
                }
            };
            let _ = letters.send(MetaMail::Lost {
                session: number,
                error,
            });
        };
        let reader = std::thread::Builder::new()
            .name("meta-read".to_owned())
            .spawn(read)
            .map_err(io_error)?;
        Ok(Self {
            number,
            writer: connection,
            reader: Some(reader),
        })
    }

    pub(super) fn send(&mut self, kind: FrameKind, body: &[u8]) -> io::Result<()> {
        self.writer.send(kind, body).map(|_| ())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.writer.shutdown();
        // Not joined: it ends by itself at once, unless the mailbox is full, which this very thread would have to empty.
        drop(self.reader.take());
    }
}

fn failure_text(frame: &Frame) -> String {
    match FailureBody::read(&frame.body) {
        Ok(failure) => format!("{}: {}", failure.code, failure.message),
        Err(error) => error.to_string(),
    }
}
