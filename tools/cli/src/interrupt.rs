//! Ctrl-C and SIGTERM, for commands that have something to put in order before they end.

use crate::exit::Exit;
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
    either(&mut interrupt, &mut terminate).await;
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(Exit::Interrupted as i32);
    });
}

async fn either(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}
