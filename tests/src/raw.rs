//! Hand-made frames: requests that no client of ours would send to that address.

use crate::cluster::PATIENCE;
use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use pegasus_fbs::body::{self, FailureBody};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{self, Decoder, Frame, FrameKind, Header, encode_frame};
use pegasus_fbs::kv;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Number of a table and index of a partition.
pub type Partition = (u32, u32);

/// Reads the row (`hash_key`, "s") of this partition from this address, whoever listens there.
pub fn get(address: &str, partition: Partition, hash_key: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut builder = FlatBufferBuilder::new();
    let arguments = kv::KeyRequestArgs {
        hash_key: Some(builder.create_vector(hash_key)),
        sort_key: Some(builder.create_vector(b"s")),
        ..Default::default()
    };
    let root = kv::KeyRequest::create(&mut builder, &arguments);
    builder.finish(root, None);
    let header = header(FrameKind::Get, partition);
    let Some(answer) = ask(address, header, builder.finished_data())? else {
        return Ok(None);
    };
    let value = body::read::<kv::ValueReply<'_>>(&answer.body)?;
    Ok(Some(body::bytes(value.value()).to_vec()))
}

/// Writes the row (`hash_key`, "s") of this partition at this address.
pub fn put(address: &str, partition: Partition, hash_key: &[u8], value: &[u8]) -> Result<()> {
    let mut builder = FlatBufferBuilder::new();
    let arguments = kv::PutRequestArgs {
        hash_key: Some(builder.create_vector(hash_key)),
        sort_key: Some(builder.create_vector(b"s")),
        value: Some(builder.create_vector(value)),
        ..Default::default()
    };
    let root = kv::PutRequest::create(&mut builder, &arguments);
    builder.finish(root, None);
    let header = header(FrameKind::Put, partition);
    ask(address, header, builder.finished_data()).map(drop)
}

fn header(kind: FrameKind, (table, index): Partition) -> Header {
    Header::request(kind, 7).to_partition(table, index)
}

/// One request and its answer on a connection of its own; `None`: no such row; an error if it failed otherwise.
fn ask(address: &str, header: Header, body: &[u8]) -> Result<Option<Frame>> {
    let mut stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    encode_frame(&mut request, &header, body);
    stream.write_all(&request)?;
    let (mut input, mut chunk) = (BytesMut::new(), [0; 4096]);
    loop {
        if let Some(frame) = Decoder::new(frame::BODY_BYTES_MAX).decode(&mut input)? {
            if !frame.header.is_failure() {
                return Ok(Some(frame));
            }
            let failure = FailureBody::read(&frame.body)?;
            ensure!(
                failure.code == Code::NotFound,
                "{address} answered {failure:?}"
            );
            return Ok(None);
        }
        let bytes = stream.read(&mut chunk)?;
        ensure!(bytes > 0, "{address} closed the connection");
        input.extend_from_slice(&chunk[..bytes]);
    }
}
