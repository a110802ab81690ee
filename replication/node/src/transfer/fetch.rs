//! The taking side: what a learner of this node has asked for, handed to its core piece by piece.

mod log;

pub(super) use log::logs;

use super::arrival::ArrivingFile;
use super::frames::{self, Chunk, FrameError, Manifest, ManifestFile, Open};
use super::{Shared, TransferCore};
use crate::connection::Connection;
use crate::data_dir::sync_dir;
use crate::inbox::CoreInput;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{Frame, FrameKind};
use pegasus_net::PeerId;
use pegasus_net::peer::handshake::Handshaker;
use pegasus_replication::ids::{CoreAddress, CoreId, Decree, PartitionId, ReplicaIncarnation};
use pegasus_replication::message::Entry;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The source may have to flush first.
const MANIFEST_TIMEOUT: Duration = Duration::from_secs(75);
/// Between two attempts to get a session of a source that serves others.
const BUSY_WAIT: Duration = Duration::from_millis(20);
/// After this long it is another job's turn: its source may have time.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(1);
const PART_SUFFIX: &str = ".part";

/// What a learner wants, and where it is.
#[derive(Clone, Debug)]
pub struct FetchJob {
    /// Chosen by the asker, in every answer.
    pub number: u64,
    /// The learner's core.
    pub core: CoreId,
    pub partition: PartitionId,
    /// The primary's core, its replica, and the transfer port of its node.
    pub source: CoreAddress,
    pub source_incarnation: ReplicaIncarnation,
    pub source_address: SocketAddr,
    pub wanted: Wanted,
    /// Set by the core when it does not want it any more.
    pub is_cancelled: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Checkpoint,
    /// Entries behind the first decree, up to the second.
    Log {
        after: Decree,
        up_to: Decree,
    },
}

/// What the core is told of its job.
#[derive(Debug)]
pub enum Fetched {
    Entries {
        job: u64,
        partition: PartitionId,
        /// They follow one another and what came before.
        entries: Vec<Entry>,
        is_last: bool,
        /// Dropped when the core has taken them.
        permit: Permit,
    },
    /// All files are in this directory, durable; importing them takes them away.
    Checkpoint {
        job: u64,
        partition: PartitionId,
        directory: PathBuf,
    },
    Failed {
        job: u64,
        partition: PartitionId,
        error: String,
        /// The source was heard, and its log does not hold what was wanted.
        is_missing: bool,
    },
}

/// One of the pieces that a core may have waiting.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Permit {
    fn take(taken: &Arc<AtomicUsize>) -> Self {
        taken.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(taken))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why there is nothing, or not all of it.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Stranger(String),
    #[error("{0}")]
    Content(&'static str),
    /// The source does not hold what is wanted of its log.
    #[error("{0}")]
    Missing(String),
    #[error("not wanted any more")]
    Cancelled,
}

impl FetchError {
    /// All sessions of the source are in use: nothing was given.
    const fn is_busy(&self) -> bool {
        matches!(self, Self::Frame(FrameError::Refused { code, .. }) if matches!(code, Code::Busy))
    }
}

/// Fetches a checkpoint and tells the core of it.
pub(super) fn checkpoint(shared: &Shared, job: &FetchJob) {
    let Some(core) = shared.cores.get(usize::from(job.core.0)) else {
        return;
    };
    if let Err(error) = fetch_checkpoint(shared, job, core) {
        fail(job, core, &error, false);
    }
}

/// Tells the core, unless it does not want to know any more.
fn fail(job: &FetchJob, core: &TransferCore, error: &FetchError, is_missing: bool) {
    if matches!(error, FetchError::Cancelled) {
        return;
    }
    let (number, partition) = (job.number, job.partition);
    tracing::info!(%partition, source = %job.source, %error, "a copy could not be fetched, it is tried again");
    core.inbox.send(CoreInput::Fetched(Fetched::Failed {
        job: number,
        partition,
        error: error.to_string(),
        is_missing,
    }));
}

impl FetchJob {
    fn is_cancelled(&self, shared: &Shared) -> bool {
        self.is_cancelled.load(Ordering::Acquire) || shared.is_stopping()
    }
}

/// Asks the source for something, on a connection whose other end is the core that is wanted, and returns the first frame of the
/// answer. Waits a little for a session of the source: a node that comes back asks for much, each for a moment.
fn ask(
    shared: &Shared,
    job: &FetchJob,
    timeout: Duration,
    open: &Open,
) -> Result<(Connection, Frame), FetchError> {
    let started = Instant::now();
    loop {
        match ask_once(shared, job, timeout, open) {
            Err(error) if error.is_busy() && started.elapsed() < BUSY_WAIT_MAX => {
                if job.is_cancelled(shared) {
                    return Err(FetchError::Cancelled);
                }
                thread::sleep(BUSY_WAIT.mul_f64(rand::random_range(0.5..1.5)));
            }
            result => return result,
        }
    }
}

fn ask_once(
    shared: &Shared,
    job: &FetchJob,
    timeout: Duration,
    open: &Open,
) -> Result<(Connection, Frame), FetchError> {
    let mut connection = connect(shared, job, timeout)?;
    let _guard = shared.guard(connection.stream()?);
    connection.send(FrameKind::TransferOpen, &open.encode())?;
    let expected = match open {
        Open::Checkpoint { .. } => FrameKind::TransferManifest,
        Open::Log(_) => FrameKind::TransferEntries,
    };
    let frame = frames::expect(connection.receive()?, expected)?;
    Ok((connection, frame))
}

fn connect(shared: &Shared, job: &FetchJob, timeout: Duration) -> Result<Connection, FetchError> {
    let mut connection = Connection::open(job.source_address, timeout)?;
    let mut handshaker = Handshaker::new(shared.identity_of(job.core))?;
    let target = PeerId {
        node: job.source.node.0,
        core: job.source.core.0,
    };
    let nonce = handshaker.nonce()?;
    connection.send(FrameKind::Hello, &handshaker.hello(target, &nonce))?;
    let frame = frames::expect(connection.receive()?, FrameKind::HelloReply)?;
    let (_, nonces) = handshaker
        .check_reply(&frame.body, target, nonce)
        .map_err(|refusal| FetchError::Stranger(refusal.sentence))?;
    connection.send(FrameKind::HelloProof, &handshaker.proof(&nonces))?;
    Ok(connection)
}

fn fetch_checkpoint(
    shared: &Shared,
    job: &FetchJob,
    core: &TransferCore,
) -> Result<(), FetchError> {
    let directory = directory_of(job, core)?;
    let open = Open::Checkpoint {
        partition: job.partition,
        incarnation: job.source_incarnation,
    };
    let (mut connection, frame) = ask(shared, job, MANIFEST_TIMEOUT, &open)?;
    let _guard = shared.guard(connection.stream()?);
    let manifest = Manifest::decode(&frame.body)?;
    drop_others(&directory, &manifest)?;
    for file in &manifest.files {
        if job.is_cancelled(shared) {
            return Err(FetchError::Cancelled);
        }
        fetch_file(shared, job, &mut connection, &directory, file)?;
    }
    sync_dir(&directory)?;
    tracing::info!(
        partition = %job.partition, source = %job.source, decree = manifest.decree.0, files = manifest.files.len(),
        bytes = manifest.files.iter().map(|file| file.bytes).sum::<u64>(), "a checkpoint has arrived"
    );
    core.inbox.send(CoreInput::Fetched(Fetched::Checkpoint {
        job: job.number,
        partition: job.partition,
        directory,
    }));
    Ok(())
}

/// Where this source's files of this partition go. Names of table files are unique for a core for ever, so what an earlier
/// attempt has left there is right; those of another source are not and are deleted.
fn directory_of(job: &FetchJob, core: &TransferCore) -> io::Result<PathBuf> {
    let prefix = format!("{}-from-", job.partition);
    let source = format!(
        "{}.{}-{}",
        job.source.node, job.source.core, job.source_incarnation
    );
    let own = core.learn_dir.join(format!("{prefix}{source}"));
    for entry in fs::read_dir(&core.learn_dir)? {
        let entry = entry?;
        let is_of_partition = entry.file_name().to_string_lossy().starts_with(&prefix);
        if is_of_partition && entry.path() != own {
            fs::remove_dir_all(entry.path())?;
        }
    }
    fs::create_dir_all(&own)?;
    sync_dir(&core.learn_dir)?;
    Ok(own)
}

/// Files that are not in the manifest were of an older checkpoint, and its description is always fetched again.
fn drop_others(directory: &Path, manifest: &Manifest) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let whole = name.strip_suffix(PART_SUFFIX).unwrap_or(&name);
        let listed = manifest.files.iter().find(|file| file.name == whole);
        let is_useful = listed.is_some_and(|file| {
            is_table_file(&file.name)
                && entry
                    .metadata()
                    .is_ok_and(|found| found.len() <= file.bytes)
        });
        if !is_useful {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The only files whose contents never change under their name.
fn is_table_file(name: &str) -> bool {
    name.ends_with(".sst")
}

fn fetch_file(
    shared: &Shared,
    job: &FetchJob,
    connection: &mut Connection,
    directory: &Path,
    file: &ManifestFile,
) -> Result<(), FetchError> {
    let path = directory.join(&file.name);
    if fs::metadata(&path).is_ok_and(|found| found.len() == file.bytes) {
        return Ok(());
    }
    let part = directory.join(format!("{}{PART_SUFFIX}", file.name));
    let mut arriving = ArrivingFile::open(part)?;
    if arriving.length() < file.bytes {
        let request = frames::encode_fetch(&file.name, arriving.length());
        connection.send(FrameKind::TransferFetch, &request)?;
    }
    while arriving.length() < file.bytes {
        let frame = frames::expect(connection.receive()?, FrameKind::TransferChunk)?;
        shared.receiving.take(frame.body.len());
        let chunk = Chunk::decode(&frame.body)?;
        let length = chunk.data.len() as u64;
        let offset = arriving.length();
        if chunk.offset != offset || length == 0 || length > file.bytes - offset {
            return Err(FetchError::Content(
                "a chunk is not the next part of its file",
            ));
        }
        arriving.append(&chunk.data)?;
        if job.is_cancelled(shared) {
            return Err(FetchError::Cancelled);
        }
    }
    arriving.finish(file.bytes, &path)?;
    Ok(())
}
