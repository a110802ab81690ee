//! What a core's I/O is told at start.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How a core waits when nothing is there to do. A sleeping core takes 15-18 us to wake up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PollPolicy {
    /// Poll for a short while after the last event if the next one tends to come so soon, then sleep. While a log write is
    /// in flight it polls longer, but gives the CPU away between polls, because the kernel thread that completes the flush
    /// may need it.
    #[default]
    Adaptive,
    /// Poll all the time: only for a CPU that is this core's alone. While a log write is in flight as `Adaptive`.
    Busy,
    /// Sleep at once: for shared CPUs.
    Sleep,
}

/// What makes a log write durable. Every way covers the write it comes with and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFlush {
    /// `fdatasync` behind the write. Right on every file system; a worker thread of the kernel sends the flush, on any of
    /// `io_worker_cpus`.
    #[default]
    Fdatasync,
    /// The write itself is `RWF_DSYNC`. For drives with FUA, which then need no flush and no worker; and only where the file
    /// system is known to honour it for O_DIRECT. Without FUA a worker bound to this core's CPU sends the flush: slow beside a
    /// busy core.
    Dsync,
    /// `Fdatasync` or `Dsync`, whichever takes less time at present. For drives without FUA, and where `Dsync` is honoured.
    Fastest,
    /// Nothing: the drive has no volatile write cache, so that an O_DIRECT write to blocks written before is durable.
    WriteThrough,
}

/// Knobs of one core's I/O. Every queue has its bound here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetOptions {
    pub poll: PollPolicy,
    /// How long `Adaptive` polls after the last event at most: less, down to nothing, while events are farther from each
    /// other than this. Default 80 us: one client that sends its next request when it has an answer takes that long where waking
    /// it up takes 40.
    pub poll_after_event: Duration,
    /// How long a core that polls does so for a log write in flight. Default 300 us: what a flush of a good drive takes.
    pub poll_log_write: Duration,
    /// What makes a log write durable; depends on file system and drive. Default `Fdatasync`.
    pub log_flush: LogFlush,
    /// Connections at once; one more client is closed at once, while peers have a reserve of 1,024. Default 10,000.
    pub connections_max: usize,
    /// Requests of one connection without an answer; at the bound its socket is not read. Default 256.
    pub requests_inflight_max: usize,
    /// Bytes of those requests. Default 8 MiB.
    pub request_bytes_inflight_max: usize,
    /// Bytes queued towards one connection; a reader too slow for that is closed. Default 64 MiB.
    pub output_bytes_max: usize,
    /// How long a client may take for each MiB that is sent to it, at most a quarter longer, before its connection is
    /// closed. Default 60 s.
    pub reader_silence_max: Duration,
    /// Bytes queued towards all connections of the core; the client that would exceed it is closed. Default 256 MiB.
    pub output_bytes_total_max: usize,
    /// Bytes received and not decoded yet, of all connections: parts of frames, and what windows keep out. The connection that
    /// would exceed it is closed. Default 256 MiB.
    pub input_bytes_total_max: usize,
    /// Receive buffers of 16 KiB shared by all connections; a power of two. Default 128.
    pub receive_buffers: u16,
    /// Events of one `poll`, so that log completions are never long behind requests. Default 64.
    pub events_per_poll_max: usize,
    /// CPUs on which the kernel may complete flushes. Empty = all that the process's main thread may use.
    pub io_worker_cpus: Vec<usize>,
    /// Local ports of outgoing connections: away from the ports that nodes listen on, which lie in the usual range.
    pub outgoing_ports: RangeInclusive<u16>,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            poll: PollPolicy::Adaptive,
            poll_after_event: Duration::from_micros(80),
            poll_log_write: Duration::from_micros(300),
            log_flush: LogFlush::default(),
            connections_max: 10_000,
            requests_inflight_max: 256,
            request_bytes_inflight_max: 8 << 20,
            output_bytes_max: 64 << 20,
            reader_silence_max: Duration::from_secs(60),
            output_bytes_total_max: 256 << 20,
            input_bytes_total_max: 256 << 20,
            receive_buffers: 128,
            events_per_poll_max: 64,
            io_worker_cpus: Vec::new(),
            outgoing_ports: 40_000..=60_999,
        }
    }
}

/// Who this core is towards its peers.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Made once by meta; peers of another cluster are refused.
    pub cluster: u128,
    pub node: u32,
    pub core: u16,
    /// Counts the starts of the node.
    pub node_incarnation: u64,
    /// Version of the files on disk; peers of another one are refused.
    pub disk_format: u16,
    /// The cluster's secret; empty is accepted on loopback addresses only.
    pub token: Vec<u8>,
    pub leases: LeaseTerms,
}

/// What two nodes must agree on, so that no two primaries serve at once: a secondary must not take over while the lease of a
/// primary elsewhere may still run. Values may differ between nodes while they are being changed, as long as they are safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LeaseTerms {
    /// How long this node's primaries trust a beacon that was acknowledged.
    pub lease_ms: u32,
    /// How long this node's secondaries wait before they ask to take over.
    pub grace_ms: u32,
}

impl LeaseTerms {
    /// Whether a primary of `primary`'s terms is safe from a secondary of these: 1.25 times, for clocks that differ by 10 % on
    /// both sides.
    #[must_use]
    pub const fn waits_for(&self, primary: &Self) -> bool {
        self.grace_ms as u64 * 4 >= primary.lease_ms as u64 * 5
    }
}

impl fmt::Debug for Identity {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("cluster", &format_args!("{:032x}", self.cluster))
            .field("node", &self.node)
            .field("core", &self.core)
            .field("node_incarnation", &self.node_incarnation)
            .field("disk_format", &self.disk_format)
            .finish_non_exhaustive()
    }
}

/// A core of a node, as links name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    pub node: u32,
    pub core: u16,
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.core)
    }
}

impl Identity {
    /// This core, as its peers name it.
    #[must_use]
    pub const fn id(&self) -> PeerId {
        PeerId {
            node: self.node,
            core: self.core,
        }
    }
}
