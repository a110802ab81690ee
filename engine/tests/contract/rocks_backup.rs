//! Replicas as directories for others to read: by RocksDB's own tools, and by us again.

use crate::harness::{INCARNATION, Rocks, Subject, bulky_value, partition, put, raw, remove};
use pegasus_engine::rocks::{DirectoryError, META_COLUMN_FAMILY, export_from};
use pegasus_engine::{Engine, ScanSpec, key};
use pegasus_replication::ids::{Decree, PartitionId, ReplicaIncarnation};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::process::Command;

const HOME: PartitionId = partition(0);

/// Rows in several levels, some overwritten, some removed.
fn filled() -> Rocks {
    let mut rocks = Rocks::default();
    rocks.create(HOME);
    for round in 0..4_u64 {
        for number in 0..300_u64 {
            let value = bulky_value(number * 7 + round);
            rocks.apply(
                HOME,
                &[put("h", &format!("{:04}", number + 100 * round), &value)],
            );
        }
        rocks.flush(HOME);
        if round == 1 {
            rocks
                .store()
                .compact(HOME, pegasus_engine::rocks::Thorough::default())
                .unwrap();
        }
    }
    for number in 0..50 {
        rocks.apply(HOME, &[remove("h", &format!("{:04}", number * 3))]);
    }
    rocks
}

fn lay_out(rocks: &mut Rocks, name: &str) -> (PathBuf, Decree) {
    let directory = rocks.directory.path().join(name);
    rocks.engine_mut().begin_flush(HOME).unwrap();
    let decree = rocks.store().lay_out(HOME, &directory, 0).unwrap();
    (directory, decree)
}

/// Raw keys with the user's values.
fn rows(rocks: &Rocks, partition: PartitionId) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut spec = ScanSpec::new(Bound::Unbounded, Bound::Unbounded, 0);
    let mut rows = BTreeMap::new();
    loop {
        let page = rocks.store().scan(partition, &spec).unwrap();
        for row in &page.rows {
            rows.insert(row.key.to_vec(), row.row.data.to_vec());
        }
        match page.rows.last() {
            Some(last) => {
                spec = ScanSpec::new(Bound::Excluded(last.key.clone()), Bound::Unbounded, 0)
            }
            None => return rows,
        }
    }
}

fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{name} of Debian's rocksdb-tools: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {said}{complained}"
    );
    said
}

fn unhex(digits: &str) -> Vec<u8> {
    let digits = digits.trim().trim_start_matches("0x");
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

/// As somebody else's program reads it: rows only, values without their header of 12 bytes.
fn rows_by_ldb(directory: &Path, more: &[&str]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let database = format!("--db={}", directory.display());
    let mut arguments = vec![database.as_str(), "--hex", "scan"];
    arguments.extend(more);
    let said = tool("ldb", &arguments);
    let lines = said.lines().filter(|line| line.starts_with("0x"));
    let pairs = lines.map(|line| {
        line.split_once(" : ")
            .or_else(|| line.split_once(" ==> "))
            .unwrap()
    });
    pairs
        .map(|(key, value)| (unhex(key), unhex(value)))
        .filter(|(key, _)| key.len() >= 2)
        .map(|(key, value)| (key, value[12..].to_vec()))
        .collect()
}

fn table_files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| name.ends_with(".sst"))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

#[test]
fn tools_of_rocksdb_read_every_row_of_a_backup() {
    let mut rocks = filled();
    let (directory, decree) = lay_out(&mut rocks, "laid-out");
    let expected = rows(&rocks, HOME);
    assert_eq!(decree, Decree(4 * 300 + 50));
    assert_eq!(expected.len(), 550);
    assert!(expected.keys().all(|raw| key::decode(raw).is_ok()));
    assert_eq!(rows_by_ldb(&directory, &[]), expected);
    // By the options that lie in it.
    assert_eq!(rows_by_ldb(&directory, &["--try_load_options"]), expected);
    let database = format!("--db={}", directory.display());
    let meta = format!("--column_family={META_COLUMN_FAMILY}");
    let said = tool("ldb", &[&database, &meta, "scan"]);
    for line in [
        "pegasus_data_version : 1",
        "pegasus_last_flushed_decree : 1250",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let said = tool("ldb", &[&database, "list_column_families"]);
    assert!(said.contains("{default, pegasus_meta_cf}"), "{said}");
    for name in table_files(&directory).into_keys() {
        let file = format!("--file={}", directory.join(name).display());
        let said = tool("sst_dump", &[&file, "--command=verify"]);
        assert!(said.contains("is ok") || !said.contains("orrupt"), "{said}");
    }
}

#[test]
fn table_files_of_the_next_backup_are_those_of_the_one_before() {
    let mut rocks = filled();
    let (first, _) = lay_out(&mut rocks, "first");
    rocks.apply(HOME, &[put("h", "0150", "changed")]);
    let (second, decree) = lay_out(&mut rocks, "second");
    let (before, after) = (table_files(&first), table_files(&second));
    let is_kept = |(name, bytes): (&String, &Vec<u8>)| after.get(name) == Some(bytes);
    let kept = before.iter().filter(|file| is_kept(*file)).count();
    // The file of the other column family says another decree.
    assert_eq!(kept, before.len() - 1);
    assert_eq!(after.len(), before.len() + 1);
    let moved: usize = after
        .iter()
        .filter(|(name, bytes)| before.get(*name) != Some(*bytes))
        .map(|(_, bytes)| bytes.len())
        .sum();
    let all: usize = after.values().map(Vec::len).sum();
    assert!(moved * 20 < all, "{moved} of {all} bytes");
    assert_eq!(decree, Decree(1251));
    assert_eq!(rows_by_ldb(&second, &[]), rows(&rocks, HOME));
}

#[test]
fn a_laid_out_replica_comes_back_under_another_name() {
    let mut rocks = filled();
    let expected = rows(&rocks, HOME);
    let (directory, decree) = lay_out(&mut rocks, "laid-out");
    let export = rocks.directory.path().join("export");
    assert_eq!(export_from(&directory, &export), Ok(decree));
    let marker = rocks
        .store()
        .import(partition(5), ReplicaIncarnation(9), &export)
        .unwrap();
    assert_eq!(
        (marker.decree, marker.incarnation),
        (decree, ReplicaIncarnation(9))
    );
    assert_eq!(rows(&rocks, partition(5)), expected);
    rocks.crash();
    assert_eq!(rows(&rocks, partition(5)), expected);
    assert_eq!(rocks.store().durable(partition(5)).unwrap().decree, decree);
    // It goes on from there.
    let next = rocks.apply(partition(5), &[put("h", "new", "row")]);
    assert_eq!(next, decree.next());
    // The directory is still whole, for another attempt.
    let again = rocks.directory.path().join("again");
    assert_eq!(export_from(&directory, &again), Ok(decree));
}

/// As Apache Pegasus writes one: rows, no marker, its decree in the other column family.
fn apache(directory: &Path, version: &str, decree: &str) {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    type Db = rocksdb::DBWithThreadMode<rocksdb::MultiThreaded>;
    let db = Db::open_cf(&options, directory, ["default", META_COLUMN_FAMILY]).unwrap();
    for number in 0..10_u8 {
        let mut value = vec![0; 12];
        value.push(number);
        db.put(raw("apache", &number.to_string()), value).unwrap();
    }
    db.put([], []).unwrap();
    let meta = db.cf_handle(META_COLUMN_FAMILY).unwrap();
    db.put_cf(&meta, "pegasus_data_version", version).unwrap();
    db.put_cf(&meta, "pegasus_last_flushed_decree", decree)
        .unwrap();
    db.flush().unwrap();
    db.flush_cf(&meta).unwrap();
}

#[test]
fn a_checkpoint_of_apache_pegasus_becomes_a_replica() {
    let rocks = Rocks::default();
    let (directory, export) = (
        rocks.directory.path().join("apache"),
        rocks.directory.path().join("export"),
    );
    apache(&directory, "1", "77");
    assert_eq!(export_from(&directory, &export), Ok(Decree(77)));
    let marker = rocks.store().import(HOME, INCARNATION, &export).unwrap();
    assert_eq!(marker.decree, Decree(77));
    let rows = rows(&rocks, HOME);
    assert_eq!(rows.len(), 10);
    assert_eq!(rows[&raw("apache", "3").to_vec()], [3]);
}

#[test]
fn directories_that_hold_no_replica_are_refused_by_name() {
    let rocks = Rocks::default();
    let root = rocks.directory.path();
    let export = root.join("export");
    let refused = |directory: &Path| export_from(directory, &export).unwrap_err();
    let empty = root.join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(
        matches!(refused(&empty), DirectoryError::Foreign { directory, .. } if directory == empty)
    );
    let old = root.join("old");
    apache(&old, "0", "7");
    assert!(matches!(refused(&old), DirectoryError::DataVersion { version, .. } if version == "0"));
    let odd = root.join("odd");
    apache(&odd, "1", "many");
    assert!(matches!(refused(&odd), DirectoryError::Damaged { .. }));
    // A database of a core, not of one replica.
    let mut rocks = filled();
    rocks.close();
    let core = rocks.directory.path().join("db");
    assert!(matches!(refused(&core), DirectoryError::Foreign { .. }));
    assert!(!export.exists());
}

#[test]
fn a_directory_with_a_missing_or_cut_file_is_refused() {
    let mut rocks = filled();
    for (name, spoil) in [
        (
            "missing",
            (|path: &Path| fs::remove_file(path).unwrap()) as fn(&Path),
        ),
        ("cut", |path| {
            let bytes = fs::read(path).unwrap();
            fs::remove_file(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
    ] {
        let (directory, _) = lay_out(&mut rocks, name);
        let biggest = table_files(&directory)
            .into_iter()
            .max_by_key(|(_, bytes)| bytes.len())
            .unwrap()
            .0;
        spoil(&directory.join(biggest));
        let export = rocks.directory.path().join("export");
        let refused = export_from(&directory, &export).unwrap_err();
        assert!(
            matches!(refused, DirectoryError::Damaged { .. }),
            "{name}: {refused}"
        );
        assert!(!export.exists());
    }
}

#[test]
fn an_empty_replica_is_laid_out_too() {
    let mut rocks = Rocks::default();
    rocks.create(HOME);
    let (directory, decree) = lay_out(&mut rocks, "laid-out");
    assert_eq!(decree, Decree::ZERO);
    assert_eq!(rows_by_ldb(&directory, &[]), BTreeMap::new());
    let export = rocks.directory.path().join("export");
    assert_eq!(export_from(&directory, &export), Ok(Decree::ZERO));
    rocks
        .store()
        .import(partition(1), INCARNATION, &export)
        .unwrap();
    assert_eq!(rows(&rocks, partition(1)), BTreeMap::new());
}
