//! Riding out a time in which a partition does not answer.

use pegasus_client::Error;
use std::time::Duration;

/// For one request and its repetitions.
#[derive(Debug)]
pub(crate) struct Patience {
    tries_left: u32,
    pause: Duration,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self {
            tries_left: 30,
            pause: Duration::from_millis(50),
        }
    }

    /// Waits, or gives the error back when it is final or was met too often in a row.
    pub(crate) async fn wait_after(&mut self, error: Error) -> anyhow::Result<()> {
        const PAUSE_MAX: Duration = Duration::from_secs(1);
        if self.tries_left == 0 || !matches!(error, Error::NotExecuted(_)) {
            return Err(error.into());
        }
        self.tries_left -= 1;
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

/// Does a write that has the same effect when it is done twice.
pub(crate) async fn until_done<T>(
    write: impl AsyncFn() -> pegasus_client::Result<T>,
) -> anyhow::Result<T> {
    let mut patience = Patience::new();
    loop {
        match write().await {
            Ok(done) => return Ok(done),
            Err(Error::Unknown(cause)) => patience.wait_after(Error::NotExecuted(cause)).await?,
            Err(error) => patience.wait_after(error).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use pegasus_client::{Cause, Code};
    use std::cell::Cell;

    fn cause() -> Cause {
        Cause {
            code: Some(Code::Busy),
            message: String::new(),
        }
    }

    #[tokio::test]
    async fn a_write_is_repeated_while_that_can_help() {
        let asked = Cell::new(0);
        let done = until_done(async || {
            asked.set(asked.get() + 1);
            match asked.get() {
                1 => Err(Error::NotExecuted(cause())),
                2 => Err(Error::Unknown(cause())),
                _ => Ok(7),
            }
        });
        assert_eq!(done.await.unwrap(), 7);
        let refused = async || {
            asked.set(asked.get() + 1);
            Err::<(), _>(Error::Failed {
                code: Code::TooLarge,
                message: String::new(),
            })
        };
        assert!(until_done(refused).await.is_err());
        assert_eq!(asked.get(), 4, "a refusal is final");
    }
}
