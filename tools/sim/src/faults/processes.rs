//! Processes that die, stop and go on, or never come back from a turn.

use crate::action::Action;
use crate::cores::Strike;
use crate::history::Violation;
use crate::node::End;
use crate::world::World;
use pegasus_replication::ids::CoreAddress;
use std::time::Duration;

/// A process that is stopped goes on within this time; longer than every lease and grace period.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// Effects of a core among which something strikes.
const EFFECTS_MAX: u64 = 40;

impl World {
    pub(super) fn crash(&mut self, index: usize, ending: End) -> Result<(), Violation> {
        self.stop_node(index, ending)?;
        let node = self.nodes[index].id;
        self.after_pause(Duration::from_secs(2), Action::StartNode { node });
        Ok(())
    }

    pub(super) fn crash_all(&mut self) -> Result<(), Violation> {
        for index in 0..self.nodes.len() {
            self.stop_node(index, End::PowerCut)?;
            let node = self.nodes[index].id;
            self.after_pause(Duration::from_secs(1), Action::StartNode { node });
        }
        Ok(())
    }

    pub(super) fn crash_in_turn(&mut self, core: CoreAddress) -> bool {
        self.strike_in_turn(core, Strike::Crash)
    }

    pub(super) fn pause_node(&mut self, index: usize) -> bool {
        let period = self.some_pause(PAUSE_MAX);
        let node = &mut self.nodes[index];
        node.paused_until = self.now.after(period);
        let (is_up, cores) = (node.up, node.cores.iter());
        let cores: Vec<CoreAddress> = cores.map(|core| core.address).collect();
        for core in cores.into_iter().filter(|_| is_up) {
            self.stop_some_core(core, period);
        }
        is_up
    }

    /// At once, or in the middle of a turn.
    pub(super) fn pause_some_core(&mut self, core: CoreAddress) -> bool {
        if self.core(core).shard.is_none() {
            return false;
        }
        let period = self.some_pause(PAUSE_MAX);
        if self.random.fault.one_in(2) {
            return self.strike_in_turn(core, Strike::Pause(period));
        }
        self.stop_some_core(core, period);
        true
    }

    /// Before a turn looks at the clock, or right after it did.
    fn stop_some_core(&mut self, core: CoreAddress, period: Duration) {
        if self.random.fault.one_in(2) {
            self.stop_core_after_clock(core, period);
        } else {
            self.stop_core(core, period);
        }
    }

    fn strike_in_turn(&mut self, core: CoreAddress, strike: Strike) -> bool {
        let count = u32::try_from(self.random.fault.below(EFFECTS_MAX)).expect("few");
        let core = self.core_mut(core);
        let is_up = core.shard.is_some();
        if is_up {
            core.strike_after(count, strike);
        }
        is_up
    }
}
