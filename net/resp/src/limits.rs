//! What a receiver is ready to keep.

/// Bounds of what one command or one answer may take. Whatever is over a bound is refused as soon as its length is
/// known, before it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a line: a simple string, an error, a number, an inline command; without its end.
    pub line_bytes_max: usize,
    /// Bytes of one bulk string.
    pub bulk_bytes_max: usize,
    /// Bytes of a whole command or answer.
    pub total_bytes_max: usize,
    /// Arguments of a command; values of an answer, those within arrays counted too.
    pub elements_max: usize,
    /// Arrays within arrays of an answer, at most 64: deeper ones are refused. 0 = no arrays at all.
    pub depth_max: usize,
}

impl Limits {
    /// 64 KiB lines and 2^20 elements as in Redis, 64 MiB in all, 8 levels.
    pub const DEFAULT: Self = Self {
        line_bytes_max: 64 << 10,
        bulk_bytes_max: 64 << 20,
        total_bytes_max: 64 << 20,
        elements_max: 1 << 20,
        depth_max: 8,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
