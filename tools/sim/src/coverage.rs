//! What runs have met: every fault against every role, every kind of event. What was never met was never tested.

use crate::scenario::{FAULTS, Fault};
use pegasus_replication::event::Event;
use pegasus_replication::message::Message;
use std::collections::BTreeMap;

/// What a fault has struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Struck {
    Primary,
    Secondary,
    /// A node without either.
    Nobody,
    /// Meta, or everything.
    Cluster,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    faults: BTreeMap<Fault, u64>,
    struck: BTreeMap<(Fault, Struck), u64>,
    events: BTreeMap<&'static str, u64>,
    /// Things worth counting that are neither, for example how often recovery found damage.
    notes: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub(crate) fn note_fault(&mut self, fault: Fault, struck: impl IntoIterator<Item = Struck>) {
        *self.faults.entry(fault).or_default() += 1;
        for role in struck {
            *self.struck.entry((fault, role)).or_default() += 1;
        }
    }

    pub(crate) fn note_event(&mut self, event: &Event) {
        *self.events.entry(name_of(event)).or_default() += 1;
    }

    pub(crate) fn note(&mut self, what: &'static str) {
        *self.notes.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        add_all(&mut self.faults, &other.faults);
        add_all(&mut self.struck, &other.struck);
        add_all(&mut self.events, &other.events);
        add_all(&mut self.notes, &other.notes);
    }

    pub(crate) fn fault_count(&self) -> u64 {
        self.faults.values().sum()
    }

    /// What should have been met, and was not.
    pub(crate) fn missing(&self) -> Vec<String> {
        let expected = FAULTS.into_iter().flat_map(|fault| {
            let roles: &[Struck] = if fault.strikes_replicas() {
                &[Struck::Primary, Struck::Secondary]
            } else {
                &[Struck::Cluster]
            };
            roles.iter().map(move |role| (fault, *role))
        });
        let faults = expected
            .filter(|key| !self.struck.contains_key(key))
            .map(|(fault, role)| format!("{fault:?} of {role:?}"));
        let events = EVENTS
            .into_iter()
            .filter(|name| !self.events.contains_key(name))
            .map(|name| format!("event {name}"));
        faults.chain(events).collect()
    }

    /// A line for each kind of fault, then events and notes.
    pub(crate) fn lines(&self) -> Vec<String> {
        let faults = FAULTS.into_iter().map(|fault| {
            let count = self.faults.get(&fault).copied().unwrap_or_default();
            let roles = self.struck.iter().filter(|((of, _), _)| *of == fault);
            let roles: Vec<String> = roles
                .map(|((_, role), count)| format!("{role:?} {count}"))
                .collect();
            format!("  {fault:?}: {count} ({})", roles.join(", "))
        });
        let list = |counts: &BTreeMap<&'static str, u64>| {
            let each: Vec<String> = counts
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            each.join(", ")
        };
        let mut lines: Vec<String> = faults.collect();
        lines.push(format!("  events: {}", list(&self.events)));
        lines.push(format!("  seen: {}", list(&self.notes)));
        lines
    }
}

fn add_all<K: Ord + Copy>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, count) in from {
        *to.entry(*key).or_default() += count;
    }
}

/// Every name that [`name_of`] can give.
const EVENTS: [&str; 33] = [
    "Write",
    "Atomic",
    "Computed",
    "Read",
    "ReadDone",
    "Prepare",
    "PrepareAck",
    "PrepareReject",
    "Beacon",
    "BeaconAck",
    "PeerUp",
    "PeerDown",
    "LogDurable",
    "LogFailed",
    "SegmentReady",
    "Configured",
    "Created",
    "ReplicaFailed",
    "Applied",
    "Flushed",
    "Dropped",
    "Pressure",
    "Timeout",
    "PeerRefused",
    "Fence",
    "LearnerAssigned",
    "HandOver",
    "LogFetched",
    "CheckpointInstalled",
    "FetchFailed",
    "LearnRequest",
    "LearnReply",
    "Yield",
];

const fn name_of(event: &Event) -> &'static str {
    match event {
        Event::Write { .. } => "Write",
        Event::Atomic { .. } => "Atomic",
        Event::Computed { .. } => "Computed",
        Event::Read { .. } => "Read",
        Event::ReadDone { .. } => "ReadDone",
        Event::Message { message, .. } => message_name(message),
        Event::PeerUp { .. } => "PeerUp",
        Event::PeerDown { .. } => "PeerDown",
        Event::LogDurable { .. } => "LogDurable",
        Event::LogFailed { .. } => "LogFailed",
        Event::SegmentReady { .. } => "SegmentReady",
        Event::Configured { .. } => "Configured",
        Event::Created { .. } => "Created",
        Event::ReplicaFailed { .. } => "ReplicaFailed",
        Event::Applied { .. } => "Applied",
        Event::Flushed { .. } => "Flushed",
        Event::Dropped { .. } => "Dropped",
        Event::Pressure { .. } => "Pressure",
        Event::Timeout => "Timeout",
        Event::PeerRefused { .. } => "PeerRefused",
        Event::Fence => "Fence",
        Event::LearnerAssigned { .. } => "LearnerAssigned",
        Event::HandOver { .. } => "HandOver",
        Event::LogFetched { .. } => "LogFetched",
        Event::CheckpointInstalled { .. } => "CheckpointInstalled",
        Event::FetchFailed { .. } => "FetchFailed",
    }
}

pub(crate) const fn message_name(message: &Message) -> &'static str {
    match message {
        Message::Prepare(_) => "Prepare",
        Message::PrepareAck(_) => "PrepareAck",
        Message::PrepareReject(_) => "PrepareReject",
        Message::Beacon(_) => "Beacon",
        Message::BeaconAck(_) => "BeaconAck",
        Message::LearnRequest(_) => "LearnRequest",
        Message::LearnReply(_) => "LearnReply",
        Message::Yield(_) => "Yield",
    }
}
