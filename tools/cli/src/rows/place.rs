//! `pegasus hash`: where a key lives.

use super::Key;
use crate::connect::Connect;
use crate::output::{Output, Style};
use clap::Args;
use pegasus_fbs::hash::key_hash;
use serde_json::json;

#[derive(Debug, Args)]
#[command(after_help = "\
The hash is that of Apache Pegasus: CRC-64 of the hash key, or of the sort key where there is none.

Examples:
  pegasus hash demo user-1")]
pub(crate) struct Hash {
    #[command(flatten)]
    key: Key,
}

pub(crate) async fn hash(
    options: &Hash,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let (hash_key, sort_key) = options.key.bytes()?;
    let table = connect.table(&options.key.table).await?;
    let hash = key_hash(&hash_key, &sort_key);
    let partition = table.partition_of(&hash_key, &sort_key);
    let primary = table.primary_of(partition);
    match out.style {
        Style::Json => out.json(&json!({
            "hash": hash, "table_id": table.id(), "partition": partition, "primary": primary,
        })),
        Style::People => {
            out.line(format!("hash: {hash} ({hash:016x})"))?;
            out.line(format!("table: {} (number {})", table.name(), table.id()))?;
            out.line(format!(
                "partition: {partition} of {}",
                table.partition_count()
            ))?;
            Ok(out.line(format!("primary: {}", primary.as_deref().unwrap_or("none")))?)
        }
    }
}
