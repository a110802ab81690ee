//! Answers to bytes.

use crate::ReplyForm;
use bytes::Bytes;
use std::io::Write as _;

/// What a client that asked with `Expect: 100-continue` waits for.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    TemporaryRedirect,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    LengthRequired,
    BodyTooLarge,
    HeadTooLarge,
    InternalServerError,
    ServiceUnavailable,
    GatewayTimeout,
}

impl Status {
    /// The number, and the words that go with it.
    #[must_use]
    pub const fn line(self) -> (u16, &'static str) {
        match self {
            Self::Ok => (200, "OK"),
            Self::TemporaryRedirect => (307, "Temporary Redirect"),
            Self::BadRequest => (400, "Bad Request"),
            Self::NotFound => (404, "Not Found"),
            Self::MethodNotAllowed => (405, "Method Not Allowed"),
            Self::LengthRequired => (411, "Length Required"),
            Self::BodyTooLarge => (413, "Content Too Large"),
            Self::HeadTooLarge => (431, "Request Header Fields Too Large"),
            Self::InternalServerError => (500, "Internal Server Error"),
            Self::ServiceUnavailable => (503, "Service Unavailable"),
            Self::GatewayTimeout => (504, "Gateway Timeout"),
        }
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: Status,
    pub content_type: &'static str,
    /// Where a redirected client shall ask. Control characters in it are left out.
    pub location: Option<String>,
    pub body: Bytes,
}

impl Response {
    #[must_use]
    pub fn text(status: Status, body: impl Into<Bytes>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    #[must_use]
    pub fn json(status: Status, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", body)
    }

    /// 307 to this address.
    #[must_use]
    pub fn redirect(location: impl Into<String>) -> Self {
        Self {
            location: Some(location.into()),
            ..Self::text(Status::TemporaryRedirect, Bytes::new())
        }
    }

    /// What Apache Pegasus answers for a path that nobody serves.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        Self::text(
            Status::NotFound,
            format!("service not found for \"{path}\""),
        )
    }

    #[must_use]
    pub fn new(status: Status, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type,
            location: None,
            body: body.into(),
        }
    }

    /// Appends the bytes of the answer to `output`.
    pub fn encode(&self, form: &ReplyForm, output: &mut Vec<u8>) {
        let (number, words) = self.status.line();
        let written = write!(
            output,
            "HTTP/1.1 {number} {words}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            self.content_type,
            self.body.len()
        );
        debug_assert!(written.is_ok(), "a vector takes everything");
        if let Some(location) = &self.location {
            output.extend_from_slice(b"Location: ");
            output.extend(location.bytes().filter(|byte| !byte.is_ascii_control()));
            output.extend_from_slice(b"\r\n");
        }
        if !form.keep_alive {
            output.extend_from_slice(b"Connection: close\r\n");
        }
        output.extend_from_slice(b"\r\n");
        if form.has_body {
            output.extend_from_slice(&self.body);
        }
    }
}
