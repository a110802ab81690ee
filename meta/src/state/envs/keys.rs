//! The keys that can be set, and what their values may be.

use super::check;

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct EnvKey {
    pub name: &'static str,
    pub kind: Kind,
    /// What a value may be, for people.
    pub limitation: &'static str,
    pub sample: &'static str,
    /// It has an effect; otherwise it is only kept, until what it is for is there.
    pub acts: bool,
}

/// How a value is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Bool,
    /// 32 bits, from this on.
    Int32From(i32),
    /// 64 bits, from this on.
    Int64From(i64),
    /// 64 bits, from the first to the second.
    Int64Within(i64, i64),
    /// -1, or 1 and more.
    CompactionLevel,
    OneOf(&'static [&'static str]),
    /// `timeout` or `reconfig`, `*`, `all`, `read` or `write`.
    Deny,
    /// `20000*delay*100,20000*reject*100`.
    Throttle,
    /// The same, or a number alone.
    SizeThrottle,
    /// `3:00,21:00`.
    DailyTimes,
    Json,
    /// Rules of `user_specified_compaction`.
    CompactionRules,
}

impl Kind {
    /// What Apache's list of environments calls it.
    #[must_use]
    pub const fn type_name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int32From(_) => "int32",
            Self::Int64From(_) | Self::Int64Within(..) => "int64",
            Self::CompactionLevel => "int64",
            _ => "string",
        }
    }
}

/// The key of this name; `None`: it cannot be set.
#[must_use]
pub fn find(name: &str) -> Option<&'static EnvKey> {
    KEYS.iter().find(|key| key.name == name)
}

/// Whether `key` may be set to `value`.
///
/// # Errors
/// A hint for the operator.
pub(super) fn check(key: &str, value: &str) -> Result<(), String> {
    let Some(known) = find(key) else {
        let shown: String = key.chars().take(128).collect();
        return Err(format!("app_env '{shown}' is not supported"));
    };
    if check::fits(known.kind, value) {
        return Ok(());
    }
    let shown: String = value.chars().take(128).collect();
    Err(format!(
        "invalid value '{shown}' of app_env '{key}': it should be {}, such as '{}'",
        known.limitation, known.sample
    ))
}

const fn key(
    name: &'static str,
    kind: Kind,
    limitation: &'static str,
    sample: &'static str,
) -> EnvKey {
    EnvKey {
        name,
        kind,
        limitation,
        sample,
        acts: false,
    }
}

const fn acting(key: EnvKey) -> EnvKey {
    EnvKey { acts: true, ..key }
}

const MIB: i64 = 1 << 20;
const BOOL: &str = "true or false";
const THROTTLE: &str = "units*delay*ms, units*reject*ms or both with a comma between them, units with K or M if wanted";
const LEVEL: &str = "-1, or 1 and more";
const BOTTOMMOST: &str = "force or skip";
const BOTTOMMOST_VALUES: &[&str] = &["force", "skip"];
const RULES: &str = r#"JSON such as {"ops":[{"type":"COT_DELETE","params":"","rules":[..]}]}"#;

/// All keys that users may set.
pub const KEYS: [EnvKey; 33] = [
    acting(key(
        "replica.deny_client_request",
        Kind::Deny,
        "timeout or reconfig, an asterisk, then all, read or write",
        "timeout*all",
    )),
    acting(key(
        "replica.write_throttling",
        Kind::Throttle,
        THROTTLE,
        "20000*delay*100,20000*reject*100",
    )),
    acting(key(
        "replica.write_throttling_by_size",
        Kind::Throttle,
        THROTTLE,
        "20M*delay*100,20M*reject*100",
    )),
    acting(key(
        "replica.read_throttling",
        Kind::Throttle,
        THROTTLE,
        "20000*delay*100,20000*reject*100",
    )),
    acting(key(
        "replica.read_throttling_by_size",
        Kind::SizeThrottle,
        "a number of bytes, with K or M if wanted, or the form of the other throttles",
        "20M",
    )),
    key(
        "replica.backup_request_throttling",
        Kind::Throttle,
        THROTTLE,
        "20000*delay*100,20000*reject*100",
    ),
    acting(key(
        "replica.slow_query_threshold",
        Kind::Int64From(20),
        "20 or more, in milliseconds",
        "1000",
    )),
    key(
        "replica.rocksdb_iteration_threshold_time_ms",
        Kind::Int64From(0),
        "0 or more, in milliseconds",
        "1000",
    ),
    key(
        "replica.rocksdb_block_cache_enabled",
        Kind::Bool,
        BOOL,
        "true",
    ),
    key(
        "replica.split.validate_partition_hash",
        Kind::Bool,
        BOOL,
        "true",
    ),
    key(
        "replica_access_controller.allowed_users",
        Kind::Text,
        "names with a comma between them",
        "user1,user2",
    ),
    key(
        "replica_access_controller.ranger_policies",
        Kind::Json,
        "JSON",
        "{}",
    ),
    acting(key(
        "rocksdb.usage_scenario",
        Kind::OneOf(&["normal", "prefer_write", "bulk_load"]),
        "normal, prefer_write or bulk_load",
        "normal",
    )),
    key(
        "rocksdb.checkpoint.reserve_min_count",
        Kind::Int32From(1),
        "1 or more",
        "2",
    ),
    key(
        "rocksdb.checkpoint.reserve_time_seconds",
        Kind::Int32From(0),
        "0 or more",
        "3600",
    ),
    acting(key(
        "rocksdb.write_buffer_size",
        Kind::Int64Within(16 * MIB, 512 * MIB),
        "16777216 to 536870912, in bytes",
        "33554432",
    )),
    key(
        "rocksdb.num_levels",
        Kind::Int64Within(1, 10),
        "1 to 10",
        "6",
    ),
    key("rocksdb.allow_ingest_behind", Kind::Bool, BOOL, "true"),
    acting(key(
        super::DEFAULT_TTL,
        Kind::Int32From(0),
        "0 or more, in seconds",
        "86400",
    )),
    acting(key("manual_compact.disabled", Kind::Bool, BOOL, "true")),
    acting(key(
        "manual_compact.max_concurrent_running_count",
        Kind::Int32From(0),
        "0 or more",
        "8",
    )),
    acting(key(
        "manual_compact.once.trigger_time",
        Kind::Int64From(0),
        "0 or more, in Unix seconds",
        "1700000000",
    )),
    acting(key(
        "manual_compact.once.target_level",
        Kind::CompactionLevel,
        LEVEL,
        "-1",
    )),
    acting(key(
        "manual_compact.once.bottommost_level_compaction",
        Kind::OneOf(BOTTOMMOST_VALUES),
        BOTTOMMOST,
        "skip",
    )),
    acting(key(
        "manual_compact.periodic.trigger_time",
        Kind::DailyTimes,
        "times of day with a comma between them",
        "3:00,21:00",
    )),
    acting(key(
        "manual_compact.periodic.target_level",
        Kind::CompactionLevel,
        LEVEL,
        "-1",
    )),
    acting(key(
        "manual_compact.periodic.bottommost_level_compaction",
        Kind::OneOf(BOTTOMMOST_VALUES),
        BOTTOMMOST,
        "skip",
    )),
    key(
        "user_specified_compaction",
        Kind::CompactionRules,
        RULES,
        r#"{"ops":[{"type":"COT_DELETE","params":"","rules":[{"type":"FRT_HASHKEY_PATTERN","params":"{\"pattern\":\"tmp\",\"match_type\":\"SMT_MATCH_PREFIX\"}"}]}]}"#,
    ),
    // A note for people: to be kept is all that it is for.
    acting(key("business.info", Kind::Text, "any text", "owner=team")),
    key(
        "duplication.master_cluster",
        Kind::Text,
        "any text",
        "master",
    ),
    key(
        "duplication.master_metas",
        Kind::Text,
        "any text",
        "10.0.0.1:34601",
    ),
    key(
        "duplication.master_app_name",
        Kind::Text,
        "any text",
        "users",
    ),
    key(
        "duplication.follower_app_status",
        Kind::Text,
        "any text",
        "creating",
    ),
];
