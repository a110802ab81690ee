//! A real S3 server: moto, of PyPI, which the environment of `.ci/foreign` has.

use crate::exercise::{self, files, upload};
use futures::StreamExt;
use pegasus_backup::{Target, TargetConfig, Trouble};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

struct Moto {
    server: Child,
    address: String,
    directory: TempDir,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Where `.ci/foreign` has put what other projects make.
fn foreign() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/foreign");
    let output = Command::new(script).stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
}

impl Moto {
    fn start() -> Self {
        let mut server = Command::new(foreign().join("s3/bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(server.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(
                said.read_line(&mut line).unwrap() > 0,
                "moto_server has ended"
            );
            if let Some((_, address)) = line.split_once("Running on http://") {
                break address.trim().to_owned();
            }
        };
        // It must not wait for us to read what it says.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let moto = Self {
            server,
            address,
            directory: tempfile::tempdir().unwrap(),
        };
        moto.make_bucket();
        moto
    }

    fn make_bucket(&self) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!(
            "PUT /backups HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn target(&self, url: &str) -> Target {
        let keys = self.directory.path().join("keys");
        std::fs::write(&keys, "access\nsecret\n").unwrap();
        let config = TargetConfig {
            endpoint: Some(format!("http://{}", self.address)),
            access_key_file: Some(keys),
            ..TargetConfig::of_url(url)
        };
        Target::open("night", &config).unwrap()
    }
}

#[tokio::test]
async fn a_bucket_holds_backups() {
    let moto = Moto::start();
    let target = moto.target("s3://backups/of/pegasus");
    // Larger than a part.
    exercise::two_backups(&target, 9 << 20, true).await;
    exercise::goes_on(&target, true).await;
    exercise::names_what_is_wrong(&target).await;

    // More than a listing holds at once.
    let names: Vec<String> = (0..1_100)
        .map(|number| format!("many/{number:04}"))
        .collect();
    let written = futures::stream::iter(&names).map(|name| target.write_small(name, vec![1]));
    written
        .buffer_unordered(16)
        .for_each(async |done| done.unwrap())
        .await;
    assert_eq!(target.list("many").await.unwrap().len(), 1_100);
    target.remove_all("many").await.unwrap();
    assert_eq!(target.list("many").await.unwrap(), []);

    let missing = moto.target("s3://nowhere/x");
    let error = upload(&missing, 1, None, "a", &files(&[], ""))
        .await
        .unwrap_err();
    assert_eq!(error.trouble, Trouble::Config, "{error}");
    assert!(error.to_string().contains("NoSuchBucket"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_away() {
    // A port that nobody listens on: bound, and let go of.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = TargetConfig {
        endpoint: Some(format!("http://{port}")),
        access_key_file: None,
        ..TargetConfig::of_url("s3://backups")
    };
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "access\nsecret\n").unwrap();
    let config = TargetConfig {
        access_key_file: Some(keys),
        ..config
    };
    let target = Target::open("night", &config).unwrap();
    let error = target.read_small("x").await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Away, "{error}");
}
