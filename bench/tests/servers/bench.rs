//! Running the program.

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
    /// The report; null if there is none.
    pub(crate) report: Value,
}

impl Ended {
    /// The outcome within the report.
    pub(crate) fn outcome(&self) -> &Value {
        let nested = &self.report["outcome"];
        if nested.is_null() {
            &self.report
        } else {
            nested
        }
    }

    /// The kinds of the violations that are shown.
    pub(crate) fn faults(&self) -> Vec<String> {
        let examples = self.outcome()["verify"]["examples"].as_array();
        let fault = |example: &Value| example["fault"].as_str().unwrap_or_default().to_owned();
        let mut faults: Vec<String> = examples.into_iter().flatten().map(fault).collect();
        faults.sort();
        faults.dedup();
        faults
    }

    pub(crate) fn assert_success(&self, what: &str) {
        assert_eq!(self.code, Some(0), "{what}: {}", self.stderr);
    }
}

/// A target, and where its runs keep their files.
pub(crate) struct Bench {
    url: String,
    layout: Vec<&'static str>,
    dir: TempDir,
}

impl Bench {
    /// `layout`: options that load and run must agree on.
    pub(crate) fn new(url: String, layout: &[&'static str]) -> Self {
        Self {
            url,
            layout: layout.to_vec(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A file that lives as long as this.
    pub(crate) fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn load(&self, options: &[&str]) -> Ended {
        self.command("load", options)
    }

    pub(crate) fn run(&self, options: &[&str]) -> Ended {
        self.command("run", options)
    }

    fn command(&self, command: &str, options: &[&str]) -> Ended {
        let json = PathBuf::from(self.file("report.json"));
        let _ = std::fs::remove_file(&json);
        let Output { status, stderr, .. } = Command::new(env!("CARGO_BIN_EXE_pegasus-bench"))
            .args([
                command,
                "--target",
                &self.url,
                "--connections",
                "3",
                "--inflight",
                "4",
            ])
            .args(["--timeout", "20000", "--json"])
            .arg(&json)
            .args(&self.layout)
            .args(options)
            .env_remove("PEGASUS_META")
            .output()
            .unwrap();
        let report = std::fs::read(&json).unwrap_or_default();
        Ended {
            code: status.code(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            report: serde_json::from_slice(&report).unwrap_or_default(),
        }
    }
}
