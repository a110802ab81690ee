//! Writes: decided, logged, replicated, answered.

use super::Operate;
use super::group::Group;
use anyhow::anyhow;
use bytes::Bytes;
use pegasus_engine::{Batch, Op, key};

struct Writes {
    group: Group,
    payload: Bytes,
    /// In one turn.
    together: u32,
}

pub(super) fn prepare_replicated() -> anyhow::Result<Box<dyn Operate>> {
    prepare(3, 1)
}

pub(super) fn prepare_batches() -> anyhow::Result<Box<dyn Operate>> {
    prepare(1, 16)
}

fn prepare(members: u32, together: u32) -> anyhow::Result<Box<dyn Operate>> {
    let put = Op::Put {
        key: key::encode(b"user000000000001", b"").map_err(|error| anyhow!("{error:?}"))?,
        value: Bytes::from(vec![b'v'; 100]),
        expire_at: 0,
    };
    let batch = Batch::from_ops(&[put]).map_err(|error| anyhow!("{error:?}"))?;
    let mut group = Group::serving(members)?;
    group.replies = 0;
    Ok(Box::new(Writes {
        group,
        payload: batch.encode(),
        together,
    }))
}

impl Operate for Writes {
    fn operate(&mut self, _: u64) {
        self.group.write(&self.payload, self.together);
    }

    fn answers(&self) -> u64 {
        self.group.replies / u64::from(self.together)
    }
}
