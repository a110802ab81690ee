//! Random lives of a log: written, crashed at every step, recovered, written on.

use super::disk::{Disk, IDENTITY, OPTIONS};
use super::model::{INCARNATION, Model, Replica, entry, partition};
use super::random::Random;
use crate::ids::{Decree, PartitionId};
use crate::log::{Damage, LogStart, Marker, Record, Recovery, ShardLog, Stamp, recover};
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(super) const PARTITIONS: u32 = 4;

/// A log, its disk, and what it has been told.
pub(super) struct Life {
    pub(super) log: ShardLog,
    pub(super) disk: Disk,
    /// State at the start of this life, and every record since.
    pub(super) base: Model,
    pub(super) appended: Vec<Record>,
    /// Of `appended`, from the front: told to be durable.
    pub(super) durable_count: usize,
    pub(super) now: Model,
    pub(super) markers: BTreeMap<PartitionId, Marker>,
    pub(super) random: Random,
}

pub(super) fn markers() -> BTreeMap<PartitionId, Marker> {
    let marker = Marker {
        incarnation: INCARNATION,
        decree: Decree::ZERO,
    };
    (0..PARTITIONS)
        .map(|index| (partition(index), marker))
        .collect()
}

impl Life {
    pub(super) fn first(seed: u64) -> Self {
        let start = recover(&mut Disk::default(), IDENTITY, &BTreeMap::new())
            .unwrap()
            .start;
        Self::begin(
            start,
            Disk::default(),
            Model::default(),
            markers(),
            Random(seed),
        )
    }

    /// The same, with ballot 1 adopted by everybody.
    pub(super) fn adopted(seed: u64) -> Self {
        let mut life = Self::first(seed);
        for index in 0..PARTITIONS {
            life.append(super::model::adopt(index, 1));
        }
        life
    }

    fn begin(
        start: LogStart,
        disk: Disk,
        base: Model,
        markers: BTreeMap<PartitionId, Marker>,
        random: Random,
    ) -> Self {
        let now = base.clone();
        let log = ShardLog::new(OPTIONS, start);
        let mut life = Self {
            log,
            disk,
            base,
            appended: Vec::new(),
            durable_count: 0,
            now,
            markers,
            random,
        };
        life.open();
        life
    }

    /// Nothing is created or served before the first header is durable.
    fn open(&mut self) {
        self.perform();
        while !self.disk.unflushed.is_empty() {
            self.complete();
        }
    }

    pub(super) fn append(&mut self, record: Record) {
        self.now.apply(&record);
        self.appended.push(record.clone());
        self.log.append(record);
    }

    /// Carries out what the log wants, without completing any write.
    pub(super) fn perform(&mut self) {
        loop {
            while let Some(segment) = self.log.segment_to_prepare() {
                self.disk.prepare(segment);
                self.log.on_segment_ready(segment).unwrap();
            }
            let Some(write) = self.log.next_write() else {
                break;
            };
            self.disk.write(write);
        }
    }

    pub(super) fn complete(&mut self) {
        let count = self.disk.unflushed.len() as u64;
        if count > 0 {
            let id = self.disk.flush(self.random.below(count) as usize);
            let stamps = self.log.on_durable(id);
            self.on_stamps(&stamps);
            for segment in self.log.take_freed_segments() {
                self.disk.free(segment);
            }
        }
        self.perform();
    }

    fn on_stamps(&mut self, stamps: &[Stamp]) {
        use crate::log::RecordKind::{Carried, Suspect};
        for stamp in stamps
            .iter()
            .filter(|stamp| !matches!(stamp.kind, Carried | Suspect))
        {
            assert_eq!(
                *stamp,
                self.appended[self.durable_count].stamp(),
                "durability is told in order"
            );
            self.durable_count += 1;
        }
    }

    /// Everything appended is durable and vouched for.
    pub(super) fn settle(&mut self) {
        self.perform();
        while !self.disk.unflushed.is_empty() {
            self.complete();
        }
        while let Some(write) = self.log.next_trailer() {
            self.disk.write(write);
            self.complete();
            while !self.disk.unflushed.is_empty() {
                self.complete();
            }
        }
        assert_eq!(self.durable_count, self.appended.len());
        assert_eq!(self.log.pending_bytes(), 0);
    }

    pub(super) fn step(&mut self) {
        let index = self.random.below(u64::from(PARTITIONS)) as u32;
        match self.random.below(20) {
            0..=9 => self.write(index),
            10 => self.new_ballot(index),
            11 => self.cut(index),
            12 => self.commit(index),
            13 | 14 => self.flush(index),
            15 => {
                if let Some(write) = self.log.next_trailer() {
                    self.disk.write(write);
                }
            }
            _ => self.complete(),
        }
        self.perform();
    }

    fn replica(&self, index: u32) -> Replica {
        self.now
            .replicas
            .get(&partition(index))
            .cloned()
            .unwrap_or_default()
    }

    /// The decree after the last: entries flushed long ago are still in the model.
    fn tail(&self, index: u32) -> u64 {
        let replica = self.replica(index);
        let last = replica
            .entries
            .last_key_value()
            .map_or(0, |(decree, _)| decree.0);
        last.max(self.markers[&partition(index)].decree.0)
    }

    fn write(&mut self, index: u32) {
        let replica = self.replica(index);
        let decree = self.tail(index) + 1;
        let bytes = self.random.below(if self.random.clone().below(8) == 0 {
            9000
        } else {
            300
        }) as usize;
        let fill = self.random.next() as u8;
        let ballot = replica.adopted.0.max(1);
        let record = super::model::entry_record(
            index,
            entry(ballot, decree, vec![fill; bytes]),
            replica.committed.0,
        );
        self.append(record);
    }

    /// Another ballot: what is above the commit point is prepared again under it, maybe less of it.
    fn new_ballot(&mut self, index: u32) {
        let replica = self.replica(index);
        let ballot = replica.adopted.0 + 1;
        self.append(super::model::adopt(index, ballot));
        let from = replica
            .committed
            .0
            .max(self.markers[&partition(index)].decree.0)
            + 1;
        let tail = self.tail(index);
        let until = from + self.random.below(tail.saturating_sub(from) + 2);
        for decree in from..until.min(tail + 1) {
            let payload = vec![ballot as u8; 40];
            self.append(super::model::entry_record(
                index,
                entry(ballot, decree, payload),
                replica.committed.0,
            ));
        }
    }

    fn cut(&mut self, index: u32) {
        let replica = self.replica(index);
        let decree = replica
            .committed
            .max(self.markers[&partition(index)].decree);
        let ballot = crate::ids::Ballot(replica.adopted.0 + 1);
        self.append(Record::Cut {
            partition: partition(index),
            incarnation: INCARNATION,
            ballot,
            decree,
        });
    }

    fn commit(&mut self, index: u32) {
        let replica = self.replica(index);
        let room = self.tail(index).saturating_sub(replica.committed.0) + 1;
        let decree = Decree(replica.committed.0 + self.random.below(room));
        self.append(Record::Committed {
            partition: partition(index),
            incarnation: INCARNATION,
            decree,
        });
    }

    /// The engine flushes what is committed and durable in the log.
    fn flush(&mut self, index: u32) {
        let mut durable = self.base.clone();
        self.appended[..self.durable_count]
            .iter()
            .for_each(|record| durable.apply(record));
        let Some(replica) = durable.replicas.get(&partition(index)) else {
            return;
        };
        let marker = self.markers.get_mut(&partition(index)).unwrap();
        marker.decree = marker.decree.max(replica.committed);
        self.log
            .set_durable_in_engine(partition(index), marker.decree);
    }

    /// Recovers `disk` and checks that it says exactly what some prefix says, with everything durable in it.
    pub(super) fn check_recovery(&self, mut disk: Disk) -> (Recovery, Model) {
        let recovery = recover(&mut disk, IDENTITY, &self.markers).unwrap();
        for damage in &recovery.damage {
            assert!(
                matches!(damage, Damage::TornTail { .. }),
                "a power cut is no corruption: {damage:?}"
            );
        }
        let mut model = self.base.clone();
        self.appended[..self.durable_count]
            .iter()
            .for_each(|record| model.apply(record));
        for count in self.durable_count..=self.appended.len() {
            if count > self.durable_count {
                model.apply(&self.appended[count - 1]);
            }
            if self.agrees(&model, &recovery) {
                return (recovery, model);
            }
        }
        panic!(
            "no prefix from {} to {}: {recovery:#?}",
            self.durable_count,
            self.appended.len()
        );
    }

    fn agrees(&self, model: &Model, recovery: &Recovery) -> bool {
        self.markers.iter().all(|(partition, marker)| {
            let found = &recovery.replicas[partition];
            found.suspect.is_none() && model.matches(*partition, marker.decree, found)
        })
    }

    /// The next life after a crash here.
    fn crashed(mut self) -> Self {
        let disk = self.disk.crash(&mut self.random);
        let (recovery, mut model) = self.check_recovery(disk.clone());
        for (partition, marker) in &self.markers {
            let replica = model.replicas.entry(*partition).or_default();
            replica.committed = replica.committed.max(marker.decree);
        }
        Self::begin(recovery.start, disk, model, self.markers, self.random)
    }
}

/// The mutable parts of a crash that must not disturb the run.
fn check_crash_now(life: &Life, seed: u64) {
    let mut random = Random(seed);
    let disk = life.disk.crash(&mut random);
    life.check_recovery(disk);
}

proptest! {
    #![proptest_config(super::cases(8))]

    #[test]
    fn a_crash_at_any_moment_keeps_everything_durable_and_adds_nothing(seed in any::<u64>()) {
        let mut life = Life::adopted(seed);
        for step in 0..250 {
            life.step();
            check_crash_now(&life, seed ^ step);
        }
    }

    #[test]
    fn life_after_life_recovers_what_the_lives_before_left(seed in any::<u64>()) {
        let mut life = Life::adopted(seed);
        for _ in 0..8 {
            for _ in 0..Random(seed ^ life.random.0).below(120) {
                life.step();
            }
            life = life.crashed();
        }
    }

    #[test]
    fn a_second_crash_while_the_next_life_opens_its_segment_changes_nothing(seed in any::<u64>()) {
        let mut life = Life::adopted(seed);
        for _ in 0..100 {
            life.step();
        }
        let disk = life.disk.crash(&mut life.random);
        let (recovery, _) = life.check_recovery(disk.clone());
        let first: BTreeMap<_, _> = recovery.replicas.clone();

        let mut log = ShardLog::new(OPTIONS, recovery.start);
        let mut again = Disk { unflushed: Vec::new(), ..disk };
        for _ in 0..3 {
            while let Some(segment) = log.segment_to_prepare() {
                again.prepare(segment);
                log.on_segment_ready(segment).unwrap();
            }
            while let Some(write) = log.next_write() {
                again.write(write);
            }
            let torn = again.crash(&mut life.random);
            let second = recover(&mut torn.clone(), IDENTITY, &life.markers).unwrap();
            prop_assert_eq!(&first, &second.replicas);
            prop_assert!(second.start.next_segment() >= log_next(&again));
            if !again.unflushed.is_empty() {
                let id = again.flush(0);
                log.on_durable(id);
                for segment in log.take_freed_segments() {
                    again.free(segment);
                }
            }
        }
    }
}

fn log_next(disk: &Disk) -> crate::log::SegmentId {
    crate::log::SegmentId(disk.files.keys().last().unwrap().0)
}
