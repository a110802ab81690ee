//! Requests of Apache Pegasus clients against the cores of real nodes, in each of the three headers.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::apache::{Answer, Connection, Form, Resolved, To};
use e2e::cluster::Cluster;
use pegasus_thrift::data::{
    BatchGetRequest, BatchGetResponse, CasCheckType, CheckAndSetRequest, CheckAndSetResponse,
    CountResponse, FilterType, FullKey, GetScannerRequest, IncrRequest, IncrResponse, KeyValue,
    MultiGetRequest, MultiGetResponse, MultiPutRequest, MultiRemoveRequest, MultiRemoveResponse,
    RawKey, ReadResponse, Request, ScanRequest, ScanResponse, TtlResponse, UpdateRequest,
    UpdateResponse,
};
use pegasus_thrift::meta::ListAppsRequest;
use pegasus_thrift::remote::{Command, NegotiationRequest, NegotiationResponse, NegotiationStatus};
use pegasus_thrift::{Rpc, storage};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const TABLE: &str = "temp";

struct Site {
    cluster: Cluster,
    ports: Vec<SocketAddr>,
    _directory: TempDir,
}

/// Three nodes of two cores, a table of eight partitions.
fn site() -> Site {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("cluster"), 3, 2).unwrap();
    cluster.create_table(TABLE, 8, 3).unwrap();
    let nodes = cluster.pegasus(&["node", "list", "--json"]).unwrap();
    let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
    let mut ports: Vec<SocketAddr> = Vec::new();
    for node in nodes["nodes"].as_array().unwrap() {
        for core in node["cores"].as_array().unwrap() {
            ports.push(core["client_address"].as_str().unwrap().parse().unwrap());
        }
    }
    assert_eq!(ports.len(), 6, "{nodes}");
    Site {
        cluster,
        ports,
        _directory: directory,
    }
}

/// A client with one table, which it has found by asking a data node.
struct Client {
    form: Form,
    table: Resolved,
}

impl Client {
    fn new(site: &Site, form: Form) -> Self {
        let table = Resolved::ask(site.ports[0], form, TABLE).unwrap();
        Self { form, table }
    }

    fn ask(&self, key: &RawKey<'_>, request: &Request<'_>) -> Answer {
        let to = self.table.to(key);
        let mut connection = self.table.connect(&to, self.form).unwrap();
        connection.ask(to, request).unwrap()
    }

    /// Of a whole hash key.
    fn ask_hash(&self, hash_key: &[u8], request: &Request<'_>) -> Answer {
        let key = RawKey {
            hash_key,
            sort_key: b"",
        };
        self.ask(&key, request)
    }
}

fn now_s() -> i32 {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    i32::try_from(unix - pegasus_thrift::data::EPOCH_UNIX_SECONDS).unwrap()
}

#[test]
fn rows_are_written_read_and_removed_in_every_header() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        for port in &site.ports {
            let other = Resolved::ask(*port, form, TABLE).unwrap();
            assert_eq!(other.primaries, client.table.primaries, "{port}");
        }
        for index in 0..20 {
            let hash_key = format!("{form:?}-{index}").into_bytes();
            let key = RawKey {
                hash_key: &hash_key,
                sort_key: b"sort",
            };
            single_row(&client, &key);
        }
        expiry(&client);
    }
}

fn single_row(client: &Client, key: &RawKey<'_>) {
    let raw = key.to_vec();
    let missing = client.ask(key, &Request::Get(&raw));
    assert_eq!(
        missing.read::<ReadResponse<'_>>().unwrap().error,
        storage::NOT_FOUND
    );
    let put = Request::Put(UpdateRequest {
        key: &raw,
        value: b"value",
        ..UpdateRequest::default()
    });
    let answer = client.ask(key, &put);
    let written: UpdateResponse<'_> = answer.read().unwrap();
    assert_eq!(written.error, storage::OK);
    assert!(written.decree > 0);
    let to = client.table.to(key);
    assert_eq!(
        (written.app_id, written.partition_index),
        (to.app_id, to.partition_index)
    );
    let primary = client.table.primaries[usize::try_from(to.partition_index).unwrap()];
    assert_eq!(written.server, primary.to_string());
    let answer = client.ask(key, &Request::Get(&raw));
    let read: ReadResponse<'_> = answer.read().unwrap();
    assert_eq!((read.error, read.value), (storage::OK, &b"value"[..]));
    let answer = client.ask(key, &Request::Ttl(&raw));
    assert_eq!(answer.read::<TtlResponse<'_>>().unwrap().ttl_seconds, -1);
    for _ in 0..2 {
        let answer = client.ask(key, &Request::Remove(&raw));
        assert_eq!(
            answer.read::<UpdateResponse<'_>>().unwrap().error,
            storage::OK
        );
    }
    let answer = client.ask(key, &Request::Ttl(&raw));
    assert_eq!(
        answer.read::<TtlResponse<'_>>().unwrap().error,
        storage::NOT_FOUND
    );
}

/// Points in time are absolute, and stored as they are given.
fn expiry(client: &Client) {
    let key = RawKey {
        hash_key: b"expiring",
        sort_key: b"",
    };
    let raw = key.to_vec();
    let put = |expire_ts_seconds| {
        let request = Request::Put(UpdateRequest {
            key: &raw,
            value: b"v",
            expire_ts_seconds,
            ..UpdateRequest::default()
        });
        let answer = client.ask(&key, &request);
        assert_eq!(
            answer.read::<UpdateResponse<'_>>().unwrap().error,
            storage::OK
        );
        let answer = client.ask(&key, &Request::Ttl(&raw));
        let ttl: TtlResponse<'_> = answer.read().unwrap();
        (ttl.error, ttl.ttl_seconds)
    };
    let (error, left) = put(now_s() + 1000);
    assert_eq!(error, storage::OK);
    assert!((990..=1000).contains(&left), "{left}");
    // What the Node client sends for ten seconds: long over.
    assert_eq!(put(10).0, storage::NOT_FOUND);
    assert_eq!(put(0), (storage::OK, -1));
}

fn multi_put(client: &Client, hash_key: &[u8], rows: &[(&[u8], &[u8])]) {
    let kvs = rows.iter().map(|(key, value)| KeyValue {
        key: *key,
        value,
        expire_ts_seconds: None,
    });
    let request = Request::MultiPut(MultiPutRequest {
        hash_key,
        kvs: kvs.collect(),
        expire_ts_seconds: 0,
    });
    let answer = client.ask_hash(hash_key, &request);
    assert_eq!(
        answer.read::<UpdateResponse<'_>>().unwrap().error,
        storage::OK
    );
}

/// Error, sort keys.
fn multi_get(client: &Client, request: MultiGetRequest<'_>) -> (i32, Vec<String>) {
    let hash_key = request.hash_key;
    let answer = client.ask_hash(hash_key, &Request::MultiGet(request));
    let response: MultiGetResponse<'_> = answer.read().unwrap();
    let keys = response.kvs.iter();
    let keys = keys.map(|row| String::from_utf8(row.key.to_vec()).unwrap());
    (response.error, keys.collect())
}

#[test]
fn rows_of_a_hash_key_are_read_within_their_limits() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let hash_key = format!("rows-{form:?}").into_bytes();
        let hash_key = &hash_key[..];
        let names = ["a", "b", "ca", "cb", "d"];
        let rows = names.map(|name| (name.as_bytes(), &b"12345"[..]));
        multi_put(&client, hash_key, &rows);
        let all = MultiGetRequest {
            hash_key,
            start_inclusive: true,
            ..MultiGetRequest::default()
        };
        let ok = |keys: &[&str]| (storage::OK, keys.iter().map(ToString::to_string).collect());
        let cut = |keys: &[&str]| {
            let keys = keys.iter().map(ToString::to_string);
            (storage::INCOMPLETE, keys.collect())
        };
        let ask = |request: MultiGetRequest<'_>| multi_get(&client, request);
        assert_eq!(ask(all.clone()), ok(&names));
        let limited = |max_kv_count, reverse| MultiGetRequest {
            max_kv_count,
            reverse,
            ..all.clone()
        };
        assert_eq!(ask(limited(-1, false)), ok(&names));
        assert_eq!(ask(limited(5, false)), ok(&names));
        assert_eq!(ask(limited(2, false)), cut(&["a", "b"]));
        assert_eq!(ask(limited(2, true)), cut(&["cb", "d"]));
        let sized = MultiGetRequest {
            max_kv_size: 7,
            ..all.clone()
        };
        assert_eq!(ask(sized), cut(&["a", "b"]));
        let range = MultiGetRequest {
            start_sortkey: b"b",
            start_inclusive: false,
            stop_sortkey: b"cb",
            stop_inclusive: true,
            ..all.clone()
        };
        assert_eq!(ask(range), ok(&["ca", "cb"]));
        let filtered = |kind, pattern| MultiGetRequest {
            sort_key_filter_type: kind,
            sort_key_filter_pattern: pattern,
            ..all.clone()
        };
        assert_eq!(
            ask(filtered(FilterType::MatchPrefix, b"c")),
            ok(&["ca", "cb"])
        );
        assert_eq!(
            ask(filtered(FilterType::MatchPostfix, b"b")),
            ok(&["b", "cb"])
        );
        assert_eq!(
            ask(filtered(FilterType::MatchAnywhere, b"a")),
            ok(&["a", "ca"])
        );
        assert_eq!(
            ask(filtered(FilterType::Other(4), b"")).0,
            storage::INVALID_ARGUMENT
        );
        // By name: in the order of the request, whatever range and filter say.
        let named = MultiGetRequest {
            sort_keys: vec![b"d", b"nobody", b"a", b"b"],
            stop_sortkey: b"a",
            ..filtered(FilterType::MatchPrefix, b"zz")
        };
        assert_eq!(ask(named.clone()), ok(&["d", "a", "b"]));
        let first = |max_kv_count| MultiGetRequest {
            max_kv_count,
            ..named.clone()
        };
        assert_eq!(ask(first(2)), cut(&["d", "a"]));
        assert_eq!(ask(first(3)), ok(&["d", "a", "b"]));

        let answer = client.ask_hash(hash_key, &Request::SortkeyCount(hash_key));
        assert_eq!(answer.read::<CountResponse<'_>>().unwrap().count, 5);
        let request = Request::MultiRemove(MultiRemoveRequest {
            hash_key,
            sort_keys: vec![b"a", b"nobody", b"b"],
            max_count: 1,
        });
        let answer = client.ask_hash(hash_key, &request);
        let removed: MultiRemoveResponse<'_> = answer.read().unwrap();
        assert_eq!((removed.error, removed.count), (storage::OK, 3));
        assert_eq!(ask(all), ok(&["ca", "cb", "d"]));
        batch_get(&client, hash_key);
    }
}

fn batch_get(client: &Client, hash_key: &[u8]) {
    let keys = [&b"d"[..], b"nobody", b"ca"];
    let keys = keys.map(|sort_key| FullKey { hash_key, sort_key });
    let request = Request::BatchGet(BatchGetRequest {
        keys: keys.to_vec(),
    });
    let answer = client.ask_hash(hash_key, &request);
    let response: BatchGetResponse<'_> = answer.read().unwrap();
    assert_eq!(response.error, storage::OK);
    let found: Vec<_> = response
        .data
        .iter()
        .map(|row| (row.hash_key, row.sort_key))
        .collect();
    assert_eq!(found, [(hash_key, &b"d"[..]), (hash_key, &b"ca"[..])]);
}

#[test]
fn requests_that_make_no_sense_are_error_4_and_change_nothing() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let error = |request| client.ask_hash(b"h", &request).error().unwrap();
        for request in [
            Request::Get(b"\0"),
            Request::Ttl(b"\0\x05a"),
            Request::Remove(b""),
            Request::Put(UpdateRequest::default()),
            Request::MultiPut(MultiPutRequest {
                hash_key: b"h",
                ..MultiPutRequest::default()
            }),
            Request::MultiRemove(MultiRemoveRequest {
                hash_key: b"h",
                ..MultiRemoveRequest::default()
            }),
            Request::BatchGet(BatchGetRequest::default()),
            Request::GetScanner(GetScannerRequest {
                hash_key_filter_type: FilterType::Other(-1),
                ..GetScannerRequest::default()
            }),
        ] {
            assert_eq!(
                error(request.clone()),
                storage::INVALID_ARGUMENT,
                "{request:?}"
            );
        }
    }
}

fn page(
    client: &Client,
    connection: &mut Connection,
    to: To,
    request: &Request<'_>,
) -> (i32, i64, Vec<Vec<u8>>) {
    let answer = connection.ask(to, request).unwrap();
    let response: ScanResponse<'_> = answer.read().unwrap();
    assert_eq!(response.app_id, client.table.app_id);
    let keys = response.kvs.iter().map(|row| row.key.to_vec());
    (response.error, response.context_id, keys.collect())
}

#[test]
fn a_scan_reads_every_row_once_with_a_new_number_for_each_page() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let mut written = BTreeSet::new();
        for index in 0..60 {
            let hash_key = format!("scanned-{index}").into_bytes();
            multi_put(&client, &hash_key, &[(b"a", b"1"), (b"b", b"2")]);
            for sort_key in [&b"a"[..], b"b"] {
                let hash_key = &hash_key;
                written.insert(RawKey { hash_key, sort_key }.to_vec());
            }
        }
        let mut read = BTreeSet::new();
        for index in 0..8 {
            let to = To {
                app_id: client.table.app_id,
                partition_index: index,
                // What clients say who scan a whole table.
                partition_hash: u64::try_from(index).unwrap(),
                is_backup: false,
            };
            for key in scan(&client, to) {
                assert!(read.insert(key), "a row came twice");
            }
        }
        let wanted: BTreeSet<_> = read
            .iter()
            .filter(|key| key[2..].starts_with(b"scanned"))
            .collect();
        assert_eq!(wanted, written.iter().collect());
    }
}

/// All keys of a partition, in pages of three.
fn scan(client: &Client, to: To) -> Vec<Vec<u8>> {
    let mut connection = client.table.connect(&to, client.form).unwrap();
    let open = Request::GetScanner(GetScannerRequest {
        start_key: b"\0\0",
        start_inclusive: true,
        stop_key: b"\xff\xff",
        batch_size: 3,
        full_scan: Some(true),
        ..GetScannerRequest::default()
    });
    let (error, mut context, mut all) = page(client, &mut connection, to, &open);
    assert_eq!(error, storage::OK);
    while context >= 0 {
        let next = Request::Scan(ScanRequest {
            context_id: context,
        });
        let (error, following, keys) = page(client, &mut connection, to, &next);
        assert_eq!(error, storage::OK);
        assert!((1..=3).contains(&keys.len()));
        assert_ne!(following, context);
        // A number is good for one page.
        let (error, _, _) = page(client, &mut connection, to, &next);
        assert_eq!(error, storage::NOT_FOUND);
        context = following;
        all.extend(keys);
    }
    assert!(all.is_sorted());
    all
}

#[test]
fn scanners_count_tell_expiry_end_at_once_and_are_closed_in_silence() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let hash_key = b"one";
        multi_put(
            &client,
            hash_key,
            &[(b"a", b"1"), (b"b", b"2"), (b"c", b"3")],
        );
        let key = |sort_key: &'static [u8]| RawKey { hash_key, sort_key }.to_vec();
        let (start, stop) = (key(b""), key(b"c"));
        let range = GetScannerRequest {
            start_key: &start,
            start_inclusive: true,
            stop_key: &stop,
            stop_inclusive: false,
            ..GetScannerRequest::default()
        };
        let to = client.table.to(&RawKey {
            hash_key,
            sort_key: b"",
        });
        let mut connection = client.table.connect(&to, form).unwrap();
        let mut ask = |request: GetScannerRequest<'_>| {
            let answer = connection.ask(to, &Request::GetScanner(request)).unwrap();
            let response: ScanResponse<'_> = answer.read().unwrap();
            assert_eq!(response.error, storage::OK);
            let expiry = response.kvs.first().and_then(|row| row.expire_ts_seconds);
            (
                response.kvs.len(),
                response.context_id,
                response.kv_count,
                expiry,
            )
        };
        assert_eq!(ask(range.clone()), (2, -1, None, None));
        let counted = GetScannerRequest {
            only_return_count: Some(true),
            return_expire_ts: Some(true),
            ..range.clone()
        };
        assert_eq!(ask(counted), (0, -1, Some(2), None));
        let expiring = GetScannerRequest {
            return_expire_ts: Some(true),
            ..range.clone()
        };
        assert_eq!(ask(expiring), (2, -1, None, Some(0)));
        let empty = GetScannerRequest {
            start_key: &stop,
            stop_key: &start,
            ..range.clone()
        };
        assert_eq!(ask(empty), (0, -1, None, None));
        let (_, context, _, _) = ask(GetScannerRequest {
            batch_size: 1,
            ..range
        });
        // Silence: the answer to the next request is the next one to come.
        connection
            .send(to, &Request::ClearScanner(context))
            .unwrap();
        let next = Request::Scan(ScanRequest {
            context_id: context,
        });
        let (error, _, _) = page(&client, &mut connection, to, &next);
        assert_eq!(error, storage::NOT_FOUND);
    }
}

#[test]
fn atomic_operations_answer_as_apache_pegasus_does() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let hash_key = format!("atomic-{form:?}").into_bytes();
        let hash_key = &hash_key[..];
        let key = RawKey {
            hash_key,
            sort_key: b"n",
        };
        let raw = key.to_vec();
        let incr = |increment| {
            let request = Request::Incr(IncrRequest {
                key: &raw,
                increment,
                expire_ts_seconds: 0,
            });
            let answer = client.ask(&key, &request);
            let response: IncrResponse<'_> = answer.read().unwrap();
            (response.error, response.new_value)
        };
        assert_eq!(incr(5), (storage::OK, 5));
        assert_eq!(incr(-7), (storage::OK, -2));
        assert_eq!(incr(i64::MIN), (storage::INVALID_ARGUMENT, -2));
        let check = |check_type, operand, value| {
            let request = Request::CheckAndSet(CheckAndSetRequest {
                hash_key,
                check_sort_key: b"n",
                check_type,
                check_operand: operand,
                set_value: value,
                return_check_value: true,
                ..CheckAndSetRequest::default()
            });
            let answer = client.ask_hash(hash_key, &request);
            let response: CheckAndSetResponse<'_> = answer.read().unwrap();
            assert!(response.check_value_returned && response.check_value_exist);
            (response.error, response.check_value.to_vec())
        };
        let failed = check(CasCheckType::ValueIntGreater, b"0", b"x");
        assert_eq!(failed, (storage::TRY_AGAIN, b"-2".to_vec()));
        let passed = check(CasCheckType::ValueBytesEqual, b"-2", b"word");
        assert_eq!(passed, (storage::OK, b"-2".to_vec()));
        let invalid = check(CasCheckType::ValueIntEqual, b"0", b"x");
        assert_eq!(invalid, (storage::INVALID_ARGUMENT, b"word".to_vec()));
        assert_eq!(incr(1), (storage::INVALID_ARGUMENT, 0));
    }
}

#[test]
fn requests_to_the_wrong_place_are_told_so_in_names_that_clients_know() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let key = RawKey {
            hash_key: b"h",
            sort_key: b"s",
        };
        let raw = key.to_vec();
        let to = client.table.to(&key);
        let index = usize::try_from(to.partition_index).unwrap();
        let mut primary = client.table.connect(&to, form).unwrap();
        let get = Request::Get(&raw);
        let status = |connection: &mut Connection, to, request: &Request<'_>| {
            connection.ask(to, request).unwrap().status
        };
        let no_table = To { app_id: 999, ..to };
        assert_eq!(status(&mut primary, no_table, &get), "ERR_OBJECT_NOT_FOUND");
        for partition_hash in [0, u64::try_from(index).unwrap(), 12345] {
            let to = To {
                partition_hash,
                ..to
            };
            assert_eq!(status(&mut primary, to, &get), "ERR_OK");
        }
        let secondary = client.table.secondaries[index][0];
        let mut secondary = Connection::open(secondary, form).unwrap();
        assert_eq!(status(&mut secondary, to, &get), "ERR_INVALID_STATE");
        // Nonsense is not told before the client has found the primary.
        let nonsense = Request::MultiRemove(MultiRemoveRequest::default());
        assert_eq!(status(&mut secondary, to, &nonsense), "ERR_INVALID_STATE");
        if form != Form::ThftV0 {
            // The primary's answer is the one that counts: this one stays silent, and the next answer is the next one's.
            let backup = To {
                is_backup: true,
                ..to
            };
            secondary.send(backup, &get).unwrap();
            assert_eq!(status(&mut secondary, to, &get), "ERR_INVALID_STATE");
            assert_eq!(status(&mut primary, backup, &get), "ERR_OK");
        }
        let value = vec![0; 1 << 20];
        let large = Request::Put(UpdateRequest {
            key: &raw,
            value: &value,
            ..UpdateRequest::default()
        });
        assert_eq!(status(&mut primary, to, &large), "ERR_INVALID_DATA");
        assert_eq!(
            status(&mut primary, no_table, &large),
            "ERR_OBJECT_NOT_FOUND"
        );
        assert_eq!(status(&mut primary, to, &get), "ERR_OK");
    }
}

#[test]
fn a_write_that_reaches_another_core_of_the_node_is_handed_over() {
    let site = site();
    let client = Client::new(&site, Form::ThftV1);
    for index in 0..16_u8 {
        let hash_key = [index];
        let key = RawKey {
            hash_key: &hash_key,
            sort_key: b"",
        };
        let to = client.table.to(&key);
        let primary = client.table.primaries[usize::try_from(to.partition_index).unwrap()];
        let same_node = site
            .ports
            .chunks(2)
            .find(|ports| ports.contains(&primary))
            .unwrap();
        let raw = key.to_vec();
        for port in same_node {
            let put = Request::Put(UpdateRequest {
                key: &raw,
                value: &hash_key,
                ..UpdateRequest::default()
            });
            let answer = Connection::open(*port, client.form)
                .unwrap()
                .ask(to, &put)
                .unwrap();
            assert_eq!(
                answer.read::<UpdateResponse<'_>>().unwrap().error,
                storage::OK
            );
        }
    }
}

#[test]
fn a_core_answers_tools_by_remote_command_and_by_http() {
    let site = site();
    for (port, form) in site.ports.iter().zip(Form::ALL.into_iter().cycle()) {
        let mut connection = Connection::open(*port, form).unwrap();
        let mut command = |cmd, arguments: Vec<&str>| {
            let answer = connection
                .ask_server(Rpc::Cli, &Command { cmd, arguments })
                .unwrap();
            answer.read::<&str>().unwrap().to_owned()
        };
        assert!(command("server-info", vec![]).starts_with("Pegasus Server "));
        assert!(command("help", vec![]).contains("server-stat"));
        assert!(command("server-stat", vec![]).contains("replicas: "));
        assert!(command("perf-counters-by-substr", vec!["replica"]).starts_with('{'));
        assert_eq!(command("flush-log", vec![]), "unsupported: flush-log");
        // Meta's requests are not answered here, and clients go on to their next address.
        let refused = connection
            .ask_server(Rpc::ListApps, &ListAppsRequest::default())
            .unwrap();
        assert_eq!(refused.status, "ERR_HANDLER_NOT_FOUND");
        let negotiated = connection
            .ask_server(Rpc::Negotiation, &NegotiationRequest::default())
            .unwrap();
        let response: NegotiationResponse<'_> = negotiated.read().unwrap();
        assert_eq!(response.status, NegotiationStatus::SaslAuthDisable);

        assert!(http(*port, "/version").contains("\"Version\""));
        assert!(http(*port, "/health").starts_with("HTTP/1.1 200 "));
        assert!(http(*port, "/ready").starts_with("HTTP/1.1 200 "));
        let metrics = http(*port, "/metrics?types=server");
        assert!(
            metrics.contains(&format!("\"port\":{}", port.port())),
            "{metrics}"
        );
        assert!(http(*port, "/metrics/prometheus").contains("# TYPE pegasus_"));
        assert!(http(*port, "/meta/apps").starts_with("HTTP/1.1 404 "));
    }
    assert!(site.cluster.pegasus(&["get", TABLE, "h", "s"]).is_err());
}

fn http(port: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(port).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
