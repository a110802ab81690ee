//! Requests of Apache Pegasus clients against the cores of real nodes, in each of the three headers.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod places;
mod rows;
mod scans;
mod site;
mod tools;
