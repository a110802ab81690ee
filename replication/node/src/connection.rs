//! A blocking connection that carries native frames: to meta, and from node to node for transfers. Never used by a core.

use bytes::BytesMut;
use pegasus_fbs::body;
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{self, Decoder, Frame, FrameKind, Header};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const READ_BYTES: usize = 64 << 10;

/// One end of a connection. Every read and write is bounded by the timeout it was made with.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
    requests: u64,
}

impl Connection {
    /// Connects and bounds each later read and write by `timeout`.
    pub(crate) fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = pegasus_net::dial(address, timeout.min(CONNECT_TIMEOUT))?;
        Self::over(stream, timeout)
    }

    /// The same over a connection that is there already.
    pub(crate) fn over(stream: TcpStream, timeout: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream,
            decoder: Decoder::new(frame::BODY_BYTES_MAX),
            input: BytesMut::new(),
            requests: 0,
        })
    }

    /// Refuses longer bodies from now on; while nobody knows who the other side is.
    pub(crate) const fn limit_bodies(&mut self, bytes_max: usize) {
        self.decoder = Decoder::new(bytes_max);
    }

    /// Sends one frame and returns the request id it carries.
    pub(crate) fn send(&mut self, kind: FrameKind, body: &[u8]) -> io::Result<u64> {
        self.requests += 1;
        self.write(&Header::request(kind, self.requests), body)?;
        Ok(self.requests)
    }

    /// Answers `request` by a failure.
    pub(crate) fn refuse(&mut self, request: &Header, code: Code, message: &str) -> io::Result<()> {
        let mut builder = FlatBufferBuilder::new();
        let body = body::failure(&mut builder, code, message);
        self.write(&request.failure(), body)
    }

    /// Sends one frame under a header of the caller's.
    pub(crate) fn write(&mut self, header: &Header, body: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(frame::HEADER_BYTES + body.len());
        frame::encode_frame(&mut bytes, header, body);
        self.stream.write_all(&bytes)
    }

    /// The next whole frame.
    pub(crate) fn receive(&mut self) -> io::Result<Frame> {
        let mut chunk = vec![0; READ_BYTES];
        loop {
            if let Some(frame) = self
                .decoder
                .decode(&mut self.input)
                .map_err(io::Error::other)?
            {
                return Ok(frame);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => self.input.extend_from_slice(&chunk[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A second handle that takes over reading, for as long as it takes; this one only writes from now on.
    pub(crate) fn split_reader(&mut self) -> io::Result<Self> {
        self.stream.set_read_timeout(None)?;
        Ok(Self {
            stream: self.stream.try_clone()?,
            decoder: self.decoder,
            input: std::mem::take(&mut self.input),
            requests: 0,
        })
    }

    /// A handle by which another thread can end the connection.
    pub(crate) fn stream(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    pub(crate) fn peer_address(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Ends both directions; whoever reads or writes gets an error.
    pub(crate) fn shutdown(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
