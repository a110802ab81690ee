//! `pegasus node drain|undrain|decommission`: emptying a node before it goes away, and letting it have replicas again.

use crate::connect::Connect;
use crate::exit::{Exit, Failed};
use crate::orders::{self, Wait};
use crate::output::{Output, Style, bytes};
use crate::status::span;
use clap::Args;
use pegasus_client::{ChangeOutcome, Client, DrainInfo, DrainKind};
use serde_json::json;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Who waits is told after this long that nothing goes on.
const BLOCKED_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// Number of the node
    node: u32,
    /// Move its replicas to other nodes too, not only the lead
    #[arg(long = "move")]
    move_replicas: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Undrain {
    /// Number of the node
    node: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Decommission {
    /// Number of the node
    node: u32,
    #[command(flatten)]
    wait: Wait,
}

pub(super) async fn drain(
    options: &Drain,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let Drain {
        node,
        move_replicas,
        wait,
    } = *options;
    let client = orders::client(connect).await?;
    expect_node(&client, node).await?;
    let given = Instant::now();
    let first = client.drain_node(node, move_replicas).await?;
    let wanted = match move_replicas {
        true => DrainKind::Replicas,
        false => DrainKind::Primaries,
    };
    let watch = Watch::new(&client, node, wanted);
    let outcome = wait.stay(given, first, async || watch.look().await).await?;
    let order = json!({ "node": node, "draining": true, "move": move_replicas });
    let done = if move_replicas {
        format!("node {node} is empty, and gets nothing new until `pegasus node undrain {node}`")
    } else {
        format!(
            "node {node} leads nothing, and gets nothing new until `pegasus node undrain {node}`"
        )
    };
    wait.tell(&outcome, order, &done, out)
}

pub(super) async fn undrain(
    options: &Undrain,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let node = options.node;
    let client = orders::client(connect).await?;
    expect_node(&client, node).await?;
    let outcome = client.undrain_node(node).await?;
    let order = json!({ "node": node, "draining": false });
    let done = format!(
        "node {node} may have replicas again; what has left it does not come back by itself"
    );
    Wait::default().tell(&outcome, order, &done, out)
}

pub(super) async fn decommission(
    options: &Decommission,
    connect: &Connect,
    out: &mut Output,
) -> anyhow::Result<()> {
    let Decommission { node, wait } = *options;
    let client = orders::client(connect).await?;
    expect_node(&client, node).await?;
    decommission_by(&client, node, wait, out).await
}

/// Gives the order and stays as long as `wait` says.
pub(crate) async fn decommission_by(
    client: &Client,
    node: u32,
    wait: Wait,
    out: &mut Output,
) -> anyhow::Result<()> {
    let given = Instant::now();
    let first = client.decommission_node(node).await?;
    let watch = Watch::new(client, node, DrainKind::Decommission);
    let outcome = wait.stay(given, first, async || watch.look().await).await?;
    if out.style == Style::People && outcome.is_done {
        out.line(format!(
            "node {node} is empty and forgotten; stop it: its directory is of no use any more"
        ))?;
        return Ok(());
    }
    let order = json!({ "node": node, "decommission": true });
    wait.tell(&outcome, order, "", out)
}

pub(crate) async fn expect_node(client: &Client, node: u32) -> anyhow::Result<()> {
    let known = client.list_nodes().await?.nodes;
    if known.iter().any(|it| it.node == node) {
        return Ok(());
    }
    let sentence = format!("there is no node {node}; `pegasus node list` has them");
    Err(Failed::error(Exit::NotFound, sentence))
}

/// Looks how far a node is, without giving the order again: another operator may have taken it back meanwhile.
struct Watch<'a> {
    client: &'a Client,
    node: u32,
    wanted: DrainKind,
    pace: RefCell<Pace>,
}

impl<'a> Watch<'a> {
    fn new(client: &'a Client, node: u32, wanted: DrainKind) -> Self {
        Self {
            client,
            node,
            wanted,
            pace: RefCell::default(),
        }
    }

    async fn look(&self) -> anyhow::Result<ChangeOutcome> {
        let told = self.client.show_drain(self.node).await?;
        let mut pace = self.pace.borrow_mut();
        judge(self.node, self.wanted, &told, &mut pace, Instant::now())
    }
}

/// What it means for who waits.
fn judge(
    node: u32,
    wanted: DrainKind,
    told: &DrainInfo,
    pace: &mut Pace,
    now: Instant,
) -> anyhow::Result<ChangeOutcome> {
    let is_done = match wanted {
        DrainKind::Primaries => told.primaries_left == 0,
        DrainKind::Replicas => told.replicas_left == 0,
        _ => told.kind == DrainKind::Forgotten,
    };
    if told.kind == DrainKind::None || (told.kind < wanted && !is_done) {
        let sentence = format!(
            "somebody else has taken the order back: node {node} is not being emptied any more"
        );
        return Err(Failed::error(Exit::Failed, sentence));
    }
    let blocked_for = pace.note(told, now);
    if blocked_for >= BLOCKED_PATIENCE && !is_done {
        let sentence = format!(
            "it cannot go on: {}; the order stays and goes on when that changes, `pegasus node undrain {node}` takes it back",
            told.waits_for
        );
        return Err(Failed::error(Exit::Failed, sentence));
    }
    let eta = pace.eta(told);
    let left = match told.bytes_left {
        0 => told.waits_for.clone(),
        left => format!("{}; {} left{eta}", told.waits_for, bytes(left)),
    };
    Ok(ChangeOutcome {
        is_done,
        waits_for: if is_done { String::new() } else { left },
    })
}

/// How fast replicas leave, as seen since the waiting began.
#[derive(Debug, Default)]
struct Pace {
    /// The first look, with the bytes and replicas that were left.
    began: Option<(Instant, u64, u32)>,
    now: Option<Instant>,
    blocked_since: Option<Instant>,
}

impl Pace {
    /// Returns for how long nothing has gone on.
    fn note(&mut self, told: &DrainInfo, now: Instant) -> Duration {
        let (_, bytes, replicas) =
            *self
                .began
                .get_or_insert((now, told.bytes_left, told.replicas_left));
        if told.bytes_left > bytes || told.replicas_left > replicas {
            // Something came beside: what was seen so far says nothing.
            self.began = Some((now, told.bytes_left, told.replicas_left));
        }
        self.now = Some(now);
        if !told.is_blocked {
            self.blocked_since = None;
            return Duration::ZERO;
        }
        now - *self.blocked_since.get_or_insert(now)
    }

    /// `, about 5 min`, once something has left.
    fn eta(&self, told: &DrainInfo) -> String {
        let (Some((began, bytes, _)), Some(now)) = (self.began, self.now) else {
            return String::new();
        };
        let gone = bytes.saturating_sub(told.bytes_left);
        let passed_ms = u64::try_from((now - began).as_millis()).unwrap_or(u64::MAX);
        if gone == 0 || passed_ms == 0 {
            return String::new();
        }
        let left_ms = u128::from(told.bytes_left) * u128::from(passed_ms) / u128::from(gone);
        let left_ms = u64::try_from(left_ms).unwrap_or(u64::MAX);
        format!(", about {}", span(left_ms))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::exit::exit_of;

    fn told(kind: DrainKind, replicas_left: u32, bytes_left: u64) -> DrainInfo {
        DrainInfo {
            kind,
            is_done: false,
            is_blocked: false,
            waits_for: format!("node 1 still holds {replicas_left} replicas"),
            primaries_left: replicas_left,
            replicas_left,
            bytes_left,
        }
    }

    fn look(
        wanted: DrainKind,
        told: &DrainInfo,
        pace: &mut Pace,
        at: Instant,
    ) -> anyhow::Result<ChangeOutcome> {
        judge(1, wanted, told, pace, at)
    }

    #[test]
    fn the_time_that_is_left_follows_from_the_bytes_that_have_left() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        let first = told(DrainKind::Replicas, 4, 4 << 20);
        let outcome = look(DrainKind::Replicas, &first, &mut pace, began).unwrap();
        assert_eq!(
            outcome.waits_for,
            "node 1 still holds 4 replicas; 4.0 MiB left"
        );
        let later = told(DrainKind::Replicas, 3, 3 << 20);
        let at = began + Duration::from_secs(10);
        let outcome = look(DrainKind::Replicas, &later, &mut pace, at).unwrap();
        assert!(
            outcome.waits_for.ends_with("3.0 MiB left, about 30 s"),
            "{}",
            outcome.waits_for
        );
    }

    #[test]
    fn an_order_that_somebody_takes_back_ends_the_waiting() {
        let none = told(DrainKind::None, 0, 0);
        let error = look(
            DrainKind::Replicas,
            &none,
            &mut Pace::default(),
            Instant::now(),
        )
        .unwrap_err();
        assert_eq!(exit_of(&error), Exit::Failed);
        assert!(
            error.to_string().contains("taken the order back"),
            "{error}"
        );
    }

    #[test]
    fn a_stronger_order_of_somebody_else_does_not_end_the_waiting() {
        let stronger = told(DrainKind::Decommission, 2, 0);
        let outcome = look(
            DrainKind::Replicas,
            &stronger,
            &mut Pace::default(),
            Instant::now(),
        );
        assert!(!outcome.unwrap().is_done);
        let gone = told(DrainKind::Forgotten, 0, 0);
        for wanted in [
            DrainKind::Primaries,
            DrainKind::Replicas,
            DrainKind::Decommission,
        ] {
            let outcome = look(wanted, &gone, &mut Pace::default(), Instant::now());
            assert!(outcome.unwrap().is_done, "{wanted:?}");
        }
    }

    #[test]
    fn a_drain_with_no_place_to_go_says_so_instead_of_waiting_for_ever() {
        let blocked = DrainInfo {
            is_blocked: true,
            ..told(DrainKind::Replicas, 2, 0)
        };
        let (mut pace, began) = (Pace::default(), Instant::now());
        let mut at = |seconds| {
            let now = began + Duration::from_secs(seconds);
            look(DrainKind::Replicas, &blocked, &mut pace, now)
        };
        assert!(at(0).is_ok() && at(9).is_ok());
        let error = at(10).unwrap_err();
        assert_eq!(exit_of(&error), Exit::Failed);
        assert!(error.to_string().contains("undrain 1"), "{error}");
    }
}
