//! A tar archive (POSIX ustar), compressed by zstd, with a summary and a manifest in front.

use anyhow::{Context as _, bail};
use serde_json::json;
use std::path::Path;

/// A file longer than this is cut, with a note in the summary.
const FILE_BYTES_MAX: u64 = 16 << 20;
const BLOCK: usize = 512;
/// zstd: fast, and small enough for a letter.
const LEVEL: i32 = 6;

/// What was collected, in order.
#[derive(Debug)]
pub(super) struct Archive {
    unix_s: u64,
    summary: String,
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<(String, String)>,
}

impl Archive {
    pub(super) fn new(unix_s: u64) -> Self {
        Self {
            unix_s,
            summary: String::new(),
            files: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// A paragraph of the summary.
    pub(super) fn say(&mut self, text: impl AsRef<str>) {
        self.summary.push_str(text.as_ref());
        self.summary.push_str("\n\n");
    }

    pub(super) fn summary(&self) -> &str {
        self.summary.trim_end()
    }

    /// Files, with the summary and the manifest.
    pub(super) fn len(&self) -> usize {
        self.files.len() + 2
    }

    pub(super) fn add(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        self.files.push((name.to_owned(), content.into()));
    }

    /// Something could not be collected.
    pub(super) fn miss(&mut self, name: &str, reason: impl Into<String>) {
        self.missing.push((name.to_owned(), reason.into()));
    }

    /// Adds the end of a text file after `change` has been at it.
    pub(super) fn add_file(
        &mut self,
        name: &str,
        path: &Path,
        change: impl FnOnce(String) -> String,
    ) {
        match tail(path) {
            Ok(text) => self.add(name, change(text)),
            Err(error) => self.miss(name, format!("{}: {error}", path.display())),
        }
    }

    /// The bytes of the archive.
    pub(super) fn pack(mut self) -> anyhow::Result<Vec<u8>> {
        if !self.missing.is_empty() {
            let each = self
                .missing
                .iter()
                .map(|(name, why)| format!("  {name}: {why}"));
            let each: Vec<String> = each.collect();
            self.say(format!("Not collected:\n{}", each.join("\n")));
        }
        let manifest = json!({
            "made_by": format!("pegasus {}", env!("CARGO_PKG_VERSION")),
            "made_unix_s": self.unix_s,
            "files": self.files.iter().map(|(name, content)| json!({"name": name, "bytes": content.len()})).collect::<Vec<_>>(),
            "missing": self.missing.iter().map(|(name, why)| json!({"name": name, "why": why})).collect::<Vec<_>>(),
        });
        let manifest = serde_json::to_vec_pretty(&manifest).context("manifest")?;
        let mut tar = Vec::new();
        put(
            &mut tar,
            "SUMMARY.txt",
            self.summary.as_bytes(),
            self.unix_s,
        )?;
        put(&mut tar, "MANIFEST.json", &manifest, self.unix_s)?;
        for (name, content) in &self.files {
            put(&mut tar, name, content, self.unix_s)?;
        }
        // Two empty blocks end it.
        tar.resize(tar.len() + 2 * BLOCK, 0);
        compress(&tar)
    }
}

fn tail(path: &Path) -> std::io::Result<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(FILE_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// One file: a header of one block, and the content in whole blocks.
fn put(tar: &mut Vec<u8>, name: &str, content: &[u8], unix_s: u64) -> anyhow::Result<()> {
    let name = format!("pegasus-doctor/{name}");
    if name.len() > 100 {
        bail!("{name}: a name in the archive is at most 100 bytes");
    }
    let mut header = [0_u8; BLOCK];
    let mut field = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    field(0, name.as_bytes());
    field(100, b"0000600\0");
    field(108, b"0000000\0");
    field(116, b"0000000\0");
    field(124, format!("{:011o}\0", content.len()).as_bytes());
    field(136, format!("{unix_s:011o}\0").as_bytes());
    // The sum counts itself as spaces.
    field(148, b"        ");
    field(156, b"0");
    field(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    Ok(())
}

fn compress(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut packed = vec![0; zstd_safe::compress_bound(bytes.len())];
    let length = zstd_safe::compress(packed.as_mut_slice(), bytes, LEVEL);
    match length {
        Ok(length) => packed.truncate(length),
        Err(code) => bail!("zstd: {}", zstd_safe::get_error_name(code)),
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn unpack(packed: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut tar = vec![0; 1 << 20];
        let length = zstd_safe::decompress(tar.as_mut_slice(), packed).unwrap();
        let mut rest = &tar[..length];
        let mut files = Vec::new();
        while rest[0] != 0 {
            let text = |range: std::ops::Range<usize>| {
                String::from_utf8(
                    rest[range]
                        .iter()
                        .copied()
                        .take_while(|it| *it != 0)
                        .collect(),
                )
                .unwrap()
            };
            let size = usize::from_str_radix(&text(124..136), 8).unwrap();
            files.push((text(0..100), rest[BLOCK..BLOCK + size].to_vec()));
            rest = &rest[BLOCK + size.next_multiple_of(BLOCK)..];
        }
        assert!(rest.iter().all(|it| *it == 0) && rest.len() == 2 * BLOCK);
        files
    }

    #[test]
    fn the_summary_comes_first_and_then_what_was_collected() {
        let mut archive = Archive::new(1_700_000_000);
        archive.say("healthy");
        archive.add("cluster/status.json", "{}");
        archive.miss("cluster/x.json", "nothing after 30 s");
        let files = unpack(&archive.pack().unwrap());
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "pegasus-doctor/SUMMARY.txt",
                "pegasus-doctor/MANIFEST.json",
                "pegasus-doctor/cluster/status.json"
            ]
        );
        let summary = String::from_utf8(files[0].1.clone()).unwrap();
        assert!(summary.starts_with("healthy\n") && summary.contains("nothing after 30 s"));
        assert_eq!(files[2].1, b"{}");
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        let mut archive = Archive::new(0);
        archive.add(&"x".repeat(100), "");
        assert!(archive.pack().is_err());
    }
}
