//! A store that is older than its replicas: one that was restored from a copy, or another than the nodes have followed since.
//!
//! Meta makes every number and every ballot durable before anybody hears of it. A node that knows a later one therefore proves
//! that this store has lost something, and whatever follows from the store may be wrong: a ballot that is given again has two
//! configurations, a number that is given again two replicas, and a table that is condemned here may have been called back.
//! From that moment on nothing is decided: no ballot, no number, no deletion. Nodes go on with what they know, and
//! `pegasus-meta recover --base` builds the state anew.
//!
//! What cannot be seen: that a store is old, as long as only nodes have reported that know nothing newer.

use super::State;
use super::command::{Answer, Command, Refusal};
use super::report::Report;
use pegasus_replication::ids::NodeId;

impl State {
    /// What proves that the store is older than the replicas, in words; `None`: nothing does.
    #[must_use]
    pub fn behind(&self) -> Option<&str> {
        self.behind.as_deref()
    }

    /// Holds what a node says against the store.
    pub(super) fn look_for_proof(&mut self, node: NodeId, report: &Report) {
        // A deliberate bug must be found by what comes of it.
        if self.behind.is_some() || pegasus_replication::planted!(BallotReusedAfterRestart) {
            return;
        }
        let Some(proof) = self.proof(report) else {
            return;
        };
        let proof = format!("node {node} {proof}");
        tracing::error!(
            proof,
            "the store is older than the replicas; nothing is decided from now on: stop this meta and rebuild its state with `pegasus-meta recover --base`"
        );
        self.behind = Some(proof);
    }

    fn proof(&self, report: &Report) -> Option<String> {
        let counters = self.durable.counters();
        let told = report.tables.iter().map(|it| it.table);
        if let Some(table) = told.into_iter().find(|it| it.0 >= counters.next_table) {
            return Some(format!(
                "knows table {table}, and this store has never made one of that number"
            ));
        }
        report.replicas.iter().find_map(|(key, status)| {
            let id = key.partition;
            if id.table.0 >= counters.next_table || key.incarnation.0 >= counters.next_incarnation {
                return Some(format!(
                    "has replica {} of partition {id}, and this store has never given that number",
                    key.incarnation
                ));
            }
            let table = self.durable.tables().get(&id.table)?;
            let ballot = table.partition(id.index)?.ballot;
            let known = status.configuration.as_ref().map(|it| it.ballot);
            let highest = known
                .into_iter()
                .chain([status.ballot, status.prepared_ballot])
                .max()?;
            (highest > ballot).then(|| {
                format!(
                    "has partition {id} under ballot {highest}, and this store has given {ballot}"
                )
            })
        })
    }

    /// What is left of a command once the store is known to be too old; `None`: all of it.
    pub(super) fn held_back(&mut self, command: &Command) -> Option<Result<Answer, Refusal>> {
        let proof = self.behind.clone()?;
        match command {
            // They are listened to, so that people see what is there.
            Command::JoinNode { .. } | Command::Report { .. } | Command::NodeLost { .. } => None,
            Command::Propose { .. } => Some(Ok(Answer::Done)),
            Command::Tick { now_ms } => {
                self.note_silent(*now_ms);
                Some(Ok(Answer::Done))
            }
            _ => Some(Err(Refusal::Behind(proof))),
        }
    }
}
