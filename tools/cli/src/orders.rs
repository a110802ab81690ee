//! Orders that meta records and carries out by itself: what became of one, and staying until it is done.

use crate::connect::Connect;
use crate::exit::{Exit, Failed, exit_of};
use crate::output::{Output, Style};
use crate::progress::Waiting;
use clap::Args;
use pegasus_client::{ChangeOutcome, Client};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long the first answer may take: most orders are done by then.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Whether to stay until an order is done.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Wait {
    /// Stay until it is done, or for so many seconds at most; leaving (Ctrl-C) stops nothing
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "86400",
        value_parser = clap::value_parser!(u64).range(..=86_400)
    )]
    wait: Option<u64>,
}

/// For the client that gives orders.
pub(crate) async fn client(connect: &Connect) -> anyhow::Result<Client> {
    let patience = connect.timeout_or(FIRST_ANSWER);
    connect
        .client_with(|options| options.admin_timeout = patience)
        .await
}

impl Wait {
    /// Stay for so many seconds at most.
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self {
            wait: Some(seconds),
        }
    }

    /// With `--wait`: looks again until the order is done or the time since `given` is over. Meanwhile meta may be away.
    pub(crate) async fn stay(
        self,
        given: Instant,
        first: ChangeOutcome,
        look: impl AsyncFn() -> anyhow::Result<ChangeOutcome>,
    ) -> anyhow::Result<ChangeOutcome> {
        let Some(seconds) = self.wait else {
            return Ok(first);
        };
        let deadline = given + Duration::from_secs(seconds);
        let waiting = Waiting::new();
        let mut outcome = first;
        while !outcome.is_done && Instant::now() < deadline {
            waiting.update(&outcome.waits_for);
            tokio::time::sleep(LOOK_EVERY).await;
            match look().await {
                Ok(now) => outcome = now,
                // Nobody is there to be asked; the order is on meta's disk.
                Err(error) if matches!(exit_of(&error), Exit::Unavailable | Exit::Unknown) => {
                    outcome.waits_for = format!("{error:#}");
                }
                Err(error) => {
                    waiting.finish();
                    return Err(error);
                }
            }
        }
        waiting.finish();
        Ok(outcome)
    }

    /// Prints what became of it: `order` is what was wanted, as JSON, `done` is the sentence when it is done.
    pub(crate) fn tell(
        self,
        outcome: &ChangeOutcome,
        order: Value,
        done: &str,
        out: &mut Output,
    ) -> anyhow::Result<()> {
        let is_late = !outcome.is_done && self.wait.is_some();
        match out.style {
            Style::Json => {
                let mut told = order;
                told["done"] = json!(outcome.is_done);
                told["waits_for"] = json!(outcome.waits_for);
                out.json(&told)?;
            }
            Style::People if outcome.is_done => out.line(done)?,
            Style::People if !is_late => {
                out.line(format!("recorded, and going on: {}", outcome.waits_for))?;
            }
            Style::People => {}
        }
        if !is_late {
            return Ok(());
        }
        let seconds = self.wait.unwrap_or_default();
        let waits_for = &outcome.waits_for;
        Err(Failed::error(
            Exit::Unavailable,
            format!("not done within {seconds} s, and going on: {waits_for}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use pegasus_client::{Cause, Error};
    use std::cell::Cell;

    fn outcome(is_done: bool) -> ChangeOutcome {
        ChangeOutcome {
            is_done,
            waits_for: if is_done { "" } else { "a learner" }.to_owned(),
        }
    }

    #[tokio::test]
    async fn who_waits_sees_the_end_even_if_meta_is_away_for_a_while() {
        let wait = Wait { wait: Some(60) };
        let looks = Cell::new(0);
        let look = async || {
            looks.set(looks.get() + 1);
            match looks.get() {
                1 => Err(Error::NotExecuted(Cause {
                    code: None,
                    message: "nobody there".to_owned(),
                })
                .into()),
                2 => Ok(outcome(false)),
                _ => Ok(outcome(true)),
            }
        };
        assert!(
            wait.stay(Instant::now(), outcome(false), look)
                .await
                .unwrap()
                .is_done
        );
        assert_eq!(looks.get(), 3);
    }

    #[tokio::test]
    async fn who_does_not_wait_looks_once_and_a_given_up_order_ends_the_waiting() {
        let never = async || panic!("nobody looks");
        let first = Wait::default()
            .stay(Instant::now(), outcome(false), never)
            .await
            .unwrap();
        assert_eq!(first, outcome(false));
        let given_up = async || Err(Failed::error(Exit::Failed, "given up"));
        let error = Wait { wait: Some(60) }
            .stay(Instant::now(), first, given_up)
            .await
            .unwrap_err();
        assert_eq!(exit_of(&error), Exit::Failed);
    }

    #[test]
    fn an_order_that_goes_on_fails_only_who_waited_for_it() {
        let mut out = Output::new(Style::Json);
        let tell = |wait: Wait, is_done, out: &mut Output| {
            wait.tell(&outcome(is_done), json!({}), "done", out)
        };
        assert!(tell(Wait::default(), false, &mut out).is_ok());
        assert!(tell(Wait { wait: Some(1) }, true, &mut out).is_ok());
        let late = tell(Wait { wait: Some(1) }, false, &mut out).unwrap_err();
        assert_eq!(exit_of(&late), Exit::Unavailable);
        assert!(late.to_string().contains("a learner"), "{late}");
    }
}
