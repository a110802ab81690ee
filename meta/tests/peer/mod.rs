//! The other side of meta's connections: an operator's link, and a node that does what it is told.

#![allow(clippy::disallowed_types, reason = "tests open sockets")]
#![allow(dead_code, reason = "each test binary uses some of it")]

use bytes::BytesMut;
use hmac::{Hmac, Mac};
use pegasus_fbs::body::{self, FailureBody};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{BODY_BYTES_MAX, Decoder, Frame, FrameKind, Header, encode_frame};
use pegasus_fbs::meta::{self, ReplicaHealth};
use pegasus_fbs::{admin, kv};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One connection.
pub(crate) struct Link {
    stream: TcpStream,
    buffer: BytesMut,
    next_id: u64,
}

impl Link {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self {
            stream,
            buffer: BytesMut::new(),
            next_id: 1,
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a request, returns its id.
    pub(crate) async fn send(&mut self, kind: FrameKind, body: &[u8], timeout_ms: u32) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let mut bytes = Vec::new();
        encode_frame(
            &mut bytes,
            &Header::request(kind, id).with_timeout_ms(timeout_ms),
            body,
        );
        self.write(&bytes).await;
        id
    }

    pub(crate) async fn reply(&mut self, id: u64) -> Frame {
        loop {
            let frame = self.frame().await.expect("meta closed the connection");
            if frame.header.request_id == id {
                return frame;
            }
        }
    }

    pub(crate) async fn ask(&mut self, kind: FrameKind, body: &[u8]) -> Frame {
        let id = self.send(kind, body, 0).await;
        self.reply(id).await
    }

    /// `None` at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Decoder::new(BODY_BYTES_MAX)
                .decode(&mut self.buffer)
                .unwrap()
            {
                return Some(frame);
            }
            let read = self.stream.read_buf(&mut self.buffer).await;
            read.ok().filter(|&read| read > 0)?;
        }
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        self.frame().await.is_none()
    }
}

/// Whether the node looks at meta's proof.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    Checked,
    Unchecked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) ballot: u64,
    pub(crate) active: bool,
    pub(crate) incarnation: u64,
    pub(crate) leads: bool,
    /// Incarnation, node, core; the primary first.
    pub(crate) members: Vec<(u64, u32, u16)>,
}

/// Which member a proposal is about.
pub(crate) type MemberName = (u64, u32, u16);

/// A node of two cores that knows what it was pushed.
pub(crate) struct FakeNode {
    link: Link,
    pub(crate) node: u32,
    pub(crate) incarnation: u64,
    pub(crate) cluster: (u64, u64),
    pub(crate) protocol: u16,
    pub(crate) digest: u64,
    /// By table and index.
    pub(crate) configurations: BTreeMap<(u32, u32), Known>,
    /// Orders to delete.
    pub(crate) drops: usize,
    /// Who learns, by table and index, as far as it concerns this node.
    pub(crate) learners: BTreeMap<(u32, u32), MemberName>,
    /// Orders to hand over: table, index, to which incarnation.
    pub(crate) handovers: Vec<(u32, u32, u64)>,
    address: SocketAddr,
}

impl FakeNode {
    /// A fresh node joins.
    pub(crate) async fn join(meta: SocketAddr, token: &[u8]) -> Self {
        let link = Link::open(meta).await;
        let address = link.stream.local_addr().unwrap();
        let mut node = Self {
            link,
            node: 0,
            incarnation: 1,
            cluster: (0, 0),
            protocol: 1,
            digest: 0,
            configurations: BTreeMap::new(),
            drops: 0,
            learners: BTreeMap::new(),
            handovers: Vec::new(),
            address,
        };
        node.join_again(meta, token).await.unwrap();
        node
    }

    pub(crate) async fn join_again(
        &mut self,
        meta: SocketAddr,
        token: &[u8],
    ) -> Result<(), FailureBody> {
        self.join_with(meta, token, Proof::Checked).await
    }

    pub(crate) async fn join_with(
        &mut self,
        meta: SocketAddr,
        token: &[u8],
        proof: Proof,
    ) -> Result<(), FailureBody> {
        let mut link = Link::open(meta).await;
        let nonce = [7; 16];
        let frame = link.ask(FrameKind::Register, &self.register(&nonce)).await;
        if frame.header.is_failure() {
            return Err(failure(&frame));
        }
        assert_eq!(frame.header.kind, FrameKind::RegisterReply);
        let reply = body::read::<meta::RegisterReply<'_>>(&frame.body).unwrap();
        let theirs = body::bytes(reply.nonce()).to_vec();
        let holds = keyed(token, b"meta", &nonce, &theirs)
            .verify_slice(body::bytes(reply.proof()))
            .is_ok();
        if proof == Proof::Checked && !holds {
            let message = "meta does not know the token".to_owned();
            return Err(FailureBody {
                code: Code::Unauthenticated,
                message,
                retry_after: std::time::Duration::ZERO,
                primary: String::new(),
                ballot: 0,
            });
        }
        (self.node, self.cluster) = (reply.node(), (reply.cluster_high(), reply.cluster_low()));
        let ours = keyed(token, b"node", &nonce, &theirs)
            .finalize()
            .into_bytes();
        link.send(FrameKind::RegisterProof, &write_proof(&ours), 0)
            .await;
        let frame = link.frame().await.expect("meta closed the connection");
        if frame.header.is_failure() {
            return Err(failure(&frame));
        }
        self.link = link;
        self.take(&frame);
        Ok(())
    }

    fn register(&self, nonce: &[u8]) -> Vec<u8> {
        let mut b = FlatBufferBuilder::new();
        let port = self.address.port();
        let addresses: Vec<_> = [1u8, 2]
            .iter()
            .map(|host| b.create_string(&format!("127.0.1.{host}:{port}")))
            .collect();
        let addresses = b.create_vector(&addresses);
        let nonce = b.create_vector(nonce);
        let host = b.create_string("here");
        let arguments = meta::RegisterArgs {
            protocol_min: self.protocol,
            protocol_max: self.protocol,
            disk_format: 1,
            cluster_high: self.cluster.0,
            cluster_low: self.cluster.1,
            node: self.node,
            node_incarnation: self.incarnation,
            nonce: Some(nonce),
            client_addresses: Some(addresses),
            peer_addresses: Some(addresses),
            cpus: None,
            stats_dir: None,
            host: Some(host),
            pid: u32::from(port),
        };
        let root = meta::Register::create(&mut b, &arguments);
        b.finish(root, None);
        b.finished_data().to_vec()
    }

    /// Of its two cores.
    pub(crate) fn client_addresses(&self) -> [SocketAddrV4; 2] {
        let port = self.address.port();
        [1, 2].map(|host| SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, host), port))
    }

    /// Waits for one frame and does what it says.
    pub(crate) async fn receive(&mut self) {
        let frame = self.link.frame().await.expect("meta closed the connection");
        self.take(&frame);
    }

    pub(crate) async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            self.receive().await;
        }
    }

    fn take(&mut self, frame: &Frame) {
        if frame.header.kind != FrameKind::Sync {
            return;
        }
        let sync = body::read::<meta::Sync<'_>>(&frame.body).unwrap();
        if sync.full() {
            self.configurations.clear();
            self.learners.clear();
        }
        self.digest = sync.digest();
        self.drops += sync.drops().map_or(0, |drops| drops.len());
        for it in sync.configurations().unwrap() {
            let id = (it.table_id(), it.partition());
            // A newer configuration ends what was learned under the one before; it is said again if it holds.
            self.configurations.remove(&id);
            self.learners.remove(&id);
            let members = it.primary().into_iter().chain(it.secondaries().unwrap());
            let members: Vec<_> = members.map(name).collect();
            if let Some(here) = members.iter().position(|it| it.1 == self.node) {
                let known = Known {
                    ballot: it.ballot(),
                    active: it.active(),
                    incarnation: members[here].0,
                    leads: here == 0,
                    members,
                };
                self.configurations.insert(id, known);
            }
        }
        for it in sync.learners().unwrap() {
            let configuration = it.configuration().unwrap();
            let id = (configuration.table_id(), configuration.partition());
            self.learners.remove(&id);
            self.learners.extend(it.learner().map(|it| (id, name(it))));
        }
        let orders = sync.handovers().unwrap().iter();
        let orders = orders.map(|it| (it.table_id(), it.partition(), it.to().incarnation()));
        self.handovers.extend(orders);
    }

    /// Says that every replica is there; primaries of active ones serve if `health` is Serving.
    pub(crate) async fn report(&mut self, health: ReplicaHealth, full: bool) {
        let mut b = FlatBufferBuilder::new();
        let mut replicas = Vec::new();
        for (&(table, index), known) in &self.configurations {
            let key = meta::ReplicaKey::new(known.incarnation, table, index);
            let health = if known.leads {
                health
            } else {
                ReplicaHealth::Ready
            };
            let arguments = meta::ReplicaReportArgs {
                key: Some(&key),
                ballot: known.ballot,
                health,
                ..Default::default()
            };
            replicas.push(meta::ReplicaReport::create(&mut b, &arguments));
        }
        for (&(table, index), learner) in &self.learners {
            if learner.1 == self.node {
                let key = meta::ReplicaKey::new(learner.0, table, index);
                let arguments = meta::ReplicaReportArgs {
                    key: Some(&key),
                    health: ReplicaHealth::Ready,
                    ..Default::default()
                };
                replicas.push(meta::ReplicaReport::create(&mut b, &arguments));
            }
        }
        let replicas = b.create_vector(&replicas);
        let arguments = meta::HeartbeatArgs {
            digest: self.digest,
            replicas: Some(replicas),
            full,
            disk_total: 2,
            disk_free: 1,
            ..Default::default()
        };
        let root = meta::Heartbeat::create(&mut b, &arguments);
        b.finish(root, None);
        let body = b.finished_data().to_vec();
        self.link.send(FrameKind::Heartbeat, &body, 0).await;
    }

    /// Says everything that it has, with the configurations it knows, and which table it is of; for a meta that is rebuilt.
    pub(crate) async fn testify(&mut self, table_name: &str, partition_count: u32) {
        let mut b = FlatBufferBuilder::new();
        let mut replicas = Vec::new();
        for (&(table, index), known) in &self.configurations {
            let key = meta::ReplicaKey::new(known.incarnation, table, index);
            let member = |it: &MemberName| pegasus_fbs::peer::Member::new(it.0, it.1, it.2);
            let primary = known.members.first().map(member);
            let secondaries: Vec<_> = known.members.iter().skip(1).map(member).collect();
            let here = known.members.iter().find(|it| it.1 == self.node);
            let arguments = pegasus_fbs::peer::ConfigurationArgs {
                table_id: table,
                partition: index,
                ballot: known.ballot,
                active: true,
                primary: primary.as_ref(),
                secondaries: Some(b.create_vector(&secondaries)),
                replica_count: 3,
                min_replicas: 2,
            };
            let configuration = pegasus_fbs::peer::Configuration::create(&mut b, &arguments);
            let arguments = meta::ReplicaReportArgs {
                key: Some(&key),
                ballot: known.ballot,
                prepared: 9,
                prepared_ballot: known.ballot,
                health: ReplicaHealth::Ready,
                core: here.map_or(u16::MAX, |it| it.2),
                configuration: Some(configuration),
                ..Default::default()
            };
            replicas.push(meta::ReplicaReport::create(&mut b, &arguments));
        }
        let arguments = meta::TableInfoArgs {
            table_id: 1,
            name: Some(b.create_string(table_name)),
            partition_count,
            replica_count: 3,
            min_replicas: 2,
            ..Default::default()
        };
        let table = meta::TableInfo::create(&mut b, &arguments);
        let arguments = meta::HeartbeatArgs {
            digest: self.digest,
            replicas: Some(b.create_vector(&replicas)),
            full: true,
            tables: Some(b.create_vector(&[table])),
            ..Default::default()
        };
        let root = meta::Heartbeat::create(&mut b, &arguments);
        b.finish(root, None);
        let body = b.finished_data().to_vec();
        self.link.send(FrameKind::Heartbeat, &body, 0).await;
    }

    /// Proposes the next ballot of the first partition that it leads; returns the partition and the ballot before.
    pub(crate) async fn propose(&mut self) -> ((u32, u32), u64) {
        let (&partition, known) = self
            .configurations
            .iter()
            .find(|(_, known)| known.leads)
            .expect("it leads nothing");
        let mut b = FlatBufferBuilder::new();
        let proposal =
            meta::Proposal::new(known.incarnation, known.ballot, partition.0, partition.1);
        let ballot = known.ballot;
        let replicas = b.create_vector(&[proposal]);
        let root = meta::ProposeNextBallot::create(
            &mut b,
            &meta::ProposeNextBallotArgs {
                replicas: Some(replicas),
            },
        );
        b.finish(root, None);
        let body = b.finished_data().to_vec();
        self.link.send(FrameKind::ProposeNextBallot, &body, 0).await;
        (partition, ballot)
    }
}

impl FakeNode {
    /// What this node's replica of `partition` wants of the ballot that it knows.
    pub(crate) async fn want(
        &mut self,
        partition: (u32, u32),
        kind: meta::ProposalKind,
        about: Option<MemberName>,
    ) {
        self.want_all(&[partition], kind, about).await;
    }

    /// The same of several partitions, in one frame.
    pub(crate) async fn want_all(
        &mut self,
        partitions: &[(u32, u32)],
        kind: meta::ProposalKind,
        about: Option<MemberName>,
    ) {
        let mut b = FlatBufferBuilder::new();
        let mut proposals = Vec::new();
        for partition in partitions {
            let known = &self.configurations[partition];
            let key = meta::ReplicaKey::new(known.incarnation, partition.0, partition.1);
            let member = about.map(|it| pegasus_fbs::peer::Member::new(it.0, it.1, it.2));
            let arguments = meta::ChangeProposalArgs {
                replica: Some(&key),
                ballot: known.ballot,
                kind,
                member: member.as_ref(),
                cause: meta::RemovalCause::Down,
                ..Default::default()
            };
            proposals.push(meta::ChangeProposal::create(&mut b, &arguments));
        }
        let proposals = Some(b.create_vector(&proposals));
        let root = meta::ProposeChange::create(&mut b, &meta::ProposeChangeArgs { proposals });
        b.finish(root, None);
        let body = b.finished_data().to_vec();
        self.link.send(FrameKind::ProposeChange, &body, 0).await;
    }
}

fn name(member: &pegasus_fbs::peer::Member) -> MemberName {
    (member.incarnation(), member.node(), member.core())
}

fn keyed(token: &[u8], role: &[u8], node: &[u8], meta: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(token).unwrap();
    [role, node, meta]
        .into_iter()
        .for_each(|part| mac.update(part));
    mac
}

fn write_proof(proof: &[u8]) -> Vec<u8> {
    let mut b = FlatBufferBuilder::new();
    let proof = b.create_vector(proof);
    let root = meta::RegisterProof::create(&mut b, &meta::RegisterProofArgs { proof: Some(proof) });
    b.finish(root, None);
    b.finished_data().to_vec()
}

pub(crate) fn frame(kind: FrameKind, id: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, &Header::request(kind, id), body);
    bytes
}

pub(crate) fn failure(frame: &Frame) -> FailureBody {
    assert!(
        frame.header.is_failure(),
        "{:?} succeeded",
        frame.header.kind
    );
    FailureBody::read(&frame.body).unwrap()
}

pub(crate) fn create_table(name: &str, partition_count: u32, replica_count: u32) -> Vec<u8> {
    let mut b = FlatBufferBuilder::new();
    let name = Some(b.create_string(name));
    let arguments = admin::CreateTableArgs {
        name,
        partition_count,
        replica_count,
        allow_degraded: false,
    };
    let root = admin::CreateTable::create(&mut b, &arguments);
    b.finish(root, None);
    b.finished_data().to_vec()
}

pub(crate) fn drop_table(name: &str) -> Vec<u8> {
    let mut b = FlatBufferBuilder::new();
    let name = Some(b.create_string(name));
    let reserve_seconds = 0;
    let arguments = admin::DropTableArgs {
        name,
        reserve_seconds,
    };
    let root = admin::DropTable::create(&mut b, &arguments);
    b.finish(root, None);
    b.finished_data().to_vec()
}

pub(crate) fn show_table(name: &str) -> Vec<u8> {
    let mut b = FlatBufferBuilder::new();
    let name = Some(b.create_string(name));
    let root = admin::ShowTable::create(&mut b, &admin::ShowTableArgs { name });
    b.finish(root, None);
    b.finished_data().to_vec()
}

pub(crate) fn route(name: &str) -> Vec<u8> {
    let mut b = FlatBufferBuilder::new();
    let table_name = Some(b.create_string(name));
    let root = kv::RouteRequest::create(&mut b, &kv::RouteRequestArgs { table_name });
    b.finish(root, None);
    b.finished_data().to_vec()
}

pub(crate) fn move_primary(table: &str, partition: u32, node: u32) -> Vec<u8> {
    let mut b = FlatBufferBuilder::new();
    let table_name = Some(b.create_string(table));
    let arguments = admin::MovePrimaryArgs {
        table_name,
        partition,
        node,
    };
    let root = admin::MovePrimary::create(&mut b, &arguments);
    b.finish(root, None);
    b.finished_data().to_vec()
}

pub(crate) fn drain_node(node: u32, move_replicas: bool) -> Vec<u8> {
    let mut b = FlatBufferBuilder::new();
    let arguments = admin::DrainNodeArgs {
        node,
        move_replicas,
    };
    let root = admin::DrainNode::create(&mut b, &arguments);
    b.finish(root, None);
    b.finished_data().to_vec()
}
