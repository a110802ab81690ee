//! What a meta that does not lead tells everybody: who does, in the words of each protocol.

use super::letter::{Failed, Letter, Query, Reply};
use pegasus_fbs::code::Code;
use pegasus_http::{Response, Status};

/// Sends whoever has posted `letter` to the leader, if one is known. Nothing of it was done.
pub(super) fn letter(letter: Letter, leader: Option<&str>) {
    match letter {
        Letter::Command { reply: it, .. } => reply(it, leader, false),
        Letter::Query {
            query: Query::MayJoin { answer, .. },
            ..
        } => _ = answer.send(Err(Failed::not_leading(leader))),
        Letter::Query { header, outbox, .. } | Letter::ChangeMetas { header, outbox, .. } => {
            outbox.refuse(&header, &Failed::not_leading(leader));
        }
        Letter::Apache { question, caller } => caller.forward_question(&question, leader),
        Letter::Http { done, .. } => {
            let message = Failed::not_leading(leader).message;
            _ = done.send(Response::text(Status::ServiceUnavailable, message));
        }
        Letter::ClusterName(answer) => _ = answer.send(Err(Failed::not_leading(leader))),
        Letter::Errands(_) | Letter::Look | Letter::Stop => {}
    }
}

/// The same for whoever waits for a command's outcome. `may_be_stored`: it was decided, and perhaps made durable.
pub(super) fn reply(reply: Reply, leader: Option<&str>, may_be_stored: bool) {
    let failed = if may_be_stored {
        Failed::new(
            Code::Unknown,
            "another meta leads now, and may or may not know of this: look whether it was done",
        )
    } else {
        Failed::not_leading(leader)
    };
    match reply {
        Reply::Nobody => {}
        Reply::Frame { header, outbox } => outbox.refuse(&header, &failed),
        Reply::Session { session, .. } => session.outbox.kick(),
        Reply::Number(done) => _ = done.send(Err(failed)),
        Reply::Join { done, .. } => _ = done.send(Err(failed)),
        Reply::Apache { rpc, caller, .. } if may_be_stored => caller.time_out(rpc),
        Reply::Apache { rpc, caller, .. } => caller.forward_order(rpc, leader),
    }
}
