//! Every command that is understood: how many arguments it takes, which of them are keys, and who answers it.

use crate::call::Gather;

/// One command, whatever its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// In lower case.
    pub name: &'static str,
    pub kind: Kind,
    /// Arguments with the name; negative = at least so many.
    pub arity: i8,
    pub place: Place,
    /// Whether it may change rows.
    pub writes: bool,
    /// What COMMAND says about it.
    pub keys: Keys,
    pub summary: &'static str,
}

/// Which arguments are keys, as COMMAND says it: the first, the last (negative: from the end), the step. All 0 = none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    pub first: i8,
    pub last: i8,
    pub step: i8,
}

/// Who answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The connection itself.
    Connection,
    /// The node that has the connection.
    Node,
    /// Whoever has the rows of the one key it names.
    Key,
    /// As many as it names keys; the answers are gathered. Not atomic across keys.
    Keys(Gather),
    /// Partitions, whatever their keys.
    Partitions,
    /// Nobody, for this reason.
    Refused(&'static str),
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Append,
    Auth,
    Client,
    Cluster,
    Command,
    Config,
    DbSize,
    Decr,
    DecrBy,
    Del,
    Discard,
    Echo,
    Exec,
    Exists,
    Expire,
    ExpireAt,
    ExpireTime,
    Get,
    GetDel,
    GetEx,
    GetRange,
    GetSet,
    HDel,
    HExists,
    HGet,
    HGetAll,
    HIncrBy,
    HIncrByFloat,
    HKeys,
    HLen,
    HMGet,
    HMSet,
    HScan,
    HSet,
    HSetNx,
    HStrLen,
    HVals,
    Hello,
    Incr,
    IncrBy,
    IncrByFloat,
    Info,
    MGet,
    MSet,
    MSetNx,
    Multi,
    PExpire,
    PExpireAt,
    PExpireTime,
    PSetEx,
    PTtl,
    Persist,
    Ping,
    Quit,
    Refused,
    Reset,
    Scan,
    Select,
    Set,
    SetEx,
    SetNx,
    SetRange,
    StrLen,
    Time,
    Ttl,
    Type,
    Unwatch,
}

/// The command of this name, in any case.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let letter = usize::from(lower.first()?.checked_sub(b'a')?);
    let (start, end) = (*BY_LETTER.get(letter)?, *BY_LETTER.get(letter + 1)?);
    let candidates = COMMANDS.get(start..end)?;
    candidates.iter().find(|spec| spec.name.as_bytes() == lower)
}

/// Where the commands of each letter begin, and where those of the last one end: few begin with the same one, and fewer are as long as
/// the one that is looked for.
const BY_LETTER: [usize; 27] = {
    let mut starts = [0; 27];
    let (mut letter, mut at) = (0, 0);
    while letter < starts.len() {
        while at < COMMANDS.len() && ((COMMANDS[at].name.as_bytes()[0] - b'a') as usize) < letter {
            at += 1;
        }
        starts[letter] = at;
        letter += 1;
    }
    starts
};

impl Spec {
    /// Whether so many arguments, the name included, can be right.
    #[must_use]
    pub const fn takes(&self, count: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 {
            count >= least
        } else {
            count == least
        }
    }

    /// Whether it may stand between MULTI and EXEC.
    #[must_use]
    pub const fn is_of_transactions(&self) -> bool {
        matches!(self.place, Place::Key | Place::Keys(_)) && !matches!(self.kind, Kind::HScan)
            || matches!(self.kind, Kind::Ping | Kind::Echo)
    }
}

const NAME_BYTES_MAX: usize = 16;

const fn spec(
    name: &'static str,
    kind: Kind,
    arity: i8,
    place: Place,
    writes: bool,
    keys: (i8, i8, i8),
    summary: &'static str,
) -> Spec {
    let (first, last, step) = keys;
    Spec {
        name,
        kind,
        arity,
        place,
        writes,
        keys: Keys { first, last, step },
        summary,
    }
}

const fn connection(name: &'static str, kind: Kind, arity: i8, summary: &'static str) -> Spec {
    spec(name, kind, arity, Place::Connection, false, NONE, summary)
}

const fn node(name: &'static str, kind: Kind, arity: i8, summary: &'static str) -> Spec {
    spec(name, kind, arity, Place::Node, false, NONE, summary)
}

const fn read(name: &'static str, kind: Kind, arity: i8, summary: &'static str) -> Spec {
    spec(name, kind, arity, Place::Key, false, ONE, summary)
}

const fn write(name: &'static str, kind: Kind, arity: i8, summary: &'static str) -> Spec {
    spec(name, kind, arity, Place::Key, true, ONE, summary)
}

const fn refused(name: &'static str, arity: i8, reason: &'static str) -> Spec {
    spec(
        name,
        Kind::Refused,
        arity,
        Place::Refused(reason),
        false,
        NONE,
        "Not supported",
    )
}

const NONE: (i8, i8, i8) = (0, 0, 0);
const ONE: (i8, i8, i8) = (1, 1, 1);
const ALL: (i8, i8, i8) = (1, -1, 1);
const PAIRS: (i8, i8, i8) = (1, -1, 2);

const SUM: Place = Place::Keys(Gather::Sum);

const NO_KEYS: &str =
    "ERR KEYS is not supported, because it would read the whole table at once: use SCAN";
const NO_FLUSH: &str = "ERR removing all keys is not supported here: drop the table and create it anew (pegasus table drop, pegasus table create)";
const NO_WATCH: &str =
    "ERR WATCH is not supported: commands between MULTI and EXEC are atomic within one key";

/// By name.
pub const COMMANDS: &[Spec] = &[
    write(
        "append",
        Kind::Append,
        3,
        "Appends to the value of a string",
    ),
    connection("auth", Kind::Auth, -2, "Authenticates the connection"),
    connection(
        "client",
        Kind::Client,
        -2,
        "Tells about connections, and names this one",
    ),
    connection(
        "cluster",
        Kind::Cluster,
        -2,
        "Cluster mode is not offered; KEYSLOT computes",
    ),
    connection("command", Kind::Command, -1, "Tells about commands"),
    connection("config", Kind::Config, -2, "Reads settings"),
    spec(
        "dbsize",
        Kind::DbSize,
        1,
        Place::Partitions,
        false,
        NONE,
        "Estimates the number of rows of the table",
    ),
    write("decr", Kind::Decr, 2, "Decrements an integer by one"),
    write("decrby", Kind::DecrBy, 3, "Decrements an integer"),
    spec("del", Kind::Del, -2, SUM, true, ALL, "Removes keys"),
    connection(
        "discard",
        Kind::Discard,
        1,
        "Forgets the commands since MULTI",
    ),
    connection("echo", Kind::Echo, 2, "Returns its argument"),
    connection(
        "exec",
        Kind::Exec,
        1,
        "Executes the commands since MULTI, atomically within one key",
    ),
    spec(
        "exists",
        Kind::Exists,
        -2,
        SUM,
        false,
        ALL,
        "Counts which of these keys exist",
    ),
    write(
        "expire",
        Kind::Expire,
        -3,
        "Sets the time to live of a key in seconds",
    ),
    write(
        "expireat",
        Kind::ExpireAt,
        -3,
        "Sets the expiry of a key as Unix time in seconds",
    ),
    read(
        "expiretime",
        Kind::ExpireTime,
        2,
        "Returns the expiry of a key as Unix time in seconds",
    ),
    refused("flushall", -1, NO_FLUSH),
    refused("flushdb", -1, NO_FLUSH),
    read("get", Kind::Get, 2, "Returns the value of a string"),
    write(
        "getdel",
        Kind::GetDel,
        2,
        "Returns the value of a string and removes it",
    ),
    write(
        "getex",
        Kind::GetEx,
        -2,
        "Returns the value of a string and sets its expiry",
    ),
    read("getrange", Kind::GetRange, 4, "Returns a part of a string"),
    write(
        "getset",
        Kind::GetSet,
        3,
        "Sets a string and returns its former value",
    ),
    write("hdel", Kind::HDel, -3, "Removes fields of a hash"),
    connection(
        "hello",
        Kind::Hello,
        -1,
        "Chooses the version of the protocol",
    ),
    read(
        "hexists",
        Kind::HExists,
        3,
        "Tells whether a hash has a field",
    ),
    read(
        "hget",
        Kind::HGet,
        3,
        "Returns the value of a field of a hash",
    ),
    read(
        "hgetall",
        Kind::HGetAll,
        2,
        "Returns all fields and values of a hash",
    ),
    write(
        "hincrby",
        Kind::HIncrBy,
        4,
        "Increments the integer in a field of a hash",
    ),
    write(
        "hincrbyfloat",
        Kind::HIncrByFloat,
        4,
        "Increments the number in a field of a hash",
    ),
    read("hkeys", Kind::HKeys, 2, "Returns all fields of a hash"),
    read("hlen", Kind::HLen, 2, "Counts the fields of a hash"),
    read(
        "hmget",
        Kind::HMGet,
        -3,
        "Returns the values of some fields of a hash",
    ),
    write("hmset", Kind::HMSet, -4, "Sets fields of a hash"),
    read(
        "hscan",
        Kind::HScan,
        -3,
        "Goes through the fields of a hash",
    ),
    write("hset", Kind::HSet, -4, "Sets fields of a hash"),
    write(
        "hsetnx",
        Kind::HSetNx,
        4,
        "Sets a field of a hash that is not there",
    ),
    read(
        "hstrlen",
        Kind::HStrLen,
        3,
        "Returns the length of a field's value",
    ),
    read("hvals", Kind::HVals, 2, "Returns all values of a hash"),
    write("incr", Kind::Incr, 2, "Increments an integer by one"),
    write("incrby", Kind::IncrBy, 3, "Increments an integer"),
    write("incrbyfloat", Kind::IncrByFloat, 3, "Increments a number"),
    node("info", Kind::Info, -1, "Tells about the server"),
    refused("keys", 2, NO_KEYS),
    spec(
        "mget",
        Kind::MGet,
        -2,
        Place::Keys(Gather::Array),
        false,
        ALL,
        "Returns the values of strings, not atomically",
    ),
    spec(
        "mset",
        Kind::MSet,
        -3,
        Place::Keys(Gather::AllOk),
        true,
        PAIRS,
        "Sets strings, not atomically",
    ),
    spec(
        "msetnx",
        Kind::MSetNx,
        -3,
        Place::Key,
        true,
        PAIRS,
        "Sets one string that is not there",
    ),
    connection("multi", Kind::Multi, 1, "Begins a transaction"),
    write(
        "persist",
        Kind::Persist,
        2,
        "Takes the expiry of a key away",
    ),
    write(
        "pexpire",
        Kind::PExpire,
        -3,
        "Sets the time to live of a key in milliseconds",
    ),
    write(
        "pexpireat",
        Kind::PExpireAt,
        -3,
        "Sets the expiry of a key as Unix time in milliseconds",
    ),
    read(
        "pexpiretime",
        Kind::PExpireTime,
        2,
        "Returns the expiry of a key as Unix time in milliseconds",
    ),
    connection("ping", Kind::Ping, -1, "Answers"),
    write(
        "psetex",
        Kind::PSetEx,
        4,
        "Sets a string that lives so many milliseconds",
    ),
    read(
        "pttl",
        Kind::PTtl,
        2,
        "Returns the milliseconds that a key has left",
    ),
    connection("quit", Kind::Quit, -1, "Closes the connection"),
    connection(
        "reset",
        Kind::Reset,
        1,
        "Makes the connection as it was at first",
    ),
    spec(
        "scan",
        Kind::Scan,
        -2,
        Place::Partitions,
        false,
        NONE,
        "Goes through the keys of the table",
    ),
    node(
        "select",
        Kind::Select,
        2,
        "Chooses a table by name, or the default one as 0",
    ),
    write("set", Kind::Set, -3, "Sets a string"),
    write(
        "setex",
        Kind::SetEx,
        4,
        "Sets a string that lives so many seconds",
    ),
    write("setnx", Kind::SetNx, 3, "Sets a string that is not there"),
    write(
        "setrange",
        Kind::SetRange,
        4,
        "Overwrites a part of a string",
    ),
    read("strlen", Kind::StrLen, 2, "Returns the length of a string"),
    read("substr", Kind::GetRange, 4, "Returns a part of a string"),
    node("time", Kind::Time, 1, "Tells the time"),
    spec(
        "touch",
        Kind::Exists,
        -2,
        SUM,
        false,
        ALL,
        "Counts which of these keys exist",
    ),
    read(
        "ttl",
        Kind::Ttl,
        2,
        "Returns the seconds that a key has left",
    ),
    read(
        "type",
        Kind::Type,
        2,
        "Tells whether a key is a string or a hash",
    ),
    spec("unlink", Kind::Del, -2, SUM, true, ALL, "Removes keys"),
    connection(
        "unwatch",
        Kind::Unwatch,
        1,
        "Does nothing: nothing is watched",
    ),
    refused("watch", -2, NO_WATCH),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_any_case_and_others_are_not() {
        for spec in COMMANDS {
            assert_eq!(find(spec.name.as_bytes()), Some(spec));
            assert_eq!(find(spec.name.to_ascii_uppercase().as_bytes()), Some(spec));
        }
        assert!(
            COMMANDS.is_sorted_by(|a, b| a.name < b.name),
            "the search relies on it"
        );
        for name in [
            "",
            "gett",
            "{get",
            "zzz",
            "_",
            "1",
            "a name that is far too long to be one",
        ] {
            assert_eq!(find(name.as_bytes()), None);
        }
    }

    #[test]
    fn arity_counts_the_name() {
        let takes = |name: &str, count| find(name.as_bytes()).map(|spec| spec.takes(count));
        assert_eq!(takes("get", 2), Some(true));
        assert_eq!(takes("get", 3), Some(false));
        assert_eq!(takes("set", 2), Some(false));
        assert_eq!(takes("set", 9), Some(true));
    }
}
