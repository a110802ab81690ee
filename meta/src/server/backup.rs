//! Backups at this server: the targets that its configuration names, what is done at them for the state machine, and what
//! operators ask and are shown.
//!
//! ```text
//! decider --chores--> keeper (a task) --reads, writes, deletes at the target--> decider: what came of it
//! restore: connection --reads from the target what the table was--> decider: make it
//! ```

mod keeper;
mod shown;
mod wire;

pub(super) use keeper::{Errand, keep};
pub(super) use shown::{answer, restore_reply, started_reply};
pub(super) use wire::{order, progress, query, restore, write_order, write_restore};

use super::letter::Failed;
use crate::state::{
    BackupCommand, PolicyOrder, REPLICA_COUNT_MAX, RestoreSource, RestoreTable, Site, envs,
};
use pegasus_backup::files::AppMetadata;
use pegasus_backup::{Target, TargetConfig, TargetError, catalog, layout};
use pegasus_fbs::code::Code;
use pegasus_replication::ids::TableId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is read from a target before an operator is answered has to be there by then.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Where backups go. The section `backup` of the configuration file, the same on meta and on all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupOptions {
    /// Sections `backup.targets.NAME`, each with a `url` and what that needs.
    pub targets: BTreeMap<String, TargetConfig>,
}

impl BackupOptions {
    /// Refuses what cannot be a target, with a sentence.
    ///
    /// # Errors
    /// Names the target.
    pub fn check(&self) -> Result<(), String> {
        for (name, target) in &self.targets {
            if !crate::state::may_name(name) {
                return Err(format!(
                    "backup target {name:?} is not named by 1 to 128 of [a-zA-Z0-9_.:-]"
                ));
            }
            target
                .check()
                .map_err(|error| format!("backup target {name}: {error}"))?;
        }
        Ok(())
    }

    /// # Errors
    /// None is called so; those that are known, and the nearest of them.
    pub(super) fn config(&self, name: &str) -> Result<&TargetConfig, Failed> {
        if let Some(config) = self.targets.get(name) {
            return Ok(config);
        }
        let shown: String = name.chars().take(128).collect();
        let known: Vec<&str> = self.targets.keys().map(String::as_str).collect();
        let hint = match nearest(name, &known) {
            _ if known.is_empty() => {
                "the configuration of meta has no section [backup.targets.NAME]".to_owned()
            }
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("there are: {}", known.join(", ")),
        };
        let message = format!("unknown backup target {shown:?}; {hint}");
        Err(Failed::new(Code::InvalidArgument, message))
    }

    fn open(&self, name: &str) -> Result<Target, Failed> {
        let config = self.config(name)?;
        Target::open(name, config).map_err(|error| failed(&error))
    }

    /// Refuses a command that names a target which is not there.
    pub(super) fn expect_targets(&self, command: &BackupCommand) -> Result<(), Failed> {
        let target = match command {
            BackupCommand::Start(start) => &start.target,
            BackupCommand::Policy {
                order: PolicyOrder::Add { target, .. },
                ..
            } => target,
            _ => return Ok(()),
        };
        self.config(target).map(|_| ())
    }
}

/// A question about backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BackupQuery {
    /// Empty texts: all; limit 0: as many as there are.
    List {
        table: String,
        policy: String,
        limit: u32,
    },
    Show {
        id: u64,
    },
    /// Empty: all.
    Policies {
        name: String,
    },
    /// By number if it is not 0, else by name.
    Restore {
        table: String,
        id: TableId,
    },
}

/// What an operator says of a table to be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RestoreRequest {
    pub(super) target: String,
    /// Empty: the name of this cluster.
    pub(super) root: String,
    pub(super) backup: u64,
    /// Of the table that was backed up; empty: by its number.
    pub(super) table_name: String,
    pub(super) table: Option<TableId>,
    /// Empty: as it was called.
    pub(super) new_name: String,
    pub(super) skips_bad: bool,
    /// `None`: as it was.
    pub(super) replica_count: Option<u32>,
    pub(super) allow_degraded: bool,
}

/// Reads what the table was, so that it can be made.
pub(super) async fn prepare_restore(
    options: &BackupOptions,
    cluster: &str,
    request: RestoreRequest,
) -> Result<BackupCommand, Failed> {
    let target = options.open(&request.target)?;
    let root = match request.root.as_str() {
        "" => cluster.to_owned(),
        root => root.to_owned(),
    };
    let read = read_metadata(&target, &root, &request);
    let (id, metadata) = tokio::time::timeout(READ_TIMEOUT, read)
        .await
        .map_err(|_| {
            let message = format!("backup target {:?} does not answer", request.target);
            Failed::new(Code::NotServing, message)
        })??;
    let site = Site {
        target: request.target.clone(),
        root,
    };
    Ok(BackupCommand::Restore(table_to_make(
        request, site, id, metadata,
    )?))
}

/// Which table of the backup is meant, and what it was.
async fn read_metadata(
    target: &Target,
    root: &str,
    request: &RestoreRequest,
) -> Result<(TableId, AppMetadata), Failed> {
    let backup = request.backup;
    let invalid = |message: String| Failed::new(Code::InvalidArgument, message);
    let info = catalog::info(target, root, backup)
        .await
        .map_err(|error| failed(&error))?;
    let info = info.ok_or_else(|| {
        let place = layout::backup_dir(root, backup);
        invalid(format!(
            "backup target {:?} has no complete backup {place}",
            request.target
        ))
    })?;
    let is_meant = |id: u32, name: &str| match request.table {
        Some(wanted) => wanted.0 == id,
        None => name == request.table_name,
    };
    let tables = info.tables();
    let tables = tables
        .iter()
        .filter_map(|(id, name)| Some((u32::try_from(*id).ok()?, name.as_str())));
    let tables: Vec<(u32, &str)> = tables.collect();
    let found = tables.iter().find(|(id, name)| is_meant(*id, name));
    let Some((id, name)) = found else {
        let there: Vec<String> = tables
            .iter()
            .map(|(id, name)| format!("{name} (#{id})"))
            .collect();
        let wanted = match request.table {
            Some(id) => format!("#{id}"),
            None => format!("{:?}", request.table_name),
        };
        return Err(invalid(format!(
            "backup {backup} has no table {wanted}; it has {}",
            there.join(", ")
        )));
    };
    let directory = layout::table_dir(root, backup, name, *id);
    let path = layout::app_metadata(&directory);
    let metadata: Option<AppMetadata> = target
        .read_json(&path)
        .await
        .map_err(|error| failed(&error))?;
    let mut metadata = metadata.ok_or_else(|| {
        invalid(format!(
            "backup target {:?}: {path} is missing",
            request.target
        ))
    })?;
    // It names the directory of the partitions, whatever the metadata say.
    (*name).clone_into(&mut metadata.app_name);
    Ok((TableId(*id), metadata))
}

fn table_to_make(
    request: RestoreRequest,
    site: Site,
    id: TableId,
    metadata: AppMetadata,
) -> Result<RestoreTable, Failed> {
    let bad = |what: &str, found: i64| {
        let message = format!(
            "backup {}: {what} {found} of table {:?} cannot be",
            request.backup, metadata.app_name
        );
        Failed::new(Code::InvalidArgument, message)
    };
    let partition_count = u32::try_from(metadata.partition_count)
        .map_err(|_| bad("partition count", metadata.partition_count.into()))?;
    let replica_count = match request.replica_count {
        Some(count) => u8::try_from(count).unwrap_or(u8::MAX),
        // A table of a program that lets them have more is made with as many as there can be.
        None => u8::try_from(metadata.max_replica_count)
            .map_err(|_| bad("replica count", metadata.max_replica_count.into()))?
            .min(REPLICA_COUNT_MAX),
    };
    let table_name = metadata.app_name;
    let name = match request.new_name.as_str() {
        "" => table_name.clone(),
        new => new.to_owned(),
    };
    // Keys of the server, and those of other versions, are not carried over.
    let (kept, left): (BTreeMap<_, _>, BTreeMap<_, _>) = metadata
        .envs
        .into_iter()
        .partition(|(key, value)| envs::may_be_restored(key, value));
    for key in left.keys() {
        tracing::warn!(
            table = name,
            key,
            "a setting of the backup is none that a table here can have"
        );
    }
    Ok(RestoreTable {
        name,
        partition_count,
        replica_count,
        allow_degraded: request.allow_degraded,
        envs: kept,
        source: RestoreSource {
            site,
            backup: request.backup,
            table_name,
            table: id,
        },
        skips_bad: request.skips_bad,
    })
}

/// Errors of a target name it and the file.
fn failed(error: &TargetError) -> Failed {
    let code = if error.trouble.may_pass() {
        Code::NotServing
    } else {
        Code::InvalidArgument
    };
    Failed::new(code, error.to_string())
}

/// The one of `known` that differs in the fewest characters, if these are few.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distances = known.iter().map(|it| (distance(name, it), *it));
    let (distance, near) = distances.min()?;
    (distance <= 1 + name.chars().count() / 4).then_some(near)
}

/// Characters to be put in, taken out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(128).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(128).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(names: &[&str]) -> BackupOptions {
        let targets = names.iter().map(|name| {
            let config = TargetConfig::of_url("file:///tmp/backup");
            ((*name).to_owned(), config)
        });
        BackupOptions {
            targets: targets.collect(),
        }
    }

    #[test]
    fn an_unknown_target_is_told_which_one_is_near_or_which_there_are() {
        let said = |names: &[&str], name: &str| match options(names).config(name) {
            Ok(_) => String::new(),
            Err(failed) => failed.message,
        };
        assert!(said(&["local", "cloud"], "locl").contains("did you mean \"local\"?"));
        assert!(said(&["local", "cloud"], "elsewhere").contains("there are: cloud, local"));
        assert!(said(&[], "x").contains("no section [backup.targets.NAME]"));
        assert_eq!(said(&["local"], "local"), "");
    }

    #[test]
    fn targets_are_checked_by_name_and_url() {
        assert_eq!(options(&["local"]).check(), Ok(()));
        assert!(options(&["a/b"]).check().is_err());
        let mut bad = options(&["local"]);
        bad.targets
            .insert("x".to_owned(), TargetConfig::of_url("ftp://h/x"));
        let said = bad.check().err();
        assert!(said.is_some_and(|it| it.contains("backup target x: ")));
    }

    #[test]
    fn settings_of_another_program_are_left_behind() {
        let envs = [
            ("default_ttl", "60"),
            ("restore.force_restore", "true"),
            ("replica.write_throttling", "no number"),
        ];
        let metadata = AppMetadata {
            app_name: "t".to_owned(),
            partition_count: 4,
            max_replica_count: 9,
            envs: envs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..AppMetadata::default()
        };
        let request = RestoreRequest {
            target: "local".to_owned(),
            root: String::new(),
            backup: 5,
            table_name: "t".to_owned(),
            table: None,
            new_name: String::new(),
            skips_bad: false,
            replica_count: None,
            allow_degraded: false,
        };
        let site = Site {
            target: "local".to_owned(),
            root: "c".to_owned(),
        };
        let made = table_to_make(request, site, TableId(3), metadata).ok();
        let made = made.as_ref();
        assert_eq!(made.map(|it| it.envs.len()), Some(1));
        assert_eq!(made.map(|it| it.replica_count), Some(REPLICA_COUNT_MAX));
        assert_eq!(made.map(|it| it.name.as_str()), Some("t"));
    }
}
