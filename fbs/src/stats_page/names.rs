//! What is counted, measured and timed. The order is the order in the page: new ones go to the end of their list, and a
//! change of any list bumps the page's version.

use crate::code::Code;
use crate::frame::FrameKind;

macro_rules! numbered {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All of them, in the order of the page.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in `/metrics` and JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

numbered! {
    /// A number that only grows while the process lives.
    Counter {
        // Requests taken from clients, by kind.
        RequestGet = "request_get",
        RequestPut = "request_put",
        RequestRemove = "request_remove",
        RequestExist = "request_exist",
        RequestTtl = "request_ttl",
        RequestMultiPut = "request_multi_put",
        RequestMultiGet = "request_multi_get",
        RequestMultiRemove = "request_multi_remove",
        RequestBatchGet = "request_batch_get",
        RequestSortKeyCount = "request_sort_key_count",
        RequestScan = "request_scan",
        RequestRoute = "request_route",
        RequestPing = "request_ping",
        RequestOther = "request_other",
        // Answers, by code.
        AnswerOk = "answer_ok",
        AnswerNotFound = "answer_not_found",
        AnswerInvalidArgument = "answer_invalid_argument",
        AnswerTooLarge = "answer_too_large",
        AnswerUnknownTable = "answer_unknown_table",
        AnswerNotHere = "answer_not_here",
        AnswerNotPrimary = "answer_not_primary",
        AnswerNotServing = "answer_not_serving",
        AnswerBusy = "answer_busy",
        AnswerNotEnoughMembers = "answer_not_enough_members",
        AnswerDiskFull = "answer_disk_full",
        AnswerOutOfService = "answer_out_of_service",
        AnswerExpired = "answer_expired",
        AnswerUnknown = "answer_unknown",
        AnswerOther = "answer_other",
        // Why Busy was answered.
        RejectConnectionWindow = "reject_connection_window",
        RejectTableAdmission = "reject_table_admission",
        RejectPrepareInflight = "reject_prepare_inflight",
        RejectLogBytes = "reject_log_bytes",
        RejectApplyQueue = "reject_apply_queue",
        RejectReadQueue = "reject_read_queue",
        RejectMemory = "reject_memory",
        // Rows and bytes of the data operations.
        RowsRead = "rows_read",
        RowsWritten = "rows_written",
        BytesRead = "bytes_read",
        BytesWritten = "bytes_written",
        // Log.
        /// Writes of a batch to the log file.
        LogWrites = "log_writes",
        /// Flushes of the log file.
        LogFlushes = "log_flushes",
        LogBytes = "log_bytes",
        LogRecords = "log_records",
        /// Segments taken into use.
        LogSegmentsOpened = "log_segments_opened",
        LogSegmentsFreed = "log_segments_freed",
        // Replication.
        MutationsCommitted = "mutations_committed",
        MutationsApplied = "mutations_applied",
        PreparesSent = "prepares_sent",
        PreparesReceived = "prepares_received",
        PreparesRejected = "prepares_rejected",
        PreparesResent = "prepares_resent",
        BeaconsSent = "beacons_sent",
        BeaconsReceived = "beacons_received",
        // Engine.
        BlockCacheHits = "block_cache_hits",
        BlockCacheMisses = "block_cache_misses",
        /// Reads that left the core for the helper pool.
        ReadsFromDisk = "reads_from_disk",
        EngineFlushes = "engine_flushes",
        EngineCompactions = "engine_compactions",
        /// Write batches the engine refused for the moment.
        EngineRefusals = "engine_refusals",
        // Network.
        ConnectionsAccepted = "connections_accepted",
        ConnectionsClosed = "connections_closed",
        /// Connections closed because of bytes that are no protocol.
        ConnectionsGarbage = "connections_garbage",
        NetBytesReceived = "net_bytes_received",
        NetBytesSent = "net_bytes_sent",
        PeerBytesReceived = "peer_bytes_received",
        PeerBytesSent = "peer_bytes_sent",
        PeerReconnects = "peer_reconnects",
        /// Requests handed over to another core of the node.
        MeshForwarded = "mesh_forwarded",
        // Loop.
        Turns = "turns",
        /// Turns of the loop over 10 ms.
        Stalls = "stalls",
        /// Times the thread slept in the kernel.
        Sleeps = "sleeps",
    }
}

numbered! {
    /// A number that is what it is at the moment of publication.
    Gauge {
        Replicas = "replicas",
        Primaries = "primaries",
        Secondaries = "secondaries",
        ReplicasOutOfService = "replicas_out_of_service",
        Connections = "connections",
        PeerLinks = "peer_links",
        /// Requests taken and not yet answered.
        RequestsInflight = "requests_inflight",
        /// Prepared mutations that are not committed.
        PreparesInflight = "prepares_inflight",
        /// Committed mutations that the engine has not applied.
        ApplyQueue = "apply_queue",
        /// Reads waiting for the helper pool.
        ReadQueue = "read_queue",
        /// Slow engine calls waiting for their pool.
        EngineQueue = "engine_queue",
        /// Bytes appended and not yet durable.
        LogPendingBytes = "log_pending_bytes",
        /// Bytes of the log that are in use.
        LogUsedBytes = "log_used_bytes",
        LogSegments = "log_segments",
        /// Log segments prepared ahead.
        LogSegmentsSpare = "log_segments_spare",
        MemtableBytes = "memtable_bytes",
        BlockCacheBytes = "block_cache_bytes",
        NetBufferBytes = "net_buffer_bytes",
        DiskTotalBytes = "disk_total_bytes",
        DiskFreeBytes = "disk_free_bytes",
        /// 1 while writes are refused for lack of disk space.
        DiskFull = "disk_full",
        /// The CPU the thread is pinned to, plus 1; 0 = not pinned.
        PinnedCpu = "pinned_cpu",
    }
}

numbered! {
    /// A duration with a histogram. The first eleven are whole operations, from the request's last byte to its answer.
    Timing {
        Get = "get",
        Put = "put",
        Remove = "remove",
        Exist = "exist",
        Ttl = "ttl",
        MultiPut = "multi_put",
        MultiGet = "multi_get",
        MultiRemove = "multi_remove",
        BatchGet = "batch_get",
        SortKeyCount = "sort_key_count",
        Scan = "scan",
        /// A batch handed to the disk until it is durable.
        LogFlush = "log_flush",
        /// A mutation appended until it is durable here, including the wait for the flush before.
        LogAppend = "log_append",
        /// A prepare sent until the last secondary's acknowledgement.
        SecondaryAck = "secondary_ack",
        /// A write admitted until it is committed.
        Commit = "commit",
        /// One write batch of the engine.
        Apply = "apply",
        /// One read of the engine that stayed in memory.
        ReadMemory = "read_memory",
        /// One read of the engine on the helper pool, with its wait.
        ReadDisk = "read_disk",
        /// One turn of the loop, without sleep.
        Turn = "turn",
        /// A wake-up of the sleeping thread until its first event is handled.
        Wake = "wake",
        /// A beacon sent until it is acknowledged.
        BeaconRound = "beacon_round",
    }
}

impl Counter {
    /// The counter of requests of a kind.
    #[must_use]
    pub const fn request(kind: FrameKind) -> Self {
        match kind {
            FrameKind::Get => Self::RequestGet,
            FrameKind::Put => Self::RequestPut,
            FrameKind::Remove => Self::RequestRemove,
            FrameKind::Exist => Self::RequestExist,
            FrameKind::Ttl => Self::RequestTtl,
            FrameKind::MultiPut => Self::RequestMultiPut,
            FrameKind::MultiGet => Self::RequestMultiGet,
            FrameKind::MultiRemove => Self::RequestMultiRemove,
            FrameKind::BatchGet => Self::RequestBatchGet,
            FrameKind::SortKeyCount => Self::RequestSortKeyCount,
            FrameKind::Scan => Self::RequestScan,
            FrameKind::Route => Self::RequestRoute,
            FrameKind::Ping => Self::RequestPing,
            _ => Self::RequestOther,
        }
    }

    /// The counter of answers with a code.
    #[must_use]
    pub const fn answer(code: Code) -> Self {
        match code {
            Code::Ok => Self::AnswerOk,
            Code::NotFound => Self::AnswerNotFound,
            Code::InvalidArgument => Self::AnswerInvalidArgument,
            Code::TooLarge => Self::AnswerTooLarge,
            Code::UnknownTable => Self::AnswerUnknownTable,
            Code::NotHere => Self::AnswerNotHere,
            Code::NotPrimary => Self::AnswerNotPrimary,
            Code::NotServing => Self::AnswerNotServing,
            Code::Busy => Self::AnswerBusy,
            Code::NotEnoughMembers => Self::AnswerNotEnoughMembers,
            Code::DiskFull => Self::AnswerDiskFull,
            Code::OutOfService => Self::AnswerOutOfService,
            Code::Expired => Self::AnswerExpired,
            Code::Unknown => Self::AnswerUnknown,
            _ => Self::AnswerOther,
        }
    }

    /// All counters of requests, for their sum.
    #[must_use]
    pub fn requests() -> &'static [Self] {
        &Self::ALL[Self::RequestGet as usize..=Self::RequestOther as usize]
    }

    /// All counters of answers that report a failure ([`Code::NotFound`] is none).
    #[must_use]
    pub fn failures() -> &'static [Self] {
        &Self::ALL[Self::AnswerInvalidArgument as usize..=Self::AnswerOther as usize]
    }

    /// All reasons for [`Code::Busy`].
    #[must_use]
    pub fn rejects() -> &'static [Self] {
        &Self::ALL[Self::RejectConnectionWindow as usize..=Self::RejectMemory as usize]
    }
}

impl Timing {
    /// The histogram of a data operation; `None` for other kinds.
    #[must_use]
    pub const fn operation(kind: FrameKind) -> Option<Self> {
        Some(match kind {
            FrameKind::Get => Self::Get,
            FrameKind::Put => Self::Put,
            FrameKind::Remove => Self::Remove,
            FrameKind::Exist => Self::Exist,
            FrameKind::Ttl => Self::Ttl,
            FrameKind::MultiPut => Self::MultiPut,
            FrameKind::MultiGet => Self::MultiGet,
            FrameKind::MultiRemove => Self::MultiRemove,
            FrameKind::BatchGet => Self::BatchGet,
            FrameKind::SortKeyCount => Self::SortKeyCount,
            FrameKind::Scan => Self::Scan,
            _ => return None,
        })
    }

    /// The histograms of whole operations.
    #[must_use]
    pub fn operations() -> &'static [Self] {
        &Self::ALL[..=Self::Scan as usize]
    }

    /// The histograms of stages.
    #[must_use]
    pub fn stages() -> &'static [Self] {
        &Self::ALL[Self::LogFlush as usize..]
    }
}
