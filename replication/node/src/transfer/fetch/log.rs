//! Pieces of one core's log, for several learners of a core of ours at once.

use super::{FetchError, FetchJob, Fetched, Permit, Wanted, ask, fail};
use crate::connection::Connection;
use crate::inbox::CoreInput;
use crate::transfer::frames::{self, Entries, FrameError, Open};
use crate::transfer::{SESSION_TIMEOUT, Shared, TransferCore};
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::{Frame, FrameKind};
use pegasus_replication::ids::Decree;
use pegasus_replication::log::recover::SuffixRange;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Pieces that the core has been told of and has not taken yet, per learner.
const PIECES_MAX: usize = 4;
/// Between two looks at whether the core has taken one.
const PIECE_WAIT: Duration = Duration::from_millis(1);
/// How long a core may take for that.
const PIECE_WAIT_MAX: Duration = Duration::from_secs(30);

/// One learner, and how far it has got.
struct Learner {
    job: FetchJob,
    range: SuffixRange,
    last: Decree,
    taken: Arc<AtomicUsize>,
    is_over: bool,
}

/// Fetches what all of `jobs` want, of one core of one node for one core of ours, and tells that core.
pub(in crate::transfer) fn logs(shared: &Shared, jobs: Vec<FetchJob>) {
    let core = jobs.first().map(|job| usize::from(job.core.0));
    let Some(core) = core.and_then(|core| shared.cores.get(core)) else {
        return;
    };
    let mut learners: Vec<Learner> = jobs.into_iter().filter_map(Learner::new).collect();
    while !learners.is_empty() {
        let before = learners.len();
        let ended = fetch_some(shared, core, &mut learners);
        // A replica that is gone ends nobody's fetch but its own.
        learners.retain(|learner| !learner.is_over && !learner.job.is_cancelled(shared));
        let Err(error) = ended else { continue };
        if matches!(error, FetchError::Cancelled) {
            continue;
        }
        if error.is_missing()
            && let Some(first) = learners.first_mut()
        {
            // From a node that knows one replica in a session only, the first.
            fail(&first.job, core, &error, true);
            first.is_over = true;
            learners.retain(|learner| !learner.is_over);
        } else if learners.len() == before || !error.is_end() {
            for learner in &learners {
                fail(&learner.job, core, &error, false);
            }
            return;
        }
    }
}

/// One session for all of them.
fn fetch_some(
    shared: &Shared,
    core: &TransferCore,
    learners: &mut [Learner],
) -> Result<(), FetchError> {
    let ranges = learners.iter().map(|learner| learner.range).collect();
    let job = &learners[0].job;
    let (mut connection, frame) = ask(shared, job, SESSION_TIMEOUT, &Open::Log(ranges))?;
    let _guard = shared.guard(connection.stream()?);
    let mut frame = Some(frame);
    loop {
        let next = match frame.take() {
            Some(frame) => frame,
            None => next_frame(&mut connection)?,
        };
        take_piece(shared, core, learners, &next)?;
        if learners.iter().all(|learner| learner.is_over) {
            return Ok(());
        }
    }
}

fn next_frame(connection: &mut Connection) -> Result<Frame, FetchError> {
    let frame = connection.receive()?;
    Ok(frames::expect(frame, FrameKind::TransferEntries)?)
}

/// Hands what has arrived to the core, in the name of the learner whose it is.
fn take_piece(
    shared: &Shared,
    core: &TransferCore,
    learners: &mut [Learner],
    frame: &Frame,
) -> Result<(), FetchError> {
    shared.receiving.take(frame.body.len());
    let piece = Entries::decode(&frame.body)?;
    for learner in learners.iter_mut() {
        learner.is_over |= learner.job.is_cancelled(shared);
    }
    let mut learners = learners.iter_mut();
    let learner = match piece.partition {
        None => learners.next(),
        Some(partition) => learners.find(|learner| learner.range.partition == partition),
    };
    let Some(learner) = learner else {
        return Err(FetchError::Content("nobody has asked for this partition"));
    };
    if learner.is_over {
        return Ok(());
    }
    if let Err(error) = learner.take(shared, core, piece) {
        let is_missing = matches!(error, FetchError::Missing(_));
        fail(&learner.job, core, &error, is_missing);
        learner.is_over = true;
    }
    Ok(())
}

impl Learner {
    fn new(job: FetchJob) -> Option<Self> {
        let Wanted::Log { after, up_to } = job.wanted else {
            return None;
        };
        let range = SuffixRange {
            partition: job.partition,
            incarnation: job.source_incarnation,
            after,
            up_to,
        };
        Some(Self {
            job,
            range,
            last: after,
            taken: Arc::default(),
            is_over: false,
        })
    }

    fn take(
        &mut self,
        shared: &Shared,
        core: &TransferCore,
        piece: Entries,
    ) -> Result<(), FetchError> {
        if let Some(missing) = piece.missing {
            return Err(FetchError::Missing(missing));
        }
        if let Some(first) = piece.entries.first()
            && first.decree != self.last.next()
        {
            return Err(FetchError::Content("the source has left a decree out"));
        }
        self.last = piece.entries.last().map_or(self.last, |entry| entry.decree);
        self.wait_for_room(shared)?;
        self.is_over = piece.is_last;
        // A further session, if there has to be one, goes on from there.
        self.range.after = self.last;
        core.inbox.send(CoreInput::Fetched(Fetched::Entries {
            job: self.job.number,
            partition: self.job.partition,
            entries: piece.entries,
            is_last: piece.is_last,
            permit: Permit::take(&self.taken),
        }));
        Ok(())
    }

    /// The core takes pieces at its own pace: it has clients.
    fn wait_for_room(&self, shared: &Shared) -> Result<(), FetchError> {
        let started = Instant::now();
        while self.taken.load(Ordering::Acquire) >= PIECES_MAX {
            if self.job.is_cancelled(shared) {
                return Err(FetchError::Cancelled);
            }
            if started.elapsed() > PIECE_WAIT_MAX {
                return Err(FetchError::Content(
                    "the core does not take what has arrived",
                ));
            }
            thread::sleep(PIECE_WAIT);
        }
        if self.job.is_cancelled(shared) {
            return Err(FetchError::Cancelled);
        }
        Ok(())
    }
}

impl FetchError {
    /// The source, one that knows a single replica in a session, does not hold what is wanted of its log.
    const fn is_missing(&self) -> bool {
        matches!(self, Self::Frame(FrameError::Refused { code, .. }) if matches!(code, Code::NotFound))
    }

    /// The source has ended the session.
    fn is_end(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof)
    }
}
