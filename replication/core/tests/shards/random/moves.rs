//! What may happen next: deliveries, requests, faults.

use super::{MS, NODES, PARTITIONS, Random, Run};
use crate::world::{Disk, partition};
use bytes::Bytes;
use pegasus_replication::event::Event;
use pegasus_replication::ids::Instant;
use pegasus_replication::log::LogWrite;

impl Run {
    pub(super) fn deliver(&mut self) {
        let (from, to) = (self.random.pick(&NODES), self.random.pick(&NODES));
        for _ in 0..=self.random.below(3) {
            if self.world.runs(to) {
                self.world.step_wire(from, to);
            }
        }
    }

    pub(super) fn disk(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.runs(node) {
            self.world.step_disk(node);
        }
    }

    pub(super) fn engine(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.runs(node) {
            self.world.step_engine(node);
        }
    }

    /// Mostly the one that meta names; now and then one that may have been.
    pub(super) fn target(&mut self, index: u32) -> u32 {
        let primary = self.world.configurations[&partition(index)].primary;
        match primary {
            Some(primary) if self.random.below(4) > 0 => primary.address.node.0,
            _ => self.random.pick(&NODES),
        }
    }

    pub(super) fn write(&mut self) {
        let index = self.random.pick(&PARTITIONS);
        let node = self.target(index);
        if self.world.runs(node) {
            self.written += 1;
            let length = usize::try_from(self.random.below(700)).unwrap();
            let mut payload = format!("{}:", self.written).into_bytes();
            payload.resize(payload.len() + length, b'x');
            let deadline = self.world.local(node).0 + self.random.below(1000) * MS;
            self.world.write(
                node,
                partition(index),
                Bytes::from(payload),
                Instant(deadline),
            );
        }
    }

    pub(super) fn read(&mut self) {
        let index = self.random.pick(&PARTITIONS);
        let node = self.target(index);
        if self.world.runs(node) {
            let deadline = Instant(self.world.local(node).0 + self.random.below(300) * MS);
            self.world.read(node, partition(index), deadline);
        }
    }

    pub(super) fn time_passes(&mut self) {
        let most = if self.random.below(20) == 0 {
            700
        } else {
            self.pace
        };
        let nanos = self.random.below(most * MS);
        self.world.advance(nanos);
    }

    pub(super) fn meta_moves(&mut self) {
        let node = self.random.pick(&NODES);
        if self.random.below(2) == 0 {
            self.meta.step_in(node, &mut self.world);
        } else if self.world.is_alive(node) {
            self.meta.step_out(node, &mut self.world);
        }
    }

    pub(super) fn flush(&mut self) {
        let (index, node) = (self.random.pick(&PARTITIONS), self.random.pick(&NODES));
        if self.world.runs(node) {
            self.world.flush(node, partition(index));
        }
    }

    pub(super) fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Of each write under way, any of its blocks may have reached the drive.
    pub(super) fn crash(&mut self) {
        let victims = if self.random.below(4) == 0 {
            NODES.to_vec()
        } else {
            vec![self.random.pick(&NODES)]
        };
        for node in victims {
            if self.world.is_alive(node) {
                self.count("crash");
                let random = &mut self.random;
                self.world
                    .crash(node, |write, disk| keep_some(write, disk, random));
                self.meta.disconnect(node);
                self.down.push(node);
            }
        }
    }

    pub(super) fn restart(&mut self) {
        if let Some(node) = self.down.pop() {
            self.world.boot(node);
            self.meta.join(node, &self.world);
        }
    }

    pub(super) fn cut(&mut self) {
        let (one, other) = (self.random.pick(&NODES), self.random.pick(&NODES));
        if one != other {
            self.count("cut");
            self.world.cut(one, other);
        }
    }

    pub(super) fn mend(&mut self) {
        for (one, other) in self.world.links_down.clone() {
            self.world.mend(one, other);
        }
    }

    pub(super) fn pause(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.runs(node) {
            self.count("pause");
            self.world.pause(node);
        }
    }

    /// What was in the sockets and the timer that is due come in any order.
    pub(super) fn go_on(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.is_alive(node) && !self.world.runs(node) {
            self.world.go_on(node);
        }
    }

    pub(super) fn meta_fails(&mut self) {
        self.count("meta");
        self.meta.is_down = true;
        NODES.iter().for_each(|node| self.meta.disconnect(*node));
        for node in NODES {
            self.meta.join(node, &self.world);
        }
    }

    pub(super) fn heal(&mut self) {
        let (index, node) = (self.random.pick(&PARTITIONS), self.random.pick(&NODES));
        self.meta.heal(partition(index), node, &mut self.world);
    }

    pub(super) fn hand_over(&mut self) {
        let (index, to) = (self.random.pick(&PARTITIONS), self.random.below(2));
        let to = usize::try_from(to).unwrap();
        self.meta.hand_over(partition(index), to, &self.world);
    }

    pub(super) fn fence(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.runs(node) {
            self.count("fence");
            self.world.feed(node, Event::Fence);
        }
    }

    pub(super) fn meta_repeats(&mut self) {
        let node = self.random.pick(&NODES);
        if self.world.is_alive(node) {
            self.meta.join(node, &self.world);
        }
    }
}

fn keep_some(write: &LogWrite, disk: &mut Disk, random: &mut Random) {
    const BLOCK: usize = 4096;
    let all = random.below(3);
    for (number, block) in write.bytes.chunks(BLOCK).enumerate() {
        let keep = all == 0 || (all == 1 && random.below(2) == 0);
        if keep {
            let offset = write.offset + (number * BLOCK) as u64;
            disk.store(&LogWrite {
                offset,
                bytes: block.to_vec(),
                ..write.clone()
            });
        }
    }
}
