//! Redis, through its own protocol.
//!
//! | | records per hash key 1 | more |
//! |---|---|---|
//! | one value | `GET`, `SET` of `user..` | of `user..:00000007` |
//! | row of fields | `HGETALL`, `HSET` of `user..` | of `user..:00000007` |
//! | scan | none | `ZRANGEBYLEX` in `index:user..`, then the records |
//!
//! Rows are hashes, as in YCSB's own Redis binding. Its scans keep one sorted set of all keys; here it is one for each
//! hash key, because scans end there (see `layout`), and an insert adds to it in the same batch of commands.

mod answer;
mod connection;

use super::link::{Address, Class, Link, Problem};
use super::{Cell, ConnectOptions, Description, Failure};
use crate::affinity;
use crate::layout::{CellName, Layout};
use answer::{checked, pairs, string, strings};
use anyhow::Context as _;
use connection::{Connection, Waiting};
use pegasus_resp::{Value, encode_command};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One connection, made again when it was lost.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    link: Arc<Link<Connection>>,
    layout: Layout,
}

impl Session {
    pub(super) async fn connect(
        address: &str,
        database: &str,
        options: &ConnectOptions,
    ) -> anyhow::Result<Self> {
        let server = Address {
            address: address.to_owned(),
            timeout: options.timeout,
        };
        let link = Link::open(server, database.to_owned())
            .await
            .with_context(|| format!("redis server at {address}"))?;
        Ok(Self {
            link: Arc::new(link),
            layout: options.layout,
        })
    }

    pub(super) async fn read(&self, record: u64, within: Duration) -> Result<Vec<Cell>, Failure> {
        self.link
            .call(Class::Read, within, async |connection, sent| {
                let waiting = self.ask_record(connection, record)?;
                sent.set(true);
                self.cells(record, connection.answer(waiting).await?)
            })
            .await
    }

    pub(super) async fn update(
        &self,
        record: u64,
        field: usize,
        value: &[u8],
        within: Duration,
    ) -> Result<(), Failure> {
        self.link
            .call(Class::Write, within, async |connection, sent| {
                let waiting = connection.send(|out| self.put(out, record, &[(field, value)]))?;
                sent.set(true);
                checked(connection.answer(waiting).await?).map(drop)
            })
            .await
    }

    pub(super) async fn insert(
        &self,
        record: u64,
        values: &[Vec<u8>],
        within: Duration,
    ) -> Result<(), Failure> {
        let values: Vec<_> = values.iter().map(|value| &value[..]).enumerate().collect();
        self.link
            .call(Class::Write, within, async |connection, sent| {
                let written = connection.send(|out| self.put(out, record, &values))?;
                sent.set(true);
                let indexed = match self.index_of(record) {
                    Some((index, member)) => Some(connection.send(|out| {
                        encode_command(out, [b"ZADD", index.as_bytes(), b"0", member.as_bytes()]);
                    })?),
                    None => None,
                };
                checked(connection.answer(written).await?)?;
                match indexed {
                    Some(indexed) => executed_before(checked(connection.answer(indexed).await?)),
                    None => Ok(()),
                }
            })
            .await
    }

    pub(super) async fn scan(
        &self,
        record: u64,
        records: u32,
        within: Duration,
    ) -> Result<Vec<Cell>, Failure> {
        let Some((index, member)) = self.index_of(record) else {
            return Err(no_scans());
        };
        let (start, count) = (format!("[{member}"), records.to_string());
        let command = [
            b"ZRANGEBYLEX",
            index.as_bytes(),
            start.as_bytes(),
            b"+",
            b"LIMIT",
            b"0",
            count.as_bytes(),
        ];
        self.link
            .call(Class::Read, within, async |connection, sent| {
                let listed = connection.send(|out| encode_command(out, command))?;
                sent.set(true);
                let members = strings(connection.answer(listed).await?)?;
                self.read_all(connection, record, &members).await
            })
            .await
    }

    pub(super) fn retries(&self) -> u64 {
        self.link.retries()
    }

    /// All at once: the answers come in the same order.
    async fn read_all(
        &self,
        connection: &Connection,
        record: u64,
        members: &[bytes::Bytes],
    ) -> Result<Vec<Cell>, Problem> {
        let first = record - record % self.layout.records_per_hash_key;
        let mut asked = Vec::with_capacity(members.len());
        for member in members {
            // A name that is none of ours is an answer too: the check of the caller counts it.
            let named = std::str::from_utf8(member)
                .ok()
                .and_then(|text| text.parse::<u64>().ok());
            let record = named.filter(|index| *index < self.layout.records_per_hash_key);
            match record.map(|index| first + index) {
                Some(record) => asked.push((record, self.ask_record(connection, record)?)),
                None => {
                    return Ok(vec![Cell {
                        name: None,
                        value: member.clone(),
                    }]);
                }
            }
        }
        let mut cells = Vec::with_capacity(asked.len() * self.layout.cells());
        for (record, waiting) in asked {
            cells.extend(self.cells(record, connection.answer(waiting).await?)?);
        }
        Ok(cells)
    }

    fn ask_record(&self, connection: &Connection, record: u64) -> Result<Waiting, Problem> {
        let command: &[u8] = if self.layout.is_rows() {
            b"HGETALL"
        } else {
            b"GET"
        };
        let key = self.key(record);
        connection.send(|out| encode_command(out, [command, &key]))
    }

    fn cells(&self, record: u64, answer: Value) -> Result<Vec<Cell>, Problem> {
        if !self.layout.is_rows() {
            let cell = |value| Cell {
                name: Some(CellName { record, field: 0 }),
                value,
            };
            return Ok(string(answer)?.map(cell).into_iter().collect());
        }
        let cell = |(name, value): (bytes::Bytes, bytes::Bytes)| Cell {
            name: field_of(&name, self.layout).map(|field| CellName { record, field }),
            value,
        };
        Ok(pairs(answer)?.into_iter().map(cell).collect())
    }

    /// `SET` or `HSET` of these fields.
    fn put(&self, out: &mut Vec<u8>, record: u64, values: &[(usize, &[u8])]) {
        let key = self.key(record);
        match values {
            [(_, value)] if !self.layout.is_rows() => {
                encode_command(out, [b"SET", &key[..], value])
            }
            values => {
                let names: Vec<String> = values
                    .iter()
                    .map(|(field, _)| format!("field{field}"))
                    .collect();
                let mut command: Vec<&[u8]> = vec![b"HSET", &key];
                for (name, (_, value)) in names.iter().zip(values) {
                    command.extend([name.as_bytes(), value]);
                }
                encode_command(out, command);
            }
        }
    }

    fn key(&self, record: u64) -> Cow<'_, [u8]> {
        let mut key = self.layout.hash_key(record).as_ref().to_vec();
        if self.layout.records_per_hash_key > 1 {
            key.push(b':');
            key.extend_from_slice(self.layout.sort_key_prefix(record).as_ref());
        }
        Cow::Owned(key)
    }

    /// The sorted set that a record is in, and its name there.
    fn index_of(&self, record: u64) -> Option<(String, String)> {
        let text = |key: &dyn AsRef<[u8]>| String::from_utf8_lossy(key.as_ref()).into_owned();
        (self.layout.records_per_hash_key > 1).then(|| {
            let index = format!("index:{}", text(&self.layout.hash_key(record)));
            (index, text(&self.layout.sort_key_prefix(record)))
        })
    }
}

fn field_of(name: &[u8], layout: Layout) -> Option<usize> {
    let digits = std::str::from_utf8(name.strip_prefix(b"field")?).ok()?;
    let field: usize = digits.parse().ok()?;
    (field < layout.fields && field.to_string() == digits).then_some(field)
}

/// The first command of two was done: if the second is refused, the operation is neither done nor not done.
fn executed_before(result: Result<Value, Problem>) -> Result<(), Problem> {
    match result {
        Ok(_) => Ok(()),
        Err(Problem::Refused(failure)) => Err(Problem::Refused(Failure {
            execution: super::Execution::Unknown,
            ..failure
        })),
        Err(other) => Err(other),
    }
}

fn no_scans() -> Failure {
    Failure {
        code: Cow::Borrowed("scan"),
        execution: super::Execution::NotExecuted,
        permanent: true,
        message: "keys of Redis have no order: scans need more than one record per hash key, which then has an index"
            .to_owned(),
    }
}

/// How records are stored.
pub(super) fn notes() -> BTreeMap<String, String> {
    BTreeMap::from([
        (
            "scan".to_owned(),
            "a sorted set of each hash key's records, then the records".to_owned(),
        ),
        ("rows".to_owned(), "hashes: HSET, HGETALL".to_owned()),
    ])
}

/// What the server says about itself.
pub(super) async fn describe(address: &str, database: &str) -> anyhow::Result<Description> {
    let server = Address {
        address: address.to_owned(),
        timeout: CONNECT_TIMEOUT,
    };
    let link: Link<Connection> = Link::open(server, database.to_owned())
        .await
        .with_context(|| format!("redis server at {address}"))?;
    let connection = link.connection().await?;
    let greeting = |name: &str| {
        let found = connection.greeting.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| &value[..])
    };
    let mut notes = notes();
    notes.insert("mode".to_owned(), greeting("mode").to_owned());
    let protocol = if greeting("proto") == "3" {
        "RESP3"
    } else {
        "RESP2"
    };
    notes.insert("protocol".to_owned(), protocol.to_owned());
    Ok(Description {
        protocol: "redis".to_owned(),
        server: format!("{} {}", greeting("server"), greeting("version"))
            .trim()
            .to_owned(),
        durability: durability(&connection).await,
        server_cpus: server_cpus(&connection, address).await,
        notes,
        ..Description::default()
    })
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Servers that are not asked twice: `CONFIG` may be forbidden.
async fn durability(connection: &Connection) -> Option<String> {
    let mut sentence = Vec::new();
    for name in ["appendonly", "appendfsync"] {
        let answer = connection
            .ask(&[b"CONFIG", b"GET", name.as_bytes()])
            .await
            .ok()?;
        let (_, value) = pairs(answer).ok()?.into_iter().next()?;
        sentence.push(format!("{name} {}", String::from_utf8_lossy(&value)));
        if &value[..] == b"no" {
            break;
        }
    }
    Some(sentence.join(", "))
}

/// CPUs that a server on this machine is pinned to.
async fn server_cpus(connection: &Connection, address: &str) -> Vec<usize> {
    let local = ["127.0.0.1:", "localhost:", "[::1]:"]
        .iter()
        .any(|host| address.starts_with(host));
    let Ok(Ok(Some(info))) = connection.ask(&[b"INFO", b"server"]).await.map(string) else {
        return Vec::new();
    };
    let info = String::from_utf8_lossy(&info);
    let process = info
        .lines()
        .find_map(|line| line.strip_prefix("process_id:"));
    match process.and_then(|number| number.trim().parse().ok()) {
        Some(process) if local => affinity::pinned_to(process),
        _ => Vec::new(),
    }
}
