//! `cluster.toml`: what a local cluster consists of, written once by `local start` and read by every later command.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const FILE_NAME: &str = "cluster.toml";
/// Meta m listens on base + m, to its peers 100 above; core c of node n (from 1) on base + 201 + 100 * (n - 1) + c, its peer port 1000 above. The
/// transfer port of a node is behind its last peer port.
pub(crate) const BASE_PORT_DEFAULT: u16 = 34_600;
/// Both follow from the distances between the ports above.
pub(crate) const NODES_MAX: u16 = 10;
pub(crate) const CORES_MAX: u16 = 99;
pub(crate) const METAS_MAX: u16 = 5;

/// The content of `cluster.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterFile {
    /// 1. A file of another format is refused.
    pub(crate) format: u32,
    pub(crate) nodes: u16,
    pub(crate) cores: u16,
    pub(crate) base_port: u16,
    /// Further options of every node, as `pegasus-replica run` takes them.
    #[serde(default)]
    pub(crate) node_options: Vec<String>,
    /// Further options of meta, as `pegasus-meta run` takes them.
    #[serde(default)]
    pub(crate) meta_options: Vec<String>,
    /// What data threads do with nothing to do, as of the last start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) poll: Option<String>,
    /// Where the programs are, if not beside this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) binary: Option<PathBuf>,
    /// Numbers of nodes that have left for good; they are not used again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) removed: Vec<u16>,
    /// Metas: one that keeps its state alone, or the members of a group.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) metas: u16,
}

const fn one() -> u16 {
    1
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_one(count: &u16) -> bool {
    *count == 1
}

impl ClusterFile {
    /// With one meta.
    #[cfg(test)]
    pub(crate) fn new(nodes: u16, cores: u16, base_port: u16) -> anyhow::Result<Self> {
        Self::with_metas(1, nodes, cores, base_port)
    }

    /// `base_port` 0 asks for a block of ports that nobody listens on now.
    pub(crate) fn with_metas(
        metas: u16,
        nodes: u16,
        cores: u16,
        base_port: u16,
    ) -> anyhow::Result<Self> {
        let mut file = Self {
            format: 1,
            nodes,
            cores,
            base_port,
            node_options: Vec::new(),
            meta_options: Vec::new(),
            poll: None,
            binary: None,
            removed: Vec::new(),
            metas,
        };
        file.check_counts()?;
        if base_port == 0 {
            file.base_port = file.find_free_block()?;
        }
        file.check()?;
        Ok(file)
    }

    /// `None` if there is no cluster in this directory.
    pub(crate) fn load(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let file = Self::parse(&text).with_context(|| path.display().to_string())?;
        Ok(Some(file))
    }

    /// What the text of a file describes.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: Self =
            toml::from_str(text).context("it is not a description of a local cluster")?;
        ensure!(
            file.format == 1,
            "format {} is not known, this program knows 1",
            file.format
        );
        file.check()?;
        Ok(file)
    }

    /// Replaces the file as a whole.
    pub(crate) fn save(&self, dir: &Path) -> anyhow::Result<()> {
        write_whole(&dir.join(FILE_NAME), self.to_toml()?.as_bytes())
    }

    /// The text of the file.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        Ok(format!(
            "# A local Pegasus cluster, made by `pegasus local start`.\n{}",
            toml::to_string(self).context("cluster.toml")?
        ))
    }

    fn check_counts(&self) -> anyhow::Result<()> {
        ensure!(
            (1..=NODES_MAX).contains(&self.nodes),
            "a local cluster has 1 to {NODES_MAX} nodes, not {}",
            self.nodes
        );
        ensure!(
            (1..=METAS_MAX).contains(&self.metas) && self.metas % 2 == 1,
            "a cluster has 1, 3 or 5 metas, not {}",
            self.metas
        );
        ensure!(
            (1..=CORES_MAX).contains(&self.cores),
            "a node has 1 to {CORES_MAX} cores, not {}",
            self.cores
        );
        Ok(())
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.check_counts()?;
        // The transfer port of the last node.
        let highest = u32::from(self.base_port)
            + 1201
            + 100 * u32::from(self.nodes - 1)
            + u32::from(self.cores);
        ensure!(
            self.base_port >= 1024,
            "base port {}: ports below 1024 are reserved",
            self.base_port
        );
        ensure!(
            highest <= 65_535,
            "base port {}: the highest port would be {highest}",
            self.base_port
        );
        Ok(())
    }

    /// Of the last start; `sleep` if it is not known.
    pub(crate) fn poll(&self) -> &str {
        self.poll.as_deref().unwrap_or("sleep")
    }

    /// Numbers of the nodes that belong to it.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> + '_ {
        (1..=self.nodes).filter(|number| !self.removed.contains(number))
    }

    /// Numbers of the metas, from 1.
    pub(crate) fn meta_numbers(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.metas
    }

    /// Where clients of meta `number` connect.
    pub(crate) const fn meta_address(&self, number: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.base_port + number)
    }

    /// Where its peers do.
    pub(crate) const fn meta_peer_address(&self, number: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.base_port + 100 + number)
    }

    /// As `--meta` takes them.
    pub(crate) fn meta_addresses(&self) -> Vec<String> {
        let address = |number| self.meta_address(number).to_string();
        self.meta_numbers().map(address).collect()
    }

    /// Ports of meta `number`.
    pub(crate) fn meta_ports(&self, number: u16) -> Vec<u16> {
        let peers = (self.metas > 1).then(|| self.meta_peer_address(number).port());
        std::iter::once(self.meta_address(number).port())
            .chain(peers)
            .collect()
    }

    /// The first client port of node `number`, counted from 1.
    pub(crate) fn node_port(&self, number: u16) -> u16 {
        self.base_port + 201 + 100 * (number - 1)
    }

    /// The port of node `number` from which other nodes fetch copies of replicas.
    pub(crate) fn transfer_port(&self, number: u16) -> u16 {
        self.node_port(number) + 1000 + self.cores
    }

    /// Client, peer and transfer ports of node `number`.
    pub(crate) fn node_ports(&self, number: u16) -> Vec<u16> {
        let first = self.node_port(number);
        (first..first + self.cores)
            .flat_map(|client| [client, client + 1000])
            .chain([self.transfer_port(number)])
            .collect()
    }

    fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        let nodes = (1..=self.nodes).flat_map(|node| self.node_ports(node));
        let metas = self.meta_numbers();
        metas.flat_map(|meta| self.meta_ports(meta)).chain(nodes)
    }

    /// Tries blocks below the range that the kernel gives to outgoing connections, from a place that differs
    /// from run to run, so that two starts at the same moment rarely meet.
    fn find_free_block(&self) -> anyhow::Result<u16> {
        const FIRST: u32 = 10_000;
        const STEP: u32 = 20;
        const BLOCKS: u32 = 1_000;
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.subsec_nanos());
        let start = std::process::id().wrapping_mul(2_654_435_761) ^ nanos;
        (0..BLOCKS)
            .filter_map(|n| u16::try_from(FIRST + STEP * (start.wrapping_add(n) % BLOCKS)).ok())
            .find(|&base_port| {
                Self {
                    base_port,
                    ..self.clone()
                }
                .all_ports_free()
            })
            .context("no free block of ports between 10000 and 31000")
    }

    fn all_ports_free(&self) -> bool {
        let listeners: Vec<_> = self
            .ports()
            .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)))
            .collect();
        listeners.iter().all(Result::is_ok)
    }
}

/// Writes a file so that a reader sees the old content or the new, nothing between.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    std::fs::write(&new, content).with_context(|| new.display().to_string())?;
    std::fs::rename(&new, path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_default_ports_are_the_documented_ones() {
        let file = ClusterFile::new(3, 1, BASE_PORT_DEFAULT).unwrap();
        assert_eq!(file.meta_addresses(), ["127.0.0.1:34601"]);
        assert_eq!(file.node_port(1), 34_801);
        assert_eq!(file.node_port(3), 35_001);
        assert_eq!(file.node_ports(3), [35_001, 36_001, 36_002]);
    }

    #[test]
    fn no_port_is_used_twice_even_by_the_largest_cluster() {
        let file = ClusterFile::with_metas(METAS_MAX, NODES_MAX, CORES_MAX, 20_000).unwrap();
        let mut ports: Vec<u16> = file.ports().collect();
        let count = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), count);
    }

    #[test]
    fn base_port_zero_picks_ports_that_can_be_bound() {
        let file = ClusterFile::new(3, 2, 0).unwrap();
        assert_ne!(file.base_port, 0);
        assert!(file.ports().all(|p| (10_001..32_768).contains(&p)));
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        assert!(ClusterFile::new(0, 1, 0).is_err());
        assert!(ClusterFile::new(NODES_MAX + 1, 1, 0).is_err());
        assert!(ClusterFile::new(1, 0, 0).is_err());
        assert!(ClusterFile::with_metas(2, 1, 1, 0).is_err());
        assert!(ClusterFile::new(1, 1, 80).is_err());
        assert!(ClusterFile::new(3, 1, 65_000).is_err());
    }

    #[test]
    fn a_saved_file_loads_and_a_strange_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ClusterFile::load(dir.path()).unwrap(), None);
        let file = ClusterFile::new(3, 2, 20_000).unwrap();
        file.save(dir.path()).unwrap();
        assert_eq!(ClusterFile::load(dir.path()).unwrap(), Some(file));
        std::fs::write(
            dir.path().join(FILE_NAME),
            "format = 2\nnodes = 3\ncores = 1\nbase_port = 20000\n",
        )
        .unwrap();
        assert!(ClusterFile::load(dir.path()).is_err());
        std::fs::write(dir.path().join(FILE_NAME), "hello").unwrap();
        assert!(ClusterFile::load(dir.path()).is_err());
    }
}
