#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;
use crate::config::ByteSize;
use crate::inbox::inbox;
use crate::meta_link::{MetaMail, mailbox};
use crossbeam_channel::Receiver;
use pegasus_backup::files::{AppMetadata, BackupInfo};
use pegasus_backup::{TargetConfig, layout};
use pegasus_engine::rocks::{EngineOptions, NoticeSink};
use pegasus_engine::{Batch, Engine, Op, RocksEngine, ScanSpec, key};
use pegasus_net::Waker;
use pegasus_replication::ids::{Ballot, ReplicaIncarnation, RequestId, TableId};
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(60);
const ROWS: u64 = 500;

fn key_of(index: u32) -> ReplicaKey {
    ReplicaKey {
        partition: PartitionId {
            table: TableId(4),
            index,
        },
        incarnation: ReplicaIncarnation(1),
    }
}

/// A node of one core, which is the test; meta is the test too.
struct Home {
    backups: Option<Backups>,
    thread: Option<JoinHandle<()>>,
    engine: RocksEngine,
    inbox: Receiver<CoreInput>,
    mail: Receiver<MetaMail>,
    created: Vec<(ReplicaKey, Result<Decree, String>)>,
    directory: TempDir,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.backups = None;
        let _ = self.thread.take().unwrap().join();
    }
}

impl Home {
    fn new() -> Self {
        Self::with_pace(0)
    }

    fn with_pace(bytes_per_second: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let learn_dir = directory.path().join("learn");
        fs::create_dir(&learn_dir).unwrap();
        let options = EngineOptions::default();
        let sink = NoticeSink::new(|_| ());
        let opened = RocksStore::open(&directory.path().join("db"), &options, sink).unwrap();
        let (sender, inbox) = inbox(Waker::new().unwrap());
        let (meta, mail) = mailbox();
        let target = directory.path().join("target").display().to_string();
        let targets = [
            ("here", format!("file://{target}")),
            ("gone", format!("file://{target}/not/mounted")),
        ];
        let targets = targets.map(|(name, url)| (name.to_owned(), TargetConfig::of_url(&url)));
        let parts = BackupParts {
            config: BackupConfig {
                bytes_per_second: ByteSize(bytes_per_second),
                targets: targets.into_iter().collect(),
                ..BackupConfig::default()
            },
            cores: vec![BackupCore {
                store: opened.store,
                inbox: sender,
                address: "127.0.0.1:34801".parse().unwrap(),
                learn_dir,
            }],
            source: "cluster/1".to_owned(),
            meta,
            room: Box::new(|| u64::MAX),
        };
        let (backups, thread) = Backups::start(parts, || ()).unwrap();
        Self {
            backups: Some(backups),
            thread: Some(thread),
            engine: opened.engine,
            inbox,
            mail,
            created: Vec::new(),
            directory,
        }
    }

    fn backups(&self) -> &Backups {
        self.backups.as_ref().unwrap()
    }

    fn create(&self, index: u32) {
        let key = key_of(index);
        let created = self
            .engine
            .store()
            .create(&[(key.partition, key.incarnation)]);
        assert_eq!(created, [Ok(())]);
    }

    fn put(&mut self, index: u32, number: u64, value: &str) {
        let partition = key_of(index).partition;
        let last = self.engine.last_applied(partition).unwrap().decree;
        let put = Op::Put {
            key: key::encode(b"h", format!("{number:06}").as_bytes()).unwrap(),
            value: value.as_bytes().to_vec().into(),
            expire_at: 0,
        };
        let batch = Batch::from_ops(&[put]).unwrap().encode();
        let ballot = Ballot::new(0, 1);
        self.engine
            .apply(
                partition,
                last.next(),
                ballot,
                1,
                RequestId::default(),
                &batch,
            )
            .unwrap();
    }

    fn fill(&mut self, index: u32) {
        self.create(index);
        for number in 0..ROWS {
            self.put(
                index,
                number,
                &format!("value {number} {}", "x".repeat(200)),
            );
        }
    }

    fn rows(&self, index: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let mut from = Bound::Unbounded;
        loop {
            let spec = ScanSpec::new(from, Bound::Unbounded, 0);
            let store = self.engine.store();
            let page = store.scan(key_of(index).partition, &spec).unwrap();
            let Some(last) = page.rows.last() else {
                return rows;
            };
            from = Bound::Excluded(last.key.clone());
            let pairs = page.rows.iter();
            rows.extend(pairs.map(|row| (row.key.to_vec(), row.row.data.to_vec())));
        }
    }

    /// Does what a core does until meta has been told what `wanted` finds.
    fn until<T>(&mut self, mut wanted: impl FnMut(&MetaMail) -> Option<T>) -> T {
        let started = Instant::now();
        while started.elapsed() < WAIT {
            self.work();
            if let Ok(mail) = self.mail.recv_timeout(Duration::from_millis(5))
                && let Some(found) = wanted(&mail)
            {
                self.work();
                return found;
            }
        }
        panic!("meta has not been told within {WAIT:?}");
    }

    fn work(&mut self) {
        while let Ok(input) = self.inbox.try_recv() {
            match input {
                CoreInput::LayOut(LayOutRequest {
                    partition,
                    directory,
                    answer,
                    ..
                }) => {
                    self.engine.begin_flush(partition).unwrap();
                    let laid_out = self.engine.store().lay_out(partition, &directory, 0);
                    let _ = answer.send(laid_out.map_err(|error| error.to_string()));
                }
                CoreInput::Pool(PoolDone::Created {
                    partition,
                    incarnation,
                    result,
                }) => {
                    let key = ReplicaKey {
                        partition,
                        incarnation,
                    };
                    self.created.push((key, result));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn order(&self, id: u64, base: u64, target: &str) -> BackupOrder {
        let order = BackupOrder {
            backup_id: id,
            key: key_of(0),
            table_name: "t".to_owned(),
            target: target.to_owned(),
            root: "root".to_owned(),
            base_id: base,
            bytes_per_second: 0,
            cancel: false,
        };
        self.backups().order(order.clone());
        order
    }

    /// The last word about backup `id`.
    fn backup_ends(&mut self, id: u64) -> BackupReport {
        self.until(|mail| {
            let MetaMail::Backups { backups, .. } = mail else {
                panic!("{mail:?}");
            };
            let ended = |report: &&BackupReport| {
                report.backup_id == id && report.state != RunState::Running
            };
            backups.iter().find(ended).cloned()
        })
    }

    /// As meta and the core of partition `index` do for a restore of backup `id` of partition 0.
    fn order_restore(&self, index: u32, id: u64, attempt: u32, make_empty: bool) {
        self.backups().restore(RestoreOrder {
            key: key_of(index),
            target: "here".to_owned(),
            root: "root".to_owned(),
            backup_id: id,
            table_name: "t".to_owned(),
            table_id: 4,
            make_empty,
            attempt,
        });
        assert!(self.backups().takes_over(CoreId(0), key_of(index)));
    }

    fn restore_ends(&mut self, index: u32) -> RestoreReport {
        self.until(|mail| {
            let MetaMail::Backups { restores, .. } = mail else {
                panic!("{mail:?}");
            };
            let ended = |report: &&RestoreReport| {
                report.key == key_of(index) && report.state != RunState::Running
            };
            restores.iter().find(ended).cloned()
        })
    }

    fn partition_dir(&self, id: u64) -> PathBuf {
        let table = layout::table_dir("root", id, "t", 4);
        let path = layout::partition_dir(&table, 0);
        self.directory.path().join("target").join(path)
    }

    fn left_behind(&self) -> usize {
        fs::read_dir(self.directory.path().join("learn"))
            .unwrap()
            .count()
    }
}

/// The biggest table file of a partition.
fn biggest(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory.join("chkpt_127.0.0.1_34801")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let tables = files.filter(|path| path.extension().is_some_and(|it| it == "sst"));
    tables
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap()
}

#[test]
fn a_replica_goes_to_a_target_and_comes_back_as_another() {
    let mut home = Home::new();
    home.fill(0);
    home.order(10, 0, "here");
    let report = home.backup_ends(10);
    assert_eq!(
        (report.state, report.decree),
        (RunState::Done, Decree(ROWS)),
        "{}",
        report.error
    );
    assert_eq!(report.bytes_done, report.bytes_total);
    assert_eq!(report.bytes_sent, report.bytes_total);
    assert_eq!(home.left_behind(), 0);
    // Asked again it says so again, and sends nothing.
    home.order(10, 0, "here");
    assert_eq!(home.backup_ends(10), report);

    // Only partition 0 was backed up: its files are those of another one's number in another table.
    let from = home.partition_dir(10);
    fs::rename(&from, from.with_file_name("7")).unwrap();
    home.order_restore(7, 10, 1, false);
    let restored = home.restore_ends(7);
    assert_eq!(restored.state, RunState::Done, "{}", restored.error);
    assert_eq!(restored.bytes_done, report.bytes_total);
    assert_eq!(home.created, [(key_of(7), Ok(Decree(ROWS)))]);
    assert_eq!(home.rows(7), home.rows(0));
    assert_eq!(home.rows(7).len() as u64, ROWS);
    assert_eq!(home.left_behind(), 0);
}

#[test]
fn the_next_backup_sends_what_has_changed() {
    let mut home = Home::new();
    home.fill(0);
    home.order(10, 0, "here");
    let first = home.backup_ends(10);
    home.put(0, 3, "changed");
    home.order(11, 10, "here");
    let second = home.backup_ends(11);
    assert_eq!(
        (second.state, second.decree),
        (RunState::Done, Decree(ROWS + 1))
    );
    // All but the rows of before: lists, and a small file.
    assert!(
        second.bytes_sent < first.bytes_total / 2,
        "{second:?} after {first:?}"
    );
    assert!(second.bytes_total > first.bytes_total);
}

#[test]
fn an_order_that_cannot_be_carried_out_fails_with_a_reason() {
    let mut home = Home::new();
    home.order(10, 0, "here");
    let report = home.backup_ends(10);
    assert_eq!(report.state, RunState::Failed);
    assert_eq!(report.error, "replica 4.0 is not on this node");
    home.fill(0);
    home.order(11, 0, "nowhere");
    let report = home.backup_ends(11);
    assert!(
        report.error.contains("backup target \"nowhere\""),
        "{}",
        report.error
    );
    let mut order = home.order(12, 0, "gone");
    let report = home.backup_ends(12);
    assert!(report.error.contains("not/mounted"), "{}", report.error);
    order.target = "here".to_owned();
    order.root = "../elsewhere".to_owned();
    order.backup_id = 13;
    home.backups().order(order);
    assert!(home.backup_ends(13).error.contains("leads out"));
    assert_eq!(home.left_behind(), 0);
}

#[test]
fn a_backup_that_is_cancelled_ends_at_once_and_another_goes_on_where_it_was() {
    // So slow that it would take minutes.
    let mut home = Home::with_pace(1);
    home.fill(0);
    let mut order = home.order(10, 0, "here");
    home.until(|mail| matches!(mail, MetaMail::Backups { .. }).then_some(()));
    order.cancel = true;
    home.backups().order(order.clone());
    assert_eq!(home.backup_ends(10).state, RunState::Cancelled);
    // One that was never begun, too.
    order.backup_id = 11;
    home.backups().order(order.clone());
    assert_eq!(home.backup_ends(11).state, RunState::Cancelled);
    assert!(!home.partition_dir(10).join("current_checkpoint").exists());
    order.cancel = false;
    order.backup_id = 10;
    order.bytes_per_second = 1 << 30;
    home.backups().order(order);
    assert_eq!(home.backup_ends(10).state, RunState::Done);
}

#[test]
fn a_bad_backup_is_told_from_trouble_that_may_pass_and_can_be_skipped() {
    let mut home = Home::new();
    home.fill(0);
    home.order(10, 0, "here");
    assert_eq!(home.backup_ends(10).state, RunState::Done);
    let from = home.partition_dir(10).with_file_name("7");
    fs::rename(home.partition_dir(10), &from).unwrap();
    let table = biggest(&from);
    let whole = fs::read(&table).unwrap();
    let mut bad = whole.clone();
    bad[100] ^= 1;
    fs::write(&table, bad).unwrap();
    home.order_restore(7, 10, 1, false);
    let report = home.restore_ends(7);
    assert_eq!(
        (report.state, report.is_permanent),
        (RunState::Failed, true)
    );
    let name = table.file_name().unwrap().to_str().unwrap();
    assert!(
        report.error.contains(name) && report.error.contains("MD5"),
        "{}",
        report.error
    );
    assert_eq!(home.created, []);
    // Mended, and tried again.
    fs::write(&table, whole).unwrap();
    home.order_restore(7, 10, 2, false);
    assert_eq!(home.restore_ends(7).state, RunState::Done);
    assert_eq!(home.rows(7).len() as u64, ROWS);
    // One that is not there is skipped by order.
    home.order_restore(8, 10, 1, false);
    assert!(home.restore_ends(8).is_permanent);
    home.order_restore(8, 10, 1, true);
    assert_eq!(home.restore_ends(8).state, RunState::Done);
    assert_eq!(home.created.last(), Some(&(key_of(8), Ok(Decree::ZERO))));
    assert_eq!(home.rows(8), []);
}

#[test]
fn a_replica_that_is_not_wanted_any_more_is_let_go_of() {
    let mut home = Home::new();
    home.order_restore(7, 99, 1, false);
    assert!(home.restore_ends(7).is_permanent);
    assert!(home.left_behind() > 0);
    home.backups().forget(key_of(7));
    let started = Instant::now();
    while home.created.is_empty() && started.elapsed() < WAIT {
        home.work();
        std::thread::yield_now();
    }
    assert_eq!(home.created, [(key_of(7), Ok(Decree::ZERO))]);
    assert_eq!(home.left_behind(), 0);
    assert!(!home.backups().takes_over(CoreId(0), key_of(7)));
}

#[test]
fn files_around_the_partitions_are_those_of_meta() {
    let mut home = Home::new();
    home.fill(0);
    home.order(10, 0, "here");
    assert_eq!(home.backup_ends(10).state, RunState::Done);
    let target = Target::from_url(&format!(
        "file://{}/target",
        home.directory.path().display()
    ))
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let faults = runtime.block_on(async {
        let app = AppMetadata {
            partition_count: 1,
            ..AppMetadata::default()
        };
        let table = layout::table_dir("root", 10, "t", 4);
        target
            .write_json(&layout::app_metadata(&table), &app)
            .await
            .unwrap();
        let info = BackupInfo {
            end_time_ms: 1,
            ..BackupInfo::default()
        };
        target
            .write_json(&layout::backup_info("root", 10), &info)
            .await
            .unwrap();
        let pace = Pace::new(0);
        let verified =
            pegasus_backup::catalog::verify(&target, "root", 10, &pace, &mut |_| ()).await;
        verified.unwrap().faults
    });
    assert_eq!(faults, []);
}
