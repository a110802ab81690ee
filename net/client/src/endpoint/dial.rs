//! Making a connection from a local port on which no node wants to listen.
//!
//! Nodes listen on ports that lie in the kernel's range for outgoing connections (from 32,768). A connection that was
//! given such a port would keep a node from starting there. The option made for this, `IP_LOCAL_PORT_RANGE`, is offered
//! by no safe crate (neither socket2 nor rustix has it), and this package has no unsafe code. So the port is chosen here,
//! at random from the same range as the nodes' own outgoing ports, and bound before connecting; any kernel can do that.
//! After a few ports that were taken the kernel chooses, as it would have without this.

use rand::Rng;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use tokio::net::{TcpSocket, TcpStream, lookup_host};

const LOCAL_PORTS: RangeInclusive<u16> = 40_000..=60_999;
/// A machine would need ten thousand connections for one bind in two to fail; it then takes bad luck once in 256 times.
const BINDS_MAX: usize = 8;

/// Connects to `host:port`; of a name with several addresses, to the first that answers.
pub(super) async fn dial(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for peer in lookup_host(address).await? {
        match connect(peer).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect(peer: SocketAddr) -> io::Result<TcpStream> {
    for _ in 0..BINDS_MAX {
        let socket = new_socket(peer)?;
        let port = rand::rng().random_range(LOCAL_PORTS);
        if port == peer.port() || socket.bind(SocketAddr::new(any(peer), port)).is_err() {
            continue;
        }
        match socket.connect(peer).await {
            Err(error) if is_about_the_port(&error) => {}
            result => return result,
        }
    }
    new_socket(peer)?.connect(peer).await
}

fn new_socket(peer: SocketAddr) -> io::Result<TcpSocket> {
    if peer.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
}

fn any(peer: SocketAddr) -> IpAddr {
    if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

fn is_about_the_port(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn connections_leave_from_the_range_that_nodes_keep_clear_of() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        for _ in 0..20 {
            let stream = dial(&address).await.unwrap();
            let port = stream.local_addr().unwrap().port();
            assert!(LOCAL_PORTS.contains(&port), "{port}");
        }
    }

    #[tokio::test]
    async fn names_are_looked_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        dial(&format!("localhost:{port}")).await.unwrap();
        assert!(dial("no port").await.is_err());
    }
}
