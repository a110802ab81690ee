//! The listening sockets of a node: a client port and a peer port for each core, and behind the last peer port one for
//! transfers.

use crate::config::ListenConfig;
use pegasus_net::listener::{BindError, bind, bind_within};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// Where a free block is looked for: below the ports that the kernel gives to outgoing connections.
const FREE_PORTS: std::ops::Range<u16> = 12_000..28_000;
const ATTEMPTS_MAX: usize = 200;

/// The sockets of one core.
#[derive(Debug)]
pub struct CoreSockets {
    pub client: TcpListener,
    pub peer: TcpListener,
    /// As others connect to them.
    pub client_address: SocketAddr,
    pub peer_address: SocketAddr,
}

/// All sockets of a node.
#[derive(Debug)]
pub struct NodeSockets {
    pub cores: Vec<CoreSockets>,
    /// Where other nodes fetch copies of replicas.
    pub transfer: TcpListener,
}

/// Binds the ports of `cores` cores. With base port 0 a free block is found by binding.
///
/// # Errors
/// A port cannot be had; the error names who holds it.
pub fn bind_all(listen: &ListenConfig, cores: u16) -> Result<NodeSockets, BindError> {
    if listen.base_port != 0 {
        return bind_block(listen, listen.base_port, cores, bind);
    }
    let mut last = None;
    for _ in 0..ATTEMPTS_MAX {
        let base = rand::random_range(FREE_PORTS);
        match bind_block(listen, base, cores, |address| {
            bind_within(address, Duration::ZERO)
        }) {
            Ok(sockets) => return Ok(sockets),
            Err(error @ BindError::InUse { .. }) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.expect("there was an attempt"))
}

fn bind_block(
    listen: &ListenConfig,
    base: u16,
    cores: u16,
    bind: impl Fn(SocketAddr) -> Result<TcpListener, BindError>,
) -> Result<NodeSockets, BindError> {
    let advertised = listen.advertise.unwrap_or(listen.bind);
    let mut sockets = Vec::new();
    for core in 0..cores {
        let client_port = base + core;
        let peer_port = client_port + listen.peer_port_offset;
        sockets.push(CoreSockets {
            client: bind(SocketAddr::new(listen.bind, client_port))?,
            peer: bind(SocketAddr::new(listen.bind, peer_port))?,
            client_address: SocketAddr::new(advertised, client_port),
            peer_address: SocketAddr::new(advertised, peer_port),
        });
    }
    let transfer_port = base + listen.peer_port_offset + cores;
    Ok(NodeSockets {
        cores: sockets,
        transfer: bind(SocketAddr::new(listen.bind, transfer_port))?,
    })
}
