//! What happens on peer ports: dialling, the handshake, links that come and go. The rules are in [`crate::peer`].

use super::timers::Timer;
use super::{Audience, CoreIo, IoEvent, NotConnected};
use crate::connection::{Connection, ConnectionId, Role};
use crate::counters::CloseReason;
use crate::listener::{is_self_connection, outgoing, prepare_peer_listener};
use crate::options::{Identity, PeerId};
use crate::peer::handshake::{Handshaker, Nonces, Refusal};
use crate::peer::{
    HANDSHAKE_BODY_BYTES_MAX, HANDSHAKE_WAIT_MAX, LinkState, PEER_BODY_BYTES_MAX, Stage,
};
use pegasus_fbs::body::FailureBody;
use pegasus_fbs::frame::{
    DecodeError, Decoder, FLAG_FAILURE, Frame, FrameKind, Header, encode_frame,
};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Why the handling of one frame does not lead to the next: `None` = more bytes are needed.
type Stopped = Option<CloseReason>;

impl CoreIo {
    /// Serves peers on a socket made by [`crate::listener::bind`], and says who this core is: nobody is dialled before.
    /// Called once.
    ///
    /// # Errors
    /// When the token is empty and the address is not loopback, or the socket refuses an option.
    pub fn start_peers(&mut self, listener: TcpListener, identity: Identity) -> io::Result<()> {
        assert!(self.handshaker.is_none(), "peers are started once");
        let address = listener.local_addr()?;
        if identity.token.is_empty() && !address.ip().is_loopback() {
            let sentence =
                format!("peer port {address} is not loopback: a cluster token is needed");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        }
        prepare_peer_listener(&listener)?;
        self.handshaker = Some(Handshaker::new(identity)?);
        self.own_peer_address = Some(address);
        self.listen(listener, Audience::Peers);
        for peer in self.links.peers() {
            self.schedule_dial(peer);
        }
        Ok(())
    }

    /// Wants a link to `peer`, whose peer port is `address`: dials at once, and again whenever the link breaks. The other
    /// side may dial as well; one link stays. Calling it again changes the address of the next dial. This core itself is
    /// ignored, and so is an address outside loopback while the token is empty.
    pub fn connect_peer(&mut self, peer: PeerId, address: SocketAddr) {
        let own = self
            .handshaker
            .as_ref()
            .map(|handshaker| handshaker.identity().id());
        if own == Some(peer) || self.own_peer_address == Some(address) {
            tracing::warn!(%peer, %address, "a core does not dial itself");
            return;
        }
        let link = self.links.entry(peer);
        if link.address != Some(address) {
            link.address = Some(address);
            link.reset_pause();
        }
        self.schedule_dial(peer);
    }

    /// No longer wants a link to `peer`: closes it and dials no more. The peer may dial again.
    pub fn forget_peer(&mut self, peer: PeerId) {
        let Some(link) = self.links.get_mut(peer) else {
            return;
        };
        link.address = None;
        match link.state {
            LinkState::Up(id) | LinkState::Dialling(id) => self.close(id, CloseReason::Closed),
            LinkState::Down => self.links.forget_if_unused(peer),
        }
    }

    /// Queues a frame; all frames of a turn leave in one send, in order. A peer that lets `output_bytes_max` pile up is
    /// cut off: callers keep their own, smaller window.
    ///
    /// # Errors
    /// When there is no link; its `PeerDown` has been or will be reported.
    ///
    /// # Panics
    /// If `kind` has no business on a link or `body` is over [`PEER_BODY_BYTES_MAX`].
    pub fn send_peer(
        &mut self,
        peer: PeerId,
        kind: FrameKind,
        body: &[u8],
    ) -> Result<(), NotConnected> {
        assert!(travels_on_links(kind), "{kind:?} sent to a peer");
        assert!(
            body.len() <= PEER_BODY_BYTES_MAX,
            "{kind:?} of {} bytes sent to a peer",
            body.len()
        );
        let id = self.links.up(peer).ok_or(NotConnected { peer })?;
        self.counters.peer_frames_out += 1;
        self.queue_frame(id, &Header::request(kind, 0), body);
        Ok(())
    }

    #[must_use]
    pub fn is_peer_up(&self, peer: PeerId) -> bool {
        self.links.up(peer).is_some()
    }

    /// Bytes queued towards a peer and not taken by the kernel yet; 0 without a link.
    #[must_use]
    pub fn peer_queued_bytes(&self, peer: PeerId) -> usize {
        self.links
            .up(peer)
            .and_then(|id| self.connections.get(id))
            .map_or(0, Connection::queued_bytes)
    }

    fn queue_frame(&mut self, id: ConnectionId, header: &Header, body: &[u8]) {
        let Some(connection) = self
            .connections
            .get_mut(id)
            .filter(|connection| !connection.closing)
        else {
            return;
        };
        if connection.output.capacity() == 0 {
            connection.output = self.outputs.take();
        }
        let before = connection.output.len();
        encode_frame(&mut connection.output, header, body);
        let added = connection.output.len() - before;
        self.note_output(id, added);
    }

    // --- dialling ---

    /// Dials at once or after the pause that is due, if there is anything to dial.
    fn schedule_dial(&mut self, peer: PeerId) {
        let Some(own) = self
            .handshaker
            .as_ref()
            .map(|handshaker| handshaker.identity().id())
        else {
            return;
        };
        let Some(link) = self
            .links
            .get_mut(peer)
            .filter(|link| !link.scheduled && link.wants_dial().is_some())
        else {
            return;
        };
        link.scheduled = true;
        let pause: Duration = link.next_pause(own, peer);
        self.timers.set(Instant::now() + pause, Timer::Dial(peer));
    }

    pub(super) fn handle_dial_due(&mut self, peer: PeerId) {
        let Some(link) = self.links.get_mut(peer) else {
            return;
        };
        link.scheduled = false;
        let Some(address) = link.wants_dial() else {
            return;
        };
        if let Err(error) = self.dial(peer, address) {
            tracing::warn!(%peer, %address, %error, "cannot dial");
            self.schedule_dial(peer);
        }
    }

    fn dial(&mut self, peer: PeerId, address: SocketAddr) -> io::Result<()> {
        let handshaker = self
            .handshaker
            .as_ref()
            .ok_or(io::ErrorKind::NotConnected)?;
        if handshaker.identity().token.is_empty() && !address.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not loopback: a cluster token is needed",
            ));
        }
        let socket = outgoing(address, &self.options.outgoing_ports)?;
        self.counters.dialled += 1;
        let id = self.connections.insert(Connection::new(
            socket,
            Role::Peer(Stage::Connecting { peer }),
        ));
        if let Some(connection) = self.connections.get_mut(id) {
            connection.connecting = Some(self.ring.connect(
                &connection.socket,
                address.into(),
                id.token(),
            ));
        }
        self.links.entry(peer).state = LinkState::Dialling(id);
        self.timers
            .set(Instant::now() + HANDSHAKE_WAIT_MAX, Timer::Handshake(id));
        Ok(())
    }

    pub(super) fn handle_connected(&mut self, id: ConnectionId, result: io::Result<()>) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        connection.connecting = None;
        if connection.closing {
            self.remove_if_done(id);
            return;
        }
        if let Err(error) = result {
            if let (io::ErrorKind::ConnectionRefused, Role::Peer(Stage::Connecting { peer })) =
                (error.kind(), &connection.role)
            {
                self.events.push(IoEvent::PeerRefused { peer: *peer });
            }
            self.close(id, CloseReason::SocketError);
            return;
        }
        let (Role::Peer(Stage::Connecting { peer }), Some(handshaker)) =
            (&connection.role, &mut self.handshaker)
        else {
            return;
        };
        let peer = *peer;
        if is_self_connection(&connection.socket) {
            self.close(id, CloseReason::Refused);
            return;
        }
        let Ok(nonce) = handshaker.nonce() else {
            self.close(id, CloseReason::Closed);
            return;
        };
        connection.role = Role::Peer(Stage::HelloSent { peer, nonce });
        let hello = handshaker.hello(peer, &nonce);
        self.queue_frame(id, &Header::request(FrameKind::Hello, 0), &hello);
        self.arm_receive(id);
    }

    pub(super) fn handle_handshake_timeout(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if !matches!(connection.role, Role::Peer(Stage::Up { .. })) {
            self.close(id, CloseReason::HandshakeTimeout);
        }
    }

    // --- frames ---

    /// One frame of a peer.
    pub(super) fn decode_peer_frame(&mut self, id: ConnectionId) -> Result<(), Stopped> {
        let Some(connection) = self.connections.get_mut(id) else {
            return Err(None);
        };
        let Role::Peer(stage) = &connection.role else {
            return Err(None);
        };
        if connection.close_when_sent.is_some() {
            connection.input.clear();
            return Err(None);
        }
        let is_up = matches!(stage, Stage::Up { .. });
        let decoder = Decoder::new(if is_up {
            PEER_BODY_BYTES_MAX
        } else {
            HANDSHAKE_BODY_BYTES_MAX
        });
        match decoder.decode(&mut connection.input) {
            Ok(None) => Err(None),
            Ok(Some(frame)) => self.handle_peer_frame(id, frame).map_err(Some),
            Err(DecodeError::TooLarge { .. }) => Err(Some(CloseReason::FrameTooLarge)),
            Err(_) => Err(Some(CloseReason::BadFrame)),
        }
    }

    fn handle_peer_frame(&mut self, id: ConnectionId, frame: Frame) -> Result<(), CloseReason> {
        let Some(Connection {
            role: Role::Peer(stage),
            ..
        }) = self.connections.get_mut(id).map(|found| &*found)
        else {
            return Err(CloseReason::Closed);
        };
        match (stage, frame.header.kind) {
            (Stage::Up { peer }, kind) if travels_on_links(kind) => {
                self.counters.peer_frames_in += 1;
                self.events.push(IoEvent::PeerFrame {
                    from: *peer,
                    kind,
                    body: frame.body,
                });
                Ok(())
            }
            (Stage::AwaitHello, FrameKind::Hello) => self.on_hello(id, &frame.body),
            (Stage::HelloSent { peer, .. }, FrameKind::HelloReply)
                if frame.header.flags & FLAG_FAILURE != 0 =>
            {
                let peer = *peer;
                self.on_refused(peer, &frame.body)
            }
            (Stage::HelloSent { peer, nonce }, FrameKind::HelloReply) => {
                let (peer, nonce) = (*peer, *nonce);
                self.on_hello_reply(id, peer, nonce, &frame.body)
            }
            (
                Stage::HelloReceived {
                    peer,
                    node_incarnation,
                    nonces,
                },
                FrameKind::HelloProof,
            ) => {
                let (peer, node_incarnation, nonces) = (*peer, *node_incarnation, *nonces);
                self.on_hello_proof(id, peer, node_incarnation, &nonces, &frame.body)
            }
            _ => Err(CloseReason::ForeignKind),
        }
    }

    fn on_hello(&mut self, id: ConnectionId, body: &[u8]) -> Result<(), CloseReason> {
        let handshaker = self.handshaker.as_mut().ok_or(CloseReason::Closed)?;
        let own = handshaker.identity().id();
        let introduction = match handshaker.check_hello(body) {
            Ok(introduction) => introduction,
            Err(refusal) => return self.refuse(id, None, &refusal),
        };
        let listener = handshaker.nonce().map_err(|_| CloseReason::Closed)?;
        let nonces = Nonces {
            dialler: introduction.nonce,
            listener,
        };
        let reply = handshaker.reply(introduction.peer, &nonces);
        let peer = introduction.peer;
        let link = self.links.entry(peer);
        let own_dial = match link.state {
            LinkState::Dialling(_) if own < peer => return Err(CloseReason::Crossed),
            LinkState::Dialling(dial) => Some(dial),
            LinkState::Down | LinkState::Up(_) => None,
        };
        let earlier = link.incoming.replace(id);
        if let Some(connection) = self.connections.get_mut(id) {
            let node_incarnation = introduction.node_incarnation;
            connection.role = Role::Peer(Stage::HelloReceived {
                peer,
                node_incarnation,
                nonces,
            });
        }
        if let Some(dial) = own_dial {
            self.close(dial, CloseReason::Crossed);
        }
        if let Some(earlier) = earlier {
            self.close(earlier, CloseReason::Replaced);
        }
        self.queue_frame(
            id,
            &Header::request(FrameKind::HelloReply, 0).reply(),
            &reply,
        );
        Ok(())
    }

    fn on_hello_reply(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        nonce: crate::peer::handshake::Nonce,
        body: &[u8],
    ) -> Result<(), CloseReason> {
        let handshaker = self.handshaker.as_ref().ok_or(CloseReason::Closed)?;
        match handshaker.check_reply(body, peer, nonce) {
            Ok((introduction, nonces)) => {
                let proof = handshaker.proof(&nonces);
                self.queue_frame(id, &Header::request(FrameKind::HelloProof, 0), &proof);
                self.link_up(id, peer, introduction.node_incarnation);
                Ok(())
            }
            Err(refusal) => {
                self.note_refusal(peer, &refusal.sentence);
                Err(CloseReason::Refused)
            }
        }
    }

    fn on_hello_proof(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        node_incarnation: u64,
        nonces: &Nonces,
        body: &[u8],
    ) -> Result<(), CloseReason> {
        let handshaker = self.handshaker.as_ref().ok_or(CloseReason::Closed)?;
        if let Err(refusal) = handshaker.check_proof(body, nonces) {
            return self.refuse(id, Some(peer), &refusal);
        }
        self.link_up(id, peer, node_incarnation);
        Ok(())
    }

    /// The dialler reads why it is not wanted.
    fn on_refused(&mut self, peer: PeerId, body: &[u8]) -> Result<(), CloseReason> {
        let sentence = FailureBody::read(body)
            .map_or_else(|error| error.to_string(), |failure| failure.message);
        self.note_refusal(peer, &sentence);
        Err(CloseReason::Refused)
    }

    /// The listener says why the dialler is not wanted, then closes.
    fn refuse(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        refusal: &Refusal,
    ) -> Result<(), CloseReason> {
        match peer {
            Some(peer) => self.note_refusal(peer, &refusal.sentence),
            None => tracing::warn!(reason = %refusal.sentence, "refused a peer"),
        }
        let body = FailureBody {
            code: refusal.code,
            message: refusal.sentence.clone(),
            retry_after: Duration::ZERO,
            primary: String::new(),
            ballot: 0,
        };
        let header = Header::request(FrameKind::HelloReply, 0).failure();
        let mut builder = pegasus_fbs::flatbuffers::FlatBufferBuilder::new();
        self.queue_frame(id, &header, body.write(&mut builder));
        if let Some(connection) = self.connections.get_mut(id) {
            connection.close_when_sent = Some(CloseReason::Refused);
        }
        Ok(())
    }

    fn note_refusal(&mut self, peer: PeerId, sentence: &str) {
        let link = self.links.entry(peer);
        if link.refusal.as_deref() != Some(sentence) {
            tracing::warn!(%peer, reason = %sentence, "no link to this peer");
            link.refusal = Some(sentence.to_owned());
        }
    }

    // --- links ---

    fn link_up(&mut self, id: ConnectionId, peer: PeerId, node_incarnation: u64) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.role = Role::Peer(Stage::Up { peer });
        }
        let link = self.links.entry(peer);
        let earlier = std::mem::replace(&mut link.state, LinkState::Up(id));
        link.incoming = link.incoming.filter(|incoming| *incoming != id);
        link.refusal = None;
        link.reset_pause();
        match earlier {
            LinkState::Up(earlier) => self.close(earlier, CloseReason::Replaced),
            LinkState::Dialling(dial) if dial != id => self.close(dial, CloseReason::Crossed),
            LinkState::Dialling(_) | LinkState::Down => {}
        }
        self.events.push(IoEvent::PeerUp {
            peer,
            node_incarnation,
        });
    }

    /// A peer connection has been closed: tells it, and dials again if it is wanted.
    pub(super) fn handle_peer_closed(
        &mut self,
        id: ConnectionId,
        stage: &Stage,
        reason: CloseReason,
    ) {
        let peer = match stage {
            Stage::AwaitHello => return,
            Stage::Up { peer } => {
                self.events.push(IoEvent::PeerDown {
                    peer: *peer,
                    reason,
                });
                *peer
            }
            Stage::Connecting { peer }
            | Stage::HelloSent { peer, .. }
            | Stage::HelloReceived { peer, .. } => *peer,
        };
        let Some(link) = self.links.get_mut(peer) else {
            return;
        };
        if link.state == LinkState::Up(id) || link.state == LinkState::Dialling(id) {
            link.state = LinkState::Down;
        }
        link.incoming = link.incoming.filter(|incoming| *incoming != id);
        self.schedule_dial(peer);
        self.links.forget_if_unused(peer);
    }
}

/// Replication's frames and forwarded commands: everything after the handshake.
fn travels_on_links(kind: FrameKind) -> bool {
    (FrameKind::Prepare.number()..=FrameKind::ForwardReply.number()).contains(&kind.number())
}
