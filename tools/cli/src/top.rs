//! `pegasus top`: a live view of every core of every node, down to a core, a table, a partition.
//!
//! Reading order: this file (terminal and loop), `model` (what is known), `app` (what is looked at), `keys`, `lists`
//! (columns and lines), `view` (drawing), `format` and `theme`. Only this file touches the terminal, the network and clocks.

mod app;
mod format;
mod keys;
mod lists;
mod model;
mod theme;
mod view;

use crate::connect::Connect;
use crate::cores::source::{Places, Reading, Where};
use crate::exit::Failed;
use crate::hotkeys::rank::{self, Told};
use crate::interrupt::interrupted;
use crate::output::{Output, Style};
use anyhow::Context as _;
use app::{App, Next};
use clap::Args;
use crossterm::event::{self, Event};
use ratatui::DefaultTerminal;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use theme::Theme;
use tokio::sync::{mpsc, watch};

/// Between the first two readings, so that there are rates soon.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);
/// How often meta is asked again which nodes and tables there are.
const PLACES_PERIOD: Duration = Duration::from_secs(10);
/// Key presses that wait.
const KEYS_MAX: usize = 64;

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Seconds between two readings, 0.1 to 3600; + and - change it
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, allow_negative_numbers = true, value_parser = crate::cores::interval)]
    interval: f64,
    /// Only tables whose names contain this; / changes it
    #[arg(long, value_name = "TEXT", default_value = "")]
    table: String,
    #[command(flatten)]
    from: Where,
}

/// What one look at the cluster has found.
#[derive(Debug)]
struct Look {
    readings: BTreeMap<(u32, u32), Reading>,
    problems: Vec<String>,
    /// When meta was asked.
    tables: Option<BTreeMap<u32, String>>,
    hot_keys: Option<Vec<Told>>,
    /// Why meta could not be asked.
    error: Option<String>,
}

/// What the next look is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    interval: Duration,
    is_paused: bool,
    hot_keys: bool,
}

pub(crate) async fn run(top: &Top, connect: &Connect, out: &mut Output) -> anyhow::Result<()> {
    if out.style == Style::Json {
        return Err(Failed::usage(
            "top is for people: `pegasus core list --json`, with --watch for one line for each interval, is for programs",
        ));
    }
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        return Err(Failed::usage(
            "top needs a terminal: `pegasus core list`, with --watch or --json, prints the same anywhere",
        ));
    }
    let places = Places::find(&top.from, connect, None).await?;
    let interval = Duration::from_secs_f64(top.interval);
    let mut app = App::new(interval, top.table.clone());
    let theme = Theme::new(std::env::var_os("NO_COLOR").as_deref());
    let (wishes, wish) = watch::channel(wish_of(&app));
    let (looks, mut found) = mpsc::channel(1);
    let looking = look_on(
        Arc::new(top.from.clone()),
        connect.clone(),
        places,
        wish,
        looks,
    );
    let looking = tokio::spawn(looking);
    // Puts the terminal in order again, also when something panics.
    let mut terminal = ratatui::try_init().context("terminal")?;
    let mut keys = read_keys();
    let ended = show(
        &mut terminal,
        &mut app,
        theme,
        &wishes,
        &mut found,
        &mut keys,
    )
    .await;
    ratatui::restore();
    looking.abort();
    ended
}

async fn show(
    terminal: &mut DefaultTerminal,
    app: &mut App,
    theme: Theme,
    wishes: &watch::Sender<Wish>,
    found: &mut mpsc::Receiver<Look>,
    keys: &mut mpsc::Receiver<io::Result<Event>>,
) -> anyhow::Result<()> {
    let stop = interrupted();
    tokio::pin!(stop);
    loop {
        terminal
            .draw(|frame| view::draw(frame, app, theme))
            .context("terminal")?;
        tokio::select! {
            () = &mut stop => return Ok(()),
            look = found.recv() => match look {
                Some(look) if !app.is_paused => take(app, look),
                Some(_) => {}
                None => return Ok(()),
            },
            event = keys.recv() => match event {
                // A terminal that has gone away.
                None => return Ok(()),
                Some(event) => {
                    if let Event::Key(key) = event.context("terminal")?
                        && let Some(action) = keys::action(&key, app.mode())
                        && app.update(action) == Next::Quit
                    {
                        return Ok(());
                    }
                    wishes.send_if_modified(|wish| {
                        let next = wish_of(app);
                        std::mem::replace(wish, next) != next
                    });
                }
            },
        }
    }
}

fn take(app: &mut App, look: Look) {
    if let Some(tables) = look.tables {
        app.model.tables = tables;
    }
    app.message = look.error;
    app.model.update(look.readings, look.problems, now_us());
    if let Some(told) = look.hot_keys {
        app.model.update_hot_keys(&told);
    }
}

fn wish_of(app: &App) -> Wish {
    Wish {
        interval: app.interval,
        is_paused: app.is_paused,
        hot_keys: app.wants_hot_keys(),
    }
}

/// Reads all cores again and again, until nobody wants to know. A node that does not answer delays the others' numbers, and
/// never the keys.
async fn look_on(
    from: Arc<Where>,
    connect: Connect,
    mut places: Places,
    mut wish: watch::Receiver<Wish>,
    looks: mpsc::Sender<Look>,
) {
    let mut pause = FIRST_INTERVAL;
    let mut asked_at: Option<tokio::time::Instant> = None;
    loop {
        let wanted = *wish.borrow_and_update();
        if !wanted.is_paused {
            let mut look = Look {
                readings: BTreeMap::new(),
                problems: Vec::new(),
                tables: None,
                hot_keys: None,
                error: None,
            };
            if asked_at.is_none_or(|at| at.elapsed() >= PLACES_PERIOD) {
                if asked_at.is_some() {
                    match Places::find(&from, &connect, None).await {
                        Ok(now) => places = now,
                        Err(error) => look.error = Some(format!("{error:#}")),
                    }
                }
                look.tables = tables(&places).await;
                asked_at = Some(tokio::time::Instant::now());
            }
            (look.readings, look.problems) = places.read().await;
            if wanted.hot_keys
                && let Some(client) = places.client()
            {
                look.hot_keys = Some(rank::ask(client, places.nodes()).await.0);
            }
            if looks.send(look).await.is_err() {
                return;
            }
        }
        let asleep = tokio::time::sleep(pause.min(wanted.interval));
        tokio::select! {
            () = asleep => {}
            // Hot keys are wanted now; and nobody waits for the end of a long interval to see a shorter one.
            changed = wish.changed() => if changed.is_err() {
                return;
            },
        }
        pause = Duration::MAX;
    }
}

async fn tables(places: &Places) -> Option<BTreeMap<u32, String>> {
    let tables = places.client()?.list_tables().await.ok()?;
    let names = tables.into_iter();
    Some(names.map(|table| (table.table_id, table.name)).collect())
}

/// Reads the keyboard on a thread of its own: there is no other way to wait for it.
fn read_keys() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let is_over = event.is_err();
            if sender.blocking_send(event).is_err() || is_over {
                return;
            }
        }
    });
    receiver
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}
