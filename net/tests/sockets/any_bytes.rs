//! The decoder of client requests: any bytes, in pieces of any size, never panic and never keep more than a request.
//! Run by the tests and by the fuzz target `native_frontend`.

use bytes::BytesMut;
use pegasus_net::frontend::native::Native;
use pegasus_net::frontend::{Decoded, Frontend, Scratch};
use pegasus_net::request::{HASH_KEY_BYTES_MAX, Operation, REQUEST_BODY_BYTES_MAX, Response};

/// The first byte says how large the pieces are, the rest is the stream.
pub(crate) fn run(input: &[u8]) {
    let Some((size, stream)) = input.split_first() else {
        return;
    };
    let mut frontend = Native::default();
    let mut scratch = Scratch::default();
    let mut buffer = BytesMut::new();
    for piece in stream.chunks(usize::from(*size) + 1) {
        buffer.extend_from_slice(piece);
        loop {
            match frontend.decode(&mut buffer, &mut Vec::new()) {
                Ok(None) => break,
                Ok(Some(decoded)) => answer(&mut frontend, decoded, &mut scratch),
                Err(_) => return,
            }
        }
        assert!(
            buffer.len() <= REQUEST_BODY_BYTES_MAX + 64,
            "{} bytes kept",
            buffer.len()
        );
    }
}

/// Whatever was decoded can be answered, and the answer is a frame.
fn answer(frontend: &mut Native, decoded: Decoded, scratch: &mut Scratch) {
    let (tag, reply) = match decoded {
        Decoded::Answered | Decoded::Held => {
            unreachable!("the native front-end leaves answers to others")
        }
        Decoded::Refused { tag, failure } => (tag, Err(failure)),
        Decoded::Request { tag, request, .. } => {
            if let Operation::Get(key) = &request.operation {
                assert!(key.hash_key.len() <= HASH_KEY_BYTES_MAX);
            }
            (tag, Ok(Response::Count(1)))
        }
    };
    let mut output = Vec::new();
    frontend.encode(&tag, &reply, scratch, &mut output);
    let parsed = pegasus_fbs::frame::parse(&output, REQUEST_BODY_BYTES_MAX);
    assert!(
        matches!(parsed, Ok(pegasus_fbs::frame::Parsed::Frame { .. })),
        "{parsed:?}"
    );
}
