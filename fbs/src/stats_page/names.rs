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
        RequestIncr = "request_incr",
        RequestCheckAndSet = "request_check_and_set",
        RequestCheckAndMutate = "request_check_and_mutate",
        RequestBatchGet = "request_batch_get",
        RequestSortKeyCount = "request_sort_key_count",
        RequestScan = "request_scan",
        RequestRoute = "request_route",
        RequestPing = "request_ping",
        /// Questions about the node itself: statistics, scrubbing.
        RequestCoreStats = "request_core_stats",
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
        /// Point reads answered by the row cache, in front of the engine.
        RowCacheHits = "row_cache_hits",
        /// Point reads that the row cache knew nothing of.
        RowCacheMisses = "row_cache_misses",
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
        /// Too many requests wait for an atomic operation of their hash key.
        RejectGate = "reject_gate",
        // Throttles of tables: requests that were executed later, and those that were not.
        ThrottleDelayedReads = "throttle_delayed_reads",
        ThrottleRejectedReads = "throttle_rejected_reads",
        ThrottleDelayedWrites = "throttle_delayed_writes",
        ThrottleRejectedWrites = "throttle_rejected_writes",
        // What the core's time went to, in nanoseconds.
        /// Requests that waited for their table's turn: looked at and given to the replication core.
        AdmitTime = "admit_time_ns",
        /// Committed mutations, put into the engine.
        ApplyTime = "apply_time_ns",
        /// Point reads.
        ReadTime = "read_time_ns",
        /// Steps of long reads.
        RangeTime = "range_time_ns",
        /// Commands of Redis clients of this core. Their parts, one for each key, count by what they do, where the key is.
        RequestRedis = "request_redis",
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
        RowCacheBytes = "row_cache_bytes",
        NetBufferBytes = "net_buffer_bytes",
        DiskTotalBytes = "disk_total_bytes",
        DiskFreeBytes = "disk_free_bytes",
        /// 1 while writes are refused for lack of disk space.
        DiskFull = "disk_full",
        Learners = "learners",
        // Bounds, as configured, of what other gauges have, and what had no gauge.
        /// Of blocks and rows together.
        CacheBytesMax = "cache_bytes_max",
        RowCacheBytesMax = "row_cache_bytes_max",
        MemtableBytesMax = "memtable_bytes_max",
        /// Bytes of requests taken and not yet answered.
        RequestBytes = "request_bytes",
        RequestBytesMax = "request_bytes_max",
        RequestsInflightMax = "requests_inflight_max",
        NetBufferBytesMax = "net_buffer_bytes_max",
        LogPendingBytesMax = "log_pending_bytes_max",
        LogUsedBytesMax = "log_used_bytes_max",
        /// Files in level 0, of the replica that has most of them: many mean that compactions are behind.
        Level0Files = "level0_files",
        /// Full memtables that wait for their flush, of the replica that has most of them.
        ImmutableMemtables = "immutable_memtables",
        /// 0: writes are taken; 1: refused while flushes or compactions are behind; 2: refused because the disk is full.
        WritesRefused = "writes_refused",
        /// Replicas without a slot of their own in this page.
        PartitionsUntold = "partitions_untold",
    }
}

numbered! {
    /// A number of one replica that only grows while it is on the core.
    PartitionCounter {
        // Requests by operation, in the order of [`Timing::operations`]; parts of Redis commands by what they do.
        Get = "request_get",
        Put = "request_put",
        Remove = "request_remove",
        Exist = "request_exist",
        Ttl = "request_ttl",
        MultiPut = "request_multi_put",
        MultiGet = "request_multi_get",
        MultiRemove = "request_multi_remove",
        Incr = "request_incr",
        CheckAndSet = "request_check_and_set",
        CheckAndMutate = "request_check_and_mutate",
        BatchGet = "request_batch_get",
        SortKeyCount = "request_sort_key_count",
        Scan = "request_scan",
        /// Answers that report a failure, busy and throttled ones too (not found is none).
        Failures = "failures",
        /// Answers that told the client to come back.
        Busy = "busy",
        /// Requests that a throttle has delayed or rejected.
        Throttled = "throttled",
        // Rows and bytes that reads have returned, and that answered writes have put or removed (bytes as logged).
        RowsRead = "rows_read",
        RowsWritten = "rows_written",
        BytesRead = "bytes_read",
        BytesWritten = "bytes_written",
        /// Mutations put into the engine, whoever is primary.
        Applied = "applied",
        /// Their bytes, as logged.
        AppliedBytes = "applied_bytes",
    }
}

numbered! {
    /// A number of one replica, as it was within the last second.
    PartitionGauge {
        /// The number of its [`Role`].
        Role = "role",
        /// Members of its configuration.
        Members = "members",
        Ballot = "ballot",
        /// Highest decree that is committed.
        Committed = "committed",
        /// Prepared mutations that are not committed.
        PreparesInflight = "prepares_inflight",
        /// Bytes in memtables that are not in files.
        UnflushedBytes = "unflushed_bytes",
    }
}

/// What a replica is to its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// It is being created, or belongs to no configuration.
    None = 0,
    Primary = 1,
    Secondary = 2,
    Learner = 3,
    OutOfService = 4,
}

numbered! {
    /// A duration with a histogram: whole operations, the stages of writes and of reads, then work of the core that
    /// belongs to no one request.
    Timing {
        // Whole operations: the sum of their stages, from a request's last byte to its answer in the kernel's hands.
        Get = "get",
        Put = "put",
        Remove = "remove",
        Exist = "exist",
        Ttl = "ttl",
        MultiPut = "multi_put",
        MultiGet = "multi_get",
        MultiRemove = "multi_remove",
        Incr = "incr",
        CheckAndSet = "check_and_set",
        CheckAndMutate = "check_and_mutate",
        BatchGet = "batch_get",
        SortKeyCount = "sort_key_count",
        Scan = "scan",
        // Stages of writes; what each is, is said once, at `Stage`.
        WriteDecode = "write_decode",
        WriteQueue = "write_queue",
        WriteGate = "write_gate",
        WriteLogWait = "write_log_wait",
        WriteFlush = "write_flush",
        WriteReplication = "write_replication",
        WriteApply = "write_apply",
        WriteEncode = "write_encode",
        WriteSend = "write_send",
        // Stages of reads.
        ReadDecode = "read_decode",
        ReadQueue = "read_queue",
        ReadGate = "read_gate",
        ReadRead = "read_read",
        ReadEncode = "read_encode",
        ReadSend = "read_send",
        // Work of the core, whoever it is for: on secondaries too.
        /// A batch handed to the disk until it is durable.
        LogFlush = "log_flush",
        /// The oldest mutation of a batch, from its append until it is durable here: the wait for the flushes before, too.
        LogAppend = "log_append",
        /// A prepare sent until its secondary holds it durably; of each secondary's core, one at a time is measured.
        SecondaryAck = "secondary_ack",
        /// One write batch of the engine, without its wait.
        EngineApply = "engine_apply",
        /// One read of the engine that stayed in memory, without its wait.
        ReadMemory = "read_memory",
        /// One read of the engine on the helper pool, from the request's arrival.
        ReadDisk = "read_disk",
        /// One turn of the loop, without sleep.
        Turn = "turn",
    }
}

numbered! {
    /// A part of a request's time on its core. The stages of a request follow one another without a gap or an overlap:
    /// they add up to its total. Boundaries that all requests of a turn of the loop share are read from the clock once
    /// for the turn.
    ///
    /// Writes have all but `Read`; reads have `Decode`, `Queue`, `Gate`, `Read`, `Encode` and `Send`. What a request did
    /// not go through counts as 0; a request that was refused has the stages up to its refusal, then `Encode` and `Send`.
    /// A request that another core of the node handed over is measured by the core that owns its partition: its way
    /// between the cores is part of `Queue`, and it ends when the answer goes back (`Encode` and `Send` are 0).
    ///
    /// The histograms of stages count every request and add up all of its time. Where four or more answers leave together,
    /// their buckets, and so percentiles and the longest duration, know one of up to eight, and at least two: it stands for
    /// others that left with it. Slow requests are kept whole, and whole operations leave nothing out.
    Stage {
        /// Bytes become requests: from when the core looks at the bytes of this turn until all of them are decoded.
        Decode = "decode",
        /// Waiting for the core: received bytes until they are looked at (the turn before, a full window of the
        /// connection), and decoded until the core has decided on the requests of this turn.
        Queue = "queue",
        /// Waiting for the right to be served: a read parked until its partition serves, and an answer that is ready
        /// until it may be given.
        Gate = "gate",
        /// Appended to the log until its batch is handed to the disk: the flushes before it.
        LogWait = "log_wait",
        /// The write and `fdatasync` of that batch, until it and all before it are durable on this node.
        Flush = "flush",
        /// Durable here until committed: what the secondaries add beyond this node's own flush.
        Replication = "replication",
        /// Committed until the engine holds it, its wait for the engine included.
        Apply = "apply",
        /// The right to read until the engine has answered: from memory or from the helper pool, its waits included.
        Read = "read",
        /// May be answered until the answers of this turn are encoded and what else it had to do is done.
        Encode = "encode",
        /// Encoded until the kernel has taken the bytes; longer when the client does not read.
        Send = "send",
    }
}

/// Which stages a request goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Read,
    Write,
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
        &Self::ALL[Self::RequestGet as usize..=Self::RequestCoreStats as usize]
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

impl PartitionCounter {
    /// The counter of requests of an operation; `None` for what is no whole operation.
    #[must_use]
    pub const fn request(operation: Timing) -> Option<Self> {
        if operation as usize <= Timing::Scan as usize {
            Some(Self::ALL[operation as usize])
        } else {
            None
        }
    }

    /// All counters of requests that read.
    #[must_use]
    pub const fn reads() -> &'static [Self] {
        &[
            Self::Get,
            Self::Exist,
            Self::Ttl,
            Self::MultiGet,
            Self::BatchGet,
            Self::SortKeyCount,
            Self::Scan,
        ]
    }

    /// All counters of requests that write.
    #[must_use]
    pub const fn writes() -> &'static [Self] {
        &[
            Self::Put,
            Self::Remove,
            Self::MultiPut,
            Self::MultiRemove,
            Self::Incr,
            Self::CheckAndSet,
            Self::CheckAndMutate,
        ]
    }
}

impl Role {
    /// Of the word in a page; what is not known means nothing.
    #[must_use]
    pub const fn of_word(word: u64) -> Self {
        match word {
            1 => Self::Primary,
            2 => Self::Secondary,
            3 => Self::Learner,
            4 => Self::OutOfService,
            _ => Self::None,
        }
    }

    /// The word in JSON and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Learner => "learner",
            Self::OutOfService => "out_of_service",
        }
    }
}

impl Timing {
    /// The histograms of whole operations.
    #[must_use]
    pub fn operations() -> &'static [Self] {
        &Self::ALL[..=Self::Scan as usize]
    }

    /// The histograms of the stages of all writes and of all reads.
    #[must_use]
    pub fn stages() -> &'static [Self] {
        &Self::ALL[Self::WriteDecode as usize..=Self::ReadSend as usize]
    }

    /// The histograms of work that belongs to no one request.
    #[must_use]
    pub fn of_core() -> &'static [Self] {
        &Self::ALL[Self::LogFlush as usize..]
    }

    /// What kind of request this operation is; `None` for what is no whole operation.
    #[must_use]
    pub const fn class(self) -> Option<Class> {
        match self {
            Self::Put
            | Self::Remove
            | Self::MultiPut
            | Self::MultiRemove
            | Self::Incr
            | Self::CheckAndSet
            | Self::CheckAndMutate => Some(Class::Write),
            Self::Get
            | Self::Exist
            | Self::Ttl
            | Self::MultiGet
            | Self::BatchGet
            | Self::SortKeyCount
            | Self::Scan => Some(Class::Read),
            _ => None,
        }
    }
}

impl Stage {
    /// The histogram of this stage; `None` where requests of that class have no such stage.
    #[must_use]
    pub const fn timing(self, class: Class) -> Option<Timing> {
        Some(match (class, self) {
            (Class::Write, Self::Decode) => Timing::WriteDecode,
            (Class::Write, Self::Queue) => Timing::WriteQueue,
            (Class::Write, Self::Gate) => Timing::WriteGate,
            (Class::Write, Self::LogWait) => Timing::WriteLogWait,
            (Class::Write, Self::Flush) => Timing::WriteFlush,
            (Class::Write, Self::Replication) => Timing::WriteReplication,
            (Class::Write, Self::Apply) => Timing::WriteApply,
            (Class::Write, Self::Encode) => Timing::WriteEncode,
            (Class::Write, Self::Send) => Timing::WriteSend,
            (Class::Read, Self::Decode) => Timing::ReadDecode,
            (Class::Read, Self::Queue) => Timing::ReadQueue,
            (Class::Read, Self::Gate) => Timing::ReadGate,
            (Class::Read, Self::Read) => Timing::ReadRead,
            (Class::Read, Self::Encode) => Timing::ReadEncode,
            (Class::Read, Self::Send) => Timing::ReadSend,
            (Class::Write, Self::Read)
            | (Class::Read, Self::LogWait | Self::Flush | Self::Replication | Self::Apply) => {
                return None;
            }
        })
    }
}

impl Class {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Read, Self::Write];

    /// The word in JSON and tables, and the first part of the names of its stages' histograms.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// Its stages with their histograms, in the order in which a request goes through them.
    pub fn stages(self) -> impl Iterator<Item = (Stage, Timing)> {
        let stages: &[_] = match self {
            Self::Read => &Self::STAGES_OF_READS,
            Self::Write => &Self::STAGES_OF_WRITES,
        };
        stages.iter().copied()
    }

    // Looked up for each request: worked out beforehand.
    const STAGES_OF_READS: [(Stage, Timing); 6] = Self::Read.list();
    const STAGES_OF_WRITES: [(Stage, Timing); 9] = Self::Write.list();

    /// `N`: how many stages the class has.
    const fn list<const N: usize>(self) -> [(Stage, Timing); N] {
        let mut list = [(Stage::Decode, Timing::WriteDecode); N];
        let (mut at, mut count) = (0, 0);
        while at < Stage::COUNT {
            let stage = Stage::ALL[at];
            if let Some(timing) = stage.timing(self) {
                list[count] = (stage, timing);
                count += 1;
            }
            at += 1;
        }
        assert!(count == N, "each place is filled");
        list
    }
}
