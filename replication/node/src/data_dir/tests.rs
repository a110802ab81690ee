#![allow(clippy::unwrap_used, reason = "tests")]

mod any_bytes;

use super::*;

const CLUSTER: ClusterId = ClusterId(7);

#[test]
fn a_fresh_directory_is_formatted_and_each_start_is_counted() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("new");
    let mut dir = DataDir::open(&root, 2).unwrap();
    assert_eq!(dir.identity().node, None);
    dir.join(CLUSTER, NodeId(3)).unwrap();
    drop(dir);
    let dir = DataDir::open(&root, 2).unwrap();
    let expected = Identity {
        cluster: Some(CLUSTER),
        node: Some(NodeId(3)),
        incarnation: NodeIncarnation(2),
    };
    assert_eq!(dir.identity(), expected);
    assert!(dir.shard(CoreId(1)).log.is_dir());
}

#[test]
fn a_second_process_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let _held = DataDir::open(temporary.path(), 1).unwrap();
    let error = DataDir::open_within(temporary.path(), 1, Duration::ZERO).unwrap_err();
    assert!(matches!(error, DataDirError::Locked { .. }), "{error}");
}

#[test]
fn foreign_directories_and_clusters_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    fs::write(temporary.path().join("photos.tar"), b"x").unwrap();
    let error = DataDir::open(temporary.path(), 1).unwrap_err();
    assert!(matches!(error, DataDirError::Foreign { .. }), "{error}");

    let temporary = tempfile::tempdir().unwrap();
    let mut dir = DataDir::open(temporary.path(), 1).unwrap();
    dir.join(CLUSTER, NodeId(1)).unwrap();
    let error = dir.join(ClusterId(8), NodeId(1)).unwrap_err();
    assert!(
        matches!(error, DataDirError::ForeignCluster { .. }),
        "{error}"
    );
    let error = dir.join(CLUSTER, NodeId(2)).unwrap_err();
    assert!(matches!(error, DataDirError::ForeignNode { .. }), "{error}");
}

#[test]
fn shards_may_be_added_and_not_left_out() {
    let temporary = tempfile::tempdir().unwrap();
    drop(DataDir::open(temporary.path(), 1).unwrap());
    drop(DataDir::open(temporary.path(), 3).unwrap());
    let error = DataDir::open(temporary.path(), 2).unwrap_err();
    assert!(
        matches!(
            error,
            DataDirError::FewerCores {
                found: 3,
                wanted: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn another_format_is_named() {
    let temporary = tempfile::tempdir().unwrap();
    fs::write(
        temporary.path().join(IDENTITY_FILE),
        "format = 9\nnews = 1\n",
    )
    .unwrap();
    let error = DataDir::open(temporary.path(), 1).unwrap_err();
    assert!(
        matches!(error, DataDirError::Format { found: 9, .. }),
        "{error}"
    );
}
