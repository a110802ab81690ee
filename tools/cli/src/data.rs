//! `pegasus count-data|copy-data|clear-data`: all rows of a table, or those that filters leave.

pub(crate) mod clear;
pub(crate) mod copy;
pub(crate) mod count;
mod sizes;
mod state;
