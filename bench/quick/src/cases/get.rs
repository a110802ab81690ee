//! A GET from its bytes on.

use super::Operate;
use super::group::{Group, PARTITION};
use bytes::BytesMut;
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{FrameKind, Header, encode_frame};
use pegasus_fbs::hash::partition_of;
use pegasus_fbs::kv;
use pegasus_net::frontend::native::Native;
use pegasus_net::frontend::{Decoded, Frontend as _};
use pegasus_net::request::Operation;

struct Gets {
    group: Group,
    frontend: Native,
    frame: Vec<u8>,
    input: BytesMut,
    output: Vec<u8>,
}

pub(super) fn prepare() -> anyhow::Result<Box<dyn Operate>> {
    Ok(Box::new(Gets {
        group: Group::serving(1)?,
        frontend: Native::default(),
        frame: frame(),
        input: BytesMut::with_capacity(1 << 16),
        output: Vec::new(),
    }))
}

fn frame() -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let hash_key = Some(builder.create_vector(b"user000000000001"));
    let sort_key = Some(builder.create_vector(b"field1"));
    let arguments = kv::KeyRequestArgs {
        hash_key,
        sort_key,
        ..Default::default()
    };
    let root = kv::KeyRequest::create(&mut builder, &arguments);
    builder.finish(root, None);
    let mut frame = Vec::new();
    let header = Header::request(FrameKind::Get, 7);
    encode_frame(&mut frame, &header, builder.finished_data());
    frame
}

impl Operate for Gets {
    fn operate(&mut self, _: u64) {
        self.input.extend_from_slice(&self.frame);
        let decoded = self.frontend.decode(&mut self.input, &mut self.output);
        if let Ok(Some(Decoded::Request { request, .. })) = decoded
            && let Operation::Get(key) = &request.operation
            && partition_of(&key.hash_key, &key.sort_key, 1) == PARTITION.index
        {
            self.group.read();
        }
    }

    fn answers(&self) -> u64 {
        self.group.reads.min(self.group.replies)
    }
}
