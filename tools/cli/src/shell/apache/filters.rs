//! The filters of Apache Pegasus' shell: what is compared, and how.

use crate::shell::argv::Argv;
use clap::{Args, ValueEnum};
use std::ffi::OsString;

/// How a pattern is matched.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Match {
    Anywhere,
    Prefix,
    Postfix,
}

impl Match {
    const fn word(self) -> &'static str {
        match self {
            Self::Anywhere => "contains",
            Self::Prefix => "prefix",
            Self::Postfix => "postfix",
        }
    }
}

#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub(super) struct HashFilter {
    /// How hash keys are filtered
    #[arg(
        long,
        short = 'h',
        value_name = "TYPE",
        requires = "hash_key_filter_pattern"
    )]
    hash_key_filter_type: Option<Match>,
    /// by this
    #[arg(
        long,
        short = 'x',
        value_name = "TEXT",
        requires = "hash_key_filter_type"
    )]
    hash_key_filter_pattern: Option<OsString>,
}

#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub(super) struct SortFilter {
    /// How sort keys are filtered
    #[arg(
        long,
        short = 's',
        value_name = "TYPE",
        requires = "sort_key_filter_pattern"
    )]
    sort_key_filter_type: Option<Match>,
    /// by this
    #[arg(
        long,
        short = 'y',
        value_name = "TEXT",
        requires = "sort_key_filter_type"
    )]
    sort_key_filter_pattern: Option<OsString>,
}

#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub(super) struct ValueFilter {
    /// How values are filtered
    #[arg(
        long,
        short = 'v',
        value_name = "TYPE",
        requires = "value_filter_pattern"
    )]
    value_filter_type: Option<Match>,
    /// by this
    #[arg(long, short = 'z', value_name = "TEXT", requires = "value_filter_type")]
    value_filter_pattern: Option<OsString>,
}

/// Which rows of a table are meant.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub(super) struct Selection {
    #[command(flatten)]
    hash: HashFilter,
    #[command(flatten)]
    sort: SortFilter,
    #[command(flatten)]
    value: ValueFilter,
    /// Only this partition
    #[arg(long, short, value_name = "NUMBER", allow_negative_numbers = true)]
    partition: Option<i64>,
}

/// The sort keys of a hash key from one to another.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub(super) struct Between {
    #[arg(allow_hyphen_values = true)]
    hash_key: OsString,
    /// '' for the first
    #[arg(allow_hyphen_values = true)]
    start_sort_key: OsString,
    /// '' for the last
    #[arg(allow_hyphen_values = true)]
    stop_sort_key: OsString,
    /// Whether the first is included
    #[arg(long, short = 'a', action = clap::ArgAction::Set, default_value_t = true, value_name = "true|false")]
    start_inclusive: bool,
    /// Whether the last is included
    #[arg(long, short = 'b', action = clap::ArgAction::Set, default_value_t = false, value_name = "true|false")]
    stop_inclusive: bool,
    #[command(flatten)]
    sort: SortFilter,
}

impl HashFilter {
    pub(super) fn give(&self, argv: Argv) -> Argv {
        let pattern = self.hash_key_filter_pattern.as_ref();
        give("hash", self.hash_key_filter_type, pattern, argv)
    }
}

impl SortFilter {
    pub(super) fn give(&self, argv: Argv) -> Argv {
        let pattern = self.sort_key_filter_pattern.as_ref();
        give("sort", self.sort_key_filter_type, pattern, argv)
    }
}

impl ValueFilter {
    pub(super) fn give(&self, argv: Argv) -> Argv {
        let pattern = self.value_filter_pattern.as_ref();
        give("value", self.value_filter_type, pattern, argv)
    }
}

impl Selection {
    pub(super) fn give(&self, argv: Argv) -> Argv {
        let argv = self.value.give(self.sort.give(self.hash.give(argv)));
        // -1 means all of them.
        argv.number("--partition", self.partition.filter(|it| *it >= 0))
    }
}

impl Between {
    /// `argv` has the verb and the table.
    pub(super) fn give(&self, argv: Argv) -> Argv {
        let given = |key: &OsString| Some(key.clone()).filter(|key| !key.is_empty());
        let (start, stop) = (given(&self.start_sort_key), given(&self.stop_sort_key));
        let argv = argv
            .flag("--from-exclusive", !self.start_inclusive && start.is_some())
            .flag("--to-inclusive", self.stop_inclusive && stop.is_some())
            .option("--from", start)
            .option("--to", stop)
            .positional(self.hash_key.clone());
        self.sort.give(argv)
    }
}

fn give(what: &str, how: Option<Match>, pattern: Option<&OsString>, argv: Argv) -> Argv {
    match how {
        Some(how) => argv.option(&format!("--{what}-{}", how.word()), pattern),
        None => argv,
    }
}
