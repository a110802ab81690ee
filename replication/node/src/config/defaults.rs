//! What a setting is when nobody says.

use super::{
    BackupConfig, ByteSize, ClusterConfig, Cores, CpuConfig, DiskConfig, FlushSetting,
    ListenConfig, LogConfig, LogsConfig, MemoryConfig, Millis, NumaSetting, Poll, ProcessConfig,
    ScrubConfig, StagesConfig, StallConfig, StatsConfig, StopConfig, TransferConfig,
};
use pegasus_replication::config::ReplicationOptions;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            meta: vec![SocketAddr::from(([127, 0, 0, 1], 34601))],
            token_file: None,
            redis_table: "redis".to_owned(),
            listen: ListenConfig::default(),
            cpu: CpuConfig::default(),
            memory: MemoryConfig::default(),
            log: LogConfig::default(),
            disk: DiskConfig::default(),
            stall: StallConfig::default(),
            stop: StopConfig::default(),
            transfer: TransferConfig::default(),
            backup: BackupConfig::default(),
            scrub: ScrubConfig::default(),
            stats: StatsConfig::default(),
            logs: LogsConfig::default(),
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
            row_cache_percent: 25,
            memtables: ByteSize::mib(64),
            requests_max: 65_536,
            requests: ByteSize::mib(256),
            network: ByteSize::mib(64),
            numa: NumaSetting::default(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment: ByteSize::mib(64),
            budget: ByteSize(0),
            recycled_max: 2,
            flush: FlushSetting::default(),
            writes_inflight_max: 2,
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

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            bytes_per_second: ByteSize(0),
            sessions_max: 2,
        }
    }
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self {
            bytes_per_second: ByteSize::mib(50),
            restore_bytes_per_second: ByteSize(0),
            partitions_max: 2,
            targets: BTreeMap::new(),
        }
    }
}

impl Default for ScrubConfig {
    fn default() -> Self {
        Self {
            period_hours: 168,
            share_percent: 10,
        }
    }
}

impl Default for StatsConfig {
    fn default() -> Self {
        Self {
            stages: StagesConfig::default(),
            slow_request_ms: Millis(100),
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

impl Default for StopConfig {
    fn default() -> Self {
        Self {
            handover_ms: Millis(10_000),
        }
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        let replication = ReplicationOptions::default();
        Self {
            beacon_period_ms: Millis(100),
            lease_period_ms: Millis(400),
            grace_period_ms: Millis(550),
            redial_period_ms: Millis(100),
            slow_lag_ms: Millis(500),
            slow_own_flush_ms: Millis(100),
            learner_entries_max: replication.learner_entries_max,
            learner_max: ByteSize(replication.learner_bytes_max as u64),
            prepare_inflight_max: replication.prepare_inflight_max,
            log_pending_max: ByteSize(replication.log_pending_bytes_max as u64),
            apply_queue_max: replication.apply_queue_max,
            peer_window: ByteSize(replication.peer_window_bytes_max as u64),
            write_max: ByteSize::mib(1),
        }
    }
}
