//! Answers by THFT and RDSN; what must hold is in the tests of `pegasus-thrift`.

#![no_main]

#[path = "../../../net/thrift/tests/any_bytes/thrift_response.rs"]
mod thrift_response;
#[allow(dead_code, reason = "one half for requests, one for answers")]
#[path = "../../../net/thrift/tests/any_bytes/structs.rs"]
mod structs;

libfuzzer_sys::fuzz_target!(|input: &[u8]| thrift_response::run(input));
