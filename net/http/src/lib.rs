//! The server's side of HTTP/1.x: bytes to requests, answers to bytes.
//!
//! Never does I/O, never reads a clock, never panics on bytes, and keeps no more memory than received bytes and the
//! [`Limits`] account for. Bodies have a length; chunked ones are refused. Heads are parsed by `httparse`.
//!
//! Reading order: `sniff` (is it HTTP at all), `request`, `query` (arguments behind the `?`), `response`; `exposition` is what
//! collectors of metrics read.
//!
//! ```
//! use bytes::BytesMut;
//! use pegasus_http::{Limits, RequestDecoder, Response, Status};
//!
//! let mut input = BytesMut::from(&b"GET /meta/app?name=temp&detail HTTP/1.1\r\nHost: localhost\r\n\r\n"[..]);
//! let mut decoder = RequestDecoder::new(Limits::DEFAULT);
//! let request = decoder.decode(&mut input).expect("it is well formed").expect("it is whole");
//! assert_eq!(request.path, "meta/app");
//! let arguments = request.arguments().expect("each is there once");
//! assert_eq!(arguments.get("name"), Some("temp"));
//! assert_eq!(arguments.get("detail"), Some(""));
//! let mut output = Vec::new();
//! Response::json(Status::Ok, "{}").encode(&request.reply_form(), &mut output);
//! ```

#![forbid(unsafe_code)]

mod date;
mod exposition;
mod query;
mod request;
mod response;
mod sniff;

pub use date::utc;
pub use exposition::{Exposition, Family, FamilyKind, Label, Samples, TextFormat};
pub use query::{Arguments, QueryError, QueryErrorKind};
pub use request::{DecodeError, Limits, Method, ReplyForm, Request, RequestDecoder};
pub use response::{CONTINUE, Response, Status};
pub use sniff::{FirstLine, sniff};
