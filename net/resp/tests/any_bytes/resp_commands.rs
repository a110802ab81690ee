//! A stream of commands: any bytes in pieces of any size give what the whole stream gives at once, without more memory
//! than the limits. Run by the tests and by the fuzz target `resp_commands`.

use bytes::BytesMut;
use pegasus_resp::{Command, CommandDecoder, DecodeError, Limits, encode_command};

const LIMITS: Limits = Limits {
    line_bytes_max: 256,
    bulk_bytes_max: 1 << 10,
    total_bytes_max: 2 << 10,
    elements_max: 100,
    depth_max: 0,
};

/// The first byte says how large the pieces are, the rest is the stream.
pub(crate) fn run(input: &[u8]) {
    let Some((size, stream)) = input.split_first() else {
        return;
    };
    let (whole, end, _) = decode([stream].into_iter());
    let (pieces, refused, kept) = decode(stream.chunks(usize::from(*size) + 1));
    assert_eq!(pieces, whole);
    // A typed line has no more words than bytes; a number of arguments can be claimed.
    let is_typed = !stream.contains(&b'*');
    if let Some(DecodeError::TooLarge { what, .. }) = &end {
        let is_counted = *what == "number of arguments";
        assert!(!is_typed || !is_counted || stream.len() > LIMITS.elements_max);
    }
    // A line over the bound is refused when the bound is passed, so its length may be told differently.
    match (refused, end) {
        (
            Some(DecodeError::TooLarge { what, .. }),
            Some(DecodeError::TooLarge { what: also, .. }),
        ) => {
            assert_eq!(what, also);
        }
        // Pieces end where the whole goes on: a long line may be refused for its length before its content.
        (Some(DecodeError::TooLarge { .. }), Some(_)) => {}
        (refused, end) => assert_eq!(refused, end),
    }
    if refused.is_none() {
        assert!(
            kept <= LIMITS.total_bytes_max + LIMITS.line_bytes_max + 260,
            "{kept} bytes kept"
        );
    }
    whole.iter().for_each(round_trip);
}

/// Commands, the refusal if there was one, and the bytes left in the buffer.
fn decode<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<Command>, Option<DecodeError>, usize) {
    let mut decoder = CommandDecoder::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut commands = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(command)) => commands.push(command),
                Ok(None) => break,
                Err(error) => {
                    let sentence = error.to_string();
                    assert!(!sentence.is_empty() && sentence.len() < 200, "{sentence}");
                    return (commands, Some(error), buffer.len());
                }
            }
        }
    }
    (commands, None, buffer.len())
}

fn round_trip(command: &Command) {
    assert!((1..=LIMITS.elements_max).contains(&command.count()));
    assert!(command.argument(command.count()).is_none());
    let mut bytes = BytesMut::new();
    encode_command(&mut bytes, command.arguments());
    let again = CommandDecoder::default().decode(&mut bytes);
    assert_eq!(again.as_ref(), Ok(&Some(command.clone())));
    assert!(bytes.is_empty());
}
