//! `pegasus compact start|status`: nodes rewrite the files of a table.

use crate::connect::Connect;
use crate::each_node::{self, Which, check_answers, names};
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style, table};
use clap::Subcommand;
use pegasus_client::CompactInfo;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Rewrite all files of a table's replicas, on every node that has some
    #[command(after_help = "\
What is overwritten, deleted or expired is gone afterwards, and so is the space that it took. A node does one replica after
the other, at the pace of all compactions (process.engine.compaction_bytes_per_s), and answers clients meanwhile.
Compactions happen by themselves too: this is for after a large deletion, or to measure what they cost.")]
    Start {
        /// The table
        name: String,
        #[command(flatten)]
        which: Which,
    },
    /// How far the nodes are
    Status(Which),
}

type Told = each_node::Told<CompactInfo>;

pub(crate) async fn run(
    command: &Command,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let client = each_node::client(connect).await?;
    let (which, table) = match command {
        Command::Start { name, which } => (*which, Some(client.show_table(name).await?.table_id)),
        Command::Status(which) => (*which, None),
    };
    let ask_core = async |core: &str| client.compact(core, table, table.is_some()).await;
    let told = each_node::ask(&client, which, ask_core).await?;
    match out.style {
        Style::Json => out.json(&told.iter().map(told_json).collect::<Vec<_>>())?,
        Style::People => show(&told, out)?,
    }
    end(&told, table.is_some())
}

fn show(told: &[Told], out: &mut Output) -> anyhow::Result<()> {
    let mut rows = table(&["node", "state"], &[0]);
    for it in told {
        let state = match &it.answer {
            Ok(info) => state(info),
            Err(error) => error.clone(),
        };
        rows.add_row([it.node.to_string(), state]);
    }
    Ok(out.table(&rows)?)
}

/// `compacting: 3 of 8 replicas, 1 order waits`
fn state(info: &CompactInfo) -> String {
    let waiting = match info.waiting {
        0 => String::new(),
        1 => ", 1 order waits".to_owned(),
        more => format!(", {more} orders wait"),
    };
    match info {
        _ if !info.is_running => "idle".to_owned(),
        _ if info.total == 0 => format!("begins{waiting}"),
        _ => format!(
            "compacting: {} of {} replicas{waiting}",
            info.done, info.total
        ),
    }
}

fn end(told: &[Told], start: bool) -> anyhow::Result<()> {
    check_answers(told)?;
    let is_full = |it: &Told| it.answer.as_ref().is_ok_and(|info| !info.began);
    if let Some(full) = names(told, is_full).filter(|_| start) {
        let sentence = format!("too many orders wait on node {full}");
        return Err(Failed::error(Exit::Failed, sentence));
    }
    Ok(())
}

fn told_json(told: &Told) -> Value {
    match &told.answer {
        Err(error) => json!({ "node": told.node, "error": error }),
        Ok(info) => json!({
            "node": told.node,
            "began": info.began,
            "running": info.is_running,
            "done": info.done,
            "total": info.total,
            "waiting": info.waiting,
            "finished_unix_s": info.finished_unix_s,
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::exit::exit_of;

    fn told(info: CompactInfo) -> Told {
        Told {
            node: 2,
            answer: Ok(info),
        }
    }

    #[test]
    fn an_order_says_how_far_it_is() {
        let mut info = CompactInfo::default();
        assert_eq!(state(&info), "idle");
        info.is_running = true;
        info.waiting = 1;
        assert_eq!(state(&info), "begins, 1 order waits");
        (info.done, info.total, info.waiting) = (3, 8, 0);
        assert_eq!(state(&info), "compacting: 3 of 8 replicas");
    }

    #[test]
    fn an_order_that_was_not_taken_fails_and_silence_is_said_first() {
        let exit = |told: &[Told], start| end(told, start).map_err(|it| exit_of(&it));
        let taken = CompactInfo {
            began: true,
            ..CompactInfo::default()
        };
        assert_eq!(exit(&[told(taken)], true), Ok(()));
        let refused = CompactInfo::default();
        assert_eq!(exit(&[told(refused)], true), Err(Exit::Failed));
        assert_eq!(exit(&[told(refused)], false), Ok(()), "nothing was asked");
        let silent = Told {
            node: 3,
            answer: Err("gone for 7 s".to_owned()),
        };
        assert_eq!(exit(&[told(refused), silent], true), Err(Exit::Unavailable));
    }
}
