//! Environments: settings of a table, texts by key, as Apache Pegasus has them. Validated when they are set, pushed to the
//! nodes with the table.

mod check;
mod keys;

pub use check::parse_deny;
pub use keys::{EnvKey, KEYS, Kind, find};

use super::command::{Answer, EnvChange, Refusal};
use super::table::Table;
use super::{Change, State, Work};
use std::collections::BTreeMap;

/// Environments of one table, at most.
pub const ENVS_MAX: usize = 128;
/// Longest key of an environment, in bytes.
pub const ENV_KEY_BYTES_MAX: usize = 128;
/// Longest value of an environment, in bytes.
pub const ENV_VALUE_BYTES_MAX: usize = 16 << 10;
/// All keys and values of all tables that are not dropped, in bytes: every node is told all of them in one frame.
pub const ENVS_BYTES_MAX: usize = 8 << 20;

/// Seconds that rows live which were written without an expiry.
pub const DEFAULT_TTL: &str = "default_ttl";

impl State {
    pub(super) fn handle_envs(
        &mut self,
        name: &str,
        change: EnvChange,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let table = self.expect_table(name)?;
        let id = table.id;
        let mut envs = table.envs.clone();
        match change {
            EnvChange::Set(pairs) => {
                for (key, value) in pairs {
                    keys::check(&key, &value).map_err(Refusal::BadEnv)?;
                    envs.insert(key, value);
                }
            }
            EnvChange::Delete(keys) => keys.iter().for_each(|key| _ = envs.remove(key)),
            EnvChange::Clear { prefix } => envs.retain(|key, _| !is_under(key, &prefix)),
        }
        if envs != table.envs {
            self.expect_room_for_envs(Some(table), &envs)?;
            self.change(Change::TableEnvs { table: id, envs }, work);
            self.tell_info(id, work);
        }
        Ok(Answer::Done)
    }

    /// `envs` in the place of those of `table`.
    pub(super) fn expect_room_for_envs(
        &self,
        table: Option<&Table>,
        envs: &BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        if let Some(fault) = fault(envs) {
            return Err(Refusal::BadEnv(fault.to_owned()));
        }
        let others = self
            .durable
            .tables()
            .values()
            .filter(|it| !it.is_dropped() && table.is_none_or(|table| table.id != it.id));
        let there: usize = others.map(|it| bytes(&it.envs)).sum();
        if there + bytes(envs) > ENVS_BYTES_MAX {
            let hint = format!(
                "environments of all tables would have more than {ENVS_BYTES_MAX} bytes together"
            );
            return Err(Refusal::BadEnv(hint));
        }
        Ok(())
    }
}

impl Table {
    /// Seconds that rows live which were written without an expiry; 0 = for ever.
    #[must_use]
    pub fn default_ttl_seconds(&self) -> u32 {
        let value = self.envs.get(DEFAULT_TTL);
        value.and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// What a new table may not begin with: as in Apache Pegasus only what can be set at creation alone, or changes how its
/// storage is made, is looked at; other keys are kept as they are.
///
/// # Errors
/// A hint that names the key.
pub(super) fn check_at_creation(envs: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for key in ["rocksdb.write_buffer_size", "rocksdb.num_levels"] {
        if let Some(value) = envs.get(key) {
            keys::check(key, value).map_err(Refusal::BadEnv)?;
        }
    }
    Ok(())
}

/// Whether a table that is made from a backup may begin with this setting. Those that only the server sets are left behind, and so
/// are values that a known key cannot have.
#[must_use]
pub fn may_be_restored(key: &str, value: &str) -> bool {
    let fits = (1..=ENV_KEY_BYTES_MAX).contains(&key.len()) && value.len() <= ENV_VALUE_BYTES_MAX;
    let is_servers = key.starts_with("restore.");
    fits && !is_servers && (find(key).is_none() || keys::check(key, value).is_ok())
}

/// Why these cannot be the environments of a table, if so: bounds only.
pub(super) fn fault(envs: &BTreeMap<String, String>) -> Option<&'static str> {
    match envs {
        _ if envs.len() > ENVS_MAX => Some("a table has at most 128 environments"),
        _ if envs.keys().any(String::is_empty) => Some("the key of an environment is empty"),
        _ if envs.keys().any(|it| it.len() > ENV_KEY_BYTES_MAX) => {
            Some("the key of an environment has at most 128 bytes")
        }
        _ if envs.values().any(|it| it.len() > ENV_VALUE_BYTES_MAX) => {
            Some("the value of an environment has at most 16384 bytes")
        }
        _ => None,
    }
}

/// `prefix` itself does not count, only what is below it; an empty one has everything below it.
fn is_under(key: &str, prefix: &str) -> bool {
    let below = key.strip_prefix(prefix);
    prefix.is_empty() || below.is_some_and(|rest| rest.starts_with('.'))
}

fn bytes(envs: &BTreeMap<String, String>) -> usize {
    envs.iter()
        .map(|(key, value)| key.len() + value.len())
        .sum()
}
