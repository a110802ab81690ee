//! Scrubbing of a node, over the wire: ordered from and told by any of its cores.

use super::{Builder, ask_node};
use crate::client::Client;
use crate::error::Result;
use crate::reply::read;
use bytes::Bytes;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::kv;

/// How scrubbing of a node is: a slow reading and checking of all its table files and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubInfo {
    /// This question has ordered the pass.
    pub began: bool,
    /// A pass is ordered or under way.
    pub is_running: bool,
    /// Replicas that the pass under way has checked, and of how many. The logs come last.
    pub done: u64,
    pub total: u64,
    /// End of the last whole pass, in Unix seconds; `None`: there was none yet.
    pub finished_unix_s: Option<u64>,
    /// What the last pass, or the one under way, has found, in words; at most 64.
    pub findings: Vec<String>,
}

impl Client {
    /// How scrubbing is on the node one of whose cores listens for clients at `address` (`host:port`); with `start` a pass is
    /// ordered first, unless one is under way. Needs no authentication, like a ping. Within the timeout for admin calls.
    ///
    /// # Errors
    /// [`Error::NotExecuted`](crate::Error::NotExecuted) when nobody answers there in time;
    /// [`Code::Unsupported`](crate::Code::Unsupported) when nobody there scrubs (a meta process, an older node).
    pub async fn scrub(&self, address: &str, start: bool) -> Result<ScrubInfo> {
        let body = |builder: &mut Builder| {
            let request = kv::ScrubRequest::create(builder, &kv::ScrubRequestArgs { start });
            builder.finish(request, None);
        };
        let asked = ask_node(self, address, FrameKind::Scrub, &body).await?;
        read_scrub(&asked)
    }
}

/// Findings that a node may tell.
pub(super) const FINDINGS_MAX: usize = 64;

pub(super) fn read_scrub(frame: &Bytes) -> Result<ScrubInfo> {
    let reply = read::<kv::ScrubReply<'_>>(frame)?;
    let findings = reply.findings().unwrap_or_default().iter();
    Ok(ScrubInfo {
        began: reply.began(),
        is_running: reply.running(),
        done: reply.done(),
        total: reply.total(),
        finished_unix_s: Some(reply.finished_unix_s()).filter(|it| *it > 0),
        findings: findings.take(FINDINGS_MAX).map(str::to_owned).collect(),
    })
}
