//! How answers that leave together are recorded: each counts and adds up its time, but in the buckets of the stages'
//! histograms one stands for a few.
//!
//! Which one is left to chance: the place in a turn decides how long a request waits for those before it.

use super::traces::{Trace, Traces};
use crate::slow::SlowReporter;
use pegasus_fbs::stats_page::{Class, Stage, Timing, Writer};
use pegasus_net::Sent;
use std::sync::atomic::AtomicU64;

/// Requests of one group, at most.
const GROUP_MAX: usize = 8;
/// Groups of the answers that leave together, at least, if there are as many.
const GROUPS_MIN: usize = 2;

/// Records answers in groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// By class; empty between groups.
    members: [Members; Class::ALL.len()],
    /// Picks who stands for a group.
    dice: u32,
}

/// Requests of one class in a group.
#[derive(Clone, Copy, Debug, Default)]
struct Members {
    count: u64,
    sums: [u64; Stage::COUNT],
    /// The slot of the trace that stands for them.
    sample: u32,
}

/// Equal totals, one after the other, that are not in their histogram yet.
#[derive(Clone, Copy, Debug)]
struct Totals {
    operation: Timing,
    ns: u64,
    count: u64,
}

impl Groups {
    /// Ends the traces of answers that have left, and records them. `wall_us` is asked for slow ones only.
    pub(super) fn record<P: AsRef<[AtomicU64]>>(
        &mut self,
        sent: &[Sent],
        traces: &mut Traces,
        writer: &mut Writer<P>,
        slow: &mut SlowReporter,
        wall_us: fn() -> u64,
    ) {
        let mut totals = Totals::NONE;
        for group in sent.chunks(len_of_groups(sent.len())) {
            let place = self.place_in(group.len());
            for (index, Sent { receipt, at_ns }) in group.iter().enumerate() {
                let Some(trace) = traces.end(*receipt, *at_ns) else {
                    continue;
                };
                let total_ns = trace.total_ns();
                totals.add(trace.operation, total_ns, writer);
                if writer.is_slow(total_ns) {
                    writer.keep_slow(&trace.times(), wall_us());
                }
                if slow.may_be_slow(total_ns) {
                    slow.answered(Some(*receipt), trace.times(), wall_us());
                }
                if group.len() == 1 {
                    writer.record_stages(trace.class(), &trace.stages, &trace.stages, 1);
                    continue;
                }
                let members = &mut self.members[trace.class() as usize];
                // The one in that place, or of this class the last before it, or the first after it.
                if members.count == 0 || index <= place {
                    members.sample = *receipt;
                }
                members.add(trace);
            }
            self.end(traces, writer);
        }
        totals.end(writer);
    }

    /// All of a group have been added.
    fn end<P: AsRef<[AtomicU64]>>(&mut self, traces: &Traces, writer: &mut Writer<P>) {
        for (class, members) in Class::ALL.into_iter().zip(&mut self.members) {
            if members.count > 0 {
                let sample = &traces.ended(members.sample).stages;
                writer.record_stages(class, sample, &members.sums, members.count);
                *members = Members::default();
            }
        }
    }

    /// A place below `len`, which is at most [`GROUP_MAX`]. Any pattern in the order of requests would be met by one in
    /// the places, so they follow none (the generator of Numerical Recipes).
    const fn place_in(&mut self, len: usize) -> usize {
        self.dice = self
            .dice
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        ((self.dice >> 16) as usize * len) >> 16
    }
}

impl Members {
    fn add(&mut self, trace: &Trace) {
        self.count += 1;
        for (sum, ns) in self.sums.iter_mut().zip(&trace.stages) {
            *sum = sum.wrapping_add(*ns);
        }
    }
}

impl Totals {
    const NONE: Self = Self {
        operation: Timing::Get,
        ns: 0,
        count: 0,
    };

    fn add<P: AsRef<[AtomicU64]>>(&mut self, operation: Timing, ns: u64, writer: &mut Writer<P>) {
        if self.operation != operation || self.ns != ns {
            self.end(writer);
            *self = Self {
                operation,
                ns,
                count: 0,
            };
        }
        self.count += 1;
    }

    fn end<P: AsRef<[AtomicU64]>>(self, writer: &mut Writer<P>) {
        if self.count > 0 {
            writer.record_equal(self.operation, self.ns, self.count);
        }
    }
}

/// Few answers leave: each stands for itself.
fn len_of_groups(count: usize) -> usize {
    (count / GROUPS_MIN).clamp(1, GROUP_MAX)
}

#[cfg(test)]
mod tests;
