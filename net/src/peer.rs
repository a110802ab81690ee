//! Links to other nodes' cores.
//!
//! Between two cores there is **one duplex link**, whoever dialled it; frames of a link arrive in order, and each side
//! learns of its end. So `PeerUp` means the same on both sides: whatever was sent before, in either direction, may be
//! lost. Either side dials when it wants the link, at once and then with growing pauses. Two rules keep crossing dials
//! from ending with two links, or none:
//!
//! - a hello from a peer that this core is dialling: the dial of the core with the smaller (node, core) goes on, the
//!   other one ends;
//! - a proven newer link takes the place of an older one, because its dialler has given the older one up.
//!
//! ```text
//!  dialler                 listener
//!  Connecting
//!  HelloSent   --Hello-->  AwaitHello
//!              <--HelloReply-- HelloReceived     who it is, and proof of the token
//!  Up          --HelloProof--> Up
//! ```

#[cfg(any(test, feature = "fuzzing"))]
pub mod any_bytes;
pub mod handshake;

use crate::connection::ConnectionId;
use crate::options::PeerId;
use handshake::{Nonce, Nonces};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes of the body of one frame between peers.
pub const PEER_BODY_BYTES_MAX: usize = 16 << 20;
/// Before a peer has proven who it is, it gets no more memory than this.
pub(crate) const HANDSHAKE_BODY_BYTES_MAX: usize = 4 << 10;
/// From the dial, or from accepting, to the last frame of the handshake.
pub(crate) const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Where a peer connection stands.
#[derive(Debug)]
pub(crate) enum Stage {
    Connecting {
        peer: PeerId,
    },
    HelloSent {
        peer: PeerId,
        nonce: Nonce,
    },
    AwaitHello,
    HelloReceived {
        peer: PeerId,
        node_incarnation: u64,
        nonces: Nonces,
    },
    Up {
        peer: PeerId,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    Down,
    Dialling(ConnectionId),
    Up(ConnectionId),
}

/// What this core knows of its link to one peer core.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where to dial; `None` = not wanted from this side.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) state: LinkState,
    /// A connection of the peer that has sent its hello and not its proof.
    pub(crate) incoming: Option<ConnectionId>,
    /// Failed dials since the link was last up.
    attempts: u32,
    /// A dial is due later.
    pub(crate) scheduled: bool,
    /// The last refusal, so that it is logged once and not with each dial.
    pub(crate) refusal: Option<String>,
}

impl Link {
    const fn new() -> Self {
        Self {
            address: None,
            state: LinkState::Down,
            incoming: None,
            attempts: 0,
            scheduled: false,
            refusal: None,
        }
    }

    /// Whether a dial would make sense now.
    pub(crate) fn wants_dial(&self) -> Option<SocketAddr> {
        let idle = self.state == LinkState::Down && self.incoming.is_none();
        self.address.filter(|_| idle)
    }

    /// The next dial goes out at once.
    pub(crate) const fn reset_pause(&mut self) {
        self.attempts = 0;
    }

    /// The pause before the next dial: none after a link was up, then from 10 ms doubling to 1 s. The jitter comes from
    /// the two names and the attempt: different for each pair, the same in each run.
    pub(crate) fn next_pause(&mut self, own: PeerId, peer: PeerId) -> Duration {
        let attempt = self.attempts;
        self.attempts = attempt.saturating_add(1);
        if attempt == 0 {
            return Duration::ZERO;
        }
        let pause_us = PAUSE_FIRST_US << (attempt - 1).min(PAUSE_DOUBLINGS_MAX);
        let seed =
            u64::from(own.node) << 48 ^ u64::from(own.core) << 40 ^ u64::from(peer.node) << 16;
        let mixed = mix(seed ^ u64::from(peer.core) << 8 ^ u64::from(attempt));
        Duration::from_micros(pause_us + mixed % (pause_us / 2))
    }
}

const PAUSE_FIRST_US: u64 = 10_000;
const PAUSE_DOUBLINGS_MAX: u32 = 6;

/// splitmix64's finisher: spreads neighbouring seeds.
const fn mix(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

/// All links of a core.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: HashMap<PeerId, Link>,
}

impl Links {
    pub(crate) fn entry(&mut self, peer: PeerId) -> &mut Link {
        self.links.entry(peer).or_insert_with(Link::new)
    }

    pub(crate) fn get_mut(&mut self, peer: PeerId) -> Option<&mut Link> {
        self.links.get_mut(&peer)
    }

    pub(crate) fn peers(&self) -> Vec<PeerId> {
        self.links.keys().copied().collect()
    }

    /// The connection of a link that is up.
    pub(crate) fn up(&self, peer: PeerId) -> Option<ConnectionId> {
        match self.links.get(&peer)?.state {
            LinkState::Up(connection) => Some(connection),
            LinkState::Down | LinkState::Dialling(_) => None,
        }
    }

    /// Drops what is left of a peer that neither side uses: links are bounded by the peers that meta names.
    pub(crate) fn forget_if_unused(&mut self, peer: PeerId) {
        let unused = self.links.get(&peer).is_some_and(|link| {
            link.address.is_none() && link.state == LinkState::Down && link.incoming.is_none()
        });
        if unused {
            self.links.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_redial_is_immediate_and_later_ones_wait_up_to_a_second() {
        let mut link = Link::new();
        let (own, peer) = (PeerId { node: 1, core: 0 }, PeerId { node: 2, core: 1 });
        let pauses: Vec<Duration> = (0..20).map(|_| link.next_pause(own, peer)).collect();
        assert_eq!(pauses[0], Duration::ZERO);
        assert!(pauses[1] >= Duration::from_millis(10) && pauses[1] < Duration::from_millis(15));
        assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(1)));
        link.reset_pause();
        assert_eq!(link.next_pause(own, peer), Duration::ZERO);
    }

    #[test]
    fn two_cores_that_lose_each_other_do_not_dial_in_step() {
        let (own, peer) = (PeerId { node: 1, core: 0 }, PeerId { node: 2, core: 0 });
        let (mut here, mut there) = (Link::new(), Link::new());
        let pauses = (0..8).map(|_| (here.next_pause(own, peer), there.next_pause(peer, own)));
        assert!(pauses.skip(1).all(|(here, there)| here != there));
    }
}
