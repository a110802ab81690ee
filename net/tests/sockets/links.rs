use crate::harness::{Client, Core, PATIENCE, free_listener, options};
use pegasus_fbs::frame::{FrameKind, Header, encode_frame};
use pegasus_net::counters::CloseReason;
use pegasus_net::{Identity, IoEvent, LeaseTerms, NetOptions, PeerId};
use std::net::SocketAddr;

const ONE: PeerId = PeerId { node: 1, core: 0 };
const TWO: PeerId = PeerId { node: 2, core: 3 };

fn identity(id: PeerId) -> Identity {
    Identity {
        cluster: 77,
        node: id.node,
        core: id.core,
        node_incarnation: 5,
        disk_format: 1,
        token: b"secret".to_vec(),
        leases: LeaseTerms::default(),
    }
}

struct Peer {
    core: Core,
    address: SocketAddr,
}

fn start(identity: Identity) -> Peer {
    start_at(free_listener(), identity)
}

fn start_at(listener: std::net::TcpListener, identity: Identity) -> Peer {
    start_with(listener, identity, options())
}

fn start_with(listener: std::net::TcpListener, identity: Identity, options: NetOptions) -> Peer {
    let address = listener.local_addr().unwrap();
    let core = Core::start(options, |_, _, _| ());
    core.run(move |io| io.start_peers(listener, identity).unwrap());
    Peer { core, address }
}

impl Peer {
    fn dial(&self, peer: PeerId, address: SocketAddr) {
        self.core.run(move |io| io.connect_peer(peer, address));
    }

    /// Dials may have been refused before.
    fn expect_up(&self, expected: PeerId) -> u64 {
        loop {
            match self.core.event() {
                IoEvent::PeerUp {
                    peer,
                    node_incarnation,
                } if peer == expected => return node_incarnation,
                IoEvent::PeerRefused { peer } if peer == expected => {}
                event => panic!("{event:?}"),
            }
        }
    }

    fn expect_down(&self, expected: PeerId) -> CloseReason {
        match self.core.event() {
            IoEvent::PeerDown { peer, reason } if peer == expected => reason,
            event => panic!("{event:?}"),
        }
    }

    fn send(&self, to: PeerId, kind: FrameKind, body: Vec<u8>) -> bool {
        self.core
            .run(move |io| io.send_peer(to, kind, &body).is_ok())
    }

    fn expect_frame(&self, from: PeerId) -> (FrameKind, Vec<u8>) {
        match self.core.event() {
            IoEvent::PeerFrame {
                from: sender,
                kind,
                body,
            } if sender == from => (kind, body.to_vec()),
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn one_link_carries_frames_both_ways_in_order() {
    let (one, two) = (start(identity(ONE)), start(identity(TWO)));
    assert!(!one.send(TWO, FrameKind::Beacon, vec![]));
    one.dial(TWO, two.address);
    assert_eq!((one.expect_up(TWO), two.expect_up(ONE)), (5, 5));
    for number in 0..500_u32 {
        assert!(one.send(TWO, FrameKind::Prepare, number.to_le_bytes().to_vec()));
        assert!(two.send(ONE, FrameKind::PrepareAcks, number.to_be_bytes().to_vec()));
    }
    for number in 0..500_u32 {
        assert_eq!(
            two.expect_frame(ONE),
            (FrameKind::Prepare, number.to_le_bytes().to_vec())
        );
        assert_eq!(
            one.expect_frame(TWO),
            (FrameKind::PrepareAcks, number.to_be_bytes().to_vec())
        );
    }
}

#[test]
fn frames_of_one_turn_leave_in_one_send() {
    let (one, two) = (start(identity(ONE)), start(identity(TWO)));
    one.dial(TWO, two.address);
    one.expect_up(TWO);
    two.expect_up(ONE);
    let before = one.core.counters().sends;
    one.core.run(|io| {
        for _ in 0..100 {
            io.send_peer(TWO, FrameKind::Prepare, &[1; 100]).unwrap();
        }
        assert_eq!(io.peer_queued_bytes(TWO), 100 * 140);
    });
    for _ in 0..100 {
        two.expect_frame(ONE);
    }
    assert_eq!(one.core.counters().sends, before + 1);
}

#[test]
fn when_both_dial_one_link_stays_and_works() {
    for _ in 0..20 {
        let (one, two) = (start(identity(ONE)), start(identity(TWO)));
        one.dial(TWO, two.address);
        two.dial(ONE, one.address);
        one.expect_up(TWO);
        two.expect_up(ONE);
        // Nothing else happens on either side until the frames have passed each other.
        assert!(one.send(TWO, FrameKind::Beacon, b"ping".to_vec()));
        assert!(two.send(ONE, FrameKind::BeaconAck, b"pong".to_vec()));
        assert_eq!(two.expect_frame(ONE).1, b"ping");
        assert_eq!(one.expect_frame(TWO).1, b"pong");
        let up = |peer: &Peer| {
            peer.core
                .wait_for("one link", |counters| counters.connections == 1)
        };
        up(&one);
        up(&two);
    }
}

#[test]
fn another_token_cluster_version_or_target_gets_no_link_and_is_counted() {
    let changes: [fn(&mut Identity); 4] = [
        |identity| identity.token = b"wrong".to_vec(),
        |identity| identity.cluster = 78,
        |identity| identity.disk_format = 2,
        |identity| identity.core = 4,
    ];
    for change in changes {
        let one = start(identity(ONE));
        let mut other = identity(TWO);
        change(&mut other);
        let two = start(other);
        one.dial(TWO, two.address);
        one.core.wait_for("a refusal", |counters| {
            counters.closed(CloseReason::Refused) > 0
        });
        assert!(!one.core.run(|io| io.is_peer_up(TWO)));
        assert!(!two.core.run(|io| io.is_peer_up(ONE)));
    }
}

#[test]
fn a_link_that_breaks_is_reported_on_both_sides_and_comes_back() {
    let (one, two) = (start(identity(ONE)), start(identity(TWO)));
    one.dial(TWO, two.address);
    one.expect_up(TWO);
    two.expect_up(ONE);
    two.core.run(|io| io.forget_peer(ONE));
    assert_eq!(two.expect_down(ONE), CloseReason::Closed);
    one.expect_down(TWO);
    one.expect_up(TWO);
    two.expect_up(ONE);
    assert!(one.send(TWO, FrameKind::Beacon, b"again".to_vec()));
    assert_eq!(two.expect_frame(ONE).1, b"again");
}

#[test]
fn a_peer_that_starts_again_is_up_again_with_its_new_incarnation() {
    let (one, two) = (start(identity(ONE)), start(identity(TWO)));
    let address = two.address;
    one.dial(TWO, address);
    one.expect_up(TWO);
    drop(two);
    one.expect_down(TWO);
    let listener = pegasus_net::listener::bind(address).unwrap();
    let two = start_at(
        listener,
        Identity {
            node_incarnation: 6,
            ..identity(TWO)
        },
    );
    assert_eq!(one.expect_up(TWO), 6);
    two.expect_up(ONE);
}

#[test]
fn a_second_link_of_the_same_peer_takes_the_place_of_the_first() {
    let (one, two) = (start(identity(ONE)), start(identity(TWO)));
    two.dial(ONE, one.address);
    one.expect_up(TWO);
    two.expect_up(ONE);
    // The same node after a start that the first side has not noticed.
    let again = start(Identity {
        node_incarnation: 6,
        ..identity(TWO)
    });
    again.dial(ONE, one.address);
    assert_eq!(one.expect_down(TWO), CloseReason::Replaced);
    assert_eq!(one.expect_up(TWO), 6);
}

#[test]
fn a_forgotten_peer_is_not_dialled_again() {
    let (one, two) = (start(identity(ONE)), start(identity(TWO)));
    one.dial(TWO, two.address);
    one.expect_up(TWO);
    two.expect_up(ONE);
    one.core.run(|io| io.forget_peer(TWO));
    one.expect_down(TWO);
    two.expect_down(ONE);
    assert_eq!(one.core.counters().dialled, 1);
    assert!(!one.send(TWO, FrameKind::Beacon, vec![]));
}

#[test]
fn a_core_does_not_dial_itself() {
    let one = start(identity(ONE));
    let address = one.address;
    one.dial(ONE, address);
    one.dial(TWO, address);
    assert_eq!(one.core.counters().dialled, 0);
}

#[test]
fn an_empty_token_is_for_loopback_only() {
    let core = Core::start(options(), |_, _, _| ());
    let listener = pegasus_net::listener::bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let bare = Identity {
        token: Vec::new(),
        ..identity(ONE)
    };
    let error = core.run(move |io| io.start_peers(listener, bare).unwrap_err().to_string());
    assert!(error.contains("a cluster token is needed"), "{error}");
    let local = start(Identity {
        token: Vec::new(),
        ..identity(ONE)
    });
    let other = start(Identity {
        token: Vec::new(),
        ..identity(TWO)
    });
    local.dial(TWO, other.address);
    local.expect_up(TWO);
}

#[test]
fn garbage_and_client_frames_on_a_peer_port_are_closed_and_counted() {
    let one = start(identity(ONE));
    let frame = |kind| {
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, &Header::request(kind, 1), b"");
        bytes
    };
    let mut huge = frame(FrameKind::Hello);
    huge[8..12].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    let cases = [
        (b"GET / HTTP/1.1\r\n".to_vec(), CloseReason::BadFrame),
        (frame(FrameKind::Get), CloseReason::ForeignKind),
        (frame(FrameKind::Prepare), CloseReason::ForeignKind),
        (huge, CloseReason::FrameTooLarge),
    ];
    for (bytes, reason) in cases {
        let mut client = Client::connect(one.address);
        client.send(&bytes);
        assert!(client.receive().is_none());
        one.core.wait_for(reason.name(), |counters| {
            counters.closed(reason) > 0 && counters.connections == 0
        });
    }
}

#[test]
fn a_peer_that_says_nothing_is_closed_after_a_while() {
    let one = start(identity(ONE));
    let mut silent = Client::connect(one.address);
    assert!(silent.receive().is_none());
    one.core.wait_for("the timeout", |counters| {
        counters.closed(CloseReason::HandshakeTimeout) == 1
    });
}

#[test]
fn a_refused_hello_is_answered_with_the_reason() {
    let one = start(identity(ONE));
    let mut client = Client::connect(one.address);
    let mut bytes = Vec::new();
    encode_frame(
        &mut bytes,
        &Header::request(FrameKind::Hello, 1),
        b"nonsense",
    );
    client.send(&bytes);
    let frame = client.receive().unwrap();
    assert!(frame.header.is_failure());
    assert!(client.receive().is_none());
}

#[test]
fn megabytes_pass_a_link_while_frames_flow_the_other_way() {
    let (one, two) = (start(identity(ONE)), start(identity(TWO)));
    one.dial(TWO, two.address);
    one.expect_up(TWO);
    two.expect_up(ONE);
    let body = vec![9; 1 << 20];
    for _ in 0..20 {
        assert!(one.send(TWO, FrameKind::Prepare, body.clone()));
        assert!(two.send(ONE, FrameKind::PrepareAcks, vec![1; 1000]));
    }
    for _ in 0..20 {
        assert_eq!(two.expect_frame(ONE).1, body);
        assert_eq!(one.expect_frame(TWO).1.len(), 1000);
    }
    assert!(PATIENCE.as_secs() > 0);
}

#[test]
fn a_dial_that_is_refused_is_told_and_repeated() {
    let one = start(identity(ONE));
    let nobody = free_listener();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    one.dial(TWO, address);
    for _ in 0..2 {
        match one.core.event() {
            IoEvent::PeerRefused { peer } => assert_eq!(peer, TWO),
            event => panic!("{event:?}"),
        }
    }
}
