//! The native protocol, as much of it as the bench uses. One table of any name, one partition, always this server's.

use super::Rows;
use bytes::{Buf as _, BytesMut};
use pegasus_fbs::code::Code;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{
    BODY_BYTES_MAX, FrameKind, HEADER_BYTES, Header, Parsed, encode_frame, parse,
};
use pegasus_fbs::{admin, body, kv};
use std::net::SocketAddr;

pub(super) struct Native {
    address: String,
    builder: FlatBufferBuilder<'static>,
}

/// What a frame is answered with.
enum Reply {
    /// The body that the builder has finished.
    Built,
    Empty,
    Failure(Code),
}

const PARTITIONS: u32 = 4;
const ROWS_MAX: usize = 10_000;

impl Native {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address: address.to_string(),
            builder: FlatBufferBuilder::with_capacity(1 << 10),
        }
    }

    /// Answers all whole frames; `None` at the first one that is not right.
    pub(super) fn answer(
        &mut self,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
        rows: &mut impl Rows,
    ) -> Option<()> {
        let mut done = 0;
        while let Some(rest) = input.get(done..).filter(|rest| !rest.is_empty()) {
            let Parsed::Frame { header, body } = parse(rest, BODY_BYTES_MAX).ok()? else {
                break;
            };
            done += HEADER_BYTES + body.len();
            self.builder.reset();
            let reply = self.reply(&header, body, rows)?;
            match reply {
                Reply::Built => encode_frame(output, &header.reply(), self.builder.finished_data()),
                Reply::Empty => encode_frame(output, &header.reply(), &[]),
                Reply::Failure(code) => {
                    let failure = body::failure(&mut self.builder, code, "");
                    encode_frame(output, &header.failure(), failure);
                }
            }
        }
        input.advance(done);
        Some(())
    }

    fn reply(&mut self, header: &Header, body: &[u8], rows: &mut impl Rows) -> Option<Reply> {
        match header.kind {
            FrameKind::Ping => return Some(Reply::Empty),
            FrameKind::Route => self.route(),
            FrameKind::ShowTable => self.table(body)?,
            FrameKind::Get => return self.get(body, rows),
            FrameKind::Put => {
                let request = body::read::<kv::PutRequest<'_>>(body).ok()?;
                let (hash_key, sort_key) = (request.hash_key(), request.sort_key());
                rows.put(
                    body::bytes(hash_key),
                    body::bytes(sort_key),
                    body::bytes(request.value()),
                );
                self.written(1);
            }
            FrameKind::MultiPut => self.multi_put(body, rows)?,
            FrameKind::MultiGet => self.multi_get(body, rows)?,
            _ => return Some(Reply::Failure(Code::Unsupported)),
        }
        Some(Reply::Built)
    }

    fn get(&mut self, body: &[u8], rows: &mut impl Rows) -> Option<Reply> {
        let request = body::read::<kv::KeyRequest<'_>>(body).ok()?;
        let (hash_key, sort_key) = (request.hash_key(), request.sort_key());
        let Some(value) = rows.row(body::bytes(hash_key), body::bytes(sort_key)) else {
            return Some(Reply::Failure(Code::NotFound));
        };
        let value = Some(self.builder.create_vector(&value));
        let reply = kv::ValueReply::create(&mut self.builder, &kv::ValueReplyArgs { value });
        self.builder.finish(reply, None);
        Some(Reply::Built)
    }

    fn multi_put(&mut self, body: &[u8], rows: &mut impl Rows) -> Option<()> {
        let request = body::read::<kv::MultiPutRequest<'_>>(body).ok()?;
        let written = request.rows()?;
        for row in written {
            let (hash_key, sort_key) = (request.hash_key(), row.sort_key());
            rows.put(
                body::bytes(hash_key),
                body::bytes(sort_key),
                body::bytes(row.value()),
            );
        }
        self.written(u32::try_from(written.len()).ok()?);
        Some(())
    }

    fn multi_get(&mut self, body: &[u8], rows: &mut impl Rows) -> Option<()> {
        let request = body::read::<kv::MultiGetRequest<'_>>(body).ok()?;
        let rows_max = match request.max_rows() {
            0 => ROWS_MAX,
            wanted => ROWS_MAX.min(wanted as usize),
        };
        let builder = &mut self.builder;
        let mut found = Vec::new();
        rows.range(
            body::bytes(request.hash_key()),
            body::bytes(request.start_sort_key()),
            body::bytes(request.stop_sort_key()),
            rows_max,
            &mut |sort_key, value| {
                let value = Some(builder.create_vector(value));
                let sort_key = Some(builder.create_vector(sort_key));
                let arguments = kv::RowArgs {
                    sort_key,
                    value,
                    ..Default::default()
                };
                found.push(kv::Row::create(builder, &arguments));
            },
        );
        let rows = Some(builder.create_vector(&found));
        let arguments = kv::RowsReplyArgs {
            rows,
            complete: true,
            ..Default::default()
        };
        let reply = kv::RowsReply::create(builder, &arguments);
        builder.finish(reply, None);
        Some(())
    }

    fn written(&mut self, count: u32) {
        let arguments = kv::WriteReplyArgs { decree: 1, count };
        let reply = kv::WriteReply::create(&mut self.builder, &arguments);
        self.builder.finish(reply, None);
    }

    fn route(&mut self) {
        let builder = &mut self.builder;
        let primary = Some(builder.create_string(&self.address));
        let partitions: Vec<_> = (0..PARTITIONS)
            .map(|_| {
                let arguments = kv::PartitionRouteArgs {
                    ballot: 1,
                    primary,
                    secondaries: None,
                };
                kv::PartitionRoute::create(builder, &arguments)
            })
            .collect();
        let partitions = Some(builder.create_vector(&partitions));
        let arguments = kv::RouteReplyArgs {
            table_id: 1,
            partition_count: PARTITIONS,
            partitions,
        };
        let reply = kv::RouteReply::create(builder, &arguments);
        builder.finish(reply, None);
    }

    fn table(&mut self, body: &[u8]) -> Option<()> {
        let request = body::read::<admin::ShowTable<'_>>(body).ok()?;
        let name = Some(
            self.builder
                .create_string(request.name().unwrap_or_default()),
        );
        let arguments = admin::TableDetailArgs {
            table_id: 1,
            name,
            partition_count: PARTITIONS,
            replica_count: 1,
            ..Default::default()
        };
        let reply = admin::TableDetail::create(&mut self.builder, &arguments);
        self.builder.finish(reply, None);
        Some(())
    }
}
