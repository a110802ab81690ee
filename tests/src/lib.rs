//! What the end-to-end tests share: disks that lose power, clusters of real processes.

#![forbid(unsafe_code)]

pub mod power_disk;
