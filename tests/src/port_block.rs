//! Ports of one test cluster, its own for as long as the test runs: also while the cluster is stopped, when a look at
//! which ports are free would give them to the next test.

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};

/// Blocks lie below the ports that the kernel gives to outgoing connections.
const FIRST: u16 = 11_000;
/// A local cluster of up to three nodes uses ports up to 1,500 above its base.
const STEP: u16 = 1_500;
const BLOCKS: u16 = 14;

/// A block of ports, given back when dropped.
#[derive(Debug)]
pub struct PortBlock {
    base: u16,
    _lock: File,
}

impl PortBlock {
    /// Takes a block that no other test of this machine holds, and whose first port nobody listens on.
    pub fn take() -> Result<Self> {
        let blocks = (0..BLOCKS).map(|number| FIRST + STEP * number);
        let mut free = blocks.filter_map(|base| Self::try_take(base).transpose());
        free.next().context("every block of ports is taken")?
    }

    #[must_use]
    pub const fn base(&self) -> u16 {
        self.base
    }

    fn try_take(base: u16) -> Result<Option<Self>> {
        let path = std::env::temp_dir().join(format!("pegasus-test-ports-{base}"));
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        let is_ours = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        let is_free = is_ours && TcpListener::bind((Ipv4Addr::LOCALHOST, base + 1)).is_ok();
        Ok(is_free.then_some(Self { base, _lock: lock }))
    }
}
