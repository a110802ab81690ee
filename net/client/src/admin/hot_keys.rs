//! The keys that a core is asked for most, over the wire: told by the core itself or by another one of its node.

use super::{Builder, ask_node};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::reply::{read, slice};
use bytes::Bytes;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::kv;
use std::time::Duration;

/// The most that is taken from one answer; a core keeps a few hundred.
const KEYS_MAX: usize = 4_096;

/// The keys that a core was asked for most in the last seconds, from a sample of its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HotKeys {
    /// The time that all counts are of.
    pub window: Duration,
    /// All requests of that time that read and have one hash key.
    pub reads: u64,
    /// The same of those that write.
    pub writes: u64,
    /// The most asked for first; at most a few hundred.
    pub keys: Vec<HotKey>,
}

/// One of them. Counts are of requests, estimated from the sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    pub table_id: u32,
    pub partition: u32,
    /// Whether the requests write it; false: they read it.
    pub is_write: bool,
    /// The hash key, or the sort key where that is empty; its first 128 bytes.
    pub key: Bytes,
    /// Length of the whole key.
    pub key_bytes: u32,
    /// At most so many requests ...
    pub count: u64,
    /// ... of which at most so many were for other keys.
    pub error: u64,
}

impl HotKey {
    /// At least so many requests were for it.
    #[must_use]
    pub const fn at_least(&self) -> u64 {
        self.count.saturating_sub(self.error)
    }
}

impl Client {
    /// The keys that a core is asked for most: `core` is its index within the node one of whose cores listens for clients at
    /// `address` (`host:port`), `None` = that core itself. Keys are user data. Needs no authentication, like a read. Within
    /// the timeout for admin calls.
    ///
    /// # Errors
    /// [`Error::NotExecuted`] when nobody answers there in time; [`Code::NotFound`] when the node has no such core;
    /// [`Code::Unsupported`] when nobody there knows (a meta process, an older node).
    pub async fn hot_keys(&self, address: &str, core: Option<u16>) -> Result<HotKeys> {
        let body = |builder: &mut Builder| {
            let core = core.unwrap_or(super::core_stats::ASKED_CORE);
            let request = kv::HotKeysRequest::create(builder, &kv::HotKeysRequestArgs { core });
            builder.finish(request, None);
        };
        match ask_node(self, address, FrameKind::HotKeys, &body).await {
            Ok(answer) => read_hot_keys(&answer),
            Err(error) if error.code() == Some(Code::NotFound) => {
                let message = format!("the node at {address} has no core {}", core.unwrap_or(0));
                Err(Error::failed(Code::NotFound, message))
            }
            Err(error) => Err(error),
        }
    }
}

pub(super) fn read_hot_keys(frame: &Bytes) -> Result<HotKeys> {
    let reply = read::<kv::HotKeysReply<'_>>(frame)?;
    let keys = reply.keys().unwrap_or_default();
    Ok(HotKeys {
        window: Duration::from_millis(reply.window_ms()),
        reads: reply.reads(),
        writes: reply.writes(),
        keys: keys
            .iter()
            .take(KEYS_MAX)
            .map(|it| HotKey {
                table_id: it.table_id(),
                partition: it.partition(),
                is_write: it.write(),
                key: slice(frame, it.key()),
                key_bytes: it.key_bytes(),
                count: it.count(),
                error: it.error(),
            })
            .collect(),
    })
}
