//! What a connection has agreed on, and the commands it answers alone.

use super::about;
use bytes::Bytes;
use pegasus_redis::{Call, Calls, Context, Kind, Place, State, answer, evaluate, number, slot};
use pegasus_resp::{Command, Value, Version};
use std::net::SocketAddr;
use std::sync::Arc;

/// Commands, and bytes of them, between MULTI and EXEC.
const QUEUE_MAX: usize = 1024;
const QUEUE_BYTES_MAX: usize = 256 << 10;
/// Bytes of a name or library version that a client gives itself.
const NAME_BYTES_MAX: usize = 256;
/// Bytes of a table's name.
const TABLE_NAME_BYTES_MAX: usize = crate::request::TABLE_NAME_BYTES_MAX;

/// What becomes of a command.
pub(super) enum Verdict {
    Answer(Value),
    /// The node has to answer.
    Ask(Calls),
}

#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    local: Option<SocketAddr>,
    version: Version,
    /// `None` = the node's default.
    table: Option<Arc<str>>,
    name: Bytes,
    /// What the client calls its own library (CLIENT SETINFO).
    lib_name: Bytes,
    lib_ver: Bytes,
    transaction: Option<Transaction>,
    is_over: bool,
}

/// Commands since MULTI.
#[derive(Debug, Default)]
struct Transaction {
    calls: Vec<Call>,
    bytes: usize,
    /// One of them was refused: EXEC refuses all.
    is_bad: bool,
}

impl Session {
    pub(super) fn new(id: u64, local: Option<SocketAddr>) -> Self {
        Self {
            id,
            local,
            version: Version::Resp2,
            table: None,
            name: Bytes::new(),
            lib_name: Bytes::new(),
            lib_ver: Bytes::new(),
            transaction: None,
            is_over: false,
        }
    }

    pub(super) const fn version(&self) -> Version {
        self.version
    }

    pub(super) fn table(&self) -> Option<Arc<str>> {
        self.table.clone()
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Nothing more is taken from this connection.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.transaction = None;
    }

    pub(super) fn take(&mut self, command: Command) -> Verdict {
        let call = match Call::new(command) {
            Ok(call) => call,
            Err(refusal) => return self.refuse(refusal.0),
        };
        if let Err(refusal) = call.check_keys() {
            return self.refuse(refusal.0);
        }
        if self.transaction.is_some() && !ends_transactions(call.spec.kind) {
            return Verdict::Answer(self.queue(call));
        }
        match (call.spec.place, call.spec.kind) {
            (Place::Connection, Kind::Exec) => self.execute(),
            (Place::Connection, _) => Verdict::Answer(self.answer(&call)),
            (_, Kind::Select) => self.select(call),
            _ => Verdict::Ask(Calls::One(call)),
        }
    }

    /// A refused command spoils the transaction it is part of.
    fn refuse(&mut self, error: Value) -> Verdict {
        if let Some(transaction) = &mut self.transaction {
            transaction.is_bad = true;
        }
        Verdict::Answer(error)
    }

    fn queue(&mut self, call: Call) -> Value {
        let Some(transaction) = &mut self.transaction else {
            return answer::error(NO_EXEC);
        };
        if call.spec.kind == Kind::Multi {
            return answer::error(NESTED);
        }
        let bytes = transaction.bytes + call.command.bytes();
        let problem = if !call.spec.is_of_transactions() {
            Some(NOT_IN_MULTI)
        } else if transaction.calls.len() >= QUEUE_MAX || bytes > QUEUE_BYTES_MAX {
            Some(LONG_MULTI)
        } else {
            None
        };
        if let Some(problem) = problem {
            transaction.is_bad = true;
            return answer::error(problem);
        }
        transaction.bytes = bytes;
        transaction.calls.push(call);
        simple("QUEUED")
    }

    fn execute(&mut self) -> Verdict {
        let Some(transaction) = self.transaction.take() else {
            return Verdict::Answer(answer::error(NO_EXEC));
        };
        if transaction.is_bad {
            return Verdict::Answer(answer::error(ABORTED));
        }
        let calls = Calls::Transaction(transaction.calls);
        match calls.key() {
            Err(refusal) => Verdict::Answer(refusal.0),
            Ok(Some(_)) => Verdict::Ask(calls),
            // Commands without keys need no rows.
            Ok(None) => {
                let context = Context {
                    now_ms: 0,
                    default_ttl_s: 0,
                };
                let answers = evaluate(&calls, &mut State::new(0), &context);
                Verdict::Answer(answers.unwrap_or_else(|_| answer::error(NOT_IN_MULTI)))
            }
        }
    }

    /// Whether the table exists is found out by the node; commands that follow are for that table whatever the answer.
    fn select(&mut self, call: Call) -> Verdict {
        let name = call.argument(1);
        if let Some(index) = number::integer(name) {
            if index != 0 {
                return Verdict::Answer(answer::error(NO_SUCH_INDEX));
            }
            self.table = None;
            return Verdict::Ask(Calls::One(call));
        }
        match std::str::from_utf8(name) {
            Ok(name) if (1..=TABLE_NAME_BYTES_MAX).contains(&name.len()) => {
                self.table = Some(Arc::from(name));
                Verdict::Ask(Calls::One(call))
            }
            _ => Verdict::Answer(answer::error(BAD_TABLE_NAME)),
        }
    }

    fn answer(&mut self, call: &Call) -> Value {
        match call.spec.kind {
            Kind::Ping if call.count() > 2 => answer::wrong_arity("ping"),
            Kind::Ping if call.count() == 2 => Value::Bulk(call.shared(1)),
            Kind::Ping => simple("PONG"),
            Kind::Echo => Value::Bulk(call.shared(1)),
            Kind::Hello => self.hello(call),
            Kind::Auth if call.count() == 3 => answer::error(WRONG_PASSWORD),
            Kind::Auth => answer::error(NO_PASSWORD),
            Kind::Client => self.client(call),
            Kind::Command => about::command(call),
            Kind::Config => about::config(call),
            Kind::Cluster => cluster(call),
            Kind::Multi => {
                self.transaction = Some(Transaction::default());
                answer::ok()
            }
            Kind::Discard => match self.transaction.take() {
                Some(_) => answer::ok(),
                None => answer::error(NO_DISCARD),
            },
            Kind::Unwatch => answer::ok(),
            Kind::Quit => {
                self.end();
                answer::ok()
            }
            Kind::Reset => {
                *self = Self::new(self.id, self.local);
                simple("RESET")
            }
            _ => answer::failure(format!(
                "ERR '{}' is no command of a connection",
                call.spec.name
            )),
        }
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`
    fn hello(&mut self, call: &Call) -> Value {
        let version = match number::integer(call.argument(1)) {
            _ if call.count() == 1 => self.version,
            None => return answer::error(BAD_VERSION),
            Some(2) => Version::Resp2,
            Some(3) => Version::Resp3,
            Some(_) => return answer::error(NO_SUCH_VERSION),
        };
        let mut name = None;
        let mut at = 2;
        while at < call.count() {
            let rest = call.count() - at - 1;
            match &call.argument(at).to_ascii_uppercase()[..] {
                b"AUTH" if rest >= 2 => return answer::error(WRONG_PASSWORD),
                b"SETNAME" if rest >= 1 => {
                    name = Some(call.shared(at + 1));
                    at += 2;
                }
                _ => {
                    let word = String::from_utf8_lossy(call.argument(at)).into_owned();
                    return answer::failure(format!("ERR Syntax error in HELLO option '{word}'"));
                }
            }
        }
        if let Some(name) = name {
            if !is_name(&name) {
                return answer::error(BAD_NAME);
            }
            self.name = owned(&name);
        }
        self.version = version;
        about::hello(self.id, version)
    }

    fn client(&mut self, call: &Call) -> Value {
        let word = call.argument(1).to_ascii_uppercase();
        match (&word[..], call.count()) {
            (b"SETNAME", 3) => self.set_name(&call.shared(2)),
            (b"GETNAME", 2) if self.name.is_empty() => Value::Null,
            (b"GETNAME", 2) => Value::Bulk(self.name.clone()),
            (b"ID", 2) => Value::Integer(i64::try_from(self.id).unwrap_or(i64::MAX)),
            (b"INFO", 2) => self.line(),
            (b"LIST", _) => self.line(),
            (b"SETINFO", 4) => self.set_info(call),
            (b"NO-EVICT" | b"NO-TOUCH", 3) => answer::ok(),
            (
                b"SETNAME" | b"GETNAME" | b"ID" | b"INFO" | b"SETINFO" | b"NO-EVICT" | b"NO-TOUCH",
                _,
            ) => {
                let word = String::from_utf8_lossy(&word).to_ascii_lowercase();
                answer::wrong_arity(&format!("client|{word}"))
            }
            _ => answer::unknown_subcommand("client", call.argument(1)),
        }
    }

    fn set_name(&mut self, name: &Bytes) -> Value {
        if !is_name(name) {
            return answer::error(BAD_NAME);
        }
        self.name = owned(name);
        answer::ok()
    }

    fn set_info(&mut self, call: &Call) -> Value {
        let value = call.shared(3);
        if !is_name(&value) {
            return answer::error(BAD_LIBRARY);
        }
        match &call.argument(2).to_ascii_uppercase()[..] {
            b"LIB-NAME" => self.lib_name = owned(&value),
            b"LIB-VER" => self.lib_ver = owned(&value),
            _ => {
                let word = String::from_utf8_lossy(call.argument(2)).into_owned();
                return answer::failure(format!("ERR Unrecognized option '{word}'"));
            }
        }
        answer::ok()
    }

    /// This connection, as CLIENT LIST has it: a connection knows no others.
    fn line(&self) -> Value {
        let local = self
            .local
            .map_or_else(String::new, |address| address.to_string());
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let line = format!(
            "id={} laddr={local} name={} db=0 table={} resp={} lib-name={} lib-ver={}\n",
            self.id,
            text(&self.name),
            self.table.as_deref().unwrap_or_default(),
            if self.version == Version::Resp3 { 3 } else { 2 },
            text(&self.lib_name),
            text(&self.lib_ver),
        );
        Value::Verbatim {
            format: *b"txt",
            text: Bytes::from(line),
        }
    }
}

/// Commands that are not queued after MULTI.
const fn ends_transactions(kind: Kind) -> bool {
    matches!(kind, Kind::Exec | Kind::Discard | Kind::Quit | Kind::Reset)
}

/// Partitions are not slots: there is nothing true to say but the slot of a key.
fn cluster(call: &Call) -> Value {
    match &call.argument(1).to_ascii_uppercase()[..] {
        b"KEYSLOT" if call.count() == 3 => {
            Value::Integer(i64::from(slot::of_key(call.argument(2))))
        }
        b"KEYSLOT" => answer::wrong_arity("cluster|keyslot"),
        _ => answer::error(NO_CLUSTER),
    }
}

/// Within its own few bytes, not within a large receive buffer.
fn owned(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn is_name(name: &[u8]) -> bool {
    name.len() <= NAME_BYTES_MAX && name.iter().all(u8::is_ascii_graphic)
}

fn simple(text: &'static str) -> Value {
    Value::Simple(Bytes::from_static(text.as_bytes()))
}

const NO_EXEC: &str = "ERR EXEC without MULTI";
const NO_DISCARD: &str = "ERR DISCARD without MULTI";
const NESTED: &str = "ERR MULTI calls can not be nested";
const NOT_IN_MULTI: &str = "ERR Command not allowed inside a transaction";
const LONG_MULTI: &str = "ERR a transaction has at most 1024 commands and 262144 bytes";
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";
const NO_SUCH_INDEX: &str = "ERR DB index is out of range";
const BAD_TABLE_NAME: &str = "ERR SELECT takes the name of a table, or 0 for the default one";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const BAD_VERSION: &str = "ERR Protocol version is not an integer or out of range";
const NO_SUCH_VERSION: &str = "NOPROTO unsupported protocol version";
const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
const BAD_LIBRARY: &str =
    "ERR lib-name and lib-ver cannot contain spaces, newlines or special characters.";
const NO_CLUSTER: &str = "ERR This instance has cluster support disabled";
