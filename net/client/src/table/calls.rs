//! How the operations of a table are asked.

use super::{Key, Table};
use crate::driver::{Answer, CallOptions, Class, Operation, Target, call};
use crate::encode::{self, Builder, RequestId};
use crate::error::{Error, Result};
use bytes::Bytes;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::hash::key_hash;

impl Table {
    pub(super) async fn read_key(
        &self,
        kind: FrameKind,
        (hash_key, sort_key): Key<'_>,
    ) -> Result<Answer> {
        let body =
            |builder: &mut Builder| encode::key(builder, hash_key, sort_key, RequestId::default());
        let target = Target::Hash(key_hash(hash_key, sort_key));
        self.read(kind, target, hash_key.len() + sort_key.len(), &body)
            .await
    }

    pub(crate) async fn read(
        &self,
        kind: FrameKind,
        target: Target,
        weight: usize,
        body: &(dyn Fn(&mut Builder) + Sync),
    ) -> Result<Answer> {
        call(
            &self.router,
            Operation {
                kind,
                class: Class::Read,
                target,
                weight,
                body,
            },
            self.options,
        )
        .await
    }

    pub(super) async fn write(
        &self,
        kind: FrameKind,
        hash: u64,
        weight: usize,
        body: &(dyn Fn(&mut Builder) + Sync),
    ) -> Result<Bytes> {
        self.write_with(self.options, kind, hash, weight, body)
            .await
    }

    /// The same with an identity: sent again until its outcome is known.
    pub(crate) async fn write_once(
        &self,
        kind: FrameKind,
        hash: u64,
        weight: usize,
        body: &(dyn Fn(&mut Builder) + Sync),
    ) -> Result<Bytes> {
        let options = CallOptions {
            retry_unknown: true,
            ..self.options
        };
        self.write_with(options, kind, hash, weight, body).await
    }

    async fn write_with(
        &self,
        options: CallOptions,
        kind: FrameKind,
        hash: u64,
        weight: usize,
        body: &(dyn Fn(&mut Builder) + Sync),
    ) -> Result<Bytes> {
        let operation = Operation {
            kind,
            class: Class::Write,
            target: Target::Hash(hash),
            weight,
            body,
        };
        match call(&self.router, operation, options).await? {
            Answer::Body(body) => Ok(body),
            Answer::NotFound => Err(Error::failed(
                Code::NotFound,
                "the server found nothing to write to",
            )),
        }
    }

    /// Writes that may be sent twice carry an identity, so that the server can tell a copy from a new write.
    pub(super) fn request_id(&self) -> RequestId {
        if self.options.retry_unknown {
            self.router.driver().next_request_id()
        } else {
            RequestId::default()
        }
    }

    pub(crate) fn atomic_id(&self) -> RequestId {
        self.router.driver().next_request_id()
    }
}

pub(super) fn found<T>(
    answer: Answer,
    read: impl FnOnce(&Bytes) -> Result<T>,
) -> Result<Option<T>> {
    match answer {
        Answer::Body(body) => read(&body).map(Some),
        Answer::NotFound => Ok(None),
    }
}
