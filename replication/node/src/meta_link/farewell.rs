//! How far a node that was told to stop is with being let go of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Meta has not said anything yet.
const UNTOLD: u32 = u32::MAX;
/// How often it is looked whether the node may go.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A node without a link to meta waits this long for one.
const LINK_PATIENCE: Duration = Duration::from_secs(2);

/// Shared by the link's thread, which writes, and the thread that stops the node, which waits.
#[derive(Clone, Debug)]
pub(super) struct Farewell(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    held: AtomicU32,
    is_linked: AtomicBool,
}

/// How the leaving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// Nothing can be taken off this node any more.
    Free,
    /// Time was up; so many partitions could still have been taken off.
    Late(u32),
    /// Meta is not there, or does not say.
    Alone,
}

impl Farewell {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            held: AtomicU32::new(UNTOLD),
            is_linked: AtomicBool::new(false),
        }))
    }

    /// Meta says so, to a node that leaves.
    pub(super) fn hold(&self, held: u32) {
        self.0.held.store(held.min(UNTOLD - 1), Ordering::Relaxed);
    }

    pub(super) fn link(&self, is_linked: bool) {
        self.0.is_linked.store(is_linked, Ordering::Relaxed);
    }

    /// Waits until nothing is held any more, for `limit` at most, and for less without meta.
    pub(super) fn wait(&self, limit: Duration) -> Parting {
        let began = Instant::now();
        loop {
            let held = self.0.held.load(Ordering::Relaxed);
            let is_alone = held == UNTOLD || !self.0.is_linked.load(Ordering::Relaxed);
            let waited = began.elapsed();
            match held {
                0 => return Parting::Free,
                _ if is_alone && waited >= limit.min(LINK_PATIENCE) => return Parting::Alone,
                held if waited >= limit => return Parting::Late(held),
                _ => std::thread::sleep(LOOK_EVERY),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_node_goes_at_once_when_nothing_is_held() {
        let farewell = Farewell::new();
        farewell.link(true);
        farewell.hold(0);
        assert_eq!(farewell.wait(LONG), Parting::Free);
    }

    #[test]
    fn a_node_does_not_wait_beyond_its_time() {
        let farewell = Farewell::new();
        farewell.link(true);
        farewell.hold(3);
        assert_eq!(farewell.wait(Duration::ZERO), Parting::Late(3));
    }

    #[test]
    fn without_meta_a_node_does_not_wait_for_long() {
        let farewell = Farewell::new();
        assert_eq!(farewell.wait(Duration::ZERO), Parting::Alone);
        farewell.hold(3);
        assert_eq!(farewell.wait(Duration::from_millis(10)), Parting::Alone);
    }
}
