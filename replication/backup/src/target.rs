//! One target: a directory, a bucket, a directory of HDFS. Small files whole, big ones in pieces, checked by MD5.
//!
//! What fails for a moment (a connection, an answer of the kind "later") is tried again here, a few times within half a
//! minute; every request has a time limit. Futures may be dropped at any time: what they leave half done is not listed as
//! complete anywhere.

use crate::config::{Place, TargetConfig};
use crate::error::{TargetError, Trouble};
use crate::files::{self, FileEntry, JSON_BYTES_MAX, Sidecar};
use crate::layout;
use crate::local::{self, PIECE_BYTES};
use crate::pace::{Pace, Progress};
use bytes::BytesMut;
use futures::TryStreamExt;
use md5::{Digest, Md5};
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{Operator, services};
use std::fmt;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One request, without the bytes of a file.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// One piece of a file.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts after the first.
const RETRIES: usize = 4;
const RETRY_DELAY_MIN: Duration = Duration::from_millis(200);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);
/// A part of an object in S3.
const PART_BYTES: usize = 8 << 20;
/// Parts under way at once.
const PARTS: usize = 2;
/// WebHDFS takes a file in one request, which is held in memory.
const WHOLE_BYTES_MAX: u64 = 256 << 20;
/// Entries of one directory that are looked at.
const LISTED_MAX: usize = 1_000_000;
/// Name of what S3 keeps beside an object.
const MD5_KEY: &str = "md5";

/// An open target; cheap to clone.
#[derive(Clone)]
pub struct Target {
    name: Arc<str>,
    operator: Operator,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Directory(PathBuf),
    S3,
    WebHdfs,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Without the directory, and without a slash behind it.
    pub name: String,
    pub is_directory: bool,
    /// Of a file.
    pub bytes: u64,
}

/// A file of this machine that is being fetched.
struct Arriving<'a> {
    file: &'a mut tokio::fs::File,
    path: &'a Path,
    progress: &'a Progress,
}

impl Target {
    /// Opens the target `name`. Does not talk to it, except that the last part of a directory is made if it is missing.
    ///
    /// # Errors
    /// [`Trouble::Config`], or the directory cannot be made.
    pub fn open(name: &str, config: &TargetConfig) -> Result<Self, TargetError> {
        crate::install_tls();
        opendal_http_transport_reqwest::install_default();
        let wrong = |detail: String| TargetError::config(name, detail);
        config.check().map_err(wrong)?;
        let failed = |error: opendal::Error| TargetError::store(name, "", &error);
        let (operator, kind) = match config.place().map_err(wrong)? {
            Place::Directory(path) => {
                make_directory(name, &path)?;
                let builder = services::Fs::default().root(&path.to_string_lossy());
                (
                    Operator::new(builder).map_err(failed)?,
                    Kind::Directory(path),
                )
            }
            Place::S3 { bucket, prefix } => {
                let builder = s3(name, config, &bucket, &prefix)?;
                (Operator::new(builder).map_err(failed)?, Kind::S3)
            }
            Place::WebHdfs { address, prefix } => {
                let builder = services::Webhdfs::default()
                    .endpoint(&format!("http://{address}"))
                    .root(&format!("/{prefix}"))
                    .user_name(config.user.as_deref().unwrap_or_default());
                (Operator::new(builder).map_err(failed)?, Kind::WebHdfs)
            }
        };
        let patience = TimeoutLayer::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_io_timeout(PIECE_TIMEOUT);
        let retry = RetryLayer::new()
            .with_max_times(RETRIES)
            .with_min_delay(RETRY_DELAY_MIN)
            .with_max_delay(RETRY_DELAY_MAX)
            .with_jitter();
        Ok(Self {
            name: Arc::from(name),
            operator: operator.layer(patience).layer(retry),
            kind,
        })
    }

    /// A target that has no section of its own.
    ///
    /// # Errors
    /// See [`Target::open`].
    pub fn from_url(url: &str) -> Result<Self, TargetError> {
        Self::open(url, &TargetConfig::of_url(url))
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file that is read at once; `None`: there is none.
    ///
    /// # Errors
    /// [`TargetError`]; also if it is longer than [`JSON_BYTES_MAX`].
    pub async fn read_small(&self, path: &str) -> Result<Option<Vec<u8>>, TargetError> {
        let failed = |error: opendal::Error| self.error(path, &error);
        let metadata = match self.operator.stat(path).await {
            Err(error) if is_not_found(&error) => return Ok(None),
            other => other.map_err(failed)?,
        };
        if metadata.is_dir() {
            return Err(self.damaged(path, "a directory, not a file"));
        }
        if metadata.content_length() > JSON_BYTES_MAX {
            let detail = format!(
                "{} bytes, at most {JSON_BYTES_MAX} are read",
                metadata.content_length()
            );
            return Err(self.damaged(path, &detail));
        }
        match self.operator.read(path).await {
            Err(error) if is_not_found(&error) => Ok(None),
            other => Ok(Some(other.map_err(failed)?.to_vec())),
        }
    }

    /// A structure of [`files`]; `None`: there is none.
    ///
    /// # Errors
    /// [`TargetError`]; [`Trouble::Damaged`] if it is something else.
    pub async fn read_json<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<T>, TargetError> {
        let Some(bytes) = self.read_small(path).await? else {
            return Ok(None);
        };
        let parsed = files::parse(&bytes).map_err(|what| self.damaged(path, &what))?;
        Ok(Some(parsed))
    }

    /// Puts a small file in its place: all of it, or what was there stays.
    ///
    /// # Errors
    /// [`TargetError`].
    pub async fn write_small(&self, path: &str, bytes: Vec<u8>) -> Result<(), TargetError> {
        if let Kind::Directory(root) = &self.kind {
            let place = root.join(path);
            let sidecar = sidecar_of(&place);
            let entry = Sidecar {
                size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
                md5: local::hex(&Md5::digest(&bytes)),
            };
            return self
                .blocking(path, move || {
                    local::replace(&place, &bytes)?;
                    local::replace(&sidecar, &files::to_bytes(&entry))
                })
                .await;
        }
        let written = self.operator.write(path, bytes).await;
        written.map(drop).map_err(|error| self.error(path, &error))
    }

    /// A structure of [`files`].
    ///
    /// # Errors
    /// [`TargetError`].
    pub async fn write_json<T: serde::Serialize + Sync>(
        &self,
        path: &str,
        value: &T,
    ) -> Result<(), TargetError> {
        self.write_small(path, files::to_bytes(value)).await
    }

    /// Whether there is a file.
    ///
    /// # Errors
    /// [`TargetError`].
    pub async fn exists(&self, path: &str) -> Result<bool, TargetError> {
        let exists = self.operator.exists(path).await;
        exists.map_err(|error| self.error(path, &error))
    }

    /// What is in a directory, in order of names; nothing if there is none.
    ///
    /// # Errors
    /// [`TargetError`].
    pub async fn list(&self, directory: &str) -> Result<Vec<Listed>, TargetError> {
        let path = match directory.trim_matches('/') {
            "" => "/".to_owned(),
            path => format!("{path}/"),
        };
        let failed = |error: opendal::Error| self.error(directory, &error);
        let mut lister = match self.operator.lister(&path).await {
            Err(error) if is_not_found(&error) => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut listed = Vec::new();
        loop {
            let entry = match lister.try_next().await {
                Err(error) if is_not_found(&error) => break,
                other => other.map_err(failed)?,
            };
            let Some(entry) = entry else { break };
            if entry.path().trim_matches('/') == path.trim_matches('/') {
                continue;
            }
            if listed.len() == LISTED_MAX {
                return Err(self.damaged(directory, "more entries than can be looked at"));
            }
            listed.push(self.listed(&entry).await?);
        }
        listed.sort();
        Ok(listed)
    }

    async fn listed(&self, entry: &opendal::Entry) -> Result<Listed, TargetError> {
        let metadata = entry.metadata();
        let is_directory = metadata.is_dir();
        let bytes = match (&self.kind, is_directory) {
            (_, true) => 0,
            // Its listing does not say.
            (Kind::Directory(_), false) => {
                let stat = self.operator.stat(entry.path()).await;
                stat.map_err(|error| self.error(entry.path(), &error))?
                    .content_length()
            }
            (Kind::S3 | Kind::WebHdfs, false) => metadata.content_length(),
        };
        Ok(Listed {
            name: entry.name().trim_end_matches('/').to_owned(),
            is_directory,
            bytes,
        })
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`TargetError`].
    pub async fn remove(&self, path: &str) -> Result<(), TargetError> {
        if let Kind::Directory(root) = &self.kind {
            let place = root.join(path);
            let sidecar = sidecar_of(&place);
            return self
                .blocking(path, move || {
                    local::remove_if_there(&place)?;
                    local::remove_if_there(&sidecar)
                })
                .await;
        }
        match self.operator.delete(path).await {
            Err(error) if !is_not_found(&error) => Err(self.error(path, &error)),
            _ => Ok(()),
        }
    }

    /// Removes a directory with all that is in it, if it is there.
    ///
    /// # Errors
    /// [`TargetError`]; some of it may be left.
    pub async fn remove_all(&self, directory: &str) -> Result<(), TargetError> {
        if let Kind::Directory(root) = &self.kind {
            let place = root.join(directory);
            return self
                .blocking(directory, move || match fs::remove_dir_all(place) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                })
                .await;
        }
        for entry in self.list(directory).await? {
            let path = layout::join(&[directory, &entry.name]);
            if entry.is_directory {
                Box::pin(self.remove_all(&path)).await?;
            } else {
                self.remove(&path).await?;
            }
        }
        let itself = format!("{}/", directory.trim_end_matches('/'));
        self.remove(&itself).await
    }

    /// Length and MD5 of a file as far as the target says them without the file being read.
    ///
    /// # Errors
    /// [`TargetError`].
    pub(crate) async fn known(&self, path: &str) -> Result<Option<(u64, String)>, TargetError> {
        let metadata = match self.operator.stat(path).await {
            Err(error) if is_not_found(&error) => return Ok(None),
            other => other.map_err(|error| self.error(path, &error))?,
        };
        let length = metadata.content_length();
        let md5 = match &self.kind {
            Kind::Directory(root) => {
                let sidecar = fs::read(sidecar_of(&root.join(path))).unwrap_or_default();
                let sidecar = files::parse::<Sidecar>(&sidecar).ok();
                sidecar
                    .filter(|said| u64::try_from(said.size) == Ok(length))
                    .map(|said| said.md5)
            }
            Kind::S3 => metadata
                .user_metadata()
                .and_then(|said| said.get(MD5_KEY).map(str::to_owned)),
            Kind::WebHdfs => None,
        };
        Ok(md5.map(|md5| (length, md5)))
    }

    /// Sends a file of this machine, in the place of what may have been there.
    ///
    /// # Errors
    /// [`TargetError`].
    pub(crate) async fn put_file(
        &self,
        from: &Path,
        path: &str,
        entry: &FileEntry,
        (pace, progress): (&Pace, &Progress),
    ) -> Result<(), TargetError> {
        // What is there may be another backup's too: it is not written into.
        if matches!(self.kind, Kind::Directory(_)) {
            self.remove(path).await?;
        }
        let is_whole = matches!(self.kind, Kind::WebHdfs);
        if is_whole && entry.bytes() > WHOLE_BYTES_MAX {
            let detail = format!(
                "{} bytes, WebHDFS takes at most {WHOLE_BYTES_MAX} at once",
                entry.bytes()
            );
            return Err(TargetError::new(Trouble::Config, &self.name, path, detail));
        }
        let mut file = self.local(from, tokio::fs::File::open(from)).await?;
        let failed = |error: opendal::Error| self.error(path, &error);
        let mut options = self.operator.writer_with(path);
        if matches!(self.kind, Kind::S3) {
            let md5 = [(MD5_KEY.to_owned(), entry.md5.clone())];
            options = options
                .chunk(PART_BYTES)
                .concurrent(PARTS)
                .user_metadata(md5);
        }
        let mut writer = options.await.map_err(failed)?;
        let mut whole = Vec::new();
        loop {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            let count = self.local(from, file.read_buf(&mut piece)).await?;
            if count == 0 {
                break;
            }
            pace.take(count).await;
            progress.add_sent(count);
            if is_whole {
                whole.push(piece.freeze());
            } else if let Err(error) = writer.write(piece.freeze()).await {
                let _ = writer.abort().await;
                return Err(failed(error));
            }
        }
        if is_whole {
            let whole: opendal::Buffer = whole.into_iter().collect();
            writer.write(whole).await.map_err(failed)?;
        }
        writer.close().await.map_err(failed)?;
        self.describe(path, entry).await
    }

    /// Makes the file `from`, of another backup at this target, one of this backup's too, without moving its bytes through
    /// this machine. False: this target cannot, or it is not there any more.
    ///
    /// # Errors
    /// [`TargetError`].
    pub(crate) async fn carry(
        &self,
        from: &str,
        to: &str,
        entry: &FileEntry,
    ) -> Result<bool, TargetError> {
        match &self.kind {
            Kind::Directory(root) => {
                let (old, new) = (root.join(from), root.join(to));
                let bytes = entry.bytes();
                let linked = self
                    .blocking(to, move || match fs::metadata(&old) {
                        Ok(metadata) if metadata.len() == bytes => {
                            local::link(&old, &new).map(|()| true)
                        }
                        _ => Ok(false),
                    })
                    .await;
                // A file system without links, or with too many of this file.
                if !linked.unwrap_or(false) {
                    return Ok(false);
                }
                self.describe(to, entry).await?;
                Ok(true)
            }
            Kind::S3 => match self.operator.copy(from, to).await {
                Ok(_) => {
                    let copied = self.known(to).await?;
                    Ok(copied
                        .is_some_and(|(bytes, md5)| bytes == entry.bytes() && md5 == entry.md5))
                }
                Err(error) if is_not_found(&error) => Ok(false),
                Err(error) => Err(self.error(from, &error)),
            },
            Kind::WebHdfs => Ok(false),
        }
    }

    /// Fetches a file to `to`, durable, if it is what `entry` says; what is there then is all of it or nothing.
    ///
    /// # Errors
    /// [`TargetError`]; [`Trouble::Damaged`] if it is not, or not there.
    pub(crate) async fn get_file(
        &self,
        path: &str,
        to: &Path,
        entry: &FileEntry,
        (pace, progress): (&Pace, &Progress),
    ) -> Result<(), TargetError> {
        let part = to.with_extension("part");
        let mut file = self.local(&part, tokio::fs::File::create(&part)).await?;
        let arriving = Arriving {
            file: &mut file,
            path: &part,
            progress,
        };
        let digest = self.read_through(path, pace, Some(arriving)).await?;
        self.local(&part, file.sync_all()).await?;
        self.compare(path, entry, digest)?;
        self.local(to, tokio::fs::rename(&part, to)).await
    }

    /// Reads a file to its end and says whether it is what `entry` says.
    ///
    /// # Errors
    /// [`TargetError`]; [`Trouble::Damaged`] if it is not, or not there.
    pub(crate) async fn check_file(
        &self,
        path: &str,
        entry: &FileEntry,
        pace: &Pace,
    ) -> Result<(), TargetError> {
        let digest = self.read_through(path, pace, None).await?;
        self.compare(path, entry, digest)
    }

    fn compare(
        &self,
        path: &str,
        entry: &FileEntry,
        (length, md5): (u64, String),
    ) -> Result<(), TargetError> {
        if length != entry.bytes() {
            let detail = format!("{length} bytes, {} are expected", entry.bytes());
            return Err(self.damaged(path, &detail));
        }
        if !md5.eq_ignore_ascii_case(&entry.md5) {
            return Err(self.damaged(path, &format!("MD5 {md5}, {} is expected", entry.md5)));
        }
        Ok(())
    }

    /// Reads a file to its end, and keeps it if that is wanted; returns its length and MD5.
    async fn read_through(
        &self,
        path: &str,
        pace: &Pace,
        mut arriving: Option<Arriving<'_>>,
    ) -> Result<(u64, String), TargetError> {
        let failed = |error: opendal::Error| {
            let missing = is_not_found(&error);
            if missing {
                self.damaged(path, "missing")
            } else {
                self.error(path, &error)
            }
        };
        let reader = self
            .operator
            .reader_with(path)
            .chunk(4 * PIECE_BYTES)
            .concurrent(PARTS);
        let reader = reader.await.map_err(failed)?;
        let stream = reader.into_stream(..).await.map_err(failed)?;
        let mut stream = pin!(stream);
        let (mut digest, mut length) = (Md5::new(), 0);
        while let Some(buffer) = stream.try_next().await.map_err(failed)? {
            for piece in buffer {
                pace.take(piece.len()).await;
                digest.update(&piece);
                length += piece.len() as u64;
                if let Some(arriving) = &mut arriving {
                    arriving.progress.add_sent(piece.len());
                    let written = arriving.file.write_all(&piece);
                    self.local(arriving.path, written).await?;
                }
            }
        }
        Ok((length, local::hex(&digest.finalize())))
    }

    /// The names in a directory survive a crash of the machine that holds it.
    ///
    /// # Errors
    /// [`TargetError`].
    pub(crate) async fn settle(&self, directory: &str) -> Result<(), TargetError> {
        let Kind::Directory(root) = &self.kind else {
            return Ok(());
        };
        let (root, place) = (root.clone(), root.join(directory));
        self.blocking(directory, move || local::sync_up_to(&root, &place))
            .await
    }

    async fn describe(&self, path: &str, entry: &FileEntry) -> Result<(), TargetError> {
        let Kind::Directory(root) = &self.kind else {
            return Ok(());
        };
        let sidecar = sidecar_of(&root.join(path));
        let said = Sidecar {
            size: entry.size,
            md5: entry.md5.clone(),
        };
        self.blocking(path, move || {
            local::replace(&sidecar, &files::to_bytes(&said))
        })
        .await
    }

    pub(crate) fn damaged(&self, path: &str, detail: &str) -> TargetError {
        TargetError::new(Trouble::Damaged, &self.name, path, detail)
    }

    fn error(&self, path: &str, error: &opendal::Error) -> TargetError {
        TargetError::store(&self.name, path, error)
    }

    async fn local<T>(
        &self,
        path: &Path,
        work: impl Future<Output = io::Result<T>>,
    ) -> Result<T, TargetError> {
        work.await
            .map_err(|error| TargetError::local(&self.name, path, &error))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, TargetError> {
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| TargetError::io(&self.name, path, &error))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

fn s3(
    name: &str,
    config: &TargetConfig,
    bucket: &str,
    prefix: &str,
) -> Result<services::S3, TargetError> {
    let mut builder = services::S3::default()
        .bucket(bucket)
        .root(&format!("/{prefix}"))
        .region(config.region.as_deref().unwrap_or("us-east-1"));
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(key) = config.access_key(name)? {
        builder = builder
            .access_key_id(&key.id)
            .secret_access_key(&key.secret)
            .disable_config_load();
    }
    Ok(builder)
}

/// Only the last part: a directory above it that is missing is a file system that is not mounted.
fn make_directory(target: &str, path: &Path) -> Result<(), TargetError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(TargetError::io(target, &path.to_string_lossy(), &error)),
        Ok(()) => Ok(()),
    }
}

fn sidecar_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(layout::sidecar(&name))
}

fn is_not_found(error: &opendal::Error) -> bool {
    error.kind() == opendal::ErrorKind::NotFound && !error.to_string().contains("NoSuchBucket")
}
