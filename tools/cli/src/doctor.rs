//! `pegasus doctor`: the evidence of what is wrong, in one archive: what the cluster says, how this machine is set up, what
//! the nodes of this machine run with and have logged. Secrets are taken out, and there are neither rows nor keys in it.
//!
//! What the cluster says is collected by this very program: the archive has what the commands print.

mod archive;
mod host;
mod redact;

use crate::connect::Connect;
use crate::output::{Output, Style, bytes, note};
use crate::status::{Facts, Report, Severity};
use anyhow::Context as _;
use archive::Archive;
use clap::Args;
use serde_json::json;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A question that is not answered for so long is left out, with a note.
const PATIENCE: Duration = Duration::from_secs(30);
/// Cores that are shown one by one, at most.
const CORES_MAX: usize = 256;
/// Tables that are shown one by one, at most.
const TABLES_MAX: usize = 256;

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Where the archive goes [default: pegasus-doctor-TIME.tar.zst here]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Settings of a node or of meta on this machine (may be repeated) [default: /etc/pegasus/*.toml]
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Directory of a local cluster [default: that of `pegasus local`]
    #[arg(long, env = "PEGASUS_LOCAL_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Lines of each log, from its end
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    log_lines: u32,
}

pub(crate) const AFTER_HELP: &str = "\
The archive has a summary first: what `pegasus status` finds, and what could not be collected. Then: what the cluster says
(status, nodes, tables with their settings, cores with all their counters), `pegasus tune check`, kernel and hardware,
settings, speed of the drive, and the last lines of the logs of nodes on this machine. Values of settings whose name has
token, password, secret or key in it are taken out. Run it on each machine that has something to do with the problem.";

pub(crate) async fn run(
    options: &Doctor,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let default = || PathBuf::from(format!("pegasus-doctor-{}.tar.zst", now.as_secs()));
    let path = options.output.clone().unwrap_or_else(default);
    // Before anything is collected: it would be for nothing.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    let mut archive = Archive::new(now.as_secs());
    let severity = collect(options, connect, &mut archive).await;
    let summary = archive.summary().to_owned();
    let count = archive.len();
    let packed = archive.pack()?;
    let written = std::io::Write::write_all(&mut &file, &packed).and_then(|()| file.sync_all());
    if let Err(error) = written {
        let _ = std::fs::remove_file(&path);
        return Err(error).with_context(|| path.display().to_string());
    }
    let size = packed.len() as u64;
    match out.style {
        Style::Json => out.json(&json!({
            "archive": path,
            "bytes": size,
            "files": count,
            "status": severity.map(Severity::name),
        })),
        Style::People => {
            note(summary);
            Ok(out.line(format!(
                "{}: {count} files, {}",
                path.display(),
                bytes(size)
            ))?)
        }
    }
}

/// `None`: meta does not answer, so that the cluster's state is not known.
async fn collect(options: &Doctor, connect: &Connect, archive: &mut Archive) -> Option<Severity> {
    let facts = Facts::collect(connect, true).await;
    let severity = match &facts {
        Ok(facts) => {
            let report = Report::of(facts);
            archive.say(report.to_text());
            Some(report.severity())
        }
        Err(error) => {
            archive.say(format!("meta does not answer: {error:#}"));
            None
        }
    };
    archive.add("versions.txt", versions().await);
    host::collect(archive);
    let configs = configs(options);
    for config in &configs {
        let name = format!("config/{}", flat(config));
        archive.add_file(&name, config, redact::settings);
    }
    let mut tune = vec!["tune".to_owned(), "check".to_owned(), "--json".to_owned()];
    if let Some(config) = configs.iter().find(|it| is_of_node(it)) {
        tune.extend(["--config".to_owned(), config.display().to_string()]);
    }
    ask(connect, archive, "host/tune-check.json", &tune).await;
    if let Ok(facts) = &facts {
        cluster(connect, archive, facts).await;
        nodes_here(options, archive, facts);
    }
    local(options, archive);
    journal(options, archive).await;
    severity
}

async fn cluster(connect: &Connect, archive: &mut Archive, facts: &Facts) {
    for (name, words) in [
        ("cluster/status.json", "--json status"),
        ("cluster/info.json", "--json cluster info"),
        ("cluster/nodes.json", "--json node list"),
        ("cluster/tables.json", "--json table list"),
        ("cluster/restart-plan.json", "--json node restart-plan"),
        ("cluster/scrub.json", "--json scrub status"),
        ("cluster/cores.json", "--json core list"),
    ] {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        ask(connect, archive, name, &words).await;
    }
    for table in facts.tables.iter().take(TABLES_MAX) {
        for (what, words) in [
            ("partitions", ["--json", "table", "show"].as_slice()),
            ("envs", ["--json", "table", "env", "list"].as_slice()),
        ] {
            let mut words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
            words.push(table.name.clone());
            let name = format!(
                "cluster/tables/{}-{what}.json",
                flat(Path::new(&table.name))
            );
            ask(connect, archive, &name, &words).await;
        }
    }
    let cores = facts.nodes.iter().flat_map(|node| {
        let number = node.node;
        (0..node.cores.len()).map(move |core| format!("{number}/{core}"))
    });
    for core in cores.take(CORES_MAX) {
        let words = ["--json", "core", "show", "--since-start", &core].map(str::to_owned);
        let name = format!("cluster/cores/{}.json", core.replace('/', "-"));
        ask(connect, archive, &name, &words).await;
    }
}

/// Adds what this program prints when asked so.
async fn ask(connect: &Connect, archive: &mut Archive, name: &str, words: &[String]) {
    let run = async || -> anyhow::Result<String> {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command
            .args(["--meta", &connect.addresses()])
            .args(words)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = ended.with_context(|| format!("nothing after {} s", PATIENCE.as_secs()))??;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if told.is_empty() && !output.status.success() {
            anyhow::bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(told)
    };
    match run().await {
        Ok(text) => archive.add(name, redact::json(&text)),
        Err(error) => archive.miss(name, format!("{error:#}")),
    }
}

async fn versions() -> String {
    let mut text = format!("pegasus {}\n", env!("CARGO_PKG_VERSION"));
    let beside = std::env::current_exe().ok();
    let beside = beside.as_deref().and_then(Path::parent);
    for program in ["pegasus-replica", "pegasus-meta"] {
        let path = beside.map(|dir| dir.join(program)).filter(|it| it.exists());
        let mut command = tokio::process::Command::new(path.unwrap_or_else(|| program.into()));
        let output = command.arg("--version").stdin(Stdio::null()).output().await;
        let said = output.map_or_else(
            |error| format!("{program}: {error}\n"),
            |it| String::from_utf8_lossy(&it.stdout).into_owned(),
        );
        text.push_str(&said);
    }
    text
}

fn configs(options: &Doctor) -> Vec<PathBuf> {
    if !options.config.is_empty() {
        return options.config.clone();
    }
    files_of(Path::new("/etc/pegasus"), |name| name.ends_with(".toml"))
}

fn is_of_node(config: &Path) -> bool {
    let name = config.file_name().unwrap_or_default().to_string_lossy();
    !name.contains("meta")
}

/// Files of a directory, by name.
fn files_of(dir: &Path, is_meant: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|it| is_meant(&it.file_name().to_string_lossy()))
        .map(|it| it.path())
        .collect();
    files.sort();
    files
}

/// What lies in the data directories of nodes on this machine: their identity and the speed of their drive.
fn nodes_here(options: &Doctor, archive: &mut Archive, facts: &Facts) {
    for node in &facts.nodes {
        let stats = Path::new(&node.stats_dir);
        let Some(data) = stats
            .parent()
            .filter(|_| stats.is_absolute() && stats.exists())
        else {
            continue;
        };
        for name in ["node.toml", "drive.toml", "SCRUBBED"] {
            let to = format!("nodes/{}/{name}", node.node);
            if data.join(name).exists() {
                archive.add_file(&to, &data.join(name), redact::settings);
            }
        }
        if let Some(dir) = data.parent().filter(|dir| dir.join("log").is_file()) {
            let to = format!("nodes/{}/log", node.node);
            let lines = options.log_lines as usize;
            archive.add_file(&to, &dir.join("log"), |text| redact::log(&text, lines));
        }
    }
}

fn local(options: &Doctor, archive: &mut Archive) {
    let Some(dir) = options.dir.clone().or_else(crate::local::default_dir) else {
        return;
    };
    if !dir.join("cluster.toml").exists() {
        return;
    }
    archive.add_file(
        "local/cluster.toml",
        &dir.join("cluster.toml"),
        redact::settings,
    );
    let processes = files_of(&dir, |name| name == "meta" || name.starts_with("node-"));
    for process in processes {
        let name = process
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let lines = options.log_lines as usize;
        let log = process.join("log");
        archive.add_file(&format!("local/{name}.log"), &log, |text| {
            redact::log(&text, lines)
        });
    }
}

/// The logs of services, where there are some.
async fn journal(options: &Doctor, archive: &mut Archive) {
    let units = ["pegasus-replica*", "pegasus-meta*"];
    for unit in units {
        let mut command = tokio::process::Command::new("journalctl");
        command
            .args([
                "--no-pager",
                "--output=short-iso",
                "--quiet",
                "--unit",
                unit,
            ])
            .args(["--lines", &options.log_lines.to_string()])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = tokio::time::timeout(PATIENCE, command.output()).await;
        if let Ok(Ok(output)) = ended
            && !output.stdout.is_empty()
        {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let name = format!("logs/{}.log", unit.trim_end_matches('*'));
            archive.add(&name, redact::log(&text, options.log_lines as usize));
        }
    }
}

/// A name for a file in the archive: no directories in it.
fn flat(path: &Path) -> String {
    let text = path.display().to_string();
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let flat: String = text
        .chars()
        .map(|it| if allowed(it) { it } else { '_' })
        .collect();
    flat.trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_archive_lead_nowhere_else() {
        assert_eq!(
            flat(Path::new("/etc/pegasus/replica.toml")),
            "etc_pegasus_replica.toml"
        );
        assert_eq!(flat(Path::new("../../x")), ".._.._x");
        assert_eq!(flat(Path::new("a:b/c")), "a_b_c");
    }
}
