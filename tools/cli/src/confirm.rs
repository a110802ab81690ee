//! The question before something is deleted.

use crate::exit::Failed;
use anyhow::bail;
use std::io::{self, IsTerminal as _, Write as _};

/// Asks on the terminal; without one `--yes` is needed.
pub(crate) fn confirm(question: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        return Err(Failed::usage(format!(
            "{question} There is nobody to ask: add --yes"
        )));
    }
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was done");
    }
    Ok(())
}
