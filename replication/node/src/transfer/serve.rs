//! The giving side: a replica's files or log, to whoever has proved to be of this cluster.

mod log;

use super::frames::{self, Chunk, Manifest, ManifestFile, Open};
use super::{EXPORT_PREFIX, ExportRequest, Exported, SESSION_TIMEOUT, Shared, TransferCore, spawn};
use crate::connection::Connection;
use crate::inbox::CoreInput;
use crossbeam_channel::{Receiver, TrySendError, bounded};
use pegasus_fbs::body;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{Frame, FrameKind, Header};
use pegasus_fbs::peer;
use pegasus_net::peer::handshake::{Handshaker, Nonces};
use pegasus_replication::ids::{CoreId, NodeId, PartitionId, ReplicaIncarnation};
use pegasus_replication::log::LogIdentity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait of the accepting thread before it looks whether it should end.
const ACCEPT_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// After an accept that failed.
const ACCEPT_RETRY: Duration = Duration::from_millis(20);
/// A flush and the linking of files; the core's pool may be busy with other flushes.
const EXPORT_WAIT: Duration = Duration::from_secs(60);
/// Of a file, in one frame: what is read, packed and sent at once, before clients have their turn.
const CHUNK_BYTES: usize = 256 << 10;
/// While files of a checkpoint are deleted.
const BETWEEN_REMOVALS: Duration = Duration::from_millis(5);
const ALL_IN_USE: &str = "all transfer sessions are in use";
const HANDSHAKE_BODY_BYTES_MAX: usize = 4 << 10;
const REQUEST_BODY_BYTES_MAX: usize = 64 << 10;

/// Why a session has ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side is told.
    #[error("{code}: {message}")]
    Refuse { code: Code, message: String },
}

/// The accepting thread and those that serve.
pub(super) fn start(
    listener: TcpListener,
    shared: &Arc<Shared>,
    on_start: impl Fn() + Clone + Send + 'static,
) -> io::Result<Vec<JoinHandle<()>>> {
    listener.set_nonblocking(true)?;
    // No queue: who comes when all threads are busy is told so, and comes again.
    let (accepted, queue) = bounded::<TcpStream>(0);
    let mut threads = Vec::new();
    for _ in 0..shared.threads() {
        let (shared, queue, on_start) = (Arc::clone(shared), queue.clone(), on_start.clone());
        threads.push(spawn("transfer-serve", move || {
            on_start();
            serve_all(&shared, &queue);
        })?);
    }
    let shared = Arc::clone(shared);
    threads.push(spawn("transfer-accept", move || {
        on_start();
        while !shared.is_stopping() {
            let Some(stream) = accept(&listener) else {
                continue;
            };
            if let Err(TrySendError::Full(stream)) = accepted.try_send(stream) {
                refuse_busy(stream);
            }
        }
    })?);
    Ok(threads)
}

fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let mut ready = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut ready, Some(&ACCEPT_WAIT)).ok()?;
    let (stream, _) = match listener.accept() {
        Ok(accepted) => accepted,
        Err(error) => {
            // Out of file descriptors, for example: the next look would come at once.
            tracing::debug!(%error, "a transfer could not be accepted");
            std::thread::sleep(ACCEPT_RETRY);
            return None;
        }
    };
    stream.set_nonblocking(false).ok()?;
    Some(stream)
}

fn refuse_busy(stream: TcpStream) {
    let Ok(mut connection) = Connection::over(stream, Duration::from_millis(100)) else {
        return;
    };
    let header = Header::request(FrameKind::Hello, 0);
    let _ = connection.refuse(&header, Code::Busy, ALL_IN_USE);
}

fn serve_all(shared: &Shared, queue: &Receiver<TcpStream>) {
    for stream in queue {
        let address = stream.peer_addr().ok();
        if let Err(error) = serve(shared, stream) {
            tracing::warn!(?address, %error, "a transfer to another node has ended early");
        }
    }
}

fn serve(shared: &Shared, stream: TcpStream) -> Result<(), ServeError> {
    let mut connection = Connection::over(stream, SESSION_TIMEOUT)?;
    let _guard = shared.guard(connection.stream()?);
    let result = serve_request(shared, &mut connection);
    if let Err(ServeError::Refuse { code, message }) = &result {
        connection.refuse(&Header::request(FrameKind::TransferOpen, 0), *code, message)?;
    }
    result
}

fn serve_request(shared: &Shared, connection: &mut Connection) -> Result<(), ServeError> {
    connection.limit_bodies(HANDSHAKE_BODY_BYTES_MAX);
    let core = greet(shared, connection)?;
    connection.limit_bodies(REQUEST_BODY_BYTES_MAX);
    let frame = of_kind(connection.receive()?, FrameKind::TransferOpen)?;
    let open = Open::decode(&frame.body).map_err(invalid)?;
    let files = shared
        .cores
        .get(usize::from(core.0))
        .ok_or_else(|| refused(Code::InvalidArgument, "no such core"))?;
    match open {
        Open::Log(ranges) => {
            let identity = LogIdentity {
                cluster: shared.identity.cluster,
                node: NodeId(shared.identity.node),
                shard: core,
            };
            log::serve(shared, connection, files, identity, &ranges)
        }
        Open::Checkpoint {
            partition,
            incarnation,
        } => serve_checkpoint(shared, connection, files, partition, incarnation),
    }
}

/// Who is there, and which core of ours they want.
pub(super) fn greet(shared: &Shared, connection: &mut Connection) -> Result<CoreId, ServeError> {
    let frame = of_kind(connection.receive()?, FrameKind::Hello)?;
    let core = body::read::<peer::Hello<'_>>(&frame.body)
        .map_err(invalid)?
        .target_core();
    if usize::from(core) >= shared.cores.len() {
        return Err(refused(Code::InvalidArgument, "no such core"));
    }
    let core = CoreId(core);
    let mut handshaker = Handshaker::new(shared.identity_of(core))?;
    let stranger = |refusal: pegasus_net::peer::handshake::Refusal| ServeError::Refuse {
        code: refusal.code,
        message: refusal.sentence,
    };
    let theirs = handshaker.check_hello(&frame.body).map_err(stranger)?;
    let nonces = Nonces {
        dialler: theirs.nonce,
        listener: handshaker.nonce()?,
    };
    connection.send(
        FrameKind::HelloReply,
        &handshaker.reply(theirs.peer, &nonces),
    )?;
    let frame = of_kind(connection.receive()?, FrameKind::HelloProof)?;
    handshaker
        .check_proof(&frame.body, &nonces)
        .map_err(stranger)?;
    Ok(core)
}

fn serve_checkpoint(
    shared: &Shared,
    connection: &mut Connection,
    files: &TransferCore,
    partition: PartitionId,
    incarnation: ReplicaIncarnation,
) -> Result<(), ServeError> {
    let _slot = Slot::take(shared)?;
    let export = ExportDir::make(shared, files, partition, incarnation)?;
    let manifest = Manifest {
        decree: export.exported.decree,
        ballot: export.exported.ballot,
        files: export.files()?,
    };
    connection.send(FrameKind::TransferManifest, &manifest.encode())?;
    loop {
        let frame = match connection.receive() {
            Ok(frame) => of_kind(frame, FrameKind::TransferFetch)?,
            // It has all it wants.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (name, offset) = frames::decode_fetch(&frame.body).map_err(invalid)?;
        let file = manifest.files.iter().find(|file| file.name == name);
        let file = file.ok_or_else(|| {
            refused(
                Code::InvalidArgument,
                format!("{name:?} is not in the manifest"),
            )
        })?;
        serve_file(
            shared,
            connection,
            &export.directory.join(&name),
            file.bytes,
            offset,
        )?;
    }
}

/// All of a file from `offset` on. Leaves nothing in the page cache that a client might want the memory for, and has nothing
/// read ahead: that would be megabytes at once, beyond the budget.
fn serve_file(
    shared: &Shared,
    connection: &mut Connection,
    path: &Path,
    bytes: u64,
    mut offset: u64,
) -> Result<(), ServeError> {
    let file = File::open(path)?;
    let _ = fadvise(&file, 0, None, Advice::Random);
    while offset < bytes {
        let length = CHUNK_BYTES.min(usize::try_from(bytes - offset).unwrap_or(CHUNK_BYTES));
        shared.sending.take(length);
        let mut data = vec![0; length];
        file.read_exact_at(&mut data, offset)?;
        let _ = fadvise(
            &file,
            offset,
            NonZeroU64::new(length as u64),
            Advice::DontNeed,
        );
        let chunk = Chunk { offset, data };
        connection.send(FrameKind::TransferChunk, &chunk.encode()?)?;
        offset += length as u64;
    }
    Ok(())
}

/// One of the checkpoints that may be given at a time.
struct Slot<'a>(&'a Shared);

impl<'a> Slot<'a> {
    fn take(shared: &'a Shared) -> Result<Self, ServeError> {
        let slot = Self(shared);
        if shared.checkpoints_given.fetch_add(1, Ordering::AcqRel) >= shared.sessions_max {
            return Err(refused(Code::Busy, ALL_IN_USE));
        }
        Ok(slot)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.checkpoints_given.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Links to a replica's files, for as long as a session lasts.
struct ExportDir {
    directory: PathBuf,
    exported: Exported,
}

impl ExportDir {
    fn make(
        shared: &Shared,
        files: &TransferCore,
        partition: PartitionId,
        incarnation: ReplicaIncarnation,
    ) -> Result<Self, ServeError> {
        let number = shared.next_export.fetch_add(1, Ordering::Relaxed);
        let directory = files
            .learn_dir
            .join(format!("{EXPORT_PREFIX}{partition}-{number}"));
        let (answer, answered) = bounded(1);
        files.inbox.send(CoreInput::Export(ExportRequest {
            partition,
            incarnation,
            directory: directory.clone(),
            answer,
        }));
        let exported = match answered.recv_timeout(EXPORT_WAIT) {
            Ok(Ok(exported)) => exported,
            Ok(Err(error)) => return Err(refused(Code::OutOfService, error)),
            Err(_) => {
                return Err(refused(
                    Code::Busy,
                    "the core has not made a checkpoint in time",
                ));
            }
        };
        Ok(Self {
            directory,
            exported,
        })
    }

    fn files(&self) -> io::Result<Vec<ManifestFile>> {
        let entries = fs::read_dir(&self.directory)?;
        entries
            .map(|entry| {
                let entry = entry?;
                Ok(ManifestFile {
                    name: entry.file_name().to_string_lossy().into_owned(),
                    bytes: entry.metadata()?.len(),
                })
            })
            .collect()
    }
}

impl ExportDir {
    /// One after the other: a link may be the last one of its file, and the drive has work with freeing much at once.
    fn remove(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            fs::remove_file(entry?.path())?;
            std::thread::sleep(BETWEEN_REMOVALS);
        }
        fs::remove_dir(&self.directory)
    }
}

impl Drop for ExportDir {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(directory = %self.directory.display(), %error, "a checkpoint's links could not be removed");
        }
    }
}

fn of_kind(frame: Frame, expected: FrameKind) -> Result<Frame, ServeError> {
    frames::expect(frame, expected).map_err(invalid)
}

fn invalid(error: impl std::fmt::Display) -> ServeError {
    refused(Code::InvalidArgument, error.to_string())
}

fn refused(code: Code, message: impl Into<String>) -> ServeError {
    ServeError::Refuse {
        code,
        message: message.into(),
    }
}
