//! Writes and reads a few rows: `cargo run -p pegasus-client --example quickstart [META_ADDRESS]`.

use pegasus_client::{Client, ClientOptions, Code, CreateTable, Error};
use std::time::Duration;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let meta = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:34601".to_owned());
    let client = Client::connect(ClientOptions::new([meta])).await?;

    let wanted = CreateTable {
        name: "quickstart".to_owned(),
        partition_count: 8,
        replica_count: 3,
        allow_degraded: true,
    };
    match client.create_table(&wanted).await {
        Ok(_)
        | Err(Error::Failed {
            code: Code::AlreadyExists,
            ..
        }) => {}
        Err(error) => return Err(error.into()),
    }

    let table = client.table("quickstart").await?;
    table.put(b"user_1", b"name", b"Ada").await?;
    table
        .put_with_ttl(b"user_1", b"session", b"4711", Duration::from_secs(3600))
        .await?;
    let name = table.get(b"user_1", b"name").await?.unwrap_or_default();
    eprintln!("name: {}", String::from_utf8_lossy(&name));
    eprintln!(
        "session expires: {:?}",
        table.ttl(b"user_1", b"session").await?
    );

    table
        .multi_put(b"user_2", &[("name", "Grace"), ("rank", "admiral")])
        .await?;
    eprintln!("user_2 has {} rows", table.sortkey_count(b"user_2").await?);

    // Errors say whether an operation took effect; for an unknown outcome only the application knows what to do.
    match table.remove(b"user_1", b"session").await {
        Ok(()) => eprintln!("session removed"),
        Err(Error::Unknown(cause)) => eprintln!("the session may or may not be removed: {cause}"),
        Err(error) => eprintln!("the session is still there: {error}"),
    }
    Ok(())
}
