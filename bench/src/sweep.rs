//! `pegasus-bench sweep`: how much can a server take before its tail breaks? An open loop offers more and more until it
//! does, then the rate in between is narrowed down.
//!
//! The rates climb by a factor from the lowest one. A step *breaks* when its p99 is over the bound, when the server
//! (or the bench) cannot keep up, or when operations fail. Between the last step that held and the first that broke the search
//! goes on by halves, geometrically. The *knee* is the highest rate that held below the first that did not.

mod command;
pub(crate) mod knee;
mod report;
mod search;

pub(crate) use command::SweepOptions;
pub(crate) use report::SweepReport;
pub(crate) use search::Step;
#[cfg(test)]
pub(crate) use search::{Limits, Sample, Search};
