//! What a core's I/O has done since its start: plain numbers, read by the core thread and copied to its statistics page.

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The other side closed it between two frames.
    EndOfStream,
    /// The other side closed it within a frame.
    Truncated,
    /// The kernel reported an error: reset, timed out, unreachable.
    SocketError,
    /// The first bytes belong to no protocol spoken on this port.
    UnknownProtocol,
    /// Not a frame: magic, version, kind or checksum.
    BadFrame,
    /// A frame over the bound of this port.
    FrameTooLarge,
    /// A frame kind that has no business on this port.
    ForeignKind,
    /// It read its answers too slowly and they piled up.
    SlowReader,
    /// More connections than allowed.
    TooManyConnections,
    /// All connections together hold more undecoded bytes than allowed, and this one wanted more.
    TooMuchInput,
    /// A hello or proof that was refused: cluster, token, version, or another core than meant.
    Refused,
    /// No complete hello in time.
    HandshakeTimeout,
    /// Both sides dialled; the other link stays.
    Crossed,
    /// A newer link to the same peer took its place.
    Replaced,
    /// This side no longer wants it.
    Closed,
}

impl CloseReason {
    pub const ALL: [Self; 15] = [
        Self::EndOfStream,
        Self::Truncated,
        Self::SocketError,
        Self::UnknownProtocol,
        Self::BadFrame,
        Self::FrameTooLarge,
        Self::ForeignKind,
        Self::SlowReader,
        Self::TooManyConnections,
        Self::TooMuchInput,
        Self::Refused,
        Self::HandshakeTimeout,
        Self::Crossed,
        Self::Replaced,
        Self::Closed,
    ];

    /// The word for statistics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndOfStream => "end_of_stream",
            Self::Truncated => "truncated",
            Self::SocketError => "socket_error",
            Self::UnknownProtocol => "unknown_protocol",
            Self::BadFrame => "bad_frame",
            Self::FrameTooLarge => "frame_too_large",
            Self::ForeignKind => "foreign_kind",
            Self::SlowReader => "slow_reader",
            Self::TooManyConnections => "too_many_connections",
            Self::TooMuchInput => "too_much_input",
            Self::Refused => "refused",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Crossed => "crossed",
            Self::Replaced => "replaced",
            Self::Closed => "closed",
        }
    }
}

/// Grows only, except `connections`, `request_bytes_inflight`, `output_bytes_queued` and `input_bytes_kept`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Open now, clients and peers.
    pub connections: u64,
    pub accepted: u64,
    pub dialled: u64,
    /// By [`CloseReason`] as an index; see [`Counters::closed`].
    closed: [u64; CloseReason::ALL.len()],
    pub requests: u64,
    pub replies: u64,
    /// Requests answered by the front-end alone: malformed or too large.
    pub requests_refused: u64,
    pub peer_frames_in: u64,
    pub peer_frames_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub receives: u64,
    pub sends: u64,
    /// Bytes of requests of clients that are decoded and not answered now.
    pub request_bytes_inflight: u64,
    /// Bytes received and not decoded now.
    pub input_bytes_kept: u64,
    /// Bytes waiting to be sent now.
    pub output_bytes_queued: u64,
    /// Times a connection was not read because its window was full.
    pub window_full: u64,
    pub log_writes: u64,
    pub log_bytes: u64,
    /// `io_uring_enter` calls.
    pub system_calls: u64,
    /// Times the core went to sleep.
    pub sleeps: u64,
}

impl Counters {
    /// Connections that ended for `reason`.
    #[must_use]
    pub const fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    pub(crate) const fn count_closed(&mut self, reason: CloseReason) {
        self.closed[reason as usize] += 1;
    }
}
