//! Prints every row of a table as `hash key, sort key, value length`:
//! `cargo run -p pegasus-client --example scan TABLE [META_ADDRESS]`.

use anyhow::Context;
use pegasus_client::{Client, ClientOptions, FullScan};
use std::io::{BufWriter, Write};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let table = arguments
        .next()
        .context("usage: scan TABLE [META_ADDRESS]")?;
    let meta = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:34601".to_owned());

    let client = Client::connect(ClientOptions::new([meta])).await?;
    let table = client.table(&table).await?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut scanner = table.full_scan(&FullScan {
        concurrency: 8,
        ..FullScan::default()
    });
    while let Some(page) = scanner.next_page().await {
        for row in page? {
            let (hash_key, sort_key) = (row.hash_key.escape_ascii(), row.sort_key.escape_ascii());
            writeln!(out, "{hash_key}\t{sort_key}\t{}", row.value.len())?;
        }
    }
    Ok(out.flush()?)
}
