//! Whether a stream is HTTP, told by its first line.

/// What the first line of a stream says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstLine {
    /// It ends in ` HTTP/1.x`.
    Http,
    /// It is something else, or longer than the limit.
    Other,
    /// It has not ended yet.
    NeedMore,
}

/// Looks at the first line of `input`, of which no more than `line_bytes_max` bytes are looked at. Empty lines before it
/// are not skipped: no client sends them on a new connection.
#[must_use]
pub fn sniff(input: &[u8], line_bytes_max: usize) -> FirstLine {
    let seen = &input[..input.len().min(line_bytes_max)];
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if seen.len() < line_bytes_max {
            FirstLine::NeedMore
        } else {
            FirstLine::Other
        };
    };
    let line = seen[..end].strip_suffix(b"\r").unwrap_or(&seen[..end]);
    match line.split_last_chunk::<9>() {
        Some((before, [b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor]))
            if !before.is_empty() && minor.is_ascii_digit() =>
        {
            FirstLine::Http
        }
        _ => FirstLine::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_that_ends_in_a_version_is_http() {
        let cases: [(&[u8], FirstLine); 8] = [
            (b"GET / HTTP/1.1\r\n", FirstLine::Http),
            (b"GET /version HTTP/1.0\nHost: a\n", FirstLine::Http),
            (b"GET key\r\n", FirstLine::Other),
            (b"GET HTTP/1.\r\n", FirstLine::Other),
            (b" HTTP/1.1\r\n", FirstLine::Other),
            (b"PRI * HTTP/2.0\r\n", FirstLine::Other),
            (b"GET / HTTP/1.1", FirstLine::NeedMore),
            (b"\r\n", FirstLine::Other),
        ];
        for (input, expected) in cases {
            assert_eq!(sniff(input, 64), expected, "{input:?}");
        }
    }

    #[test]
    fn a_line_over_the_limit_is_not_waited_for() {
        assert_eq!(sniff(&[b'a'; 9], 10), FirstLine::NeedMore);
        assert_eq!(sniff(&[b'a'; 10], 10), FirstLine::Other);
    }
}
