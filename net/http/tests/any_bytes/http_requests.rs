//! A stream of HTTP requests: any bytes in pieces of any size give what the whole stream gives at once, without more
//! memory than the limits. Run by the tests and by the fuzz target `http_requests`.

use bytes::BytesMut;
use pegasus_http::{DecodeError, Limits, Request, RequestDecoder, sniff};

const LIMITS: Limits = Limits {
    head_bytes_max: 256,
    body_bytes_max: 128,
};

/// The first byte says how large the pieces are, the rest is the stream.
pub(crate) fn run(input: &[u8]) {
    let Some((size, stream)) = input.split_first() else {
        return;
    };
    let _ = sniff(stream, 64);
    let (whole, end, _) = decode([stream].into_iter());
    let (pieces, refused, kept) = decode(stream.chunks(usize::from(*size) + 1));
    assert_eq!(pieces, whole);
    assert_eq!(refused, end);
    if refused.is_none() {
        assert!(
            kept <= LIMITS.head_bytes_max.max(LIMITS.body_bytes_max),
            "{kept} bytes kept"
        );
    }
    for request in whole {
        let _ = request.arguments();
        assert!(request.body.len() <= LIMITS.body_bytes_max);
        assert!(request.path.len() + request.query.len() <= LIMITS.head_bytes_max);
    }
}

/// Requests, the refusal if there was one, and the bytes left in the buffer.
fn decode<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Request>, Option<DecodeError>, usize) {
    let mut decoder = RequestDecoder::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut requests = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => {
                    assert!(error.status().line().0 >= 400);
                    return (requests, Some(error), buffer.len());
                }
            }
        }
    }
    (requests, None, buffer.len())
}
