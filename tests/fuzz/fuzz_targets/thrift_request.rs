//! Streams of THFT requests; what must hold is in the tests of `pegasus-thrift`.

#![no_main]

#[path = "../../../net/thrift/tests/any_bytes/thrift_request.rs"]
mod thrift_request;
#[path = "../../../net/thrift/tests/any_bytes/streams.rs"]
mod streams;
#[allow(dead_code, reason = "one half for requests, one for answers")]
#[path = "../../../net/thrift/tests/any_bytes/structs.rs"]
mod structs;

libfuzzer_sys::fuzz_target!(|input: &[u8]| thrift_request::run(input));
