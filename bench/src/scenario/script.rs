//! When things happen: quiet, then each event and what comes after it.

use super::cluster::Cluster;
use super::command::Knobs;
use super::event::Event;
use super::local::Local;
use crate::driver::Stage;
use anyhow::{Context as _, ensure};
use std::time::{Duration, Instant};

/// One run of a scenario, beside the load.
pub(super) struct Script<'a> {
    pub(super) stage: &'a Stage,
    pub(super) cluster: Cluster,
    pub(super) local: Option<Local>,
    pub(super) knobs: Knobs,
}

/// How often a rest looks whether the load goes on.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Script<'_> {
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        let warm_up = self.stage.measured_from();
        self.rest(warm_up.saturating_duration_since(Instant::now()))
            .await?;
        self.begin_quiet("quiet");
        self.rest(self.knobs.quiet).await?;
        for event in &self.knobs.events {
            let name = event.name();
            event
                .inject(self)
                .await
                .with_context(|| format!("event {name}"))?;
            self.begin_quiet(&format!("after {name}"));
            self.rest(self.knobs.settle).await?;
        }
        Ok(())
    }

    pub(super) fn begin_quiet(&self, name: &str) {
        self.begin(name, false);
    }

    pub(super) fn begin_event(&self, event: Event) {
        self.begin(event.name(), true);
    }

    fn begin(&self, name: &str, is_event: bool) {
        let at = self.stage.measured_from().elapsed().as_secs_f64();
        eprintln!("{at:.1} s: {name}");
        self.stage.begin_period(name, is_event);
    }

    /// # Errors
    /// When the load ends meanwhile, which it does only by failing.
    pub(super) async fn rest(&self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        loop {
            ensure!(
                !self.stage.is_over(),
                "the load ended before the scenario did"
            );
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(LOOK_EVERY)).await;
        }
    }

    /// The node that things are done to: the one that was named, or the last one.
    pub(super) fn local_node(&self) -> anyhow::Result<(&Local, String)> {
        let local = self.local.as_ref().context("--local was not given")?;
        let nodes = local.nodes()?;
        let wanted = self.knobs.node.map(|number| format!("node-{number}"));
        let node = match &wanted {
            Some(name) => nodes.iter().find(|node| *node == name),
            None => nodes.last(),
        };
        let node = node.with_context(|| {
            let wanted = wanted.as_deref().unwrap_or("a node");
            format!("there is no {wanted}, but {}", nodes.join(", "))
        })?;
        Ok((local, node.clone()))
    }
}
