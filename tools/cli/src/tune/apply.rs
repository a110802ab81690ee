//! `pegasus tune apply`: writes what root may write of what `check` advises.

use super::row::{Choice, Fix};
use super::{Subject, rows};
use crate::confirm::confirm;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style};
use clap::Args;
use pegasus_host::Root;
use serde::Serialize;
use serde_json::json;

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    subject: Subject,
    /// Only show what would be changed
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// A setting, before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Change {
    name: &'static str,
    path: String,
    old: String,
    new: String,
    /// Why it was not made.
    error: Option<String>,
}

pub(super) fn run(options: &Apply, out: &mut Output) -> anyhow::Result<()> {
    let root = options.subject.root();
    if !options.dry_run && root.is_system() && !rustix::process::geteuid().is_root() {
        return Err(Failed::error(
            Exit::Failed,
            "only root may change settings of the kernel: run it with sudo, or with --dry-run to see what it would do",
        ));
    }
    let rows = rows::all(&root, &options.subject.settings()?);
    let fixes = rows
        .iter()
        .flat_map(|row| row.fixes.iter().map(|fix| (row.name, fix)));
    let mut changes: Vec<Change> = fixes.map(|(name, fix)| planned(&root, name, fix)).collect();
    if !changes.is_empty() && !options.dry_run {
        if !options.yes {
            if out.style == Style::People {
                show_all(&changes, out)?;
                out.flush()?;
            }
            confirm(&format!(
                "Change {} settings of this machine?",
                changes.len()
            ))?;
        }
        for change in &mut changes {
            change.error = write(&root, change).err();
        }
    }
    match out.style {
        Style::Json => out.json(&json!({ "dry_run": options.dry_run, "changes": changes }))?,
        Style::People => report(&changes, options, out)?,
    }
    match changes.iter().any(|change| change.error.is_some()) {
        true => Err(Failed::told(Exit::Failed)),
        false => Ok(()),
    }
}

fn planned(root: &Root, name: &'static str, fix: &Fix) -> Change {
    Change {
        name,
        path: fix.path.clone(),
        old: now(root, &fix.path),
        new: fix.value.clone(),
        error: None,
    }
}

/// What a file of the kernel holds: of a choice, the chosen one.
fn now(root: &Root, path: &str) -> String {
    match root.text(path) {
        Ok(text) if text.contains('[') => {
            Choice::read(root, path).map_or(text, |choice| choice.now)
        }
        Ok(text) => text,
        Err(error) => format!("({error})"),
    }
}

fn write(root: &Root, change: &Change) -> Result<(), String> {
    root.write(&change.path, &change.new)
        .map_err(|error| error.to_string())?;
    let found = now(root, &change.path);
    match found == change.new {
        true => Ok(()),
        false => Err(format!("the kernel has taken it and shows {found}")),
    }
}

fn show_all(changes: &[Change], out: &mut Output) -> anyhow::Result<()> {
    for change in changes {
        out.line(format!(
            "{}  {}: {} -> {}",
            change.name, change.path, change.old, change.new
        ))?;
    }
    Ok(())
}

fn report(changes: &[Change], options: &Apply, out: &mut Output) -> anyhow::Result<()> {
    if changes.is_empty() {
        out.line("nothing to change: what root may set is right already (`pegasus tune check` has the rest)")?;
        return Ok(());
    }
    if options.dry_run || options.yes {
        show_all(changes, out)?;
    }
    for change in changes {
        if let Some(error) = &change.error {
            out.line(format!("not changed: {}: {error}", change.path))?;
        }
    }
    if options.dry_run {
        out.line("nothing was changed (--dry-run)")?;
        return Ok(());
    }
    let done: Vec<&Change> = changes
        .iter()
        .filter(|change| change.error.is_none())
        .collect();
    if done.is_empty() {
        return Ok(());
    }
    out.line("\nto undo:")?;
    for change in &done {
        out.line(format!("  echo {} > {}", change.old, change.path))?;
    }
    for line in lasting(&done) {
        out.line(line)?;
    }
    Ok(())
}

/// How to have the changes after the next start of the machine, too.
fn lasting(done: &[&Change]) -> Vec<String> {
    let mut lines =
        vec!["\nThis does not survive a restart of the machine. To make it last, put".to_owned()];
    let sysctl = |change: &&&Change| change.path.starts_with("/proc/sys/");
    let numbered = |change: &&&Change| change.path.starts_with("/proc/irq/");
    if done.iter().any(|change| sysctl(&change)) {
        lines.push("into /etc/sysctl.d/90-pegasus.conf:".to_owned());
        let keys = done.iter().filter(sysctl).map(|change| {
            let key = change
                .path
                .trim_start_matches("/proc/sys/")
                .replace('/', ".");
            format!("  {key} = {}", change.new)
        });
        lines.extend(keys);
    }
    if done
        .iter()
        .any(|change| !sysctl(&change) && !numbered(&change))
    {
        lines.push(
            "into /etc/tmpfiles.d/pegasus.conf (read by systemd-tmpfiles at each start):"
                .to_owned(),
        );
        let rest = done
            .iter()
            .filter(|change| !sysctl(change) && !numbered(change));
        lines.extend(rest.map(|change| format!("  w {} - - - - {}", change.path, change.new)));
    }
    if done.iter().any(|change| numbered(&change)) {
        lines.push("interrupts have other numbers after a start: run `pegasus tune apply --yes` with the same --config before the node (ExecStartPre=+ of its service).".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::tune::fake::Fake;

    const CONFIG: &str = "[process]\ncpu.cores = [2, 3]\ncpu.background = [0, 1]\n";

    fn apply(fake: &Fake, dry_run: bool) -> anyhow::Result<()> {
        let config = fake.base().join("node.toml");
        std::fs::write(&config, CONFIG).unwrap();
        let options = Apply {
            subject: Subject {
                config: Some(config),
                dir: Some(fake.base().into()),
                root: Some(fake.base().into()),
            },
            dry_run,
            yes: true,
        };
        run(&options, &mut Output::new(Style::Json))
    }

    fn bad() -> Fake {
        let fake = Fake::good();
        fake.set("sys/block/nvme0n1/queue/scheduler", "none [bfq]\n");
        fake.set("proc/sys/net/core/somaxconn", "128\n");
        fake.set("proc/irq/50/effective_affinity_list", "3\n");
        fake
    }

    #[test]
    fn what_is_wrong_is_written_and_nothing_else() {
        let fake = bad();
        let before =
            std::fs::read_to_string(fake.base().join("proc/sys/vm/max_map_count")).unwrap();
        apply(&fake, true).unwrap();
        assert_eq!(now(&fake.root(), "/proc/sys/net/core/somaxconn"), "128");
        apply(&fake, false).unwrap();
        let root = fake.root();
        assert_eq!(root.text("/proc/sys/net/core/somaxconn").unwrap(), "1024");
        assert_eq!(
            root.text("/sys/block/nvme0n1/queue/scheduler").unwrap(),
            "none"
        );
        assert_eq!(root.text("/proc/irq/50/smp_affinity_list").unwrap(), "0-1");
        let after = std::fs::read_to_string(fake.base().join("proc/sys/vm/max_map_count")).unwrap();
        assert_eq!(after, before);
    }

    #[test]
    fn a_setting_that_cannot_be_written_fails_and_the_others_are_made() {
        let fake = bad();
        // A directory can be written by nobody, root included.
        let path = fake.base().join("proc/irq/50/smp_affinity_list");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(apply(&fake, false).is_err());
        assert_eq!(
            fake.root().text("/proc/sys/net/core/somaxconn").unwrap(),
            "1024"
        );
    }

    #[test]
    fn how_to_make_changes_last_depends_on_what_they_are() {
        let change = |path: &str| Change {
            name: "x",
            path: path.to_owned(),
            old: "1".to_owned(),
            new: "2".to_owned(),
            error: None,
        };
        let all = [
            change("/proc/sys/net/core/somaxconn"),
            change("/sys/block/a/queue/scheduler"),
            change("/proc/irq/5/smp_affinity_list"),
        ];
        let text = lasting(&all.iter().collect::<Vec<_>>()).join("\n");
        assert!(text.contains("net.core.somaxconn = 2"), "{text}");
        assert!(
            text.contains("w /sys/block/a/queue/scheduler - - - - 2"),
            "{text}"
        );
        assert!(
            text.contains("ExecStartPre") && !text.contains("w /proc/irq"),
            "{text}"
        );
    }
}
