//! Whole backups at each kind of target: a directory, a real S3 server, and a server that speaks WebHDFS.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, with its place"
)]

#[path = "targets/directory.rs"]
mod directory;
#[path = "targets/exercise.rs"]
mod exercise;
#[path = "targets/hdfs.rs"]
mod hdfs;
#[path = "targets/name_node.rs"]
mod name_node;
#[path = "targets/s3.rs"]
mod s3;
