//! Streams of requests: a frame that arrives in pieces is the frame that arrives whole, and more bytes are only asked for
//! if they are missing.

use super::structs::{has_a_sentence, requests};
use pegasus_thrift::data::Request;
use pegasus_thrift::frame::thft;
use pegasus_thrift::{
    Call, DecodeError, Limits, Progress, Protocol, ReplyTo, frame_length, meta, oversized,
};

const LIMITS: Limits = Limits {
    body_bytes_max: 1 << 12,
};

/// All frames of a stream, until one is cut off or refused.
pub(crate) fn run(protocol: Protocol, mut stream: &[u8]) {
    while let Some(length) = length(protocol, stream) {
        let (frame, rest) = stream.split_at(length);
        match Call::decode(protocol, frame) {
            Ok(call) => answered(&call, protocol, frame),
            Err(error) => return has_a_sentence(error),
        }
        stream = rest;
    }
}

/// Of the frame at the front, if it is whole and right.
fn length(protocol: Protocol, stream: &[u8]) -> Option<usize> {
    let whole = frame_length(protocol, stream, &LIMITS);
    let mut needed = 0;
    while needed <= stream.len() {
        let piece = &stream[..needed];
        match frame_length(protocol, piece, &LIMITS) {
            Ok(Progress::NeedMore(more)) => {
                assert!(more > needed, "{more} bytes are there, or nearly");
                needed = more;
            }
            Ok(Progress::Done(length)) => {
                assert_eq!(length, needed);
                assert_eq!(whole, Ok(Progress::Done(length)));
                return Some(length);
            }
            Err(error) => {
                has_a_sentence(error);
                assert_eq!(whole.map_err(the_part), Err(the_part(error)));
                told_to_go_away(protocol, stream);
                return None;
            }
        }
    }
    match whole {
        // More is known of the header by now than when so many bytes were asked for.
        Ok(Progress::NeedMore(bytes)) => assert!(bytes >= needed),
        Ok(Progress::Done(bytes)) => panic!("{bytes} bytes are whole, {needed} asked for"),
        // Told by the magic already, before the rest of the header is there.
        Err(error) => has_a_sentence(error),
    }
    None
}

/// What is wrong, without how many bytes there were.
fn the_part(error: DecodeError) -> (&'static str, &'static str) {
    (error.what, error.part)
}

/// A frame that is refused for its size has a sender all the same, or is none.
fn told_to_go_away(protocol: Protocol, stream: &[u8]) {
    match oversized(protocol, stream) {
        Ok(Progress::NeedMore(bytes)) => assert!(bytes > stream.len()),
        Ok(Progress::Done(found)) => {
            assert!(found.frame_bytes > found.body_bytes);
            assert_eq!(found.reply_to.protocol(), protocol);
        }
        Err(error) => has_a_sentence(error),
    }
}

fn answered(call: &Call<'_>, protocol: Protocol, frame: &[u8]) {
    let Ok(Progress::Done(sender)) = oversized(protocol, frame) else {
        panic!("a whole frame has a sender");
    };
    assert_eq!(sender.reply_to, call.reply_to);
    assert_eq!(sender.frame_bytes, frame.len());
    assert_eq!(sender.body_bytes, call.body_bytes);
    let mut out = Vec::new();
    call.reply_to
        .reply(&"", pegasus_thrift::RpcAddress::NONE, &mut out);
    if let ReplyTo::Thft { seqid, .. } = call.reply_to {
        let Ok(Progress::Done(reply)) = thft::parse_reply(&out, &LIMITS) else {
            panic!("an answer is a frame");
        };
        assert_eq!(
            thft::Reply::decode(&out[reply.body]).map(|it| it.seqid),
            Ok(seqid)
        );
    }
    if let Some(request) = Request::of(call) {
        match request {
            Ok(request) => written_again(&request),
            Err(error) => has_a_sentence(error),
        }
    }
    if let Some(Err(error)) = meta::Request::of(call) {
        has_a_sentence(error);
    }
    // Whatever the name says.
    requests(&frame[frame.len() - call.body_bytes..]);
    if let Some(arguments) = arguments(frame) {
        requests(arguments);
    }
}

fn written_again(request: &Request<'_>) {
    let mut bytes = Vec::new();
    request.encode_thft(&thft::Header::default(), 1, &mut bytes);
    let call = Call::decode(Protocol::Thft, &bytes).expect("a frame of ours");
    assert_eq!(Request::of(&call), Some(Ok(request.clone())));
}

/// Behind the message of a THFT frame.
fn arguments(frame: &[u8]) -> Option<&[u8]> {
    let Ok(Progress::Done(whole)) = thft::parse_request(frame, &LIMITS) else {
        return None;
    };
    let message = pegasus_thrift::frame::Message::decode(frame.get(whole.body)?).ok()?;
    Some(message.arguments)
}
