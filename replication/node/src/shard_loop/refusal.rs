//! What a client is told when the replication core says no: the code says what happened, the message adds what is known
//! about this case (which partition, which member, which bound) and repeats nothing.

use crate::directory::Directory;
use pegasus_fbs::code::Code;
use pegasus_net::request::Failure;
use pegasus_replication::event::{BusyReason, Reject};
use pegasus_replication::ids::{CoreAddress, PartitionId};
use pegasus_replication::replica::Replica;
use pegasus_replication::shard::Shard;

pub(super) fn failure_of(
    reason: Reject,
    partition: PartitionId,
    shard: &Shard,
    directory: &Directory,
) -> Failure {
    let name = name_of(partition, directory);
    match reason {
        Reject::NotHere => Failure::new(Code::NotHere, name),
        Reject::NotPrimary { primary } => Failure {
            primary: primary.and_then(|core| directory.client(core)),
            ballot: known_ballot(partition, shard),
            ..Failure::new(Code::NotPrimary, name)
        },
        Reject::NotServing => Failure::new(Code::NotServing, name),
        Reject::Busy {
            reason,
            retry_after_ms,
        } => Failure {
            retry_after_ms,
            ..Failure::new(Code::Busy, format!("{name}: {}", full(reason)))
        },
        Reject::NotEnoughMembers => Failure::new(
            Code::NotEnoughMembers,
            format!("{name}: {}", missing(partition, shard)),
        ),
        Reject::DiskFull => Failure::new(
            Code::DiskFull,
            format!("{name}: `pegasus node list` shows which of its nodes"),
        ),
        Reject::OutOfService => Failure::new(
            Code::OutOfService,
            format!("{name}: {}", damage(partition, shard)),
        ),
        Reject::Expired => Failure::new(Code::Expired, name),
        Reject::TooLarge => Failure::new(
            Code::TooLarge,
            format!(
                "the log takes writes of at most {} bytes",
                shard.log().options().payload_bytes_max()
            ),
        ),
        Reject::Unknown => Failure::new(Code::Unknown, name),
    }
}

/// Of the newest configuration known here; 0 if none is.
fn known_ballot(partition: PartitionId, shard: &Shard) -> u64 {
    let configuration = shard.replica(partition).and_then(Replica::configuration);
    configuration.map_or(0, |it| it.ballot.0)
}

/// As the user knows it: with the table's name.
fn name_of(partition: PartitionId, directory: &Directory) -> String {
    directory.tables.get(&partition.table).map_or_else(
        || format!("partition {partition}"),
        |table| format!("partition {} of table {}", partition.index, table.name),
    )
}

fn core_name(core: CoreAddress) -> String {
    format!("node {} core {}", core.node, core.core)
}

const fn full(reason: BusyReason) -> &'static str {
    match reason {
        BusyReason::Engine => "its engine flushes and compacts more slowly than is written",
        BusyReason::PreparesInflight => "too many writes of it wait for its replicas",
        BusyReason::ApplyQueue => "too many writes of it wait for the engine",
        BusyReason::LogPending => "too many bytes wait for a flush of the log",
        BusyReason::LogFull => "the log has used up its disk budget",
        BusyReason::PeerWindow => "a secondary of it does not keep up",
        BusyReason::Reads => "too many reads are in work",
        BusyReason::Gate => "too many requests wait for one hash key",
        BusyReason::HandOver => "it is being handed over to another core",
    }
}

/// Why a write has not enough members: too few in the configuration, no link to some, or replicas that take no part.
fn missing(partition: PartitionId, shard: &Shard) -> String {
    let Some(configuration) = shard.replica(partition).and_then(Replica::configuration) else {
        return "its members are not known".to_owned();
    };
    let count = configuration.members().count();
    let needed = usize::from(configuration.min_replicas);
    if count < needed {
        return format!("it has {count}, writes need {needed}");
    }
    let is_up = |core| shard.peers().any(|(peer, is_up, _)| peer == core && is_up);
    let unreachable: Vec<String> = configuration
        .secondaries
        .iter()
        .filter(|member| !is_up(member.address))
        .map(|member| core_name(member.address))
        .collect();
    if unreachable.is_empty() {
        "one of them is out of service".to_owned()
    } else {
        format!("no link to {}", unreachable.join(" and "))
    }
}

fn damage(partition: PartitionId, shard: &Shard) -> String {
    let reason = shard
        .replica(partition)
        .and_then(|replica| replica.reason())
        .or_else(|| shard.failure())
        .unwrap_or("see the log of its node");
    format!("{} says {reason}", core_name(shard.identity()))
}
