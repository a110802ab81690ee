//! What is counted, measured and timed. The order is the order in the page: new ones go to the end of their list, and a
//! change of any list bumps the page's version.

use crate::code::Code;

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
        /// Too many requests in work on the core, or on their way to another core or to meta.
        RejectRequests = "reject_requests",
        /// Too many prepared mutations of a partition wait for their commit.
        RejectPrepareInflight = "reject_prepare_inflight",
        /// Too much is on its way to a secondary that does not acknowledge it.
        RejectPeerWindow = "reject_peer_window",
        /// Too many bytes wait for a flush of the log.
        RejectLogPending = "reject_log_pending",
        /// The log has used its budget of disk space: replicas have to be flushed first.
        RejectLogFull = "reject_log_full",
        /// Too many committed mutations of a partition wait for the engine.
        RejectApplyQueue = "reject_apply_queue",
        /// Memtables or files of level 0 are over their bounds.
        RejectEngine = "reject_engine",
        /// Too many reads in work, or waiting for the disk.
        RejectReadQueue = "reject_read_queue",
        // Rows and bytes that reads have returned, and that answered writes have put or removed (bytes as logged).
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
        /// Segments made ready ahead of their use.
        LogSegmentsPrepared = "log_segments_prepared",
        LogSegmentsFreed = "log_segments_freed",
        // Replication.
        MutationsApplied = "mutations_applied",
        PreparesSent = "prepares_sent",
        PreparesReceived = "prepares_received",
        PreparesRejected = "prepares_rejected",
        BeaconsSent = "beacons_sent",
        BeaconsReceived = "beacons_received",
        // Engine.
        /// Reads answered from memtables and block cache, without leaving the core.
        ReadsFromMemory = "reads_from_memory",
        /// Reads that left the core for the helper pool, because a block was not in the cache.
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
        /// Links to other nodes' cores that broke.
        PeerLinksLost = "peer_links_lost",
        /// Requests handed over to another core of the node.
        MeshForwarded = "mesh_forwarded",
        // Loop.
        /// Times the thread had not returned to its loop within 10 ms.
        Stalls = "stalls",
        /// Times the thread slept in the kernel.
        Sleeps = "sleeps",
        // Learners and planned changes.
        /// Mutations that learners here have taken from another core's log.
        LearnEntries = "learn_entries",
        /// Checkpoints that learners here have taken.
        LearnCheckpoints = "learn_checkpoints",
        /// The partition is being handed over.
        RejectHandOver = "reject_hand_over",
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
        MemtableBytes = "memtable_bytes",
        /// Bytes in the block cache, as last counted after a flush or compaction and at least every few seconds.
        BlockCacheBytes = "block_cache_bytes",
        NetBufferBytes = "net_buffer_bytes",
        DiskTotalBytes = "disk_total_bytes",
        DiskFreeBytes = "disk_free_bytes",
        /// 1 while writes are refused for lack of disk space.
        DiskFull = "disk_full",
        Learners = "learners",
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
        /// The oldest mutation of a batch, from its append until it is durable here: the wait for the flushes before, too.
        LogAppend = "log_append",
        /// A prepare sent until its secondary holds it durably; of each secondary's core, one at a time is measured.
        SecondaryAck = "secondary_ack",
        /// A write taken until it is committed and applied.
        Commit = "commit",
        /// One write batch of the engine.
        Apply = "apply",
        /// One read of the engine that stayed in memory.
        ReadMemory = "read_memory",
        /// One read of the engine on the helper pool, with its wait.
        ReadDisk = "read_disk",
        /// One turn of the loop, without sleep.
        Turn = "turn",
    }
}

impl Counter {
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
        &Self::ALL[Self::RequestGet as usize..=Self::RequestPing as usize]
    }

    /// All counters of answers that report a failure ([`Code::NotFound`] is none).
    #[must_use]
    pub fn failures() -> &'static [Self] {
        &Self::ALL[Self::AnswerInvalidArgument as usize..=Self::AnswerOther as usize]
    }

    /// All reasons for [`Code::Busy`].
    #[must_use]
    pub fn rejects() -> &'static [Self] {
        &Self::ALL[Self::RejectRequests as usize..=Self::RejectReadQueue as usize]
    }
}

impl Timing {
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
