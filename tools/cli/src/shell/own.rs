//! Lines that concern the shell itself.

use clap::Subcommand;

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
#[command(rename_all = "snake_case")]
pub(super) enum Own {
    /// Choose the table that verbs on rows are for; `use -` chooses none
    Use {
        #[arg(value_name = "TABLE", allow_hyphen_values = true)]
        app_name: Option<String>,
    },
    /// Go to another cluster
    Cc {
        /// Its meta servers: HOST:PORT, with commas between several
        #[arg(value_name = "ADDR")]
        cluster_name: Option<String>,
    },
    /// How long a request is tried, in milliseconds
    Timeout {
        #[arg(value_name = "MS")]
        time_in_ms: Option<u64>,
    },
    /// Whether every byte of keys and values is printed as \xHH
    EscapeAll {
        #[arg(value_name = "true|false")]
        escape: Option<bool>,
    },
    /// The version of this program
    Version,
    /// All verbs, or one of them
    #[command(visible_alias = "?")]
    Help {
        /// Such as: table create
        verb: Vec<String>,
    },
    /// Leave
    #[command(visible_alias = "quit")]
    Exit,
}
