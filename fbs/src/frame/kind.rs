//! The kinds of frames and their numbers.

use super::DecodeError;

/// What a frame carries. A reply has the kind of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    // Client to a core.
    Get = 1,
    Put = 2,
    Remove = 3,
    Exist = 4,
    Ttl = 5,
    MultiPut = 6,
    MultiGet = 7,
    MultiRemove = 8,
    BatchGet = 9,
    SortKeyCount = 10,
    Scan = 11,
    // Client to meta or any core.
    Route = 20,
    Ping = 21,
    // Client to any core, for that core or another one of the node.
    CoreStats = 22,
    // Client to any core, for its whole node.
    Scrub = 23,
    // Operator to meta.
    CreateTable = 30,
    DropTable = 31,
    ListTables = 32,
    ShowTable = 33,
    ListNodes = 34,
    MovePrimary = 35,
    MoveReplica = 36,
    DrainNode = 37,
    UndrainNode = 38,
    // Node to meta and back.
    Register = 40,
    RegisterReply = 41,
    RegisterProof = 42,
    Sync = 43,
    Heartbeat = 44,
    HeartbeatReply = 45,
    ProposeNextBallot = 46,
    ProposeChange = 47,
    // Core to core, on peer ports.
    Hello = 60,
    HelloReply = 61,
    HelloProof = 62,
    Prepare = 63,
    PrepareAcks = 64,
    PrepareReject = 65,
    Beacon = 66,
    BeaconAck = 67,
    LearnRequest = 68,
    LearnReply = 69,
    Yield = 70,
    // Node to node, on transfer ports, after the handshake of the core-to-core links.
    TransferOpen = 80,
    TransferManifest = 81,
    TransferFetch = 82,
    TransferChunk = 83,
    TransferEntries = 84,
}

impl FrameKind {
    /// Every kind; later ones at the end, so that each keeps its place.
    pub const ALL: [Self; 48] = [
        Self::Get,
        Self::Put,
        Self::Remove,
        Self::Exist,
        Self::Ttl,
        Self::MultiPut,
        Self::MultiGet,
        Self::MultiRemove,
        Self::BatchGet,
        Self::SortKeyCount,
        Self::Scan,
        Self::Route,
        Self::Ping,
        Self::CoreStats,
        Self::CreateTable,
        Self::DropTable,
        Self::ListTables,
        Self::ShowTable,
        Self::ListNodes,
        Self::Register,
        Self::RegisterReply,
        Self::RegisterProof,
        Self::Sync,
        Self::Heartbeat,
        Self::HeartbeatReply,
        Self::ProposeNextBallot,
        Self::Hello,
        Self::HelloReply,
        Self::HelloProof,
        Self::Prepare,
        Self::PrepareAcks,
        Self::PrepareReject,
        Self::Beacon,
        Self::BeaconAck,
        Self::LearnRequest,
        Self::LearnReply,
        Self::Yield,
        Self::TransferOpen,
        Self::TransferManifest,
        Self::TransferFetch,
        Self::TransferChunk,
        Self::TransferEntries,
        Self::MovePrimary,
        Self::MoveReplica,
        Self::DrainNode,
        Self::UndrainNode,
        Self::ProposeChange,
        Self::Scrub,
    ];

    /// The number in the header.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl TryFrom<u8> for FrameKind {
    type Error = DecodeError;

    fn try_from(number: u8) -> Result<Self, DecodeError> {
        Ok(match number {
            1 => Self::Get,
            2 => Self::Put,
            3 => Self::Remove,
            4 => Self::Exist,
            5 => Self::Ttl,
            6 => Self::MultiPut,
            7 => Self::MultiGet,
            8 => Self::MultiRemove,
            9 => Self::BatchGet,
            10 => Self::SortKeyCount,
            11 => Self::Scan,
            20 => Self::Route,
            21 => Self::Ping,
            22 => Self::CoreStats,
            23 => Self::Scrub,
            30 => Self::CreateTable,
            31 => Self::DropTable,
            32 => Self::ListTables,
            33 => Self::ShowTable,
            34 => Self::ListNodes,
            35 => Self::MovePrimary,
            36 => Self::MoveReplica,
            37 => Self::DrainNode,
            38 => Self::UndrainNode,
            40 => Self::Register,
            41 => Self::RegisterReply,
            42 => Self::RegisterProof,
            43 => Self::Sync,
            44 => Self::Heartbeat,
            45 => Self::HeartbeatReply,
            46 => Self::ProposeNextBallot,
            47 => Self::ProposeChange,
            60 => Self::Hello,
            61 => Self::HelloReply,
            62 => Self::HelloProof,
            63 => Self::Prepare,
            64 => Self::PrepareAcks,
            65 => Self::PrepareReject,
            66 => Self::Beacon,
            67 => Self::BeaconAck,
            68 => Self::LearnRequest,
            69 => Self::LearnReply,
            70 => Self::Yield,
            80 => Self::TransferOpen,
            81 => Self::TransferManifest,
            82 => Self::TransferFetch,
            83 => Self::TransferChunk,
            84 => Self::TransferEntries,
            _ => return Err(DecodeError::Kind { found: number }),
        })
    }
}
