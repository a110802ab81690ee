//! Names of cores on the command line.

use std::fmt;
use std::str::FromStr;

/// `1/0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CoreName {
    pub(crate) node: u32,
    pub(crate) core: u32,
}

impl FromStr for CoreName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (node, core) = text.split_once('/')?;
            Some(Self {
                node: node.parse().ok()?,
                core: core.parse().ok()?,
            })
        };
        parse().ok_or("a core is NODE/CORE, for example 1/0; `pegasus core list` has them")
    }
}

impl fmt::Display for CoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.core)
    }
}

/// `1` or `1/0`: a node, perhaps with one of its cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeName {
    pub(crate) node: u32,
    pub(crate) core: Option<u32>,
}

impl FromStr for NodeName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let core = text.parse::<CoreName>();
        let name = core.map(|it| (it.node, Some(it.core)));
        name.or_else(|_| text.parse().map(|node| (node, None)))
            .map(|(node, core)| Self { node, core })
            .map_err(|_| "a node is its number, perhaps with a core behind it: 2 or 2/0; `pegasus node list` has them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_has_two_numbers_and_a_node_one_or_two() {
        assert_eq!("2/1".parse(), Ok(CoreName { node: 2, core: 1 }));
        assert_eq!(
            "2/1".parse(),
            Ok(NodeName {
                node: 2,
                core: Some(1)
            })
        );
        assert_eq!(
            "2".parse(),
            Ok(NodeName {
                node: 2,
                core: None
            })
        );
        for text in ["", "/", "2/", "/1", "2/1/0", "-1", "a"] {
            assert!(text.parse::<CoreName>().is_err(), "{text:?}");
            assert!(text.parse::<NodeName>().is_err(), "{text:?}");
        }
        assert!("2".parse::<CoreName>().is_err());
    }
}
