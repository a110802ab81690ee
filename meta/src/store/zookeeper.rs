//! The state in ZooKeeper, for sites that run it: several metas, of which one leads.
//!
//! ```text
//! ROOT/election/_c_UUID-meta-NNNNNNNNNN   ephemeral, one for each meta that runs: its address; the lowest number leads
//! ROOT/head                               which snapshot and which batches count, of which cluster, in which term
//! ROOT/snapshots/SEQUENCE-PART            the whole state up to batch SEQUENCE
//! ROOT/batches/SEQUENCE-PART              one batch of changes
//! ```
//!
//! What makes it safe is the version of the head, not time: each write is one request that also checks or sets the head, and
//! whoever begins to lead sets it first. A batch counts once the head says so, and the head says so in the same request. A
//! leader that was deposed and does not know it therefore cannot write, and [`Store::confirm`] goes through ZooKeeper's
//! quorum too. Parts that no head names are of a write that was cut short; the next leader takes them away.

mod campaign;
mod layout;
mod session;

pub use layout::Root;

use super::format::{FORMAT, FileKind, encode_record};
use super::{Store, StoreError};
use crate::leadership::{ChangeDone, Leadership, MemberChange, MetaMember, Standing, Term, Wake};
use crate::state::{Change, ClusterId, Durable};
use campaign::Campaign;
use layout::Head;
use session::{Guard, Op, Session};
use std::fmt;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};

/// So many batches are replaced by a snapshot, or so many bytes of them: reading one costs a request.
const BATCHES_MAX: u64 = 512;
const BATCH_BYTES_MAX: u64 = 8 << 20;

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZooKeeperOptions {
    /// `host:port[,host:port]`
    pub servers: String,
    pub root: Root,
    /// After so long without its meta ZooKeeper lets another one lead; the servers have bounds of their own for it (2 to 20
    /// ticks). Shorter: failover is faster, and a pause of meta or its network ends its term.
    pub session_timeout: Duration,
}

/// Makes a store that holds `durable`.
///
/// # Errors
/// [`StoreError::Exists`] if there is one; ZooKeeper does not answer or refuses.
pub fn create(options: &ZooKeeperOptions, durable: &Durable) -> Result<(), StoreError> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let session = options.connect().await?;
        session.create_store(durable).await
    })
}

/// Everything that the store holds at one moment, also while a meta runs. `None`: there is no store.
///
/// # Errors
/// ZooKeeper does not answer, or what is there cannot be read.
pub fn read(options: &ZooKeeperOptions) -> Result<Option<Durable>, StoreError> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let session = options.connect().await?;
        if session.head().await?.is_none() {
            return Ok(None);
        }
        let (_, found) = session.read_any().await?;
        Ok(Some(found.durable))
    })
}

/// Addresses of the metas that run on this store, the leader first.
///
/// # Errors
/// ZooKeeper does not answer.
pub fn running(options: &ZooKeeperOptions) -> Result<Vec<String>, StoreError> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let session = options.connect().await?;
        Ok(campaign::contenders(&session).await?.0)
    })
}

fn runtime() -> Result<Runtime, StoreError> {
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("meta-zookeeper")
        .enable_all()
        .build();
    built.map_err(|error| StoreError::Group(format!("cannot make a thread for ZooKeeper: {error}")))
}

impl ZooKeeperOptions {
    async fn connect(&self) -> Result<Session, StoreError> {
        Session::connect(&self.servers, &self.root, self.session_timeout).await
    }
}

/// This process as one of the metas that share a store in ZooKeeper.
pub struct ZooKeeper {
    options: ZooKeeperOptions,
    cluster: ClusterId,
    address: String,
    /// `None` after the end.
    runtime: Option<Runtime>,
    campaign: Option<Campaign>,
}

impl fmt::Debug for ZooKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZooKeeper")
            .field("options", &self.options)
            .field("cluster", &self.cluster)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl ZooKeeper {
    /// Looks which cluster is there. `address`: where this process answers clients, as they reach it.
    ///
    /// # Errors
    /// ZooKeeper does not answer, there is no store, or another cluster than `expected`.
    pub fn open(
        options: ZooKeeperOptions,
        address: String,
        expected: Option<ClusterId>,
    ) -> Result<Self, StoreError> {
        let runtime = runtime()?;
        let head = runtime.block_on(async {
            let session = options.connect().await?;
            session.head().await?.ok_or_else(|| session.empty())
        });
        let (head, _) = head?;
        if let Some(expected) = expected.filter(|it| *it != head.cluster) {
            return Err(StoreError::ForeignCluster {
                path: options.root.head().into(),
                found: head.cluster,
                expected,
            });
        }
        Ok(Self {
            options,
            cluster: head.cluster,
            address,
            runtime: Some(runtime),
            campaign: None,
        })
    }

    /// Begins a term with the session that was elected.
    fn fence(&self, session: &Session) -> Result<Term, StoreError> {
        let handle = self.handle()?;
        let (head, version, found) = handle.block_on(self.take_over(session))?;
        let number = head.term;
        let durable = found.durable.clone();
        let mut store = ZooKeeperStore {
            handle,
            session: session.clone(),
            snapshot_at: head.snapshot + BATCHES_MAX,
            head,
            version,
            batch_bytes: found.batch_bytes,
        };
        if found.format < FORMAT {
            tracing::info!(
                from = found.format,
                to = FORMAT,
                "bringing the store to a newer format"
            );
            store.snapshot(&durable)?;
        }
        Ok(Term {
            store: Box::new(store),
            durable,
            number,
        })
    }

    /// Sets the head, after which no earlier term writes anything any more, and reads what counts.
    async fn take_over(
        &self,
        session: &Session,
    ) -> Result<(Head, i32, session::Found), StoreError> {
        loop {
            let (mut head, version) = session.head().await?.ok_or_else(|| session.empty())?;
            if head.cluster != self.cluster {
                return Err(StoreError::ForeignCluster {
                    path: self.options.root.head().into(),
                    found: head.cluster,
                    expected: self.cluster,
                });
            }
            head.term += 1;
            match session
                .write(Guard::Set(version, &head.encode()), &[])
                .await
            {
                Ok(()) => {}
                // The leader before was still writing; it has nothing to check against once this succeeds.
                Err(StoreError::Deposed { .. }) if !session.is_over() => continue,
                Err(error) => return Err(error),
            }
            let found = session.read(&head).await?;
            session.clean(&head, version + 1).await?;
            return Ok((head, version + 1, found));
        }
    }

    fn handle(&self) -> Result<Handle, StoreError> {
        let runtime = self.runtime.as_ref();
        let ended = || StoreError::Group("this meta has resigned".to_owned());
        Ok(runtime.ok_or_else(ended)?.handle().clone())
    }
}

impl Leadership for ZooKeeper {
    fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn start(&mut self, wake: Wake) {
        if let Some(runtime) = &self.runtime {
            let begun = Campaign::begin(runtime.handle(), &self.options, &self.address, wake);
            self.campaign = Some(begun);
        }
    }

    fn standing(&mut self) -> Result<Standing, StoreError> {
        Ok(self
            .campaign
            .as_ref()
            .map_or(Standing::Follows { leader: None }, Campaign::standing))
    }

    fn begin(&mut self) -> Result<Term, StoreError> {
        let session = self.campaign.as_ref().and_then(Campaign::leading);
        let session =
            session.ok_or_else(|| session::deposed("it is not this meta's turn", false))?;
        let begun = self.fence(&session);
        if matches!(begun, Err(StoreError::Deposed { .. })) {
            session.give_up();
        }
        begun
    }

    fn members(&self) -> Vec<MetaMember> {
        self.campaign
            .as_ref()
            .map_or_else(Vec::new, Campaign::members)
    }

    fn change_members(&mut self, _change: MemberChange, done: ChangeDone) {
        done(Err(
            "metas that share a store in ZooKeeper have no list of members: one that is started is one, one that is stopped is none"
                .to_owned(),
        ));
    }

    fn resign(&mut self) {
        if let (Some(campaign), Some(runtime)) = (self.campaign.take(), &self.runtime) {
            campaign.end(runtime.handle());
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.resign();
    }
}

/// The store of one term.
struct ZooKeeperStore {
    handle: Handle,
    session: Session,
    head: Head,
    /// Of the head's znode: each write of this term checks it.
    version: i32,
    batch_bytes: u64,
    /// The batch at which a snapshot is wanted; later than usual after one that failed.
    snapshot_at: u64,
}

impl ZooKeeperStore {
    /// Writes a record, and in the same request the head that names it.
    fn put(
        &mut self,
        kind: FileKind,
        record: &[u8],
        head: Head,
        number: u64,
    ) -> Result<(), StoreError> {
        let Self {
            handle,
            session,
            version,
            ..
        } = self;
        let written = handle.block_on(async {
            let (path, last) = session
                .write_record(kind, number, record, head.cluster, Some(*version))
                .await?;
            let guard = head.encode();
            let op = [Op::Create(&path, &last)];
            session.write(Guard::Set(*version, &guard), &op).await
        });
        match written {
            Ok(()) => {
                self.version += 1;
                self.head = head;
                Ok(())
            }
            Err(error @ StoreError::Full { .. }) => {
                // What was written of it must not stand where the next one goes.
                self.clean()?;
                Err(error)
            }
            Err(error) => Err(self.note(error)),
        }
    }

    fn clean(&self) -> Result<(), StoreError> {
        let cleaned = self
            .handle
            .block_on(self.session.clean(&self.head, self.version));
        cleaned.map_err(|error| self.note(error))
    }

    /// A term that is over is over for the session too: this process stands again.
    fn note(&self, error: StoreError) -> StoreError {
        if matches!(error, StoreError::Deposed { .. }) {
            self.session.give_up();
        }
        error
    }
}

impl Store for ZooKeeperStore {
    fn append(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let number = self.head.next;
        let record = encode_record(self.head.cluster, number, changes);
        let record = record.ok_or_else(|| StoreError::Full {
            path: self.session.root.part(FileKind::Log, number, 0).into(),
        })?;
        let head = Head {
            next: number + 1,
            ..self.head.clone()
        };
        self.put(FileKind::Log, &record, head, number)?;
        self.batch_bytes += record.len() as u64;
        Ok(())
    }

    fn wants_snapshot(&self) -> bool {
        self.head.next > self.snapshot_at || self.batch_bytes > BATCH_BYTES_MAX
    }

    fn snapshot(&mut self, durable: &Durable) -> Result<(), StoreError> {
        let number = self.head.next - 1;
        if number == self.head.snapshot {
            return Ok(());
        }
        let record = encode_record(self.head.cluster, number, &durable.snapshot());
        let record = record.ok_or_else(|| StoreError::Full {
            path: self.session.root.part(FileKind::Snapshot, number, 0).into(),
        })?;
        let head = Head {
            snapshot: number,
            ..self.head.clone()
        };
        let written = self.put(FileKind::Snapshot, &record, head, number);
        // Wanted again after as many batches more, also if there was no room for this one.
        self.snapshot_at = number + BATCHES_MAX;
        self.batch_bytes = 0;
        written?;
        self.clean()
    }

    fn load(&self) -> Result<Durable, StoreError> {
        let found = self.handle.block_on(self.session.read(&self.head));
        found
            .map(|found| found.durable)
            .map_err(|error| self.note(error))
    }

    /// A request that checks the head goes through the quorum like a write.
    fn confirm(&mut self) -> Result<(), StoreError> {
        let guard = Guard::Check(self.version);
        let confirmed = self.handle.block_on(self.session.write(guard, &[]));
        confirmed.map_err(|error| self.note(error))
    }
}
