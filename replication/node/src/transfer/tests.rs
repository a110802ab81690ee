#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::frames::{Entries, Open};
use super::*;
use crate::connection::Connection;
use crate::inbox::{CoreInput, inbox};
use crate::log_file::segment_path;
use bytes::Bytes;
use crossbeam_channel::Receiver;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{FrameKind, Header};
use pegasus_net::{LeaseTerms, Waker};
use pegasus_replication::ids::{Ballot, CoreAddress, NodeId, RequestId, TableId};
use pegasus_replication::log::recover::{SegmentSource, recover};
use pegasus_replication::log::{LogIdentity, LogOptions, Position, Record, SegmentId, ShardLog};
use pegasus_replication::message::{Entry, Mutation};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use tempfile::TempDir;

const CLUSTER: u128 = 77;
const WAIT: Duration = Duration::from_secs(20);

/// One node of one core whose core is the test.
struct End {
    node: u32,
    transfers: Option<Transfers>,
    threads: Option<TransferThreads>,
    address: std::net::SocketAddr,
    inbox: Receiver<CoreInput>,
    dir: Option<TempDir>,
}

impl End {
    fn start(node: u32, token: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["log", "learn"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let (sender, inbox) = inbox(Waker::new().unwrap());
        let core = TransferCore {
            log_dir: dir.path().join("log"),
            learn_dir: dir.path().join("learn"),
            inbox: sender,
        };
        let identity = Identity {
            cluster: CLUSTER,
            node,
            core: 0,
            node_incarnation: 1,
            disk_format: 1,
            token: token.into(),
            leases: LeaseTerms::default(),
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let options = TransferOptions {
            bytes_per_second: 1 << 30,
            sessions_max: 1,
        };
        let (transfers, threads) =
            Transfers::start(listener, identity, vec![core], options, || {}).unwrap();
        Self {
            node,
            transfers: Some(transfers),
            threads: Some(threads),
            address,
            inbox,
            dir: Some(dir),
        }
    }

    fn learn(&self) -> PathBuf {
        self.path().join("learn")
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.transfers.as_ref().unwrap().shared
    }

    fn fetch(&self, source: &Self, wanted: Wanted) -> Arc<AtomicBool> {
        let job = self.job(source, partition(), wanted);
        let is_cancelled = Arc::clone(&job.is_cancelled);
        self.transfers.as_ref().unwrap().fetch(job).unwrap();
        is_cancelled
    }

    fn job(&self, source: &Self, partition: PartitionId, wanted: Wanted) -> FetchJob {
        FetchJob {
            number: self.transfers.as_ref().unwrap().next_job(),
            core: CoreId(0),
            partition,
            source: CoreAddress {
                node: NodeId(source.node),
                core: CoreId(0),
            },
            source_incarnation: INCARNATION,
            source_address: source.address,
            wanted,
            is_cancelled: Arc::default(),
        }
    }

    /// Plays the core: everything has to be read. Returns of how many replicas.
    fn tell_start(&self) -> usize {
        let CoreInput::LogStart(request) = self.inbox.recv_timeout(WAIT).unwrap() else {
            panic!("not asked for a place in the log");
        };
        request.answer.send(Position::START).unwrap();
        request.ranges.len()
    }

    /// What this core is told next.
    fn told(&self) -> Fetched {
        match self.inbox.recv_timeout(WAIT).unwrap() {
            CoreInput::Fetched(fetched) => fetched,
            other => panic!("told {other:?}"),
        }
    }

    /// Plays the core: links `files` aside when somebody asks.
    fn export(&self, files: &[(&str, Vec<u8>)]) {
        let CoreInput::Export(request) = self.inbox.recv_timeout(WAIT).unwrap() else {
            panic!("not asked for an export");
        };
        assert_eq!(request.partition, partition());
        fs::create_dir(&request.directory).unwrap();
        for (name, bytes) in files {
            fs::write(request.directory.join(name), bytes).unwrap();
        }
        let exported = Exported {
            decree: Decree(9),
            ballot: Ballot(2),
        };
        request.answer.send(Ok(exported)).unwrap();
    }
}

impl End {
    /// Ends the threads; the directory stays.
    fn stop(mut self) -> Option<TempDir> {
        self.end_threads();
        self.dir.take()
    }

    fn end_threads(&mut self) {
        drop(self.transfers.take());
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
    }

    fn path(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.end_threads();
    }
}

const INCARNATION: ReplicaIncarnation = ReplicaIncarnation(5);

const fn partition() -> PartitionId {
    PartitionId {
        table: TableId(1),
        index: 3,
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn read_all(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn a_checkpoint_arrives_whole_and_its_links_are_gone_afterwards() {
    let (source, learner) = (End::start(1, "secret"), End::start(2, "secret"));
    let files = [
        ("000007.sst", noise(3_000_000)),
        ("000009.sst", vec![0; 100]),
        ("EXPORT", b"description".to_vec()),
        ("empty", Vec::new()),
    ];
    learner.fetch(&source, Wanted::Checkpoint);
    source.export(&files);
    let Fetched::Checkpoint { directory, .. } = learner.told() else {
        panic!("no checkpoint");
    };
    let expected = files.map(|(name, bytes)| (name.to_owned(), bytes));
    assert_eq!(read_all(&directory), BTreeMap::from(expected));
    // Closing the connection is the session's end, and stopping waits for it.
    drop(learner);
    let learn = source.learn();
    let dir = source.stop();
    assert_eq!(fs::read_dir(&learn).unwrap().count(), 0);
    drop(dir);
}

#[test]
fn what_has_arrived_before_is_not_fetched_again() {
    let (source, learner) = (End::start(1, ""), End::start(2, ""));
    let table = noise(2_500_000);
    let own = learner
        .learn()
        .join(format!("{}-from-1.0-{INCARNATION}", partition()));
    fs::create_dir(&own).unwrap();
    // A whole file whose contents show that it was kept, a part, and what another attempt has left.
    fs::write(own.join("000007.sst"), b"kept").unwrap();
    fs::write(own.join("000009.sst.part"), &table[..1_000_000]).unwrap();
    fs::write(own.join("000001.sst"), b"compacted away").unwrap();
    fs::write(own.join("EXPORT"), b"old words").unwrap();
    let other = learner.learn().join(format!("{}-from-4.0-1", partition()));
    fs::create_dir(&other).unwrap();
    learner.fetch(&source, Wanted::Checkpoint);
    source.export(&[
        ("000007.sst", b"1234".to_vec()),
        ("000009.sst", table.clone()),
        ("EXPORT", b"new words".to_vec()),
    ]);
    let Fetched::Checkpoint { directory, .. } = learner.told() else {
        panic!("no checkpoint");
    };
    let found = read_all(&directory);
    assert_eq!(found["000007.sst"], b"kept");
    assert_eq!(found["000009.sst"], table);
    assert_eq!(found["EXPORT"], b"new words");
    assert_eq!(found.len(), 3);
    assert!(!other.exists());
}

#[test]
fn a_refusal_and_a_wrong_token_are_told_by_a_sentence() {
    let (source, learner) = (End::start(1, "secret"), End::start(2, "secret"));
    learner.fetch(&source, Wanted::Checkpoint);
    let CoreInput::Export(request) = source.inbox.recv_timeout(WAIT).unwrap() else {
        panic!("not asked for an export");
    };
    request.answer.send(Err("quarantined".to_owned())).unwrap();
    let Fetched::Failed {
        error, is_missing, ..
    } = learner.told()
    else {
        panic!("no failure");
    };
    assert!(error.contains("quarantined"), "{error}");
    assert!(!is_missing, "{error}");

    let stranger = End::start(3, "guess");
    stranger.fetch(&source, Wanted::Checkpoint);
    let Fetched::Failed { error, .. } = stranger.told() else {
        panic!("no failure");
    };
    assert!(error.contains("token"), "{error}");
}

#[test]
fn nobody_waits_for_a_source_that_is_gone() {
    let learner = End::start(2, "");
    let gone = End::start(1, "");
    let address = gone.address;
    drop(gone);
    let mut source = End::start(4, "");
    source.address = address;
    learner.fetch(&source, Wanted::Checkpoint);
    assert!(matches!(learner.told(), Fetched::Failed { .. }));
}

/// The files of a log with `count` entries of one replica and as many of another.
fn write_log(dir: &Path, node: u32, count: u64) {
    struct Nothing;
    impl SegmentSource for Nothing {
        fn segments(&self) -> Vec<(SegmentId, u64)> {
            Vec::new()
        }
        fn read(&mut self, _: SegmentId, _: u64, _: usize) -> Result<Bytes, String> {
            Err("there is nothing".to_owned())
        }
    }
    let identity = LogIdentity {
        cluster: CLUSTER,
        node: NodeId(node),
        shard: CoreId(0),
    };
    let start = recover(&mut Nothing, identity, &BTreeMap::new())
        .unwrap()
        .start;
    let options = LogOptions {
        segment_bytes: 1 << 20,
        ..LogOptions::default()
    };
    let mut log = ShardLog::new(options, start);
    for decree in 1..=count {
        for index in [3, 4] {
            log.append(Record::Entry {
                partition: PartitionId {
                    index,
                    ..partition()
                },
                incarnation: INCARNATION,
                committed: Decree(decree - 1),
                entry: entry(decree),
            });
        }
        flush(&mut log, dir, 1 << 20);
    }
}

fn flush(log: &mut ShardLog, dir: &Path, segment_bytes: u64) {
    loop {
        while let Some(segment) = log.segment_to_prepare() {
            let file = fs::File::create(segment_path(dir, segment)).unwrap();
            file.set_len(segment_bytes).unwrap();
            log.on_segment_ready(segment).unwrap();
        }
        let Some(write) = log.next_write() else { break };
        let path = segment_path(dir, write.segment);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&write.bytes, write.offset).unwrap();
        log.on_durable(write.id);
    }
}

fn entry(decree: u64) -> Entry {
    Entry {
        ballot: Ballot(1),
        decree: Decree(decree),
        mutation: Mutation {
            timestamp_us: decree,
            request_id: RequestId {
                client: 1,
                sequence: decree,
            },
            payload: Bytes::from(noise(40_000 + usize::try_from(decree).unwrap())),
        },
    }
}

#[test]
fn the_log_behind_a_decree_arrives_in_pieces_while_the_core_takes_them() {
    let (source, learner) = (End::start(1, ""), End::start(2, ""));
    write_log(&source.path().join("log"), 1, 200);
    let wanted = Wanted::Log {
        after: Decree(20),
        up_to: Decree(190),
    };
    learner.fetch(&source, wanted);
    assert_eq!(source.tell_start(), 1);
    let (mut received, mut pieces) = (Vec::new(), 0);
    loop {
        let Fetched::Entries {
            entries, is_last, ..
        } = learner.told()
        else {
            panic!("no entries");
        };
        received.extend(entries);
        pieces += 1;
        if is_last {
            break;
        }
    }
    let expected: Vec<Entry> = (21..=190).map(entry).collect();
    assert_eq!(received, expected);
    assert!(pieces > 5, "{pieces} pieces");
}

#[test]
fn entries_that_the_log_does_not_hold_are_refused() {
    let (source, learner) = (End::start(1, ""), End::start(2, ""));
    write_log(&source.path().join("log"), 1, 10);
    let wanted = Wanted::Log {
        after: Decree(5),
        up_to: Decree(50),
    };
    learner.fetch(&source, wanted);
    source.tell_start();
    let (error, is_missing) = loop {
        match learner.told() {
            Fetched::Failed {
                error, is_missing, ..
            } => break (error, is_missing),
            Fetched::Entries { is_last, .. } => assert!(!is_last),
            other => panic!("{other:?}"),
        }
    };
    assert!(error.contains("does not hold decree 11"), "{error}");
    assert!(is_missing, "{error}");
}

#[test]
fn a_job_that_is_not_wanted_any_more_ends_without_a_word() {
    let (source, learner) = (End::start(1, ""), End::start(2, ""));
    write_log(&source.path().join("log"), 1, 200);
    let wanted = Wanted::Log {
        after: Decree(0),
        up_to: Decree(200),
    };
    let is_cancelled = learner.fetch(&source, wanted);
    source.tell_start();
    let first = learner.told();
    is_cancelled.store(true, Ordering::Release);
    drop(first);
    let next = Wanted::Log {
        after: Decree(7),
        up_to: Decree(8),
    };
    learner.fetch(&source, next);
    source.tell_start();
    loop {
        match learner.told() {
            Fetched::Entries {
                job: 1, entries, ..
            } => {
                assert_eq!(entries, [entry(8)]);
                break;
            }
            Fetched::Entries { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// What came for each partition until its end, and who was told that the log lacks something.
fn told_of_all(learner: &End, count: usize) -> (BTreeMap<u32, Vec<Entry>>, Vec<u32>) {
    let (mut received, mut missing): (BTreeMap<u32, Vec<Entry>>, Vec<u32>) = Default::default();
    let mut ended = 0;
    while ended < count {
        match learner.told() {
            Fetched::Entries {
                partition,
                entries,
                is_last,
                ..
            } => {
                received.entry(partition.index).or_default().extend(entries);
                ended += usize::from(is_last);
            }
            Fetched::Failed {
                partition,
                is_missing,
                error,
                ..
            } => {
                assert!(is_missing, "{error}");
                missing.push(partition.index);
                ended += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    (received, missing)
}

/// Of partitions 3 and 4 as the log has them, and of 5, which it has not.
fn three_jobs(learner: &End, source: &End) -> Vec<FetchJob> {
    let job = |(index, after, up_to)| {
        let partition = PartitionId {
            index,
            ..partition()
        };
        let wanted = Wanted::Log {
            after: Decree(after),
            up_to: Decree(up_to),
        };
        learner.job(source, partition, wanted)
    };
    [(4, 150, 200), (5, 2, 9), (3, 10, 90)].map(job).into()
}

#[test]
fn one_session_brings_the_logs_of_several_replicas() {
    let (source, learner) = (End::start(1, ""), End::start(2, ""));
    write_log(&source.path().join("log"), 1, 200);
    let jobs = three_jobs(&learner, &source);
    std::thread::scope(|scope| {
        scope.spawn(|| fetch::logs(learner.shared(), jobs));
        assert_eq!(source.tell_start(), 3);
        let (received, missing) = told_of_all(&learner, 3);
        assert_eq!(received[&4], (151..=200).map(entry).collect::<Vec<_>>());
        assert_eq!(received[&3], (11..=90).map(entry).collect::<Vec<_>>());
        assert_eq!(missing, [5]);
    });
}

#[test]
fn a_node_that_gives_one_log_in_a_session_is_asked_for_one_after_the_other() {
    let (mut source, learner) = (End::start(1, ""), End::start(2, ""));
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    source.address = listener.local_addr().unwrap();
    let jobs = three_jobs(&learner, &source);
    std::thread::scope(|scope| {
        scope.spawn(|| fetch::logs(learner.shared(), jobs));
        for index in [4, 5, 3] {
            let (stream, _) = listener.accept().unwrap();
            let mut connection = Connection::over(stream, WAIT).unwrap();
            serve::greet(source.shared(), &mut connection).unwrap();
            let frame = connection.receive().unwrap();
            let Open::Log(ranges) = Open::decode(&frame.body).unwrap() else {
                panic!("not asked for a log");
            };
            assert_eq!(ranges[0].partition.index, index);
            if index == 5 {
                let header = Header::request(FrameKind::TransferOpen, 0);
                let refusal = "the log does not hold decree 3";
                connection.refuse(&header, Code::NotFound, refusal).unwrap();
                continue;
            }
            let entries = Entries {
                partition: None,
                entries: vec![entry(ranges[0].after.0 + 1)],
                committed: Decree::ZERO,
                is_last: true,
                missing: None,
            };
            connection
                .send(FrameKind::TransferEntries, &entries.encode().unwrap())
                .unwrap();
        }
        let (received, missing) = told_of_all(&learner, 3);
        assert_eq!(received[&4], [entry(151)]);
        assert_eq!(received[&3], [entry(11)]);
        assert_eq!(missing, [5]);
    });
}
