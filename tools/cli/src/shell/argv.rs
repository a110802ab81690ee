//! A command line of the CLI, put together word by word.

use std::ffi::{OsStr, OsString};

/// Words behind `pegasus`: the verb, then options, then the positional ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argv {
    verb: Vec<OsString>,
    options: Vec<OsString>,
    positional: Vec<OsString>,
}

impl Argv {
    /// `verb` may be several words, such as `table show`.
    pub(super) fn new(verb: &str) -> Self {
        Self {
            verb: verb.split(' ').map(Into::into).collect(),
            options: Vec::new(),
            positional: Vec::new(),
        }
    }

    pub(super) fn positional(mut self, word: impl Into<OsString>) -> Self {
        self.positional.push(word.into());
        self
    }

    pub(super) fn all(mut self, words: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.positional.extend(words.into_iter().map(Into::into));
        self
    }

    /// An option without a value, if `is_set`.
    pub(super) fn flag(mut self, name: &str, is_set: bool) -> Self {
        self.options.extend(is_set.then(|| name.into()));
        self
    }

    /// An option that is given only with a value.
    pub(super) fn option(mut self, name: &str, value: Option<impl AsRef<OsStr>>) -> Self {
        if let Some(value) = value {
            let mut word = OsString::from(name);
            word.push("=");
            word.push(value);
            self.options.push(word);
        }
        self
    }

    pub(super) fn number(self, name: &str, value: Option<impl ToString>) -> Self {
        self.option(name, value.map(|value| value.to_string()))
    }

    /// All words. Where a positional one could be taken for an option, `--` parts them.
    pub(super) fn words(self) -> Vec<OsString> {
        let looks_like_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
        let parts = self.positional.iter().any(looks_like_option);
        let mut words = self.verb;
        words.extend(self.options);
        words.extend(parts.then(|| "--".into()));
        words.extend(self.positional);
        words
    }
}
