//! `pegasus-bench versus`: the same mixes against several servers by turns, so that what else happens on the machine meets
//! all of them. It starts no server: they are given by their URLs, whatever their protocol.

mod command;
mod report;

pub(crate) use command::VersusOptions;
#[cfg(test)]
pub(crate) use report::tests::example;
pub(crate) use report::{Row, VersusReport};
