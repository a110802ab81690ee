//! How an operator names a target.

use crate::error::TargetError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// One `[backup.targets.NAME]` section. The same on meta and on all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetConfig {
    /// `file:///DIR` (a directory that all nodes see: a network file system, unless the cluster is on one machine),
    /// `s3://BUCKET[/PREFIX]` or `webhdfs://HOST:PORT[/PREFIX]`. No default.
    pub url: String,
    /// Of S3: where the service is, `http://..` or `https://..`. Default: Amazon's.
    pub endpoint: Option<String>,
    /// Of S3. Default us-east-1.
    pub region: Option<String>,
    /// Of S3: a file of two lines, access key and secret key. Default: what the environment says (`AWS_ACCESS_KEY_ID`, ...).
    pub access_key_file: Option<PathBuf>,
    /// Of WebHDFS: on whose behalf. Default: HDFS's own.
    pub user: Option<String>,
}

/// A URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Directory(PathBuf),
    S3 { bucket: String, prefix: String },
    WebHdfs { address: String, prefix: String },
}

/// An access key and its secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AccessKey {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl TargetConfig {
    /// A target that needs nothing but its URL.
    #[must_use]
    pub fn of_url(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..Self::default()
        }
    }

    /// What is wrong with this section, in one sentence. Looks at no file and no network.
    ///
    /// # Errors
    /// The sentence.
    pub fn check(&self) -> Result<(), String> {
        let place = self.place()?;
        let is_s3 = matches!(place, Place::S3 { .. });
        let is_hdfs = matches!(place, Place::WebHdfs { .. });
        let s3_only = [
            ("endpoint", self.endpoint.is_some()),
            ("region", self.region.is_some()),
            ("access_key_file", self.access_key_file.is_some()),
        ];
        if let Some((key, _)) = s3_only.iter().find(|(_, is_set)| *is_set && !is_s3) {
            return Err(format!("{key} is for s3:// only, not for {}", self.url));
        }
        if self.user.is_some() && !is_hdfs {
            return Err(format!("user is for webhdfs:// only, not for {}", self.url));
        }
        match &self.endpoint {
            Some(endpoint) if !has_scheme(endpoint, &["http", "https"]) => Err(format!(
                "endpoint {endpoint:?} begins neither with http:// nor with https://"
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn place(&self) -> Result<Place, String> {
        let Some((scheme, rest)) = self.url.split_once("://") else {
            return Err(format!(
                "{:?} is no URL: expected file:///DIR, s3://BUCKET/PREFIX or webhdfs://HOST:PORT/PREFIX",
                self.url
            ));
        };
        let (first, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/').to_owned();
        if prefix.split('/').any(|part| part == "..") {
            return Err(format!("{}: \"..\" leads out of the target", self.url));
        }
        match scheme {
            "file" if first.is_empty() && !prefix.is_empty() => {
                Ok(Place::Directory(Path::new("/").join(prefix)))
            }
            "file" => Err(format!("{}: expected file:///DIR, a full path", self.url)),
            "s3" if first.is_empty() => Err(format!("{}: the bucket is missing", self.url)),
            "s3" => Ok(Place::S3 {
                bucket: first.to_owned(),
                prefix,
            }),
            "webhdfs" if is_address(first) => Ok(Place::WebHdfs {
                address: first.to_owned(),
                prefix,
            }),
            "webhdfs" => Err(format!("{}: expected webhdfs://HOST:PORT/PREFIX", self.url)),
            other => Err(format!(
                "{}: nothing is known of {other}://, only of file://, s3:// and webhdfs://",
                self.url
            )),
        }
    }

    /// The keys in `access_key_file`, if there is one.
    pub(crate) fn access_key(&self, target: &str) -> Result<Option<AccessKey>, TargetError> {
        let Some(path) = &self.access_key_file else {
            return Ok(None);
        };
        let wrong =
            |detail: String| TargetError::config(target, format!("{}: {detail}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        match lines[..] {
            [id, secret] => Ok(Some(AccessKey {
                id: id.to_owned(),
                secret: secret.to_owned(),
            })),
            _ => Err(wrong(format!(
                "{} lines, expected two: access key and secret key",
                lines.len()
            ))),
        }
    }
}

fn has_scheme(url: &str, schemes: &[&str]) -> bool {
    url.split_once("://")
        .is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty())
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_directories_buckets_and_name_nodes() {
        let place = |url| TargetConfig::of_url(url).place().unwrap();
        assert_eq!(place("file:///a/b/"), Place::Directory("/a/b".into()));
        let (bucket, prefix) = ("b".to_owned(), "x/y".to_owned());
        assert_eq!(place("s3://b/x/y"), Place::S3 { bucket, prefix });
        let (address, prefix) = ("h:9870".to_owned(), String::new());
        assert_eq!(
            place("webhdfs://h:9870"),
            Place::WebHdfs { address, prefix }
        );
    }

    #[test]
    fn bad_sections_are_refused_with_a_sentence() {
        for (url, sentence) in [
            ("/backup", "is no URL"),
            ("file://backup", "a full path"),
            ("file:///", "a full path"),
            ("s3:///x", "the bucket is missing"),
            ("webhdfs://h/x", "expected webhdfs://HOST:PORT"),
            ("ftp://h/x", "nothing is known of ftp://"),
            ("file:///a/../b", "leads out"),
        ] {
            let said = TargetConfig::of_url(url).check().unwrap_err();
            assert!(said.contains(sentence), "{url}: {said}");
        }
        let mut config = TargetConfig::of_url("file:///a");
        config.region = Some("x".to_owned());
        assert_eq!(
            config.check().unwrap_err(),
            "region is for s3:// only, not for file:///a"
        );
    }

    #[test]
    fn a_key_file_has_two_lines_and_its_secret_is_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "key\nsecret\n").unwrap();
        let config = TargetConfig {
            access_key_file: Some(file.path().to_owned()),
            ..TargetConfig::of_url("s3://b")
        };
        let key = config.access_key("t").unwrap().unwrap();
        assert!(!format!("{key:?}").contains("secret\""));
        std::fs::write(file.path(), "key\n").unwrap();
        assert!(
            config
                .access_key("t")
                .unwrap_err()
                .to_string()
                .contains("1 lines, expected two")
        );
    }
}
