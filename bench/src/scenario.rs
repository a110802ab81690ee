//! `pegasus-bench scenario`: an open loop all the time, and meanwhile something is done to the cluster: a full compaction, a
//! copy of replicas to a node, a node that dies, a slow disk, a neighbour that floods another table.
//!
//! The measured time is cut into periods: quiet, each event from its begin to its end (the compaction is over, the table
//! healthy again), and some seconds after each. Reports have the figures of each, and their quotients with the quiet
//! period.
//!
//! Reading order: `command` (what is to happen), `script` (when), `event` (what is done), `cluster` and `local` (to whom),
//! `disk` (how a disk becomes slow).

mod cluster;
mod command;
mod disk;
mod event;
mod local;
mod script;

pub(crate) use command::ScenarioOptions;
