#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use super::*;
use crate::request::Failure;
use bytes::Bytes;
use pegasus_fbs::code::Code;

struct Client {
    resp: Resp,
    input: BytesMut,
    output: Vec<u8>,
    asked: Vec<(Tag, Redis)>,
}

impl Client {
    fn new() -> Self {
        Self {
            resp: Resp::new(None),
            input: BytesMut::new(),
            output: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// Sends bytes; returns what was answered at once.
    fn send(&mut self, bytes: &str) -> String {
        self.input.extend_from_slice(bytes.as_bytes());
        while let Some(decoded) = self.resp.decode(&mut self.input, &mut self.output).unwrap() {
            match decoded {
                Decoded::Request { tag, request, .. } => {
                    let Operation::Redis(redis) = request.operation else {
                        panic!("{request:?}");
                    };
                    self.asked.push((tag, redis));
                }
                // Whoever has the connection asks again after the next answer.
                Decoded::Held => break,
                Decoded::Answered => {}
                other @ Decoded::Refused { .. } => panic!("{other:?}"),
            }
        }
        self.take()
    }

    fn answer(&mut self, index: usize, reply: Reply) -> String {
        let tag = self.asked[index].0;
        self.resp
            .encode(&tag, &reply, &mut Scratch::default(), &mut self.output);
        self.take()
    }

    /// The commands that have left.
    fn asked(&self) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let line = |redis: &Redis| {
            let calls = redis.calls.as_slice().iter();
            let words = calls.flat_map(|call| call.command.arguments().map(text));
            words.collect::<Vec<_>>().join(" ")
        };
        self.asked.iter().map(|(_, redis)| line(redis)).collect()
    }

    fn take(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.output)).unwrap()
    }
}

fn bulk(text: &'static str) -> Reply {
    Ok(Response::Redis(Value::Bulk(Bytes::from_static(
        text.as_bytes(),
    ))))
}

#[test]
fn answers_leave_in_the_order_of_their_commands() {
    let mut client = Client::new();
    assert_eq!(client.send("GET a\r\nPING\r\nGET b\r\n"), "");
    assert!(client.resp.held_bytes() > 0, "PONG waits for a");
    assert_eq!(client.answer(1, bulk("2")), "");
    assert_eq!(
        client.answer(0, bulk("1")),
        "$1\r\n1\r\n+PONG\r\n$1\r\n2\r\n"
    );
    assert_eq!(client.resp.held_bytes(), 0);
    assert_eq!(client.send("PING\r\n"), "+PONG\r\n");
}

#[test]
fn reads_and_writes_of_one_key_wait_for_each_other() {
    let mut client = Client::new();
    client.send("SET a 1\r\nSET a 2\r\nGET b\r\nGET a\r\nSET c 1\r\nPING\r\n");
    assert_eq!(client.asked(), ["SET a 1", "SET a 2", "GET b"]);
    client.answer(1, bulk("2"));
    client.send("");
    assert_eq!(client.asked().len(), 3, "one of the writes is not answered");
    client.answer(0, bulk("1"));
    assert_eq!(client.send(""), "");
    assert_eq!(client.asked()[3..], ["GET a", "SET c 1"]);
    client.send("GET a\r\nGET b\r\nAPPEND a 3\r\n");
    assert_eq!(client.asked()[5..], ["GET a", "GET b"]);
    for index in [3, 5] {
        client.answer(index, bulk("2"));
        client.send("");
    }
    assert_eq!(client.asked()[7..], ["APPEND a 3"]);
    assert_eq!(client.answer(2, bulk("b")), "$1\r\nb\r\n$1\r\n2\r\n");
}

#[test]
fn commands_of_several_keys_wait_for_each_of_them() {
    let mut client = Client::new();
    client.send("MSET a 1 b 2\r\nMSET b 3 c 4 b 5\r\nMGET c d\r\n");
    assert_eq!(client.asked().len(), 2);
    client.answer(0, bulk("OK"));
    client.send("");
    assert_eq!(client.asked().len(), 2, "c is still written");
    client.answer(1, bulk("OK"));
    client.send("DEL x d\r\n");
    assert_eq!(client.asked()[2..], ["MGET c d"], "d is still read");
    client.answer(2, bulk("1"));
    client.send("");
    assert_eq!(client.asked()[3..], ["DEL x d"]);
}

#[test]
fn a_transaction_is_a_write_of_its_key() {
    let mut client = Client::new();
    client.send("GET a\r\nMULTI\r\nGET a\r\nGET a\r\nEXEC\r\nSET a 1\r\nGET a\r\n");
    assert_eq!(client.asked(), ["GET a"]);
    client.answer(0, bulk("1"));
    client.send("");
    assert_eq!(client.asked()[1..], ["GET a GET a", "SET a 1"]);
    client.answer(1, bulk("1"));
    client.answer(2, bulk("1"));
    client.send("");
    assert_eq!(client.asked()[3..], ["GET a"]);
}

#[test]
fn commands_without_keys_wait_for_nobody_and_failures_let_go_on() {
    let mut client = Client::new();
    client.send("SET a 1\r\nDBSIZE\r\nSCAN 0\r\nTIME\r\nGET a\r\n");
    assert_eq!(client.asked(), ["SET a 1", "DBSIZE", "SCAN 0", "TIME"]);
    client.answer(0, Err(Failure::new(Code::Unknown, "p")));
    client.send("");
    assert_eq!(client.asked()[4..], ["GET a"]);
    assert!(client.resp.keys.is_behind(&Touched::of(&Calls::One(
        client.asked[0].1.calls.as_slice()[0].clone()
    ))));
    client.answer(4, bulk("1"));
    assert!(
        format!("{:?}", client.resp.keys).contains("{}"),
        "nothing is left"
    );
}

#[test]
fn what_waits_is_in_the_version_of_its_time() {
    let mut client = Client::new();
    assert_eq!(client.send("GET a\r\nHELLO 3\r\nGET b\r\n"), "");
    let null = || Ok(Response::Redis(Value::Null));
    let answer = client.answer(0, null());
    assert!(answer.starts_with("$-1\r\n%7\r\n"), "{answer}");
    assert_eq!(client.answer(1, null()), "_\r\n");
}

#[test]
fn a_stream_that_is_no_resp_is_told_so_and_ended() {
    for (bytes, sentence) in [
        (
            "*1\r\nPING\r\n",
            "-ERR Protocol error: expected '$', got 'P'\r\n",
        ),
        (
            "*99999999\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            "*1\r\n$99999999\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            "SET a \"b\r\n",
            "-ERR Protocol error: unbalanced quotes in request\r\n",
        ),
    ] {
        let mut client = Client::new();
        assert_eq!(client.send(bytes), sentence);
        assert!(client.resp.is_over());
        assert_eq!(client.send("PING\r\n"), "", "nothing is read after it");
    }
}

#[test]
fn quit_ends_the_connection_after_its_answers() {
    let mut client = Client::new();
    assert_eq!(client.send("GET a\r\nQUIT\r\nPING\r\n"), "");
    assert!(client.resp.is_over());
    assert_eq!(client.answer(0, bulk("1")), "$1\r\n1\r\n+OK\r\n");
}

#[test]
fn transactions_are_queued_and_asked_as_one() {
    let mut client = Client::new();
    assert_eq!(
        client.send("MULTI\r\nSET a 1\r\nGET a\r\n"),
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n"
    );
    assert_eq!(client.send("EXEC\r\n"), "");
    assert!(matches!(&*client.asked[0].1.calls, Calls::Transaction(calls) if calls.len() == 2));
    assert_eq!(client.send("EXEC\r\n"), "");
    let done = Ok(Response::Redis(Value::Array(vec![
        answer::ok(),
        Value::Null,
    ])));
    assert_eq!(
        client.answer(0, done),
        "*2\r\n+OK\r\n$-1\r\n-ERR EXEC without MULTI\r\n"
    );
}

#[test]
fn transactions_that_cannot_be_atomic_or_have_errors_are_refused() {
    let mut client = Client::new();
    client.send("MULTI\r\nSET a 1\r\nSET b 1\r\n");
    assert!(client.send("EXEC\r\n").starts_with("-CROSSSLOT"));
    client.send("MULTI\r\nMSET a 1 b 2\r\n");
    assert!(client.send("EXEC\r\n").starts_with("-CROSSSLOT"));
    client.send("MULTI\r\nNOSUCH a 1\r\nSET b 1\r\n");
    assert!(client.send("EXEC\r\n").starts_with("-EXECABORT"));
    client.send("MULTI\r\n");
    assert!(
        client
            .send("SELECT 0\r\n")
            .starts_with("-ERR Command not allowed")
    );
    assert!(client.send("EXEC\r\n").starts_with("-EXECABORT"));
    client.send("MULTI\r\nSET a 1\r\n");
    assert_eq!(
        client.send("DISCARD\r\nDISCARD\r\n"),
        "+OK\r\n-ERR DISCARD without MULTI\r\n"
    );
    assert_eq!(
        client.send("MULTI\r\nPING\r\nECHO x\r\nEXEC\r\n"),
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+PONG\r\n$1\r\nx\r\n"
    );
    assert_eq!(client.send("MULTI\r\nEXEC\r\n"), "+OK\r\n*0\r\n");
    assert!(client.asked.is_empty(), "none of them has left");
}

#[test]
fn a_transaction_has_bounds() {
    let mut client = Client::new();
    client.send("MULTI\r\n");
    let value = "v".repeat(100_000);
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n{value}\r\n");
    assert_eq!(client.send(&set.repeat(2)), "+QUEUED\r\n".repeat(2));
    assert!(
        client
            .send(&set)
            .starts_with("-ERR a transaction has at most")
    );
    assert!(client.send("EXEC\r\n").starts_with("-EXECABORT"));
}

#[test]
fn tables_are_selected_by_name() {
    let mut client = Client::new();
    assert_eq!(
        client.send("GET a\r\nSELECT users\r\nGET a\r\nSELECT 0\r\nGET a\r\n"),
        ""
    );
    let tables: Vec<_> = client
        .asked
        .iter()
        .map(|(_, redis)| redis.table.as_deref())
        .collect();
    assert_eq!(tables, [None, Some("users"), Some("users"), None, None]);
    let mut client = Client::new();
    assert_eq!(
        client.send("SELECT 1\r\n"),
        "-ERR DB index is out of range\r\n"
    );
}

#[test]
fn a_connection_knows_itself() {
    let mut client = Client::new();
    let id = client.send("CLIENT ID\r\n");
    let other = Client::new().send("CLIENT ID\r\n");
    assert!(id.starts_with(':') && id != other, "{id} {other}");
    assert_eq!(client.send("CLIENT GETNAME\r\n"), "$-1\r\n");
    assert_eq!(
        client.send("CLIENT SETNAME me\r\nCLIENT GETNAME\r\n"),
        "+OK\r\n$2\r\nme\r\n"
    );
    assert!(
        client
            .send("CLIENT SETNAME \"a b\"\r\n")
            .starts_with("-ERR Client names")
    );
    assert_eq!(client.send("CLIENT SETINFO LIB-NAME x\r\n"), "+OK\r\n");
    assert!(
        client
            .send("CLIENT INFO\r\n")
            .contains("name=me db=0 table= resp=2 lib-name=x")
    );
    assert!(
        client
            .send("CLIENT NOSUCH\r\n")
            .starts_with("-ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.")
    );
    assert_eq!(
        client.send("RESET\r\nCLIENT GETNAME\r\n"),
        "+RESET\r\n$-1\r\n"
    );
    assert!(client.send("HELLO 4\r\n").starts_with("-NOPROTO"));
    assert!(
        client
            .send("HELLO 3 SETNAME you\r\n")
            .starts_with("%7\r\n$6\r\nserver\r\n")
    );
    assert_eq!(client.send("CLIENT GETNAME\r\n"), "$3\r\nyou\r\n");
    assert_eq!(
        client.send("CONFIG GET save\r\n"),
        "%1\r\n$4\r\nsave\r\n$0\r\n\r\n"
    );
    assert_eq!(client.send("CLUSTER KEYSLOT foo\r\n"), ":12182\r\n");
    assert!(
        client
            .send("CLUSTER SLOTS\r\n")
            .starts_with("-ERR This instance has cluster support disabled")
    );
    assert!(client.send("COMMAND DOCS get\r\n").contains("summary"));
    assert!(
        client
            .send("COMMAND INFO get nosuch\r\n")
            .starts_with("*2\r\n*10\r\n$3\r\nget\r\n:2\r\n")
    );
}

#[test]
fn failures_say_whether_the_command_was_executed() {
    let mut client = Client::new();
    let codes = [
        (Code::NotPrimary, "-TRYAGAIN not executed: p\r\n"),
        (
            Code::NotEnoughMembers,
            "-NOREPLICAS Not enough good replicas to write: p\r\n",
        ),
        (Code::UnknownTable, "-ERR p\r\n"),
        (
            Code::Unknown,
            "-ERR unknown outcome, the command may or may not take effect: p\r\n",
        ),
    ];
    for (index, (code, sentence)) in codes.into_iter().enumerate() {
        client.send("SET a 1\r\n");
        assert_eq!(client.answer(index, Err(Failure::new(code, "p"))), sentence);
    }
}

#[test]
fn an_idle_connection_costs_little() {
    assert!(size_of::<Resp>() < 1024, "{} bytes", size_of::<Resp>());
}
