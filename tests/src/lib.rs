//! What the end-to-end tests share: clusters of real processes, disks that lose power, real input.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod packages;
pub mod power_disk;
pub mod raw;
pub mod writers;
