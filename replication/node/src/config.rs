//! The one configuration tree of a node, as TOML or flags; the only place that reads them.
//!
//! Two groups are kept apart: [`ClusterConfig`] must be the same on every node of a cluster, everything else belongs to
//! this process. Unknown keys are refused, bad values are refused with a sentence, nothing is repaired quietly.

mod units;

pub use units::{ByteSize, Cores, Millis};

use pegasus_replication::config::ReplicationOptions;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    pub listen: ListenConfig,
    pub cpu: CpuConfig,
    pub memory: MemoryConfig,
    pub log: LogConfig,
    pub disk: DiskConfig,
    pub stall: StallConfig,
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
    /// Poll 20-50 us after the last event, then sleep.
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
    /// Block cache. Default 128 MiB, at least 8 MiB. Too small: reads go to the disk.
    pub cache: ByteSize,
    /// All memtables together. Default 64 MiB, at least 4 MiB. Too small: many small files.
    pub memtables: ByteSize,
    /// Requests in work, per core. Default 65536, at least 64. Over it clients get busy.
    pub requests_max: usize,
    /// Bytes of answers waiting for slow clients and of requests in work. Default 64 MiB, at least 4 MiB.
    pub network: ByteSize,
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

/// What must be the same on every node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// How often a primary tells its commit points when no prepare carries them. Default 100 ms, 10 to 10000.
    pub beacon_period_ms: Millis,
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

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            meta: vec![SocketAddr::from(([127, 0, 0, 1], 34601))],
            token_file: None,
            listen: ListenConfig::default(),
            cpu: CpuConfig::default(),
            memory: MemoryConfig::default(),
            log: LogConfig::default(),
            disk: DiskConfig::default(),
            stall: StallConfig::default(),
        }
    }
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertise: None,
            base_port: 34801,
            peer_port_offset: 1000,
            connections_max: 4096,
        }
    }
}

impl Default for CpuConfig {
    fn default() -> Self {
        Self {
            cores: Cores::Count(1),
            background: Vec::new(),
            poll: Poll::default(),
            claims_dir: PathBuf::from("/tmp/pegasus-cpu"),
            engine_threads: 4,
        }
    }
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            cache: ByteSize::mib(128),
            memtables: ByteSize::mib(64),
            requests_max: 65_536,
            network: ByteSize::mib(64),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment: ByteSize::mib(64),
            budget: ByteSize(0),
            recycled_max: 2,
        }
    }
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            refuse_percent: 90,
            resume_percent: 85,
            reserve: ByteSize(0),
            check_period_ms: Millis(1000),
        }
    }
}

impl Default for StallConfig {
    fn default() -> Self {
        Self {
            limit_ms: Millis(10),
        }
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        let replication = ReplicationOptions::default();
        Self {
            beacon_period_ms: Millis(100),
            prepare_inflight_max: replication.prepare_inflight_max,
            log_pending_max: ByteSize(replication.log_pending_bytes_max as u64),
            apply_queue_max: replication.apply_queue_max,
            peer_window: ByteSize(replication.peer_window_bytes_max as u64),
            write_max: ByteSize::mib(1),
        }
    }
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
        self.cluster.check()
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
            prepare_inflight_max: cluster.prepare_inflight_max,
            log_pending_bytes_max: cluster.log_pending_max.usize(),
            apply_queue_max: cluster.apply_queue_max,
            peer_window_bytes_max: cluster.peer_window.usize(),
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
        self.listen
            .check(self.cpu.cores.count(), self.token_file.is_some())?;
        self.cpu.check()?;
        self.memory.check()?;
        self.log.check()?;
        self.disk.check()
    }

    /// Bytes of log that one core may hold.
    #[must_use]
    pub fn log_budget_bytes(&self) -> u64 {
        match self.log.budget.0 {
            0 => (4 * self.memory.memtables.0).clamp(4 * self.log.segment.0.min(64 << 20), 1 << 30),
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

impl ListenConfig {
    fn check(&self, cores: usize, has_token: bool) -> Result<(), ConfigError> {
        let advertised = self.advertise.unwrap_or(self.bind);
        require(
            !advertised.is_unspecified(),
            "process.listen.advertise",
            &advertised,
            "others cannot connect to it, name the address they use",
        )?;
        require(
            self.bind.is_loopback() || has_token,
            "process.token_file",
            &"(none)",
            "an address that is not loopback needs a cluster token",
        )?;
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        let offset = u32::from(self.peer_port_offset);
        require(
            offset >= cores,
            "process.listen.peer_port_offset",
            &offset,
            "it must be at least the number of cores",
        )?;
        let last = u32::from(self.base_port) + offset + cores;
        require(
            last <= 65_536,
            "process.listen.base_port",
            &self.base_port,
            "the last peer port would be over 65535",
        )?;
        let connections = self.connections_max;
        require(
            (16..=65_536).contains(&connections),
            "process.listen.connections_max",
            &connections,
            "16 to 65536 are allowed",
        )
    }
}

impl CpuConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let cores = self.cores.count();
        require(
            (1..=512).contains(&cores),
            "process.cpu.cores",
            &self.cores,
            "1 to 512 different cores are allowed",
        )?;
        let threads = self.engine_threads;
        require(
            (1..=64).contains(&threads),
            "process.cpu.engine_threads",
            &threads,
            "1 to 64 are allowed",
        )?;
        let shared = self.background.iter().find(|cpu| self.cores.lists(**cpu));
        let shown = shared.copied().unwrap_or_default();
        require(
            shared.is_none(),
            "process.cpu.background",
            &shown,
            "that CPU already is a data core",
        )
    }
}

impl MemoryConfig {
    fn check(&self) -> Result<(), ConfigError> {
        require(
            self.cache.0 >= 8 << 20,
            "process.memory.cache",
            &self.cache,
            "at least 8 MiB is needed",
        )?;
        require(
            self.memtables.0 >= 4 << 20,
            "process.memory.memtables",
            &self.memtables,
            "at least 4 MiB is needed",
        )?;
        require(
            self.requests_max >= 64,
            "process.memory.requests_max",
            &self.requests_max,
            "at least 64 are needed",
        )?;
        require(
            self.network.0 >= 4 << 20,
            "process.memory.network",
            &self.network,
            "at least 4 MiB is needed",
        )
    }
}

impl LogConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let bytes = self.segment.0;
        let fits = (1 << 20..=1 << 30).contains(&bytes) && bytes.is_multiple_of(1 << 20);
        require(
            fits,
            "process.log.segment",
            &self.segment,
            "1 MiB to 1 GiB in steps of 1 MiB are allowed",
        )?;
        let budget = self.budget.0;
        require(
            budget == 0 || budget >= 4 * bytes,
            "process.log.budget",
            &self.budget,
            "it must be 0 or at least four segments",
        )?;
        require(
            self.recycled_max <= 16,
            "process.log.recycled_max",
            &self.recycled_max,
            "at most 16 are allowed",
        )
    }
}

impl DiskConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = self.refuse_percent;
        require(
            (1..=100).contains(&refuse),
            "process.disk.refuse_percent",
            &refuse,
            "1 to 100 are allowed",
        )?;
        let resume = self.resume_percent;
        require(
            resume < refuse,
            "process.disk.resume_percent",
            &resume,
            "it must be below refuse_percent",
        )?;
        let period = self.check_period_ms;
        require(
            (10..=60_000).contains(&period.0),
            "process.disk.check_period_ms",
            &period,
            "10 to 60000 are allowed",
        )
    }
}

impl ClusterConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let beacon = self.beacon_period_ms;
        require(
            (10..=10_000).contains(&beacon.0),
            "cluster.beacon_period_ms",
            &beacon,
            "10 to 10000 are allowed",
        )?;
        let inflight = self.prepare_inflight_max;
        require(
            (1..=4096).contains(&inflight),
            "cluster.prepare_inflight_max",
            &inflight,
            "1 to 4096 are allowed",
        )?;
        let queue = self.apply_queue_max;
        require(
            (16..=65_536).contains(&queue),
            "cluster.apply_queue_max",
            &queue,
            "16 to 65536 are allowed",
        )?;
        let pending = self.log_pending_max;
        require(
            pending.0 >= 4 << 20,
            "cluster.log_pending_max",
            &pending,
            "at least 4 MiB is needed",
        )?;
        let window = self.peer_window;
        require(
            window.0 >= 4 << 20,
            "cluster.peer_window",
            &window,
            "at least 4 MiB is needed",
        )?;
        let write = self.write_max;
        let fits = (1 << 10..=1 << 20).contains(&write.0);
        require(
            fits,
            "cluster.write_max",
            &write,
            "1 KiB to 1 MiB are allowed",
        )
    }
}

fn require(
    holds: bool,
    key: &'static str,
    value: &dyn std::fmt::Display,
    wanted: &'static str,
) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::Value {
            key,
            value: value.to_string(),
            wanted,
        })
    }
}

impl Millis {
    /// As the standard library spells it.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_with_a_directory_pass() {
        let config = parse("[process]\ndir = '/data'\n").expect("parses");
        config.check().expect("defaults are allowed");
        assert_eq!(parse(&config.to_toml()), Ok(config));
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = parse("[process]\ndir = '/data'\nfoo = 1\n").expect_err("refused");
        assert!(error.contains("foo"), "{error}");
    }

    #[test]
    fn a_foreign_address_needs_a_token() {
        let config = parse("[process]\ndir = '/d'\nlisten.bind = '10.0.0.1'\n").expect("parses");
        let error = config.check().expect_err("refused").to_string();
        assert!(error.contains("token"), "{error}");
    }

    #[test]
    fn sentences_name_the_key() {
        let config = parse("[process]\ndir = '/d'\nlog.segment = '3 KiB'\n").expect("parses");
        let error = config.check().expect_err("refused").to_string();
        assert!(
            error.starts_with("configuration process.log.segment: 3 KiB is refused"),
            "{error}"
        );
    }
}
