//! The statistics page of a core, over the wire: answered by the core itself or by another one of its node.

use super::{Builder, ask};
use crate::client::Client;
use crate::driver::Problem;
use crate::error::{Cause, Error, Result};
use crate::reply::read_core_stats;
use pegasus_fbs::code::{Code, Execution};
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::kv;
use pegasus_fbs::stats_page::Snapshot;
use tokio::time::{Instant, timeout_at};

/// In a request: the core that is asked. Everything below is the index of a core within the node.
const ASKED_CORE: u16 = u16::MAX;

impl Client {
    /// The statistics of a core, as its page has them now: `core` is its index within the node one of whose cores listens
    /// for clients at `address` (`host:port`), `None` = that core itself. Any core of a node answers for the others, so
    /// that one that is stuck can be looked at. About 40 KiB; needs no authentication, like a ping. Within the timeout for
    /// admin calls.
    ///
    /// # Errors
    /// [`Error::NotExecuted`] when nobody answers there in time; [`Code::NotFound`] when the node has no such core;
    /// [`Code::Unsupported`] when nobody there has statistics (a meta process, an older node); [`Code::Incompatible`]
    /// when its page is of another version.
    pub async fn core_stats(&self, address: &str, core: Option<u16>) -> Result<Snapshot> {
        let body = |builder: &mut Builder| {
            let core = core.unwrap_or(ASKED_CORE);
            let request = kv::CoreStatsRequest::create(builder, &kv::CoreStatsRequestArgs { core });
            builder.finish(request, None);
        };
        let limit = self.driver().options.admin_timeout;
        let deadline = Instant::now() + limit;
        let endpoint = self.driver().endpoints().at(address);
        let asked = ask(&endpoint, FrameKind::CoreStats, deadline, &body, || ());
        match timeout_at(deadline, asked).await {
            Ok(Ok(answer)) => read_core_stats(&answer),
            Ok(Err(Problem::Unsent(reason) | Problem::Lost(reason))) => {
                Err(Error::NotExecuted(Cause::local(reason)))
            }
            Ok(Err(Problem::Refused(failure))) if failure.code == Code::NotFound => {
                let message = format!("the node at {address} has no core {}", core.unwrap_or(0));
                Err(Error::failed(Code::NotFound, message))
            }
            Ok(Err(Problem::Refused(failure)))
                if failure.code.may_retry() || failure.code.execution() == Execution::Unknown =>
            {
                Err(Error::NotExecuted(failure.into()))
            }
            Ok(Err(Problem::Refused(failure))) => Err(Error::failed(failure.code, failure.message)),
            Ok(Err(Problem::Expired)) | Err(_) => Err(Error::NotExecuted(Cause::local(format!(
                "{address} gave no answer within {limit:?}"
            )))),
        }
    }
}
