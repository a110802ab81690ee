//! The question before something is deleted.

use crate::exit::Failed;
use crate::interrupt::in_shell;
use anyhow::bail;
use std::io::{self, IsTerminal as _, Write as _};

/// Asks on the terminal; without one `--yes` is needed.
pub(crate) fn confirm(question: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        return Err(Failed::usage(format!(
            "{question} There is nobody to ask: add --yes"
        )));
    }
    if in_shell() {
        // Which takes Ctrl-C for a no.
        let answer = crate::shell::ask(&format!("{question} [y/N] "))?;
        return answered(&answer.unwrap_or_default());
    }
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    answered(&answer)
}

fn answered(answer: &str) -> anyhow::Result<()> {
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was done");
    }
    Ok(())
}
