//! Requests, from bytes that arrive in pieces.

use crate::query::{Plus, unescape};
use crate::response::Status;
use crate::{Arguments, QueryError};
use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// Bounds of what one request may take. Whatever is over a bound is refused as soon as that is known, before it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line and the headers.
    pub head_bytes_max: usize,
    pub body_bytes_max: usize,
}

impl Limits {
    /// 8 KiB and 64 KiB.
    pub const DEFAULT: Self = Self {
        head_bytes_max: 8 << 10,
        body_bytes_max: 64 << 10,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Headers of one request; more are refused.
const HEADERS_MAX: usize = 64;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// Unescaped, without the slashes at its ends: `meta/app`; empty for `/`.
    pub path: String,
    /// Behind the `?`, as it came.
    pub query: String,
    /// The `Accept` header, in lower case; empty if there is none.
    pub accept: String,
    pub body: Bytes,
    /// The client will take further answers on this connection.
    pub keep_alive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    /// To be refused with [`Status::MethodNotAllowed`].
    Other,
}

/// What the form of an answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyForm {
    pub keep_alive: bool,
    /// False in the answer to `HEAD`: lengths are told, the body is not sent.
    pub has_body: bool,
}

impl Request {
    /// The arguments behind the `?`.
    ///
    /// # Errors
    /// An argument that is there twice, or a bad escape: answer [`Status::BadRequest`] with the error's text.
    pub fn arguments(&self) -> Result<Arguments, QueryError> {
        Arguments::parse(&self.query)
    }

    #[must_use]
    pub fn reply_form(&self) -> ReplyForm {
        ReplyForm {
            keep_alive: self.keep_alive,
            has_body: self.method != Method::Head,
        }
    }
}

/// Why bytes are not a request that is answered. The stream cannot be resynchronised: answer [`DecodeError::status`]
/// with the sentence, then close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    #[error("request head of more than {max} bytes")]
    HeadTooLarge { max: usize },
    #[error("request body of {found} bytes, the limit is {max}")]
    BodyTooLarge { found: u64, max: usize },
    #[error("chunked bodies are not taken: send a Content-Length")]
    Chunked,
}

impl DecodeError {
    /// The status to answer with.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Malformed(_) => Status::BadRequest,
            Self::HeadTooLarge { .. } => Status::HeadTooLarge,
            Self::BodyTooLarge { .. } => Status::BodyTooLarge,
            Self::Chunked => Status::LengthRequired,
        }
    }
}

/// The requests of one connection.
#[derive(Debug)]
pub struct RequestDecoder {
    limits: Limits,
    /// Bytes at the front of the buffer in which the end of the head is not.
    searched: usize,
    /// A head whose body is not whole yet.
    head: Option<Head>,
    continue_wanted: bool,
}

#[derive(Debug)]
struct Head {
    /// Without its body.
    request: Request,
    body_bytes: usize,
}

impl RequestDecoder {
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            searched: 0,
            head: None,
            continue_wanted: false,
        }
    }

    /// Takes the next request off the front of `input`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the stream cannot be understood any more; see [`DecodeError`].
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Request>, DecodeError> {
        if self.head.is_none() {
            let head = self.decode_head(input);
            if head.is_err() {
                self.searched = 0;
            }
            self.head = head?;
        }
        match self.head.take() {
            Some(head) if input.len() >= head.body_bytes => {
                self.continue_wanted = false;
                let body = input.split_to(head.body_bytes).freeze();
                Ok(Some(Request {
                    body,
                    ..head.request
                }))
            }
            head => {
                self.head = head;
                Ok(None)
            }
        }
    }

    /// Once true after the client has asked whether to send its body (`Expect: 100-continue`): send [`crate::CONTINUE`].
    #[must_use]
    pub fn take_continue_wanted(&mut self) -> bool {
        std::mem::take(&mut self.continue_wanted)
    }

    /// Whether the stream stands within a request, given what is left of its input: an end there is a truncation.
    #[must_use]
    pub fn is_within_request(&self, input: &[u8]) -> bool {
        self.head.is_some() || !input.is_empty()
    }

    fn decode_head(&mut self, input: &mut BytesMut) -> Result<Option<Head>, DecodeError> {
        if self.searched == 0 {
            let empty = input.iter().take_while(|byte| b"\r\n".contains(byte));
            let empty = empty.count();
            input.advance(empty);
        }
        let max = self.limits.head_bytes_max;
        let Some(end) = self.find_head_end(input) else {
            return if input.len() > max {
                Err(DecodeError::HeadTooLarge { max })
            } else {
                Ok(None)
            };
        };
        if end > max {
            return Err(DecodeError::HeadTooLarge { max });
        }
        let head = parse_head(&input[..end], &self.limits)?;
        input.advance(end);
        self.continue_wanted = head.1;
        Ok(Some(head.0))
    }

    /// Bytes of the head, with the empty line that ends it.
    fn find_head_end(&mut self, input: &[u8]) -> Option<usize> {
        let max = self.limits.head_bytes_max;
        let mut position = self.searched;
        // The line feed of an empty line may be missing yet, so the search goes on from the last line feed.
        while let Some(at) = input[position..].iter().position(|byte| *byte == b'\n') {
            self.searched = position + at;
            position += at + 1;
            match &input[position..] {
                [b'\n', ..] => return Some(self.found(position + 1)),
                [b'\r', b'\n', ..] => return Some(self.found(position + 2)),
                [] | [b'\r'] => return None,
                _ if position > max => return None,
                _ => {}
            }
        }
        self.searched = input.len();
        None
    }

    const fn found(&mut self, end: usize) -> usize {
        self.searched = 0;
        end
    }
}

/// The head, and whether the client asks before it sends the body.
fn parse_head(bytes: &[u8], limits: &Limits) -> Result<(Head, bool), DecodeError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => {
            return Err(DecodeError::Malformed("its head does not end"));
        }
        Err(error) => return Err(DecodeError::Malformed(reason(error))),
    }
    let (path, query) = target(parsed.path.unwrap_or_default())?;
    let mut request = Request {
        method: match parsed.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some("POST") => Method::Post,
            _ => Method::Other,
        },
        path,
        query,
        accept: String::new(),
        body: Bytes::new(),
        keep_alive: parsed.version != Some(0),
    };
    let mut length = None;
    let mut continue_wanted = false;
    for header in parsed.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            length = Some(content_length(header.value, length)?);
        } else if is("transfer-encoding") {
            return Err(DecodeError::Chunked);
        } else if is("connection") {
            connection(header.value, &mut request.keep_alive);
        } else if is("accept") {
            request.accept = String::from_utf8_lossy(header.value).to_ascii_lowercase();
        } else if is("expect") {
            continue_wanted = header.value.eq_ignore_ascii_case(b"100-continue");
        }
    }
    let head = Head {
        request,
        body_bytes: body_bytes(length.unwrap_or(0), limits)?,
    };
    Ok((head, continue_wanted))
}

fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a header's name",
        httparse::Error::HeaderValue => "a header's value",
        httparse::Error::NewLine => "the end of a line",
        httparse::Error::Status => "its status",
        httparse::Error::Token => "its method or path",
        httparse::Error::TooManyHeaders => "more than 64 headers",
        httparse::Error::Version => "its version is not HTTP/1.0 or HTTP/1.1",
    }
}

/// Path and query. Some clients send the whole address (`http://host/path`).
fn target(target: &str) -> Result<(String, String), DecodeError> {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            rest.find(['/', '?']).map_or("", |at| &rest[at..])
        }
        _ => target,
    };
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = unescape(path.trim_matches('/'), Plus::IsPlus)
        .map_err(|_| DecodeError::Malformed("an escape in its path"))?;
    Ok((path, query.to_owned()))
}

/// A length that is told twice and differently is an attempt to smuggle a request (RFC 9112 section 6.3).
fn content_length(value: &[u8], before: Option<u64>) -> Result<u64, DecodeError> {
    let bad = DecodeError::Malformed("its Content-Length");
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).map_err(|_| bad)?;
    let length = if is_number {
        text.parse().unwrap_or(u64::MAX)
    } else {
        return Err(bad);
    };
    match before {
        Some(before) if before != length => Err(bad),
        _ => Ok(length),
    }
}

fn body_bytes(length: u64, limits: &Limits) -> Result<usize, DecodeError> {
    match usize::try_from(length) {
        Ok(bytes) if bytes <= limits.body_bytes_max => Ok(bytes),
        _ => Err(DecodeError::BodyTooLarge {
            found: length,
            max: limits.body_bytes_max,
        }),
    }
}

fn connection(value: &[u8], keep_alive: &mut bool) {
    for token in value.split(|byte| *byte == b',') {
        if token.trim_ascii().eq_ignore_ascii_case(b"close") {
            *keep_alive = false;
        } else if token.trim_ascii().eq_ignore_ascii_case(b"keep-alive") {
            *keep_alive = true;
        }
    }
}

#[cfg(test)]
mod tests;
