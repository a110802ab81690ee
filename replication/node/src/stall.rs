//! The stall detector: says when a data core has not returned to its loop in time, and what it was doing.
//!
//! Each core writes what it is about to do into an atomic word; one watchdog thread reads the words every few
//! milliseconds. A core that waits for work is not stalled, however long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a core does at the moment. Kept in the low byte of its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Waiting for events, or reaping them.
    Waiting = 0,
    Request = 1,
    PeerMessage = 2,
    LogCompletion = 3,
    Control = 4,
    PoolResult = 5,
    Timer = 6,
    Apply = 7,
    Read = 8,
    RangeRead = 9,
    Send = 10,
    Reply = 11,
    WriteLog = 12,
    Submit = 13,
    Publish = 14,
    Mesh = 15,
}

impl Phase {
    const ALL: [Self; 16] = [
        Self::Waiting,
        Self::Request,
        Self::PeerMessage,
        Self::LogCompletion,
        Self::Control,
        Self::PoolResult,
        Self::Timer,
        Self::Apply,
        Self::Read,
        Self::RangeRead,
        Self::Send,
        Self::Reply,
        Self::WriteLog,
        Self::Submit,
        Self::Publish,
        Self::Mesh,
    ];
}

/// What a core tells the watchdog: number of the turn (upper 56 bits) and phase (lower 8), and the stalls found so far.
#[derive(Debug, Default)]
pub struct Pulse {
    word: AtomicU64,
    stalls: AtomicU64,
}

impl Pulse {
    /// A new turn of the loop begins.
    pub fn turn(&self) {
        let word = self.word.load(Ordering::Relaxed);
        self.word.store(((word >> 8) + 1) << 8, Ordering::Relaxed);
    }

    /// The core is about to do this.
    pub fn enter(&self, phase: Phase) {
        let word = self.word.load(Ordering::Relaxed);
        self.word
            .store((word & !0xff) | phase as u64, Ordering::Relaxed);
    }

    /// Stalls found since the start.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    fn read(&self) -> (u64, Phase) {
        let word = self.word.load(Ordering::Relaxed);
        let phase = Phase::ALL
            .get((word & 0xff) as usize)
            .copied()
            .unwrap_or(Phase::Waiting);
        (word >> 8, phase)
    }
}

/// The watchdog thread; ends when dropped.
#[derive(Debug)]
pub struct Watchdog {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches the cores behind `pulses`, by core number.
    ///
    /// # Errors
    /// The process may not have more threads.
    pub fn start(pulses: Vec<Arc<Pulse>>, limit: Duration) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || {
                let mut watched: Vec<Watched> = pulses.into_iter().map(Watched::new).collect();
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(limit / 2);
                    for (core, watched) in watched.iter_mut().enumerate() {
                        watched.look(core, limit);
                    }
                }
            })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Watched {
    pulse: Arc<Pulse>,
    turn: u64,
    seen_at: std::time::Instant,
    /// Said once for each stall, when it is found.
    is_said: bool,
}

impl Watched {
    fn new(pulse: Arc<Pulse>) -> Self {
        let (turn, _) = pulse.read();
        Self {
            pulse,
            turn,
            seen_at: std::time::Instant::now(),
            is_said: false,
        }
    }

    fn look(&mut self, core: usize, limit: Duration) {
        let (turn, phase) = self.pulse.read();
        let now = std::time::Instant::now();
        if turn != self.turn || phase == Phase::Waiting {
            if self.is_said {
                let stalled_ms = (now - self.seen_at).as_millis();
                tracing::warn!(core, stalled_ms, "data core is back in its loop");
            }
            *self = Self {
                pulse: Arc::clone(&self.pulse),
                turn,
                seen_at: now,
                is_said: false,
            };
        } else if !self.is_said && now - self.seen_at >= limit {
            self.is_said = true;
            self.pulse.stalls.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                core,
                ?phase,
                limit_ms = limit.as_millis(),
                "data core has not returned to its loop"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_within_one_phase_for_too_long_is_counted_once() {
        let pulse = Arc::new(Pulse::default());
        pulse.turn();
        pulse.enter(Phase::Apply);
        let mut watched = Watched::new(Arc::clone(&pulse));
        watched.look(0, Duration::ZERO);
        watched.look(0, Duration::ZERO);
        assert_eq!(pulse.stalls(), 1);
        pulse.turn();
        watched.look(0, Duration::ZERO);
        pulse.enter(Phase::Apply);
        watched.look(0, Duration::ZERO);
        assert_eq!(pulse.stalls(), 2);
    }

    #[test]
    fn a_waiting_core_is_never_stalled() {
        let pulse = Arc::new(Pulse::default());
        let mut watched = Watched::new(Arc::clone(&pulse));
        watched.look(0, Duration::ZERO);
        assert_eq!(pulse.stalls(), 0);
    }
}
