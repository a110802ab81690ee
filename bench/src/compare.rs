//! `pegasus-bench compare`: several runs side by side, with ratios, and whether a difference is larger than what runs of
//! one side differ by anyway.
//!
//! The first side is the base; every other one is compared with it. A side is one run, or several of the same settings
//! (`--a A1.json,A2.json`, `--b 'B*.json'`), whose median, lowest and highest value count.

mod command;
mod difference;
mod figures;
mod report;

pub(crate) use command::CompareOptions;
pub(crate) use figures::{Row, Verdict};
pub(crate) use report::{CompareReport, Pair, Side, ratio, spread};
