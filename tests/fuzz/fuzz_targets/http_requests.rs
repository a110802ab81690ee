//! Streams of HTTP requests; what must hold is in the tests of `pegasus-http`.

#![no_main]

#[path = "../../../net/http/tests/any_bytes/http_requests.rs"]
mod http_requests;

libfuzzer_sys::fuzz_target!(|input: &[u8]| http_requests::run(input));
