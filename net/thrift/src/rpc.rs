//! The requests of Apache Pegasus, by name.

/// Who answers a request, and what kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RpcKind {
    /// A partition, by its primary or, for a backup request, by any replica.
    Read,
    /// The primary of a partition.
    Write,
    /// Meta, for clients and tools.
    Meta,
    /// Meta, for Apache's own replica servers.
    MetaInternal,
    /// A replica server, for tools.
    Replica,
    /// Every server.
    Any,
    /// Between Apache's own servers.
    Internal,
}

macro_rules! rpcs {
    ($($name:ident = $text:literal: $kind:ident,)*) => {
        /// A request, by its name on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Rpc {
            $(#[doc = concat!("`", $text, "`")] $name,)*
        }

        impl Rpc {
            /// All that Apache Pegasus has.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The name of its answer.
            #[must_use]
            pub const fn ack_name(self) -> &'static str {
                match self { $(Self::$name => concat!($text, "_ACK"),)* }
            }

            /// The request with this name.
            #[must_use]
            #[allow(non_upper_case_globals, reason = "named as the requests, to be patterns")]
            pub fn of_name(name: &[u8]) -> Option<Self> {
                $(const $name: &[u8] = $text.as_bytes();)*
                match name {
                    $($name => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// A sentence for operators.
            #[must_use]
            pub const fn unsupported(self) -> &'static str {
                match self { $(Self::$name => concat!($text, " is not supported by this server"),)* }
            }

            #[must_use]
            pub const fn kind(self) -> RpcKind {
                match self { $(Self::$name => RpcKind::$kind,)* }
            }
        }
    };
}

rpcs! {
    Put = "RPC_RRDB_RRDB_PUT": Write,
    MultiPut = "RPC_RRDB_RRDB_MULTI_PUT": Write,
    Remove = "RPC_RRDB_RRDB_REMOVE": Write,
    MultiRemove = "RPC_RRDB_RRDB_MULTI_REMOVE": Write,
    Incr = "RPC_RRDB_RRDB_INCR": Write,
    CheckAndSet = "RPC_RRDB_RRDB_CHECK_AND_SET": Write,
    CheckAndMutate = "RPC_RRDB_RRDB_CHECK_AND_MUTATE": Write,
    Duplicate = "RPC_RRDB_RRDB_DUPLICATE": Write,
    BulkLoad = "RPC_RRDB_RRDB_BULK_LOAD": Write,
    Get = "RPC_RRDB_RRDB_GET": Read,
    MultiGet = "RPC_RRDB_RRDB_MULTI_GET": Read,
    BatchGet = "RPC_RRDB_RRDB_BATCH_GET": Read,
    SortkeyCount = "RPC_RRDB_RRDB_SORTKEY_COUNT": Read,
    Ttl = "RPC_RRDB_RRDB_TTL": Read,
    GetScanner = "RPC_RRDB_RRDB_GET_SCANNER": Read,
    Scan = "RPC_RRDB_RRDB_SCAN": Read,
    ClearScanner = "RPC_RRDB_RRDB_CLEAR_SCANNER": Read,
    CreateApp = "RPC_CM_CREATE_APP": Meta,
    DropApp = "RPC_CM_DROP_APP": Meta,
    RecallApp = "RPC_CM_RECALL_APP": Meta,
    RenameApp = "RPC_CM_RENAME_APP": Meta,
    ListApps = "RPC_CM_LIST_APPS": Meta,
    ListNodes = "RPC_CM_LIST_NODES": Meta,
    ClusterInfo = "RPC_CM_CLUSTER_INFO": Meta,
    ControlMeta = "RPC_CM_CONTROL_META": Meta,
    ProposeBalancer = "RPC_CM_PROPOSE_BALANCER": Meta,
    StartRecovery = "RPC_CM_START_RECOVERY": Meta,
    UpdateAppEnv = "RPC_CM_UPDATE_APP_ENV": Meta,
    DddDiagnose = "RPC_CM_DDD_DIAGNOSE": Meta,
    StartManualCompact = "RPC_CM_START_MANUAL_COMPACT": Meta,
    QueryManualCompactStatus = "RPC_CM_QUERY_MANUAL_COMPACT_STATUS": Meta,
    GetMaxReplicaCount = "RPC_CM_GET_MAX_REPLICA_COUNT": Meta,
    SetMaxReplicaCount = "RPC_CM_SET_MAX_REPLICA_COUNT": Meta,
    GetAtomicIdempotent = "RPC_CM_GET_ATOMIC_IDEMPOTENT": Meta,
    SetAtomicIdempotent = "RPC_CM_SET_ATOMIC_IDEMPOTENT": Meta,
    StartPartitionSplit = "RPC_CM_START_PARTITION_SPLIT": Meta,
    ControlPartitionSplit = "RPC_CM_CONTROL_PARTITION_SPLIT": Meta,
    QueryPartitionSplit = "RPC_CM_QUERY_PARTITION_SPLIT": Meta,
    AddDuplication = "RPC_CM_ADD_DUPLICATION": Meta,
    ModifyDuplication = "RPC_CM_MODIFY_DUPLICATION": Meta,
    QueryDuplication = "RPC_CM_QUERY_DUPLICATION": Meta,
    ListDuplication = "RPC_CM_LIST_DUPLICATION": Meta,
    StartBulkLoad = "RPC_CM_START_BULK_LOAD": Meta,
    ControlBulkLoad = "RPC_CM_CONTROL_BULK_LOAD": Meta,
    QueryBulkLoadStatus = "RPC_CM_QUERY_BULK_LOAD_STATUS": Meta,
    ClearBulkLoad = "RPC_CM_CLEAR_BULK_LOAD": Meta,
    StartBackupApp = "RPC_CM_START_BACKUP_APP": Meta,
    QueryBackupStatus = "RPC_CM_QUERY_BACKUP_STATUS": Meta,
    AddBackupPolicy = "RPC_CM_ADD_BACKUP_POLICY": Meta,
    ModifyBackupPolicy = "RPC_CM_MODIFY_BACKUP_POLICY": Meta,
    QueryBackupPolicy = "RPC_CM_QUERY_BACKUP_POLICY": Meta,
    StartRestore = "RPC_CM_START_RESTORE": Meta,
    QueryRestoreStatus = "RPC_CM_QUERY_RESTORE_STATUS": Meta,
    ReportRestoreStatus = "RPC_CM_REPORT_RESTORE_STATUS": MetaInternal,
    QueryPartitionConfigByIndex = "RPC_CM_QUERY_PARTITION_CONFIG_BY_INDEX": Meta,
    ConfigSync = "RPC_CM_CONFIG_SYNC": MetaInternal,
    UpdatePartitionConfiguration = "RPC_CM_UPDATE_PARTITION_CONFIGURATION": MetaInternal,
    RegisterChildReplica = "RPC_CM_REGISTER_CHILD_REPLICA": MetaInternal,
    NotifyStopSplit = "RPC_CM_NOTIFY_STOP_SPLIT": MetaInternal,
    QueryChildState = "RPC_CM_QUERY_CHILD_STATE": MetaInternal,
    DuplicationSync = "RPC_CM_DUPLICATION_SYNC": MetaInternal,
    QueryDiskInfo = "RPC_QUERY_DISK_INFO": Replica,
    ReplicaDiskMigrate = "RPC_REPLICA_DISK_MIGRATE": Replica,
    DetectHotkey = "RPC_DETECT_HOTKEY": Replica,
    AddNewDisk = "RPC_ADD_NEW_DISK": Replica,
    QueryReplicaInfo = "RPC_QUERY_REPLICA_INFO": Replica,
    QueryAppInfo = "RPC_QUERY_APP_INFO": Replica,
    QueryPnDecree = "RPC_QUERY_PN_DECREE": Replica,
    QueryLastCheckpointInfo = "RPC_QUERY_LAST_CHECKPOINT_INFO": Replica,
    Cli = "RPC_CLI_CLI_CALL": Any,
    Negotiation = "RPC_NEGOTIATION": Any,
    FdFailureDetectorPing = "RPC_FD_FAILURE_DETECTOR_PING": Internal,
    NfsCopy = "RPC_NFS_COPY": Internal,
    NfsGetFileSize = "RPC_NFS_GET_FILE_SIZE": Internal,
    ConfigProposal = "RPC_CONFIG_PROPOSAL": Internal,
    Prepare = "RPC_PREPARE": Internal,
    Learn = "RPC_LEARN": Internal,
    LearnCompletionNotify = "RPC_LEARN_COMPLETION_NOTIFY": Internal,
    LearnAddLearner = "RPC_LEARN_ADD_LEARNER": Internal,
    RemoveReplica = "RPC_REMOVE_REPLICA": Internal,
    GroupCheck = "RPC_GROUP_CHECK": Internal,
    ColdBackup = "RPC_COLD_BACKUP": Internal,
    ClearColdBackup = "RPC_CLEAR_COLD_BACKUP": Internal,
    ReplicaBulkLoad = "RPC_BULK_LOAD": Internal,
    GroupBulkLoad = "RPC_GROUP_BULK_LOAD": Internal,
    SplitNotifyCatchUp = "RPC_SPLIT_NOTIFY_CATCH_UP": Internal,
    SplitUpdateChildPartitionCount = "RPC_SPLIT_UPDATE_CHILD_PARTITION_COUNT": Internal,
}

impl Rpc {
    /// Changes data of a partition.
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(self.kind(), RpcKind::Write)
    }

    /// Of the data path: addressed to a partition.
    #[must_use]
    pub const fn is_data(self) -> bool {
        matches!(self.kind(), RpcKind::Read | RpcKind::Write)
    }

    /// False for the one request that must never be answered: clients break on an answer.
    #[must_use]
    pub const fn is_answered(self) -> bool {
        !matches!(self, Self::ClearScanner)
    }

    /// A number for it within this process; not on any wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The request with this number of [`Rpc::number`].
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}
