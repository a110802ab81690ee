//! The native frame: a fixed header and a FlatBuffers body.
//!
//! | offset | size | field | |
//! |---|---|---|---|
//! | 0 | 4 | magic | `89 50 47 53`; the high bit of the first byte tells it from every text protocol |
//! | 4 | 1 | version | 1 |
//! | 5 | 1 | kind | `FrameKind`; the kind names the body's root table |
//! | 6 | 2 | flags | bit 0: reply, bit 1: failure (the body is `kv.Failure`) |
//! | 8 | 4 | body_length | bytes after the header, at most `BODY_BYTES_MAX` |
//! | 12 | 4 | crc | CRC32C of the header with this field as 0, then the body |
//! | 16 | 8 | request id | chosen by the asker, copied into the reply |
//! | 24 | 4 | table id | 0 where no partition is addressed |
//! | 28 | 4 | partition index | |
//! | 32 | 4 | timeout_ms | what is left of the asker's deadline; 0 = none given |
//! | 36 | 4 | reserved | 0 |
//!
//! All integers little-endian. The body starts at a multiple of 8 from the frame's start.

/// First four bytes of every native frame.
pub const MAGIC: [u8; 4] = [0x89, b'P', b'G', b'S'];
pub const VERSION: u8 = 1;
pub const HEADER_BYTES: usize = 40;
/// A request or reply over this is refused by closing the connection.
pub const BODY_BYTES_MAX: usize = 64 << 20;
pub const FLAG_REPLY: u16 = 1;
pub const FLAG_FAILURE: u16 = 2;

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
    // Operator to meta.
    CreateTable = 30,
    DropTable = 31,
    ListTables = 32,
    ShowTable = 33,
    ListNodes = 34,
    // Node to meta and back.
    Register = 40,
    RegisterReply = 41,
    RegisterProof = 42,
    Sync = 43,
    Heartbeat = 44,
    HeartbeatReply = 45,
    ProposeNextBallot = 46,
    // Core to core, on peer ports.
    Hello = 60,
    HelloReply = 61,
    HelloProof = 62,
    Prepare = 63,
    PrepareAcks = 64,
    PrepareReject = 65,
    Beacon = 66,
    BeaconAck = 67,
}
