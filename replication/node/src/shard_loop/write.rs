//! Writes: from an operation to the encoded batch that is logged and replicated. Everything relative becomes absolute here.

use super::read::raw_key;
use bytes::Bytes;
use pegasus_engine::{Batch, BatchError};
use pegasus_fbs::code::Code;
use pegasus_net::request::{Expiry, Failure, Key, Operation, RequestId};
use pegasus_replication::ids;

/// A write, ready for a decree.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) payload: Bytes,
    pub(super) request_id: ids::RequestId,
    /// What the answer counts: rows named by a multi remove.
    pub(super) count: u32,
    /// Rows put or removed.
    pub(super) rows: usize,
}

/// What makes times to live absolute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Seconds since 2016-01-01 UTC.
    pub(super) now_s: u32,
    /// Of rows that name no time to live; 0 = for ever.
    pub(super) default_ttl_seconds: u32,
}

impl Moment {
    /// The absolute second of an expiry; 0 = never.
    pub(super) fn resolve(self, expiry: Expiry) -> u32 {
        match expiry {
            Expiry::At(second) if second > 0 => second,
            Expiry::After(seconds) if seconds > 0 => self.now_s.saturating_add(seconds),
            _ if self.default_ttl_seconds > 0 => {
                self.now_s.saturating_add(self.default_ttl_seconds)
            }
            _ => 0,
        }
    }
}

/// Builds the batch of a write of at most `bytes_max` encoded bytes.
pub(super) fn write_of(
    operation: Operation,
    moment: Moment,
    bytes_max: usize,
) -> Result<Write, Failure> {
    let mut batch = Batch::new();
    let mut count = 0;
    let id = match operation {
        Operation::Put(put) => {
            add_put(&mut batch, &put.key, &put.value, moment.resolve(put.expiry))?;
            put.id
        }
        Operation::Remove(remove) => {
            add_remove(&mut batch, &remove.key)?;
            remove.id
        }
        Operation::MultiPut(multi_put) => {
            refuse_empty(multi_put.rows.is_empty(), "no rows to put")?;
            let expire_at = moment.resolve(multi_put.expiry);
            for (sort_key, value) in multi_put.rows {
                let key = Key {
                    hash_key: multi_put.hash_key.clone(),
                    sort_key,
                };
                add_put(&mut batch, &key, &value, expire_at)?;
            }
            multi_put.id
        }
        Operation::MultiRemove(multi_remove) => {
            refuse_empty(multi_remove.sort_keys.is_empty(), "no sort keys to remove")?;
            count = u32::try_from(multi_remove.sort_keys.len()).unwrap_or(u32::MAX);
            for sort_key in multi_remove.sort_keys {
                add_remove(
                    &mut batch,
                    &Key {
                        hash_key: multi_remove.hash_key.clone(),
                        sort_key,
                    },
                )?;
            }
            multi_remove.id
        }
        other => {
            return Err(Failure::new(
                Code::Unsupported,
                format!("{} is not a write", other.name()),
            ));
        }
    };
    let payload = batch.encode();
    if payload.len() > bytes_max {
        let message = format!(
            "a write of {} bytes, the limit is {bytes_max}",
            payload.len()
        );
        return Err(Failure::new(Code::TooLarge, message));
    }
    let RequestId { client, sequence } = id;
    Ok(Write {
        payload,
        request_id: ids::RequestId { client, sequence },
        count,
        rows: batch.count(),
    })
}

pub(super) fn add_put(
    batch: &mut Batch,
    key: &Key,
    value: &[u8],
    expire_at: u32,
) -> Result<(), Failure> {
    batch
        .put(&raw_key(key)?, value, expire_at)
        .map_err(|error| refused(&error))
}

pub(super) fn add_remove(batch: &mut Batch, key: &Key) -> Result<(), Failure> {
    batch
        .remove(&raw_key(key)?)
        .map_err(|error| refused(&error))
}

fn refused(error: &BatchError) -> Failure {
    Failure::new(Code::TooLarge, error.to_string())
}

fn refuse_empty(is_empty: bool, message: &str) -> Result<(), Failure> {
    if is_empty {
        Err(Failure::new(Code::InvalidArgument, message))
    } else {
        Ok(())
    }
}
