//! `pegasus shell`: the CLI's verbs one after the other, for somebody at a terminal or from a file.
//!
//! A line is words (`words`). Its verb is one of the CLI's (`native`), or one of Apache Pegasus' shell, translated into those
//! (`apache`), or concerns the shell itself (`own`). `session` runs it and remembers what is for all of them; `input` is
//! where lines come from, with `editor`, `complete`, `paint` and `history` at a terminal.

mod apache;
mod argv;
mod complete;
mod editor;
mod history;
mod input;
mod mutations;
mod native;
mod own;
mod paint;
mod session;
mod suggest;
mod words;

use crate::exit::{Exit, Failed, exit_of};
use crate::interrupt;
use crate::output::{Output, Style, note};
use anyhow::Context as _;
use clap::Args;
use complete::Names;
use editor::Editor;
pub(crate) use editor::ask;
use input::{Input, Read};
use session::{Session, Settings, Step};
use std::ffi::OsString;
use std::future::Future;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Args)]
#[command(after_help = "\
The commands are those of `pegasus`, without that word, and those that users of Apache Pegasus' shell type: `help` lists
them. After `use TABLE`, commands on rows are for that table and are written without its name.

Keys and values may hold any byte: \\xHH, \\n, \\t, \\0, \\\\; \"..\" and '..' hold blanks. ; parts commands, # begins a comment.
Lines are remembered in $XDG_STATE_HOME/pegasus/shell_history, by default below ~/.local/state; not those that begin with
a blank. From a file or -c, the first command that fails ends it; the exit code is that of the last command.

Examples:
  pegasus shell
  pegasus shell -c 'use demo; set user-1 name Ada; get user-1 name'
  pegasus shell --keep-going < commands.txt")]
pub(crate) struct Shell {
    /// Run these commands, parted by ; or newlines, and end
    #[arg(short = 'c', value_name = "COMMANDS")]
    commands: Option<OsString>,
    /// Go on after a command that failed; the exit code is that of the first that did
    #[arg(long)]
    keep_going: bool,
    /// Ask nothing: commands that delete something do it
    #[arg(long)]
    yes: bool,
}

/// Runs until the input ends or somebody leaves.
pub(crate) fn run(
    options: Shell,
    meta: Vec<String>,
    timeout: Option<Duration>,
    out: &mut Output,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Connections live on while somebody thinks.
        .worker_threads(1)
        .enable_all()
        .build()?;
    let ends = Arc::new(AtomicBool::new(false));
    end_with_signal(&runtime, &ends);
    let names = Names::default();
    let input = match options.commands {
        Some(commands) => Input::text(commands.into_encoded_bytes()),
        None if editor::is_possible() => {
            Input::editor(Editor::new(names.clone(), Arc::clone(&ends)))
        }
        None => Input::stdin(),
    };
    let settings = Settings {
        meta,
        timeout,
        style: out.style,
        yes: options.yes,
    };
    // Somebody at a terminal that can do nothing but lines.
    let is_plain = input.is_stdin() && std::io::stdin().is_terminal();
    let keeps_going = options.keep_going || input.is_interactive() || is_plain;
    let mut shell = Running {
        session: Session::new(settings),
        input,
        runtime,
        ends,
        keeps_going,
        first_error: None,
    };
    let result = shell.run(out);
    // A request that nobody waits for any more must not hold the program.
    shell.runtime.shutdown_background();
    result
}

/// SIGTERM ends the shell after the command that runs, at a prompt at once.
fn end_with_signal(runtime: &Runtime, ends: &Arc<AtomicBool>) {
    let ends = Arc::clone(ends);
    // From now on Ctrl-C is for commands, also between them.
    let inside = runtime.enter();
    let _ = signal(SignalKind::interrupt());
    drop(inside);
    runtime.spawn(async move {
        if let Ok(mut terminate) = signal(SignalKind::terminate())
            && terminate.recv().await.is_some()
        {
            ends.store(true, Ordering::Relaxed);
        }
    });
}

struct Running {
    session: Session,
    input: Input,
    runtime: Runtime,
    ends: Arc<AtomicBool>,
    keeps_going: bool,
    /// Of a file whose commands go on: how the shell ends.
    first_error: Option<Exit>,
}

impl Running {
    fn run(&mut self, out: &mut Output) -> anyhow::Result<()> {
        // What the last command said with its exit code alone.
        let mut last = Ok(());
        self.refresh_names();
        loop {
            let read = self.input.next(&prompt(&self.session))?;
            let result = match read {
                _ if self.is_ended() => break,
                Read::End => break,
                Read::Cancelled => continue,
                Read::Wrong(error) => Err(error),
                Read::Command(words) => self.perform(words, out),
            };
            let is_empty = out.take_is_empty();
            out.flush().context("standard output")?;
            last = match result {
                Ok(true) => return self.end(Ok(())),
                Ok(false) => {
                    if is_empty && self.input.is_interactive() && out.style == Style::People {
                        note("OK");
                    }
                    Ok(())
                }
                Err(error) => self.failed(error, out.style)?,
            };
            self.refresh_names();
        }
        if self.is_ended() {
            return Err(Failed::told(Exit::Interrupted));
        }
        self.end(last)
    }

    /// Runs one command; whether it is the last.
    fn perform(&mut self, words: Vec<OsString>, out: &mut Output) -> anyhow::Result<bool> {
        self.check_stdin(&words)?;
        let step = cancellable(&self.runtime, self.session.run(words, out))?;
        match step {
            Step::Done => Ok(false),
            Step::Leave => Ok(true),
            Step::Mutate(argv) => {
                let changes = mutations::read(&mut self.input)?;
                let argv = argv.number("--ttl", changes.ttl);
                let mutate = self.session.mutate(argv, changes.words, out);
                cancellable(&self.runtime, mutate).map(|()| false)
            }
        }
    }

    /// A command that reads standard input would take the commands behind it for its data.
    fn check_stdin(&self, words: &[OsString]) -> anyhow::Result<()> {
        let reads = words
            .first()
            .is_some_and(|verb| verb == "set" || verb == "import");
        if self.input.is_stdin() && reads && words.iter().any(|word| word == "-") {
            let sentence =
                "standard input holds the commands: `-` cannot read it, `-c` leaves it free";
            return Err(Failed::usage(sentence));
        }
        Ok(())
    }

    /// Says what failed. `Ok` holds an answer that was told by its exit code alone; `Err` ends the shell.
    fn failed(&mut self, error: anyhow::Error, style: Style) -> anyhow::Result<anyhow::Result<()>> {
        let exit = exit_of(&error);
        let message = crate::describe(&error);
        if message.is_empty() {
            return Ok(Err(error));
        }
        let error = match self.input.place() {
            Some(place) => error.context(place),
            None => error,
        };
        let is_over = crate::is_broken_pipe(&error)
            || (exit == Exit::Interrupted && !self.input.is_interactive());
        if is_over || !self.keeps_going {
            return Err(error);
        }
        self.input.skip_line();
        crate::tell(&crate::describe(&error), exit, style);
        if !self.input.is_interactive() {
            self.first_error.get_or_insert(exit);
        }
        Ok(Ok(()))
    }

    fn end(&self, last: anyhow::Result<()>) -> anyhow::Result<()> {
        match self.first_error {
            Some(exit) => Err(Failed::told(exit)),
            None if self.input.is_interactive() => Ok(()),
            None => last,
        }
    }

    /// SIGTERM has come.
    fn is_ended(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    fn refresh_names(&mut self) {
        let (connect, has_table) = (self.session.connect(), self.session.table().is_some());
        if let Some(editor) = self.input.editor_mut() {
            editor.names.set_in_use(has_table);
            editor.names.refresh(self.runtime.handle(), connect);
        }
    }
}

fn prompt(session: &Session) -> String {
    match session.table() {
        Some(table) => format!("pegasus {table}> "),
        None => "pegasus> ".to_owned(),
    }
}

/// Runs a command until Ctrl-C.
fn cancellable<T>(
    runtime: &Runtime,
    command: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = interrupt::dropped() => {
                let sentence = "cancelled; what was sent may be done nevertheless";
                Err(Failed::error(Exit::Interrupted, sentence))
            }
            result = Box::pin(command) => result,
        }
    })
}
