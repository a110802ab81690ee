//! Flipped bytes, lost blocks and lost files: named, and never a wrong record.

use super::disk::{Disk, IDENTITY};
use super::life::Life;
use super::model::Model;
use super::random::Random;
use crate::log::{Damage, Recovery, SegmentId, recover};
use proptest::prelude::*;

/// A settled log of some segments.
fn settled(seed: u64, steps: u64) -> Life {
    let mut life = Life::adopted(seed);
    for _ in 0..steps {
        life.step();
    }
    life.settle();
    life
}

/// Every replica is whole or suspect, and a suspect one holds nothing that was never written.
fn check_whole_or_suspect(life: &Life, recovery: &Recovery) -> usize {
    let mut suspects = 0;
    for (partition, marker) in &life.markers {
        let found = &recovery.replicas[partition];
        let is_written = |entry| {
            let record = crate::log::Record::Entry {
                partition: *partition,
                incarnation: found.incarnation,
                committed: crate::ids::Decree::ZERO,
                entry,
            };
            life.appended
                .iter()
                .any(|written| same_entry(written, &record))
        };
        for entry in &found.entries {
            assert!(
                is_written(entry.clone()),
                "{partition} holds {entry:?}, which nobody wrote"
            );
        }
        if found.suspect.is_some() {
            suspects += 1;
            continue;
        }
        let mut found = found.clone();
        let known: &Model = &life.now;
        let committed = known
            .replicas
            .get(partition)
            .map_or(marker.decree, |known| known.committed.max(marker.decree));
        assert!(found.committed <= committed, "a commit point nobody wrote");
        found.committed = committed;
        assert!(
            known.matches(*partition, marker.decree, &found),
            "{partition} above {}: found {} {:?}, known {:?}, damage {:?}",
            marker.decree,
            found.adopted,
            stamps(found.entries.iter()),
            known
                .replicas
                .get(partition)
                .map(|known| (known.adopted, stamps(known.entries.values()))),
            recovery.damage,
        );
    }
    suspects
}

fn stamps<'a>(entries: impl Iterator<Item = &'a crate::message::Entry>) -> Vec<(u64, u64)> {
    entries
        .map(|entry| (entry.ballot.0, entry.decree.0))
        .collect()
}

fn same_entry(one: &crate::log::Record, two: &crate::log::Record) -> bool {
    use crate::log::Record::Entry;
    match (one, two) {
        (
            Entry {
                partition: p,
                entry: e,
                ..
            },
            Entry {
                partition: q,
                entry: f,
                ..
            },
        ) => p == q && e == f,
        _ => false,
    }
}

fn is_named(recovery: &Recovery) -> bool {
    recovery
        .damage
        .iter()
        .any(|damage| !matches!(damage, Damage::TornTail { .. }))
}

#[test]
fn bytes_all_over_a_small_log_may_flip() {
    let life = settled(11, 60);
    for (segment, file) in life.disk.files.clone() {
        let used = file.len() - file.iter().rev().take_while(|byte| **byte == 0).count();
        for offset in (0..used).step_by(7) {
            let mut disk = life.disk.clone();
            disk.flip(segment, offset, 1 << (offset % 8));
            let recovery = recover(&mut disk, IDENTITY, &life.markers).unwrap();
            let suspects = check_whole_or_suspect(&life, &recovery);
            assert!(
                suspects == 0 || is_named(&recovery),
                "segment {segment:?} offset {offset}"
            );
        }
    }
}

proptest! {
    #![proptest_config(super::cases(8))]

    #[test]
    fn a_flipped_byte_anywhere_is_harmless_or_named(seed in any::<u64>()) {
        let life = settled(seed, 400);
        let mut random = Random(seed);
        for _ in 0..40 {
            let mut disk = life.disk.clone();
            let segments: Vec<SegmentId> = disk.files.keys().copied().collect();
            let segment = segments[random.below(segments.len() as u64) as usize];
            let offset = random.below(disk.files[&segment].len() as u64) as usize;
            disk.flip(segment, offset, 1 << random.below(8));
            let recovery = recover(&mut disk, IDENTITY, &life.markers).unwrap();
            let suspects = check_whole_or_suspect(&life, &recovery);
            prop_assert!(suspects == 0 || is_named(&recovery));
        }
    }

    #[test]
    fn lost_blocks_and_unreadable_ones_are_harmless_or_named(seed in any::<u64>()) {
        let life = settled(seed, 400);
        let mut random = Random(seed);
        for _ in 0..20 {
            let mut disk = life.disk.clone();
            let segments: Vec<SegmentId> = disk.files.keys().copied().collect();
            for _ in 0..=random.below(3) {
                let segment = segments[random.below(segments.len() as u64) as usize];
                let block = random.below(16) as usize * 4096;
                match random.below(2) {
                    0 => disk.files.get_mut(&segment).unwrap()[block..block + 4096].fill(0),
                    _ => disk.unreadable.push((segment, block as u64)),
                }
            }
            let recovery = recover(&mut disk, IDENTITY, &life.markers).unwrap();
            check_known_or_suspect(&life, &recovery);
        }
    }

    #[test]
    fn a_lost_file_in_the_middle_is_named(seed in any::<u64>()) {
        let life = settled(seed, 500);
        let newest = *life.disk.files.keys().last().unwrap();
        for segment in life.disk.files.keys().copied().filter(|id| id.0 + 1 < newest.0) {
            let mut disk = life.disk.clone();
            disk.files.remove(&segment);
            let recovery = recover(&mut disk, IDENTITY, &life.markers).unwrap();
            let suspects = check_whole_or_suspect(&life, &recovery);
            let is_named = recovery.damage.contains(&Damage::SegmentMissing { segment });
            prop_assert!(suspects == 0 || is_named);
        }
    }

    #[test]
    fn garbage_is_never_a_record(seed in any::<u64>(), stride in 1_u64..5000) {
        let life = settled(seed, 100);
        let mut random = Random(seed);
        let mut disk = life.disk.clone();
        for file in disk.files.values_mut() {
            let mut offset = random.below(stride) as usize;
            while offset < file.len() {
                file[offset] = random.next() as u8;
                offset += 1 + random.below(stride) as usize;
            }
        }
        if let Ok(recovery) = recover(&mut disk, IDENTITY, &life.markers) {
            for replica in recovery.replicas.values() {
                for entry in &replica.entries {
                    let is_known = life.appended.iter().any(|record| {
                        matches!(record, crate::log::Record::Entry { entry: written, .. } if written == entry)
                    });
                    prop_assert!(is_known);
                }
            }
        }
    }
}

/// Several blocks may be the whole end of the log: then the rest of it is not acknowledged as far as anybody can say,
/// and what is left must still be a state that was.
fn check_known_or_suspect(life: &Life, recovery: &Recovery) {
    let mut states = vec![life.base.clone()];
    let mut model = life.base.clone();
    for record in &life.appended {
        model.apply(record);
        states.push(model.clone());
    }
    for (partition, marker) in &life.markers {
        let found = &recovery.replicas[partition];
        let is_known = || {
            states.iter().any(|state| {
                let mut found = found.clone();
                let known = state
                    .replicas
                    .get(partition)
                    .map_or(marker.decree, |known| known.committed);
                if found.committed > known.max(marker.decree) {
                    return false;
                }
                found.committed = known.max(marker.decree);
                state.matches(*partition, marker.decree, &found)
            })
        };
        assert!(
            found.suspect.is_some() || is_known(),
            "{partition} above {}: found {} {} {:?}, at last {:?}, damage {:?}",
            marker.decree,
            found.adopted,
            found.committed,
            stamps(found.entries.iter()),
            model.replicas.get(partition).map(|known| (
                known.adopted,
                known.committed,
                stamps(known.entries.values())
            )),
            recovery.damage,
        );
    }
}

#[test]
fn flips_in_one_record_make_only_its_replica_suspect() {
    let life = settled(5, 80);
    let mut worst = 0;
    let (segment, file) = life.disk.files.iter().next().unwrap();
    for offset in (8192..file.len()).step_by(97) {
        let mut disk: Disk = life.disk.clone();
        disk.flip(*segment, offset, 0x10);
        let recovery = recover(&mut disk, IDENTITY, &life.markers).unwrap();
        worst = worst.max(check_whole_or_suspect(&life, &recovery));
    }
    assert!(worst >= 1, "some flip hits a record that is still needed");
}
