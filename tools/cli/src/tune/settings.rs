//! What matters here of a node's configuration. Whether the file is right is for `pegasus-replica config` to say: other keys are not looked at.

use anyhow::Context as _;
use pegasus_host::cpus::Cpus;
use pegasus_host::units::Cores;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Without a setting, as the node has it.
const CONNECTIONS_MAX: u64 = 4096;

/// A node, as far as the machine matters to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeSettings {
    /// Whether a configuration was given at all.
    pub(super) is_given: bool,
    pub(super) dir: Option<PathBuf>,
    pub(super) cores: Cores,
    pub(super) background: Cpus,
    pub(super) is_busy: bool,
    pub(super) connections_max: u64,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            is_given: false,
            dir: None,
            cores: Cores::Count(1),
            background: Cpus::new(),
            is_busy: false,
            connections_max: CONNECTIONS_MAX,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    process: Process,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Process {
    dir: Option<PathBuf>,
    cpu: Cpu,
    listen: Listen,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cpu {
    cores: Option<Cores>,
    background: Vec<u32>,
    poll: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Listen {
    connections_max: Option<u64>,
}

impl NodeSettings {
    /// # Errors
    /// The file cannot be read, or is no configuration.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let named = || format!("configuration {}", path.display());
        let text = std::fs::read_to_string(path).with_context(named)?;
        Self::parse(&text).with_context(named)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let Process { dir, cpu, listen } = toml::from_str::<File>(text)?.process;
        let defaults = Self::default();
        Ok(Self {
            is_given: true,
            dir,
            cores: cpu.cores.unwrap_or(defaults.cores),
            background: cpu.background.into_iter().collect(),
            is_busy: cpu.poll.as_deref() == Some("busy"),
            connections_max: listen.connections_max.unwrap_or(CONNECTIONS_MAX),
        })
    }

    /// CPUs of data cores, where they are named.
    pub(super) fn data_cpus(&self) -> Cpus {
        match &self.cores {
            Cores::List(cpus) => cpus.iter().copied().collect(),
            Cores::Count(_) => Cpus::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_file_is_read_and_other_keys_are_not_looked_at() -> anyhow::Result<()> {
        let text = "[process]\ndir = '/data'\nmeta = ['a:1']\ncpu.cores = '2-3'\ncpu.background = [0]\ncpu.poll = 'busy'\n[cluster]\nx = 1\n";
        let settings = NodeSettings::parse(text)?;
        assert_eq!(settings.data_cpus(), Cpus::from([2, 3]));
        assert_eq!(settings.background, Cpus::from([0]));
        assert!(settings.is_busy && settings.is_given);
        assert_eq!(settings.connections_max, CONNECTIONS_MAX);
        assert!(NodeSettings::parse("")?.data_cpus().is_empty());
        Ok(())
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["[process", "process = 1", "[process]\ncpu.cores = 'x'"] {
            assert!(NodeSettings::parse(text).is_err(), "{text}");
        }
    }
}
