//! A directory as target.

use crate::exercise::{self, ROOT, complete, download, faults, files, path_of, upload};
use pegasus_backup::files::{Sidecar, parse};
use pegasus_backup::{Target, TargetConfig, Trouble, catalog};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

fn target() -> (Target, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}/backup", directory.path().display());
    (Target::from_url(&url).unwrap(), directory)
}

#[tokio::test]
async fn backups_build_upon_each_other_and_outlive_each_other() {
    let (target, _directory) = target();
    exercise::two_backups(&target, 1 << 20, true).await;
}

#[tokio::test]
async fn an_attempt_goes_on_where_the_one_before_was() {
    let (target, _directory) = target();
    exercise::goes_on(&target, true).await;
}

#[tokio::test]
async fn damaged_missing_and_foreign_files_are_named() {
    let (target, _directory) = target();
    exercise::names_what_is_wrong(&target).await;
}

#[tokio::test]
async fn unchanged_files_are_links_and_what_is_sent_anew_never_writes_into_them() {
    let (target, directory) = target();
    let rows = files(&[(1_000_001, 9_000)], "list");
    upload(&target, 1, None, "a", &rows).await.unwrap();
    complete(&target, 1).await;
    upload(&target, 2, Some(1), "a", &rows).await.unwrap();
    let place = |id| {
        directory
            .path()
            .join("backup")
            .join(path_of(id, "1000001.sst"))
    };
    let inode = |id| fs::metadata(place(id)).unwrap().ino();
    assert_eq!(inode(1), inode(2));
    // Another replica's files of the same name and length are not those.
    let mut others = rows.clone();
    others.get_mut("1000001.sst").unwrap()[7] ^= 1;
    let (_, sent) = upload(&target, 3, Some(2), "b", &others).await.unwrap();
    assert_eq!(sent, 9_000 + 16 + 4);
    assert_ne!(inode(3), inode(2));
    // The first backup's partition is made anew, with other bytes, in the place of the link.
    let pointer = directory
        .path()
        .join("backup")
        .join(exercise::partition_dir(2))
        .join("current_checkpoint");
    fs::remove_file(pointer).unwrap();
    upload(&target, 2, None, "b", &others).await.unwrap();
    assert_eq!(faults(&target, 1).await, []);
    assert_eq!(fs::read(place(1)).unwrap(), rows["1000001.sst"]);
}

#[tokio::test]
async fn each_file_has_its_description_beside_it() {
    let (target, directory) = target();
    let rows = files(&[(1_000_001, 90)], "list");
    let (metadata, _) = upload(&target, 1, None, "a", &rows).await.unwrap();
    for entry in metadata.files {
        let place = directory
            .path()
            .join("backup")
            .join(path_of(1, &format!(".{}.meta", entry.name)));
        let said: Sidecar = parse(&fs::read(place).unwrap()).unwrap();
        assert_eq!((said.size, said.md5), (entry.size, entry.md5));
    }
}

#[tokio::test]
async fn a_base_that_is_gone_or_half_there_only_costs_sending() {
    let (target, directory) = target();
    let rows = files(&[(1_000_001, 900)], "list");
    let (_, sent) = upload(&target, 2, Some(1), "a", &rows).await.unwrap();
    assert_eq!(sent, 900 + 16 + 4);
    complete(&target, 2).await;
    fs::remove_file(
        directory
            .path()
            .join("backup")
            .join(path_of(2, "1000001.sst")),
    )
    .unwrap();
    let (_, sent) = upload(&target, 3, Some(2), "a", &rows).await.unwrap();
    assert_eq!(sent, 900 + 16 + 4);
    complete(&target, 3).await;
    assert_eq!(faults(&target, 3).await, []);
}

#[tokio::test]
async fn what_is_no_backup_is_passed_over() {
    let (target, directory) = target();
    let root = directory.path().join("backup").join(ROOT);
    fs::create_dir_all(root.join("photos")).unwrap();
    fs::create_dir_all(root.join("17x")).unwrap();
    fs::write(root.join("12"), "a file").unwrap();
    assert_eq!(catalog::list(&target, ROOT).await.unwrap(), []);
    assert_eq!(catalog::list(&target, "nowhere").await.unwrap(), []);
}

#[tokio::test]
async fn a_directory_without_rights_or_parent_is_refused_by_name() {
    let (_, directory) = target();
    let url = format!("file://{}/not/mounted", directory.path().display());
    let error = Target::from_url(&url).unwrap_err();
    assert_eq!(error.trouble, Trouble::NotFound);
    assert!(error.to_string().contains("not/mounted"), "{error}");
    if rustix_is_root() {
        // Nothing is forbidden to root; an immutable or read-only place is what stops it.
        let error = Target::from_url("file:///proc/pegasus").unwrap_err();
        assert!(error.to_string().contains("/proc/pegasus"), "{error}");
        return;
    }
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let target = Target::from_url(&format!("file://{}", closed.display())).unwrap();
    let error = upload(&target, 1, None, "a", &files(&[], ""))
        .await
        .unwrap_err();
    assert_eq!(error.trouble, Trouble::NoRights);
}

fn rustix_is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A file system of one MiB; `None`: this machine does not let us.
fn small(directory: &Path) -> Option<Mounted<'_>> {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(directory)
        .status();
    mounted
        .is_ok_and(|status| status.success())
        .then_some(Mounted(directory))
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_full_target_is_told_from_other_trouble_and_used_again_when_there_is_room() {
    let (_, directory) = target();
    let Some(mounted) = small(directory.path()) else {
        eprintln!("skipped: needs root");
        return;
    };
    let target = Target::from_url(&format!("file://{}/backup", mounted.0.display())).unwrap();
    let ballast = mounted.0.join("ballast");
    fs::write(&ballast, vec![0; 700 << 10]).unwrap();
    let rows = files(&[(1_000_001, 500 << 10)], "list");
    let error = upload(&target, 1, None, "a", &rows).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::NoSpace, "{error}");
    fs::remove_file(ballast).unwrap();
    upload(&target, 1, None, "a", &rows).await.unwrap();
    complete(&target, 1).await;
    assert_eq!(faults(&target, 1).await, []);
}

#[tokio::test]
async fn a_restore_that_would_fill_this_machine_does_not_begin() {
    let (target, _directory) = target();
    upload(&target, 1, None, "a", &files(&[(1_000_001, 5_000)], "list"))
        .await
        .unwrap();
    let here = tempfile::tempdir().unwrap();
    let error = download(&target, 1, here.path(), 4_000).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Local);
    assert!(
        error
            .to_string()
            .contains("5020 bytes are needed, 4000 are free"),
        "{error}"
    );
    assert_eq!(fs::read_dir(here.path()).unwrap().count(), 0);
}

#[test]
fn a_section_that_is_wrong_is_refused() {
    let error = Target::open("night", &TargetConfig::of_url("gopher://x/y")).unwrap_err();
    assert_eq!(error.trouble, Trouble::Config);
    assert!(
        error
            .to_string()
            .starts_with("backup target \"night\": gopher://x/y: nothing is known"),
        "{error}"
    );
}
