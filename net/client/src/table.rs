//! Data operations on one table.

mod calls;

use crate::atomic::{self, Expiry};
use crate::driver::{CallOptions, Target};
use crate::encode::{self, Builder, RequestId};
use crate::error::{Error, Result};
use crate::options::{FullScan, HashScan, MultiGet};
use crate::reply::{self, Rows, Ttl};
use crate::route::Router;
use crate::scan::Scanner;
use bytes::Bytes;
use calls::found;
use futures::future::try_join_all;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::hash::{key_hash, partition_of};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A handle of one table: cheap to clone, shared between tasks. Every operation ends by its deadline
/// ([`crate::ClientOptions::timeout`], or [`Table::with_timeout`]).
#[derive(Clone, Debug)]
pub struct Table {
    router: Arc<Router>,
    options: CallOptions,
}

/// The key of a row within a table.
pub(crate) type Key<'a> = (&'a [u8], &'a [u8]);

impl Table {
    pub(crate) fn new(router: Arc<Router>) -> Self {
        let defaults = &router.driver().options;
        let options = CallOptions {
            timeout: defaults.timeout,
            refusal_timeout: defaults.refusal_timeout,
            retry_unknown: defaults.retry_unknown_writes,
        };
        Self { router, options }
    }

    /// A handle whose operations have this deadline each, retries included.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let mut table = self.clone();
        table.options.timeout = timeout;
        table
    }

    /// A handle whose blind writes are sent again, or not, when their outcome is unknown; see
    /// [`crate::ClientOptions::retry_unknown_writes`].
    #[must_use]
    pub fn with_retry_unknown_writes(&self, retry: bool) -> Self {
        let mut table = self.clone();
        table.options.retry_unknown = retry;
        table
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.router.name()
    }

    /// The table's number, as last fetched.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.router.routes().table_id
    }

    #[must_use]
    pub fn partition_count(&self) -> u32 {
        self.router.routes().partition_count()
    }

    /// Index of the partition that owns a key.
    #[must_use]
    pub fn partition_of(&self, hash_key: &[u8], sort_key: &[u8]) -> u32 {
        partition_of(hash_key, sort_key, self.partition_count())
    }

    /// `ip:port` of the core that is primary of a partition, as far as known.
    #[must_use]
    pub fn primary_of(&self, partition: u32) -> Option<String> {
        self.router
            .routes()
            .primary(partition)
            .map(|endpoint| endpoint.address().to_owned())
    }

    /// The value of a row, `None` when there is none.
    pub async fn get(&self, hash_key: &[u8], sort_key: &[u8]) -> Result<Option<Bytes>> {
        let answer = self.read_key(FrameKind::Get, (hash_key, sort_key)).await?;
        found(answer, reply::read_value)
    }

    /// Writes a row; it never expires unless the table has a default.
    pub async fn put(&self, hash_key: &[u8], sort_key: &[u8], value: &[u8]) -> Result<()> {
        self.put_with_expiry(hash_key, sort_key, value, Expiry::Default)
            .await
    }

    /// Writes a row that expires as `expiry` says.
    pub async fn put_with_expiry(
        &self,
        hash_key: &[u8],
        sort_key: &[u8],
        value: &[u8],
        expiry: Expiry,
    ) -> Result<()> {
        let expiry = atomic::fields(expiry)?;
        let id = self.request_id();
        let row = (hash_key, sort_key, value);
        let body = |builder: &mut Builder| encode::put(builder, row, expiry, id);
        let weight = hash_key.len() + sort_key.len() + value.len();
        self.write(FrameKind::Put, key_hash(hash_key, sort_key), weight, &body)
            .await?;
        Ok(())
    }

    /// Writes a row that expires after `ttl`, rounded up to whole seconds, more than zero.
    pub async fn put_with_ttl(
        &self,
        hash_key: &[u8],
        sort_key: &[u8],
        value: &[u8],
        ttl: Duration,
    ) -> Result<()> {
        self.put_with_expiry(hash_key, sort_key, value, Expiry::After(ttl))
            .await
    }

    /// Removes a row; it is no error if there is none.
    pub async fn remove(&self, hash_key: &[u8], sort_key: &[u8]) -> Result<()> {
        let id = self.request_id();
        let body = |builder: &mut Builder| encode::key(builder, hash_key, sort_key, id);
        self.write(
            FrameKind::Remove,
            key_hash(hash_key, sort_key),
            hash_key.len() + sort_key.len(),
            &body,
        )
        .await?;
        Ok(())
    }

    /// Whether a row exists.
    pub async fn exist(&self, hash_key: &[u8], sort_key: &[u8]) -> Result<bool> {
        let answer = self
            .read_key(FrameKind::Exist, (hash_key, sort_key))
            .await?;
        Ok(found(answer, reply::read_exist)?.unwrap_or(false))
    }

    /// What is left of a row's life, `None` when there is no such row.
    pub async fn ttl(&self, hash_key: &[u8], sort_key: &[u8]) -> Result<Option<Ttl>> {
        let answer = self.read_key(FrameKind::Ttl, (hash_key, sort_key)).await?;
        found(answer, reply::read_ttl)
    }

    /// Writes rows (sort key, value) of one hash key, all or none of them.
    pub async fn multi_put<K, V>(&self, hash_key: &[u8], rows: &[(K, V)]) -> Result<()>
    where
        K: AsRef<[u8]> + Sync,
        V: AsRef<[u8]> + Sync,
    {
        self.multi_put_rows(hash_key, rows, 0).await
    }

    /// Writes rows of one hash key that all expire after `ttl`, rounded up to whole seconds, more than zero.
    pub async fn multi_put_with_ttl<K, V>(
        &self,
        hash_key: &[u8],
        rows: &[(K, V)],
        ttl: Duration,
    ) -> Result<()>
    where
        K: AsRef<[u8]> + Sync,
        V: AsRef<[u8]> + Sync,
    {
        self.multi_put_rows(hash_key, rows, ttl_seconds(ttl)?).await
    }

    /// Rows of one hash key, by keys or by range; see [`MultiGet`]. `hash_key` of the rows is left empty.
    pub async fn multi_get(&self, hash_key: &[u8], options: &MultiGet) -> Result<Rows> {
        check_hash_key(hash_key)?;
        let body = |builder: &mut Builder| encode::multi_get(builder, hash_key, options);
        let weight = hash_key.len() + weight_of(&options.sort_keys);
        let answer = self
            .read(
                FrameKind::MultiGet,
                Target::Hash(key_hash(hash_key, &[])),
                weight,
                &body,
            )
            .await?;
        Ok(found(answer, reply::read_rows)?.unwrap_or(Rows {
            rows: Vec::new(),
            complete: true,
        }))
    }

    /// Removes rows of one hash key, all or none of them. Returns how many sort keys were named, as Apache Pegasus
    /// does, not how many existed.
    pub async fn multi_remove<K: AsRef<[u8]> + Sync>(
        &self,
        hash_key: &[u8],
        sort_keys: &[K],
    ) -> Result<u64> {
        check_hash_key(hash_key)?;
        check_not_empty(sort_keys.len())?;
        let id = self.request_id();
        let body = |builder: &mut Builder| encode::multi_remove(builder, hash_key, sort_keys, id);
        let weight = hash_key.len() + weight_of(sort_keys);
        let answer = self
            .write(
                FrameKind::MultiRemove,
                key_hash(hash_key, &[]),
                weight,
                &body,
            )
            .await?;
        reply::read_write_count(&answer)
    }

    /// The values of many rows (hash key, sort key), in the order of `keys`, `None` where there is no row. Each
    /// partition is asked once, all at the same time; the answer is not one moment of the table.
    pub async fn batch_get<H, S>(&self, keys: &[(H, S)]) -> Result<Vec<Option<Bytes>>>
    where
        H: AsRef<[u8]> + Sync,
        S: AsRef<[u8]> + Sync,
    {
        let count = self.partition_count();
        let mut groups: BTreeMap<u32, Vec<Key<'_>>> = BTreeMap::new();
        for (hash_key, sort_key) in keys {
            let key = (hash_key.as_ref(), sort_key.as_ref());
            groups
                .entry(partition_of(key.0, key.1, count))
                .or_default()
                .push(key);
        }
        let groups = groups
            .into_iter()
            .map(|(partition, keys)| self.batch_get_of_one(partition, keys));
        let mut values: HashMap<(Bytes, Bytes), Bytes> = HashMap::with_capacity(keys.len());
        for rows in try_join_all(groups).await? {
            values.extend(
                rows.into_iter()
                    .map(|row| ((row.hash_key, row.sort_key), row.value)),
            );
        }
        let value = |(hash_key, sort_key): &(H, S)| {
            let key = (
                Bytes::copy_from_slice(hash_key.as_ref()),
                Bytes::copy_from_slice(sort_key.as_ref()),
            );
            values.get(&key).cloned()
        };
        Ok(keys.iter().map(value).collect())
    }

    /// How many rows a hash key has.
    pub async fn sortkey_count(&self, hash_key: &[u8]) -> Result<u64> {
        check_hash_key(hash_key)?;
        let body =
            |builder: &mut Builder| encode::key(builder, hash_key, &[], RequestId::default());
        let target = Target::Hash(key_hash(hash_key, &[]));
        let answer = self
            .read(FrameKind::SortKeyCount, target, hash_key.len(), &body)
            .await?;
        Ok(found(answer, reply::read_count)?.unwrap_or(0))
    }

    /// Streams the rows of one hash key, ascending. Each page has the handle's deadline.
    ///
    /// # Errors
    /// When the hash key is empty.
    pub fn hash_scan(&self, hash_key: &[u8], options: &HashScan) -> Result<Scanner> {
        check_hash_key(hash_key)?;
        Ok(Scanner::of_hash_key(self.clone(), hash_key, options))
    }

    /// Streams the rows of the whole table, in no order between partitions. Each page has the handle's deadline.
    #[must_use]
    pub fn full_scan(&self, options: &FullScan) -> Scanner {
        Scanner::of_partitions(self.clone(), 0..self.partition_count(), options)
    }

    /// Streams the rows of one partition, in the order of their raw keys.
    #[must_use]
    pub fn partition_scan(&self, partition: u32, options: &FullScan) -> Scanner {
        Scanner::of_partitions(
            self.clone(),
            partition..partition.saturating_add(1),
            options,
        )
    }

    /// The rows of one partition behind this one, which need not be there any more: a scan that was cut short goes on so.
    ///
    /// # Errors
    /// When the hash key is longer than that of any row.
    pub fn partition_scan_after(
        &self,
        partition: u32,
        options: &FullScan,
        (hash_key, sort_key): (&[u8], &[u8]),
    ) -> Result<Scanner> {
        let too_long = |_| Error::failed(Code::InvalidArgument, "a hash key of 64 KiB and more");
        let length = u16::try_from(hash_key.len()).map_err(too_long)?;
        let raw_key = [&length.to_be_bytes(), hash_key, sort_key].concat();
        let scanner = self.partition_scan(partition, options);
        Ok(scanner.after(raw_key.into()))
    }

    /// How many rows pass the filters, counted by the servers.
    pub async fn count(&self, options: &FullScan) -> Result<u64> {
        Scanner::counting(self.clone(), 0..self.partition_count(), options)
            .sum_counts()
            .await
    }

    /// The same for one partition.
    pub async fn partition_count_rows(&self, partition: u32, options: &FullScan) -> Result<u64> {
        let partitions = partition..partition.saturating_add(1);
        Scanner::counting(self.clone(), partitions, options)
            .sum_counts()
            .await
    }

    async fn multi_put_rows<K, V>(
        &self,
        hash_key: &[u8],
        rows: &[(K, V)],
        ttl_seconds: u32,
    ) -> Result<()>
    where
        K: AsRef<[u8]> + Sync,
        V: AsRef<[u8]> + Sync,
    {
        check_hash_key(hash_key)?;
        check_not_empty(rows.len())?;
        let id = self.request_id();
        let body =
            |builder: &mut Builder| encode::multi_put(builder, hash_key, rows, ttl_seconds, id);
        let row_weight = |(sort_key, value): &(K, V)| {
            sort_key.as_ref().len() + value.as_ref().len() + ROW_OVERHEAD
        };
        let weight = hash_key.len() + rows.iter().map(row_weight).sum::<usize>();
        self.write(FrameKind::MultiPut, key_hash(hash_key, &[]), weight, &body)
            .await?;
        Ok(())
    }

    /// All existing rows among `keys`, which are of one partition; asks again from where a limit cut the answer.
    async fn batch_get_of_one(
        &self,
        partition: u32,
        keys: Vec<Key<'_>>,
    ) -> Result<Vec<reply::Row>> {
        let mut rows = Vec::with_capacity(keys.len());
        let mut rest = &keys[..];
        loop {
            let body = |builder: &mut Builder| encode::batch_get(builder, rest);
            let weight = rest
                .iter()
                .map(|(hash_key, sort_key)| hash_key.len() + sort_key.len() + ROW_OVERHEAD)
                .sum();
            let answer = self
                .read(
                    FrameKind::BatchGet,
                    Target::Partition(partition),
                    weight,
                    &body,
                )
                .await?;
            let Some(page) = found(answer, reply::read_rows)? else {
                return Ok(rows);
            };
            let last = page
                .rows
                .last()
                .map(|row| (row.hash_key.clone(), row.sort_key.clone()));
            rows.extend(page.rows);
            if page.complete {
                return Ok(rows);
            }
            let answered = last.and_then(|last| {
                rest.iter()
                    .rposition(|key| (key.0, key.1) == (&last.0[..], &last.1[..]))
            });
            rest = match answered {
                Some(index) => &rest[index + 1..],
                None => {
                    return Err(Error::failed(
                        Code::Internal,
                        "answer: a batch get that makes no progress",
                    ));
                }
            };
            if rest.is_empty() {
                return Ok(rows);
            }
        }
    }
}

/// FlatBuffers' cost of a row, about.
pub(crate) const ROW_OVERHEAD: usize = 24;

fn weight_of<K: AsRef<[u8]>>(keys: &[K]) -> usize {
    keys.iter()
        .map(|key| key.as_ref().len() + ROW_OVERHEAD)
        .sum()
}

pub(crate) fn check_hash_key(hash_key: &[u8]) -> Result<()> {
    if hash_key.is_empty() {
        return Err(Error::failed(
            Code::InvalidArgument,
            "an operation on a whole hash key needs one",
        ));
    }
    Ok(())
}

pub(crate) fn check_not_empty(count: usize) -> Result<()> {
    if count == 0 {
        return Err(Error::failed(Code::InvalidArgument, "no rows are named"));
    }
    Ok(())
}

pub(crate) fn ttl_seconds(ttl: Duration) -> Result<u32> {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    match u32::try_from(seconds) {
        Ok(0) => Err(Error::failed(
            Code::InvalidArgument,
            "a time to live of zero",
        )),
        Ok(seconds) => Ok(seconds),
        Err(_) => Err(Error::failed(
            Code::InvalidArgument,
            format!("a time to live of {seconds} seconds"),
        )),
    }
}
