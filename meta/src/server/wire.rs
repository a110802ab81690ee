//! Commands, pushes and answers <-> bodies of frames (fbs/schema/meta.fbs, admin.fbs). The only place that knows both.

mod balance;
mod nodes;
mod orders;
mod remote;
mod replies;

pub(super) use balance::reply as balance_reply;
pub(super) use nodes::{next_ballots, proof, proposals, register, report};
pub(super) use orders::{member_change, order, query};
pub(super) use remote::{remote_command, remote_command_reply};
pub(super) use replies::{
    change_reply, create_reply, drop_reply, finished, heartbeat_reply, level_reply, register_reply,
    sync,
};

type Builder<'a> = pegasus_fbs::flatbuffers::FlatBufferBuilder<'a>;
