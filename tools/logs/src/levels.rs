//! Which lines are wanted: a level for everything, and levels of modules.

use crate::ALWAYS;
use std::fmt;
use tracing_subscriber::EnvFilter;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Modules that have a level of their own.
const MODULES_MAX: usize = 64;

/// Why levels are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    #[error("{0:?} is no level: off, error, warn, info, debug and trace are")]
    Level(String),
    #[error("{0:?} is no module: names with :: between them are, as in pegasus_replica::scrub")]
    Module(String),
    #[error("levels of more than {MODULES_MAX} modules: reset them first")]
    TooMany,
    #[error("levels of logging {0:?}: {1}")]
    Directives(String, String),
    #[error("logging has not been started")]
    NotStarted,
}

/// A level for what has none of its own, and those of modules in the order in which they were set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    general: String,
    /// Modules and their levels, or directives of `RUST_LOG` that are more than that.
    modules: Vec<(String, String)>,
}

impl Levels {
    /// As in `RUST_LOG`.
    pub(crate) fn parse(text: &str) -> Result<Self, LevelError> {
        let mut levels = Self {
            general: "error".to_owned(),
            modules: Vec::new(),
        };
        for part in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            match part.rsplit_once('=') {
                Some((module, level)) => levels
                    .modules
                    .push((module.to_owned(), known(level)?.to_owned())),
                None => known(part)?.clone_into(&mut levels.general),
            }
        }
        Ok(levels)
    }

    pub(crate) fn set(&mut self, module: Option<&str>, level: &str) -> Result<(), LevelError> {
        let level = known(level)?;
        let Some(module) = module else {
            level.clone_into(&mut self.general);
            return Ok(());
        };
        let is_name = |part: &str| {
            let mut letters = part.chars();
            !part.is_empty() && letters.all(|it| it.is_ascii_alphanumeric() || it == '_')
        };
        if module.len() > 128 || !module.split("::").all(is_name) {
            return Err(LevelError::Module(module.chars().take(128).collect()));
        }
        self.modules.retain(|(name, _)| name != module);
        if self.modules.len() >= MODULES_MAX {
            return Err(LevelError::TooMany);
        }
        self.modules.push((module.to_owned(), level.to_owned()));
        Ok(())
    }

    pub(crate) fn filter(&self) -> Result<EnvFilter, LevelError> {
        let text = self.to_string();
        EnvFilter::try_new(format!("{ALWAYS},{text}"))
            .map_err(|error| LevelError::Directives(text, error.to_string()))
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.general)?;
        let mut modules = self.modules.iter();
        modules.try_for_each(|(module, level)| write!(f, ",{module}={level}"))
    }
}

/// In lower case.
fn known(level: &str) -> Result<&'static str, LevelError> {
    let found = LEVELS.into_iter().find(|it| it.eq_ignore_ascii_case(level));
    found.ok_or_else(|| LevelError::Level(level.chars().take(128).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_printed_as_they_are_read() {
        for text in ["info", "warn,a::b=debug,c=off"] {
            assert_eq!(Levels::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(
            Levels::parse("a=INFO").expect("a level").to_string(),
            "error,a=info"
        );
        assert_eq!(
            Levels::parse("a=loud"),
            Err(LevelError::Level("loud".to_owned()))
        );
    }

    #[test]
    fn a_module_has_the_level_that_was_set_last_and_there_is_an_end_to_modules() {
        let mut levels = Levels::parse("info").expect("a level");
        levels.set(Some("a"), "debug").expect("a level");
        levels.set(Some("a"), "warn").expect("a level");
        assert_eq!(levels.to_string(), "info,a=warn");
        for index in 1..MODULES_MAX {
            levels
                .set(Some(&format!("m{index}")), "warn")
                .expect("room");
        }
        assert_eq!(levels.set(Some("b"), "warn"), Err(LevelError::TooMany));
        levels.set(Some("a"), "info").expect("it has a place");
    }
}
