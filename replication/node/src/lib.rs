//! The data node: performs what `pegasus_replication` decides, on the ring of `pegasus_net` and the engine of
//! `pegasus_engine`.
//!
//! **Its job.** One pinned thread per core runs [`shard_loop`]; everything slow or shared is on other threads: the engine
//! pool, the background plane, the link to meta, the route relay, the watch over databases and disk.
//!
//! **What it must never do.** Decide anything about replication, block a data core, share state between cores, keep a
//! queue without a bound.
//!
//! **Reading order.** [`config`], [`data_dir`], [`start_checks`], [`node`] (start-up and shutdown), [`open_shard`],
//! [`shard_loop`], then [`wire`], [`log_file`], [`log_flush`], [`background`], [`engine_pool`], [`engine_watch`], [`meta_link`],
//! [`route_relay`], [`transfer`], [`scrub`], [`compaction`], [`stats`], [`slow`], [`stall`]; [`view`] and [`http`] are what tools see.

#![deny(unsafe_code)]

pub mod allocator;
pub mod background;
pub mod clock;
pub mod compaction;
pub mod config;
mod connection;
pub mod data_dir;
pub mod directory;
pub mod drive_speed;
pub mod engine_pool;
pub mod engine_watch;
pub mod forward;
pub mod http;
pub mod inbox;
pub mod log_file;
pub mod log_flush;
pub mod members;
pub mod meta_link;
pub mod node;
pub mod open_shard;
pub mod placement;
pub mod ports;
pub mod remote_command;
pub mod route_relay;
pub mod scrub;
pub mod settings;
pub mod shard_loop;
pub mod slow;
pub mod stall;
pub mod start_checks;
pub mod stats;
pub mod throttle;
pub mod transfer;
pub mod view;
pub mod wire;
