//! A stream of THFT requests. Run by the tests and by the fuzz target `thrift_request`.

use super::streams;
use pegasus_thrift::Protocol;

pub(crate) fn run(input: &[u8]) {
    streams::run(Protocol::Thft, input);
}
