//! Does at targets what the state machine wants done there.

use super::BackupOptions;
use crate::server::clock::Clock;
use crate::server::letter::{Letter, Reply};
use crate::state::{BackupCommand, Chore, ChoreKind, Command, Run, State};
use pegasus_backup::files::{AppMetadata, BackupInfo};
use pegasus_backup::{Target, Trouble, catalog, layout};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// How often the decider is asked for chores.
const ASK_PERIOD: Duration = Duration::from_millis(300);
/// A chore that takes longer has failed; it is begun again.
const CHORE_TIMEOUT: Duration = Duration::from_secs(600);

/// A chore with all that is needed to do it.
#[derive(Clone, Debug)]
pub(in crate::server) struct Errand {
    chore: Chore,
    run: Run,
    /// What the table is, as far as there is still something of it.
    replica_count: u8,
    envs: BTreeMap<String, String>,
    created_ms: u64,
    /// Unix milliseconds.
    now_ms: u64,
}

impl Errand {
    /// What is to be done now.
    pub(in crate::server) fn all_of(state: &State) -> Vec<Self> {
        let chores = state.backup_chores();
        let errand = |chore: Chore| {
            let run = state.backups().runs().get(&chore.backup)?.clone();
            let table = state.durable().tables().get(&run.table);
            Some(Self {
                chore,
                replica_count: table.map_or(1, |it| it.replica_count),
                envs: table.map(|it| it.envs.clone()).unwrap_or_default(),
                created_ms: table.map_or(0, |it| it.created_ms),
                run,
                now_ms: state.now_ms(),
            })
        };
        chores.into_iter().filter_map(errand).collect()
    }

    async fn carry_out(self, options: Arc<BackupOptions>) -> (Chore, Result<(), String>) {
        let chore = self.chore;
        let work = async {
            let target = options
                .open(&self.run.site.target)
                .map_err(|failed| failed.message)?;
            match chore.kind {
                ChoreKind::Record => self.record(&target).await,
                ChoreKind::Delete => self.delete(&target).await,
            }
        };
        let result = tokio::time::timeout(CHORE_TIMEOUT, work).await;
        let late = || Err(format!("not done within {} s", CHORE_TIMEOUT.as_secs()));
        (chore, result.unwrap_or_else(|_| late()))
    }

    /// What the table was, then what the backup is: with that it is complete.
    async fn record(&self, target: &Target) -> Result<(), String> {
        let run = &self.run;
        let root = &run.site.root;
        let directory = layout::table_dir(root, run.id, &run.table_name, run.table.0);
        let metadata = layout::app_metadata(&directory);
        let written = target.write_json(&metadata, &self.metadata()).await;
        written.map_err(|error| error.to_string())?;
        let info = layout::backup_info(root, run.id);
        let written = target.write_json(&info, &self.info()).await;
        written.map_err(|error| error.to_string())
    }

    fn metadata(&self) -> AppMetadata {
        let partition_count = i32_of(self.run.partition_count);
        AppMetadata {
            status: "app_status::AS_AVAILABLE".to_owned(),
            app_type: "pegasus".to_owned(),
            app_name: self.run.table_name.clone(),
            app_id: i32_of(self.run.table.0),
            partition_count,
            envs: self.envs.clone(),
            is_stateful: true,
            max_replica_count: self.replica_count.into(),
            create_second: i64_of(self.created_ms / 1_000),
            init_partition_count: -1,
            ..AppMetadata::default()
        }
    }

    fn info(&self) -> BackupInfo {
        let run = &self.run;
        BackupInfo {
            backup_id: i64_of(run.id),
            start_time_ms: i64_of(run.id),
            end_time_ms: i64_of(self.now_ms),
            app_id: Some(i32_of(run.table.0)),
            app_name: Some(run.table_name.clone()),
            policy: Some(run.policy.clone()).filter(|name| !name.is_empty()),
            base_backup_id: i64_of(run.base.unwrap_or(0)),
            bytes_total: i64_of(run.bytes_total),
            bytes_sent: i64_of(run.bytes_sent),
            ..BackupInfo::default()
        }
    }

    async fn delete(&self, target: &Target) -> Result<(), String> {
        match catalog::delete(target, &self.run.site.root, self.run.id).await {
            Err(error) if error.trouble != Trouble::NotFound => Err(error.to_string()),
            // Nothing of it was ever there, or all is gone already.
            _ => Ok(()),
        }
    }
}

fn i32_of(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn i64_of(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Asks the decider for chores and does them until the server stops.
pub(in crate::server) async fn keep(
    letters: mpsc::Sender<Letter>,
    clock: Clock,
    options: Arc<BackupOptions>,
    mut stop: watch::Receiver<bool>,
) {
    let mut ask = tokio::time::interval(ASK_PERIOD);
    ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut under_way: BTreeSet<Chore> = BTreeSet::new();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = ask.tick() => {
                for errand in errands(&letters).await {
                    if under_way.insert(errand.chore) {
                        tasks.spawn(errand.carry_out(Arc::clone(&options)));
                    }
                }
            }
            Some(ended) = tasks.join_next() => {
                let Ok((chore, result)) = ended else {
                    continue;
                };
                under_way.remove(&chore);
                let command = BackupCommand::ChoreEnded { chore, result };
                let command = Command::Backup { command, now_ms: clock.now_ms() };
                _ = letters.send(Letter::Command { command, reply: Reply::Nobody }).await;
            }
        }
    }
}

/// Also when nobody can say so any more.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    _ = stop.wait_for(|stopped| *stopped).await;
}

async fn errands(letters: &mpsc::Sender<Letter>) -> Vec<Errand> {
    let (answer, answered) = oneshot::channel();
    if letters.send(Letter::Errands(answer)).await.is_err() {
        return Vec::new();
    }
    answered.await.unwrap_or_default()
}
