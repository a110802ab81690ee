//! What happens, in lines that people can read: time in milliseconds, who, what. Goes to standard error.

use crate::action::Action;
use pegasus_meta::state::Command;
use pegasus_replication::event::{Effect, Event};
use pegasus_replication::ids::{CoreAddress, Instant};
use pegasus_replication::message::{Entry, Message};

pub(crate) fn line(at: Instant, text: &str) {
    eprintln!("{:>12.3}  {text}", crate::history::milliseconds_of_run(at));
}

/// What happens outside of cores; what a core is told shows as an event.
pub(crate) fn action(at: Instant, action: &Action) {
    match action {
        Action::Deliver { .. }
        | Action::Core { .. }
        | Action::Flushed { .. }
        | Action::ApplyWaiting { .. }
        | Action::EngineFlushed { .. }
        | Action::RowsRead { .. }
        | Action::Deadline { .. }
        | Action::Think { .. }
        | Action::MetaTick
        | Action::MetaPersisted { .. }
        | Action::Report { .. }
        | Action::Request { .. } => {}
        Action::ToMeta {
            command: Command::Report { .. },
            ..
        } => {}
        Action::ToMeta { session, command } => {
            let (node, command) = (session.node, shortened(&format!("{command:?}")));
            line(at, &format!("meta <- node {node}: {command}"));
        }
        Action::FromMeta { session, sync } => {
            for it in &sync.configurations {
                let members: Vec<String> = it
                    .members()
                    .map(|member| format!("{}#{}", member.address, member.incarnation))
                    .collect();
                let (node, members) = (session.node, members.join(" "));
                let (partition, ballot, stage) = (it.partition, it.ballot, it.stage);
                let text =
                    format!("meta -> node {node}: {partition} b{ballot} {stage:?} [{members}]");
                line(at, &text);
            }
        }
        other => line(at, &shortened(&format!("{other:?}"))),
    }
}

pub(crate) fn event(at: Instant, core: CoreAddress, event: &Event) {
    let text = match event {
        Event::Message { from, message } => format!("from {from}: {}", message_text(message)),
        Event::Write {
            partition, ticket, ..
        } => format!("write {ticket} to {partition}"),
        Event::Read {
            partition, ticket, ..
        } => format!("read {ticket} of {partition}"),
        Event::Configured { configuration } => format!(
            "configured {} b{}",
            configuration.partition, configuration.ballot
        ),
        other => shortened(&format!("{other:?}")),
    };
    line(at, &format!("{core} <- {text}"));
}

pub(crate) fn effect(at: Instant, core: CoreAddress, effect: &Effect) {
    let text = match effect {
        Effect::WriteLog(write) => format!(
            "log write {} of {} bytes to segment {} at {}",
            write.id.0,
            write.bytes.len(),
            write.segment.0,
            write.offset
        ),
        Effect::Send { to, message } => format!("to {to}: {}", message_text(message)),
        Effect::Apply { partition, entry } => {
            format!("apply {} to {partition}", entry_text(entry))
        }
        other => shortened(&format!("{other:?}")),
    };
    line(at, &format!("    {core} -> {text}"));
}

fn entry_text(entry: &Entry) -> String {
    let what = match entry.mutation.payload.len() {
        0 => "no-op".to_owned(),
        bytes => format!("{bytes} bytes"),
    };
    format!("d{} b{} ({what})", entry.decree, entry.ballot)
}

fn message_text(message: &Message) -> String {
    match message {
        Message::Prepare(prepare) => format!(
            "prepare {} {} in b{}, after b{}, committed d{}",
            prepare.configuration.partition,
            entry_text(&prepare.entry),
            prepare.configuration.ballot,
            prepare.previous,
            prepare.committed
        ),
        Message::PrepareAck(ack) => format!(
            "acknowledges {} up to d{} in b{}",
            ack.partition, ack.prepared, ack.ballot
        ),
        Message::PrepareReject(reject) => format!(
            "rejects {} d{} of b{}: {:?}, has b{} up to d{} of b{}",
            reject.partition,
            reject.decree,
            reject.ballot,
            reject.reason,
            reject.state.ballot,
            reject.state.prepared,
            reject.state.prepared_ballot
        ),
        other => shortened(&format!("{other:?}")),
    }
}

/// The types' names say nothing that their values do not.
fn shortened(text: &str) -> String {
    const NOISE: [(&str, &str); 9] = [
        ("PartitionId { table: TableId(", "p("),
        ("CoreAddress { node: NodeId(", "core("),
        (", core: CoreId(", ":"),
        ("ReplicaIncarnation(", "#("),
        ("Instant(", "("),
        ("Decree(", "d("),
        ("Ballot(", "b("),
        ("Member { address: ", "{"),
        ("RequestNumber(", "("),
    ];
    let short = NOISE.iter().fold(text.to_owned(), |text, (long, short)| {
        text.replace(long, short)
    });
    short.chars().take(400).collect()
}
