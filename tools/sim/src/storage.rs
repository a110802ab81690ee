//! The log disk and the engine of a core at work: flushes that take their time, hang, or come in another order.

use crate::action::{Action, Life};
use crate::history::Violation;
use crate::world::World;
use pegasus_engine::Engine;
use pegasus_replication::event::Event;
use pegasus_replication::ids::{CoreAddress, PartitionId};
use pegasus_replication::log::{LogWrite, LogWriteId};
use pegasus_replication::message::Entry;
use std::ops::Range;
use std::time::Duration;

const FLUSH_DELAY: Range<Duration> = Duration::from_micros(100)..Duration::from_millis(10);
const SLOW_FLUSH_DELAY: Range<Duration> = Duration::from_millis(50)..Duration::from_millis(400);
const ENGINE_DELAY: Range<Duration> = Duration::from_micros(200)..Duration::from_millis(40);

impl World {
    pub(crate) fn write_log(&mut self, address: CoreAddress, write: LogWrite) {
        let core = self.core(address);
        let range = if core.slow_disk_until > self.now {
            SLOW_FLUSH_DELAY
        } else {
            FLUSH_DELAY
        };
        let begun = core.hung_disk_until.max(self.now);
        let at = begun.after(self.random.disk.delay(range));
        let (life, id) = (self.life(address.node), write.id);
        self.core_mut(address).disk.write(write);
        let flushed = Action::Flushed {
            core: address,
            life,
            write: id,
        };
        self.queue.add(at, flushed);
    }

    pub(crate) fn log_flushed(
        &mut self,
        core: CoreAddress,
        life: Life,
        write: LogWriteId,
    ) -> Result<(), Violation> {
        if self.life(core.node) != life {
            return Ok(());
        }
        let hung_until = self.core(core).hung_disk_until;
        if hung_until > self.now {
            let at = hung_until.after(self.random.disk.delay(FLUSH_DELAY));
            self.queue.add(at, Action::Flushed { core, life, write });
            return Ok(());
        }
        self.core_mut(core).disk.flush(write);
        self.core_event(core, Event::LogDurable { write })
    }

    pub(crate) fn apply(
        &mut self,
        address: CoreAddress,
        partition: PartitionId,
        entry: Entry,
    ) -> Result<(), Violation> {
        self.check_applied(address, partition, &entry)?;
        let (now, life) = (self.now, self.life(address.node));
        let core = self.core_mut(address);
        let idle = core.waiting.is_empty();
        core.waiting.push_back((partition, entry));
        let due = core.stalled_until.max(now);
        if idle {
            let core = address;
            self.queue.add(due, Action::ApplyWaiting { core, life });
        }
        Ok(())
    }

    pub(crate) fn apply_waiting(
        &mut self,
        address: CoreAddress,
        life: Life,
    ) -> Result<(), Violation> {
        if self.life(address.node) != life {
            return Ok(());
        }
        let now = self.now;
        let core = self.core_mut(address);
        // The engine is called by the core itself.
        let held_until = core.stalled_until.max(core.paused_until);
        if held_until > now {
            let (due, core) = (held_until, address);
            self.queue.add(due, Action::ApplyWaiting { core, life });
            return Ok(());
        }
        let mut applied = Vec::new();
        for (partition, entry) in core.waiting.drain(..) {
            let mutation = &entry.mutation;
            let outcome = core.engine.apply(
                partition,
                entry.decree,
                entry.ballot,
                mutation.timestamp_us,
                mutation.request_id,
                &mutation.payload,
            );
            outcome.map_err(|error| Violation::invariant(format!("{address}: {error}")))?;
            applied.push((partition, entry.decree));
        }
        let wanted = core.engine.flush_wanted();
        for (partition, decree) in applied {
            self.core_event_of(address, life, Event::Applied { partition, decree })?;
        }
        if let Some(partition) = wanted {
            self.begin_engine_flush(address, partition);
        }
        Ok(())
    }

    pub(crate) fn begin_engine_flush(&mut self, address: CoreAddress, partition: PartitionId) {
        let delay = self.random.engine.delay(ENGINE_DELAY);
        let life = self.life(address.node);
        let core = self.core_mut(address);
        if core.engine.begin_flush(partition).is_ok() {
            let flushed = Action::EngineFlushed {
                core: address,
                life,
                partition,
            };
            self.queue.add(self.now.after(delay), flushed);
        }
    }

    pub(crate) fn engine_flushed(
        &mut self,
        core: CoreAddress,
        life: Life,
        partition: PartitionId,
    ) -> Result<(), Violation> {
        if self.life(core.node) != life {
            return Ok(());
        }
        let now = self.now;
        let sim_core = self.core_mut(core);
        if sim_core.paused_until > now {
            let due = sim_core.paused_until;
            let flushed = Action::EngineFlushed {
                core,
                life,
                partition,
            };
            self.queue.add(due, flushed);
            return Ok(());
        }
        // A flush that takes too long has failed for those who wait for it.
        if sim_core.stalled_until > now {
            sim_core.engine.abort_flush(partition);
            return Ok(());
        }
        match sim_core.engine.flush_unmarked(partition) {
            Some(decree) => self.core_event(core, Event::Flushed { partition, decree }),
            None => Ok(()),
        }
    }
}
