//! Which protocol a connection speaks, by its first bytes, once and for all.

use pegasus_http::FirstLine;
use pegasus_thrift::{Progress, Protocol};

/// Bytes of a first line that is not yet known to be HTTP.
const LINE_BYTES_MAX: usize = 8 << 10;

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sniffed {
    /// Too little is there.
    NeedMore,
    /// Our own frames; also what is none, which their decoder refuses.
    Native,
    Apache(Protocol),
    Http,
    /// Text that is no HTTP: Redis, or somebody at a terminal.
    Text,
}

/// Native frames begin with a byte whose high bit is set, which no text does.
pub(super) fn sniff(input: &[u8]) -> Sniffed {
    let Some(&first) = input.first() else {
        return Sniffed::NeedMore;
    };
    let is_text = first.is_ascii_graphic() || first.is_ascii_whitespace();
    if !is_text {
        return Sniffed::Native;
    }
    match pegasus_thrift::detect(input) {
        Progress::Done(Some(protocol)) => return Sniffed::Apache(protocol),
        Progress::NeedMore(_) if may_be_apache(input) => return Sniffed::NeedMore,
        Progress::Done(None) | Progress::NeedMore(_) => {}
    }
    match pegasus_http::sniff(input, LINE_BYTES_MAX) {
        FirstLine::Http => Sniffed::Http,
        FirstLine::Other => Sniffed::Text,
        FirstLine::NeedMore => Sniffed::NeedMore,
    }
}

/// Fewer than four bytes, as a request of Apache's clients begins.
fn may_be_apache(input: &[u8]) -> bool {
    [b"THFT", b"RDSN"]
        .iter()
        .any(|magic| magic.starts_with(input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_is_told_by_its_first_bytes_however_few_come_at_a_time() {
        let cases: [(&[u8], Sniffed); 7] = [
            (b"\x89PGS\x01", Sniffed::Native),
            (b"\x00\x00", Sniffed::Native),
            (b"THFT\0\0\0\0", Sniffed::Apache(Protocol::Thft)),
            (b"RDSN\0", Sniffed::Apache(Protocol::Rdsn)),
            (b"GET /version HTTP/1.1\r\n", Sniffed::Http),
            (b"*1\r\n$4\r\nPING\r\n", Sniffed::Text),
            (b"PING\r\n", Sniffed::Text),
        ];
        for (bytes, expected) in cases {
            for length in 1..bytes.len() {
                let so_far = sniff(&bytes[..length]);
                let fits = so_far == Sniffed::NeedMore || so_far == expected;
                assert!(fits, "{bytes:?} after {length}: {so_far:?}");
            }
            assert_eq!(sniff(bytes), expected, "{bytes:?}");
        }
    }
}
