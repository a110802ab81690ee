//! HTTP: what is asked goes to the core as it came, answers go back in the order of the requests.
//!
//! A request is decoded only when the one before it is answered: what answers requests over HTTP is for people and
//! collectors, and answers in order need no memory then.

use super::{Decoded, Frontend, Scratch, Tag};
use crate::counters::CloseReason;
use crate::request::{Operation, Reply, Request, Response};
use bytes::BytesMut;
use pegasus_fbs::code::Code;
use pegasus_http as http;
use pegasus_http::{CONTINUE, Limits, Method, ReplyForm, RequestDecoder, Status};

/// One connection's state.
#[derive(Debug)]
pub struct Http {
    decoder: RequestDecoder,
    /// How the request that is in work is to be answered.
    asked: Option<ReplyForm>,
    is_over: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            decoder: RequestDecoder::new(Limits::DEFAULT),
            asked: None,
            is_over: false,
        }
    }
}

/// The only request in work needs no name.
const TAG: Tag = Tag {
    id: 0,
    kind: 0,
    table: 0,
    partition: 0,
};

impl Frontend for Http {
    fn decode(
        &mut self,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
    ) -> Result<Option<Decoded>, CloseReason> {
        if self.is_over {
            input.clear();
            return Ok(None);
        }
        if self.asked.is_some() {
            return Ok(Some(Decoded::Held));
        }
        let before = input.len();
        let decoded = self.decoder.decode(input);
        if self.decoder.take_continue_wanted() {
            output.extend_from_slice(CONTINUE);
            return Ok(Some(Decoded::Answered));
        }
        match decoded {
            Ok(None) => Ok(None),
            Ok(Some(request)) => Ok(Some(self.ask(request, before - input.len(), output))),
            Err(error) => {
                let form = ReplyForm {
                    keep_alive: false,
                    has_body: true,
                };
                http::Response::text(error.status(), error.to_string()).encode(&form, output);
                self.is_over = true;
                input.clear();
                Ok(Some(Decoded::Answered))
            }
        }
    }

    fn encode(&mut self, _: &Tag, reply: &Reply, _: &mut Scratch, output: &mut Vec<u8>) {
        let Some(form) = self.asked.take() else {
            return;
        };
        match reply {
            Ok(Response::Http(response)) => response.encode(&form, output),
            Ok(_) => {
                http::Response::text(Status::InternalServerError, "not an answer over HTTP")
                    .encode(&form, output);
            }
            Err(failure) => {
                let status = match failure.code {
                    Code::Unknown | Code::Internal => Status::InternalServerError,
                    Code::UnknownTable | Code::NotFound => Status::NotFound,
                    Code::InvalidArgument => Status::BadRequest,
                    _ => Status::ServiceUnavailable,
                };
                http::Response::text(status, failure.message.clone()).encode(&form, output);
            }
        }
        self.is_over |= !form.keep_alive;
    }

    fn is_within_frame(&self, input: &[u8]) -> bool {
        !self.is_over && self.decoder.is_within_request(input)
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

impl Http {
    fn ask(&mut self, request: http::Request, bytes: usize, output: &mut Vec<u8>) -> Decoded {
        let form = request.reply_form();
        if request.method == Method::Other {
            http::Response::text(
                Status::MethodNotAllowed,
                "only GET, HEAD and POST are taken",
            )
            .encode(&form, output);
            self.is_over |= !form.keep_alive;
            return Decoded::Answered;
        }
        self.asked = Some(form);
        Decoded::Request {
            tag: TAG,
            bytes,
            request: Request {
                table: 0,
                partition: 0,
                timeout: None,
                operation: Operation::Http(Box::new(request)),
            },
        }
    }
}
