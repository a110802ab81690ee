//! A stream of answers: any bytes in pieces of any size give what the whole stream gives at once, without more memory
//! than the limits. Run by the tests and by the fuzz target `resp_values`.

use bytes::BytesMut;
use pegasus_resp::{DecodeError, Limits, Value, ValueDecoder, Version, encode_value};

const LIMITS: Limits = Limits {
    line_bytes_max: 256,
    bulk_bytes_max: 1 << 10,
    total_bytes_max: 2 << 10,
    elements_max: 100,
    depth_max: 5,
};

/// The first byte says how large the pieces are, the rest is the stream.
pub(crate) fn run(input: &[u8]) {
    let Some((size, stream)) = input.split_first() else {
        return;
    };
    let (whole, end, _) = decode([stream].into_iter());
    let (pieces, refused, kept) = decode(stream.chunks(usize::from(*size) + 1));
    // As bytes: a double that is not a number equals nothing.
    assert_eq!(
        encoded(&pieces, Version::Resp3),
        encoded(&whole, Version::Resp3)
    );
    match (refused, end) {
        // A line over the bound is refused when the bound is passed, whatever follows.
        (Some(DecodeError::TooLarge { .. }), Some(_)) => {}
        (refused, end) => assert_eq!(refused, end),
    }
    if refused.is_none() {
        assert!(
            kept <= LIMITS.total_bytes_max + LIMITS.line_bytes_max + 260,
            "{kept} bytes kept"
        );
    }
    round_trip(&whole);
}

fn encoded(values: &[Value], version: Version) -> BytesMut {
    let mut bytes = BytesMut::new();
    for value in values {
        encode_value(&mut bytes, value, version);
    }
    bytes
}

/// Values, the refusal if there was one, and the bytes left in the buffer.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Value>, Option<DecodeError>, usize) {
    let mut decoder = ValueDecoder::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut values = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => {
                    let sentence = error.to_string();
                    assert!(!sentence.is_empty() && sentence.len() < 200, "{sentence}");
                    return (values, Some(error), buffer.len());
                }
            }
        }
    }
    (values, None, buffer.len())
}

/// In RESP3 the same value comes back, in RESP2 one that says the same when said again.
fn round_trip(values: &[Value]) {
    for version in [Version::Resp2, Version::Resp3] {
        for value in values {
            let bytes = encoded(std::slice::from_ref(value), version);
            let mut rest = bytes.clone();
            let mut decoder = ValueDecoder::default();
            let again = decoder.decode(&mut rest).unwrap().unwrap();
            assert!(rest.is_empty());
            assert_eq!(encoded(std::slice::from_ref(&again), version), bytes);
        }
    }
}
