//! What operators watch, and turn while servers run: metrics as Prometheus reads them, dashboards, alerts and their sections of
//! the runbook; levels of logging, slow requests, compactions and scenarios of tables.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, with its place"
)]

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::{Cluster, PATIENCE};
use e2e::port_block::PortBlock;
use e2e::{foreign, web};
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn monitoring(file: &str) -> PathBuf {
    repository().join("tools/monitoring").join(file)
}

/// Runs a program on `input` and returns what it prints.
fn run(command: &mut Command, input: &str) -> Result<String> {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| name.clone())?;
    child.stdin.take().unwrap().write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {printed}{complaints}");
    // promtool complains about style and succeeds.
    ensure!(complaints.is_empty(), "{name}: {complaints}");
    Ok(printed)
}

/// Values of a key in `alerts.yml`, without their quotes.
fn of_alerts(key: &str) -> Vec<String> {
    let text = std::fs::read_to_string(monitoring("alerts.yml")).unwrap();
    let key = format!("{key}: ");
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ").or(Some(line.trim())));
    let values = lines.filter_map(|line| line.strip_prefix(&key));
    values
        .map(|value| value.trim_matches('\'').to_owned())
        .collect()
}

#[test]
fn every_alert_has_a_section_of_the_runbook_and_what_is_made_is_up_to_date() -> Result<()> {
    let alerts = of_alerts("alert");
    assert!(alerts.len() > 20, "{alerts:?}");
    let runbook = std::fs::read_to_string(repository().join("docs/operations.md"))?;
    let headings: Vec<&str> = runbook
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim())
        .collect();
    for (alert, link) in alerts.iter().zip(of_alerts("runbook")) {
        assert_eq!(link, format!("docs/operations.md#{}", alert.to_lowercase()));
        assert!(headings.contains(&alert.as_str()), "no section {alert}");
    }
    for made in ["make-alerts", "make-dashboards"] {
        run(Command::new(monitoring(made)).arg("--check"), "")?;
    }
    Ok(())
}

/// A Prometheus that watches a cluster; killed when dropped.
struct Prometheus {
    process: Child,
    address: String,
    _ports: PortBlock,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// With the configuration of the repository, but for addresses and a second instead of fifteen.
    fn start(directory: &Path, nodes: &[String], meta: &str) -> Result<Self> {
        let text = std::fs::read_to_string(monitoring("prometheus.yml"))?;
        let example = "\"127.0.0.1:34801\", \"127.0.0.1:34901\", \"127.0.0.1:35001\"";
        ensure!(text.contains(example), "targets have changed");
        let text = text
            .replace(example, &nodes.join(", "))
            .replace("\"127.0.0.1:34601\"", meta)
            .replace(": 15s", ": 1s");
        std::fs::write(directory.join("prometheus.yml"), text)?;
        std::fs::copy(monitoring("alerts.yml"), directory.join("alerts.yml"))?;
        let configuration = directory.join("prometheus.yml");
        let checked = Command::new("promtool")
            .args(["check", "config"])
            .arg(&configuration)
            .output()?;
        ensure!(checked.status.success(), "{checked:?}");
        let ports = PortBlock::take()?;
        let address = format!("127.0.0.1:{}", ports.base());
        let log = std::fs::File::create(directory.join("prometheus.log"))?;
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("prometheus (.ci/setup installs it)")?;
        Ok(Self {
            process,
            address,
            _ports: ports,
        })
    }

    fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", web::escape(expression));
        let answer: Value = serde_json::from_str(&web::get(&self.address, &path, "*/*")?)?;
        let result = answer["data"]["result"].as_array();
        Ok(result.context("no result")?.clone())
    }

    /// Asks until something is there.
    fn wait_for(&self, expression: &str) -> Result<Vec<Value>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.query(expression) {
                Ok(result) if !result.is_empty() => return Ok(result),
                other if Instant::now() >= deadline => bail!("nothing for {expression}: {other:?}"),
                _ => std::thread::yield_now(),
            }
        }
    }
}

/// All expressions of all dashboards, with their title; variables mean everything.
fn expressions_of_dashboards() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(monitoring("dashboards")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let mut expression = target["expr"].as_str().unwrap().to_owned();
                for name in ["$node", "$core", "$table"] {
                    expression = expression.replace(&format!("\"{name}\""), "\".*\"");
                }
                let expression = expression.replace("$__rate_interval", "1m");
                assert!(!expression.contains('$'), "{expression}");
                let title = format!("{}: {}", dashboard["title"], panel["title"]);
                all.push((title, expression));
            }
        }
    }
    all
}

/// What an alert compares with a number.
fn compared(alert: &str) -> &str {
    let mut words = alert.rsplitn(3, ' ');
    let (number, sign) = (words.next().unwrap(), words.next().unwrap());
    assert!(number.parse::<f64>().is_ok(), "{alert}");
    assert!(["==", ">", "<"].contains(&sign), "{alert}");
    words.next().unwrap()
}

fn client_ports(cluster: &Cluster) -> Result<Vec<String>> {
    let nodes: Value = serde_json::from_str(&cluster.pegasus(&["node", "list", "--json"])?)?;
    let nodes = nodes["nodes"].as_array().context("nodes")?;
    let first = nodes
        .iter()
        .map(|node| node["cores"][0]["client_address"].as_str());
    let ports: Option<Vec<&str>> = first.collect();
    Ok(ports
        .context("addresses")?
        .into_iter()
        .map(str::to_owned)
        .collect())
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
    Ok(())
}

#[test]
fn operators_see_and_turn_what_they_need() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let cluster = Cluster::start(&directory.path().join("cluster"), 3, 1)?;
    cluster.create_table("watched", 4, 3)?;
    for key in 0..8 {
        let key = key.to_string();
        cluster.pegasus(&["set", "watched", &key, "s", "value"])?;
        cluster.pegasus(&["get", "watched", &key, "s"])?;
    }
    cluster.pegasus(&["scan", "watched", "0"])?;
    let nodes = client_ports(&cluster)?;
    metrics_are_read_by_prometheus_own_programs(&nodes, cluster.meta())?;
    let prometheus = Prometheus::start(directory.path(), &nodes, cluster.meta())?;
    levels_of_logging_change_while_servers_run(&cluster)?;
    slow_requests_are_told(&cluster)?;
    settings_of_tables_act_on_files(&cluster)?;
    everything_that_is_drawn_has_data(&prometheus)?;
    a_dead_node_raises_alerts(&cluster, &prometheus)
}

fn metrics_are_read_by_prometheus_own_programs(nodes: &[String], meta: &str) -> Result<()> {
    let python = foreign::home()?.join("venv/bin/python");
    let script = repository().join("tests/foreign/read_metrics.py");
    for (server, families_min) in [(&*nodes[0], 90), (meta, 20)] {
        for path in ["/metrics/prometheus", "/metrics/prometheus?replicas=true"] {
            if server == meta && path.contains('?') {
                continue;
            }
            let text = web::get(server, path, "text/plain")?;
            run(Command::new("promtool").args(["check", "metrics"]), &text)?;
            let read = run(Command::new(&python).arg(&script).arg("prometheus"), &text)?;
            let families: usize = read.split(' ').next().unwrap_or_default().parse()?;
            ensure!(families >= families_min, "{server}{path}: {read}");
            ensure!(text.contains("pegasus_replica_role{") == path.contains('?'));
        }
        let text = web::get(
            server,
            "/metrics",
            "application/openmetrics-text; version=1.0.0",
        )?;
        run(Command::new(&python).arg(&script).arg("openmetrics"), &text)?;
    }
    Ok(())
}

fn levels_of_logging_change_while_servers_run(cluster: &Cluster) -> Result<()> {
    let told = cluster.pegasus(&["node", "log-level", "1"])?;
    assert_eq!(told.trim(), "info");
    let module = "pegasus_replica::scrub";
    let told = cluster.pegasus(&["node", "log-level", "1", "debug", "--module", module])?;
    assert_eq!(told.trim(), "info,pegasus_replica::scrub=debug");
    let (exit, told) = cluster.pegasus_fails(&["node", "log-level", "1", "loud"])?;
    assert!(
        exit == 1 && told.contains("\"loud\" is no level"),
        "{exit} {told}"
    );
    let told = cluster.pegasus(&["node", "log-level", "1", "--reset"])?;
    assert_eq!(told.trim(), "info");
    let told = cluster.pegasus(&["node", "log-level", "meta", "warn"])?;
    assert_eq!(told.trim(), "warn");
    cluster.pegasus(&["node", "log-level", "meta", "--reset"])?;
    let (exit, told) = cluster.pegasus_fails(&["node", "log-level", "77"])?;
    assert!(
        exit == 3 && told.contains("there is no node 77"),
        "{exit} {told}"
    );
    Ok(())
}

/// A throttle makes requests slow that are not the first of their second.
fn slow_requests_are_told(cluster: &Cluster) -> Result<()> {
    cluster.create_table("throttled", 2, 1)?;
    let set = ["table", "env", "set", "throttled"];
    cluster.pegasus(&[&set[..], &["replica.slow_query_threshold=30"]].concat())?;
    cluster.pegasus(&[&set[..], &["replica.write_throttling=1*delay*60"]].concat())?;
    let mut slow = Value::Null;
    wait_until("a slow request", || {
        cluster.pegasus(&["set", "throttled", "h", "s", "value"])?;
        let told = cluster.pegasus(&["table", "slow", "throttled", "--json"])?;
        slow = serde_json::from_str(&told)?;
        Ok(slow[0].is_object())
    })?;
    let slow = &slow[0];
    assert_eq!(slow["operation"], "put");
    assert_eq!(slow["table"], "throttled");
    assert!(slow["total_us"].as_u64() >= Some(30_000), "{slow}");
    assert!(
        slow["client"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{slow}"
    );
    let shown = cluster.pegasus(&["table", "slow", "throttled"])?;
    assert!(
        shown.contains("throttled") && shown.contains("put"),
        "{shown}"
    );
    let logged = (1..=3).any(|node| {
        let log = cluster.log(&format!("node-{node}")).unwrap_or_default();
        log.contains("slow request") && log.contains("throttled")
    });
    assert!(logged, "no node has logged it");
    let (exit, told) = cluster.pegasus_fails(&["table", "slow", "throtled"])?;
    assert_eq!(exit, 3, "{told}");
    Ok(())
}

fn settings_of_tables_act_on_files(cluster: &Cluster) -> Result<()> {
    let set = ["table", "env", "set", "watched"];
    let logs = |what: &str| {
        (1..=3).all(|node| {
            cluster
                .log(&format!("node-{node}"))
                .unwrap_or_default()
                .contains(what)
        })
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    // Replicas count as compacted when they are seen for the first time.
    let soon = now.as_secs() + 1;
    let once = format!("manual_compact.once.trigger_time={soon}");
    let scenario = "rocksdb.usage_scenario=prefer_write";
    cluster.pegasus(&[&set[..], &[once.as_str(), scenario]].concat())?;
    wait_until("compactions that the settings ask for", || {
        Ok(logs("compacting as the table's settings ask") && logs("compacting by hand is done"))
    })?;
    wait_until("another shape", || {
        Ok(logs("a replica is kept in another shape"))
    })?;
    let told = cluster.pegasus(&[
        "remote-command",
        "--on",
        "nodes",
        "replica.query-compact",
        "watched",
    ])?;
    assert!(told.contains("4 are done"), "{told}");
    let envs = cluster.pegasus(&["table", "env", "list", "watched"])?;
    assert!(!envs.contains("does not act"), "{envs}");
    let advice = cluster.pegasus(&["table", "advise", "watched", "--size", "100 GiB"])?;
    assert!(advice.starts_with("16 partitions; it has 4."), "{advice}");
    Ok(())
}

fn everything_that_is_drawn_has_data(prometheus: &Prometheus) -> Result<()> {
    prometheus.wait_for("count(up == 1) == 4")?;
    // Two scrapes are the least that a rate is made of.
    prometheus.wait_for("min(count_over_time(up[1m])) >= 3")?;
    let mut missing = Vec::new();
    for (title, expression) in expressions_of_dashboards() {
        if prometheus.query(&expression)?.is_empty() {
            missing.push(format!("{title}: {expression}"));
        }
    }
    for alert in of_alerts("expr") {
        if prometheus.query(compared(&alert))?.is_empty() {
            missing.push(format!("alert: {alert}"));
        }
    }
    ensure!(missing.is_empty(), "no data for\n{}", missing.join("\n"));
    Ok(())
}

fn a_dead_node_raises_alerts(cluster: &Cluster, prometheus: &Prometheus) -> Result<()> {
    let quiet =
        prometheus.query("ALERTS{alertname=~\"PegasusNodeDown|PegasusPartitionsDegraded\"}")?;
    assert!(quiet.is_empty(), "{quiet:?}");
    cluster.kill("node-3")?;
    prometheus.wait_for("ALERTS{alertname=\"PegasusNodeDown\"}")?;
    prometheus.wait_for("ALERTS{alertname=\"PegasusPartitionsDegraded\",table=\"watched\"}")?;
    Ok(())
}
