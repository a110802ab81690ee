#![forbid(unsafe_code)]

pub mod config;
pub mod event;
pub mod ids;
pub mod log;
pub mod message;
pub mod replica;
pub mod shard;

pub use replica::{Health, Phase, Replica, RoleName, check_group};
pub use shard::{Shard, StoredReplica};
