//! Sockets: where a core listens, and how it dials.

use crate::ring::set_local_ports;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    #[error("cannot listen on {address}: {source}")]
    Refused {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot listen on {address}: the port is held by {holder}")]
    InUse { address: SocketAddr, holder: String },
}

/// How long a predecessor may take to let go of its port.
const BIND_WAIT_MAX: Duration = Duration::from_secs(5);
const BIND_RETRY: Duration = Duration::from_millis(50);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const BACKLOG: i32 = 1024;
/// Unacknowledged bytes of a link older than this mean that the peer is gone: it is dialled anew, since after a cut TCP itself
/// would try again only seconds later.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(1);

/// Binds and listens, with TCP_NODELAY for everything accepted. An address in use is tried again for up to 5 s, because a
/// predecessor may still be ending; call it before the cores start.
///
/// # Errors
/// See [`BindError`]; a port that stays taken is reported with the process that holds it, as far as this user may see it.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    bind_within(address, BIND_WAIT_MAX)
}

/// As [`bind`], with another bound on the wait; zero tries once.
///
/// # Errors
/// See [`BindError`].
pub fn bind_within(address: SocketAddr, wait_max: Duration) -> Result<TcpListener, BindError> {
    let deadline = Instant::now() + wait_max;
    loop {
        match try_bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(BindError::Refused {
                    address,
                    source: error,
                });
            }
            Err(_) if Instant::now() >= deadline => {
                return Err(BindError::InUse {
                    address,
                    holder: holder_of(address.port()),
                });
            }
            Err(_) => std::thread::sleep(BIND_RETRY),
        }
    }
}

fn try_bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    // Accepted connections inherit both. A client whose host vanished gives its place back after two minutes.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL),
    )?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Peer links notice a host that vanished without a word; accepted connections inherit it.
pub(crate) fn prepare_peer_listener(listener: &TcpListener) -> io::Result<()> {
    socket2::SockRef::from(listener).set_tcp_user_timeout(Some(PEER_SILENCE_MAX))
}

/// A socket to dial `address` from, with a local port in `ports`.
pub(crate) fn outgoing(address: SocketAddr, ports: &RangeInclusive<u16>) -> io::Result<OwnedFd> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(PEER_SILENCE_MAX))?;
    let socket = OwnedFd::from(socket);
    match set_local_ports(&socket, ports) {
        // Linux before 6.3: the kernel's own range has to do.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {}
        result => result?,
    }
    Ok(socket)
}

/// Two sockets can meet in the middle when an outgoing connection is given the very port that it dials.
pub(crate) fn is_self_connection(socket: &OwnedFd) -> bool {
    let socket = socket2::SockRef::from(socket);
    match (socket.local_addr(), socket.peer_addr()) {
        (Ok(local), Ok(peer)) => local == peer,
        _ => false,
    }
}

/// Who listens on `port`, for people.
fn holder_of(port: u16) -> String {
    let unknown = || "another process".to_owned();
    let Some(inode) = listening_inode(port) else {
        return unknown();
    };
    let wanted = format!("socket:[{inode}]");
    let Ok(processes) = fs::read_dir("/proc") else {
        return unknown();
    };
    processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| has_open(*pid, &wanted))
        .map_or_else(unknown, |pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("process {pid} ({})", name.trim())
        })
}

/// Inode of the listening socket of this port (`/proc/net/tcp`, state 0A, port in hexadecimal).
fn listening_inode(port: u16) -> Option<u64> {
    let suffix = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|table| {
            table.lines().skip(1).find_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let matches = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == "0A";
                matches.then(|| fields.get(9)?.parse().ok()).flatten()
            })
        })
}

fn has_open(pid: u32, wanted: &str) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|descriptors| {
        descriptors.flatten().any(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == wanted)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_stays_taken_is_reported_with_its_holder() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind_within(first.local_addr().unwrap(), Duration::ZERO).unwrap_err();
        let sentence = error.to_string();
        assert!(
            sentence.contains(&format!("process {}", std::process::id())),
            "{sentence}"
        );
    }

    #[test]
    fn a_port_is_taken_as_soon_as_its_holder_lets_go() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let second = std::thread::spawn(move || bind(address));
        drop(first);
        assert_eq!(
            second.join().unwrap().unwrap().local_addr().unwrap(),
            address
        );
    }

    #[test]
    fn outgoing_sockets_take_their_port_from_the_range() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let socket = Socket::from(outgoing(address, &(50_000..=50_999)).unwrap());
        socket.connect(&address.into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        assert!((50_000..=50_999).contains(&port), "{port}");
    }
}
