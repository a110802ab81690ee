//! One contract, two engines: whatever [`Engine`] promises is checked on `MemEngine` and, with feature `rocks`, on
//! `RocksEngine` alike, first by cases with a name, then by random histories run on both side by side.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, with its place"
)]

#[path = "contract/cases.rs"]
mod cases;
#[path = "contract/harness.rs"]
mod harness;
#[path = "contract/history.rs"]
mod history;
#[cfg(feature = "rocks")]
#[path = "contract/rocks_backup.rs"]
mod rocks_backup;
#[cfg(feature = "rocks")]
#[path = "contract/rocks_damage.rs"]
mod rocks_damage;
#[cfg(feature = "rocks")]
#[path = "contract/rocks_filters.rs"]
mod rocks_filters;
#[cfg(feature = "rocks")]
#[path = "contract/rocks_only.rs"]
mod rocks_only;
#[cfg(feature = "rocks")]
#[path = "contract/rocks_removed.rs"]
mod rocks_removed;
#[cfg(feature = "rocks")]
#[path = "contract/rocks_shape.rs"]
mod rocks_shape;
#[path = "contract/together.rs"]
mod together;
