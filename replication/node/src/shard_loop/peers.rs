//! Which cores of other nodes this core has, or wants, a link to.

use super::perform::peer_id;
use crate::directory::Directory;
use pegasus_net::CoreIo;
use pegasus_replication::ids::CoreAddress;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Links open on first use; each is dialled where the directory says the core is.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Where each was last dialled; `None`: its address is not known yet.
    wanted: BTreeMap<CoreAddress, Option<SocketAddr>>,
}

impl Peers {
    /// Something is to be sent to `core`.
    pub(super) fn want(&mut self, core: CoreAddress, directory: &Directory, io: &mut CoreIo) {
        if self.wanted.contains_key(&core) {
            return;
        }
        let address = directory.peer(core);
        self.wanted.insert(core, address);
        if let Some(address) = address {
            io.connect_peer(peer_id(core), address);
        }
    }

    /// Gives up dialling those that have no link and nothing in common with this core: nodes that were replaced, for example.
    /// One that is needed after all is dialled by the next message to it.
    pub(super) fn forget(&mut self, is_useless: impl Fn(CoreAddress) -> bool, io: &mut CoreIo) {
        self.wanted.retain(|core, _| {
            let is_kept = !is_useless(*core);
            if !is_kept {
                io.forget_peer(peer_id(*core));
            }
            is_kept
        });
    }

    /// Addresses may have changed: nodes that were started anew have other ports.
    pub(super) fn update(&mut self, directory: &Directory, io: &mut CoreIo) {
        for (core, dialled) in &mut self.wanted {
            let address = directory.peer(*core);
            if address.is_some() && address != *dialled {
                *dialled = address;
                address
                    .into_iter()
                    .for_each(|address| io.connect_peer(peer_id(*core), address));
            }
        }
    }
}
