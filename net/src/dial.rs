//! Blocking connections of a node's other threads: to meta, and to other nodes for transfers.

use crate::listener::{is_self_connection, outgoing};
use crate::options::NetOptions;
use socket2::Socket;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Connects within `timeout`, from a port on which no node listens.
///
/// # Errors
/// Nobody answers, or the connection met itself, which happens where a port that the kernel gives to outgoing connections has
/// no listener.
pub fn dial(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Socket::from(outgoing(address, &NetOptions::default().outgoing_ports)?);
    // Whoever takes bulk bytes may take its time; reads and writes have timeouts of their own.
    socket.set_tcp_user_timeout(None)?;
    socket.connect_timeout(&address.into(), timeout)?;
    let socket = OwnedFd::from(socket);
    if is_self_connection(&socket) {
        return Err(io::Error::other(
            "connected to itself, nobody listens there",
        ));
    }
    Ok(TcpStream::from(socket))
}
