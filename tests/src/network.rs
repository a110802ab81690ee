//! A network of its own for a test: a namespace for each machine, all of them joined by one that routes, where packets
//! between two machines can be made to vanish. Addresses exist inside these namespaces only.

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// One machine of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
    address: String,
}

impl Namespace {
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A command that runs on this machine; its program and arguments are still to be added as arguments.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        command
    }

    /// Sockets that this thread opens from now on are of this machine.
    pub fn enter(&self) -> Result<()> {
        let path = format!("/run/netns/{}", self.name);
        let file = File::open(&path).with_context(|| path.clone())?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).context(path)
    }
}

/// Machines that reach each other; gone with all its links when dropped.
#[derive(Debug)]
pub struct Network {
    router: String,
    machines: Vec<Namespace>,
}

impl Network {
    /// Needs root.
    pub fn new(machines: u8) -> Result<Self> {
        static NETWORKS: AtomicU32 = AtomicU32::new(0);
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("pegasus-{}-{number}", std::process::id());
        let mut network = Self {
            router: format!("{prefix}-router"),
            machines: Vec::new(),
        };
        ip(&["netns", "add", &network.router])?;
        let router = network.router.clone();
        for number in 1..=machines {
            let machine = Namespace {
                name: format!("{prefix}-{number}"),
                address: format!("10.213.{number}.2"),
            };
            ip(&["netns", "add", &machine.name])?;
            network.machines.push(machine.clone());
            link(&router, &machine, number)?;
        }
        let mut forward = Command::new("ip");
        forward.args(["netns", "exec", &router]);
        run(forward.args(["sysctl", "-qw", "net.ipv4.ip_forward=1"]))?;
        Ok(network)
    }

    /// Machine `number`, from 1.
    #[must_use]
    pub fn machine(&self, number: usize) -> &Namespace {
        &self.machines[number - 1]
    }

    /// Packets between the two vanish, both ways; connections hear nothing of it.
    pub fn cut(&self, one: usize, other: usize) -> Result<()> {
        self.change("add", one, other)
    }

    /// What [`Self::cut`] did is undone.
    pub fn join(&self, one: usize, other: usize) -> Result<()> {
        self.change("del", one, other)
    }

    fn change(&self, change: &str, one: usize, other: usize) -> Result<()> {
        for (from, to) in [(one, other), (other, one)] {
            let (from, to) = (self.machine(from).address(), self.machine(to).address());
            let rule = ["blackhole", "from", from, "to", to];
            let mut arguments = vec!["-n", &self.router, "rule", change];
            arguments.extend(rule);
            ip(&arguments)?;
        }
        Ok(())
    }
}

/// A cable between the machine and the router.
fn link(router: &str, machine: &Namespace, number: u8) -> Result<()> {
    let port = format!("port{number}");
    let gateway = format!("10.213.{number}.1");
    let ours = [
        format!(
            "link add {port} type veth peer name cable netns {}",
            machine.name
        ),
        format!("address add {gateway}/24 dev {port}"),
        format!("link set {port} up"),
    ];
    let theirs = [
        format!("address add {}/24 dev cable", machine.address),
        "link set cable up".to_owned(),
        "link set lo up".to_owned(),
        format!("route add default via {gateway}"),
    ];
    let all = ours.iter().map(|line| (router, line));
    for (namespace, line) in all.chain(theirs.iter().map(|line| (machine.name.as_str(), line))) {
        let mut arguments = vec!["-n", namespace];
        arguments.extend(line.split(' '));
        ip(&arguments)?;
    }
    Ok(())
}

impl Drop for Network {
    fn drop(&mut self) {
        let machines = self.machines.iter().map(|machine| machine.name.as_str());
        for name in machines.chain([self.router.as_str()]) {
            if let Err(error) = ip(&["netns", "delete", name]) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
