//! What is in the JSON files of a backup: the fields of Apache Pegasus, and a few of ours that its readers pass over.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `backup_info`: a whole backup. A backup of one table (`start_backup_app`) has `app_id` and `app_name`, one of a policy
/// the three after them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct BackupInfo {
    /// When it began, in Unix milliseconds.
    pub backup_id: i64,
    pub start_time_ms: i64,
    /// 0: it has not ended.
    pub end_time_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app_id: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app_ids: Option<Vec<i32>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub app_names: Option<BTreeMap<i32, String>>,
    /// Of a policy's backup; 0 = it is alive.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub info_status: Option<i32>,
    /// Ours: the policy that had it made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<String>,
    /// Ours: the backup whose files were taken over where they had not changed; 0 = none.
    #[serde(default)]
    pub base_backup_id: i64,
    /// Ours: bytes of all files, and how many of them were sent for this backup.
    #[serde(default)]
    pub bytes_total: i64,
    #[serde(default)]
    pub bytes_sent: i64,
}

impl BackupInfo {
    /// Tables in it: number and name.
    #[must_use]
    pub fn tables(&self) -> BTreeMap<i32, String> {
        let mut tables = self.app_names.clone().unwrap_or_default();
        if let (Some(id), Some(name)) = (self.app_id, &self.app_name) {
            tables.insert(id, name.clone());
        }
        tables
    }
}

/// `app_metadata`: what a table is, as `app_info` of Apache Pegasus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct AppMetadata {
    /// `app_status::AS_AVAILABLE`.
    pub status: String,
    /// `pegasus`.
    pub app_type: String,
    pub app_name: String,
    pub app_id: i32,
    pub partition_count: i32,
    pub envs: BTreeMap<String, String>,
    pub is_stateful: bool,
    pub max_replica_count: i32,
    pub expire_second: i64,
    pub create_second: i64,
    pub drop_second: i64,
    pub duplicating: bool,
    pub init_partition_count: i32,
    pub is_bulk_loading: bool,
}

/// `backup_metadata`: the files of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct BackupMetadata {
    /// Everything up to here is in it, and nothing in part.
    pub checkpoint_decree: i64,
    /// When it was made, in Unix milliseconds.
    pub checkpoint_timestamp: i64,
    pub files: Vec<FileEntry>,
    pub checkpoint_total_size: i64,
    /// Ours: whose files they are. Of one source a name stands for the same file for ever.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// One file of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct FileEntry {
    pub name: String,
    pub size: i64,
    /// In hexadecimal.
    pub md5: String,
}

impl FileEntry {
    /// Its length; a negative one, which only a damaged list has, counts as 0.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.size).unwrap_or(0)
    }
}

/// `.FILE.meta` beside each file of a file target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Sidecar {
    pub size: i64,
    pub md5: String,
}

/// Longest JSON file that is read.
pub const JSON_BYTES_MAX: u64 = 64 << 20;
/// Files of one partition.
const FILES_MAX: usize = 100_000;

impl BackupMetadata {
    /// Reads a list and checks that its names are names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let parsed: Self = parse(bytes)?;
        if parsed.files.len() > FILES_MAX {
            return Err(format!(
                "{} files, at most {FILES_MAX} are possible",
                parsed.files.len()
            ));
        }
        let is_bad = |file: &&FileEntry| !crate::layout::is_plain_name(&file.name) || file.size < 0;
        if let Some(file) = parsed.files.iter().find(is_bad) {
            return Err(format!("{:?} of {} bytes is no file", file.name, file.size));
        }
        if parsed.checkpoint_decree < 0 {
            return Err(format!("decree {} is below 0", parsed.checkpoint_decree));
        }
        Ok(parsed)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |all, file| file.bytes().saturating_add(all))
    }
}

/// Any of the structures above.
///
/// # Errors
/// It is not what is expected; says where.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// The bytes of any of the structures above.
#[must_use]
pub fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("these structures have no keys but strings and numbers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_apache_pegasus_writes_is_read() {
        let told = br#"{"backup_id":1591,"start_time_ms":1591,"end_time_ms":1600,"app_ids":[1,2],"app_names":{"1":"stat","2":"temp"},"info_status":0}"#;
        let info: BackupInfo = parse(told).unwrap();
        assert_eq!(info.tables()[&2], "temp");
        let told = br#"{"checkpoint_decree":7,"checkpoint_timestamp":5,"files":[{"name":"CURRENT","size":16,"md5":"ab"}],"checkpoint_total_size":16}"#;
        let metadata = BackupMetadata::parse(told).unwrap();
        assert_eq!((metadata.checkpoint_decree, metadata.bytes()), (7, 16));
        assert!(metadata.source.is_empty());
        assert_eq!(to_bytes(&metadata), told);
    }

    #[test]
    fn a_backup_of_one_table_has_its_fields_only() {
        let info = BackupInfo {
            backup_id: 5,
            app_id: Some(1),
            app_name: Some("t".to_owned()),
            ..BackupInfo::default()
        };
        let text = String::from_utf8(to_bytes(&info)).unwrap();
        let expected = r#"{"backup_id":5,"start_time_ms":0,"end_time_ms":0,"app_id":1,"app_name":"t","base_backup_id":0,"bytes_total":0,"bytes_sent":0}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn lists_with_names_that_lead_elsewhere_are_refused() {
        for (name, size) in [("../x", 1), ("a/b", 1), ("", 1), ("a", -1)] {
            let list = BackupMetadata {
                files: vec![FileEntry {
                    name: name.to_owned(),
                    size,
                    md5: String::new(),
                }],
                ..BackupMetadata::default()
            };
            assert!(BackupMetadata::parse(&to_bytes(&list)).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = BackupMetadata::parse(&bytes);
            let _ = parse::<BackupInfo>(&bytes);
            let _ = parse::<AppMetadata>(&bytes);
        }
    }
}
