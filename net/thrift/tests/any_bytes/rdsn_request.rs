//! A stream of RDSN requests. Run by the tests and by the fuzz target `rdsn_request`.

use super::streams;
use pegasus_thrift::Protocol;

pub(crate) fn run(input: &[u8]) {
    streams::run(Protocol::Rdsn, input);
}
