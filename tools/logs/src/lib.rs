//! How the servers log: to standard error, as text or JSON, each message at most so often, at levels that can be changed while
//! they run.
//!
//! Must not know what is logged. Reading order: this file, `levels` (which lines are wanted), `limiter` (how often).

#![forbid(unsafe_code)]

mod levels;
mod limiter;

pub use levels::LevelError;

use levels::Levels;
use limiter::{LeftOut, Limiter};
use serde::{Deserialize, Serialize};
use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// How to log; a section of the servers' configurations.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsConfig {
    /// Which lines: a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), and after commas levels of modules, as in
    /// `info,pegasus_replica::scrub=debug`. Default `info`. The environment's `RUST_LOG` wins.
    pub level: String,
    /// Default text.
    pub format: LogsFormat,
    /// Lines that one message may have in ten seconds; further ones are left out, and how many is said. Default 50, 1 to
    /// 1000000. Too small: what belongs together is torn apart; too big: a loop that fails fills the disk.
    pub repeats_max: u32,
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogsFormat {
    /// Time, level, module, sentence, `key=value` for each field.
    #[default]
    Text,
    /// One JSON object: `timestamp`, `level`, `target`, `message`, and a member for each field.
    Json,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogsFormat::Text,
            repeats_max: 50,
        }
    }
}

impl LogsConfig {
    /// What is wrong with it, in one sentence.
    ///
    /// # Errors
    /// The sentence.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=1_000_000).contains(&self.repeats_max) {
            return Err(format!(
                "repeats_max = {} is refused, 1 to 1000000 are allowed",
                self.repeats_max
            ));
        }
        let levels = Levels::parse(&self.level).map_err(|error| error.to_string())?;
        levels.filter().map(drop).map_err(|error| error.to_string())
    }
}

/// glommio logs an error for every device without polled I/O, and does without.
const ALWAYS: &str = "glommio::reactor=off";

/// What can be changed while the process runs.
struct Control {
    levels: Mutex<Levels>,
    /// What holds when levels are reset.
    at_start: Levels,
    filter: reload::Handle<EnvFilter, Registry>,
    limiter: Limiter,
}

static CONTROL: OnceLock<Control> = OnceLock::new();

/// Starts logging, once in a process; a later call changes nothing.
///
/// # Errors
/// `RUST_LOG` or the configuration is no list of levels.
pub fn start(config: &LogsConfig) -> Result<(), LevelError> {
    let wanted = std::env::var("RUST_LOG").ok();
    let wanted = wanted.filter(|text| !text.is_empty());
    let levels = Levels::parse(wanted.as_deref().unwrap_or(&config.level))?;
    let (filter, handle) = reload::Layer::new(levels.filter()?);
    let limiter = Limiter::new(config.repeats_max);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match config.format {
        LogsFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogsFormat::Json => lines
            .event_format(fmt::format().json().flatten_event(true))
            .fmt_fields(fmt::format::JsonFields::new())
            .boxed(),
    };
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(limiter.clone())
        .with(lines)
        .try_init();
    if started.is_ok() {
        let control = Control {
            levels: Mutex::new(levels.clone()),
            at_start: levels,
            filter: handle,
            limiter,
        };
        let _ = CONTROL.set(control);
    }
    Ok(())
}

/// The levels in force, as [`LogsConfig::level`] would have them; empty before [`start`].
#[must_use]
pub fn levels() -> String {
    let locked = |control: &Control| lock(&control.levels).to_string();
    CONTROL.get().map(locked).unwrap_or_default()
}

/// Changes the level of a module and what is below it, or of everything that has no level of its own. Returns the levels in
/// force.
///
/// # Errors
/// No such level, or a name that no module can have, or logging has not been started.
pub fn set_level(module: Option<&str>, level: &str) -> Result<String, LevelError> {
    change(|levels| levels.set(module, level))
}

/// The levels that the process was started with hold again.
///
/// # Errors
/// Logging has not been started.
pub fn reset_levels() -> Result<String, LevelError> {
    let at_start = CONTROL.get().map(|control| control.at_start.clone());
    change(|levels| {
        *levels = at_start.ok_or(LevelError::NotStarted)?;
        Ok(())
    })
}

fn change(how: impl FnOnce(&mut Levels) -> Result<(), LevelError>) -> Result<String, LevelError> {
    let control = CONTROL.get().ok_or(LevelError::NotStarted)?;
    let mut levels = lock(&control.levels);
    let mut changed = levels.clone();
    how(&mut changed)?;
    let reloaded = control.filter.reload(changed.filter()?);
    reloaded.map_err(|_| LevelError::NotStarted)?;
    *levels = changed;
    let shown = levels.to_string();
    drop(levels);
    tracing::info!(levels = shown, "levels of logging are changed");
    Ok(shown)
}

/// Says which lines were left out because there were too many like them. To be called about once a second.
pub fn tell_left_out() {
    let Some(control) = CONTROL.get() else {
        return;
    };
    for LeftOut {
        module,
        line,
        lines,
    } in control.limiter.take_left_out()
    {
        tracing::warn!(
            target: limiter::OWN_TARGET,
            lines,
            of = module,
            line,
            "more lines of one message than are wanted: the rest was left out"
        );
    }
}

fn lock(levels: &Mutex<Levels>) -> std::sync::MutexGuard<'_, Levels> {
    levels.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_their_own_check_and_bad_values_are_named() {
        assert_eq!(LogsConfig::default().check(), Ok(()));
        let none = LogsConfig {
            repeats_max: 0,
            ..LogsConfig::default()
        };
        assert_eq!(
            none.check(),
            Err("repeats_max = 0 is refused, 1 to 1000000 are allowed".to_owned())
        );
        let loud = LogsConfig {
            level: "loud".to_owned(),
            ..LogsConfig::default()
        };
        assert!(loud.check().is_err_and(|error| error.contains("loud")));
    }

    #[test]
    fn levels_are_changed_while_the_process_runs_and_put_back() {
        start(&LogsConfig::default()).expect("defaults are levels");
        assert_eq!(levels(), "info");
        let changed = set_level(Some("pegasus_logs::tests"), "debug").expect("a level");
        assert_eq!(changed, "info,pegasus_logs::tests=debug");
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert_eq!(
            set_level(None, "error").expect("a level"),
            "error,pegasus_logs::tests=debug"
        );
        assert!(set_level(None, "noisy").is_err());
        assert!(set_level(Some("a b"), "info").is_err());
        assert_eq!(
            levels(),
            "error,pegasus_logs::tests=debug",
            "a refusal changes nothing"
        );
        assert_eq!(reset_levels().expect("started"), "info");
        assert!(!tracing::enabled!(tracing::Level::DEBUG));
    }
}
