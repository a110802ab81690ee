//! HTTP: one request after the other, each answered before the next is looked at.

use super::{Connection, End};
use crate::server::letter::Letter;
use bytes::BytesMut;
use pegasus_http::{CONTINUE, RequestDecoder, Response, Status};
use tokio::sync::oneshot;

impl Connection<'_> {
    /// Answers what is whole of `buffer`; what is left is the start of a request.
    pub(super) async fn take_http(
        &mut self,
        decoder: &mut RequestDecoder,
        buffer: &mut BytesMut,
    ) -> Result<(), End> {
        loop {
            match decoder.decode(buffer) {
                Ok(Some(request)) => {
                    let form = request.reply_form();
                    let response = self.consult_http(request).await?;
                    let mut bytes = Vec::new();
                    response.encode(&form, &mut bytes);
                    self.outbox.send_bytes(bytes);
                    if !form.keep_alive {
                        return Err(End::Quiet);
                    }
                }
                Ok(None) => {
                    if decoder.take_continue_wanted() {
                        self.outbox.send_bytes(CONTINUE.to_vec());
                    }
                    return Ok(());
                }
                Err(error) => {
                    let form = pegasus_http::ReplyForm {
                        keep_alive: false,
                        has_body: true,
                    };
                    let mut bytes = Vec::new();
                    let response = Response::text(error.status(), error.to_string());
                    response.encode(&form, &mut bytes);
                    self.outbox.send_bytes(bytes);
                    return Err(End::Garbage(error.to_string()));
                }
            }
        }
    }

    async fn consult_http(&self, request: pegasus_http::Request) -> Result<Response, End> {
        let (done, answer) = oneshot::channel();
        self.post(Letter::Http { request, done }).await?;
        let stopping = || Response::text(Status::ServiceUnavailable, "meta is stopping");
        Ok(answer.await.unwrap_or_else(|_| stopping()))
    }
}
