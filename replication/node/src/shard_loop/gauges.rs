//! What the statistics page shows besides counts and timings; gathered when a publication is due.

use super::ShardLoop;
use crate::clock;
use crate::stall::Phase;
use pegasus_engine::Engine;
use pegasus_engine::rocks::EngineActivity;
use pegasus_fbs::stats_page::{Counter, Gauge, PartitionGauge, PartitionSlot, Role};
use pegasus_net::counters::CloseReason;
use pegasus_replication::event::{Event, Pressure};
use pegasus_replication::replica::{Health, Replica, RoleName};

impl ShardLoop {
    pub(super) fn publish(&mut self) {
        if !self.stats.is_due(self.now) {
            return;
        }
        self.pulse.enter(Phase::Publish);
        self.gather();
        let wall_us = clock::wall_us();
        self.watch_clocks(wall_us);
        self.stats.publish(self.now, wall_us);
    }

    /// Leases rest on the clock of this core: when it and the wall clock have moved apart, one of them is wrong.
    fn watch_clocks(&mut self, wall_us: u64) {
        if self.clocks.has_jumped(clock::now(), wall_us) {
            tracing::warn!(
                core = self.address.core.0,
                "the clocks have moved apart, leases are void until the next beacons"
            );
            self.decide(Event::Fence);
        }
    }

    pub(super) fn gather(&mut self) {
        self.gather_replicas();
        self.gather_queues();
        self.gather_engine();
        self.gather_network();
        self.stats.set_counter(Counter::Stalls, self.pulse.stalls());
    }

    pub(super) fn on_disk(&mut self, pressure: Pressure, total: u64, free: u64) {
        self.disk = pressure;
        self.stats.set(Gauge::DiskTotalBytes, total);
        self.stats.set(Gauge::DiskFreeBytes, free);
    }

    fn gather_replicas(&mut self) {
        let [
            mut primaries,
            mut secondaries,
            mut learners,
            mut out,
            mut inflight,
            mut replicas,
        ] = [0; 6];
        for replica in self.shard.replicas() {
            replicas += 1;
            inflight += replica.inflight() as u64;
            out += u64::from(replica.health() == Health::OutOfService);
            match replica.role() {
                RoleName::Primary(_) => primaries += 1,
                RoleName::Secondary => secondaries += 1,
                RoleName::Learner => learners += 1,
                RoleName::Creating | RoleName::Idle | RoleName::OutOfService => {}
            }
        }
        self.stats.set(Gauge::Replicas, replicas);
        self.stats.set(Gauge::Primaries, primaries);
        self.stats.set(Gauge::Secondaries, secondaries);
        self.stats.set(Gauge::Learners, learners);
        self.stats.set(Gauge::ReplicasOutOfService, out);
        self.stats.set(Gauge::PreparesInflight, inflight);
    }

    fn gather_queues(&mut self) {
        let log = self.shard.log();
        let pending = log.pending_bytes() as u64;
        let used = log.used_bytes();
        let requests =
            self.requests.count() + self.arrivals.len() + self.throttling.delayed_count();
        self.stats.set(Gauge::LogPendingBytes, pending);
        self.stats.set(Gauge::LogUsedBytes, used);
        self.stats.set(Gauge::RequestsInflight, requests as u64);
        self.stats
            .set(Gauge::ApplyQueue, self.engine_work.apply_count() as u64);
        self.stats
            .set(Gauge::ReadQueue, self.engine_work.away_count() as u64);
        self.stats
            .set(Gauge::EngineQueue, self.outbox.upkeep_waiting() as u64);
        self.stats.set(
            Gauge::DiskFull,
            u64::from(self.pressure == Pressure::DiskFull),
        );
        let refused = match self.pressure {
            Pressure::None => 0,
            Pressure::Engine => 1,
            Pressure::DiskFull => 2,
        };
        self.stats.set(Gauge::WritesRefused, refused);
        let links = self.shard.peers().filter(|(_, is_up, _)| *is_up).count();
        self.stats.set(Gauge::PeerLinks, links as u64);
    }

    fn gather_engine(&mut self) {
        let EngineActivity {
            flushes,
            compactions,
            block_cache_bytes,
            rows,
        } = self.engine.activity();
        self.stats.set_counter(Counter::EngineFlushes, flushes);
        self.stats
            .set_counter(Counter::EngineCompactions, compactions);
        self.stats.set(Gauge::BlockCacheBytes, block_cache_bytes);
        self.stats.set_counter(Counter::RowCacheHits, rows.hits);
        self.stats.set_counter(Counter::RowCacheMisses, rows.misses);
        self.stats.set(Gauge::RowCacheBytes, rows.bytes);
        let pressure = self.engine.pressure();
        self.stats
            .set(Gauge::MemtableBytes, pressure.memtable_bytes);
        self.stats
            .set(Gauge::Level0Files, pressure.level0_files.into());
        self.stats.set(
            Gauge::ImmutableMemtables,
            pressure.immutable_memtables.into(),
        );
    }

    /// What replicas are, each for itself; once a second.
    pub(super) fn gather_partitions(&mut self) {
        let (shard, stats, engine) = (&self.shard, &mut self.stats, &self.engine);
        stats.forget_partitions(|partition| shard.replica(partition).is_some());
        let mut untold = 0;
        for replica in shard.replicas() {
            let partition = replica.partition();
            let slot = stats.keep_partition(partition);
            untold += u64::from(slot == PartitionSlot::NONE);
            let members = replica
                .configuration()
                .map_or(0, |configuration| configuration.members().count());
            for (gauge, value) in [
                (PartitionGauge::Role, role_of(replica) as u64),
                (PartitionGauge::Members, members as u64),
                (PartitionGauge::Ballot, replica.ballot().0),
                (PartitionGauge::Committed, replica.committed().0),
                (PartitionGauge::PreparesInflight, replica.inflight() as u64),
                (
                    PartitionGauge::UnflushedBytes,
                    engine.unflushed_bytes(partition),
                ),
            ] {
                stats.set_of(slot, gauge, value);
            }
        }
        stats.set(Gauge::PartitionsUntold, untold);
    }

    fn gather_network(&mut self) {
        let counters = self.io.counters();
        let closed = CloseReason::ALL
            .iter()
            .map(|reason| counters.closed(*reason))
            .sum();
        let garbage = [
            CloseReason::UnknownProtocol,
            CloseReason::BadFrame,
            CloseReason::FrameTooLarge,
            CloseReason::ForeignKind,
            CloseReason::Truncated,
        ];
        let garbage = garbage.iter().map(|reason| counters.closed(*reason)).sum();
        self.stats.set(Gauge::Connections, counters.connections);
        self.stats
            .set(Gauge::RequestBytes, counters.request_bytes_inflight);
        self.stats
            .set(Gauge::NetBufferBytes, counters.output_bytes_queued);
        self.stats
            .set_counter(Counter::ConnectionsAccepted, counters.accepted);
        self.stats.set_counter(Counter::ConnectionsClosed, closed);
        self.stats.set_counter(Counter::ConnectionsGarbage, garbage);
        self.stats
            .set_counter(Counter::NetBytesReceived, counters.bytes_in);
        self.stats
            .set_counter(Counter::NetBytesSent, counters.bytes_out);
        self.stats.set_counter(Counter::Sleeps, counters.sleeps);
    }
}

fn role_of(replica: &Replica) -> Role {
    if replica.health() == Health::OutOfService {
        return Role::OutOfService;
    }
    match replica.role() {
        RoleName::Primary(_) => Role::Primary,
        RoleName::Secondary => Role::Secondary,
        RoleName::Learner => Role::Learner,
        RoleName::OutOfService => Role::OutOfService,
        RoleName::Creating | RoleName::Idle => Role::None,
    }
}
