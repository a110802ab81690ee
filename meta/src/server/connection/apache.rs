//! Requests of Apache's clients and tools, over THFT or RDSN.

use super::{Connection, End};
use crate::server::apache::{self, Ask, Caller, command};
use crate::server::backup::RestoreRequest;
use crate::server::letter::{Letter, Reply};
use crate::state::Command;
use bytes::{Buf as _, BytesMut};
use pegasus_fbs::code::Code;
use pegasus_thrift::meta::DropAppRequest;
use pegasus_thrift::remote::{NegotiationResponse, NegotiationStatus};
use pegasus_thrift::{Call, ErrorCode, FrameStatus, Limits, Progress, Protocol, Rpc, frame_length};

/// Bodies of requests to meta: the longest set the environments of a table.
const LIMITS: Limits = Limits {
    body_bytes_max: 1 << 20,
};

impl Connection<'_> {
    /// Carries out what is whole of `buffer`; what is left is the start of a request.
    pub(super) async fn take_apache(
        &mut self,
        protocol: Protocol,
        buffer: &mut BytesMut,
    ) -> Result<(), End> {
        let garbage = |error: pegasus_thrift::DecodeError| End::Garbage(error.to_string());
        loop {
            let length = match frame_length(protocol, buffer, &LIMITS).map_err(garbage)? {
                Progress::NeedMore(_) => return Ok(()),
                Progress::Done(length) => length,
            };
            let frame = buffer.split_to(length.min(buffer.remaining()));
            let call = Call::decode(protocol, &frame).map_err(garbage)?;
            self.on_call(&call).await?;
        }
    }

    async fn on_call(&self, call: &Call<'_>) -> Result<(), End> {
        let caller = Caller {
            to: Box::new(call.reply_to),
            here: self.here,
            outbox: self.outbox.clone(),
        };
        let now_ms = self.shared.clock.now_ms();
        let Ok(ask) = apache::read(call, now_ms) else {
            caller.fail(FrameStatus::InvalidData);
            return Ok(());
        };
        match (ask, call.rpc) {
            (Ask::Restore(request), Some(rpc)) => {
                self.restore_for(call, rpc, *request, caller).await
            }
            (Ask::Order(command), Some(rpc)) => self.order_for(call, rpc, command, caller).await,
            (Ask::Question(question), _) => self.post(Letter::Apache { question, caller }).await,
            (
                Ask::Remote {
                    command: name,
                    arguments,
                },
                _,
            ) => {
                let started = self.shared.clock.started_s();
                caller.reply(&command(&name, &arguments, started, now_ms).as_str());
                Ok(())
            }
            (Ask::Negotiate, _) => {
                caller.reply(&NegotiationResponse {
                    status: NegotiationStatus::SaslAuthDisable,
                    msg: b"",
                });
                Ok(())
            }
            (Ask::Refused { err, hint }, Some(rpc)) => {
                caller.refuse(rpc, err, &hint);
                Ok(())
            }
            (Ask::Silent, _) => Ok(()),
            (Ask::Unknown | Ask::Order(_) | Ask::Restore(_) | Ask::Refused { .. }, _) => {
                caller.fail(FrameStatus::HandlerNotFound);
                Ok(())
            }
        }
    }

    /// A restore, once it is known what the table was.
    async fn restore_for(
        &self,
        call: &Call<'_>,
        rpc: Rpc,
        request: RestoreRequest,
        caller: Caller,
    ) -> Result<(), End> {
        match self.prepared(request).await {
            Ok(command) => self.order_for(call, rpc, command, caller).await,
            Err(failed) if failed.code == Code::NotPrimary => {
                let leader = Some(failed.leader.as_str()).filter(|it| !it.is_empty());
                caller.forward_order(rpc, leader);
                Ok(())
            }
            Err(failed) => {
                caller.refuse(rpc, ErrorCode::InvalidParameters, &failed.message);
                Ok(())
            }
        }
    }

    async fn order_for(
        &self,
        call: &Call<'_>,
        rpc: Rpc,
        command: Command,
        caller: Caller,
    ) -> Result<(), End> {
        if let Command::Backup { command, .. } = &command
            && let Err(failed) = self.shared.backup.expect_targets(command)
        {
            // As Apache Pegasus where cold backup is switched off.
            let is_off = self.shared.backup.targets.is_empty();
            let err = if is_off {
                ErrorCode::ServiceNotActive
            } else {
                ErrorCode::InvalidParameters
            };
            caller.refuse(rpc, err, &failed.message);
            return Ok(());
        }
        let drops = call.request::<DropAppRequest<'_>>();
        let forgives_missing =
            rpc == Rpc::DropApp && drops.is_ok_and(|request| request.options.success_if_not_exist);
        let reply = Reply::Apache {
            rpc,
            forgives_missing,
            caller,
        };
        self.post(Letter::Command { command, reply }).await
    }
}
