//! Verbs on rows, whose table is the one in use.

use super::filters::{Between, HashFilter, Selection, SortFilter, ValueFilter};
use super::{Action, Context, Told};
use crate::exit::Failed;
use crate::shell::argv::Argv;
use clap::Subcommand;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub(super) enum Verb {
    /// Write rows of one hash key, all or none of them
    MultiSet {
        #[arg(allow_hyphen_values = true)]
        hash_key: OsString,
        /// Pairs of them
        #[arg(
            required = true,
            value_name = "SORT_KEY VALUE",
            allow_hyphen_values = true
        )]
        rows: Vec<OsString>,
    },
    /// Rows of one hash key: those that are named, or all
    MultiGet {
        #[arg(allow_hyphen_values = true)]
        hash_key: OsString,
        #[arg(value_name = "SORT_KEY", allow_hyphen_values = true)]
        sort_keys: Vec<OsString>,
    },
    /// Rows of one hash key, from one sort key to another
    MultiGetRange {
        #[command(flatten)]
        between: Between,
        /// At most so many
        #[arg(long, short = 'n', value_name = "ROWS", allow_negative_numbers = true)]
        max_count: Option<i64>,
        /// Keys only
        #[arg(long, short = 'i')]
        no_value: bool,
        /// The last ones, if not all fit
        #[arg(long, short)]
        reverse: bool,
    },
    /// Sort keys of one hash key
    MultiGetSortkeys {
        #[arg(allow_hyphen_values = true)]
        hash_key: OsString,
    },
    /// Delete rows of one hash key, all or none of them
    MultiDel {
        #[arg(allow_hyphen_values = true)]
        hash_key: OsString,
        #[arg(required = true, value_name = "SORT_KEY", allow_hyphen_values = true)]
        sort_keys: Vec<OsString>,
    },
    /// Delete rows of one hash key, from one sort key to another
    MultiDelRange {
        #[command(flatten)]
        between: Between,
        /// Where what would be printed goes
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Taken, and without effect: keys are never printed one by one
        #[arg(long, short = 'i')]
        silent: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Write a row if another one of its hash key passes a check
    CheckAndSet {
        #[command(flatten)]
        check: Check,
        /// The row to write [default: the one that is checked]
        #[arg(long, short, value_name = "SORT_KEY", allow_hyphen_values = true)]
        set_sort_key: Option<OsString>,
        /// Its value
        #[arg(long, short = 'v', value_name = "VALUE", allow_hyphen_values = true)]
        set_value: OsString,
        /// Seconds until it expires
        #[arg(
            long,
            short = 'l',
            value_name = "SECONDS",
            allow_negative_numbers = true
        )]
        set_value_ttl_seconds: Option<i64>,
    },
    /// Write and delete rows of a hash key, as one, if one of them passes a check
    #[command(after_help = "\
Changes are words behind the command, or the lines after it:
  check_and_mutate user-1 -c state -t exist state=closed !owner
  check_and_mutate user-1 -c state -t exist
    set state closed
    del owner
    ok                  or: abort")]
    CheckAndMutate {
        #[command(flatten)]
        check: Check,
        /// SORT_KEY=VALUE or !SORT_KEY
        #[arg(value_name = "CHANGE")]
        changes: Vec<OsString>,
    },
    /// Rows of one hash key, from one sort key to another, page by page
    HashScan {
        #[command(flatten)]
        between: Between,
        #[command(flatten)]
        value: ValueFilter,
        #[command(flatten)]
        scan: Scan,
    },
    /// Rows of the whole table
    FullScan {
        #[command(flatten)]
        hash: HashFilter,
        #[command(flatten)]
        sort: SortFilter,
        #[command(flatten)]
        value: ValueFilter,
        #[command(flatten)]
        scan: Scan,
        /// Only this partition
        #[arg(long, short, value_name = "NUMBER", allow_negative_numbers = true)]
        partition: Option<i64>,
    },
    /// How many rows there are, and how large they are
    CountData {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        job: Job,
        /// Count hash keys too
        #[arg(long, short)]
        diff_hash_key: bool,
        /// Sizes of keys and values
        #[arg(long, short = 'a')]
        stat_size: bool,
        /// The largest rows
        #[arg(long, short = 'n', value_name = "ROWS")]
        top_count: Option<u32>,
        /// Stop after this time
        #[arg(long, short, value_name = "SECONDS")]
        run_seconds: Option<u32>,
        /// Taken, and without effect: counts are exact
        #[arg(long, short = 'c')]
        precise: bool,
    },
    /// Copy rows to another table, also of another cluster
    CopyData {
        /// Meta servers of the other cluster: HOST:PORT, with commas between several [default: this cluster]
        #[arg(long, short = 'c', value_name = "ADDR")]
        target_cluster_name: Option<OsString>,
        /// The table to write
        #[arg(long, short = 'a', value_name = "TABLE")]
        target_app_name: OsString,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        job: Job,
        /// Rows under way
        #[arg(long, short = 'm', value_name = "ROWS")]
        max_multi_set_concurrency: Option<u32>,
        /// Rows of a page; taken, and without effect
        #[arg(long, short = 'o', value_name = "ROWS")]
        scan_option_batch_size: Option<u32>,
        /// The copies do not expire
        #[arg(long, short = 'e')]
        no_ttl: bool,
        /// Leave rows alone that are there already
        #[arg(long, short = 'n')]
        no_overwrite: bool,
        /// Copy keys only
        #[arg(long, short = 'i')]
        no_value: bool,
        /// Taken, and without effect
        #[arg(long, short = 'u')]
        use_multi_set: bool,
        /// At most so many a second
        #[arg(long, value_name = "ROWS")]
        rows_per_second: Option<u32>,
        /// Remember how far it came in this file, and go on from there
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
    },
    /// Delete rows
    ClearData {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        job: Job,
        /// Do not ask
        #[arg(long, short = 'f', visible_alias = "yes")]
        force: bool,
    },
}

/// What a row has to be like.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub(super) struct Check {
    #[arg(allow_hyphen_values = true)]
    hash_key: OsString,
    /// The row that is checked
    #[arg(
        long,
        short = 'c',
        value_name = "SORT_KEY",
        default_value = "",
        allow_hyphen_values = true
    )]
    check_sort_key: OsString,
    /// What it has to be like: no_check, not_exist, exist, bytes_equal, int_less ..
    #[arg(long, short = 't', value_name = "TYPE", default_value = "no_check")]
    check_type: String,
    /// What its value is compared with
    #[arg(long, short = 'o', value_name = "TEXT", allow_hyphen_values = true)]
    check_operand: Option<OsString>,
    /// Taken, and without effect: the value is always shown
    #[arg(long, short)]
    return_check_value: bool,
}

/// How a scan goes.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub(super) struct Scan {
    /// Where the rows go
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "ROWS", allow_negative_numbers = true)]
    max_count: Option<i64>,
    /// Milliseconds for each page
    #[arg(long, short, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// Sizes and times to live too
    #[arg(long, short)]
    detailed: bool,
    /// Keys only
    #[arg(long, short = 'i')]
    no_value: bool,
}

/// How work on a whole table goes.
#[derive(Debug, clap::Args)]
#[command(rename_all = "snake_case")]
pub(super) struct Job {
    /// Rows of a page; taken, and without effect
    #[arg(long, short = 'b', value_name = "ROWS")]
    max_batch_count: Option<u32>,
    /// Milliseconds for each request
    #[arg(long, short, value_name = "MS")]
    timeout_ms: Option<u64>,
}

impl Verb {
    pub(super) fn translate(self, context: &Context<'_>) -> Told {
        let on = |verb: &str| anyhow::Ok(Argv::new(verb).positional(context.table()?));
        let argv = match self {
            Self::MultiSet { hash_key, rows } => {
                if rows.len() % 2 != 0 {
                    let sentence = "multi_set: a value is missing for the last sort key";
                    return Err(Failed::usage(sentence));
                }
                on("multi-set")?.positional(hash_key).all(rows)
            }
            Self::MultiGet {
                hash_key,
                sort_keys,
            } => on("multi-get")?.positional(hash_key).all(sort_keys),
            Self::MultiGetRange {
                between,
                max_count,
                no_value,
                reverse,
            } => between
                .give(on("multi-get")?)
                .number("--limit", positive(max_count))
                .flag("--no-value", no_value)
                .flag("--reverse", reverse),
            Self::MultiGetSortkeys { hash_key } => on("multi-get")?
                .flag("--no-value", true)
                .positional(hash_key),
            Self::MultiDel {
                hash_key,
                sort_keys,
            } => on("multi-del")?.positional(hash_key).all(sort_keys),
            Self::MultiDelRange {
                between,
                output,
                silent: _,
                yes,
            } => {
                let argv = between.give(on("del-range")?).flag("--yes", yes);
                return Ok(Action::run_to(argv, output));
            }
            Self::CheckAndSet {
                check,
                set_sort_key,
                set_value,
                set_value_ttl_seconds: ttl,
            } => check
                .give(on("check-and-set")?)
                .option("--set-sort-key", set_sort_key)
                .number("--ttl", positive(ttl))
                .positional(set_value),
            Self::CheckAndMutate { check, changes } => {
                let argv = check.give(on("check-and-mutate")?);
                return Ok(match changes.is_empty() {
                    true => Action::Mutate(argv),
                    false => Action::run(argv.all(changes)),
                });
            }
            Self::HashScan {
                between,
                value,
                scan,
            } => {
                let argv = value.give(between.give(on("scan")?));
                return Ok(Action::run_to(scan.give(argv), scan.output));
            }
            Self::FullScan {
                hash,
                sort,
                value,
                scan,
                partition,
            } => {
                let argv = value.give(sort.give(hash.give(on("scan")?)));
                let argv = argv.number("--partition", partition.filter(|it| *it >= 0));
                return Ok(Action::run_to(scan.give(argv), scan.output));
            }
            Self::CountData {
                selection,
                job,
                diff_hash_key,
                stat_size,
                top_count,
                run_seconds,
                precise: _,
            } => job
                .give(selection.give(on("count-data")?))
                .flag("--hash-keys", diff_hash_key)
                .flag("--sizes", stat_size)
                .number("--top", top_count)
                .number("--seconds", run_seconds.filter(|it| *it > 0)),
            Self::CopyData {
                target_cluster_name,
                target_app_name,
                selection,
                job,
                max_multi_set_concurrency,
                scan_option_batch_size: _,
                no_ttl,
                no_overwrite,
                no_value,
                use_multi_set: _,
                rows_per_second,
                state,
            } => job
                .give(selection.give(on("copy-data")?))
                .option("--to", Some(target_app_name))
                .option("--to-meta", target_cluster_name)
                .number("--concurrency", max_multi_set_concurrency)
                .flag("--no-ttl", no_ttl)
                .flag("--no-overwrite", no_overwrite)
                .flag("--no-value", no_value)
                .number("--rows-per-second", rows_per_second)
                .option("--state", state),
            Self::ClearData {
                selection,
                job,
                force,
            } => job
                .give(selection.give(on("clear-data")?))
                .flag("--yes", force),
        };
        Ok(Action::run(argv))
    }
}

/// Apache Pegasus has 0 and less for no limit.
fn positive(number: Option<i64>) -> Option<i64> {
    number.filter(|it| *it > 0)
}

/// `1500` as `1.5`
fn seconds(timeout_ms: Option<u64>) -> Option<String> {
    let timeout_ms = timeout_ms.filter(|it| *it > 0)?;
    Some(format!("{}.{:03}", timeout_ms / 1_000, timeout_ms % 1_000))
}

impl Check {
    fn give(&self, argv: Argv) -> Argv {
        argv.option("--operand", self.check_operand.as_ref())
            .positional(self.hash_key.clone())
            .positional(self.check_sort_key.clone())
            .positional(self.check_type.replace('_', "-"))
    }
}

impl Scan {
    fn give(&self, argv: Argv) -> Argv {
        // Theirs have no limit unless one is given, ours do.
        argv.number("--limit", Some(positive(self.max_count).unwrap_or(0)))
            .flag("--no-value", self.no_value)
            .flag("--detailed", self.detailed)
            .option("--timeout", seconds(self.timeout_ms))
    }
}

impl Job {
    fn give(&self, argv: Argv) -> Argv {
        argv.option("--timeout", seconds(self.timeout_ms))
    }
}
