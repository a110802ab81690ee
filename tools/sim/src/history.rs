//! What clients were told, and whether it can be true.
//!
//! Every write puts a value of its own, so a value read names the write it came from. Acknowledged writes carry the
//! decree under which they were committed, which is their place in the order of their partition.

use pegasus_replication::ids::{Decree, Instant, TableId};
use std::collections::BTreeMap;
use std::fmt;

/// A row of a simulated table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) table: TableId,
    pub(crate) partition: u32,
    pub(crate) row: u32,
}

/// Number of a write, and the value it puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Value(pub(crate) u64);

/// How a write ended as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// No answer yet, or one that says "unknown": it may take effect at any time, or never.
    Open,
    Acknowledged {
        at: Instant,
        decree: Decree,
    },
    /// The answer said: not executed.
    NotExecuted,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    key: Key,
    invoked: Instant,
    ending: Ending,
}

/// A violation of what the store promises, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What has been done to one row.
#[derive(Debug, Default)]
struct Row {
    /// The newest acknowledged write, by decree.
    newest: Option<(Decree, Value)>,
    /// The newest decree a completed read has seen.
    seen: Decree,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    writes: BTreeMap<Value, Write>,
    rows: BTreeMap<Key, Row>,
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
}

/// What a reader may rely on, noted when the read begins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expectation {
    at_least: Decree,
}

impl History {
    /// A client sends a write of a fresh value.
    pub(crate) fn invoke_write(&mut self, now: Instant, key: Key) -> Value {
        let value = Value(self.writes.len() as u64 + 1);
        self.writes.insert(
            value,
            Write {
                key,
                invoked: now,
                ending: Ending::Open,
            },
        );
        value
    }

    pub(crate) fn end_write(&mut self, value: Value, ending: Ending) -> Result<(), Violation> {
        let write = self
            .writes
            .get_mut(&value)
            .expect("a write ends after it began");
        write.ending = ending;
        if let Ending::Acknowledged { decree, .. } = ending {
            self.acknowledged += 1;
            let row = self.rows.entry(write.key).or_default();
            match row.newest {
                Some((newest, other)) if newest == decree => {
                    return Err(Violation(format!(
                        "writes {} and {} of {:?} were both acknowledged as decree {decree}",
                        other.0, value.0, write.key
                    )));
                }
                Some((newest, _)) if newest > decree => {}
                _ => row.newest = Some((decree, value)),
            }
        }
        Ok(())
    }

    /// A client begins a read: everything acknowledged or seen so far must be visible to it.
    pub(crate) fn invoke_read(&self, key: Key) -> Expectation {
        let Some(row) = self.rows.get(&key) else {
            return Expectation::default();
        };
        let acknowledged = row.newest.map_or(Decree::ZERO, |(decree, _)| decree);
        Expectation {
            at_least: acknowledged.max(row.seen),
        }
    }

    /// The read has returned `found`.
    pub(crate) fn end_read(
        &mut self,
        key: Key,
        expected: Expectation,
        found: Option<Value>,
    ) -> Result<(), Violation> {
        self.reads += 1;
        let Some(value) = found else {
            return if expected.at_least > Decree::ZERO {
                Err(Violation(format!(
                    "{key:?} was read as missing after decree {} of it",
                    expected.at_least
                )))
            } else {
                Ok(())
            };
        };
        let write = self.check_origin(key, value)?;
        if let Ending::Acknowledged { decree, .. } = write.ending {
            if decree < expected.at_least {
                return Err(Violation(format!(
                    "stale read of {key:?}: write {} of decree {decree} after decree {} was acknowledged or seen",
                    value.0, expected.at_least
                )));
            }
            let row = self.rows.entry(key).or_default();
            row.seen = row.seen.max(decree);
        }
        Ok(())
    }

    /// After everything has come to rest: `found` must be the newest acknowledged write or one of open outcome.
    pub(crate) fn check_final(&self, key: Key, found: Option<Value>) -> Result<(), Violation> {
        let newest = self.rows.get(&key).and_then(|row| row.newest);
        let Some(value) = found else {
            return match newest {
                Some((decree, lost)) => Err(Violation(format!(
                    "write {} of {key:?}, acknowledged as decree {decree}, is lost",
                    lost.0
                ))),
                None => Ok(()),
            };
        };
        let write = self.check_origin(key, value)?;
        match (write.ending, newest) {
            (Ending::Acknowledged { decree, .. }, Some((newest, lost))) if decree < newest => {
                Err(Violation(format!(
                    "{key:?} ends as write {} of decree {decree}, but write {} was acknowledged as decree {newest}",
                    value.0, lost.0
                )))
            }
            _ => Ok(()),
        }
    }

    /// Every row that was ever written to.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.writes
            .values()
            .map(|write| write.key)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
    }

    fn check_origin(&self, key: Key, value: Value) -> Result<Write, Violation> {
        let Some(write) = self.writes.get(&value) else {
            return Err(Violation(format!(
                "{key:?} holds {}, which nobody wrote",
                value.0
            )));
        };
        if write.key != key {
            return Err(Violation(format!(
                "{key:?} holds write {}, which was of {:?}",
                value.0, write.key
            )));
        }
        if write.ending == Ending::NotExecuted {
            return Err(Violation(format!(
                "{key:?} holds write {} (begun at {} ns), which was answered as not executed",
                value.0, write.invoked.0
            )));
        }
        Ok(*write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key {
        table: TableId(1),
        partition: 0,
        row: 1,
    };

    fn acknowledged(history: &mut History, decree: u64) -> Value {
        let value = history.invoke_write(Instant(1), KEY);
        let ending = Ending::Acknowledged {
            at: Instant(2),
            decree: Decree(decree),
        };
        history.end_write(value, ending).expect("a fresh decree");
        value
    }

    #[test]
    fn a_stale_read_is_a_violation() {
        let mut history = History::default();
        let old = acknowledged(&mut history, 5);
        let before = history.invoke_read(KEY);
        let new = acknowledged(&mut history, 6);
        let after = history.invoke_read(KEY);
        assert_eq!(history.end_read(KEY, before, Some(old)), Ok(()));
        assert!(history.end_read(KEY, after, Some(old)).is_err());
        assert!(history.end_read(KEY, after, None).is_err());
        assert_eq!(history.end_read(KEY, after, Some(new)), Ok(()));
    }

    #[test]
    fn what_a_read_has_shown_later_reads_must_show() {
        let mut history = History::default();
        let old = acknowledged(&mut history, 5);
        let new = history.invoke_write(Instant(3), KEY);
        let early = history.invoke_read(KEY);
        history
            .end_write(
                new,
                Ending::Acknowledged {
                    at: Instant(9),
                    decree: Decree(6),
                },
            )
            .expect("fresh");
        assert_eq!(history.end_read(KEY, early, Some(new)), Ok(()));
        assert!(
            history
                .end_read(KEY, history.invoke_read(KEY), Some(old))
                .is_err()
        );
    }

    #[test]
    fn a_lost_or_foreign_or_refused_write_is_a_violation() {
        let mut history = History::default();
        acknowledged(&mut history, 5);
        let refused = history.invoke_write(Instant(3), KEY);
        history
            .end_write(refused, Ending::NotExecuted)
            .expect("no decree");
        let open = history.invoke_write(Instant(4), KEY);
        assert!(history.check_final(KEY, None).is_err());
        assert!(history.check_final(KEY, Some(refused)).is_err());
        assert!(history.check_final(KEY, Some(Value(99))).is_err());
        assert!(
            history
                .check_final(Key { row: 2, ..KEY }, Some(open))
                .is_err()
        );
        assert_eq!(history.check_final(KEY, Some(open)), Ok(()));
    }

    #[test]
    fn one_decree_acknowledges_one_write() {
        let mut history = History::default();
        acknowledged(&mut history, 5);
        let twin = history.invoke_write(Instant(3), KEY);
        assert!(
            history
                .end_write(
                    twin,
                    Ending::Acknowledged {
                        at: Instant(4),
                        decree: Decree(5)
                    }
                )
                .is_err()
        );
    }
}
