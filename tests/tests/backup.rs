//! Backups of a real cluster: made, checked, restored row by row, on the same cluster and on another one, through crashes.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const ROWS: usize = 20_000;
/// Of every hundred rows, the one that is written again.
const CHANGED: usize = 100;

/// Rows of `table` as sorted lines of TSV.
fn rows(cluster: &Cluster, table: &str, directory: &Path) -> Result<BTreeSet<String>> {
    let file = directory.join(format!("{table}.tsv"));
    let path = file.to_str().unwrap();
    _ = fs::remove_file(&file);
    cluster.pegasus(&["export", "--table", table, "--format", "tsv", "--out", path])?;
    Ok(fs::read_to_string(&file)?
        .lines()
        .map(str::to_owned)
        .collect())
}

/// Writes rows whose number is a multiple of `every`.
fn load(cluster: &Cluster, directory: &Path, every: usize, round: usize) -> Result<()> {
    let mut text = String::new();
    for number in (0..ROWS).step_by(every) {
        // Values that do not compress to nothing.
        let noise = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(
            text,
            "user{number}\tsort\t{round}-{noise:016x}-{number:0100}"
        )?;
    }
    let file = directory.join("rows.tsv");
    fs::write(&file, text)?;
    let path = file.to_str().unwrap();
    let fixed = ["import", path, "--table", "users", "--format", "tsv"];
    let columns = ["--hash-key", "1", "--sort-key", "2", "--value", "3"];
    cluster.pegasus(&[fixed.as_slice(), &columns].concat())?;
    Ok(())
}

fn json(text: &str) -> Result<Value> {
    Ok(serde_json::from_str(text)?)
}

/// A complete backup.
fn back_up(cluster: &Cluster) -> Result<Value> {
    let made = [
        "backup", "create", "users", "--target", "local", "--wait", "--json",
    ];
    json(&cluster.pegasus(&made)?)
}

fn begin(cluster: &Cluster, budget: &str) -> Result<String> {
    let begun = [
        "backup", "create", "users", "--target", "local", "--budget", budget, "--json",
    ];
    let begun = json(&cluster.pegasus(&begun)?)?;
    Ok(begun["backup"].as_u64().unwrap().to_string())
}

fn phase(cluster: &Cluster, id: &str) -> String {
    let shown = cluster.pegasus(&["backup", "show", id, "--json"]);
    let shown = shown.ok().and_then(|text| json(&text).ok());
    shown.map_or(String::new(), |it| {
        it["phase"].as_str().unwrap_or_default().to_owned()
    })
}

fn restore(cluster: &Cluster, id: &str, name: &str) -> Result<String> {
    let restore = [
        "restore", "--target", "local", "--backup", id, "--table", "users", "--as", name,
    ];
    cluster.pegasus(&[restore.as_slice(), &["--wait"]].concat())
}

/// Files of a backup that hold rows.
fn table_files(backup: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![backup.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|it| it == "sst") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn backups_are_made_checked_restored_and_survive_their_cluster() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let here = directory.path();
    let cluster = Cluster::start(&here.join("c"), 3, 2)?;
    cluster.create_table("users", 4, 3)?;
    load(&cluster, here, 1, 1)?;
    let before = rows(&cluster, "users", here)?;
    let first = back_up(&cluster)?;
    let first_id = first["backup"].as_u64().unwrap().to_string();
    ensure!(first["bytes_sent"].as_u64() > Some(500_000), "{first}");

    // The second moves what has changed.
    load(&cluster, here, CHANGED, 2)?;
    let after = rows(&cluster, "users", here)?;
    ensure!(before != after, "nothing was changed");
    let second = back_up(&cluster)?;
    let second_id = second["backup"].as_u64().unwrap().to_string();
    let (all, sent) = (
        second["bytes_total"].as_u64(),
        second["bytes_sent"].as_u64(),
    );
    ensure!(sent.unwrap() * 2 < all.unwrap(), "{second}");
    for id in [&first_id, &second_id] {
        cluster.pegasus(&["backup", "verify", id])?;
    }

    // Each comes back as it was when it was made.
    restore(&cluster, &first_id, "first")?;
    restore(&cluster, &second_id, "second")?;
    ensure!(
        rows(&cluster, "first", here)? == before,
        "the first differs"
    );
    ensure!(
        rows(&cluster, "second", here)? == after,
        "the second differs"
    );
    cluster.wait_healthy("second")?;

    // What cannot be is refused by name.
    let (code, said) = cluster.pegasus_fails(&[
        "restore", "--target", "local", "--backup", &first_id, "--table", "users",
    ])?;
    ensure!(
        code == 1 && said.contains("\"users\" exists"),
        "{code}: {said}"
    );
    let elsewhere = ["backup", "create", "users", "--target", "locl"];
    let (_, said) = cluster.pegasus_fails(&elsewhere)?;
    ensure!(said.contains("did you mean \"local\"?"), "{said}");
    let (_, said) = cluster.pegasus_fails(&[
        "restore", "--target", "local", "--backup", &first_id, "--table", "nobody",
    ])?;
    ensure!(
        said.contains("has no table \"nobody\"; it has users"),
        "{said}"
    );

    // The target outlives the cluster: another one, which knows nothing of it, makes the table anew.
    let target = here.join("c").join("backup");
    let url = format!("file://{}", target.display());
    cluster.stop()?;
    let other = Cluster::start(&here.join("d"), 1, 2)?;
    let listed = json(&other.pegasus(&["backup", "list", "--target", &url, "--json"])?)?;
    let root = listed["backups"][0]["root"].as_str().unwrap().to_owned();
    ensure!(listed["backups"].as_array().unwrap().len() == 2, "{listed}");
    let copied = here.join("d").join("backup");
    fs::create_dir_all(&copied)?;
    let copy = std::process::Command::new("cp")
        .arg("-r")
        .arg(target.join(&root))
        .arg(copied.join("elsewhere"))
        .status()?;
    ensure!(copy.success(), "cannot copy the backups");
    let foreign = [
        "restore",
        "--target",
        "local",
        "--root",
        "elsewhere",
        "--backup",
        &second_id,
        "--table",
        "users",
        "--replicas",
        "1",
        "--wait",
    ];
    other.pegasus(&foreign)?;
    ensure!(
        rows(&other, "users", here)? == after,
        "another cluster has other rows"
    );

    // A damaged file and a missing one are named, and such a backup is not restored.
    let files = table_files(&copied.join("elsewhere").join(&first_id))?;
    let (damaged, missing) = (&files[0], &files[files.len() - 1]);
    let mut bytes = fs::read(damaged)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(damaged)?;
    fs::write(damaged, bytes)?;
    fs::remove_file(missing)?;
    let url = format!("file://{}", copied.display());
    let verify = ["backup", "verify", &first_id, "--target", &url, "--json"];
    let failed = other.command(verify).output()?;
    let said = String::from_utf8(failed.stdout)?;
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    ensure!(!failed.status.success(), "a damaged backup is good: {said}");
    ensure!(
        said.contains(&name(damaged)) && said.contains(&name(missing)),
        "{said}"
    );
    let damaged_restore = [
        "restore",
        "--target",
        "local",
        "--root",
        "elsewhere",
        "--backup",
        &first_id,
        "--table",
        "users",
        "--as",
        "broken",
        "--replicas",
        "1",
        "--wait",
    ];
    let (_, said) = other.pegasus_fails(&damaged_restore)?;
    ensure!(said.contains("could not be restored"), "{said}");
    other.pegasus(&["table", "drop", "broken", "--yes"])?;
    other.stop()
}

#[test]
fn backups_and_restores_go_on_after_crashes_and_end_when_cancelled() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let here = directory.path();
    let cluster = Cluster::start(&here.join("c"), 3, 2)?;
    cluster.create_table("users", 4, 3)?;
    load(&cluster, here, 1, 1)?;
    let before = rows(&cluster, "users", here)?;

    // Slow enough to be caught in the middle.
    let id = begin(&cluster, "200 KiB")?;
    wait_until("the backup to run", || phase(&cluster, &id) == "running")?;
    let (_, said) = cluster.pegasus_fails(&["backup", "create", "users", "--target", "local"])?;
    ensure!(said.contains("is being backed up already"), "{said}");
    cluster.pegasus(&["backup", "cancel", &id])?;
    wait_until("the backup to be cancelled", || {
        phase(&cluster, &id) == "cancelled"
    })?;

    // Everything dies in the middle of the next one, which goes on by itself.
    let id = begin(&cluster, "400 KiB")?;
    wait_until("the backup to run", || phase(&cluster, &id) == "running")?;
    cluster.kill_all()?;
    cluster.start_again()?;
    wait_until("the backup to be complete", || {
        phase(&cluster, &id) == "complete"
    })?;
    cluster.pegasus(&["backup", "verify", &id])?;

    let begun = [
        "restore", "--target", "local", "--backup", &id, "--table", "users", "--as", "again",
    ];
    cluster.pegasus(&begun)?;
    cluster.kill_all()?;
    cluster.start_again()?;
    let state = || {
        let shown = cluster
            .pegasus(&["restore", "status", "again", "--json"])
            .ok()?;
        json(&shown).ok()?["state"].as_str().map(str::to_owned)
    };
    wait_until("the restore to be done", || {
        state().as_deref() == Some("done")
    })?;
    cluster.wait_healthy("again")?;
    ensure!(
        rows(&cluster, "again", here)? == before,
        "rows differ after crashes"
    );
    cluster.pegasus(&["backup", "delete", &id, "--yes"])?;
    wait_until("the backup to be deleted", || {
        cluster.pegasus(&["backup", "show", &id]).is_err()
    })?;
    ensure!(
        table_files(&here.join("c").join("backup"))?.is_empty(),
        "files are left"
    );
    cluster.stop()
}
