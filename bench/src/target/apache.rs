//! The protocols of Apache Pegasus: THFT, as its Go, Python, Node (version 0) and Java clients (version 1) speak it, and
//! RDSN, that of its C++ client. Any server of them will do, ours or Apache's.
//!
//! Does what those clients do: asks meta where a table's partitions are, sends each request to the primary of its key's
//! partition, many at a time on one connection to every server, and asks meta again when a server says that it is not
//! the one, or is gone.

mod connection;
mod routes;

use super::link::{Class, Problem};
use super::{Cell, ConnectOptions, Description, Execution, Failure};
use crate::layout::{CellName, Layout};
use anyhow::Context as _;
use connection::{Answer, To};
use pegasus_client::Bytes;
use pegasus_fbs::hash::key_hash;
use pegasus_thrift::binary::{Decode, Reader, read_only_field};
use pegasus_thrift::data::{
    KeyValue, MultiGetRequest, MultiGetResponse, MultiPutRequest, RawKey, ReadResponse, Request,
    UpdateRequest, UpdateResponse,
};
use pegasus_thrift::{ErrorCode, storage};
use routes::Cluster;
use std::borrow::Cow;
use std::cell::{Cell as Shared, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How requests are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    ThftV0,
    ThftV1,
    Rdsn,
}

/// A client of its own, with a connection to every server that has a primary of the table.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    cluster: Arc<Cluster>,
    layout: Layout,
}

const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::ThftV0, Self::ThftV1, Self::Rdsn];

    /// The scheme of its URLs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ThftV0 => "thft",
            Self::ThftV1 => "thft-v1",
            Self::Rdsn => "rdsn",
        }
    }

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name)
    }
}

impl Session {
    pub(super) async fn connect(
        form: Form,
        meta: &[String],
        table: &str,
        options: &ConnectOptions,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            cluster: Arc::new(Cluster::open(form, meta, table, options.timeout).await?),
            layout: options.layout,
        })
    }

    pub(super) async fn read(&self, record: u64, within: Duration) -> Result<Vec<Cell>, Failure> {
        if self.layout.is_rows() {
            let stop = self.layout.sort_key_end(record);
            let stop = stop.as_ref().map(AsRef::as_ref).unwrap_or_default();
            return self.multi_get(record, stop, 1, within).await;
        }
        let (hash_key, sort_key) = (
            self.layout.hash_key(record),
            self.layout.sort_key(record, 0),
        );
        let key = raw(hash_key.as_ref(), sort_key.as_ref());
        let request = Request::Get(&key);
        self.ask(Class::Read, record, &request, within, |answer| {
            let response: ReadResponse<'_> = read_answer(answer)?;
            match response.error {
                storage::NOT_FOUND => Ok(Vec::new()),
                error => checked(error, Class::Read).map(|()| {
                    let name = Some(CellName { record, field: 0 });
                    let value = answer.result.slice_ref(response.value);
                    vec![Cell { name, value }]
                }),
            }
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
        let hash_key = self.layout.hash_key(record);
        let sort_key = self.layout.sort_key(record, field);
        let key = raw(hash_key.as_ref(), sort_key.as_ref());
        let request = Request::Put(UpdateRequest {
            key: &key,
            value,
            ..UpdateRequest::default()
        });
        self.ask(Class::Write, record, &request, within, written)
            .await
    }

    pub(super) async fn insert(
        &self,
        record: u64,
        values: &[Vec<u8>],
        within: Duration,
    ) -> Result<(), Failure> {
        if let ([value], false) = (values, self.layout.is_rows()) {
            return self.update(record, 0, value, within).await;
        }
        let hash_key = self.layout.hash_key(record);
        let sort_keys: Vec<_> = (0..values.len())
            .map(|field| self.layout.sort_key(record, field))
            .collect();
        let row = |(key, value)| KeyValue {
            key,
            value,
            ..KeyValue::default()
        };
        let values = values.iter().map(|value| &value[..]);
        let request = Request::MultiPut(MultiPutRequest {
            hash_key: hash_key.as_ref(),
            kvs: sort_keys
                .iter()
                .map(AsRef::as_ref)
                .zip(values)
                .map(row)
                .collect(),
            ..MultiPutRequest::default()
        });
        self.ask(Class::Write, record, &request, within, written)
            .await
    }

    pub(super) async fn scan(
        &self,
        record: u64,
        records: u32,
        within: Duration,
    ) -> Result<Vec<Cell>, Failure> {
        self.multi_get(record, b"", records, within).await
    }

    pub(super) fn retries(&self) -> u64 {
        self.cluster.retries()
    }

    /// All rows from the record on and before `stop` (empty: to the end of the hash key), those of `records` records at most.
    async fn multi_get(
        &self,
        record: u64,
        stop: &[u8],
        records: u32,
        within: Duration,
    ) -> Result<Vec<Cell>, Failure> {
        let (hash_key, start) = (
            self.layout.hash_key(record),
            self.layout.sort_key_prefix(record),
        );
        let cells = u32::try_from(self.layout.cells()).unwrap_or(u32::MAX);
        let rows = records.saturating_mul(cells);
        let request = Request::MultiGet(MultiGetRequest {
            hash_key: hash_key.as_ref(),
            max_kv_count: i32::try_from(rows).unwrap_or(i32::MAX),
            start_sortkey: start.as_ref(),
            stop_sortkey: stop,
            start_inclusive: true,
            ..MultiGetRequest::default()
        });
        self.ask(Class::Read, record, &request, within, |answer| {
            let response: MultiGetResponse<'_> = read_answer(answer)?;
            // Incomplete: there were more rows than asked for.
            if response.error != storage::INCOMPLETE {
                checked(response.error, Class::Read)?;
            }
            let cell = |row: KeyValue<'_>| Cell {
                name: self.layout.cell_of(record, row.key),
                value: answer.result.slice_ref(row.value),
            };
            Ok(response.kvs.into_iter().map(cell).collect())
        })
        .await
    }

    /// Sends a request to the partition of a record until it has an answer, a refusal, or no time left.
    async fn ask<T>(
        &self,
        class: Class,
        record: u64,
        request: &Request<'_>,
        within: Duration,
        read: impl Fn(&Answer) -> Result<T, Problem>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + within;
        let progress = Progress::default();
        let hash = key_hash(self.layout.hash_key(record).as_ref(), b"");
        let attempts = async {
            let mut pause = PAUSE_MIN;
            loop {
                let problem = match self.attempt(hash, request, deadline, &progress).await {
                    Ok(answer) => match judged(&answer, class).and_then(|()| read(&answer)) {
                        Ok(value) => return Ok(value),
                        Err(problem) => problem,
                    },
                    Err(problem) => problem,
                };
                progress.failed(problem, class)?;
                self.cluster.count_retry();
                sleep(pause).await;
                pause = (2 * pause).min(PAUSE_MAX);
            }
        };
        match timeout_at(deadline, attempts).await {
            Ok(result) => result,
            Err(_) => Err(progress.expired(class, within)),
        }
    }

    /// One try, on the routes as they are known, which are asked for again when it fails for their sake.
    async fn attempt(
        &self,
        hash: u64,
        request: &Request<'_>,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<Answer, Problem> {
        progress.sent.set(false);
        let routes = self.cluster.routes();
        let (index, link) = routes.primary(hash)?;
        let to = To {
            app_id: routes.app_id(),
            partition_index: index,
            partition_hash: hash,
            timeout: deadline.saturating_duration_since(Instant::now()),
        };
        let answer = match link.connection().await {
            Ok(connection) => match connection.send(&to, request) {
                Ok(waiting) => {
                    progress.sent.set(true);
                    connection.answer(waiting).await
                }
                Err(problem) => Err(problem),
            },
            Err(error) => Err(Problem::Unsent(format!("{error:#}"))),
        };
        let is_stale = match &answer {
            Ok(answer) => matches!(
                answer.status,
                ErrorCode::InvalidState | ErrorCode::ObjectNotFound
            ),
            Err(problem) => !matches!(problem, Problem::Refused(_)),
        };
        if is_stale {
            // The outcome stands, whether or not meta answers.
            let _ = self.cluster.refresh(&routes).await;
        }
        answer
    }
}

/// What became of an operation so far.
#[derive(Debug, Default)]
struct Progress {
    sent: Shared<bool>,
    last: RefCell<Option<Failure>>,
}

impl Progress {
    /// Whether there is use in another try; if so, why this one failed is kept.
    fn failed(&self, problem: Problem, class: Class) -> Result<(), Failure> {
        self.sent.set(false);
        let failure = match problem {
            Problem::Refused(failure) if failure.permanent => return Err(failure),
            Problem::Refused(failure) => failure,
            Problem::Lost(reason) => Failure::connection(Execution::Unknown, reason),
            Problem::Unsent(reason) => Failure::connection(Execution::NotExecuted, reason),
        };
        if class == Class::Write && failure.execution == Execution::Unknown {
            return Err(failure);
        }
        *self.last.borrow_mut() = Some(Failure {
            execution: Execution::NotExecuted,
            ..failure
        });
        Ok(())
    }

    /// The deadline came.
    fn expired(&self, class: Class, within: Duration) -> Failure {
        Failure::expired(class, within, self.sent.get(), self.last.take())
    }
}

/// An answer that says that the request was handled.
fn judged(answer: &Answer, class: Class) -> Result<(), Problem> {
    let (execution, permanent) = match answer.status {
        ErrorCode::Ok => return Ok(()),
        ErrorCode::ObjectNotFound
        | ErrorCode::InvalidState
        | ErrorCode::Busy
        | ErrorCode::NotEnoughMember
        | ErrorCode::CapacityExceeded
        | ErrorCode::ServiceNotActive => (Execution::NotExecuted, false),
        ErrorCode::InvalidData
        | ErrorCode::InvalidParameters
        | ErrorCode::HandlerNotFound
        | ErrorCode::AclDeny
        | ErrorCode::OperationDisabled => (Execution::NotExecuted, true),
        _ => (unknown(class), false),
    };
    let name = answer.status.name();
    Err(refused(name, execution, permanent, name.to_owned()))
}

/// Storage errors: what the server that handled a request says of its outcome.
fn checked(error: i32, class: Class) -> Result<(), Problem> {
    match error {
        storage::OK => Ok(()),
        storage::INVALID_ARGUMENT | storage::NOT_SUPPORTED => {
            let sentence = format!("storage error {error}: the request is refused");
            Err(refused("storage", Execution::NotExecuted, true, sentence))
        }
        other => {
            let sentence = format!("storage error {other}");
            Err(refused("storage", unknown(class), false, sentence))
        }
    }
}

fn unknown(class: Class) -> Execution {
    match class {
        Class::Read => Execution::NotExecuted,
        Class::Write => Execution::Unknown,
    }
}

fn written(answer: &Answer) -> Result<(), Problem> {
    let response: UpdateResponse<'_> = read_answer(answer)?;
    checked(response.error, Class::Write)
}

fn read_answer<'a, T: Decode<'a> + Default>(answer: &'a Answer) -> Result<T, Problem> {
    read_only_field(&mut Reader::new(&answer.result))
        .map_err(|error| refused("answer", Execution::Unknown, true, error.to_string()))
}

fn refused(code: &'static str, execution: Execution, permanent: bool, message: String) -> Problem {
    Problem::Refused(Failure {
        code: Cow::Borrowed(code),
        execution,
        permanent,
        message,
    })
}

fn raw(hash_key: &[u8], sort_key: &[u8]) -> Vec<u8> {
    RawKey { hash_key, sort_key }.to_vec()
}

/// What our own meta says of the table, if it is one of ours; otherwise what any meta does.
pub(super) async fn describe(
    form: Form,
    meta: &[String],
    table: &str,
) -> anyhow::Result<Description> {
    let cluster = Cluster::open(form, meta, table, CONNECT_TIMEOUT)
        .await
        .with_context(|| format!("table {table}"))?;
    let partitions = cluster.routes().partition_count();
    let native = super::native::describe(meta, table).await;
    let mut description = native.unwrap_or_else(|_| Description {
        server: "Apache Pegasus".to_owned(),
        partitions: Some(partitions),
        notes: BTreeMap::from([(
            "scan".to_owned(),
            "MULTI_GET from a record on, within its hash key".to_owned(),
        )]),
        ..Description::default()
    });
    form.name().clone_into(&mut description.protocol);
    Ok(description)
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a value of an answer is cut from.
type Frame = Bytes;
