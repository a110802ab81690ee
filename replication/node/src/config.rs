//! The one configuration tree of a node, as TOML or flags; the only place that reads them.
//!
//! Two groups are kept apart: [`ClusterConfig`] must be the same on every node of a cluster, everything else belongs to
//! this process. Unknown keys are refused, bad values are refused with a sentence, nothing is repaired quietly.

mod checks;
mod defaults;

pub use pegasus_host::units::{ByteSize, Cores, Millis};
pub use pegasus_logs::LogsConfig;

use checks::require;
use pegasus_backup::TargetConfig;
use pegasus_net::request::TABLE_NAME_BYTES_MAX;
use pegasus_replication::config::ReplicationOptions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Everything a node is told. `Config::check` must have passed before it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub process: ProcessConfig,
    pub cluster: ClusterConfig,
}

/// What may differ from node to node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// Data directory; formatted at the first start. No default.
    pub dir: PathBuf,
    /// Meta servers, tried in turn. Default 127.0.0.1:34601.
    pub meta: Vec<SocketAddr>,
    /// File with the cluster's token (mode 0600). Without one the token is empty, allowed on loopback only.
    pub token_file: Option<PathBuf>,
    /// Table of Redis clients that select none. Default "redis"; the same on all nodes, or clients see another table elsewhere.
    pub redis_table: String,
    pub listen: ListenConfig,
    pub cpu: CpuConfig,
    pub memory: MemoryConfig,
    pub log: LogConfig,
    pub disk: DiskConfig,
    pub stall: StallConfig,
    pub stop: StopConfig,
    pub transfer: TransferConfig,
    pub backup: BackupConfig,
    pub scrub: ScrubConfig,
    pub stats: StatsConfig,
    /// Lines of the log: which, how they look, how often one may repeat itself.
    pub logs: LogsConfig,
}

/// Addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenConfig {
    /// Address to bind. Default 127.0.0.1; any other has to be spelled out.
    pub bind: IpAddr,
    /// Address told to others; default: the bound one. Needed where `bind` is 0.0.0.0 or behind translation.
    pub advertise: Option<IpAddr>,
    /// Client port of core 0; core n listens on `base_port + n`. Default 34801. 0 = a free block is found by binding.
    pub base_port: u16,
    /// Peer port of a core = its client port + this. Default 1000; at least the number of cores.
    pub peer_port_offset: u16,
    /// Connections per core, clients and peers together; over it new ones are closed. Default 4096, 16 to 65536.
    pub connections_max: u32,
}

/// Which CPUs do what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CpuConfig {
    /// A count ("2": the first CPUs nobody claims) or a list ("cpu:2", "2,3", "2-5"). Default 1.
    pub cores: Cores,
    /// CPUs of background work (compaction, segments, slow engine calls). Empty: unpinned at idle weight.
    pub background: Vec<u32>,
    /// What a data thread does with nothing to do. Default adaptive.
    pub poll: Poll,
    /// Where CPUs are claimed by lock files, the same for all nodes of a machine. Default /tmp/pegasus-cpu.
    pub claims_dir: PathBuf,
    /// Threads for slow engine calls and reads from disk, per node. Default 4, 1 to 64.
    pub engine_threads: usize,
}

/// What a data thread does with nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Poll {
    /// Poll up to 80 us after the last event, then sleep.
    #[default]
    Adaptive,
    /// Never sleep: lowest latency, needs CPUs of its own.
    Busy,
    /// Sleep at once: laptops, CI, several nodes on one machine.
    Sleep,
}

/// The memory budget of one core; a node takes cores x the sum.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Cache of blocks and rows. Default 128 MiB, at least 8 MiB. Too small: reads go to the disk.
    pub cache: ByteSize,
    /// Share of `cache` for single rows, which point reads find about ten times as fast as in blocks. Default 25 percent,
    /// 0 (none) to 75. Too large: fewer blocks, more reads from the disk; too small: hot rows cost more CPU.
    pub row_cache_percent: u8,
    /// All memtables together. Default 64 MiB, at least 4 MiB. Too small: many small files.
    pub memtables: ByteSize,
    /// Requests in work, per core. Default 65536, at least 64. Over it clients get busy.
    pub requests_max: usize,
    /// Bytes of the requests in work, per core. Default 256 MiB, at least 16 MiB. Over it clients get busy.
    pub requests: ByteSize,
    /// Bytes of answers waiting for slow clients, per core. Default 64 MiB, at least 4 MiB.
    pub network: ByteSize,
    /// Where memory comes from on machines of several NUMA nodes. Default local.
    pub numa: NumaSetting,
}

/// Where memory comes from on machines of several NUMA nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NumaSetting {
    /// From the NUMA node of the cores.
    #[default]
    Local,
    /// Wherever the kernel likes: for processes whose CPUs somebody else moves.
    Any,
}

/// The replication log of one core.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// One segment file. Default 64 MiB; 1 MiB to 1 GiB, a multiple of 1 MiB.
    pub segment: ByteSize,
    /// All segments of a core. 0 (default) = 4 x memtables, at most 1 GiB. Over it replicas are flushed.
    pub budget: ByteSize,
    /// Recycled segments kept for reuse, per core. Default 2, 0 to 16.
    pub recycled_max: usize,
    /// What makes log writes durable. Default auto: chosen from file system and drive, and said at start.
    pub flush: FlushSetting,
    /// Log writes under way at once. Default 2, 1 to 16. More: shorter waits on a drive that works on several at once, smaller
    /// batches and so more CPU for each write.
    pub writes_inflight_max: usize,
}

/// What makes log writes durable; `log_flush` has what each means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlushSetting {
    #[default]
    Auto,
    /// `fdatasync` behind each write.
    Fdatasync,
    /// `RWF_DSYNC` writes.
    Dsync,
    /// The O_DIRECT write alone: loses acknowledged writes on a drive with a volatile cache.
    WriteThrough,
}

/// Free space: writes are refused before the disk is full.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskConfig {
    /// Writes are refused at this share of the disk in use. Default 90 percent, 1 to 100.
    pub refuse_percent: u8,
    /// ... and allowed again at this one. Default 85 percent, below `refuse_percent`.
    pub resume_percent: u8,
    /// Free bytes below which writes are refused whatever the share. 0 (default) = the larger of 5 % of the disk and
    /// one log budget + two memtable budgets per core; but at most a quarter of the disk.
    pub reserve: ByteSize,
    /// How often free space is looked at. Default 1000 ms, 10 to 60000.
    pub check_period_ms: Millis,
}

/// The stall detector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StallConfig {
    /// A data core that has not returned to its loop for this long is logged. Default 10 ms, 1 to 10000.
    pub limit_ms: Millis,
}

/// What a node does when it is told to stop.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopConfig {
    /// How long it may take to hand over what it leads before it stops. Default 10 s, 0 to 600000; 0 = it does not. Too short:
    /// clients wait for failovers; too long: a service manager kills it first.
    pub handover_ms: Millis,
}

/// Copies of replicas that leave for learners elsewhere, and that learners here fetch.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransferConfig {
    /// Bytes a second that all of them together may take, in each direction. 0 (default) = an eighth of what the drive can do as
    /// `pegasus tune disk` measured it, 8 to 256 MiB; 64 MiB without a measurement. Else at least 1 MiB. Too large: clients feel the disk; too
    /// small: a lost replica is replaced late.
    pub bytes_per_second: ByteSize,
    /// Transfers at a time, in each direction. Default 2, 1 to 64.
    pub sessions_max: usize,
}

/// Backups of replicas to targets, and replicas made from backups.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupConfig {
    /// Bytes a second that all backups of this node together send, unless a backup asks for another pace; the same again may
    /// be read from the drive to look for what has changed. Default 50 MiB; 0 = as fast as it goes, else at least 64 KiB. Too
    /// large: clients feel the drive; too small: backups do not end before the next one begins.
    pub bytes_per_second: ByteSize,
    /// Bytes a second that restores fetch. Default 0 = as fast as it goes, else at least 64 KiB.
    pub restore_bytes_per_second: ByteSize,
    /// Partitions under way at a time, sent or fetched. Default 2, 1 to 64.
    pub partitions_max: usize,
    /// Where backups can be, by name; the same on meta and on all nodes.
    pub targets: BTreeMap<String, TargetConfig>,
}

/// Reading everything on disk to find damage before a client does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScrubConfig {
    /// A pass begins so long after the last one ended. Default 168 (a week), at most 8760; 0 = only when an operator asks.
    pub period_hours: u64,
    /// Share of the time that a pass works. Default 10 percent, 1 to 100. Too large: clients feel the disk.
    pub share_percent: u8,
}

/// The statistics page of each core.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StatsConfig {
    /// Whether the stages of each request are measured, with the slowest requests. Default on: it costs well under 1 % of a
    /// core. Off: whole operations are still timed, and nobody can tell where a slow request's time went.
    pub stages: StagesConfig,
    /// Requests that take longer are logged with their stages and kept for `pegasus table slow`; a table's
    /// `replica.slow_query_threshold` wins. Default 100 ms, 1 to 3600000; 0 = none, but for tables that have their own. Needs
    /// `stages`.
    pub slow_request_ms: Millis,
}

/// Whether the stages of requests are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StagesConfig {
    #[default]
    On,
    Off,
}

/// What must be the same on every node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// How often a primary tells its members that it lives. Default 100 ms, 10 to 10000; at most a third of the lease.
    pub beacon_period_ms: Millis,
    /// How long a primary may answer reads after it sent a beacon that all members acknowledged. Default 400 ms, 30 to 60000.
    /// Longer: slower failover. Shorter: pauses of a member stop reads.
    pub lease_period_ms: Millis,
    /// How long a secondary that hears nothing waits before it asks to take over. Default 550 ms, at least 1.25 x the lease.
    pub grace_period_ms: Millis,
    /// How long the link to a member may stay closed before its removal is proposed. Default 100 ms, 10 to 60000.
    pub redial_period_ms: Millis,
    /// A member whose acknowledgements lag by more than this is proposed for removal as slow. Default 500 ms, 50 to 60000 ...
    pub slow_lag_ms: Millis,
    /// ... while our own log becomes durable within this. Default 100 ms, 1 to 60000.
    pub slow_own_flush_ms: Millis,
    /// Mutations and bytes of a partition kept in memory for a learner. Defaults 4096 and 16 MiB. Over them it starts over.
    pub learner_entries_max: usize,
    pub learner_max: ByteSize,
    /// Prepares of one partition without an answer. Default 256, 1 to 4096. Over it clients get busy.
    pub prepare_inflight_max: usize,
    /// Bytes appended and not yet durable, per core. Default 32 MiB, at least 4 MiB.
    pub log_pending_max: ByteSize,
    /// Mutations committed and not yet applied, per partition. Default 1024, 16 to 65536.
    pub apply_queue_max: usize,
    /// Bytes of prepares in flight to one peer core. Default 16 MiB, at least 4 MiB.
    pub peer_window: ByteSize,
    /// Largest write: keys and values of one request. Default 1 MiB, 1 KiB to 1 MiB.
    pub write_max: ByteSize,
}

/// Why a configuration is refused; each is one sentence that names the thing.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("configuration {path}: {error}")]
    Read {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("configuration {path}: {error}")]
    Parse { path: PathBuf, error: String },
    #[error("configuration {key}: {value} is refused, {wanted}")]
    Value {
        key: &'static str,
        value: String,
        wanted: &'static str,
    },
    #[error("configuration cluster: {0}")]
    Replication(String),
    #[error("configuration process.backup.targets.{name}: {what}")]
    Target { name: String, what: String },
    #[error("configuration process.logs: {0}")]
    Logs(String),
}

impl Config {
    /// Reads a TOML file. Unknown keys and wrong types are refused with their place; values are not checked yet.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
            path: path.into(),
            error,
        })?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.into(),
            error: error.to_string(),
        })
    }

    /// Refuses values out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.process.check()?;
        self.cluster.check()?;
        self.replication().check().map_err(ConfigError::Replication)
    }

    /// Bytes of memory that the budgets of all cores allow together.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let memory = &self.process.memory;
        let core = memory.cache.0
            + memory.memtables.0
            + memory.requests.0
            + memory.network.0
            + self.cluster.log_pending_max.0;
        core.saturating_mul(self.process.cpu.cores.count() as u64)
    }

    /// The whole tree as TOML, as printed at start.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# not printable: {error}\n"))
    }

    /// What the replication core takes.
    #[must_use]
    pub fn replication(&self) -> ReplicationOptions {
        let cluster = &self.cluster;
        ReplicationOptions {
            beacon_period: cluster.beacon_period_ms.duration(),
            lease_period: cluster.lease_period_ms.duration(),
            grace_period: cluster.grace_period_ms.duration(),
            redial_period: cluster.redial_period_ms.duration(),
            slow_lag: cluster.slow_lag_ms.duration(),
            slow_own_flush: cluster.slow_own_flush_ms.duration(),
            learner_entries_max: cluster.learner_entries_max,
            learner_bytes_max: cluster.learner_max.usize(),
            prepare_inflight_max: cluster.prepare_inflight_max,
            log_pending_bytes_max: cluster.log_pending_max.usize(),
            apply_queue_max: cluster.apply_queue_max,
            peer_window_bytes_max: cluster.peer_window.usize(),
            ..ReplicationOptions::default()
        }
    }
}

impl ProcessConfig {
    fn check(&self) -> Result<(), ConfigError> {
        require(
            !self.dir.as_os_str().is_empty(),
            "process.dir",
            &"(empty)",
            "name a data directory",
        )?;
        require(
            !self.meta.is_empty(),
            "process.meta",
            &"(empty)",
            "name at least one meta server",
        )?;
        require(
            (1..=TABLE_NAME_BYTES_MAX).contains(&self.redis_table.len()),
            "process.redis_table",
            &self.redis_table,
            "name a table, in at most 128 bytes",
        )?;
        self.listen
            .check(self.cpu.cores.count(), self.token_file.is_some())?;
        self.cpu.check()?;
        self.memory.check()?;
        self.log.check()?;
        self.stall.check()?;
        self.stop.check()?;
        self.transfer.check()?;
        self.backup.check()?;
        self.scrub.check()?;
        self.stats.check()?;
        self.logs.check().map_err(ConfigError::Logs)?;
        self.disk.check()
    }

    /// Bytes of log that one core may hold.
    #[must_use]
    pub fn log_budget_bytes(&self) -> u64 {
        match self.log.budget.0 {
            0 => (4 * self.memory.memtables.0)
                .min(1 << 30)
                .max(4 * self.log.segment.0),
            given => given,
        }
    }

    /// Free bytes of a disk of `disk_bytes` below which new writes are refused.
    #[must_use]
    pub fn disk_reserve_bytes(&self, disk_bytes: u64, cores: u64) -> u64 {
        match self.disk.reserve.0 {
            0 => {
                let own = cores * (self.log_budget_bytes() + 2 * self.memory.memtables.0);
                own.max(disk_bytes / 20).min(disk_bytes / 4)
            }
            given => given,
        }
    }
}

#[cfg(test)]
mod tests;
