//! Apache Pegasus' clients and tools (THFT and RDSN) at meta: their requests become commands and questions of ours, and our
//! answers the structs that they expect.
//!
//! `ask` reads requests; `config`, `tables`, `cluster` and `remote` answer; `outcome` says what came of a command. A request
//! that is not built answers as what it is, with its name in the hint: never by silence.
//!
//! Source: Apache Pegasus, `idl/meta_admin.thrift`, `src/meta`.

mod ask;
mod backup;
mod cluster;
mod config;
mod outcome;
mod remote;
mod tables;

pub(super) use ask::{Ask, Question, read};
pub(super) use config::CREATING_MS;
pub(super) use outcome::created;
pub(super) use outcome::{Told, outcome};
pub(super) use remote::command;
pub(super) use tables::status;

use super::facts::{Place, v4};
use super::outbox::Outbox;
use crate::state::State;
use pegasus_replication::config::Member;
use pegasus_thrift::binary::Encode;
use pegasus_thrift::meta::{QueryCfgResponse, Refusal};
use pegasus_thrift::{ErrorCode, FrameStatus, Protocol, ReplyTo, Rpc, RpcAddress};

/// Text that a request quotes back is cut here, in characters.
const QUOTED_MAX: usize = 256;
/// What the type of every table is called.
const APP_TYPE: &str = "pegasus";

/// The way back to an asker.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Boxed: a header of RDSN has 192 bytes.
    pub(super) to: Box<ReplyTo>,
    /// This meta, as the asker reaches it.
    pub(super) here: RpcAddress,
    pub(super) outbox: Outbox,
}

impl Caller {
    /// The asker's protocol wants names beside addresses; others break on them.
    fn wants_host_ports(&self) -> bool {
        self.to.protocol() == Protocol::Rdsn
    }

    pub(super) fn reply<T: Encode>(&self, response: &T) {
        let mut bytes = Vec::new();
        self.to.reply(response, self.here, &mut bytes);
        self.outbox.send_bytes(bytes);
    }

    /// The request as a whole fails.
    pub(super) fn fail(&self, status: FrameStatus) {
        let mut bytes = Vec::new();
        self.to.fail(status, self.here, &mut bytes);
        self.outbox.send_bytes(bytes);
    }

    /// The answer that says no, in the struct of the request.
    pub(super) fn refuse(&self, rpc: Rpc, err: ErrorCode, hint: &str) {
        match Refusal::new(rpc, err, hint) {
            Some(refusal) => self.reply(&refusal),
            None => self.fail(FrameStatus::HandlerNotFound),
        }
    }
}

/// What a meta that does not lead answers.
impl Caller {
    /// To a question. Clients by THFT that ask where a table is find the leader in a partition's place.
    pub(super) fn forward_question(&self, question: &Question, leader: Option<&str>) {
        let leader = leader
            .and_then(v4)
            .map_or(RpcAddress::NONE, RpcAddress::new);
        if self.forwards_by_header(leader) {
            return;
        }
        match (question, question.rpc()) {
            (Question::Config { .. }, _)
                if leader == RpcAddress::NONE && !self.wants_host_ports() =>
            {
                self.reply(&QueryCfgResponse {
                    err: ErrorCode::ServiceNotActive,
                    ..QueryCfgResponse::default()
                });
            }
            (Question::Config { .. }, _) if self.wants_host_ports() => {
                self.reply(&QueryCfgResponse::forward(leader).with_host_ports());
            }
            (Question::Config { .. }, _) => self.reply(&QueryCfgResponse::forward(leader)),
            (_, rpc) => self.refuse_following(rpc, leader),
        }
    }

    /// To everything that changes something.
    pub(super) fn forward_order(&self, rpc: Rpc, leader: Option<&str>) {
        let leader = leader
            .and_then(v4)
            .map_or(RpcAddress::NONE, RpcAddress::new);
        if !self.forwards_by_header(leader) {
            self.refuse_following(rpc, leader);
        }
    }

    /// Whether it was done is not known.
    pub(super) fn time_out(&self, rpc: Rpc) {
        self.refuse(rpc, ErrorCode::Timeout, "another meta leads now");
    }

    fn refuse_following(&self, rpc: Rpc, leader: RpcAddress) {
        // By THFT this has them ask the same meta again after a second.
        let err = if leader == RpcAddress::NONE && !self.wants_host_ports() {
            ErrorCode::ServiceNotActive
        } else {
            ErrorCode::ForwardToOthers
        };
        self.refuse(rpc, err, "this meta does not lead");
    }

    /// Clients by RDSN are told in the header of the answer, and ask again there.
    fn forwards_by_header(&self, leader: RpcAddress) -> bool {
        let mut bytes = Vec::new();
        let forwards = leader != RpcAddress::NONE && self.to.forward(self.here, leader, &mut bytes);
        if forwards {
            self.outbox.send_bytes(bytes);
        }
        forwards
    }
}

/// Answers a question from what is durable.
pub(super) fn answer(state: &State, place: &Place, question: &Question, caller: &Caller) {
    match question {
        Question::Config { name, indices } => {
            config::answer(state, name, indices, caller);
        }
        Question::ListApps {
            status,
            pattern,
            match_type,
        } => tables::list(state, *status, pattern.as_deref(), *match_type, caller),
        Question::ListNodes { status } => cluster::list_nodes(state, *status, caller),
        Question::ReplicaCount { name } => tables::replica_count(state, name, caller),
        Question::ClusterInfo => cluster::info(state, place, caller),
        Question::BackupStatus { table, backup } => {
            backup::status(state, *table, *backup, caller);
        }
        Question::BackupPolicies { names, count } => {
            backup::policies(state, names, *count, caller);
        }
        Question::RestoreStatus { table } => backup::restore_status(state, *table, caller),
    }
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_MAX).collect()
}

/// Where clients reach a replica; [`RpcAddress::NONE`] if nobody knows, or not by IPv4.
fn address_of(state: &State, member: &Member) -> RpcAddress {
    let node = state.durable().nodes().get(&member.address.node);
    let core = node.and_then(|node| node.core(member.address.core));
    let address = core.and_then(|core| v4(&core.client_address));
    address.map_or(RpcAddress::NONE, RpcAddress::new)
}

/// Numbers of ours in the signed ones of Thrift; what does not fit is as large as can be.
fn i32_of(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

fn i64_of(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
