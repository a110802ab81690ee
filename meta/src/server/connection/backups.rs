//! What operators ask about backups. A restore reads from the target what the table was before it is decided.

use super::{Connection, End};
use crate::server::backup::{self, prepare_restore};
use crate::server::letter::{Failed, Letter, Query, Reply};
use crate::state::{BackupCommand, Command};
use pegasus_fbs::frame::Header;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Connection<'_> {
    pub(super) async fn ask_of_backups(&self, header: Header, body: &[u8]) -> Result<(), End> {
        let query = backup::query(header.kind, body).map(|query| Query::Backup {
            query,
            options: Arc::clone(&self.shared.backup),
        });
        self.ask(header, query).await
    }

    pub(super) async fn order_backup(&self, header: Header, body: &[u8]) -> Result<(), End> {
        let command = backup::order(header.kind, body).and_then(|command| {
            self.shared.backup.expect_targets(&command)?;
            Ok(self.at_once(command))
        });
        self.order(header, command).await
    }

    pub(super) async fn order_restore(&self, header: Header, body: &[u8]) -> Result<(), End> {
        let command = match backup::restore(body) {
            Ok(request) => self.prepared(request).await,
            Err(failed) => Err(failed),
        };
        match command {
            Ok(command) => {
                let outbox = self.outbox.clone();
                let reply = Reply::Frame { header, outbox };
                self.post(Letter::Command { command, reply }).await
            }
            Err(failed) => {
                self.outbox.refuse(&header, &failed);
                Ok(())
            }
        }
    }

    /// A restore as the state machine carries it out. Refused by a meta that does not lead.
    pub(super) async fn prepared(
        &self,
        request: backup::RestoreRequest,
    ) -> Result<Command, Failed> {
        let (answer, answered) = oneshot::channel();
        let name = self.consult(Letter::ClusterName(answer), answered).await?;
        let command = prepare_restore(&self.shared.backup, &name, request).await?;
        Ok(self.at_once(command))
    }

    pub(super) fn at_once(&self, command: BackupCommand) -> Command {
        let now_ms = self.shared.clock.now_ms();
        Command::Backup { command, now_ms }
    }
}
