//! What Redis clients ask for.

use pegasus_redis::Calls;
use std::sync::Arc;

/// A Redis command, or a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redis {
    /// The table's name; `None` = the node's default.
    pub table: Option<Arc<str>>,
    /// Shared by whoever asks and whoever answers.
    pub calls: Arc<Calls>,
}
