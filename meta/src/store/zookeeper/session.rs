//! One session with ZooKeeper: reading the store, and writes that count only under the head's version.

use super::super::StoreError;
use super::super::format::{FORMAT, FileKind, change, decode_record, encode_record};
use super::layout::{Head, Root, corrupt, decode_part, sequence_of, split};
use crate::state::{ClusterId, Durable};
use std::time::Duration;
use tokio::sync::watch;
use zookeeper_client::{
    Acls, Client, CreateMode, CreateOptions, Error, MultiWriteError, MultiWriter, SessionState,
};

/// Reads under way at the same time.
const READS: usize = 32;
/// Znodes deleted by one request.
const DELETES: usize = 64;
/// A reader that does not lead tries so often to see everything of one head.
const READ_TRIES: usize = 20;

pub(super) const PLAIN: CreateOptions<'static> =
    CreateMode::Persistent.with_acls(Acls::anyone_all());

/// An open session. It is over for good once `over` is true.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) root: Root,
    /// Set when the session has ended, or when it was without a connection for so long that another one may lead soon.
    over: watch::Sender<bool>,
}

/// Everything of one head.
pub(super) struct Found {
    pub(super) durable: Durable,
    /// The oldest format of its records.
    pub(super) format: u16,
    /// Of all batches.
    pub(super) batch_bytes: u64,
}

/// What a write asks of the head.
#[derive(Clone, Copy)]
pub(super) enum Guard<'a> {
    /// It still has this version.
    Check(i32),
    /// It had this version, and is now these bytes.
    Set(i32, &'a [u8]),
}

pub(super) enum Op<'a> {
    Create(&'a str, &'a [u8]),
    Delete(&'a str),
}

impl Session {
    /// # Errors
    /// No server answers within the session's timeout.
    pub(super) async fn connect(
        servers: &str,
        root: &Root,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        let connector = Client::connector().with_session_timeout(timeout);
        let connected = connector.connect(servers).await;
        let client = connected.map_err(|error| {
            StoreError::Group(format!("no ZooKeeper answers at {servers}: {error}"))
        })?;
        let (over, _) = watch::channel(false);
        let session = Self {
            client,
            root: root.clone(),
            over,
        };
        tokio::spawn(guard(
            session.client.state_watcher(),
            session.over.clone(),
            session.client.session_timeout(),
        ));
        Ok(session)
    }

    pub(super) fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// Ends what rests on this session.
    pub(super) fn give_up(&self) {
        self.over.send_replace(true);
    }

    /// Waits until the session is over.
    pub(super) async fn ended(&self) {
        let mut over = self.over.subscribe();
        // The sender lives as long as this session.
        _ = over.wait_for(|over| *over).await;
    }

    /// Waits for `work`, but not longer than the session lives.
    pub(super) async fn unless_over<T>(
        &self,
        may_be_stored: bool,
        work: impl Future<Output = T>,
    ) -> Result<T, StoreError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.ended() => Err(deposed("the session with ZooKeeper is over", may_be_stored)),
        }
    }

    /// The bytes of a znode and its version; `None`: it is not there.
    pub(super) async fn get(&self, path: &str) -> Result<Option<(Vec<u8>, i32)>, StoreError> {
        loop {
            match self.unless_over(false, self.client.get_data(path)).await? {
                Ok((bytes, stat)) => return Ok(Some((bytes, stat.version))),
                Err(Error::NoNode) => return Ok(None),
                // The next one waits for a new connection.
                Err(Error::ConnectionLoss) => {}
                Err(error) => return Err(fault(path, &error, false)),
            }
        }
    }

    pub(super) async fn children(&self, path: &str) -> Result<Vec<String>, StoreError> {
        loop {
            match self
                .unless_over(false, self.client.list_children(path))
                .await?
            {
                Ok(children) => return Ok(children),
                Err(Error::NoNode) => return Ok(Vec::new()),
                Err(Error::ConnectionLoss) => {}
                Err(error) => return Err(fault(path, &error, false)),
            }
        }
    }

    /// Makes a directory and those above it.
    pub(super) async fn make_directory(&self, path: &str) -> Result<(), StoreError> {
        loop {
            match self
                .unless_over(false, self.client.mkdir(path, &PLAIN))
                .await?
            {
                Ok(()) => return Ok(()),
                Err(Error::ConnectionLoss) => {}
                Err(error) => return Err(fault(path, &error, false)),
            }
        }
    }

    /// The head and its version; `None`: there is no store.
    pub(super) async fn head(&self) -> Result<Option<(Head, i32)>, StoreError> {
        let path = self.root.head();
        let Some((bytes, version)) = self.get(&path).await? else {
            return Ok(None);
        };
        Ok(Some((Head::decode(&path, &bytes)?, version)))
    }

    /// Everything of the newest head, also while somebody writes.
    ///
    /// # Errors
    /// There is no store, or it cannot be read.
    pub(super) async fn read_any(&self) -> Result<(Head, Found), StoreError> {
        let mut last = None;
        for _ in 0..READ_TRIES {
            let (head, version) = self.head().await?.ok_or_else(|| self.empty())?;
            let found = self.read(&head).await;
            let is_same = self.head().await?.is_some_and(|(_, now)| now == version);
            match found {
                Ok(found) => return Ok((head, found)),
                Err(error) if is_same => return Err(error),
                // What it named has been replaced while it was read.
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| self.empty()))
    }

    pub(super) fn empty(&self) -> StoreError {
        StoreError::Group(format!(
            "ZooKeeper holds no meta store at {}; `pegasus-meta init` makes a new, empty cluster there, `pegasus-meta import` brings one",
            self.root.path()
        ))
    }

    /// Everything that `head` names.
    pub(super) async fn read(&self, head: &Head) -> Result<Found, StoreError> {
        let (payload, format) = self
            .record(FileKind::Snapshot, head.cluster, head.snapshot)
            .await?;
        let path = self.root.part(FileKind::Snapshot, head.snapshot, 0);
        let changes = decoded(&path, &payload)?;
        let durable = Durable::replay(&changes).map_err(|source| StoreError::Change {
            path: path.clone().into(),
            source,
        })?;
        if durable.cluster().id != head.cluster {
            return Err(StoreError::ForeignCluster {
                path: path.into(),
                found: durable.cluster().id,
                expected: head.cluster,
            });
        }
        let mut found = Found {
            durable,
            format,
            batch_bytes: 0,
        };
        let batches: Vec<u64> = (head.snapshot + 1..head.next).collect();
        for some in batches.chunks(READS) {
            // Sent together: a request leaves when its future is made.
            let first_parts: Vec<_> = some
                .iter()
                .map(|&it| self.root.part(FileKind::Log, it, 0))
                .collect();
            let under_way: Vec<_> = first_parts
                .iter()
                .map(|path| self.client.get_data(path))
                .collect();
            for (&sequence, first) in some.iter().zip(under_way) {
                let first = self.unless_over(false, first).await?.ok();
                let first = first.map(|(bytes, _)| bytes);
                self.add_batch(head.cluster, sequence, first, &mut found)
                    .await?;
            }
        }
        Ok(found)
    }

    async fn add_batch(
        &self,
        cluster: ClusterId,
        sequence: u64,
        first: Option<Vec<u8>>,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let (payload, format) = self
            .record_from(FileKind::Log, cluster, sequence, first)
            .await?;
        let path = self.root.part(FileKind::Log, sequence, 0);
        let applied = decoded(&path, &payload)?
            .iter()
            .try_for_each(|change| found.durable.apply(change));
        applied.map_err(|source| StoreError::Change {
            path: path.into(),
            source,
        })?;
        found.format = found.format.min(format);
        found.batch_bytes += payload.len() as u64;
        Ok(())
    }

    /// The payload of a record and its format.
    async fn record(
        &self,
        kind: FileKind,
        cluster: ClusterId,
        sequence: u64,
    ) -> Result<(Vec<u8>, u16), StoreError> {
        self.record_from(kind, cluster, sequence, None).await
    }

    /// The same, with its first part if it has been read.
    async fn record_from(
        &self,
        kind: FileKind,
        cluster: ClusterId,
        sequence: u64,
        mut first: Option<Vec<u8>>,
    ) -> Result<(Vec<u8>, u16), StoreError> {
        let mut joined = Vec::new();
        let (mut index, mut count, mut format) = (0, 1, FORMAT);
        while index < count {
            let path = self.root.part(kind, sequence, index);
            let bytes = match first.take() {
                Some(bytes) => bytes,
                None => {
                    let got = self.get(&path).await?;
                    let missing =
                        || corrupt(&path, 0, "the znode is missing, and the head names it");
                    got.ok_or_else(missing)?.0
                }
            };
            let part = decode_part(&path, &bytes, (kind, cluster, sequence, index))?;
            if index > 0 && part.count != count {
                return Err(corrupt(
                    &path,
                    48,
                    "its parts do not agree how many they are",
                ));
            }
            (count, format) = (part.count, format.min(part.format));
            joined.extend_from_slice(part.payload);
            index += 1;
        }
        let path = self.root.part(kind, sequence, 0);
        let record = decode_record(cluster, &joined)
            .filter(|it| it.sequence == sequence && it.total_bytes() == joined.len());
        let record = record.ok_or_else(|| corrupt(&path, 0, "checksum mismatch of the record"))?;
        Ok((record.payload.to_vec(), format))
    }

    /// Does `ops` all or none, if the head is as `guard` says. Repeated until its fate is known, or the session is over.
    ///
    /// # Errors
    /// [`StoreError::Deposed`] if the head is not; [`StoreError::Full`] leaves everything as it was.
    pub(super) async fn write(&self, guard: Guard<'_>, ops: &[Op<'_>]) -> Result<(), StoreError> {
        let path = self.root.head();
        let sets = matches!(guard, Guard::Set(..));
        let mut uncertain = false;
        loop {
            let mut writer = self.client.new_multi_writer();
            let added = add(&mut writer, &path, guard, ops);
            added.map_err(|error| fault(&path, &error, false))?;
            let may_be_stored = sets && uncertain;
            let committed = self.unless_over(sets, writer.commit()).await?;
            let (index, error) = match committed {
                Ok(_) => return Ok(()),
                Err(MultiWriteError::RequestFailed {
                    source: Error::ConnectionLoss,
                }) => {
                    uncertain = true;
                    continue;
                }
                Err(MultiWriteError::RequestFailed { source }) => {
                    return Err(fault(&path, &source, sets));
                }
                Err(MultiWriteError::OperationFailed { index, source }) => (index, source),
            };
            return match (index, error) {
                // An earlier try may have arrived: then the head is what it was to be.
                (0, Error::BadVersion) if uncertain && self.is_head(guard).await? => Ok(()),
                (0, Error::BadVersion | Error::NoNode) => {
                    Err(deposed("another meta has begun to lead", may_be_stored))
                }
                // The head has our version, so that nobody else has done this. One that sets the head has not arrived before,
                // or the head would have another.
                (_, Error::NodeExists | Error::NoNode) if uncertain && !sets => Ok(()),
                (_, error) => Err(fault(&path, &error, false)),
            };
        }
    }

    async fn is_head(&self, guard: Guard<'_>) -> Result<bool, StoreError> {
        let Guard::Set(_, bytes) = guard else {
            return Ok(false);
        };
        let got = self.get(&self.root.head()).await?;
        Ok(got.is_some_and(|(now, _)| now == bytes))
    }

    /// Writes a record under the head's version, all but the last part; returns that, as nothing counts before the head says
    /// so.
    pub(super) async fn write_record(
        &self,
        kind: FileKind,
        sequence: u64,
        record: &[u8],
        cluster: ClusterId,
        version: Option<i32>,
    ) -> Result<(String, Vec<u8>), StoreError> {
        let full = || StoreError::Full {
            path: self.root.part(kind, sequence, 0).into(),
        };
        let mut parts = split(kind, cluster, sequence, record).ok_or_else(full)?;
        let last = parts.pop().ok_or_else(full)?;
        for (index, part) in (0u32..).zip(&parts) {
            let path = self.root.part(kind, sequence, index);
            let op = [Op::Create(&path, part)];
            match version {
                Some(version) => self.write(Guard::Check(version), &op).await?,
                None => self.create(&path, part).await?,
            }
        }
        let index = u32::try_from(parts.len()).map_err(|_| full())?;
        Ok((self.root.part(kind, sequence, index), last))
    }

    /// Creates a znode outside of any term.
    async fn create(&self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let mut uncertain = false;
        loop {
            match self
                .unless_over(false, self.client.create(path, bytes, &PLAIN))
                .await?
            {
                Ok(_) => return Ok(()),
                Err(Error::NodeExists) if uncertain => return Ok(()),
                Err(Error::ConnectionLoss) => uncertain = true,
                Err(error) => return Err(fault(path, &error, false)),
            }
        }
    }

    /// Takes away the records that `head`, whose version is given, does not name.
    pub(super) async fn clean(&self, head: &Head, version: i32) -> Result<(), StoreError> {
        let snapshots = self
            .unnamed(FileKind::Snapshot, |it| it == head.snapshot)
            .await?;
        let is_named = |it| head.snapshot < it && it < head.next;
        let batches = self.unnamed(FileKind::Log, is_named).await?;
        let all: Vec<String> = snapshots.into_iter().chain(batches).collect();
        for some in all.chunks(DELETES) {
            let ops: Vec<Op<'_>> = some.iter().map(|path| Op::Delete(path)).collect();
            self.write(Guard::Check(version), &ops).await?;
        }
        Ok(())
    }

    /// Paths of records of one kind whose number is not wanted. What has another name is none of ours and stays.
    async fn unnamed(
        &self,
        kind: FileKind,
        is_wanted: impl Fn(u64) -> bool,
    ) -> Result<Vec<String>, StoreError> {
        let directory = self.root.directory(kind);
        let names = self.children(&directory).await?;
        let unwanted = names
            .iter()
            .filter(|name| sequence_of(name).is_some_and(|it| !is_wanted(it)));
        Ok(unwanted.map(|name| format!("{directory}/{name}")).collect())
    }

    /// Makes a store that holds `durable`. Whoever does this at the same time: one of them succeeds.
    ///
    /// # Errors
    /// There is one already.
    pub(super) async fn create_store(&self, durable: &Durable) -> Result<(), StoreError> {
        let exists = || StoreError::Exists {
            dir: self.root.path().into(),
        };
        if self.head().await?.is_some() {
            return Err(exists());
        }
        for kind in [FileKind::Snapshot, FileKind::Log] {
            self.make_directory(&self.root.directory(kind)).await?;
        }
        // A number of its own, so that two that are made at the same time, or one that was cut short, do not meet.
        let sequence = u64::from(rand_u32(&self.client)) + 1;
        let cluster = durable.cluster();
        let record = encode_record(cluster.id, sequence, &durable.snapshot());
        let record = record.ok_or_else(|| StoreError::Full {
            path: self.root.path().into(),
        })?;
        let (path, last) = self
            .write_record(FileKind::Snapshot, sequence, &record, cluster.id, None)
            .await?;
        self.create(&path, &last).await?;
        let head = Head {
            cluster: cluster.id,
            name: cluster.name.clone(),
            term: 0,
            snapshot: sequence,
            next: sequence + 1,
        };
        let bytes = head.encode();
        match self.create(&self.root.head(), &bytes).await {
            Ok(()) => {}
            // Whoever leads later takes away what we wrote.
            Err(_) if self.head().await?.is_some_and(|(there, _)| there != head) => {
                return Err(exists());
            }
            Err(error) => return Err(error),
        }
        match self.head().await? {
            Some((there, _)) if there.cluster == cluster.id => Ok(()),
            _ => Err(exists()),
        }
    }
}

/// Differs from that of every other session: the lower bits of the session's number count up on its server.
fn rand_u32(client: &Client) -> u32 {
    let bytes = client.session_id().0.to_le_bytes();
    crc32c::crc32c(&bytes)
}

fn add(
    writer: &mut MultiWriter<'_>,
    head: &str,
    guard: Guard<'_>,
    ops: &[Op<'_>],
) -> Result<(), Error> {
    match guard {
        Guard::Check(version) => writer.add_check_version(head, version)?,
        Guard::Set(version, bytes) => writer.add_set_data(head, bytes, Some(version))?,
    }
    ops.iter().try_for_each(|op| match op {
        Op::Create(path, bytes) => writer.add_create(path, bytes, &PLAIN),
        Op::Delete(path) => writer.add_delete(path, None),
    })
}

fn decoded(path: &str, payload: &[u8]) -> Result<Vec<crate::state::Change>, StoreError> {
    let none = || corrupt(path, 0, "it holds something that is no change");
    change::decode_batch(payload).ok_or_else(none)
}

/// Says when a session is over: at once if it has expired, and before that could be, if it has lost its connection.
///
/// The connection counts as lost after at most two fifths of the timeout (the client's own rule), and half of the timeout is
/// waited for a new one: in all less than the timeout after which the servers let another meta lead.
async fn guard(
    mut states: zookeeper_client::StateWatcher,
    over: watch::Sender<bool>,
    timeout: Duration,
) {
    let mut state = states.state();
    let mut given_up = over.subscribe();
    loop {
        let next = async {
            match state {
                SessionState::Disconnected => tokio::time::timeout(timeout / 2, states.changed())
                    .await
                    .ok(),
                state if state.is_terminated() => None,
                _ => Some(states.changed().await),
            }
        };
        let next = tokio::select! {
            next = next => next,
            _ = given_up.wait_for(|over| *over) => return,
        };
        let Some(next) = next else {
            tracing::warn!(%state, "the session with ZooKeeper is over");
            over.send_replace(true);
            return;
        };
        tracing::info!(before = %state, now = %next, "session with ZooKeeper");
        state = next;
    }
}

pub(super) fn deposed(reason: &str, may_be_stored: bool) -> StoreError {
    StoreError::Deposed {
        reason: reason.to_owned(),
        may_be_stored,
    }
}

/// What a refusal of ZooKeeper's means for the store.
pub(super) fn fault(path: &str, error: &Error, may_be_stored: bool) -> StoreError {
    match error {
        Error::QuotaExceeded => StoreError::Full { path: path.into() },
        Error::NoAuth | Error::InvalidAcl | Error::AuthFailed => StoreError::Group(format!(
            "{path}: ZooKeeper refuses it: {error}; the store needs znodes that anyone may change, or an ACL that lets this host"
        )),
        Error::SessionExpired
        | Error::SessionMoved
        | Error::ClientClosed
        | Error::ConnectionLoss
        | Error::Timeout
        | Error::Throttled
        | Error::NotReadOnly => deposed(&error.to_string(), may_be_stored),
        other => StoreError::Group(format!("{path}: {other}")),
    }
}
