//! Every command against a table of cases: what Redis 7.0 answers, and where this differs, which the docs say.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use support::{NOW_S, Store};

/// Lines of a script: a command, then `=>` and the answer.
fn run(script: &str) {
    let mut store = Store::default();
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (command, expected) = line.split_once(" => ").unwrap_or_else(|| panic!("{line}"));
        assert_eq!(
            store.text(command.trim()),
            expected.trim(),
            "{command}\nin\n{script}"
        );
    }
}

#[test]
fn strings() {
    run("
        GET k => nil
        SET k v => OK
        GET k => v
        SET k w NX => nil
        SET k w XX => OK
        SET k x GET => w
        SET new x XX => nil
        SET new x XX GET => nil
        EXISTS new => 0
        SET new x NX GET => nil
        SET new y NX GET => x
        SETNX k y => 0
        SETNX other y => 1
        GETSET k z => x
        GETSET fresh z => nil
        GETDEL k => z
        GETDEL k => nil
        MSET k 1 => OK
        MGET k => 1
        MSETNX k 2 => 0
        SET k v NX XX => ERR syntax error
        SET k v EX => ERR syntax error
        SET k v EX 0 => ERR invalid expire time in 'set' command
        SET k v EX -1 => ERR invalid expire time in 'set' command
        SET k v EX abc => ERR value is not an integer or out of range
        SET k v EX 10 PX 10 => ERR syntax error
        SET k v EX 10 KEEPTTL => ERR syntax error
        SET k v NOSUCH => ERR syntax error
        SETEX k 0 v => ERR invalid expire time in 'setex' command
        PSETEX k 0 v => ERR invalid expire time in 'psetex' command
        GET k => 1
    ");
}

#[test]
fn parts_of_strings() {
    run("
        APPEND k Hello => 5
        APPEND k World => 10
        STRLEN k => 10
        STRLEN none => 0
        GETRANGE k 0 4 => Hello
        GETRANGE k -5 -1 => World
        GETRANGE k 5 100 => World
        GETRANGE k 100 200 => \"\"
        GETRANGE k 5 3 => \"\"
        GETRANGE k -1 -5 => \"\"
        GETRANGE k -100 1 => He
        GETRANGE none 0 1 => \"\"
        GETRANGE k a 1 => ERR value is not an integer or out of range
        SUBSTR k 0 0 => H
        SETRANGE k 5 _____! => 11
        GET k => Hello_____!
        SETRANGE k -1 x => ERR offset is out of range
        SETRANGE k 1000000 x => ERR string exceeds maximum allowed size (1000000 bytes)
        SETRANGE none 3 \"\" => 0
        EXISTS none => 0
        SETRANGE none 3 x => 4
    ");
}

#[test]
fn counters() {
    run("
        INCR n => 1
        INCRBY n 41 => 42
        DECR n => 41
        DECRBY n 50 => -9
        GET n => -9
        INCRBY n abc => ERR value is not an integer or out of range
        DECRBY n -9223372036854775808 => ERR decrement would overflow
        SET n 9223372036854775807 => OK
        INCR n => ERR increment or decrement would overflow
        GET n => 9223372036854775807
        SET s text => OK
        INCR s => ERR value is not an integer or out of range
        SET s 01 => OK
        INCR s => ERR value is not an integer or out of range
        INCRBYFLOAT f 10.5 => 10.5
        INCRBYFLOAT f 0.1 => 10.6
        INCRBYFLOAT f -5 => 5.6
        INCRBYFLOAT f 5.0e3 => 5005.6
        INCRBYFLOAT f x => ERR value is not a valid float
        INCRBYFLOAT s x => ERR value is not a valid float
    ");
}

#[test]
fn hashes() {
    run("
        HSET h a 1 b 2 => 2
        HSET h a 3 c 4 => 1
        HSET h d 1 d 2 => 1
        HGET h d => 2
        HGET h a => 3
        HGET h none => nil
        HGET none a => nil
        HGET h \"\" => nil
        HMGET h a none c => [3 nil 4]
        HMGET none a b => [nil nil]
        HGETALL h => {a:3 b:2 c:4 d:2}
        HGETALL none => {}
        HKEYS h => [a b c d]
        HVALS h => [3 2 4 2]
        HLEN h => 4
        HLEN none => 0
        HEXISTS h a => 1
        HEXISTS h none => 0
        HEXISTS none a => 0
        HSTRLEN h a => 1
        HSTRLEN h none => 0
        HDEL h a none a => 1
        HDEL none a => 0
        HSETNX h a 9 => 1
        HSETNX h a 10 => 0
        HMSET h x y => OK
        HINCRBY h a 5 => 14
        HINCRBY h n -3 => -3
        HINCRBY h x 1 => ERR hash value is not an integer
        HINCRBY h a y => ERR value is not an integer or out of range
        HINCRBYFLOAT h a 0.5 => 14.5
        HINCRBYFLOAT h x 1 => ERR hash value is not a float
        HINCRBYFLOAT h a y => ERR value is not a valid float
        HSET h \"\" v => ERR the empty field is not supported: a field has at least one byte
        HDEL h a b c d n x => 6
        EXISTS h => 0
        TYPE h => none
    ");
}

#[test]
fn types_are_kept_apart() {
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    run(&format!(
        "
        HSET h f v => 1
        SET s v => OK
        TYPE h => hash
        TYPE s => string
        TYPE none => none
        GET h => {wrong}
        MGET h => nil
        APPEND h x => {wrong}
        INCR h => {wrong}
        INCRBYFLOAT h 1 => {wrong}
        STRLEN h => {wrong}
        GETRANGE h 0 1 => {wrong}
        SETRANGE h 0 x => {wrong}
        GETSET h x => {wrong}
        GETDEL h => {wrong}
        GETEX h => {wrong}
        SET h x GET => {wrong}
        SETNX h x => 0
        SET h x NX => nil
        HGET s f => {wrong}
        HMGET s f => {wrong}
        HGETALL s => {wrong}
        HKEYS s => {wrong}
        HLEN s => {wrong}
        HEXISTS s f => {wrong}
        HSTRLEN s f => {wrong}
        HSET s f v => {wrong}
        HSETNX s f v => {wrong}
        HDEL s f => {wrong}
        HINCRBY s f 1 => {wrong}
        HINCRBYFLOAT s f 1 => {wrong}
        GET s => v
        HGET h f => v
        SET h v => OK
        TYPE h => string
        HGET h f => {wrong}
        DEL h => 1
        HSET h f v => 1
        MSET h v => OK
        GET h => v
    "
    ));
}

#[test]
fn times_to_live() {
    let in_100 = NOW_S + 100;
    run(&format!(
        "
        SET k v => OK
        TTL k => -1
        PTTL k => -1
        EXPIRETIME k => -1
        TTL none => -2
        PTTL none => -2
        EXPIRETIME none => -2
        PEXPIRETIME none => -2
        EXPIRE k 100 => 1
        TTL k => 100
        PTTL k => 100000
        EXPIRETIME k => {in_100}
        PEXPIRETIME k => {in_100}000
        EXPIRE k 200 NX => 0
        EXPIRE k 200 XX => 1
        EXPIRE k 100 GT => 0
        EXPIRE k 300 GT => 1
        EXPIRE k 400 LT => 0
        EXPIRE k 100 LT => 1
        PERSIST k => 1
        PERSIST k => 0
        PERSIST none => 0
        EXPIRE k 100 XX => 0
        EXPIRE k 100 GT => 0
        EXPIRE k 100 LT => 1
        EXPIRE none 100 => 0
        EXPIRE k 1 NX XX => ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 1 GT LT => ERR GT and LT options at the same time are not compatible
        EXPIRE k 1 NOSUCH => ERR Unsupported option NOSUCH
        EXPIRE k abc => ERR value is not an integer or out of range
        EXPIRE k 9223372036854775807 => ERR invalid expire time in 'expire' command
        PEXPIRE k 1500 => 1
        TTL k => 2
        EXPIREAT k {in_100} => 1
        TTL k => 100
        PEXPIREAT k {in_100}500 => 1
        EXPIRETIME k => {}
        EXPIRE k -1 => 1
        EXISTS k => 0
        SET k v EX 10 => OK
        TTL k => 10
        SET k w KEEPTTL => OK
        TTL k => 10
        SET k x => OK
        TTL k => -1
        SETEX k 20 v => OK
        TTL k => 20
        PSETEX k 20500 v => OK
        TTL k => 21
        SET k v EXAT {in_100} => OK
        TTL k => 100
        SET k v PXAT 1 => OK
        EXISTS k => 0
        SET k v => OK
        GETEX k EX 30 => v
        TTL k => 30
        GETEX k => v
        TTL k => 30
        GETEX k PERSIST => v
        TTL k => -1
        GETEX k EX 0 => ERR invalid expire time in 'getex' command
        GETEX k EX => ERR syntax error
        GETEX none EX 10 => nil
        EXPIRE k 50 => 1
        APPEND k x => 2
        TTL k => 50
        SET n 1 EX 60 => OK
        INCR n => 2
        TTL n => 60
        SETRANGE k 0 y => 2
        TTL k => 50
        GETSET k z => yx
        TTL k => -1
    ",
        in_100 + 1
    ));
}

#[test]
fn a_hash_expires_as_one() {
    run("
        HSET h a 1 b 2 => 2
        EXPIRE h 100 => 1
        TTL h => 100
        HSET h c 3 => 1
        HSET h a 4 d 5 => 1
        HINCRBY h n 1 => 1
        TTL h => 100
        PERSIST h => 1
        TTL h => -1
        HGETALL h => {a:4 b:2 c:3 d:5 n:1}
        EXPIRE h 0 => 1
        EXISTS h => 0
    ");
    let mut store = Store::default();
    store.text("HSET h a 1 b 2");
    store.text("EXPIRE h 100");
    store.text("HSET h c 3");
    assert!(
        store
            .expiries("h")
            .windows(2)
            .all(|pair| pair[0] == pair[1])
    );
    store.now_ms += 100_000;
    assert_eq!(store.text("HGETALL h"), "{}");
    assert_eq!(store.text("HSET h a 1"), "1");
    assert_eq!(store.text("TTL h"), "-1");
}

#[test]
fn new_keys_take_the_expiry_of_their_table() {
    let mut store = Store {
        default_ttl_s: 500,
        ..Store::default()
    };
    for (command, key) in [
        ("SET s v", "s"),
        ("INCR n", "n"),
        ("HSET h f v", "h"),
        ("APPEND a x", "a"),
    ] {
        store.text(command);
        assert_eq!(store.text(&format!("TTL {key}")), "500", "{command}");
    }
    assert_eq!(store.text("SET s v EX 10"), "OK");
    assert_eq!(store.text("TTL s"), "10");
    assert_eq!(store.text("PERSIST s"), "1");
    assert_eq!(store.text("TTL s"), "-1");
}

#[test]
fn keys() {
    run("
        SET a 1 => OK
        HSET h f 1 g 2 => 2
        DEL a => 1
        DEL a => 0
        UNLINK h => 1
        EXISTS h => 0
        SET a 1 => OK
        EXISTS a => 1
        TOUCH a => 1
    ");
}

#[test]
fn transactions_see_what_they_have_done() {
    let mut store = Store::default();
    let script = [
        "SET k 1",
        "INCR k",
        "APPEND k 0",
        "GET k",
        "DEL k",
        "HSET k f v",
        "HLEN k",
        "GET k",
        "EXPIRE k 10",
        "TTL k",
    ];
    let answers = store.transaction(&script);
    assert_eq!(
        answers,
        "[OK 2 2 20 1 1 1 WRONGTYPE Operation against a key holding the wrong kind of value 1 10]"
    );
    assert_eq!(store.text("HGETALL k"), "{f:v}");
    assert_eq!(
        store.transaction(&["HDEL k f", "EXISTS k", "SET k x", "HSET k f v", "TYPE k"]),
        "[1 0 OK WRONGTYPE Operation against a key holding the wrong kind of value string]"
    );
    assert_eq!(
        store.transaction(&["PING", "ECHO hi", "EXISTS k k", "MGET k k", "DEL k k"]),
        "[PONG hi 2 [x x] 1]"
    );
}

#[test]
fn what_one_mutation_cannot_hold_is_refused_whole() {
    let mut store = Store::default();
    for part in 0..4 {
        let fields: Vec<String> = (0..1000)
            .map(|field| format!("f{part}-{field} v"))
            .collect();
        store.text(&format!("HSET h {}", fields.join(" ")));
    }
    for command in ["DEL h", "SET h v", "EXPIRE h 10"] {
        assert!(store.text(command).contains("too many fields"), "{command}");
    }
    assert_eq!(store.text("HLEN h"), "4000");
    assert_eq!(store.text("HGET h f1-1"), "v");
    assert_eq!(store.text("TTL h"), "-1");
    let long = "v".repeat(1_000_001);
    assert!(
        store
            .text(&format!("SET k {long}"))
            .contains("maximum allowed size")
    );
}

#[test]
fn mget_in_a_transaction_answers_an_array() {
    let mut store = Store::default();
    store.text("SET k v");
    assert_eq!(store.transaction(&["MGET k", "MGET k k"]), "[[v] [v v]]");
}

#[test]
fn an_answer_that_is_too_large_is_refused_and_nothing_is_done() {
    let mut store = Store::default();
    let value = "v".repeat(900_000);
    store.text(&format!("HSET h f {value}"));
    assert_eq!(store.text("HSTRLEN h f"), "900000");
    let command = format!("HMGET h{}", " f".repeat(100));
    assert!(
        store
            .text(&command)
            .starts_with("ERR the answer is too large")
    );
    let mut commands = vec!["HSET h g 1"];
    commands.extend(["HGET h f"; 30]);
    let answer = store.transaction(&commands);
    assert!(
        answer.starts_with("ERR the answer is too large"),
        "{answer}"
    );
    assert_eq!(store.text("HEXISTS h g"), "0");
    assert_eq!(store.text("HGET h f"), value);
}
