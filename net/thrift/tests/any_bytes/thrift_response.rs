//! An answer by THFT, and the body of one by RDSN. Run by the tests and by the fuzz target `thrift_response`.

use super::structs::{has_a_sentence, responses};
use pegasus_thrift::frame::thft::{Reply, parse_reply};
use pegasus_thrift::{Limits, Progress};

const LIMITS: Limits = Limits {
    body_bytes_max: 1 << 12,
};

pub(crate) fn run(input: &[u8]) {
    responses(input);
    match parse_reply(input, &LIMITS) {
        Ok(Progress::NeedMore(bytes)) => assert!(bytes > input.len()),
        Ok(Progress::Done(frame)) => {
            assert!(frame.consumed <= input.len());
            match Reply::decode(&input[frame.body]) {
                Ok(reply) => responses(reply.result),
                Err(error) => has_a_sentence(error),
            }
        }
        Err(error) => has_a_sentence(error),
    }
}
