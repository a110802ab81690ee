//! A stream of frames: any bytes in pieces of any size give what the whole stream gives at once, without more memory
//! than the limit. Run by the tests and by the fuzz target `frames`.

use bytes::BytesMut;
use pegasus_fbs::frame::{
    DecodeError, Decoder, Frame, HEADER_BYTES, Parsed, encode_frame, parse, peek,
};

const BODY_BYTES_MAX: usize = 4 << 10;
/// What the decoder reserves ahead of received bytes, the whole pieces of this test, and room for allocation in steps.
const BUFFER_BYTES_MAX: usize = 2 * (BODY_BYTES_MAX + HEADER_BYTES + 256);

/// The first byte says how large the pieces are, the rest is the stream.
pub(crate) fn run(input: &[u8]) {
    let Some((size, stream)) = input.split_first() else {
        return;
    };
    let (frames, end) = at_once(stream);
    let mut decoded = Vec::new();
    let mut buffer = BytesMut::new();
    let mut refused = None;
    'pieces: for piece in stream.chunks(usize::from(*size) + 1) {
        buffer.extend_from_slice(piece);
        loop {
            match Decoder::new(BODY_BYTES_MAX).decode(&mut buffer) {
                Ok(Some(frame)) => decoded.push(frame),
                Ok(None) => break,
                Err(error) => {
                    refused = Some(error);
                    break 'pieces;
                }
            }
        }
        assert!(buffer.len() <= BODY_BYTES_MAX + HEADER_BYTES);
        assert!(
            buffer.capacity() <= BUFFER_BYTES_MAX.max(2 * stream.len()),
            "{} bytes kept",
            buffer.capacity()
        );
    }
    assert_eq!(decoded, frames);
    // Only the first bytes of a magic number that never came whole may read differently in pieces.
    if !matches!(end, Some(DecodeError::Magic { .. })) {
        assert_eq!(refused, end);
    }
    frames.iter().for_each(round_trip);
}

fn at_once(mut stream: &[u8]) -> (Vec<Frame>, Option<DecodeError>) {
    let mut frames = Vec::new();
    loop {
        match parse(stream, BODY_BYTES_MAX) {
            Ok(Parsed::Frame { header, body }) => {
                let peeked = peek(stream).expect("it was parsed");
                assert_eq!(peeked, Some((header, body.len())));
                let body = bytes::Bytes::copy_from_slice(body);
                stream = &stream[HEADER_BYTES + body.len()..];
                frames.push(Frame { header, body });
            }
            Ok(Parsed::Incomplete { frame_bytes }) => {
                assert!(frame_bytes > stream.len() && frame_bytes <= HEADER_BYTES + BODY_BYTES_MAX);
                return (frames, None);
            }
            Err(error) => {
                let sentence = error.to_string();
                assert!(!sentence.is_empty() && sentence.len() < 200, "{sentence}");
                return (frames, Some(error));
            }
        }
    }
}

fn round_trip(frame: &Frame) {
    let mut bytes = Vec::new();
    encode_frame(&mut bytes, &frame.header, &frame.body);
    let parsed = parse(&bytes, BODY_BYTES_MAX).expect("our own frame");
    let Frame { header, body } = frame;
    assert_eq!(
        parsed,
        Parsed::Frame {
            header: *header,
            body
        }
    );
}
