//! Apache's own value types. They say that they are structs (type 12) and are not.

use crate::binary::{Decode, Encode, Kind, Reader};
use crate::{DecodeError, Fault};
use std::net::{Ipv4Addr, SocketAddrV4};

/// A partition: Apache's "global partition id".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Gpid {
    /// The table; 0 or less where no table is addressed.
    pub app_id: i32,
    pub partition_index: i32,
}

impl Encode for Gpid {
    const KIND: Kind = Kind::Struct;

    /// The index in the upper half.
    fn encode(&self, out: &mut Vec<u8>) {
        self.partition_index.encode(out);
        self.app_id.encode(out);
    }
}

impl Decode<'_> for Gpid {
    const BYTES_MIN: usize = 8;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let partition_index = reader.i32()?;
        let app_id = reader.i32()?;
        Ok(Self {
            app_id,
            partition_index,
        })
    }
}

/// Where a server listens: IPv4 and port, or nowhere. Other kinds (groups) are kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct RpcAddress(u64);

impl RpcAddress {
    /// No server.
    pub const NONE: Self = Self(0);
    const TYPE_MASK: u64 = 3;
    const TYPE_V4: u64 = 1;

    #[must_use]
    pub fn new(address: SocketAddrV4) -> Self {
        let ip = u64::from(address.ip().to_bits());
        Self(ip << 32 | u64::from(address.port()) << 16 | Self::TYPE_V4)
    }

    /// From the number on the wire: address, port, type.
    #[must_use]
    pub const fn of_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The address, `None` for [`RpcAddress::NONE`] and for groups.
    #[must_use]
    pub fn v4(self) -> Option<SocketAddrV4> {
        let [a, b, c, d, port @ .., _, _] = self.0.to_be_bytes();
        (self.0 & Self::TYPE_MASK == Self::TYPE_V4)
            .then(|| SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes(port)))
    }
}

impl From<SocketAddrV4> for RpcAddress {
    fn from(address: SocketAddrV4) -> Self {
        Self::new(address)
    }
}

impl Encode for RpcAddress {
    const KIND: Kind = Kind::Struct;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
}

impl Decode<'_> for RpcAddress {
    const BYTES_MIN: usize = 8;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.i64().map(|bits| Self(bits.cast_unsigned()))
    }
}

/// Where a server listens, by name; what C++ clients of 2.6 and later look at. THFT clients must not be sent any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum HostPort<'a> {
    #[default]
    None,
    /// An address, written as text.
    V4(SocketAddrV4),
    Named {
        host: &'a str,
        port: u16,
    },
}

impl From<RpcAddress> for HostPort<'_> {
    fn from(address: RpcAddress) -> Self {
        address.v4().map_or(Self::None, Self::V4)
    }
}

impl HostPort<'_> {
    const TYPE_NONE: u8 = 0;
    const TYPE_NAMED: u8 = 1;
}

impl Encode for HostPort<'_> {
    const KIND: Kind = Kind::Struct;

    fn encode(&self, out: &mut Vec<u8>) {
        let (port, kind) = match self {
            Self::None => {
                "".encode(out);
                (0, Self::TYPE_NONE)
            }
            Self::V4(address) => {
                address.ip().to_string().as_str().encode(out);
                (address.port(), Self::TYPE_NAMED)
            }
            Self::Named { host, port } => {
                host.encode(out);
                (*port, Self::TYPE_NAMED)
            }
        };
        out.extend_from_slice(&port.to_be_bytes());
        out.push(kind);
    }
}

impl<'a> Decode<'a> for HostPort<'a> {
    const BYTES_MIN: usize = 7;

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let host = reader.text()?;
        let port = reader.i16()?.cast_unsigned();
        match reader.byte()? {
            Self::TYPE_NONE => Ok(Self::None),
            Self::TYPE_NAMED => Ok(host.parse().map_or(Self::Named { host, port }, |ip| {
                Self::V4(SocketAddrV4::new(ip, port))
            })),
            other => {
                let found = other.into();
                Err(DecodeError::new("host_port type", Fault::Unknown { found }))
            }
        }
    }
}

/// A `task_code`: the name of a request within another one. Not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct TaskCode<'a>(pub &'a [u8]);

impl Encode for TaskCode<'_> {
    const KIND: Kind = Kind::Struct;

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl<'a> Decode<'a> for TaskCode<'a> {
    const BYTES_MIN: usize = 4;

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.bytes().map(Self)
    }
}
