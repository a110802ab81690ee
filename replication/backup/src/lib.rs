//! Where backups lie and what is in them: the directory layout of Apache Pegasus, its JSON files, and the stores that hold them.
//!
//! **Its job.** Open a *target* (a directory, an S3 bucket, HDFS), put the files of partitions there and get them back, within
//! a byte budget, checked by MD5, so that what is there is either complete or can be told to be incomplete; list, check and
//! delete what is there. Nodes, meta and the command line use the same code.
//!
//! **What it must never do.** Know RocksDB, replicas or meta's state; overwrite a file that another backup shares; say that a
//! backup is complete before all of it is.
//!
//! **Reading order.** [`layout`] (paths), [`files`] (what is in the JSON files), [`target`] (stores), [`pace`], then
//! [`upload`] and [`download`] (one partition), [`catalog`] (whole backups). Layout: `docs/formats.md`, "Backup".

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a failed unwrap is a failed test, with its place"
    )
)]

pub mod catalog;
mod config;
pub mod download;
mod error;
pub mod files;
pub mod layout;
mod local;
pub mod pace;
pub mod target;
pub mod upload;

pub use config::TargetConfig;
pub use error::{TargetError, Trouble};
pub use target::Target;

/// Makes TLS work in this process: without it `https://` targets cannot be reached. Any number of calls; the first that
/// anybody makes in the process counts.
pub fn install_tls() {
    // An error says that somebody was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
