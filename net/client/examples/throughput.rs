//! How many requests per second the client alone manages: one thread of client against a server that answers every
//! request with the same bytes. `cargo run --release -p pegasus-client --example throughput [INFLIGHT] [SECONDS]`.

use bytes::BytesMut;
use futures::future::join_all;
use pegasus_client::{Client, ClientOptions};
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{Decoder, FrameKind, encode_frame};
use pegasus_fbs::kv;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let inflight: usize = arguments.next().map_or(Ok(50), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(2), |text| text.parse())?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_all(stream, address));
        }
    });

    let client = Client::connect(ClientOptions::new([address.to_string()])).await?;
    let table = client.table("any").await?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let cpu = thread_cpu()?;
    let started = Instant::now();
    let workers = (0..inflight).map(|_| {
        let table = table.clone();
        tokio::spawn(async move {
            let mut count = 0_u64;
            while Instant::now() < end {
                table.get(b"user_1", b"name").await?;
                count += 1;
            }
            Ok::<u64, pegasus_client::Error>(count)
        })
    });
    let mut total = 0;
    for worker in join_all(workers).await {
        total += worker??;
    }
    let (elapsed, cpu) = (started.elapsed(), thread_cpu()? - cpu);
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    let (rate, cost) = (
        total as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / total as f64,
    );
    eprintln!("{inflight} in flight: {rate:.0} requests/s, {cost:.2} us of client CPU each");
    Ok(())
}

/// CPU time of the calling thread.
fn thread_cpu() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(
        text.split(' ').next().unwrap_or_default().parse()?,
    ))
}

fn answer_all(mut stream: TcpStream, address: SocketAddr) -> anyhow::Result<()> {
    let (route, value) = (route(address), value());
    let decoder = Decoder::new(1 << 20);
    let (mut input, mut output, mut chunk) = (BytesMut::new(), Vec::new(), vec![0; 64 << 10]);
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        input.extend_from_slice(&chunk[..count]);
        while let Some(frame) = decoder.decode(&mut input)? {
            let body = match frame.header.kind {
                FrameKind::Route => &route[..],
                FrameKind::Get => &value[..],
                _ => &[],
            };
            encode_frame(&mut output, &frame.header.reply(), body);
        }
        stream.write_all(&output)?;
        output.clear();
    }
}

fn route(address: SocketAddr) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let primary = Some(builder.create_string(&address.to_string()));
    let arguments = kv::PartitionRouteArgs {
        ballot: 1,
        primary,
        secondaries: None,
    };
    let partition = kv::PartitionRoute::create(&mut builder, &arguments);
    let partitions = Some(builder.create_vector(&[partition, partition]));
    let arguments = kv::RouteReplyArgs {
        table_id: 1,
        partition_count: 2,
        partitions,
    };
    let reply = kv::RouteReply::create(&mut builder, &arguments);
    builder.finish(reply, None);
    builder.finished_data().to_vec()
}

fn value() -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let value = Some(builder.create_vector(&[7_u8; 100]));
    let reply = kv::ValueReply::create(&mut builder, &kv::ValueReplyArgs { value });
    builder.finish(reply, None);
    builder.finished_data().to_vec()
}
