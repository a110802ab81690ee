//! Compacting by hand, over the wire: ordered from and told by any core of a node.

use super::{Builder, ask_node};
use crate::client::Client;
use crate::error::Result;
use crate::reply::read;
use bytes::Bytes;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::kv;

/// How compacting by hand on a node is: all files of replicas are rewritten, without what is overwritten or has expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactInfo {
    /// This question's order was taken; false: nothing was asked, or too many orders wait.
    pub began: bool,
    /// Something is ordered or under way.
    pub is_running: bool,
    /// Replicas of the order under way that are done, and of how many.
    pub done: u64,
    pub total: u64,
    /// Orders behind it.
    pub waiting: u64,
    /// End of the last order, in Unix seconds; `None`: there was none since the node started.
    pub finished_unix_s: Option<u64>,
}

impl Client {
    /// How compacting by hand is on the node one of whose cores listens for clients at `address` (`host:port`); with `start`
    /// the replicas of a table (`None`: of all tables) are ordered first. Needs no authentication, like a ping. Within the
    /// timeout for admin calls.
    ///
    /// # Errors
    /// [`Error::NotExecuted`](crate::Error::NotExecuted) when nobody answers there in time;
    /// [`Code::Unsupported`](crate::Code::Unsupported) when nobody there compacts (a meta process, an older node).
    pub async fn compact(
        &self,
        address: &str,
        table_id: Option<u32>,
        start: bool,
    ) -> Result<CompactInfo> {
        let body = |builder: &mut Builder| {
            let arguments = kv::CompactRequestArgs {
                table_id: table_id.unwrap_or(0),
                start,
            };
            let request = kv::CompactRequest::create(builder, &arguments);
            builder.finish(request, None);
        };
        let asked = ask_node(self, address, FrameKind::Compact, &body).await?;
        read_compact(&asked)
    }
}

pub(super) fn read_compact(frame: &Bytes) -> Result<CompactInfo> {
    let reply = read::<kv::CompactReply<'_>>(frame)?;
    Ok(CompactInfo {
        began: reply.began(),
        is_running: reply.running(),
        done: reply.done(),
        total: reply.total(),
        waiting: reply.waiting(),
        finished_unix_s: Some(reply.finished_unix_s()).filter(|it| *it > 0),
    })
}
