//! One cell: which of its writes a read may return. Times are nanoseconds of one clock.

use super::state::Left;

/// What a read returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Absent,
    Version(u64),
}

/// What is thought of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    True,
    /// It was overwritten about when the read was sent, and the cell is too hot to remember the order.
    TooOldToTell,
    False {
        fault: Fault,
        expected: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Lost,
    Stale,
    NeverWritten,
}

/// What a write wrote. The state before the run counts as a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Absent,
    Version(u64),
    /// Some version of an earlier run, not seen yet.
    Earlier,
    /// The same, or nothing.
    EarlierOrAbsent,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    content: Content,
    began: u64,
    /// From when on it is known to be in effect.
    effective: u64,
    /// From when on it is known to be overwritten. 0 for a refused one.
    dead: u64,
}

const NEVER: u64 = u64::MAX;

/// See `super`.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    writes: Vec<Write>,
    /// The newest version ever begun here.
    newest: u64,
    /// The newest one known of earlier runs.
    known: u64,
    /// Overwritten writes up to this moment may have been forgotten.
    forgotten_until: u64,
}

/// Overwritten writes that are remembered, for reads that were sent before.
const DEAD_MAX: usize = 64;

impl Cell {
    /// Nothing is known but that something is there, or perhaps not.
    pub(super) fn unknown(may_be_absent: bool) -> Self {
        Self::starting_with(if may_be_absent {
            Content::EarlierOrAbsent
        } else {
            Content::Earlier
        })
    }

    pub(super) fn absent() -> Self {
        Self::starting_with(Content::Absent)
    }

    /// As an earlier run left it.
    pub(super) fn left(left: &Left) -> Self {
        let writes = |versions: &[u64], effective| -> Vec<Write> {
            let write = |version: &u64| Write {
                content: match *version {
                    0 => Content::Absent,
                    version => Content::Version(version),
                },
                began: 0,
                effective,
                dead: NEVER,
            };
            versions.iter().map(write).collect()
        };
        let mut all = writes(&left.live, 0);
        all.extend(writes(&left.open, NEVER));
        let newest = left.live.iter().chain(&left.open).copied().max();
        Self {
            newest: newest.unwrap_or(0),
            known: newest.unwrap_or(0),
            writes: all,
            forgotten_until: 0,
        }
    }

    /// Later writes than the known ones may have been made before the run, by one that was not finished.
    pub(super) fn or_later(mut self) -> Self {
        self.writes.push(Write {
            content: Content::Earlier,
            began: 0,
            effective: NEVER,
            dead: NEVER,
        });
        self
    }

    pub(super) fn write_begins(&mut self, version: u64, at: u64) {
        self.newest = self.newest.max(version);
        self.writes.push(Write {
            content: Content::Version(version),
            began: at,
            effective: NEVER,
            dead: NEVER,
        });
    }

    /// The write was acknowledged.
    pub(super) fn in_effect(&mut self, version: u64, at: u64) {
        if let Some(index) = self.position(Answer::Version(version), 0) {
            self.take_effect(index, at, 0);
        }
    }

    /// The write was refused for good.
    pub(super) fn refused(&mut self, version: u64) {
        if let Some(index) = self.position(Answer::Version(version), 0) {
            self.writes[index].dead = 0;
            self.writes[index].effective = NEVER;
            self.forget();
        }
    }

    /// Judges what a read between `began` and `ended` returned, and learns from it. Versions up to `base` are of
    /// earlier runs.
    pub(super) fn read_ends(
        &mut self,
        answer: Answer,
        began: u64,
        ended: u64,
        base: u64,
    ) -> Judged {
        let Some(index) = self.position(answer, base) else {
            return self.unknown_answer(answer, began);
        };
        let write = &mut self.writes[index];
        if write.dead < began || write.dead == 0 {
            let fault = match (answer, write.dead) {
                (Answer::Absent, _) => Fault::Lost,
                (_, 0) => Fault::NeverWritten,
                _ => Fault::Stale,
            };
            return self.wrong(fault);
        }
        write.content = match answer {
            Answer::Absent => Content::Absent,
            Answer::Version(version) => {
                self.newest = self.newest.max(version);
                Content::Version(version)
            }
        };
        self.take_effect(index, ended, began);
        Judged::True
    }

    pub(super) fn was_written(&self) -> bool {
        self.writes.iter().any(|write| write.began > 0)
    }

    /// What a later run has to know; `None` if nothing is known.
    pub(super) fn leaves(&self) -> Option<Left> {
        let versions = |effective: bool| -> Option<Vec<u64>> {
            // What an unfinished run may have written beyond what was seen is over by now.
            let guess =
                |write: &Write| write.content == Content::Earlier && write.effective == NEVER;
            let alive = self.writes.iter().filter(|write| {
                write.dead == NEVER && !guess(write) && (write.effective != NEVER) == effective
            });
            alive
                .map(|write| match write.content {
                    Content::Absent => Some(0),
                    Content::Version(version) => Some(version),
                    Content::Earlier | Content::EarlierOrAbsent => None,
                })
                .collect()
        };
        Some(Left {
            live: versions(true)?,
            open: versions(false)?,
        })
    }

    fn starting_with(content: Content) -> Self {
        let write = Write {
            content,
            began: 0,
            effective: 0,
            dead: NEVER,
        };
        Self {
            writes: vec![write],
            newest: 0,
            known: 0,
            forgotten_until: 0,
        }
    }

    /// A write is in effect from `at` on. Those that were in effect when it was sent, or before `also_before`, came
    /// before it.
    fn take_effect(&mut self, index: usize, at: u64, also_before: u64) {
        let write = &mut self.writes[index];
        write.effective = write.effective.min(at);
        let (effective, before) = (write.effective, write.began.max(also_before));
        for (other, older) in self.writes.iter_mut().enumerate() {
            if other != index && older.effective < before {
                older.dead = older.dead.min(effective);
            }
        }
        self.forget();
    }

    /// The write that an answer shows.
    fn position(&self, answer: Answer, base: u64) -> Option<usize> {
        let exact = match answer {
            Answer::Absent => Content::Absent,
            Answer::Version(version) => Content::Version(version),
        };
        let may_be = |content: Content| match (content, answer) {
            (Content::EarlierOrAbsent, Answer::Absent) => true,
            (Content::Earlier | Content::EarlierOrAbsent, Answer::Version(version)) => {
                self.known < version && version <= base
            }
            _ => false,
        };
        let find = |matches: &dyn Fn(Content) -> bool| {
            self.writes.iter().rposition(|write| matches(write.content))
        };
        find(&|content| content == exact).or_else(|| find(&may_be))
    }

    fn unknown_answer(&self, answer: Answer, began: u64) -> Judged {
        match answer {
            _ if self.forgotten_until >= began => Judged::TooOldToTell,
            Answer::Absent => self.wrong(Fault::Lost),
            Answer::Version(version) if version > self.newest => self.wrong(Fault::NeverWritten),
            Answer::Version(_) => self.wrong(Fault::Stale),
        }
    }

    fn wrong(&self, fault: Fault) -> Judged {
        let shown = |write: &Write| match write.content {
            Content::Absent => "nothing".to_owned(),
            Content::Version(version) => format!("version {version}"),
            Content::Earlier => "a version of an earlier run".to_owned(),
            Content::EarlierOrAbsent => "nothing, or a version of an earlier run".to_owned(),
        };
        let alive = self.writes.iter().filter(|write| write.dead == NEVER);
        let expected: Vec<String> = alive.map(shown).collect();
        Judged::False {
            fault,
            expected: expected.join(" or "),
        }
    }

    /// Drops the writes that were overwritten first, if there are too many.
    fn forget(&mut self) {
        let dead = |write: &Write| write.dead != NEVER;
        if self.writes.iter().filter(|write| dead(write)).count() <= DEAD_MAX {
            return;
        }
        let first = self
            .writes
            .iter()
            .enumerate()
            .min_by_key(|(_, write)| write.dead)
            .map(|(index, _)| index);
        if let Some(index) = first {
            let write = self.writes.remove(index);
            self.forgotten_until = self.forgotten_until.max(write.dead);
        }
    }
}
