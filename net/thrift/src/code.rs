//! Names of errors. Numbers differ from process to process in Apache Pegasus; only names travel.

use crate::DecodeError;
use crate::binary::{Decode, Encode, Kind, Reader};

macro_rules! names {
    (
        $(#[$about:meta])*
        pub enum $name:ident { $($(#[$variant_about:meta])* $variant:ident = $text:literal),* $(,)? }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
        pub enum $name {
            $($(#[$variant_about])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The one with this name.
            #[must_use]
            pub fn of_name(name: &[u8]) -> Option<Self> {
                match std::str::from_utf8(name).ok()? {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

names! {
/// An error within the answer of meta (`err`), or read from a frame: the names that Java clients know, because an
/// unknown one kills their connection. Others are read as [`ErrorCode::Unknown`].
pub enum ErrorCode {
    #[default]
    Ok = "ERR_OK",
    Unknown = "ERR_UNKNOWN",
    ServiceNotFound = "ERR_SERVICE_NOT_FOUND",
    ServiceAlreadyRunning = "ERR_SERVICE_ALREADY_RUNNING",
    IoPending = "ERR_IO_PENDING",
    Timeout = "ERR_TIMEOUT",
    ServiceNotActive = "ERR_SERVICE_NOT_ACTIVE",
    Busy = "ERR_BUSY",
    NetworkInitFailed = "ERR_NETWORK_INIT_FAILED",
    ForwardToOthers = "ERR_FORWARD_TO_OTHERS",
    ObjectNotFound = "ERR_OBJECT_NOT_FOUND",
    HandlerNotFound = "ERR_HANDLER_NOT_FOUND",
    LearnFileFailed = "ERR_LEARN_FILE_FAILED",
    GetLearnStateFailed = "ERR_GET_LEARN_STATE_FAILED",
    InvalidVersion = "ERR_INVALID_VERSION",
    InvalidParameters = "ERR_INVALID_PARAMETERS",
    CapacityExceeded = "ERR_CAPACITY_EXCEEDED",
    InvalidState = "ERR_INVALID_STATE",
    InactiveState = "ERR_INACTIVE_STATE",
    NotEnoughMember = "ERR_NOT_ENOUGH_MEMBER",
    FileOperationFailed = "ERR_FILE_OPERATION_FAILED",
    HandleEof = "ERR_HANDLE_EOF",
    WrongChecksum = "ERR_WRONG_CHECKSUM",
    InvalidData = "ERR_INVALID_DATA",
    InvalidHandle = "ERR_INVALID_HANDLE",
    IncompleteData = "ERR_INCOMPLETE_DATA",
    VersionOutdated = "ERR_VERSION_OUTDATED",
    PathNotFound = "ERR_PATH_NOT_FOUND",
    PathAlreadyExist = "ERR_PATH_ALREADY_EXIST",
    AddressAlreadyUsed = "ERR_ADDRESS_ALREADY_USED",
    StateFreezed = "ERR_STATE_FREEZED",
    LocalAppFailure = "ERR_LOCAL_APP_FAILURE",
    BindIocpFailed = "ERR_BIND_IOCP_FAILED",
    NetworkStartFailed = "ERR_NETWORK_START_FAILED",
    NotImplemented = "ERR_NOT_IMPLEMENTED",
    CheckpointFailed = "ERR_CHECKPOINT_FAILED",
    WrongTiming = "ERR_WRONG_TIMING",
    NoNeedOperate = "ERR_NO_NEED_OPERATE",
    Corruption = "ERR_CORRUPTION",
    TryAgain = "ERR_TRY_AGAIN",
    ClusterNotFound = "ERR_CLUSTER_NOT_FOUND",
    ClusterAlreadyExist = "ERR_CLUSTER_ALREADY_EXIST",
    ServiceAlreadyExist = "ERR_SERVICE_ALREADY_EXIST",
    Injected = "ERR_INJECTED",
    ReplicationFailure = "ERR_REPLICATION_FAILURE",
    AppExist = "ERR_APP_EXIST",
    AppNotExist = "ERR_APP_NOT_EXIST",
    BusyCreating = "ERR_BUSY_CREATING",
    BusyDropping = "ERR_BUSY_DROPPING",
    NetworkFailure = "ERR_NETWORK_FAILURE",
    UnderRecovery = "ERR_UNDER_RECOVERY",
    LearnerNotFound = "ERR_LEARNER_NOT_FOUND",
    OperationDisabled = "ERR_OPERATION_DISABLED",
    Expired = "ERR_EXPIRED",
    LockAlreadyExist = "ERR_LOCK_ALREADY_EXIST",
    HoldByOthers = "ERR_HOLD_BY_OTHERS",
    RecursiveLock = "ERR_RECURSIVE_LOCK",
    NoOwner = "ERR_NO_OWNER",
    NodeAlreadyExist = "ERR_NODE_ALREADY_EXIST",
    InconsistentState = "ERR_INCONSISTENT_STATE",
    ArrayIndexOutOfRange = "ERR_ARRAY_INDEX_OUT_OF_RANGE",
    DirNotEmpty = "ERR_DIR_NOT_EMPTY",
    FsInternal = "ERR_FS_INTERNAL",
    IgnoreBadData = "ERR_IGNORE_BAD_DATA",
    AppDropped = "ERR_APP_DROPPED",
    MockInternal = "ERR_MOCK_INTERNAL",
    ZookeeperOperation = "ERR_ZOOKEEPER_OPERATION",
    ChildRegistered = "ERR_CHILD_REGISTERED",
    IngestionFailed = "ERR_INGESTION_FAILED",
    Unauthenticated = "ERR_UNAUTHENTICATED",
    Krb5Internal = "ERR_KRB5_INTERNAL",
    SaslInternal = "ERR_SASL_INTERNAL",
    SaslIncomplete = "ERR_SASL_INCOMPLETE",
    AclDeny = "ERR_ACL_DENY",
    Splitting = "ERR_SPLITTING",
    ParentPartitionMisused = "ERR_PARENT_PARTITION_MISUSED",
    ChildNotReady = "ERR_CHILD_NOT_READY",
    DiskInsufficient = "ERR_DISK_INSUFFICIENT",
}
}

names! {
/// How a request fares as a whole: the error name of a frame. Only names that every current client knows; those that
/// `pypegasus3` does not know are marked ([`FrameStatus::is_known_to_all`]).
pub enum FrameStatus {
    #[default]
    Ok = "ERR_OK",
    /// No such table, or its partition is not here.
    ObjectNotFound = "ERR_OBJECT_NOT_FOUND",
    /// Not the primary, or not ready to serve.
    InvalidState = "ERR_INVALID_STATE",
    /// Throttled.
    Busy = "ERR_BUSY",
    /// Too few replicas for a write.
    NotEnoughMember = "ERR_NOT_ENOUGH_MEMBER",
    /// Too many writes under way.
    CapacityExceeded = "ERR_CAPACITY_EXCEEDED",
    /// Too large.
    InvalidData = "ERR_INVALID_DATA",
    InvalidParameters = "ERR_INVALID_PARAMETERS",
    /// No such request.
    HandlerNotFound = "ERR_HANDLER_NOT_FOUND",
    /// Done or not done, nobody knows.
    Timeout = "ERR_TIMEOUT",
    /// Starting, or shutting down.
    ServiceNotActive = "ERR_SERVICE_NOT_ACTIVE",
    /// Unknown to `pypegasus3`.
    AclDeny = "ERR_ACL_DENY",
    /// Unknown to `pypegasus3`.
    OperationDisabled = "ERR_OPERATION_DISABLED",
    /// Unknown to `pypegasus3`.
    Splitting = "ERR_SPLITTING",
    /// Unknown to `pypegasus3`.
    ParentPartitionMisused = "ERR_PARENT_PARTITION_MISUSED",
    /// Unknown to `pypegasus3`.
    DiskInsufficient = "ERR_DISK_INSUFFICIENT",
}
}

impl FrameStatus {
    /// False for the names that `pypegasus3` breaks on; where they apply, Apache's servers send them all the same.
    #[must_use]
    pub const fn is_known_to_all(self) -> bool {
        !matches!(
            self,
            Self::AclDeny
                | Self::OperationDisabled
                | Self::Splitting
                | Self::ParentPartitionMisused
                | Self::DiskInsufficient
        )
    }
}

impl Encode for ErrorCode {
    const KIND: Kind = Kind::Struct;

    fn encode(&self, out: &mut Vec<u8>) {
        self.name().as_bytes().encode(out);
    }
}

impl Decode<'_> for ErrorCode {
    const BYTES_MIN: usize = 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = reader.bytes()?;
        Ok(Self::of_name(name).unwrap_or(Self::Unknown))
    }
}

/// Numbers in the `error` field of the answers of the data path: those of RocksDB's statuses.
pub mod storage {
    pub const OK: i32 = 0;
    /// Missing or expired; an unknown scan context.
    pub const NOT_FOUND: i32 = 1;
    pub const CORRUPTION: i32 = 2;
    pub const NOT_SUPPORTED: i32 = 3;
    pub const INVALID_ARGUMENT: i32 = 4;
    pub const IO_ERROR: i32 = 5;
    /// A limit stopped a read of many rows; the rows found so far are in the answer.
    pub const INCOMPLETE: i32 = 7;
    pub const TIMED_OUT: i32 = 9;
    pub const ABORTED: i32 = 10;
    pub const BUSY: i32 = 11;
    pub const EXPIRED: i32 = 12;
    /// The check of a check-and-set did not pass.
    pub const TRY_AGAIN: i32 = 13;
}
