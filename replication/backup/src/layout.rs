//! Where what lies below the root of a target, as Apache Pegasus has it.
//!
//! ```text
//! ROOT/ID/backup_info                              written last: the backup is complete
//! ROOT/ID/TABLE_TABLEID/meta/app_metadata          what the table is
//! ROOT/ID/TABLE_TABLEID/meta/app_backup_status     all partitions of the table are there
//! ROOT/ID/TABLE_TABLEID/N/current_checkpoint       the name of the directory that counts; written last
//! ROOT/ID/TABLE_TABLEID/N/chkpt_HOST_PORT/..       a database, and backup_metadata, which lists its files
//! ```
//!
//! `ID` is when the backup began, in Unix milliseconds; `N` the number of the partition.

use std::net::SocketAddr;

/// Says when a backup began and ended and of which tables it is.
pub const BACKUP_INFO: &str = "backup_info";
/// Says what a table is.
pub const APP_METADATA: &str = "app_metadata";
/// There when all partitions of a table are.
pub const APP_BACKUP_STATUS: &str = "app_backup_status";
/// Names the directory of a partition that counts.
pub const CURRENT_CHECKPOINT: &str = "current_checkpoint";
/// Lists the files of a partition.
pub const BACKUP_METADATA: &str = "backup_metadata";

const CHECKPOINT_PREFIX: &str = "chkpt_";

/// `parts` as one path; empty ones are left out.
#[must_use]
pub fn join(parts: &[&str]) -> String {
    let parts = parts.iter().map(|part| part.trim_matches('/'));
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

/// The directory of one backup.
#[must_use]
pub fn backup_dir(root: &str, backup_id: u64) -> String {
    join(&[root, &backup_id.to_string()])
}

#[must_use]
pub fn backup_info(root: &str, backup_id: u64) -> String {
    join(&[&backup_dir(root, backup_id), BACKUP_INFO])
}

/// `TABLE_TABLEID`.
#[must_use]
pub fn table_name(name: &str, id: u32) -> String {
    format!("{name}_{id}")
}

/// The inverse of [`table_name`].
#[must_use]
pub fn parse_table_name(directory: &str) -> Option<(&str, u32)> {
    let (name, id) = directory.rsplit_once('_')?;
    Some((name, id.parse().ok()?))
}

#[must_use]
pub fn table_dir(root: &str, backup_id: u64, name: &str, id: u32) -> String {
    join(&[&backup_dir(root, backup_id), &table_name(name, id)])
}

#[must_use]
pub fn app_metadata(table_dir: &str) -> String {
    join(&[table_dir, "meta", APP_METADATA])
}

#[must_use]
pub fn app_backup_status(table_dir: &str) -> String {
    join(&[table_dir, "meta", APP_BACKUP_STATUS])
}

#[must_use]
pub fn partition_dir(table_dir: &str, partition: u32) -> String {
    join(&[table_dir, &partition.to_string()])
}

/// Name of the directory that the core with this client address fills.
#[must_use]
pub fn checkpoint_name(address: SocketAddr) -> String {
    // A colon, as in IPv6, is not a character for a path of HDFS.
    let host = address.ip().to_string().replace(':', "-");
    format!("{CHECKPOINT_PREFIX}{host}_{}", address.port())
}

/// Whether `name` may be that of a directory with files: a plain name, as ours and Apache Pegasus' are.
#[must_use]
pub fn is_checkpoint_name(name: &str) -> bool {
    name.starts_with(CHECKPOINT_PREFIX) && is_plain_name(name)
}

/// Whether `name` is that of a file in a directory, and leads nowhere else.
#[must_use]
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(['/', '\\', '\0'])
}

/// The description that file targets keep beside the file `name`, as Apache Pegasus' local service does.
#[must_use]
pub fn sidecar(name: &str) -> String {
    format!(".{name}.meta")
}

/// Whether it is such a description.
#[must_use]
pub fn is_sidecar(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".meta")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_apache_pegasus() {
        let table = table_dir("/cluster/", 1700, "my_table", 2);
        assert_eq!(table, "cluster/1700/my_table_2");
        assert_eq!(
            app_metadata(&table),
            "cluster/1700/my_table_2/meta/app_metadata"
        );
        assert_eq!(partition_dir(&table, 3), "cluster/1700/my_table_2/3");
        assert_eq!(backup_info("", 1700), "1700/backup_info");
        assert_eq!(
            checkpoint_name("127.0.0.1:34801".parse().unwrap()),
            "chkpt_127.0.0.1_34801"
        );
        assert_eq!(checkpoint_name("[::1]:5".parse().unwrap()), "chkpt_--1_5");
        assert_eq!(parse_table_name("my_table_2"), Some(("my_table", 2)));
        assert_eq!(parse_table_name("meta"), None);
        assert_eq!(sidecar("CURRENT"), ".CURRENT.meta");
    }

    #[test]
    fn names_that_lead_elsewhere_are_not_plain() {
        for name in ["", ".", "..", "a/b", "../a", "a\0"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
        assert!(is_checkpoint_name("chkpt_h_1"));
        assert!(!is_checkpoint_name("chkpt_../x"));
        assert!(!is_checkpoint_name("learn"));
    }
}
