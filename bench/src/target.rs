//! What is measured: a server behind its own protocol, and the few operations that a worker needs of it.
//!
//! A record is a number. How it is stored is the target's business, within the [`Layout`] that load and run agree on:
//! either one value, or a row of fields that can be read together and updated one by one.
//!
//! ```text
//! Target (an address)  -- connect -->  Session (one connection, cloned for each of its workers)  -- read, update .. -->
//! ```
//!
//! Sessions are an enum and not a trait object, so that no operation allocates a future of its own. They are used from
//! the thread that made them.

pub(crate) mod apache;
mod etcd;
mod link;
pub(crate) mod native;
mod null;
mod pipe;
mod redis;
mod resp;

use crate::layout::{CellName, Layout};
use anyhow::{Context as _, bail, ensure};
use pegasus_client::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where the load goes; `Display` and `FromStr` are the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `native://META[,META]/TABLE`
    Native { meta: Vec<String>, table: String },
    /// `thft://META[,META]/TABLE`, likewise `thft-v1` and `rdsn`
    Apache {
        form: apache::Form,
        meta: Vec<String>,
        table: String,
    },
    /// `resp://META[,META]/TABLE`: Redis' protocol, on the client ports of a cluster of ours
    Resp { meta: Vec<String>, table: String },
    /// `redis://HOST:PORT[/DATABASE]`; empty: whatever the server takes by default
    Redis { address: String, database: String },
    /// `etcd://HOST:PORT`
    Etcd { address: String },
    /// `null://`: answers within this process, at once. Measures the bench itself; empty in every process.
    Null,
}

/// What a connection is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectOptions {
    pub(crate) layout: Layout,
    /// Operations that workers have under way on it at the same time, at most.
    pub(crate) inflight: usize,
    /// For connecting, and for whatever else has to be known before the first operation.
    pub(crate) timeout: Duration,
}

/// One connection (for a cluster: one client, which has a connection to every core). Clones share it.
#[derive(Clone, Debug)]
pub(crate) enum Session {
    Native(native::Session),
    Apache(apache::Session),
    Redis(redis::Session),
    Etcd(etcd::Session),
}

/// One stored value that a read returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// What the answer says it is; `None` if that is no name of ours. A target that answers without names (a plain get) gives the one
    /// that was asked for.
    pub(crate) name: Option<CellName>,
    pub(crate) value: Bytes,
}

/// Whether an operation that failed took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Execution {
    /// It did not, and never will.
    NotExecuted,
    /// It may have, or may still do so. Anything that was sent without a definite answer.
    Unknown,
}

/// An operation that failed, by its deadline at the latest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The server's word for it (`busy`, `LOADING`); `timeout`, `connection` or `client` when the client gave up by itself.
    pub(crate) code: Cow<'static, str>,
    pub(crate) execution: Execution,
    /// Sending the same again is of no use.
    pub(crate) permanent: bool,
    /// What the first of them said is shown.
    pub(crate) message: String,
}

/// What reports say about the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// As given on the command line, without secrets.
    pub(crate) url: String,
    /// `native`, `thft`, `thft-v1`, `rdsn`, `resp`, `redis`, `etcd`, `null`.
    pub(crate) protocol: String,
    /// Program and version, as far as the server tells.
    pub(crate) server: String,
    pub(crate) partitions: Option<u32>,
    pub(crate) replicas: Option<u32>,
    /// How writes are made durable, where the server tells: `log flushed before the answer`, `appendonly no`.
    pub(crate) durability: Option<String>,
    /// CPUs of this machine that servers are pinned to, ascending; empty: unknown or none.
    pub(crate) server_cpus: Vec<usize>,
    /// How scans are done with hash-partitioned or unordered data, and whatever else a reader has to know.
    pub(crate) notes: BTreeMap<String, String>,
}

impl Target {
    /// Who knows the nodes of the cluster, if it is one of ours.
    pub(crate) fn meta(&self) -> Option<&[String]> {
        match self {
            Self::Native { meta, .. } | Self::Apache { meta, .. } | Self::Resp { meta, .. } => {
                Some(meta)
            }
            Self::Redis { .. } | Self::Etcd { .. } | Self::Null => None,
        }
    }

    /// The cluster of ours behind it, if it is one: addresses of meta, and the table.
    pub(crate) fn cluster(&self) -> Option<(&[String], &str)> {
        match self {
            Self::Native { meta, table }
            | Self::Apache { meta, table, .. }
            | Self::Resp { meta, table } => Some((meta, table)),
            Self::Redis { .. } | Self::Etcd { .. } | Self::Null => None,
        }
    }

    /// A connection that is open and knows its routes. Called on the thread that will use it.
    ///
    /// # Errors
    /// With the address in it: nobody there, not what it should be, no such table.
    pub(crate) async fn connect(&self, options: &ConnectOptions) -> anyhow::Result<Session> {
        match self {
            Self::Native { meta, table } => native::Session::connect(meta, table, options)
                .await
                .map(Session::Native),
            Self::Apache { form, meta, table } => {
                apache::Session::connect(*form, meta, table, options)
                    .await
                    .map(Session::Apache)
            }
            Self::Resp { meta, table } => resp::connect(meta, table, options)
                .await
                .map(Session::Redis),
            Self::Redis { address, database } => {
                redis::Session::connect(address, database, options)
                    .await
                    .map(Session::Redis)
            }
            Self::Etcd { address } => etcd::Session::connect(address, options)
                .await
                .map(Session::Etcd),
            Self::Null => native::Session::connect(&[null::address()?], "null", options)
                .await
                .map(Session::Native),
        }
    }

    /// What reports say about it; also finds out early that nobody is there.
    ///
    /// # Errors
    /// Those of [`Target::connect`].
    pub(crate) async fn describe(&self) -> anyhow::Result<Description> {
        let mut description = match self {
            Self::Native { meta, table } => native::describe(meta, table).await?,
            Self::Apache { form, meta, table } => apache::describe(*form, meta, table).await?,
            Self::Resp { meta, table } => resp::describe(meta, table).await?,
            Self::Redis { address, database } => redis::describe(address, database).await?,
            Self::Etcd { address } => etcd::describe(address).await?,
            Self::Null => null::describe(),
        };
        description.url = self.to_string();
        Ok(description)
    }
}

/// One arm for each kind of session. A new target is a module, a variant, and a line here.
macro_rules! each {
    ($session:expr, $inner:ident => $call:expr) => {
        match $session {
            Session::Native($inner) => $call,
            Session::Apache($inner) => $call,
            Session::Redis($inner) => $call,
            Session::Etcd($inner) => $call,
        }
    };
}

/// All of them fail `within` at the latest, counted from the call, tries of the client's own included.
impl Session {
    /// A record: its one value, or all fields in any order; empty when there is no such record.
    pub(crate) async fn read(&self, record: u64, within: Duration) -> Result<Vec<Cell>, Failure> {
        each!(self, session => session.read(record, within).await)
    }

    /// Overwrites one field (0 in the layout of one value); creates it if it is not there.
    pub(crate) async fn update(
        &self,
        record: u64,
        field: usize,
        value: &[u8],
        within: Duration,
    ) -> Result<(), Failure> {
        each!(self, session => session.update(record, field, value, within).await)
    }

    /// Writes a whole record, all fields in one request: `values` has one for each field of the layout.
    pub(crate) async fn insert(
        &self,
        record: u64,
        values: &[Vec<u8>],
        within: Duration,
    ) -> Result<(), Failure> {
        each!(self, session => session.insert(record, values, within).await)
    }

    /// Up to `records` records from this one on, ascending, none beyond its hash key's last (see [`Layout`]).
    pub(crate) async fn scan(
        &self,
        record: u64,
        records: u32,
        within: Duration,
    ) -> Result<Vec<Cell>, Failure> {
        each!(self, session => session.scan(record, records, within).await)
    }

    /// Attempts that the client made again by itself so far, on this connection.
    pub(crate) fn retries(&self) -> u64 {
        each!(self, session => session.retries())
    }
}

impl Execution {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotExecuted => "not_executed",
            Self::Unknown => "unknown",
        }
    }
}

impl Failure {
    /// The deadline came without an answer.
    pub(crate) fn timeout(execution: Execution, within: Duration) -> Self {
        Self {
            code: Cow::Borrowed("timeout"),
            execution,
            permanent: false,
            message: format!("no answer within {} ms", within.as_millis()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native { meta, table } => write!(f, "native://{}/{table}", meta.join(",")),
            Self::Apache { form, meta, table } => {
                write!(f, "{}://{}/{table}", form.name(), meta.join(","))
            }
            Self::Resp { meta, table } => write!(f, "resp://{}/{table}", meta.join(",")),
            Self::Redis { address, database } if database.is_empty() => {
                write!(f, "redis://{address}")
            }
            Self::Redis { address, database } => write!(f, "redis://{address}/{database}"),
            Self::Etcd { address } => write!(f, "etcd://{address}"),
            Self::Null => write!(f, "null://"),
        }
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(url: &str) -> anyhow::Result<Self> {
        parse(url).with_context(|| format!("target {url:?}"))
    }
}

const FORMS: &str = "native://META[,META]/TABLE (or thft, thft-v1, rdsn, resp), redis://HOST:PORT[/DATABASE], \
    etcd://HOST:PORT and null:// exist";

fn parse(url: &str) -> anyhow::Result<Target> {
    let (scheme, rest) = url
        .split_once("://")
        .with_context(|| format!("no URL; {FORMS}"))?;
    match scheme {
        "native" => {
            let (meta, table) = table(scheme, rest)?;
            Ok(Target::Native { meta, table })
        }
        "resp" => {
            let (meta, table) = table(scheme, rest)?;
            Ok(Target::Resp { meta, table })
        }
        "redis" => {
            let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
            ensure!(
                !database.contains(['/', ' ']),
                "{database:?} is no name of a database or table"
            );
            Ok(Target::Redis {
                address: address(host)?,
                database: database.to_owned(),
            })
        }
        "etcd" => Ok(Target::Etcd {
            address: address(rest.strip_suffix('/').unwrap_or(rest))?,
        }),
        "null" => {
            ensure!(rest.is_empty(), "null:// has no address");
            Ok(Target::Null)
        }
        other => match apache::Form::of_name(other) {
            Some(form) => {
                let (meta, table) = table(scheme, rest)?;
                Ok(Target::Apache { form, meta, table })
            }
            None => bail!("{other:?} is no protocol of this program; {FORMS}"),
        },
    }
}

/// `META[,META]/TABLE`.
fn table(scheme: &str, rest: &str) -> anyhow::Result<(Vec<String>, String)> {
    let (meta, table) = rest
        .split_once('/')
        .with_context(|| format!("{scheme}://META[,META]/TABLE needs a table"))?;
    ensure!(
        !table.is_empty() && !table.contains('/'),
        "{scheme}://META[,META]/TABLE needs one table"
    );
    let meta = meta.split(',').map(address);
    Ok((meta.collect::<anyhow::Result<_>>()?, table.to_owned()))
}

/// `HOST:PORT`, with nothing else in it.
pub(crate) fn address(text: &str) -> anyhow::Result<String> {
    let (host, port) = text
        .rsplit_once(':')
        .with_context(|| format!("address {text:?} is not HOST:PORT"))?;
    ensure!(
        !host.is_empty() && !host.contains(['/', '@', ' ']),
        "address {text:?} has no plain host (user names and passwords are not known here)"
    );
    let port: u16 = port
        .parse()
        .with_context(|| format!("address {text:?}: port {port:?}"))?;
    ensure!(port > 0, "address {text:?}: port 0");
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_target_is_what_its_url_says_and_says_it_back() {
        for url in [
            "native://127.0.0.1:34601/bench",
            "native://10.0.0.1:34601,10.0.0.2:34601/bench",
            "thft://127.0.0.1:34601/bench",
            "thft-v1://127.0.0.1:34601,127.0.0.1:34602/bench",
            "rdsn://127.0.0.1:34601/bench",
            "resp://127.0.0.1:34601/bench",
            "redis://localhost:6379",
            "redis://localhost:6379/3",
            "etcd://[::1]:2379",
            "null://",
        ] {
            assert_eq!(Target::from_str(url).unwrap().to_string(), url);
        }
        assert_eq!(
            Target::from_str("redis://localhost:6379").unwrap(),
            Target::Redis {
                address: "localhost:6379".to_owned(),
                database: String::new()
            }
        );
    }

    #[test]
    fn nonsense_is_refused_and_named() {
        for (url, named) in [
            ("bench", "no URL"),
            ("mongo://a:1", "mongo"),
            ("native://127.0.0.1:34601", "needs a table"),
            ("native://127.0.0.1:34601/", "needs one table"),
            ("native://127.0.0.1/bench", "HOST:PORT"),
            ("native://:1/bench", "no plain host"),
            ("redis://localhost:65536", "65536"),
            ("redis://localhost:0", "port 0"),
            ("redis://localhost:1/x/y", "\"x/y\""),
            ("rdsn://127.0.0.1:34601", "needs a table"),
            ("thft-v2://127.0.0.1:34601/t", "thft-v2"),
            ("redis://user:word@localhost:1", "passwords"),
            ("etcd://", "HOST:PORT"),
            ("null://x", "no address"),
        ] {
            let error = format!("{:#}", Target::from_str(url).unwrap_err());
            assert!(error.contains(named), "{url}: {error}");
        }
    }
}
