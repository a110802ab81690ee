//! Streams of RDSN requests; what must hold is in the tests of `pegasus-thrift`.

#![no_main]

#[path = "../../../net/thrift/tests/any_bytes/rdsn_request.rs"]
mod rdsn_request;
#[path = "../../../net/thrift/tests/any_bytes/streams.rs"]
mod streams;
#[allow(dead_code, reason = "one half for requests, one for answers")]
#[path = "../../../net/thrift/tests/any_bytes/structs.rs"]
mod structs;

libfuzzer_sys::fuzz_target!(|input: &[u8]| rdsn_request::run(input));
