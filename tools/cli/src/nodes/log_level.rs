//! `pegasus node log-level`: which lines a server logs, changed while it runs.

use crate::connect::Connect;
use crate::each_node;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style};
use clap::Args;
use pegasus_client::Client;
use serde_json::json;

pub(super) const AFTER_HELP: &str = "\
Levels: off, error, warn, info, debug, trace. What is set here is forgotten when the server ends; its configuration has what
it begins with (`logs.level`).

Examples:
  pegasus node log-level 2                                              what holds now
  pegasus node log-level 2 debug --module pegasus_replica::meta_link    of one module
  pegasus node log-level meta warn
  pegasus node log-level 2 --reset                                      as it was at the start";

#[derive(Debug, Args)]
pub(crate) struct LogLevel {
    /// Number of a node, or `meta`
    #[arg(value_name = "NODE|meta")]
    server: Server,
    /// Least level that is logged; without it levels are only told
    level: Option<String>,
    /// Only of this module and what is below it, as lines name it
    #[arg(long, value_name = "MODULE", requires = "level")]
    module: Option<String>,
    /// The levels of the start hold again
    #[arg(long, conflicts_with_all = ["level", "module"])]
    reset: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Node(u32),
    Meta,
}

impl std::str::FromStr for Server {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "meta" => Ok(Self::Meta),
            number => number
                .parse()
                .map(Self::Node)
                .map_err(|_| "a number of a node, or meta"),
        }
    }
}

impl LogLevel {
    fn command(&self) -> (&'static str, Vec<&str>) {
        if self.reset {
            return ("reset-log-start-level", Vec::new());
        }
        let arguments = self.module.iter().chain(&self.level);
        ("log-level", arguments.map(String::as_str).collect())
    }
}

pub(super) async fn run(
    options: &LogLevel,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let client = each_node::client(connect).await?;
    let (name, arguments) = options.command();
    let mut last = None;
    for address in addresses(options.server, &client, connect).await? {
        match client.remote_command(&address, name, &arguments).await {
            Ok(levels) => return tell(&levels, out),
            Err(error) => last = Some(error),
        }
    }
    let error = last.map_or_else(|| "it has no core".to_owned(), |it| it.to_string());
    Err(Failed::error(Exit::Unavailable, error))
}

/// Any core answers for its node; all of meta's addresses are tried.
async fn addresses(
    server: Server,
    client: &Client,
    connect: &Connect,
) -> anyhow::Result<Vec<String>> {
    let Server::Node(number) = server else {
        return Ok(connect.meta().to_vec());
    };
    let nodes = client.list_nodes().await?.nodes;
    match nodes.into_iter().find(|node| node.node == number) {
        Some(node) => Ok(node
            .cores
            .into_iter()
            .map(|core| core.client_address)
            .collect()),
        None => {
            let sentence = format!("there is no node {number}; `pegasus node list` has them");
            Err(Failed::error(Exit::NotFound, sentence))
        }
    }
}

fn tell(levels: &str, out: &mut Output) -> anyhow::Result<()> {
    if let Some(reason) = levels.strip_prefix("refused: ") {
        return Err(Failed::error(Exit::Failed, reason.to_owned()));
    }
    match out.style {
        Style::Json => out.json(&json!({ "levels": levels })),
        Style::People => Ok(out.line(levels)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_for_everything_or_for_a_module() {
        let mut options = LogLevel {
            server: Server::Meta,
            level: None,
            module: None,
            reset: false,
        };
        assert_eq!(options.command(), ("log-level", vec![]));
        options.level = Some("debug".to_owned());
        assert_eq!(options.command(), ("log-level", vec!["debug"]));
        options.module = Some("a::b".to_owned());
        assert_eq!(options.command(), ("log-level", vec!["a::b", "debug"]));
        options.reset = true;
        assert_eq!(options.command(), ("reset-log-start-level", vec![]));
    }

    #[test]
    fn a_server_is_a_node_or_meta() {
        assert_eq!("3".parse(), Ok(Server::Node(3)));
        assert_eq!("meta".parse(), Ok(Server::Meta));
        assert!("all".parse::<Server>().is_err());
    }
}
