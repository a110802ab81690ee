//! Core-to-core rings: for requests that arrive on the wrong core, and for answers on their way back.
//!
//! One bounded ring for each ordered pair of cores, so that each has a single producer and a single consumer and two
//! cores never contend for the same cache line with a third. The target is woken only if it is parked.

use crate::waker::Waker;
use crossbeam_queue::ArrayQueue;
use std::sync::Arc;

/// One core's ends of all its rings. Not shared: the core thread owns it.
#[derive(Debug)]
pub struct MeshEnd<T> {
    core: usize,
    /// By target core.
    outgoing: Vec<Arc<ArrayQueue<T>>>,
    /// By source core.
    incoming: Vec<Arc<ArrayQueue<T>>>,
    wakers: Vec<Waker>,
}

/// The ends for all cores, by core index. Each ring holds `capacity` messages, at least 1; `wakers` has one for each core.
///
/// A core's ring to itself exists too, so that callers need no special case.
#[must_use]
pub fn mesh<T>(wakers: &[Waker], capacity: usize) -> Vec<MeshEnd<T>> {
    let cores = wakers.len();
    let rings: Vec<Vec<Arc<ArrayQueue<T>>>> = (0..cores)
        .map(|_| {
            (0..cores)
                .map(|_| Arc::new(ArrayQueue::new(capacity)))
                .collect()
        })
        .collect();
    (0..cores)
        .map(|core| MeshEnd {
            core,
            outgoing: rings[core].clone(),
            incoming: rings.iter().map(|from| Arc::clone(&from[core])).collect(),
            wakers: wakers.to_vec(),
        })
        .collect()
}

impl<T> MeshEnd<T> {
    /// Hands `message` to core `target`; it wakes up with `IoEvent::Woken` if it slept.
    ///
    /// # Errors
    /// Gives the message back when the ring is full or there is no such core: push back to whoever asked.
    pub fn send(&mut self, target: usize, message: T) -> Result<(), T> {
        let Some(ring) = self.outgoing.get(target) else {
            return Err(message);
        };
        ring.push(message)?;
        self.wakers[target].wake();
        Ok(())
    }

    /// The next message for this core; rings are emptied one after the other, lowest source core first, so callers that
    /// bound their work per turn should go on in the next one.
    pub fn receive(&mut self) -> Option<T> {
        self.incoming.iter().find_map(|ring| ring.pop())
    }

    /// This core's index.
    #[must_use]
    pub const fn core(&self) -> usize {
        self.core
    }

    /// Number of cores.
    #[must_use]
    pub fn core_count(&self) -> usize {
        self.outgoing.len()
    }
}
