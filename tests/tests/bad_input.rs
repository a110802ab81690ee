//! Nonsense on every port and from every hand: a sentence or a closed connection, never a dead process.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use e2e::cluster::{Cluster, wait_until};
use pegasus_fbs::frame::{BODY_BYTES_MAX, HEADER_BYTES, MAGIC, VERSION};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Resident memory of a process may grow by this much under a flood of nonsense.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

#[test]
fn garbage_on_every_port_is_closed_and_everybody_else_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("cluster"), 3, 1).unwrap();
    cluster.create_table("t", 4, 3).unwrap();
    cluster.pegasus(&["set", "t", "h", "s", "before"]).unwrap();
    let before = resident_bytes(&cluster);

    let mut random = SmallRng::seed_from_u64(1);
    for address in addresses(&cluster) {
        for round in 0..40 {
            let bytes = nonsense(round, &mut random);
            assert_closed(&address, &bytes);
        }
        // Cut off in the middle of a header, and of a body that never comes.
        TcpStream::connect(&address)
            .unwrap()
            .write_all(&MAGIC[..3])
            .unwrap();
        TcpStream::connect(&address)
            .unwrap()
            .write_all(&header(100))
            .unwrap();
    }
    for (name, now) in resident_bytes(&cluster) {
        let then = before.iter().find(|(other, _)| *other == name).unwrap().1;
        assert!(
            now < then + GROWTH_BYTES_MAX,
            "{name} grew from {then} to {now} bytes"
        );
    }
    assert_eq!(
        cluster
            .pegasus(&["get", "t", "h", "s", "--raw"])
            .unwrap()
            .trim_end(),
        "before"
    );
    cluster.pegasus(&["set", "t", "h", "s", "after"]).unwrap();
}

#[test]
fn refusals_name_the_thing_and_what_was_expected() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("cluster"), 1, 1).unwrap();
    cluster.create_table("t", 4, 1).unwrap();
    let create = |name: &str, partitions: &str, replicas: &str| {
        cluster
            .pegasus_fails(&[
                "table",
                "create",
                name,
                "--partitions",
                partitions,
                "--replicas",
                replicas,
            ])
            .unwrap()
            .1
    };
    assert!(create("t", "4", "1").contains("exists"));
    assert!(create("odd", "6", "1").contains("power of two"));
    assert!(create("no/slash", "4", "1").contains("no/slash"));
    assert!(create("wide", "4", "3").contains("--allow-degraded"));
    cluster
        .pegasus(&[
            "table",
            "create",
            "wide",
            "--partitions",
            "4",
            "--replicas",
            "3",
            "--allow-degraded",
        ])
        .unwrap();
    assert!(
        cluster
            .pegasus(&["table", "show", "wide"])
            .unwrap()
            .contains("degraded")
    );

    let (code, said) = cluster
        .pegasus_fails(&["get", "missing", "h", "s"])
        .unwrap();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("missing"), "{said}");
    let (code, said) = cluster.pegasus_fails(&["get", "t", "h", "absent"]).unwrap();
    assert_eq!(code, 3, "{said}");

    let big = directory.path().join("big.tsv");
    fs::write(&big, format!("h\ts\t{}\n", "x".repeat(2 << 20))).unwrap();
    let import = [
        "import",
        big.to_str().unwrap(),
        "--table",
        "t",
        "--format",
        "tsv",
        "--hash-key",
        "1",
        "--sort-key",
        "2",
        "--value",
        "3",
    ];
    let (_, said) = cluster.pegasus_fails(&import).unwrap();
    assert!(
        said.contains("line 1") && said.contains("1 MiB") || said.contains("1048576"),
        "{said}"
    );
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    let nodes: serde_json::Value =
        serde_json::from_str(&cluster.pegasus(&["node", "list", "--json"]).unwrap()).unwrap();
    let cores = nodes["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|node| node["cores"].as_array().unwrap());
    let ports = cores.flat_map(|core| [&core["client_address"], &core["peer_address"]]);
    let mut addresses: Vec<String> = ports
        .map(|address| address.as_str().unwrap().to_owned())
        .collect();
    addresses.push(cluster.meta().to_owned());
    assert_eq!(addresses.len(), 7);
    addresses
}

/// Bytes that no port may take for a frame it knows.
fn nonsense(round: usize, random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(HEADER_BYTES..20_000)];
    random.fill_bytes(&mut bytes);
    let body_length = u32::try_from(bytes.len() - HEADER_BYTES).unwrap();
    match round % 4 {
        // A native header with a random rest: its checksum is wrong.
        0 => bytes[..HEADER_BYTES].copy_from_slice(&header(body_length)),
        // A body longer than any.
        1 => bytes[..HEADER_BYTES]
            .copy_from_slice(&header(u32::try_from(BODY_BYTES_MAX).unwrap() + 1)),
        2 => bytes[..9].copy_from_slice(b"GARBAGE\r\n"),
        _ => {}
    }
    bytes
}

fn header(body_length: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4] = VERSION;
    header[5] = 1;
    header[8..12].copy_from_slice(&body_length.to_le_bytes());
    header
}

fn assert_closed(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // The other side may close while we write: that is what we want to see.
    let _ = stream.write_all(bytes);
    // Text may be commands of a Redis client, typed by hand: each line is answered, and the rest waited for.
    if bytes[0].is_ascii_graphic() {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    match stream.take(1 << 20).read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "{address}: {error}"
        ),
    }
}

/// Of each process, by name.
fn resident_bytes(cluster: &Cluster) -> Vec<(String, u64)> {
    let of = |name: &str| {
        let pid = cluster.pid(name).unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap()
            .to_owned();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        (name.to_owned(), kib << 10)
    };
    ["meta", "node-1", "node-2", "node-3"].map(of).into()
}

#[test]
fn with_one_member_of_three_left_writes_fail_definitely_reads_go_on_and_writes_resume_by_themselves()
 {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory.path().join("cluster"), 3, 1).unwrap();
    cluster.create_table("t", 4, 3).unwrap();
    let rows: Vec<String> = (0..16).map(|row| format!("h{row}")).collect();
    for key in &rows {
        cluster.pegasus(&["set", "t", key, "s", "v"]).unwrap();
    }
    // One is not missed.
    cluster.kill("node-2").unwrap();
    for key in &rows {
        let write = || cluster.pegasus(&["set", "t", key, "s", "w"]).is_ok();
        wait_until("a write with two members", write).unwrap();
    }
    cluster.kill("node-3").unwrap();
    let alone = || cluster.led("t").is_ok_and(|led| led.keys().eq([&1]));
    wait_until("node 1 to lead every partition", alone).unwrap();
    for key in &rows {
        let output = cluster
            .command(["--timeout", "3", "set", "t", key, "s", "x"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success(),
            "a write was acknowledged by one member of three"
        );
        assert!(said.contains("too few replicas"), "{said}");
        let read = || cluster.pegasus(&["get", "t", key, "s", "--raw"]);
        wait_until("reads from one member", || read().is_ok()).unwrap();
        assert_eq!(read().unwrap().trim_end(), "w");
    }
    cluster.start_again().unwrap();
    cluster.wait_healthy("t").unwrap();
    let write = || cluster.pegasus(&["set", "t", "h1", "s", "x"]).is_ok();
    wait_until("writes to resume", write).unwrap();
}
