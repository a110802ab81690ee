//! What every target must do.

use pegasus_backup::download::Download;
use pegasus_backup::files::{AppMetadata, BackupInfo, BackupMetadata};
use pegasus_backup::pace::{Pace, Progress};
use pegasus_backup::upload::Upload;
use pegasus_backup::{Target, TargetError, Trouble, catalog, layout};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub(crate) const ROOT: &str = "cluster";
const TABLE: (&str, u32) = ("my_table", 3);
const CHECKPOINT: &str = "chkpt_127.0.0.1_34801";

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn table_dir(id: u64) -> String {
    layout::table_dir(ROOT, id, TABLE.0, TABLE.1)
}

pub(crate) fn partition_dir(id: u64) -> String {
    layout::partition_dir(&table_dir(id), 0)
}

/// Where one file of a partition lies.
pub(crate) fn path_of(id: u64, name: &str) -> String {
    layout::join(&[&partition_dir(id), CHECKPOINT, name])
}

/// Bytes that are not alike, so that parts in another order are another file.
pub(crate) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A partition: files that last, and those that are made anew each time.
pub(crate) fn files(tables: &[(u64, usize)], manifest: &str) -> Files {
    let tables = tables
        .iter()
        .map(|(number, length)| (format!("{number}.sst"), content(*number, *length)));
    let mut files: Files = tables.collect();
    files.insert("CURRENT".to_owned(), b"MANIFEST-000005\n".to_vec());
    files.insert("MANIFEST-000005".to_owned(), manifest.as_bytes().to_vec());
    files
}

pub(crate) fn write(directory: &Path, files: &Files) {
    fs::create_dir_all(directory).unwrap();
    for (name, bytes) in files {
        fs::write(directory.join(name), bytes).unwrap();
    }
}

fn read(directory: &Path) -> Files {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

/// Sends `files` as the partition of backup `id`; returns its list and the bytes that were sent.
pub(crate) async fn upload(
    target: &Target,
    id: u64,
    base: Option<u64>,
    source: &str,
    files: &Files,
) -> Result<(BackupMetadata, u64), TargetError> {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), files);
    let (progress, pace) = (Progress::default(), Pace::new(0));
    let base_dir = base.map(partition_dir);
    let upload = Upload {
        target,
        partition_dir: &partition_dir(id),
        base_dir: base_dir.as_deref(),
        checkpoint: CHECKPOINT,
        source,
        is_lasting: |name| name.ends_with(".sst"),
        directory: directory.path(),
        decree: 70 + id,
        timestamp_ms: 1000 + id,
        sending: &pace,
        reading: &pace,
        progress: &progress,
    };
    let metadata = upload.run().await?;
    let bytes = progress.bytes();
    assert_eq!(
        (bytes.total, bytes.done),
        (metadata.bytes(), metadata.bytes())
    );
    Ok((metadata, bytes.sent))
}

/// As meta does around the partitions.
pub(crate) async fn complete(target: &Target, id: u64) {
    let app = AppMetadata {
        app_name: TABLE.0.to_owned(),
        app_id: 3,
        partition_count: 1,
        ..AppMetadata::default()
    };
    let path = layout::app_metadata(&table_dir(id));
    target.write_json(&path, &app).await.unwrap();
    let info = BackupInfo {
        backup_id: id.try_into().unwrap(),
        start_time_ms: 1,
        end_time_ms: 2,
        app_id: Some(3),
        app_name: Some(TABLE.0.to_owned()),
        ..BackupInfo::default()
    };
    let path = layout::backup_info(ROOT, id);
    target.write_json(&path, &info).await.unwrap();
}

pub(crate) async fn download(
    target: &Target,
    id: u64,
    directory: &Path,
    room: u64,
) -> Result<u64, TargetError> {
    let (progress, pace) = (Progress::default(), Pace::new(0));
    let download = Download {
        target,
        partition_dir: &partition_dir(id),
        directory,
        receiving: &pace,
        reading: &pace,
        progress: &progress,
        room,
    };
    download.run().await?;
    Ok(progress.bytes().sent)
}

/// What is wrong with a backup: path below the backup, and what.
pub(crate) async fn faults(target: &Target, id: u64) -> Vec<(String, String)> {
    let verified = catalog::verify(target, ROOT, id, &Pace::new(0), &mut |_| ())
        .await
        .unwrap();
    let prefix = format!("{}/", layout::backup_dir(ROOT, id));
    let short = |path: &str| path.strip_prefix(&prefix).unwrap_or(path).to_owned();
    verified
        .faults
        .iter()
        .map(|fault| (short(&fault.path), fault.what.clone()))
        .collect()
}

/// Two backups, the second built upon the first; each is whole, and stays so when the other goes. `carries`: the target can
/// take unchanged files over by itself.
pub(crate) async fn two_backups(target: &Target, big: usize, carries: bool) {
    let first = files(&[(1_000_001, big), (1_000_002, 5_000)], "first");
    let second = files(
        &[(1_000_001, big), (1_000_002, 5_000), (1_000_003, 700)],
        "second",
    );
    let all = |files: &Files| files.values().map(|bytes| bytes.len() as u64).sum::<u64>();
    let (metadata, sent) = upload(target, 1, None, "a", &first).await.unwrap();
    assert_eq!((sent, metadata.checkpoint_decree), (all(&first), 71));
    complete(target, 1).await;
    let (_, sent) = upload(target, 2, Some(1), "a", &second).await.unwrap();
    let changed = 700 + "MANIFEST-000005\n".len() as u64 + "second".len() as u64;
    assert_eq!(sent, if carries { changed } else { all(&second) });
    // Not yet complete: meta has not said so.
    let listed = catalog::list(target, ROOT).await.unwrap();
    let complete_ones: Vec<_> = listed
        .iter()
        .map(|found| (found.backup_id, found.info.is_some()))
        .collect();
    assert_eq!(complete_ones, [(1, true), (2, false)]);
    complete(target, 2).await;
    for id in [1, 2] {
        assert_eq!(faults(target, id).await, []);
    }
    let shown = catalog::show(target, ROOT, 2).await.unwrap();
    assert_eq!((shown.tables[0].name.as_str(), shown.tables[0].id), TABLE);
    let (_, metadata) = shown.tables[0].partitions[0].current.clone().unwrap();
    assert_eq!(metadata.files.len(), 5);

    catalog::delete(target, ROOT, 1).await.unwrap();
    let gone = catalog::show(target, ROOT, 1).await.unwrap_err();
    assert_eq!(gone.trouble, Trouble::NotFound);
    assert_eq!(faults(target, 2).await, []);
    let directory = tempfile::tempdir().unwrap();
    let fetched = download(target, 2, directory.path(), u64::MAX)
        .await
        .unwrap();
    assert_eq!(fetched, all(&second));
    assert_eq!(read(directory.path()), second);
    // Nothing travels twice, and what does not belong there goes.
    fs::write(directory.path().join("LOG"), "x").unwrap();
    fs::write(directory.path().join("CURRENT"), "MANIFEST-000009\n").unwrap();
    assert_eq!(
        download(target, 2, directory.path(), u64::MAX)
            .await
            .unwrap(),
        16
    );
    assert_eq!(read(directory.path()), second);
}

/// What an earlier attempt has sent is not sent again; what it sent and is not wanted any more goes. `knows`: the target says
/// the MD5 of what it has.
pub(crate) async fn goes_on(target: &Target, knows: bool) {
    let before = files(&[(1_000_001, 50_000), (1_000_004, 10)], "before");
    upload(target, 3, None, "a", &before).await.unwrap();
    // As if it had ended before the partition was complete.
    target
        .remove(&layout::join(&[
            &partition_dir(3),
            layout::CURRENT_CHECKPOINT,
        ]))
        .await
        .unwrap();
    let now = files(&[(1_000_001, 50_000), (1_000_005, 20)], "now");
    let (_, sent) = upload(target, 3, None, "a", &now).await.unwrap();
    let manifest_and_new = 3 + 20;
    assert_eq!(
        sent,
        if knows {
            manifest_and_new
        } else {
            50_000 + 16 + manifest_and_new
        }
    );
    complete(target, 3).await;
    assert_eq!(faults(target, 3).await, []);
    // And one that is complete is left as it is.
    let (metadata, sent) = upload(target, 3, None, "a", &before).await.unwrap();
    assert_eq!((sent, metadata.files.len()), (0, 4));
    catalog::delete(target, ROOT, 3).await.unwrap();
}

/// Damaged, missing and foreign files are each named, by a check and by whoever restores.
pub(crate) async fn names_what_is_wrong(target: &Target) {
    let whole = files(&[(1_000_001, 3_000), (1_000_002, 400)], "list");
    upload(target, 4, None, "a", &whole).await.unwrap();
    complete(target, 4).await;
    let mut bad = whole["1000001.sst"].clone();
    bad[1500] ^= 1;
    let place = |name: &str| path_of(4, name);
    let short = |name: &str| place(name).strip_prefix("cluster/4/").unwrap().to_owned();
    let restored = async || {
        let directory = tempfile::tempdir().unwrap();
        download(target, 4, directory.path(), u64::MAX)
            .await
            .unwrap_err()
    };

    target
        .write_small(&place("1000001.sst"), bad)
        .await
        .unwrap();
    let found = faults(target, 4).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].0 == short("1000001.sst") && found[0].1.starts_with("MD5 "),
        "{found:?}"
    );
    let error = restored().await;
    assert_eq!(
        (error.trouble, error.path),
        (Trouble::Damaged, place("1000001.sst"))
    );

    target
        .write_small(&place("1000001.sst"), b"short".to_vec())
        .await
        .unwrap();
    target.remove(&place("CURRENT")).await.unwrap();
    target
        .write_small(&place("1000009.sst"), b"whose?".to_vec())
        .await
        .unwrap();
    let found = faults(target, 4).await;
    let expected = [
        ("1000001.sst", "5 bytes, 3000 are expected"),
        ("CURRENT", "missing"),
        ("1000009.sst", "not of this backup"),
    ];
    let mut expected = expected.map(|(name, what)| (short(name), what.to_owned()));
    let mut sorted = found.clone();
    sorted.sort();
    expected.sort();
    assert_eq!(sorted, expected);
    assert_eq!(restored().await.trouble, Trouble::Damaged);

    let list = place(layout::BACKUP_METADATA);
    target.write_small(&list, b"{".to_vec()).await.unwrap();
    assert_eq!(restored().await.path, list);
    let pointer = layout::join(&[&partition_dir(4), layout::CURRENT_CHECKPOINT]);
    target
        .write_small(&pointer, b"../../5".to_vec())
        .await
        .unwrap();
    assert!(
        restored()
            .await
            .detail
            .contains("not the name of a checkpoint")
    );
    target.remove(&pointer).await.unwrap();
    assert!(restored().await.detail.contains("not complete"));
    assert!(faults(target, 4).await[0].1.contains("not complete"));
    catalog::delete(target, ROOT, 4).await.unwrap();
}
