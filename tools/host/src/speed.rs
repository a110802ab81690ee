//! What a drive can do, as a file in the data directory (`docs/formats.md`, "Speed of the drive"): written by
//! `pegasus tune disk`, read by the node when it starts.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Its name in a data directory.
pub const SPEED_FILE: &str = "drive.toml";
/// Its name while it is being written.
pub const SPEED_TEMPORARY: &str = "drive.toml.new";
/// Version of its layout.
pub const SPEED_FORMAT: u16 = 1;
const BYTES_MAX: u64 = 64 << 10;

/// A drive, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriveSpeed {
    /// [`SPEED_FORMAT`]
    pub format: u16,
    /// When, in seconds since 1970.
    pub measured_unix_s: u64,
    /// Names of the drives below the directory, empty if they were not known.
    pub drives: Vec<String>,
    /// Bytes of all of them: another sum is another drive. 0 if not known.
    pub drives_bytes: u64,
    /// Such as `ext4`.
    pub file_system: String,
    /// Bytes of the file that was written and read.
    pub file_bytes: u64,
    /// One 4 KiB overwrite with `fdatasync` behind it, one at a time.
    pub flush: Latencies,
    /// Random reads of 4 KiB, one at a time.
    pub read_depth_1: Latencies,
    /// Random reads of 4 KiB, 32 at a time.
    pub read_depth_32: Latencies,
    /// Pieces of 1 MiB, four at a time.
    pub sequential: Bandwidth,
}

/// How often within a second, and how long each took, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latencies {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    pub write_bytes_per_s: u64,
    pub read_bytes_per_s: u64,
}

/// Why a file is not used; each names it.
#[derive(Debug, thiserror::Error)]
pub enum SpeedError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}: it is of format {found}, {SPEED_FORMAT} is known")]
    Format { path: PathBuf, found: u64 },
    #[error("{path}: it is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
}

/// Background work takes at most this share of what the drive can do: the rest, and the drive's quiet moments, belong to clients.
const BACKGROUND_SHARE: u64 = 8;
const TRANSFER_BYTES_MIN: u64 = 8 << 20;
const TRANSFER_BYTES_MAX: u64 = 256 << 20;
const COMPACTION_BYTES_MIN: u64 = 8 << 20;
/// A compaction at this pace takes about a third of a CPU, whatever the drive is.
const COMPACTION_BYTES_MAX: u64 = 64 << 20;

impl DriveSpeed {
    /// Reads the file of a data directory; `None` when there is none.
    ///
    /// # Errors
    /// [`SpeedError`]
    pub fn load(dir: &Path) -> Result<Option<Self>, SpeedError> {
        let path = dir.join(SPEED_FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SpeedError::Io { path, error }),
        };
        let mut text = String::new();
        match file.take(BYTES_MAX).read_to_string(&mut text) {
            Ok(_) => parse(&text, &path).map(Some),
            Err(error) => Err(SpeedError::Io { path, error }),
        }
    }

    /// Replaces the file of a data directory, whole.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn save(&self, dir: &Path) -> Result<PathBuf, SpeedError> {
        let path = dir.join(SPEED_FILE);
        let temporary = dir.join(SPEED_TEMPORARY);
        let write = || {
            let text = toml::to_string(self).map_err(io::Error::other)?;
            let mut file = File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(dir)?.sync_all()
        };
        match write() {
            Ok(()) => Ok(path),
            Err(error) => {
                // Half of a file is of no use to anybody.
                let _ = fs::remove_file(&temporary);
                Err(SpeedError::Io { path, error })
            }
        }
    }

    /// Bytes per second that copies of replicas may take when no setting says otherwise: an eighth of what the drive reads and writes, 8 to 256 MiB.
    #[must_use]
    pub fn transfer_bytes_per_s(&self) -> u64 {
        let slower = self
            .sequential
            .write_bytes_per_s
            .min(self.sequential.read_bytes_per_s);
        (slower / BACKGROUND_SHARE).clamp(TRANSFER_BYTES_MIN, TRANSFER_BYTES_MAX)
    }

    /// Bytes per second of rows that the compactions of each of `cores` cores go through while nothing is behind: 8 to 64 MiB.
    #[must_use]
    pub fn compaction_bytes_per_s(&self, cores: u64) -> u64 {
        let all = self.sequential.write_bytes_per_s / BACKGROUND_SHARE;
        (all / cores.max(1)).clamp(COMPACTION_BYTES_MIN, COMPACTION_BYTES_MAX)
    }

    /// Whether it was measured on drives of this size; unknown sizes match.
    #[must_use]
    pub const fn is_of(&self, drives_bytes: u64) -> bool {
        self.drives_bytes == 0 || drives_bytes == 0 || self.drives_bytes == drives_bytes
    }

    fn check(&self) -> Result<(), String> {
        for (name, latencies) in [
            ("flush", &self.flush),
            ("read_depth_1", &self.read_depth_1),
            ("read_depth_32", &self.read_depth_32),
        ] {
            latencies
                .check()
                .map_err(|reason| format!("{name}: {reason}"))?;
        }
        match self.sequential {
            Bandwidth {
                write_bytes_per_s: 1..,
                read_bytes_per_s: 1..,
            } => Ok(()),
            _ => Err("sequential: 0 bytes per second".to_owned()),
        }
    }
}

impl Latencies {
    fn check(&self) -> Result<(), String> {
        let ascending = [self.p50_us, self.p99_us, self.p999_us, self.max_us];
        if !self.per_second.is_finite() || self.per_second <= 0.0 {
            return Err(format!("{} per second", self.per_second));
        }
        let is_sound = ascending
            .iter()
            .all(|value| value.is_finite() && *value >= 0.0)
            && ascending.is_sorted();
        match is_sound {
            true => Ok(()),
            false => Err("its percentiles do not ascend".to_owned()),
        }
    }
}

fn parse(text: &str, path: &Path) -> Result<DriveSpeed, SpeedError> {
    let damaged = |reason: String| SpeedError::Damaged {
        path: path.into(),
        reason,
    };
    let table: toml::Table =
        toml::from_str(text).map_err(|error| damaged(error.message().to_owned()))?;
    let format = table.get("format").and_then(toml::Value::as_integer);
    let found = format.and_then(|number| u64::try_from(number).ok());
    let found = found.ok_or_else(|| damaged("it names no format".to_owned()))?;
    if found != u64::from(SPEED_FORMAT) {
        return Err(SpeedError::Format {
            path: path.into(),
            found,
        });
    }
    let speed: DriveSpeed = table
        .try_into()
        .map_err(|error: toml::de::Error| damaged(error.message().to_owned()))?;
    speed.check().map_err(damaged)?;
    Ok(speed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed() -> DriveSpeed {
        let latencies = Latencies {
            per_second: 6000.0,
            p50_us: 150.0,
            p99_us: 300.0,
            p999_us: 1500.0,
            max_us: 9000.0,
        };
        DriveSpeed {
            format: SPEED_FORMAT,
            measured_unix_s: 1,
            drives: vec!["vda".to_owned()],
            drives_bytes: 1 << 40,
            file_system: "ext4".to_owned(),
            file_bytes: 1 << 30,
            flush: latencies,
            read_depth_1: latencies,
            read_depth_32: latencies,
            sequential: Bandwidth {
                write_bytes_per_s: 1 << 30,
                read_bytes_per_s: 2 << 30,
            },
        }
    }

    #[test]
    fn a_file_reads_back_what_was_saved_and_none_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DriveSpeed::load(dir.path()).unwrap().is_none());
        let path = speed().save(dir.path()).unwrap();
        assert_eq!(path, dir.path().join(SPEED_FILE));
        assert_eq!(DriveSpeed::load(dir.path()).unwrap(), Some(speed()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_named_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = speed().save(dir.path()).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let half = good.split_at(good.len() / 2).0.to_owned();
        for (text, says) in [
            (String::new(), "no format"),
            (half, "damaged"),
            (good.replace("format = 1", "format = 7"), "format 7"),
            (good.replace("p99_us = 300.0", "p99_us = 1.0"), "ascend"),
            (
                good.replace("per_second = 6000.0", "per_second = nan"),
                "per second",
            ),
            (good.replace("1073741824", "0"), "damaged"),
            (good.replace("file_system", "file_systen"), "damaged"),
            ("\u{0}\u{1}".to_owned(), "damaged"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = DriveSpeed::load(dir.path()).unwrap_err().to_string();
            assert!(
                error.contains("drive.toml") && error.contains(says),
                "{error}: {text}"
            );
        }
        fs::write(&path, [0xFF, 0xFE]).unwrap();
        assert!(DriveSpeed::load(dir.path()).is_err());
    }

    #[test]
    fn budgets_are_shares_of_the_slower_direction_within_bounds() {
        let fast = speed();
        assert_eq!(fast.transfer_bytes_per_s(), 128 << 20);
        assert_eq!(fast.compaction_bytes_per_s(1), 64 << 20);
        assert_eq!(fast.compaction_bytes_per_s(4), 32 << 20);
        let mut slow = fast;
        slow.sequential.read_bytes_per_s = 1;
        slow.sequential.write_bytes_per_s = 1;
        assert_eq!(slow.transfer_bytes_per_s(), 8 << 20);
        assert_eq!(slow.compaction_bytes_per_s(0), 8 << 20);
    }

    #[test]
    fn a_drive_of_another_size_is_another_drive() {
        assert!(speed().is_of(1 << 40));
        assert!(speed().is_of(0));
        assert!(!speed().is_of(1 << 41));
    }
}
