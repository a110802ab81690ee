//! `pegasus table advise`: how many partitions a table should have. Their number is for life, so it is worth a look before the
//! table is made, and later one says whether it was right.

use crate::connect::Connect;
use crate::exit::Failed;
use crate::output::{Output, Style, bytes};
use clap::Args;
use pegasus_client::TableInfo;
use pegasus_host::units::ByteSize;
use serde_json::json;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pegasus table advise --size '200 GiB' --requests 50000   before it is created
  pegasus table advise demo                                one that is there, by what it holds now
  pegasus table advise demo --size '2 TiB'                 and by what it will hold")]
pub(crate) struct Advise {
    /// A table that is there
    name: Option<String>,
    /// Bytes that one copy of the table will have [default: those that it has]
    #[arg(long, value_name = "SIZE")]
    size: Option<ByteSize>,
    /// Requests a second that it will be asked for
    #[arg(long, value_name = "N", default_value_t = 0)]
    requests: u64,
    /// Copies of each partition [default: those that it has, or 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=7))]
    replicas: Option<u32>,
}

/// A copy of a larger one takes too long when a node is lost: at 64 MiB/s, two minutes.
const PARTITION_BYTES_MAX: u64 = 8 << 30;
/// What one core does with room to spare; a partition is never on more than one.
const PARTITION_REQUESTS_MAX: u64 = 20_000;
/// Primaries of each core: as many as even out keys that are asked for more often than others, and nodes that come and go.
const PRIMARIES_PER_CORE: u64 = 4;
/// Replicas of each core, of this table alone: memtables, files and beacons of more cost more than they give.
const REPLICAS_PER_CORE_MAX: u64 = 128;

const PARTITIONS_MIN: u64 = 2;
const PARTITIONS_MAX: u64 = 65_536;

/// What a table is to hold, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    bytes: u64,
    requests: u64,
    replicas: u64,
    cores: u64,
}

/// How many partitions, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Advice {
    partitions: u64,
    reasons: Vec<String>,
    warnings: Vec<String>,
}

pub(super) async fn run(
    options: &Advise,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let client = connect.client().await?;
    let found = match &options.name {
        Some(name) => Some(client.show_table(name).await?),
        None if options.size.is_none() && options.requests == 0 => {
            return Err(Failed::usage("name a table, or say --size or --requests"));
        }
        None => None,
    };
    let nodes = client.list_nodes().await?.nodes;
    let cores = nodes.iter().filter(|node| node.alive && !node.is_draining);
    let replicas = found.as_ref().map_or(3, |info| info.replica_count);
    let need = Need {
        bytes: options
            .size
            .map_or_else(|| found.as_ref().map_or(0, bytes_of), |size| size.0),
        requests: options.requests,
        replicas: options.replicas.unwrap_or(replicas).into(),
        cores: cores.map(|node| node.cores.len() as u64).sum(),
    };
    let advice = need.advice();
    let now = found.as_ref().map(|info| info.partition_count);
    match out.style {
        Style::Json => out.json(&json!({
            "partitions": advice.partitions, "partitions_now": now, "bytes": need.bytes,
            "requests_per_second": need.requests, "cores": need.cores, "replicas": need.replicas,
            "reasons": advice.reasons, "warnings": advice.warnings,
        })),
        Style::People => show(&advice, now, out),
    }
}

/// Of one copy, by its primaries.
fn bytes_of(info: &TableInfo) -> u64 {
    let primaries = info.partitions.iter().filter_map(|it| it.primary.as_ref());
    primaries.map(|it| it.bytes).sum()
}

fn show(advice: &Advice, now: Option<u32>, out: &mut Output) -> anyhow::Result<()> {
    let verdict = match now.map(u64::from) {
        None => String::new(),
        Some(now) if now == advice.partitions => ", which it has".to_owned(),
        // A factor of two is within what the figures are worth.
        Some(now) if now * 2 == advice.partitions || now == advice.partitions * 2 => {
            format!("; the {now} that it has will do")
        }
        Some(now) => format!(
            "; it has {now}. To change it, create another table and copy the rows (`pegasus copy-data`)"
        ),
    };
    out.line(format!("{} partitions{verdict}", advice.partitions))?;
    for reason in &advice.reasons {
        out.line(format!("  {reason}"))?;
    }
    for warning in &advice.warnings {
        out.line(format!("  but {warning}"))?;
    }
    Ok(())
}

impl Need {
    fn advice(self) -> Advice {
        let cores = self.cores.max(1);
        let wanted = [
            (
                self.bytes.div_ceil(PARTITION_BYTES_MAX),
                format!(
                    "{} of data, at most {} each",
                    bytes(self.bytes),
                    bytes(PARTITION_BYTES_MAX)
                ),
            ),
            (
                self.requests.div_ceil(PARTITION_REQUESTS_MAX),
                format!(
                    "{} requests/s, at most {PARTITION_REQUESTS_MAX} each",
                    self.requests
                ),
            ),
            (
                cores * PRIMARIES_PER_CORE,
                format!("{cores} cores, {PRIMARIES_PER_CORE} primaries each"),
            ),
        ];
        let most = wanted.iter().map(|(count, _)| *count).max().unwrap_or(0);
        let partitions = most
            .next_power_of_two()
            .clamp(PARTITIONS_MIN, PARTITIONS_MAX);
        let per_core = (partitions * self.replicas).div_ceil(cores);
        let mut warnings = Vec::new();
        if per_core > REPLICAS_PER_CORE_MAX {
            warnings.push(format!(
                "that is {per_core} replicas on each core, where {REPLICAS_PER_CORE_MAX} are many: add nodes"
            ));
        }
        if self.cores == 0 {
            warnings.push("no node is alive".to_owned());
        }
        let reason = |(count, why): &(u64, String)| format!("{count:>6} for {why}");
        Advice {
            partitions,
            reasons: wanted.iter().map(reason).collect(),
            warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need {
        bytes: 0,
        requests: 0,
        replicas: 3,
        cores: 8,
    };

    #[test]
    fn a_small_table_is_spread_over_the_cores() {
        assert_eq!(NEED.advice().partitions, 32);
        let one = Need { cores: 1, ..NEED };
        assert_eq!(one.advice().partitions, 4);
        assert_eq!(NEED.advice().warnings, [""; 0]);
    }

    #[test]
    fn much_data_and_many_requests_need_more_partitions_in_powers_of_two() {
        let large = Need {
            bytes: 600 << 30,
            ..NEED
        };
        assert_eq!(large.advice().partitions, 128);
        let busy = Need {
            requests: 1_000_000,
            ..NEED
        };
        assert_eq!(busy.advice().partitions, 64);
        let huge = Need {
            bytes: u64::MAX,
            ..NEED
        };
        assert_eq!(huge.advice().partitions, PARTITIONS_MAX);
    }

    #[test]
    fn too_many_for_the_cores_that_there_are_is_said() {
        let large = Need {
            bytes: 8 << 40,
            cores: 4,
            ..NEED
        };
        let advice = large.advice();
        assert_eq!(advice.partitions, 1024);
        assert_eq!(advice.warnings.len(), 1, "{advice:?}");
        let nowhere = Need { cores: 0, ..NEED };
        assert_eq!(nowhere.advice().warnings, ["no node is alive"]);
    }
}
