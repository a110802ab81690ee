//! Names of requests and errors, and answers that say no to every request.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use pegasus_thrift::binary::{Decode, Kind, Reader, read_only_field, write_only_field};
use pegasus_thrift::data::{CasCheckType, FilterType, MutateOperation};
use pegasus_thrift::meta::{self, Refusal};
use pegasus_thrift::{ErrorCode, FrameStatus, Name, Rpc, RpcKind};
use std::collections::HashSet;

#[test]
fn every_request_is_found_by_its_name() {
    let mut names = HashSet::new();
    for rpc in Rpc::ALL {
        assert_eq!(Rpc::of_name(rpc.name().as_bytes()), Some(*rpc));
        assert_eq!(Rpc::of_number(rpc.number()), Some(*rpc));
        assert_eq!(rpc.ack_name(), format!("{}_ACK", rpc.name()));
        assert!(names.insert(rpc.name()), "{rpc:?}");
    }
    assert_eq!(Rpc::of_name(b"RPC_RRDB_RRDB_GET_ACK"), None);
    assert_eq!(Rpc::of_name(b"rpc_rrdb_rrdb_get"), None);
    assert_eq!(Rpc::of_name(b"\xff"), None);
    let last = u8::try_from(Rpc::ALL.len()).unwrap();
    assert_eq!(Rpc::of_number(last), None);
}

#[test]
fn requests_to_partitions_are_reads_and_writes() {
    let of = |kind| Rpc::ALL.iter().filter(move |rpc| rpc.kind() == kind);
    assert_eq!(
        (of(RpcKind::Write).count(), of(RpcKind::Read).count()),
        (9, 8)
    );
    for rpc in Rpc::ALL {
        assert_eq!(rpc.is_data(), rpc.name().starts_with("RPC_RRDB_RRDB_"));
    }
    assert!(Rpc::Incr.is_write());
    assert!(!Rpc::Ttl.is_write());
    let silent: Vec<_> = Rpc::ALL.iter().filter(|rpc| !rpc.is_answered()).collect();
    assert_eq!(silent, [&Rpc::ClearScanner]);
}

#[test]
fn names_are_cut_to_what_a_header_has_room_for() {
    let long = [b'x'; 60];
    assert_eq!(Name::new(&long).as_bytes(), [b'x'; 47]);
    assert_eq!(Name::new(&long).ack().as_bytes(), [b'x'; 47]);
    assert_eq!(Name::from("RPC_X").ack(), "RPC_X_ACK".into());
    assert_eq!(Name::new(b"a\n\xff").to_string(), "a\\n\\xff");
    assert!(Name::default().is_empty());
}

#[test]
fn errors_have_names_that_clients_know() {
    for status in FrameStatus::ALL {
        assert!(
            ErrorCode::of_name(status.name().as_bytes()).is_some(),
            "{status:?}"
        );
    }
    // What the Go client does not know, nor the older Python one.
    for unknown in [
        "ERR_LEARNER_NOT_FOUND",
        "ERR_DIR_NOT_EMPTY",
        "ERR_DISK_IO_ERROR",
    ] {
        assert_eq!(FrameStatus::of_name(unknown.as_bytes()), None);
    }
    let not_to_all: Vec<_> = FrameStatus::ALL
        .iter()
        .filter(|status| !status.is_known_to_all())
        .map(|status| status.name())
        .collect();
    assert_eq!(
        not_to_all,
        [
            "ERR_ACL_DENY",
            "ERR_OPERATION_DISABLED",
            "ERR_SPLITTING",
            "ERR_PARENT_PARTITION_MISUSED",
            "ERR_DISK_INSUFFICIENT"
        ]
    );
    // Registered after these, and unknown to Java.
    assert_eq!(ErrorCode::ALL.len(), 78);
    assert_eq!(ErrorCode::of_name(b"ERR_RETRY_EXHAUSTED"), None);
}

#[test]
fn enums_have_the_numbers_of_the_wire() {
    assert_eq!(CasCheckType::ALL.len(), 18);
    for (number, kind) in (0..).zip(CasCheckType::ALL) {
        assert_eq!((kind.number(), CasCheckType::of(number)), (number, *kind));
    }
    assert_eq!(CasCheckType::of(18), CasCheckType::Other(18));
    assert_eq!(CasCheckType::Other(-1).number(), -1);
    assert_eq!(FilterType::default(), FilterType::NoFilter);
    assert_eq!(MutateOperation::of(1), MutateOperation::Delete);
    assert_eq!(meta::MetaFunctionLevel::Steady.number(), 400);
}

#[test]
fn every_request_of_tools_can_be_refused() {
    for rpc in Rpc::ALL {
        let is_of_tools = matches!(rpc.kind(), RpcKind::Meta | RpcKind::Replica);
        // The struct of this answer is not known: only servers ask.
        let is_known = *rpc != Rpc::QueryLastCheckpointInfo;
        let refusal = Refusal::unsupported(*rpc);
        assert_eq!(refusal.is_some(), is_of_tools && is_known, "{rpc:?}");
    }
    // Ids and types of all fields that are not optional, and of the hint, from Apache's `idl`.
    let answers: Vec<_> = include_str!("recorded/refusals.txt").lines().collect();
    assert_eq!(answers.len(), 44);
    for answer in answers {
        let (name, expected) = answer.split_once(' ').unwrap();
        let rpc = Rpc::of_name(name.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        write_only_field(0, &Refusal::unsupported(rpc).unwrap(), &mut bytes);
        assert_eq!(fields(rpc, &bytes[3..]), expected, "{name}");
    }
}

/// The fields of an answer as `id:type`; `err`, the hint and emptiness are checked.
fn fields(rpc: Rpc, bytes: &[u8]) -> String {
    let mut reader = Reader::new(bytes);
    assert_eq!(reader.field().unwrap(), Some((Kind::Struct, 1)));
    assert_eq!(
        ErrorCode::decode(&mut reader),
        Ok(ErrorCode::NotImplemented)
    );
    let mut found = "1:12".to_owned();
    while let Some((kind, id)) = reader.field().unwrap() {
        found += &format!(" {id}:{}", kind.byte());
        match kind {
            Kind::String => {
                let text = reader.text().unwrap();
                assert!(text.is_empty() || text == rpc.unsupported());
            }
            Kind::I32 => assert_eq!(reader.i32(), Ok(0)),
            kind => reader.skip(kind).unwrap(),
        }
    }
    assert_eq!(reader.rest(), [0]);
    found
}

#[test]
fn a_refusal_is_the_answer_to_its_request() {
    let of = |rpc| {
        let mut bytes = Vec::new();
        let refusal = Refusal::new(rpc, ErrorCode::ForwardToOthers, "ask there").unwrap();
        write_only_field(0, &refusal, &mut bytes);
        bytes
    };
    let bytes = of(Rpc::ListApps);
    let apps: meta::ListAppsResponse<'_> = read_only_field(&mut Reader::new(&bytes)).unwrap();
    assert_eq!(apps.err, ErrorCode::ForwardToOthers);
    assert_eq!(
        (apps.infos.len(), apps.hint_message),
        (0, Some("ask there"))
    );
    let bytes = of(Rpc::RecallApp);
    let recalled: meta::RecallAppResponse<'_> = read_only_field(&mut Reader::new(&bytes)).unwrap();
    assert_eq!(recalled.info, meta::AppInfo::default());
    let bytes = of(Rpc::QueryPartitionConfigByIndex);
    let table: meta::QueryCfgResponse<'_> = read_only_field(&mut Reader::new(&bytes)).unwrap();
    assert!(!table.is_stateful);
    // The same bytes as the struct itself.
    let mut written = Vec::new();
    write_only_field(0, &table, &mut written);
    assert_eq!(written, bytes);
}
