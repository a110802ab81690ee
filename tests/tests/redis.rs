//! Redis clients against a cluster: a script whose answers are written down (and compared with a real Redis where there is
//! one), redis-benchmark, keys of all partitions from every port, and a node that is killed under them.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use bytes::BytesMut;
use e2e::cluster::{Cluster, wait_until};
use pegasus_resp::{Value, ValueDecoder};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const SCRIPT: &str = include_str!("../foreign/redis/script.txt");

fn start(nodes: u16, cores: u16) -> (TempDir, Cluster) {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("cluster"), nodes, cores).unwrap();
    cluster.create_table("redis", 8, nodes.into()).unwrap();
    (directory, cluster)
}

/// The client ports of all cores of all nodes.
fn ports(cluster: &Cluster) -> Vec<u16> {
    let status = cluster.status().unwrap();
    let processes = status["processes"].as_array().unwrap().clone();
    let nodes = processes
        .into_iter()
        .filter(|process| process["name"].as_str().unwrap().starts_with("node-"));
    let addresses = nodes.flat_map(|node| node["addresses"].as_array().unwrap().clone());
    addresses
        .map(|address| {
            let port = address.as_str().unwrap().rsplit(':').next().unwrap();
            port.parse().unwrap()
        })
        .collect()
}

struct Client {
    stream: TcpStream,
    input: BytesMut,
    decoder: ValueDecoder,
}

impl Client {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Self {
            stream,
            input: BytesMut::new(),
            decoder: ValueDecoder::default(),
        }
    }

    fn send(&mut self, line: &str) {
        self.stream
            .write_all(format!("{line}\r\n").as_bytes())
            .unwrap();
    }

    fn receive(&mut self) -> Value {
        loop {
            if let Some(value) = self.decoder.decode(&mut self.input).unwrap() {
                return value;
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the server has closed the connection");
            self.input.extend_from_slice(&bytes[..count]);
        }
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        text(&self.receive())
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Simple(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Error(text) => format!("(error) {}", String::from_utf8_lossy(text)),
        Value::Integer(number) => number.to_string(),
        Value::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Value::Null | Value::NullArray => "(nil)".to_owned(),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(text).collect();
            format!("[{}]", values.join(", "))
        }
        other => format!("{other:?}"),
    }
}

/// One command of the script.
struct Line<'a> {
    command: &'a str,
    ours: &'a str,
    redis: &'a str,
}

fn script() -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> = Vec::new();
    for line in SCRIPT.lines().filter(|line| !line.starts_with('#')) {
        if let Some(answer) = line.strip_prefix("  => ") {
            let last = lines.last_mut().unwrap();
            (last.ours, last.redis) = (answer, answer);
        } else if let Some(answer) = line.strip_prefix("  Redis: ") {
            lines.last_mut().unwrap().redis = answer;
        } else {
            lines.push(Line {
                command: line,
                ours: "",
                redis: "",
            });
        }
    }
    assert!(lines.len() > 150, "{} commands", lines.len());
    lines
}

#[test]
fn a_script_is_answered_as_written_down() {
    let (_directory, cluster) = start(3, 2);
    let port = ports(&cluster)[0];
    let mut client = Client::connect(port);
    for line in script() {
        check(&mut client, line.command, line.ours);
    }
}

/// A time to live may have gone on a little.
fn check(client: &mut Client, command: &str, expected: &str) {
    let answer = client.ask(command);
    let numbers = (answer.parse::<i64>(), expected.parse::<i64>());
    if let (true, (Ok(left), Ok(set @ 1..))) = (command.starts_with("TTL"), numbers) {
        assert!(
            (set - 30..=set).contains(&left),
            "{command}: {left} of {set}"
        );
        return;
    }
    assert_eq!(answer, expected, "{command}");
}

/// What is written down is what a real Redis says, but for what is marked.
#[test]
fn a_real_redis_answers_the_script_as_written_down() {
    let directory = tempfile::tempdir().unwrap();
    let Some(redis) = Redis::start(directory.path()) else {
        return needs("redis-server");
    };
    let mut client = Client::connect(redis.port);
    for line in script() {
        check(&mut client, line.command, line.redis);
    }
}

#[test]
fn a_table_that_is_not_there_is_named_with_what_makes_it() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("cluster"), 1, 1).unwrap();
    let mut client = Client::connect(ports(&cluster)[0]);
    let answer = client.ask("GET a");
    assert!(
        answer.starts_with(
            "(error) ERR no table \"redis\": create it with pegasus table create redis"
        ),
        "{answer}"
    );
    cluster.create_table("redis", 8, 1).unwrap();
    assert_eq!(client.ask("GET a"), "(nil)");
    cluster.create_table("other", 2, 1).unwrap();
    assert_eq!(client.ask("SET a 1"), "OK");
    assert_eq!(client.ask("SELECT other"), "OK");
    assert_eq!(client.ask("GET a"), "(nil)");
    assert_eq!(client.ask("SELECT 0"), "OK");
    assert_eq!(client.ask("GET a"), "\"1\"");
}

#[test]
fn every_port_has_all_keys() {
    let (_directory, cluster) = start(3, 2);
    let ports = ports(&cluster);
    assert_eq!(ports.len(), 6);
    let mut clients: Vec<Client> = ports.iter().map(|port| Client::connect(*port)).collect();
    let count = clients.len();
    for key in 0..200 {
        let answer = clients[key % count].ask(&format!("SET key-{key} {key}"));
        assert_eq!(answer, "OK");
    }
    let keys: Vec<String> = (0..200).map(|key| format!("key-{key}")).collect();
    let values: Vec<String> = (0..200).map(|key| format!("\"{key}\"")).collect();
    for client in &mut clients {
        let answer = client.ask(&format!("MGET {}", keys.join(" ")));
        assert_eq!(answer, format!("[{}]", values.join(", ")));
        assert_eq!(client.ask(&format!("EXISTS {}", keys.join(" "))), "200");
    }
    // One step of a scan from each port in turn: cursors are good everywhere.
    let mut found = BTreeSet::new();
    let mut cursor = "0".to_owned();
    for step in 0.. {
        assert!(step < 10_000, "a scan ends");
        clients[step % count].send(&format!("SCAN {cursor} COUNT 7"));
        let Value::Array(page) = clients[step % count].receive() else {
            panic!("no page");
        };
        let [Value::Bulk(next), Value::Array(names)] = &page[..] else {
            panic!("{page:?}");
        };
        found.extend(names.iter().map(text));
        cursor = String::from_utf8(next.to_vec()).unwrap();
        if cursor == "0" {
            break;
        }
    }
    let expected: BTreeSet<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    assert_eq!(found, expected);
    assert_eq!(clients[0].ask(&format!("DEL {}", keys.join(" "))), "200");
}

#[test]
fn a_counter_that_all_ports_increment_loses_nothing() {
    let (_directory, cluster) = start(3, 1);
    let ports = ports(&cluster);
    let threads: Vec<_> = ports
        .iter()
        .cycle()
        .take(9)
        .map(|port| {
            let port = *port;
            std::thread::spawn(move || {
                let mut client = Client::connect(port);
                // Pipelined, so that many are in flight at a time.
                (0..100).for_each(|_| client.send("INCR hits"));
                let answers: Vec<String> = (0..100).map(|_| text(&client.receive())).collect();
                let numbers: Vec<i64> = answers
                    .iter()
                    .map(|answer| answer.parse().unwrap_or_else(|_| panic!("{answer}")))
                    .collect();
                assert!(numbers.is_sorted(), "answers are in order: {numbers:?}");
                numbers
            })
        })
        .collect();
    let mut all: Vec<i64> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    all.sort_unstable();
    assert_eq!(all, (1..=900).collect::<Vec<_>>());
}

/// A partition has 256 writes in flight at a time: the others wait at their primary, in order, whoever has asked.
#[test]
fn more_pipelined_writes_than_a_partition_takes_wait_for_their_turn() {
    let (_directory, cluster) = start(3, 2);
    let threads: Vec<_> = ports(&cluster)
        .into_iter()
        .cycle()
        .take(18)
        .enumerate()
        .map(|(number, port)| {
            std::thread::spawn(move || {
                let mut client = Client::connect(port);
                let own = format!("own-{number}");
                for turn in 0..120 {
                    client.send("INCR all");
                    client.send(&format!("APPEND {own} {turn},"));
                    client.send(&format!("MSET a {turn} b {turn} c {turn} d {turn}"));
                }
                for turn in 0..120 {
                    let answer = text(&client.receive());
                    assert!(answer.parse::<u64>().is_ok(), "INCR {turn}: {answer}");
                    let answer = text(&client.receive());
                    assert!(answer.parse::<u64>().is_ok(), "APPEND {turn}: {answer}");
                    assert_eq!(text(&client.receive()), "OK", "MSET {turn}");
                }
                let all: String = (0..120).map(|turn| format!("{turn},")).collect();
                assert_eq!(client.ask(&format!("GET {own}")), format!("\"{all}\""));
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    let mut client = Client::connect(ports(&cluster)[0]);
    assert_eq!(client.ask("GET all"), format!("\"{}\"", 18 * 120));
}

/// A string takes the place of all fields, also where a core has to remember that there are some: in one pipeline, after all
/// of the cluster was killed, and on the next primary.
#[test]
fn a_string_replaces_a_hash_whenever_that_was_made() {
    let (_directory, cluster) = start(3, 1);
    let names: Vec<String> = (0..40).map(|number| format!("thing-{number}")).collect();
    let mut client = Client::connect(ports(&cluster)[0]);
    let is_replaced = |client: &mut Client, name: &str| {
        let set = client.ask(&format!("SET {name} v"));
        assert_eq!(set, "OK", "{name}");
        // Of the string alone: fields that were left behind would make it a hash again.
        assert_eq!(client.ask(&format!("GETDEL {name}")), "\"v\"");
        assert_eq!(client.ask(&format!("TYPE {name}")), "none", "{name}");
    };
    for name in &names {
        client.send(&format!("SET {name} 1"));
        client.send(&format!("DEL {name}"));
        client.send(&format!("HSET {name} f 1 g 2"));
        client.send(&format!("SET {name} 2"));
        client.send(&format!("GETDEL {name}"));
        client.send(&format!("TYPE {name}"));
        let answers: Vec<String> = (0..6).map(|_| text(&client.receive())).collect();
        assert_eq!(answers, ["OK", "1", "2", "OK", "\"2\"", "none"], "{name}");
        assert_eq!(client.ask(&format!("HSET {name} f 1 g 2")), "2");
    }
    let (restarted, moved) = names.split_at(20);
    cluster.kill_all().unwrap();
    cluster.start_again().unwrap();
    let mut client = Client::connect(ports(&cluster)[0]);
    wait_until("the cluster to write", || {
        client.ask("SET probe 1") == "OK" && client.ask(&format!("HLEN {}", names[0])) == "2"
    })
    .unwrap();
    restarted
        .iter()
        .for_each(|name| is_replaced(&mut client, name));
    cluster.kill("node-2").unwrap();
    for name in moved {
        wait_until("the key to have a primary", || {
            client
                .ask(&format!("HSET {name} h 3"))
                .parse::<u64>()
                .is_ok()
        })
        .unwrap();
        is_replaced(&mut client, name);
    }
}

/// From the first command on, when no core knows where the table is.
#[test]
fn pipelined_commands_on_one_key_are_executed_in_order() {
    let (_directory, cluster) = start(3, 2);
    let keys: Vec<String> = (0..100).map(|key| format!("many-{key}")).collect();
    for (index, port) in ports(&cluster).into_iter().enumerate() {
        let mut client = Client::connect(port);
        let key = format!("key-{index}");
        let mut expected = Vec::new();
        let mut say = |command: String, answer: String| {
            client.send(&command);
            expected.push((command, answer));
        };
        for turn in 1..=40 {
            say(format!("INCR n-{key}"), turn.to_string());
            say(format!("SET {key} {turn}"), "OK".to_owned());
            say(format!("SET {key} {}", turn + 1), "OK".to_owned());
            say(format!("GET {key}"), format!("\"{}\"", turn + 1));
            say(format!("SET {key} last"), "OK".to_owned());
            say(
                format!("APPEND {key} {turn}"),
                format!("{}", 4 + turn.to_string().len()),
            );
            say(format!("GETDEL {key}"), format!("\"last{turn}\""));
            say(format!("GET {key}"), "(nil)".to_owned());
        }
        // More keys than are asked for at a time, and one of them twice.
        let pairs: Vec<String> = keys.iter().map(|key| format!("{key} before")).collect();
        say(
            format!("MSET {} many-0 again", pairs.join(" ")),
            "OK".to_owned(),
        );
        say("APPEND many-99 -after".to_owned(), "12".to_owned());
        say(
            "MGET many-99 many-0".to_owned(),
            "[\"before-after\", \"again\"]".to_owned(),
        );
        say(format!("DEL {} many-0", keys.join(" ")), "100".to_owned());
        say("SETNX many-99 new".to_owned(), "1".to_owned());
        for (command, answer) in expected {
            assert_eq!(text(&client.receive()), answer, "{command}");
        }
    }
}

#[test]
fn pipelined_writes_of_one_key_stay_in_order_when_its_primary_is_killed() {
    let (_directory, cluster) = start(3, 1);
    let ports = ports(&cluster);
    let keys: Vec<String> = (0..8).map(|key| format!("log-{key}")).collect();
    let mut client = Client::connect(ports[0]);
    let mut executed = BTreeSet::new();
    let mut refused = BTreeSet::new();
    for batch in 0..12 {
        if batch == 3 {
            cluster.kill("node-2").unwrap();
        }
        let numbers = batch * 25..(batch + 1) * 25;
        let all: Vec<(i32, &String)> = numbers
            .flat_map(|number| keys.iter().map(move |key| (number, key)))
            .collect();
        for (number, key) in &all {
            client.send(&format!("APPEND {key} {number},"));
        }
        for (number, key) in all {
            let answer = text(&client.receive());
            if answer.parse::<u64>().is_ok() {
                executed.insert((key, number));
            } else if answer.contains("TRYAGAIN") {
                refused.insert((key, number));
            } else {
                assert!(answer.contains("unknown outcome"), "{answer}");
            }
        }
    }
    for key in &keys {
        let mut value = String::new();
        wait_until("the key to be read", || {
            value = client.ask(&format!("GET {key}"));
            value.starts_with('"')
        })
        .unwrap();
        let numbers: Vec<i32> = value
            .trim_matches('"')
            .split_terminator(',')
            .map(|number| number.parse().unwrap())
            .collect();
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
        for number in 0..300 {
            let count = numbers.iter().filter(|it| **it == number).count();
            assert!(count <= 1, "{key}: {number} is there {count} times");
            assert!(
                count == 1 || !executed.contains(&(key, number)),
                "{key}: {number} is lost"
            );
            assert!(
                count == 0 || !refused.contains(&(key, number)),
                "{key}: {number} was refused"
            );
        }
    }
    assert!(
        executed.len() > 1200,
        "{} of 2400 were executed",
        executed.len()
    );
}

#[test]
fn commands_outlive_a_node_that_is_killed() {
    let (_directory, cluster) = start(3, 1);
    let ports = ports(&cluster);
    let mut client = Client::connect(ports[0]);
    for key in 0..64 {
        assert_eq!(client.ask(&format!("SET key-{key} before")), "OK");
    }
    cluster.kill("node-2").unwrap();
    // Reads and writes that were not executed are tried again by the server: the client sees that they take longer.
    for key in 0..64 {
        assert_eq!(client.ask(&format!("GET key-{key}")), "\"before\"");
    }
    let mut unknown = 0;
    for key in 0..64 {
        let answer = client.ask(&format!("SET key-{key} after"));
        assert!(
            answer == "OK" || answer.contains("unknown outcome"),
            "{answer}"
        );
        unknown += usize::from(answer != "OK");
    }
    assert!(
        unknown < 8,
        "{unknown} of 64 writes have an unknown outcome"
    );
    wait_until("all keys to be written", || {
        (0..64).all(|key| client.ask(&format!("SET key-{key} last")) == "OK")
    })
    .unwrap();
    assert_eq!(client.ask("GET key-7"), "\"last\"");
}

#[test]
fn redis_benchmark_sees_no_error() {
    let (_directory, cluster) = start(1, 1);
    let port = ports(&cluster)[0].to_string();
    let all = [
        "PING_INLINE",
        "PING_MBULK",
        "SET",
        "GET",
        "INCR",
        "HSET",
        "MSET (10 keys)",
    ];
    for depth in ["1", "16"] {
        let options = ["-c", "20", "-n", "4000", "-P", depth];
        if !benchmark(&port, "ping,set,get,incr,hset,mset", &options, &all) {
            return;
        }
    }
    // Far more than partitions have room for at a time: 12,800 writes, also of one key.
    let options = ["-c", "200", "-n", "25600", "-P", "64"];
    benchmark(&port, "set,get,incr", &options, &["SET", "GET", "INCR"]);
}

/// True if all these were measured without an error; false if there is no such program.
fn benchmark(port: &str, tests: &str, options: &[&str], measured: &[&str]) -> bool {
    let output = Command::new("redis-benchmark")
        .args(["-p", port, "-t", tests, "-r", "1000", "--csv"])
        .args(options)
        .output();
    let Ok(output) = output else {
        needs("redis-benchmark");
        return false;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    for test in measured {
        assert!(
            said.contains(&format!("\"{test}\"")),
            "{test}: {said}{complained}"
        );
    }
    assert!(
        !said.contains("rror") && !complained.contains("rror"),
        "{said}{complained}"
    );
    true
}

/// Debian's Redis on a free port, killed when dropped.
struct Redis {
    process: Child,
    port: u16,
}

impl Redis {
    /// `None`: it is not installed.
    fn start(directory: &Path) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .arg("--dir")
            .arg(directory)
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let redis = Self { process, port };
        wait_until("redis-server to listen", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .unwrap();
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Says what is missing where `cargo test` does not swallow it: `.ci/run` takes such a line for a failure.
fn needs(program: &str) {
    let _ = writeln!(
        std::io::stderr(),
        "skipped: needs {program} (apt-get install redis-tools redis-server)"
    );
}
