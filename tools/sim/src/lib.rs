//! What the simulator shares with tests of real processes: the judge of a history.

#![forbid(unsafe_code)]

pub mod history;
