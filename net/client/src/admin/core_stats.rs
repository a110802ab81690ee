//! The statistics page of a core, over the wire: answered by the core itself or by another one of its node.

use super::{Builder, ask_node};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::reply::read_core_stats;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::kv;
use pegasus_fbs::stats_page::Snapshot;

/// In a request: the core that is asked. Everything below is the index of a core within the node.
pub(super) const ASKED_CORE: u16 = u16::MAX;

impl Client {
    /// The statistics of a core, as its page has them now: `core` is its index within the node one of whose cores listens
    /// for clients at `address` (`host:port`), `None` = that core itself. Any core of a node answers for the others, so
    /// that one that is stuck can be looked at. About 40 KiB, and 150 bytes for each replica; needs no authentication, like a ping. Within the timeout for
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
        match ask_node(self, address, FrameKind::CoreStats, &body).await {
            Ok(answer) => read_core_stats(&answer),
            Err(error) if error.code() == Some(Code::NotFound) => {
                let message = format!("the node at {address} has no core {}", core.unwrap_or(0));
                Err(Error::failed(Code::NotFound, message))
            }
            Err(error) => Err(error),
        }
    }
}
