//! Requests on their way in: the right core, the right partition, within bounds; then an event for the replication core.

use super::ShardLoop;
use super::answer::MeshMessage;
use super::arrivals::Waiting;
use super::atomic::AtomicTask;
use super::requests::{Measure, Origin, Pending, Work};
use super::throttling::{Delayed, Load, is_free};
use super::write::{Moment, Write, write_of};
use crate::clock;
use crate::directory::Table;
use crate::http::CoreState;
use crate::route_relay::{RouteAsker, RouteQuestion};
use crate::settings::Denial;
use crate::stats::of_operation;
use crate::stats::relay::{About, Ask, StatsQuestion};
use crate::throttle::Verdict;
use bytes::Bytes;
use pegasus_engine::Engine;
use pegasus_engine::value::seconds_since_epoch;
use pegasus_fbs::code::Code;
use pegasus_fbs::hash::{key_hash, partition_of};
use pegasus_fbs::stats_page::{Counter, PartitionSlot};
use pegasus_net::request::{
    CheckAndMutate, CheckAndSet, Failure, Key, MultiGet, MultiPut, MultiRemove, Mutate,
    OpenScanner, Operation, Request, Response, Scan, ScanRows,
};
use pegasus_net::{Arrival, ReplyTo};
use pegasus_replication::event::Event;
use pegasus_replication::ids::{Instant, PartitionId, RequestId, TableId};
use std::time::Duration;

/// For clients that name no deadline, and the most that any gets.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

impl ShardLoop {
    /// A request from a connection of this core.
    pub(super) fn take_request(&mut self, to: ReplyTo, request: Request, arrival: Arrival) {
        let (counter, timing) = of_operation(&request.operation);
        self.stats.count(counter);
        let untraced = Measure::untraced(timing, Instant(arrival.received_ns));
        match request.operation {
            Operation::Ping => self.send_answer(Origin::Here(to), untraced, Ok(Response::Pong)),
            Operation::Route { table_name } => self.ask_route(to, untraced, table_name),
            Operation::CoreStats { core } => {
                let about = About::Core(core.unwrap_or(self.address.core.0));
                self.ask_stats(to, untraced, about);
            }
            Operation::HotKeys { core } => {
                let about = About::HotKeys(core.unwrap_or(self.address.core.0));
                self.ask_stats(to, untraced, about);
            }
            Operation::Scrub { start } => self.ask_stats(to, untraced, About::Scrub { start }),
            Operation::Compact { table, start } => {
                self.ask_stats(to, untraced, About::Compact { table, start });
            }
            Operation::Redis(redis) => self.take_redis(to, redis, &arrival),
            Operation::Http(request) => self.ask_tool(to, untraced, Ask::Http(request)),
            Operation::RemoteCommand { name, arguments } => {
                self.ask_tool(to, untraced, Ask::Command { name, arguments });
            }
            _ => match self.other_core(&request) {
                Some(core) => self.hand_over(core, to, request, arrival),
                None => self.take_in(Origin::Here(to), request, untraced, arrival),
            },
        }
    }

    /// A request that another core of this node handed over.
    pub(super) fn take_handed_over(
        &mut self,
        core: usize,
        to: ReplyTo,
        request: Request,
        arrival: Arrival,
    ) {
        let (_, timing) = of_operation(&request.operation);
        let measure = Measure::untraced(timing, Instant(arrival.received_ns));
        self.take_in(Origin::Core { core, to }, request, measure, arrival);
    }

    /// At once, or when its table's turn comes.
    fn take_in(&mut self, origin: Origin, request: Request, measure: Measure, arrival: Arrival) {
        if self.arrivals.note(request.table) {
            return self.admit(origin, request, measure, &arrival);
        }
        let partition = partition_id(&request);
        let waiting = Waiting::Request {
            origin,
            request,
            measure,
            arrival,
        };
        self.keep_waiting(partition, waiting);
    }

    fn ask_route(&mut self, to: ReplyTo, measure: Measure, table_name: String) {
        let question = RouteQuestion {
            core: self.own_inbox.clone(),
            to: RouteAsker::Client(to),
            table_name,
        };
        if let Err(RouteQuestion {
            to: RouteAsker::Client(to),
            ..
        }) = self.relay.ask(question)
        {
            let failure = self.busy(Counter::RejectRequests, "too many questions for routes");
            self.refuse(Origin::Here(to), measure, failure);
        }
    }

    /// Tools take each core for a node of its own.
    fn ask_tool(&mut self, to: ReplyTo, measure: Measure, ask: Ask) {
        let state = CoreState {
            is_ready: !self.directory.nodes.is_empty() && !self.is_stopping(),
            failure: self.shard.failure().map(str::to_owned),
        };
        let core = self.address.core.0;
        self.ask_stats(to, measure, About::Tool { core, state, ask });
    }

    /// Any core answers for all of its node, without the help of the one that is asked about.
    fn ask_stats(&mut self, to: ReplyTo, measure: Measure, about: About) {
        let question = StatsQuestion {
            core: self.own_inbox.clone(),
            to,
            about,
        };
        if let Err(to) = self.stats_relay.ask(question) {
            let failure = self.busy(Counter::RejectRequests, "too many questions for statistics");
            self.refuse(Origin::Here(to), measure, failure);
        }
    }

    /// The core of this node that holds the partition, if it is another one.
    fn other_core(&self, request: &Request) -> Option<usize> {
        let partition = partition_id(request);
        let core = *self.directory.local.get(&partition)?;
        (core != self.address.core).then_some(usize::from(core.0))
    }

    fn hand_over(&mut self, core: usize, to: ReplyTo, request: Request, arrival: Arrival) {
        self.stats.count(Counter::MeshForwarded);
        let from = usize::from(self.address.core.0);
        let message = MeshMessage::Request {
            from,
            to,
            request,
            arrival,
        };
        if let Err(MeshMessage::Request { to, request, .. }) = self.mesh.send(core, message) {
            let failure = self.busy(
                Counter::RejectRequests,
                "the ring to the owning core is full",
            );
            let (_, timing) = of_operation(&request.operation);
            let key_hash = key_hash_of(&request.operation);
            let stats = &mut self.stats;
            let measure = Measure {
                timing,
                received: Instant(arrival.received_ns),
                trace: stats.begin(timing, &request, key_hash, &arrival, self.now),
                slot: PartitionSlot::NONE,
            };
            self.refuse(Origin::Here(to), measure, failure);
        }
    }

    pub(super) fn admit(
        &mut self,
        origin: Origin,
        request: Request,
        mut measure: Measure,
        arrival: &Arrival,
    ) {
        let partition = partition_id(&request);
        let key_hash = key_hash_of(&request.operation);
        let stats = &mut self.stats;
        measure.trace = stats.begin(measure.timing, &request, key_hash, arrival, self.now);
        measure.slot = stats.count_request(partition, measure.timing);
        if let (Some(name), Some(hash)) = (key_of(&request.operation), key_hash) {
            stats.note_key(partition, request.operation.is_write(), hash, name);
        }
        if let Some(table) = self.directory.tables.get(&partition.table) {
            if let Some(denial) = table.settings.denial(request.operation.is_write()) {
                return self.deny(origin, measure, denial);
            }
            let is_write = request.operation.is_write();
            if table.settings.throttles().is_some()
                || self.throttling.holds_back(partition, is_write)
            {
                return self.admit_throttled(origin, request, measure);
            }
        }
        self.start_hashed(origin, request, measure, key_hash);
    }

    fn admit_throttled(&mut self, origin: Origin, request: Request, measure: Measure) {
        let bytes = match &origin {
            Origin::Here(to) | Origin::Core { to, .. } => to.request_bytes() as u64,
            Origin::Part(_) | Origin::Direct(_) | Origin::CorePart { .. } | Origin::Peer { .. } => {
                0
            }
        };
        let is_write = request.operation.is_write();
        let verdict = if is_free(&request.operation) {
            Verdict::Pass
        } else {
            self.judge(Load {
                partition: partition_id(&request),
                is_write,
                bytes,
                timeout: timeout_of(&request),
            })
        };
        match verdict {
            Verdict::Pass => self.start(origin, request, measure),
            Verdict::Delay(_) if self.is_over_share(TableId(request.table)) => {
                let failure = self.over_share();
                self.refuse(origin, measure, failure);
            }
            Verdict::Delay(pause) => {
                let delayed = Delayed::Request {
                    origin,
                    request,
                    measure,
                };
                self.delay(pause, is_write, delayed);
            }
            Verdict::Reject(pause) => self.reject_throttled(pause, is_write, origin, measure),
        }
    }

    /// Past all that operators have set.
    pub(super) fn start(&mut self, origin: Origin, request: Request, measure: Measure) {
        let key_hash = key_hash_of(&request.operation);
        self.start_hashed(origin, request, measure, key_hash);
    }

    fn start_hashed(
        &mut self,
        origin: Origin,
        request: Request,
        measure: Measure,
        key_hash: Option<u64>,
    ) {
        let partition = partition_id(&request);
        let deadline = measure.received.after(timeout_of(&request));
        match self.prepare(partition, request.operation, key_hash) {
            Ok(prepared) => self.decide_request(prepared, origin, partition, deadline, measure),
            Err(failure) => self.refuse(origin, measure, failure),
        }
    }

    fn deny(&mut self, origin: Origin, measure: Measure, denial: Denial) {
        let reply = match denial {
            Denial::Silent => Ok(Response::Silent),
            Denial::Refused => Err(denied()),
        };
        self.send_answer(origin, measure, reply);
    }

    /// Checks all that can be checked without the replica's state.
    fn prepare(
        &mut self,
        partition: PartitionId,
        operation: Operation,
        key_hash: Option<u64>,
    ) -> Result<Prepared, Failure> {
        if self.is_stopping() {
            self.asked_at = self.now;
            return Err(Failure::new(Code::NotServing, "this node is stopping"));
        }
        if self.is_over_share(partition.table) {
            return Err(self.over_share());
        }
        let Some(table) = self.directory.tables.get(&partition.table) else {
            return Err(self.unknown_table(partition));
        };
        check_partition(&operation, key_hash, partition, table)?;
        let wall_us = clock::wall_us();
        let now_s = seconds_since_epoch(wall_us);
        if operation.is_write() {
            let moment = Moment {
                now_s,
                default_ttl_seconds: table.default_ttl_seconds,
            };
            let gate = gate_of(&operation, key_hash);
            let (work, ask) = match self.written(operation, moment)? {
                Written::Blind(write) => write.work(gate, wall_us),
                Written::Atomic(task) => {
                    let request_id = task.request_id;
                    let ask = Wanted::Atomic {
                        request_id,
                        gate,
                        wall_us,
                    };
                    (Work::Atomic(Box::new(task)), ask)
                }
            };
            Ok(Prepared {
                work,
                ask,
                scanner: None,
            })
        } else {
            let (task, scanner) = self.read_of(partition, operation, now_s)?;
            Ok(Prepared {
                work: Work::Read(task),
                ask: Wanted::Read,
                scanner: scanner.map(Box::new),
            })
        }
    }

    /// Writes with an identity take the way of atomic operations, because they must not be done twice.
    fn written(&self, operation: Operation, moment: Moment) -> Result<Written, Failure> {
        let bytes_max = self.write_bytes_max;
        match AtomicTask::of(operation, moment, bytes_max)? {
            Ok(task) => Ok(Written::Atomic(task)),
            Err(operation) => {
                let write = write_of(operation, moment, bytes_max)?;
                Ok(if write.request_id == RequestId::default() {
                    Written::Blind(write)
                } else {
                    Written::Atomic(AtomicTask::blind(write))
                })
            }
        }
    }

    fn decide_request(
        &mut self,
        prepared: Prepared,
        origin: Origin,
        partition: PartitionId,
        deadline: Instant,
        measure: Measure,
    ) {
        let Prepared { work, ask, scanner } = prepared;
        let ticket = self.requests.insert(Pending {
            origin,
            partition,
            measure,
            deadline,
            work,
            scanner,
        });
        let event = match ask {
            Wanted::Write {
                gate,
                wall_us,
                payload,
            } => {
                self.engine.foresee(partition, &payload);
                Event::Write {
                    partition,
                    ticket,
                    request_id: RequestId::default(),
                    gate,
                    wall_us,
                    payload,
                    deadline,
                }
            }
            Wanted::Atomic {
                request_id,
                gate,
                wall_us,
            } => {
                self.decide(Event::Atomic {
                    partition,
                    ticket,
                    request_id,
                    gate,
                    wall_us,
                    deadline,
                });
                return;
            }
            Wanted::Read => Event::Read {
                partition,
                ticket,
                deadline,
            },
        };
        let appended = self.shard.log().appended_count();
        self.decide(event);
        let number = self.shard.log().appended_count();
        if number > appended {
            self.waits.on_append(number, measure.trace);
        }
    }

    /// Meta has named no such table; before it has named any, nobody can say so.
    pub(super) fn unknown_table(&self, partition: PartitionId) -> Failure {
        if self.directory.tables.is_empty() {
            return Failure::new(Code::NotServing, "this node has not heard from meta yet");
        }
        Failure::new(
            Code::UnknownTable,
            format!("table {} is not known here", partition.table),
        )
    }
}

/// What the replication core is asked.
enum Wanted {
    Read,
    /// Of a write without an identity.
    Write {
        gate: u64,
        wall_us: u64,
        payload: Bytes,
    },
    Atomic {
        request_id: RequestId,
        gate: u64,
        wall_us: u64,
    },
}

/// What is to be written.
enum Written {
    Blind(Write),
    /// Once its turn has come.
    Atomic(AtomicTask),
}

impl Write {
    fn work(self, gate: u64, wall_us: u64) -> (Work, Wanted) {
        let work = Work::Write {
            count: self.count,
            rows: self.rows,
            bytes: self.payload.len(),
        };
        let payload = self.payload;
        let ask = Wanted::Write {
            gate,
            wall_us,
            payload,
        };
        (work, ask)
    }
}

/// A request that may go to the replication core.
struct Prepared {
    work: Work,
    ask: Wanted,
    /// The scanner of which this is a page.
    scanner: Option<Box<OpenScanner>>,
}

pub(super) fn timeout_of(request: &Request) -> Duration {
    request.timeout.unwrap_or(TIMEOUT_DEFAULT).min(TIMEOUT_MAX)
}

pub(super) const fn partition_id(request: &Request) -> PartitionId {
    PartitionId {
        table: TableId(request.table),
        index: request.partition,
    }
}

/// The hash of the key of an operation on one key or one hash key, as it picks the partition.
fn key_hash_of(operation: &Operation) -> Option<u64> {
    let (hash_key, sort_key) = key_of(operation)?;
    Some(key_hash(hash_key, sort_key))
}

/// The gate of an operation: the hash of its hash key. All rows with an empty hash key have one.
fn gate_of(operation: &Operation, key_hash: Option<u64>) -> u64 {
    match (key_of(operation), key_hash) {
        (Some(([_, ..], _)), Some(key_hash)) => key_hash,
        _ => 0,
    }
}

/// Hash key and sort key of an operation on one key or one hash key.
fn key_of(operation: &Operation) -> Option<(&[u8], &[u8])> {
    Some(match operation {
        Operation::Get(key) | Operation::Exist(key) | Operation::Ttl(key) => {
            (&key.hash_key, &key.sort_key)
        }
        Operation::Put(put) => (&put.key.hash_key, &put.key.sort_key),
        Operation::Remove(remove) => (&remove.key.hash_key, &remove.key.sort_key),
        Operation::Incr(incr) => (&incr.key.hash_key, &incr.key.sort_key),
        Operation::MultiPut(MultiPut { hash_key, .. })
        | Operation::MultiRemove(MultiRemove { hash_key, .. })
        | Operation::CheckAndSet(CheckAndSet { hash_key, .. })
        | Operation::CheckAndMutate(CheckAndMutate { hash_key, .. })
        | Operation::MultiGet(MultiGet { hash_key, .. })
        | Operation::SortKeyCount { hash_key }
        | Operation::Scan(Scan {
            rows: ScanRows::OfHashKey { hash_key, .. },
            ..
        }) => (hash_key, b""),
        _ => return None,
    })
}

/// Rows never go to a partition that readers would not look into.
fn check_partition(
    operation: &Operation,
    key_hash: Option<u64>,
    partition: PartitionId,
    table: &Table,
) -> Result<(), Failure> {
    let index = partition.index;
    if index >= table.partition_count {
        let message = format!(
            "table {} has {} partitions, there is no {index}",
            table.name, table.partition_count
        );
        return Err(Failure::new(Code::InvalidArgument, message));
    }
    let is_owner = |hash_key: &[u8], sort_key: &[u8]| {
        partition_of(hash_key, sort_key, table.partition_count) == index
    };
    // Rows with an empty hash key are spread by their sort key: a range of them lies in every partition.
    let is_range_owner = |hash_key: &[u8]| hash_key.is_empty() || is_owner(hash_key, b"");
    let is_right =
        match operation {
            Operation::Get(_)
            | Operation::Exist(_)
            | Operation::Ttl(_)
            | Operation::Put(_)
            | Operation::Remove(_)
            | Operation::Incr(_) => key_hash
                .is_some_and(|hash| hash % u64::from(table.partition_count) == u64::from(index)),
            Operation::MultiPut(MultiPut { hash_key, rows, .. }) => owns_all(
                hash_key,
                rows.iter().map(|(sort_key, _)| &sort_key[..]),
                &is_owner,
            ),
            Operation::MultiRemove(MultiRemove {
                hash_key,
                sort_keys,
                ..
            }) => owns_all(
                hash_key,
                sort_keys.iter().map(|sort_key| &sort_key[..]),
                &is_owner,
            ),
            Operation::CheckAndSet(CheckAndSet {
                hash_key,
                check,
                set_sort_key,
                ..
            }) => {
                let set = set_sort_key.as_ref().map(|sort_key| &sort_key[..]);
                let sort_keys = std::iter::once(&check.sort_key[..]).chain(set);
                owns_all(hash_key, sort_keys, &is_owner)
            }
            Operation::CheckAndMutate(CheckAndMutate {
                hash_key,
                check,
                mutations,
                ..
            }) => {
                let mutated = mutations.iter().filter_map(Mutate::sort_key);
                let sort_keys = std::iter::once(&check.sort_key[..]).chain(mutated);
                owns_all(hash_key, sort_keys, &is_owner)
            }
            Operation::MultiGet(MultiGet { hash_key, .. })
            | Operation::SortKeyCount { hash_key } => is_range_owner(hash_key),
            Operation::BatchGet(keys) => keys
                .iter()
                .all(|Key { hash_key, sort_key }| is_owner(hash_key, sort_key)),
            Operation::Scan(Scan {
                rows: ScanRows::OfHashKey { hash_key, .. },
                ..
            }) => is_range_owner(hash_key),
            Operation::Scan(_)
            | Operation::OpenScanner(_)
            | Operation::NextPage { .. }
            | Operation::CloseScanner { .. }
            | Operation::Invalid(_)
            | Operation::RemoteCommand { .. }
            | Operation::Http(_)
            | Operation::Redis(_)
            | Operation::Route { .. }
            | Operation::Ping
            | Operation::CoreStats { .. }
            | Operation::HotKeys { .. }
            | Operation::Scrub { .. }
            | Operation::Compact { .. } => true,
        };
    if is_right {
        return Ok(());
    }
    Err(Failure::new(
        Code::InvalidArgument,
        format!("the key does not belong to partition {partition}"),
    ))
}

fn owns_all<'a>(
    hash_key: &[u8],
    mut sort_keys: impl Iterator<Item = &'a [u8]>,
    is_owner: &impl Fn(&[u8], &[u8]) -> bool,
) -> bool {
    if hash_key.is_empty() {
        return sort_keys.all(|sort_key| is_owner(hash_key, sort_key));
    }
    is_owner(hash_key, b"")
}

/// What clients of a table are told whose requests an operator has denied.
pub(super) fn denied() -> Failure {
    let message =
        "an operator has denied such requests to this table (replica.deny_client_request)";
    Failure::new(Code::NotServing, message)
}
