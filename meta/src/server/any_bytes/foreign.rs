//! Streams of Apache's clients and of HTTP with any bytes: refused, or each request answered by one message that is whole,
//! whatever was asked for. Run by the tests and by the fuzz target `meta_foreign`.

use super::Meta;
use crate::server::Counters;
use crate::server::apache::{self, Ask, Caller, Told};
use crate::server::facts::Place;
use crate::server::http;
use crate::server::outbox::Outbox;
use crate::server::sniff::{Sniffed, sniff};
use crate::state::{Command, Core, CreateTable, Node};
use bytes::BytesMut;
use pegasus_http::RequestDecoder;
use pegasus_replication::ids::{NodeId, NodeIncarnation};
use pegasus_thrift::{Call, FrameStatus, Limits, Progress, Protocol, RpcAddress, frame_length};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

const LIMITS: Limits = Limits {
    body_bytes_max: 64 << 10,
};

/// The input is the stream of one connection to a meta that has a node and two tables, one of them dropped.
pub fn run(input: &[u8]) {
    let mut meta = site();
    match sniff(input) {
        Sniffed::Apache(protocol) => meta.hear_apache(protocol, input),
        Sniffed::Http => meta.hear_http(input),
        Sniffed::NeedMore | Sniffed::Native | Sniffed::Text => {}
    }
    meta.state.check();
}

fn site() -> Meta {
    let mut meta = Meta::new();
    let now_ms = meta.now_ms;
    let node = Node {
        id: NodeId(1),
        incarnation: NodeIncarnation(1),
        cores: vec![Core {
            client_address: "127.0.0.1:34801".to_owned(),
            peer_address: "127.0.0.1:35801".to_owned(),
            cpu: 0,
        }],
        host: "here".to_owned(),
        pid: 1,
        stats_dir: String::new(),
    };
    let create = |name: &str| {
        Command::CreateTable(CreateTable {
            name: name.to_owned(),
            partition_count: 2,
            replica_count: 1,
            allow_degraded: false,
            may_exist: false,
            envs: BTreeMap::from([("default_ttl".to_owned(), "60".to_owned())]),
            now_ms,
        })
    };
    let drop = Command::DropTable {
        name: "u".to_owned(),
        keep_seconds: None,
        now_ms,
    };
    let commands = [
        Command::NumberNode,
        Command::JoinNode { node, now_ms },
        create("t"),
        create("u"),
        drop,
    ];
    for command in commands {
        meta.apply(command).expect("a cluster with two tables");
    }
    meta
}

impl Meta {
    fn hear_apache(&mut self, protocol: Protocol, mut input: &[u8]) {
        while let Ok(Progress::Done(length)) = frame_length(protocol, input, &LIMITS) {
            let (frame, rest) = input.split_at(length);
            input = rest;
            let Ok(call) = Call::decode(protocol, frame) else {
                return;
            };
            let (outbox, mut sent) = Outbox::new(Arc::new(Counters::default()));
            let caller = Caller {
                to: Box::new(call.reply_to),
                here: RpcAddress::NONE,
                outbox,
            };
            let is_answered = self.on_call(&call, &caller);
            check_answer(protocol, is_answered, &mut sent);
            self.now_ms += 300;
        }
    }

    /// Whether an answer is due.
    fn on_call(&mut self, call: &Call<'_>, caller: &Caller) -> bool {
        let Ok(ask) = apache::read(call, self.now_ms) else {
            caller.fail(FrameStatus::InvalidData);
            return true;
        };
        match (ask, call.rpc) {
            (Ask::Order(command), Some(rpc)) => {
                let answer = self.apply_told(command);
                let told = apache::outcome(&self.state, rpc, &answer, false, caller);
                if let Told::AwaitsTable(table) = told {
                    apache::created(table, caller);
                }
            }
            (Ask::Question(question), _) => {
                apache::answer(&self.state, &place(), &question, caller);
            }
            (Ask::Remote { command, arguments }, _) => {
                let text = apache::command(&command, &arguments, 0, self.now_ms);
                caller.reply(&text.as_str());
            }
            (Ask::Refused { err, hint }, Some(rpc)) => caller.refuse(rpc, err, &hint),
            (Ask::Silent, _) => return false,
            _ => caller.fail(FrameStatus::HandlerNotFound),
        }
        true
    }

    fn hear_http(&self, input: &[u8]) {
        let mut decoder = RequestDecoder::new(pegasus_http::Limits::DEFAULT);
        let mut input = BytesMut::from(input);
        while let Ok(Some(request)) = decoder.decode(&mut input) {
            let past = http::Past {
                counters: &Counters::default(),
                started_s: 0,
            };
            let response = http::answer(&self.state, &place(), past, &request);
            let mut bytes = Vec::new();
            response.encode(&request.reply_form(), &mut bytes);
            assert!(bytes.starts_with(b"HTTP/1.1 "));
            if response.content_type.contains("json") {
                let body = std::str::from_utf8(&response.body).expect("JSON is text");
                assert!(
                    serde_json::from_str::<serde_json::Value>(body).is_ok(),
                    "{body}"
                );
            }
        }
    }
}

fn place() -> Place {
    Place::alone(SocketAddr::from(([127, 0, 0, 1], 34601)))
}

/// One message, whose length is what it says.
fn check_answer(protocol: Protocol, is_due: bool, sent: &mut mpsc::Receiver<Vec<u8>>) {
    let Ok(bytes) = sent.try_recv() else {
        assert!(!is_due, "a request was not answered");
        return;
    };
    assert!(is_due && sent.try_recv().is_err(), "answered too often");
    let said = match protocol {
        Protocol::Thft => bytes.first_chunk().map(|it| u32::from_be_bytes(*it)),
        Protocol::Rdsn => bytes[16..]
            .first_chunk()
            .map(|it| u32::from_le_bytes(*it) + 192),
    };
    assert_eq!(said.map(|it| it as usize), Some(bytes.len()));
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "tests read files and fail by panicking"
    )]

    use super::*;
    use pegasus_thrift::binary::{Encode, Map};
    use pegasus_thrift::frame::thft::Version;
    use pegasus_thrift::frame::{Name, rdsn, thft};
    use pegasus_thrift::meta::{
        AppEnvOperation, CreateAppOptions, CreateAppRequest, ListAppsRequest, QueryCfgRequest,
        RecallAppRequest, UpdateAppEnvRequest,
    };
    use pegasus_thrift::{Rpc, remote};
    use std::path::PathBuf;

    fn thft<T: Encode>(rpc: Rpc, request: &T) -> Vec<u8> {
        let header = thft::Header {
            version: Version::V1,
            app_id: -1,
            partition_index: -2,
            timeout_ms: 1_000,
            partition_hash: 0,
            is_backup_request: false,
        };
        let mut bytes = Vec::new();
        thft::encode_request(&header, rpc.name().as_bytes(), 7, request, &mut bytes);
        bytes
    }

    fn rdsn<T: Encode>(rpc: Rpc, request: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = rdsn::Header::request(Name::from(rpc.name()), 9);
        rdsn::encode(&header, request, &mut bytes);
        bytes
    }

    fn seeds() -> Vec<(&'static str, Vec<u8>)> {
        let query = QueryCfgRequest {
            app_name: "t",
            partition_indices: vec![0, 9],
        };
        let create = CreateAppRequest {
            app_name: "v",
            options: CreateAppOptions {
                partition_count: 2,
                replica_count: 1,
                envs: Map(vec![("business.info", "x")]),
                ..CreateAppOptions::default()
            },
        };
        let recall = RecallAppRequest {
            app_id: 2,
            new_app_name: "w",
        };
        let envs = UpdateAppEnvRequest {
            app_name: "t",
            op: AppEnvOperation::Set,
            keys: Some(vec!["default_ttl"]),
            values: Some(vec!["5"]),
            clear_prefix: None,
        };
        let help = remote::Command {
            cmd: "help",
            arguments: vec!["help"],
        };
        let list = ListAppsRequest::default();
        let http = "GET /meta/apps?detail HTTP/1.1\r\n\r\nGET /metrics?types=table HTTP/1.1\r\n\r\nGET /meta/app?name=t&detail HTTP/1.0\r\n\r\n";
        vec![
            ("query", thft(Rpc::QueryPartitionConfigByIndex, &query)),
            (
                "query_of_the_shell",
                rdsn(Rpc::QueryPartitionConfigByIndex, &query),
            ),
            (
                "tables",
                [
                    thft(Rpc::CreateApp, &create),
                    thft(Rpc::RecallApp, &recall),
                    thft(Rpc::UpdateAppEnv, &envs),
                    thft(Rpc::ListApps, &list),
                    thft(Rpc::ClearScanner, &list),
                    thft(Rpc::StartBulkLoad, &list),
                ]
                .concat(),
            ),
            ("command", rdsn(Rpc::Cli, &help)),
            ("http", http.as_bytes().to_vec()),
        ]
    }

    /// `PEGASUS_WRITE_CORPUS=1` writes the seeds anew.
    #[test]
    fn streams_of_any_bytes_are_answered_request_by_request() {
        let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let corpus = manifest.join("../tests/fuzz/corpus/meta_foreign");
        for (name, seed) in seeds() {
            if std::env::var_os("PEGASUS_WRITE_CORPUS").is_some() {
                std::fs::create_dir_all(&corpus).unwrap();
                std::fs::write(corpus.join(name), &seed).unwrap();
            }
            assert_eq!(std::fs::read(corpus.join(name)).unwrap(), seed, "{name}");
            for end in 0..seed.len() {
                run(&seed[..end]);
            }
        }
        for entry in std::fs::read_dir(corpus).unwrap() {
            run(&std::fs::read(entry.unwrap().path()).unwrap());
        }
    }
}
