//! What a shell remembers from line to line, and how it runs one.

use super::apache::{self, Action, Context, Facts};
use super::argv::Argv;
use super::native;
use super::own::Own;
use super::suggest;
use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::output::{Escapes, Output, Style};
use crate::{Cli, Command, dispatch};
use anyhow::Context as _;
use clap::FromArgMatches as _;
use clap::parser::ValueSource;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// What the shell was started with.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) meta: Vec<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) style: Style,
    /// Nothing is asked.
    pub(super) yes: bool,
}

/// Where a line leads.
#[derive(Debug)]
pub(super) enum Step {
    Done,
    Leave,
    /// The next lines say what this one changes.
    Mutate(Argv),
}

#[derive(Debug)]
pub(super) struct Session {
    settings: Settings,
    connect: Connect,
    table: Option<String>,
    escapes: Escapes,
    /// Verbs of the CLI.
    native: clap::Command,
    /// Verbs of Apache's shell, and of ours alone.
    apache: clap::Command,
}

impl Session {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            connect: Connect::keeping(settings.meta.clone(), settings.timeout),
            settings,
            table: None,
            escapes: Escapes::Needed,
            native: native::command(),
            apache: apache::command(),
        }
    }

    pub(super) fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    pub(super) const fn connect(&self) -> &Connect {
        &self.connect
    }

    /// Runs one line. After an error the next one connects anew.
    pub(super) async fn run(
        &mut self,
        words: Vec<OsString>,
        out: &mut Output,
    ) -> anyhow::Result<Step> {
        out.style = self.settings.style;
        out.escapes = self.escapes;
        let result = self.step(words, out).await;
        if result.is_err() {
            self.connect.forget();
        }
        result
    }

    /// Runs a line whose changes are known now.
    pub(super) async fn mutate(
        &self,
        argv: Argv,
        changes: Vec<OsString>,
        out: &mut Output,
    ) -> anyhow::Result<()> {
        let words = argv.flag("--escaped", true).all(changes).words();
        let result = self.run_native(words, out).await;
        if result.is_err() {
            self.connect.forget();
        }
        result
    }

    async fn step(&mut self, words: Vec<OsString>, out: &mut Output) -> anyhow::Result<Step> {
        if apache::knows(&words, &self.apache) {
            return match self.translate(&words, out).await? {
                Some(action) => self.act(action, out).await,
                None => Ok(Step::Done),
            };
        }
        let verb = words.first().cloned().unwrap_or_default();
        let verb = verb.to_string_lossy();
        if !native::knows(&verb, &self.native) {
            return Err(self.unknown(&verb));
        }
        let words = native::with_table(words, self.table(), &self.native);
        self.run_native(words, out).await?;
        Ok(Step::Done)
    }

    /// What a line of Apache's shell does; nothing if it only asks for help.
    async fn translate(
        &self,
        words: &[OsString],
        out: &mut Output,
    ) -> anyhow::Result<Option<Action>> {
        let parsed = match apache::parse(words, &self.apache) {
            Ok(parsed) => parsed,
            Err(error) => return told(&error, out).map(|()| None),
        };
        let facts = match parsed.needs_facts() {
            true => Facts::of(&self.connect.client().await?).await?,
            false => Facts::default(),
        };
        let context = Context {
            table: self.table(),
            facts: &facts,
        };
        parsed.translate(&context).map(Some)
    }

    async fn act(&mut self, action: Action, out: &mut Output) -> anyhow::Result<Step> {
        match action {
            Action::Own(own) => return self.own(own, out).await,
            Action::Mutate(argv) => return Ok(Step::Mutate(argv)),
            Action::Run {
                lines,
                output: None,
            } => {
                for words in lines {
                    self.run_native(words, out).await?;
                }
            }
            Action::Run {
                lines,
                output: Some(path),
            } => self.run_to(&path, lines, out).await?,
        }
        Ok(Step::Done)
    }

    async fn run_to(
        &self,
        path: &Path,
        lines: Vec<Vec<OsString>>,
        out: &mut Output,
    ) -> anyhow::Result<()> {
        let named = || path.display().to_string();
        let file = File::create(path).with_context(named)?;
        let mut to_file = Output::to_file(file, out.style);
        to_file.escapes = out.escapes;
        for words in lines {
            self.run_native(words, &mut to_file).await?;
        }
        to_file.flush().with_context(named)?;
        Ok(out.line(format!("written to {}", path.display()))?)
    }

    /// Runs a command line of the CLI, as `pegasus` behind which these words stand.
    async fn run_native(&self, mut words: Vec<OsString>, out: &mut Output) -> anyhow::Result<()> {
        if self.settings.yes {
            native::say_yes(&mut words, &self.native);
        }
        let line = ["pegasus".into()].into_iter().chain(words);
        let matches = match self.native.clone().try_get_matches_from(line) {
            Ok(matches) => matches,
            Err(error) => return told(&error, out),
        };
        let cli = match Cli::from_arg_matches(&matches) {
            Ok(cli) => cli,
            Err(error) => return told(&error, out),
        };
        if matches!(
            cli.command,
            Command::Shell(_) | Command::InBackground { .. }
        ) {
            return Err(Failed::usage("this is a shell already"));
        }
        let is_elsewhere = matches.value_source("meta") == Some(ValueSource::CommandLine);
        let timeout = crate::timeout(cli.timeout)?;
        let connect = match (is_elsewhere, timeout) {
            (false, None) => self.connect.clone(),
            (false, Some(_)) => Connect::new(self.settings.meta.clone(), timeout),
            (true, _) => Connect::new(cli.meta, timeout.or(self.settings.timeout)),
        };
        let before = out.style;
        if cli.json {
            out.style = Style::Json;
        }
        let result = Box::pin(dispatch(cli.command, &connect, out)).await;
        out.style = before;
        result
    }

    async fn own(&mut self, own: Own, out: &mut Output) -> anyhow::Result<Step> {
        match own {
            Own::Exit => return Ok(Step::Leave),
            Own::Use { app_name: None } => match &self.table {
                Some(table) => out.line(table)?,
                None => out.line("no table is in use")?,
            },
            Own::Use { app_name: Some(to) } if to == "-" => self.table = None,
            Own::Use { app_name: Some(to) } => {
                // A name that is mistyped is noticed here, not with every row.
                self.connect.client().await?.show_table(&to).await?;
                self.table = Some(to);
            }
            Own::Cc { cluster_name: None } => out.line(self.settings.meta.join(","))?,
            Own::Cc {
                cluster_name: Some(to),
            } => self.go(&to)?,
            Own::Timeout { time_in_ms: None } => out.line(match self.settings.timeout {
                Some(timeout) => format!("{} ms", timeout.as_millis()),
                None => "5000 ms; 15000 ms for tables and nodes".to_owned(),
            })?,
            Own::Timeout {
                time_in_ms: Some(ms),
            } => self.wait_for(Duration::from_millis(ms))?,
            Own::EscapeAll { escape } => match escape {
                Some(true) => self.escapes = Escapes::All,
                Some(false) => self.escapes = Escapes::Needed,
                None => out.line((self.escapes == Escapes::All).to_string())?,
            },
            Own::Version => out.line(concat!("pegasus ", env!("CARGO_PKG_VERSION")))?,
            Own::Help { verb } => self.help(&verb, out)?,
        }
        Ok(Step::Done)
    }

    fn go(&mut self, to: &str) -> anyhow::Result<()> {
        let meta = to.split(',').map(crate::address).collect::<Result<_, _>>();
        self.settings.meta = meta.map_err(|error| Failed::usage(format!("cc {to}: {error}")))?;
        self.table = None;
        self.reconnect();
        Ok(())
    }

    fn wait_for(&mut self, timeout: Duration) -> anyhow::Result<()> {
        self.settings.timeout = crate::timeout(Some(timeout.as_secs_f64()))?;
        self.reconnect();
        Ok(())
    }

    fn reconnect(&mut self) {
        let Settings { meta, timeout, .. } = &self.settings;
        self.connect = Connect::keeping(meta.clone(), *timeout);
    }

    /// Help of a verb, which may be several words, or a list of all.
    fn help(&self, verb: &[String], out: &mut Output) -> anyhow::Result<()> {
        let Some(first) = verb.first() else {
            return Ok(out.line(suggest::overview(&self.native, &self.apache))?);
        };
        let first_os = [OsString::from(first)];
        let found = match apache::knows(&first_os, &self.apache) {
            true => find(&self.apache, &[first.replace('-', "_")]),
            false => find(&self.native, verb),
        };
        let Some(mut command) = found else {
            return Err(self.unknown(&verb.join(" ")));
        };
        Ok(out.line(command.render_long_help().to_string().trim_end())?)
    }

    fn unknown(&self, verb: &str) -> anyhow::Error {
        if let Some(why) = apache::missing(verb) {
            return Failed::usage(format!("{verb}: {why}"));
        }
        let near = suggest::near(verb, &self.native, &self.apache);
        let hint = match near {
            Some(near) => format!("did you mean {near}?"),
            None => "`help` lists all".to_owned(),
        };
        Failed::usage(format!("there is no command {verb}; {hint}"))
    }
}

fn find(root: &clap::Command, verb: &[String]) -> Option<clap::Command> {
    let mut command = root.clone();
    // Shows global options of a verb as options of its own, and its full name in the usage.
    command.build();
    let mut found = &command;
    for word in verb {
        found = found.find_subcommand(word)?;
    }
    Some(found.clone())
}

/// Prints help that was asked for; everything else that clap has to say is an error.
fn told(error: &clap::Error, out: &mut Output) -> anyhow::Result<()> {
    let text = error.render().to_string();
    if !error.use_stderr() {
        return Ok(out.line(text.trim_end())?);
    }
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    Err(Failed::error(Exit::Usage, text.trim_end()))
}
