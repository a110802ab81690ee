//! What it means when requests spend their time in a stage, and what usually helps.

use pegasus_fbs::stats_page::{Class, Stage};

/// What a request does or waits for in a stage.
pub(super) const fn what(stage: Stage) -> &'static str {
    match stage {
        Stage::Decode => "bytes become requests",
        Stage::Queue => "waiting for the core",
        Stage::Gate => "waiting for the right to be served",
        Stage::LogWait => "waiting for the log flushes before its own",
        Stage::Flush => "write and fdatasync of the log on this node",
        Stage::Replication => "what the secondaries take beyond this node's own flush",
        Stage::Apply => "the engine takes the write, its wait for the engine included",
        Stage::Read => "the engine reads, from memory or from the disk",
        Stage::Encode => "the answers of the turn become bytes",
        Stage::Send => "until the kernel has taken the answer",
    }
}

/// What to look at when this stage takes most of the time.
pub(super) const fn advice(class: Class, stage: Stage) -> &'static str {
    match (class, stage) {
        (_, Stage::Decode) => {
            "very large requests, or very many at once: smaller values or batches, or more cores"
        }
        (_, Stage::Queue) => {
            "the core is busy with other requests, or does not get its CPU: see turn and stalls below, and what else runs on that CPU; more cores or partitions spread the load, `core list` shows whether other cores are idle"
        }
        (Class::Read, Stage::Gate) => {
            "partitions were not ready to serve (a start, a new primary): see `table show`"
        }
        (Class::Write, Stage::Gate) => {
            "answers were ready before they might be given: see `table show` and the links to the secondaries"
        }
        (_, Stage::LogWait) => {
            "each flush takes long, so that writes queue behind it: treat it like flush, the drive is the limit"
        }
        (_, Stage::Flush) => {
            "the drive: compare with `pegasus-bench floor --dir` of the data directory, look for others that write to it; a drive with power-loss protection flushes in microseconds"
        }
        (_, Stage::Replication) => {
            "the secondaries or the network to them: compare log_flush of their cores (`core show` of the nodes in `table show`) with secondary_ack here; low there and high here is the network"
        }
        (_, Stage::Apply) => {
            "the engine is behind: memtables being flushed or compactions (rejects and memtables below, the disk), or the core is busy with other requests"
        }
        (_, Stage::Read) => {
            "reads that miss the block cache wait for the disk: see cache hits and disk reads below; a larger memory.cache or more cpu.engine_threads. With all hits: large or long range reads"
        }
        (_, Stage::Encode) => "large answers: fewer rows or bytes for each request",
        (_, Stage::Send) => {
            "clients do not read their answers as fast as they come, or the answers are large: look at the client's CPU and the network"
        }
    }
}
