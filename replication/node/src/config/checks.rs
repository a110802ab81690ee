//! Ranges of settings, each refused with a sentence.

use super::{
    BackupConfig, ClusterConfig, ConfigError, CpuConfig, DiskConfig, ListenConfig, LogConfig,
    MemoryConfig, ScrubConfig, StallConfig, StatsConfig, StopConfig, TransferConfig,
};

impl ListenConfig {
    pub(super) fn check(&self, cores: usize, has_token: bool) -> Result<(), ConfigError> {
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
        let last = u32::from(self.base_port) + offset + cores + 1;
        require(
            last <= 65_536,
            "process.listen.base_port",
            &self.base_port,
            "the last peer port, or that of transfers behind it, would be over 65535",
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
    pub(super) fn check(&self) -> Result<(), ConfigError> {
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
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        require(
            self.cache.0 >= 8 << 20,
            "process.memory.cache",
            &self.cache,
            "at least 8 MiB is needed",
        )?;
        require(
            self.row_cache_percent <= 75,
            "process.memory.row_cache_percent",
            &self.row_cache_percent,
            "0 to 75 are allowed",
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
            self.requests.0 >= 16 << 20,
            "process.memory.requests",
            &self.requests,
            "at least 16 MiB is needed",
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
    pub(super) fn check(&self) -> Result<(), ConfigError> {
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
        )?;
        require(
            (1..=16).contains(&self.writes_inflight_max),
            "process.log.writes_inflight_max",
            &self.writes_inflight_max,
            "1 to 16 are allowed",
        )
    }
}

impl StallConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let limit = self.limit_ms.0;
        require(
            (1..=10_000).contains(&limit),
            "process.stall.limit_ms",
            &limit,
            "1 to 10000 are allowed",
        )
    }
}

impl StopConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let limit = self.handover_ms.0;
        require(
            limit <= 600_000,
            "process.stop.handover_ms",
            &limit,
            "0 to 600000 are allowed",
        )
    }
}

impl DiskConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
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

impl TransferConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        require(
            self.bytes_per_second.0 == 0 || self.bytes_per_second.0 >= 1 << 20,
            "process.transfer.bytes_per_second",
            &self.bytes_per_second,
            "it must be 0 (as the drive allows) or at least 1 MiB",
        )?;
        require(
            (1..=64).contains(&self.sessions_max),
            "process.transfer.sessions_max",
            &self.sessions_max,
            "1 to 64 are allowed",
        )
    }
}

impl BackupConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (key, pace) in [
            ("process.backup.bytes_per_second", self.bytes_per_second),
            (
                "process.backup.restore_bytes_per_second",
                self.restore_bytes_per_second,
            ),
        ] {
            require(
                pace.0 == 0 || pace.0 >= 64 << 10,
                key,
                &pace,
                "it must be 0 (no bound) or at least 64 KiB",
            )?;
        }
        require(
            (1..=64).contains(&self.partitions_max),
            "process.backup.partitions_max",
            &self.partitions_max,
            "1 to 64 are allowed",
        )?;
        for (name, target) in &self.targets {
            target.check().map_err(|what| ConfigError::Target {
                name: name.clone(),
                what,
            })?;
        }
        Ok(())
    }
}

impl ScrubConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        require(
            self.period_hours <= 8760,
            "process.scrub.period_hours",
            &self.period_hours,
            "0 to 8760 are allowed",
        )?;
        require(
            (1..=100).contains(&self.share_percent),
            "process.scrub.share_percent",
            &self.share_percent,
            "1 to 100 are allowed",
        )
    }
}

impl StatsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        require(
            self.slow_request_ms.0 <= 3_600_000,
            "process.stats.slow_request_ms",
            &self.slow_request_ms,
            "0 to 3600000 are allowed",
        )
    }
}

impl ClusterConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let beacon = self.beacon_period_ms;
        require(
            (10..=10_000).contains(&beacon.0),
            "cluster.beacon_period_ms",
            &beacon,
            "10 to 10000 are allowed",
        )?;
        self.check_periods()?;
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

    /// Each by itself; how they fit together is what the replication core says.
    fn check_periods(&self) -> Result<(), ConfigError> {
        let periods = [
            ("cluster.lease_period_ms", self.lease_period_ms, 30),
            ("cluster.grace_period_ms", self.grace_period_ms, 38),
            ("cluster.redial_period_ms", self.redial_period_ms, 10),
            ("cluster.slow_lag_ms", self.slow_lag_ms, 50),
            ("cluster.slow_own_flush_ms", self.slow_own_flush_ms, 1),
        ];
        for (key, period, least) in periods {
            require(
                (least..=60_000).contains(&period.0),
                key,
                &period,
                "it is too short to mean anything, or over 60000",
            )?;
        }
        require(
            (64..=1_000_000).contains(&self.learner_entries_max),
            "cluster.learner_entries_max",
            &self.learner_entries_max,
            "64 to 1000000 are allowed",
        )?;
        require(
            self.learner_max.0 >= 4 << 20,
            "cluster.learner_max",
            &self.learner_max,
            "at least 4 MiB is needed",
        )
    }
}

pub(super) fn require(
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
