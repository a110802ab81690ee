//! Which protocol a connection speaks, told by its first bytes, once.

use pegasus_fbs::frame;
use pegasus_http::FirstLine;

/// A protocol of client ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spoken {
    Native,
    /// Apache Pegasus: all clients but the one in C++.
    Thft,
    /// Apache Pegasus: the client in C++, the shell.
    Rdsn,
    Http,
    /// Redis: arrays, or lines as people type them.
    Resp,
    /// None of them.
    Unknown,
}

/// Bytes of a first line that is looked at; a longer one cannot be HTTP.
const FIRST_LINE_BYTES_MAX: usize = 8 << 10;

/// The protocol of a stream that begins like this; `None` when more bytes are needed.
///
/// The native magic has its high bit set; THFT and RDSN begin with their names; HTTP is a first line that ends in
/// ` HTTP/1.x`; all other text is Redis, which has inline commands of any letters.
#[must_use]
pub fn sniff(input: &[u8]) -> Option<Spoken> {
    let first = *input.first()?;
    if first == frame::MAGIC[0] {
        return magic(input, &frame::MAGIC, Spoken::Native);
    }
    for (name, spoken) in [(b"THFT", Spoken::Thft), (b"RDSN", Spoken::Rdsn)] {
        match magic(input, name, spoken) {
            Some(Spoken::Unknown) => {}
            told => return told,
        }
    }
    match first {
        b'*' => Some(Spoken::Resp),
        b'\r' | b'\n' | b'\t' | b' '..=b'~' => text(input),
        _ => Some(Spoken::Unknown),
    }
}

fn magic(input: &[u8], magic: &[u8], spoken: Spoken) -> Option<Spoken> {
    let known = input.len().min(magic.len());
    if input[..known] != magic[..known] {
        return Some(Spoken::Unknown);
    }
    (known == magic.len()).then_some(spoken)
}

fn text(input: &[u8]) -> Option<Spoken> {
    match pegasus_http::sniff(input, FIRST_LINE_BYTES_MAX) {
        FirstLine::Http => Some(Spoken::Http),
        FirstLine::Other => Some(Spoken::Resp),
        FirstLine::NeedMore => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_known_by_its_first_bytes_and_not_before() {
        let cases: [(&[u8], usize, Spoken); 9] = [
            (&frame::MAGIC, 4, Spoken::Native),
            (b"THFT\0\0\0\0", 4, Spoken::Thft),
            (b"RDSN\0\0\0\0", 4, Spoken::Rdsn),
            (b"GET / HTTP/1.1\r\n", 16, Spoken::Http),
            (b"GET key\r\n", 9, Spoken::Resp),
            (b"TTL key\n", 8, Spoken::Resp),
            (b"RENAME a b\r\n", 12, Spoken::Resp),
            (b"*1\r\n$4\r\nPING\r\n", 1, Spoken::Resp),
            (&[0x16, 3, 1], 1, Spoken::Unknown),
        ];
        for (stream, needed, spoken) in cases {
            for end in 0..needed {
                assert_eq!(sniff(&stream[..end]), None, "{stream:?} up to {end}");
            }
            for end in needed..=stream.len() {
                assert_eq!(
                    sniff(&stream[..end]),
                    Some(spoken),
                    "{stream:?} up to {end}"
                );
            }
        }
    }

    #[test]
    fn what_only_begins_like_the_native_magic_is_unknown() {
        let mut stream = frame::MAGIC;
        stream[3] ^= 1;
        assert_eq!(sniff(&stream), Some(Spoken::Unknown));
    }
}
