//! Files of this machine: the staging directories of nodes, and targets that are directories.

use crate::pace::Pace;
use md5::{Digest, Md5};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;

/// Bytes of one read.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Length and MD5 of a file.
pub(crate) async fn digest(path: &Path, pace: &Pace) -> io::Result<(u64, String)> {
    let mut file = tokio::fs::File::open(path).await?;
    let (mut digest, mut length) = (Md5::new(), 0);
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            return Ok((length, hex(&digest.finalize())));
        }
        pace.take(count).await;
        digest.update(&buffer[..count]);
        length += count as u64;
    }
}

/// Names and lengths of the plain files in a directory, in order.
pub(crate) fn files(directory: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            let name = entry.file_name().into_string();
            let name = name.map_err(|name| io::Error::other(format!("{name:?} is not UTF-8")))?;
            files.push((name, metadata.len()));
        }
    }
    files.sort();
    Ok(files)
}

/// Puts a small file in its place, durable, or leaves what was there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_dir(directory)
}

/// A second name for a file, in the place of what may have been there.
pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    remove_if_there(to)?;
    fs::hard_link(from, to)
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes the names of a directory and of those above it, up to `root`, durable.
pub(crate) fn sync_up_to(root: &Path, directory: &Path) -> io::Result<()> {
    let mut above: Option<PathBuf> = Some(directory.to_owned());
    while let Some(directory) = above.filter(|directory| directory.starts_with(root)) {
        sync_dir(&directory)?;
        above = directory.parent().map(Path::to_owned);
    }
    Ok(())
}
