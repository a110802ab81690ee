//! Ctrl-C and SIGTERM, for commands that have something to put in order before they end.

use crate::exit::Exit;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ends with the first signal. A second one ends the program at once, so that nobody has to wait for the tidying up.
pub(crate) async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // No handler could be installed: signals then end the program the usual way.
        return std::future::pending().await;
    };
    LISTENED.store(true, Ordering::Relaxed);
    either(&mut interrupt, &mut terminate).await;
    if in_shell() {
        return;
    }
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(Exit::Interrupted as i32);
    });
}

/// The command that runs is one of many: what ends it does not end the program.
static IN_SHELL: AtomicBool = AtomicBool::new(false);
/// The command that runs ends by itself after Ctrl-C.
static LISTENED: AtomicBool = AtomicBool::new(false);

pub(crate) fn in_shell() -> bool {
    IN_SHELL.load(Ordering::Relaxed)
}

/// For the shell: ends when the command that begins now has to be dropped, with Ctrl-C or SIGTERM, or with the second of
/// them if the command puts something in order after the first.
pub(crate) async fn dropped() {
    IN_SHELL.store(true, Ordering::Relaxed);
    LISTENED.store(false, Ordering::Relaxed);
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    either(&mut interrupt, &mut terminate).await;
    if LISTENED.load(Ordering::Relaxed) {
        either(&mut interrupt, &mut terminate).await;
    }
}

async fn either(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}
