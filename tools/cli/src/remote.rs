//! `pegasus remote-command`: questions and orders by name, to servers.

use crate::connect::Connect;
use crate::each_node;
use crate::exit::{Exit, Failed};
use crate::output::{Output, Style};
use clap::{Args, ValueEnum};
use futures::future::join_all;
use serde_json::{Value, json};

#[derive(Debug, Args)]
#[command(after_help = "\
The commands are those of Apache Pegasus, as far as there is something to say; `help` has them. Meta answers for itself and
each core for its own.

Examples:
  pegasus remote-command help
  pegasus remote-command --on meta server-info
  pegasus remote-command --address 127.0.0.1:34801 server-stat")]
pub(crate) struct RemoteCommand {
    /// Whom to ask
    #[arg(long, value_enum, default_value_t = On::All)]
    on: On,
    /// Only these servers
    #[arg(long, value_name = "ADDR[,ADDR]", value_delimiter = ',', value_parser = crate::address)]
    address: Vec<String>,
    /// Name of the command, and what it is given
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum On {
    All,
    /// Meta servers
    Meta,
    /// Every core of every node
    Nodes,
}

/// What one server says.
struct Told {
    kind: &'static str,
    address: String,
    answer: Result<String, String>,
}

pub(crate) async fn run(
    options: &RemoteCommand,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let Some((name, arguments)) = options.command.split_first() else {
        return Err(Failed::usage("name a command; `help` has them all"));
    };
    let client = each_node::client(connect).await?;
    let mut servers: Vec<(&'static str, String)> = Vec::new();
    if options.on != On::Nodes {
        servers.extend(connect.meta().iter().map(|it| ("meta", it.clone())));
    }
    if options.on != On::Meta {
        let nodes = client.list_nodes().await?.nodes;
        let cores = nodes.into_iter().flat_map(|node| node.cores);
        servers.extend(cores.map(|core| ("core", core.client_address)));
    }
    if !options.address.is_empty() {
        servers.retain(|(_, address)| options.address.contains(address));
        let unknown = options.address.iter();
        let unknown: Vec<_> = unknown
            .filter(|it| servers.iter().all(|(_, address)| address != *it))
            .collect();
        servers.extend(unknown.into_iter().map(|it| ("server", it.clone())));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ask = async |(kind, address): (&'static str, String)| {
        let answer = client.remote_command(&address, name, &arguments).await;
        Told {
            kind,
            address,
            answer: answer.map_err(|error| error.to_string()),
        }
    };
    let told = join_all(servers.into_iter().map(ask)).await;
    match out.style {
        Style::Json => out.json(&told.iter().map(told_json).collect::<Vec<_>>())?,
        Style::People => show(name, &told, out)?,
    }
    let silent: Vec<&str> = (told.iter().filter(|it| it.answer.is_err()))
        .map(|it| &it.address[..])
        .collect();
    if silent.is_empty() {
        return Ok(());
    }
    let sentence = format!("no answer from {}", silent.join(", "));
    Err(Failed::error(Exit::Unavailable, sentence))
}

/// As Apache's shell prints it.
fn show(name: &str, told: &[Told], out: &mut Output) -> anyhow::Result<()> {
    out.line(format!("COMMAND: {name}"))?;
    for it in told {
        let (kind, address) = (it.kind, &it.address);
        match &it.answer {
            Ok(answer) => {
                out.line(format!("\nCALL [{kind}] [{address}] succeed:"))?;
                out.line(answer.trim_end())?;
            }
            Err(error) => out.line(format!("\nCALL [{kind}] [{address}] failed: {error}"))?,
        }
    }
    let succeeded = told.iter().filter(|it| it.answer.is_ok()).count();
    let failed = told.len() - succeeded;
    Ok(out.line(format!(
        "\nSucceed count: {succeeded}\nFailed count: {failed}"
    ))?)
}

fn told_json(told: &Told) -> Value {
    let mut shown = json!({ "kind": told.kind, "address": told.address });
    match &told.answer {
        Ok(answer) => shown["answer"] = json!(answer),
        Err(error) => shown["error"] = json!(error),
    }
    shown
}
