//! The tests that pypegasus3 ships, unmodified, against our servers. That client knows the ports 34601 to 34603 only, so these
//! clusters listen where a real one would, one after the other.

use anyhow::{Context, Result, ensure};
use e2e::cluster::program;
use e2e::foreign;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The ports that pypegasus3's tests name.
static PORTS: Mutex<()> = Mutex::new(());

/// What is unpacked, with the tests in it.
const DISTRIBUTION: &str = "pypegasus3-0.0.1.1";
/// Tests that each file of the distribution has; fewer or more mean that something else was run.
const BASIC_TESTS: u32 = 33;
const INTEGRATION_TESTS: u32 = 11;

#[test]
fn every_basic_test_of_pypegasus3_passes() -> Result<()> {
    let _ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir()?;
    let cluster = OnKnownPorts::start(directory.path())?;
    cluster.create_table("temp", 8)?;
    let home = foreign::home()?;
    let output = Command::new(home.join("venv/bin/trial"))
        .arg("--unclean-warnings")
        .args(basic_tests(&home)?)
        .current_dir(home.join(DISTRIBUTION))
        .stdin(Stdio::null())
        .output()?;
    passed(&output, BASIC_TESTS)
}

/// All of them in their order, with two things to know about:
///
/// * `test_binary_get_ok` comes last: it leaves a row whose keys are no UTF-8, on which this client's own scanners break.
/// * `test_set_timeout` gives up a value of 800 kB after five milliseconds. Its connection may still be sending when the
///   test ends, which trial takes for an error of the test (hence `--unclean-warnings`).
fn basic_tests(home: &Path) -> Result<Vec<String>> {
    const LAST: &str = "test_binary_get_ok";
    let path = home.join(DISTRIBUTION).join("tests/test_basics.py");
    let source = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let names = source.lines().filter_map(|line| {
        let (name, _) = line.trim_start().strip_prefix("def ")?.split_once('(')?;
        name.starts_with("test_").then_some(name)
    });
    let (last, mut first): (Vec<_>, Vec<_>) = names.partition(|name| *name == LAST);
    first.extend(last);
    let full = |name: &str| format!("tests.test_basics.TestBasics.{name}");
    Ok(first.into_iter().map(full).collect())
}

#[test]
fn a_program_of_pypegasus3_outlives_a_node_that_is_killed() -> Result<()> {
    const ROWS: usize = 1_000;
    let _ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir()?;
    let cluster = OnKnownPorts::start(directory.path())?;
    cluster.create_table("temp", 8)?;
    let home = foreign::home()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/pypegasus/survive.py");
    let mut program = Command::new(home.join("venv/bin/python"))
        .arg(script)
        .arg(ROWS.to_string())
        .current_dir(home.join(DISTRIBUTION))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(program.stdout.take().context("piped")?).lines();
    let mut said = Vec::new();
    for line in lines.by_ref() {
        said.push(line?);
        if said.len() == 3 {
            cluster.kill("node-2")?;
        }
    }
    let status = program.wait()?;
    let read = format!("read {ROWS}, after ");
    let last = said.last().context("no word from the program")?;
    ensure!(
        status.success() && last.starts_with(&read),
        "{status}: {said:?}"
    );
    // A third of the primaries was on the node that is gone.
    ensure!(
        !last.ends_with("after 0 failed writes"),
        "nothing was killed"
    );
    Ok(())
}

#[test]
fn every_integration_test_of_pypegasus3_passes() -> Result<()> {
    let _ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir()?;
    let home = foreign::home()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/pypegasus/run_integration.py");
    let output = Command::new(home.join("venv/bin/python"))
        .arg(script)
        .arg(program("pegasus"))
        .arg(directory.path().join("cluster"))
        .current_dir(home.join(DISTRIBUTION))
        .env_remove("PEGASUS_META")
        .stdin(Stdio::null())
        .output()?;
    passed(&output, INTEGRATION_TESTS)
}

/// Trial says "Ran N tests" and "PASSED (successes=N)" when none failed or was skipped.
fn passed(output: &std::process::Output, tests: u32) -> Result<()> {
    let said = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let all_ran = said.contains(&format!("Ran {tests} tests"))
        && said.contains(&format!("PASSED (successes={tests})"));
    ensure!(
        output.status.success() && all_ran,
        "{}\n{said}",
        output.status
    );
    Ok(())
}

/// A local cluster on the default ports; killed when dropped.
struct OnKnownPorts<'a> {
    directory: &'a Path,
}

impl<'a> OnKnownPorts<'a> {
    fn start(directory: &'a Path) -> Result<Self> {
        let cluster = Self { directory };
        cluster.local(&[
            "start",
            "--nodes",
            "3",
            "--cores",
            "1",
            "--base-port",
            "34600",
        ])?;
        Ok(cluster)
    }

    fn create_table(&self, name: &str, partitions: u32) -> Result<()> {
        let partitions = partitions.to_string();
        run(&[
            "table",
            "create",
            name,
            "--partitions",
            &partitions,
            "--replicas",
            "3",
        ])
    }

    /// Ends a process at once, as a crash does.
    fn kill(&self, name: &str) -> Result<()> {
        let path = self.directory.join(name).join("pid");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let number = text.split_whitespace().next().unwrap_or_default();
        let pid = Pid::from_raw(number.parse()?).context("a process has a number")?;
        Ok(kill_process(pid, Signal::KILL)?)
    }

    fn local(&self, arguments: &[&str]) -> Result<()> {
        let directory = self.directory.to_str().context("a path in UTF-8")?;
        run(&[
            &["local", arguments[0], "--dir", directory],
            &arguments[1..],
        ]
        .concat())
    }
}

impl Drop for OnKnownPorts<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.local(&["stop", "--kill"]) {
            eprintln!("cannot stop the cluster: {error:#}");
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    let output = Command::new(program("pegasus"))
        .args(arguments)
        .env_remove("PEGASUS_META")
        .stdin(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "pegasus {arguments:?}: {output:?}");
    Ok(())
}
