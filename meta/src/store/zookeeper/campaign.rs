//! Standing for election, over and over, as long as the process lives.

use super::super::StoreError;
use super::ZooKeeperOptions;
use super::session::{PLAIN, Session, fault};
use crate::leadership::{MetaMember, Standing, Wake};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use zookeeper_client::{Acls, Error, LockOptions, LockPrefix};

/// Between two attempts to reach ZooKeeper.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the end of a process waits until another meta may lead.
const GOODBYE: Duration = Duration::from_secs(1);
/// Of the number at the end of a contender's name.
const DIGITS: usize = 10;

/// What the decider looks at without waiting.
#[derive(Debug, Default)]
struct View {
    /// The session that leads.
    leading: Option<Session>,
    /// Addresses of all metas that run, the leader first.
    contenders: Vec<String>,
}

/// A task that stands for election.
#[derive(Debug)]
pub(super) struct Campaign {
    view: Arc<Mutex<View>>,
    address: String,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What the task works with.
struct Candidate {
    options: ZooKeeperOptions,
    address: String,
    view: Arc<Mutex<View>>,
    wake: Wake,
}

impl Campaign {
    pub(super) fn begin(
        runtime: &Handle,
        options: &ZooKeeperOptions,
        address: &str,
        wake: Wake,
    ) -> Self {
        let view = Arc::new(Mutex::new(View::default()));
        let (stop, mut stopped) = watch::channel(false);
        let candidate = Candidate {
            options: options.clone(),
            address: address.to_owned(),
            view: Arc::clone(&view),
            wake,
        };
        let task = runtime.spawn(async move {
            let stopped = async {
                _ = stopped.wait_for(|stop| *stop).await;
            };
            tokio::pin!(stopped);
            loop {
                let is_stopped = candidate.stand(&mut stopped).await;
                candidate.show(|view| *view = View::default());
                if is_stopped {
                    return;
                }
            }
        });
        Self {
            view,
            address: address.to_owned(),
            stop,
            task,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if view.leading.as_ref().is_some_and(|it| !it.is_over()) {
            return Standing::Leads;
        }
        // Our own address: this process is first, and about to lead, or was just deposed.
        let leader = view.contenders.first().filter(|it| **it != self.address);
        Standing::Follows {
            leader: leader.cloned(),
        }
    }

    /// The session to lead with.
    pub(super) fn leading(&self) -> Option<Session> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.leading.clone().filter(|it| !it.is_over())
    }

    pub(super) fn members(&self) -> Vec<MetaMember> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let members = view.contenders.iter().enumerate();
        members
            .map(|(place, address)| MetaMember {
                id: 0,
                address: address.clone(),
                peer_address: String::new(),
                leads: place == 0,
                is_up: Some(true),
                is_learner: false,
            })
            .collect()
    }

    /// Takes this process's name away, so that another one leads at once; waits a moment for that.
    pub(super) fn end(self, runtime: &Handle) {
        self.stop.send_replace(true);
        let Self { task, .. } = self;
        _ = runtime.block_on(async { tokio::time::timeout(2 * GOODBYE, task).await });
    }
}

impl Candidate {
    /// One session, from its beginning to its end. Returns whether the process ends.
    async fn stand(&self, stopped: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        let session = tokio::select! {
            session = self.options.connect() => session,
            () = &mut *stopped => return true,
        };
        let session = match session {
            Ok(session) => session,
            Err(error) => return self.pause(&error, stopped).await,
        };
        let ended = tokio::select! {
            ended = self.contend(&session) => ended,
            () = &mut *stopped => {
                session.give_up();
                _ = tokio::time::timeout(GOODBYE, self.leave(&session)).await;
                return true;
            }
        };
        session.give_up();
        match ended {
            Ok(()) => false,
            Err(StoreError::Deposed { reason, .. }) => {
                tracing::warn!(reason, "standing for election again");
                false
            }
            Err(error) => self.pause(&error, stopped).await,
        }
    }

    async fn pause(
        &self,
        error: &StoreError,
        stopped: &mut (impl Future<Output = ()> + Unpin),
    ) -> bool {
        tracing::warn!(%error, "no leader can be found or be this meta; trying again");
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => false,
            () = stopped => true,
        }
    }

    /// Waits for its turn, and shows who leads meanwhile; then leads until the session is over.
    async fn contend(&self, session: &Session) -> Result<(), StoreError> {
        let election = session.root.election();
        let prefix = LockPrefix::new_curator(&election, "meta-")
            .map_err(|error| fault(&election, &error, false))?;
        let options = LockOptions::new(Acls::anyone_all())
            .with_ancestor_options(PLAIN)
            .map_err(|error| fault(&election, &error, false))?;
        let turn = session
            .client
            .lock(prefix, self.address.as_bytes(), options);
        let won = async {
            let latch = turn
                .await
                .map_err(|error| fault(&election, &error, false))?;
            tracing::info!(place = latch.lock_path(), "elected");
            self.show(|view| view.leading = Some(session.clone()));
            // Kept until the session ends: who takes it away deposes.
            self.keep(session, latch.lock_path()).await?;
            Err::<(), _>(super::session::deposed(
                "its place in the election is gone",
                false,
            ))
        };
        tokio::select! {
            ended = won => ended,
            followed = self.follow(session) => followed,
            () = session.ended() => Ok(()),
        }
    }

    /// Waits until the znode is gone.
    async fn keep(&self, session: &Session, path: &str) -> Result<(), StoreError> {
        loop {
            match session.client.check_and_watch_stat(path).await {
                Ok((None, _)) => return Ok(()),
                Ok((Some(_), watcher)) => _ = watcher.changed().await,
                Err(Error::ConnectionLoss) => {}
                Err(error) => return Err(fault(path, &error, false)),
            }
        }
    }

    /// Shows who runs and leads, until the session ends.
    async fn follow(&self, session: &Session) -> Result<(), StoreError> {
        loop {
            let (contenders, watcher) = contenders(session).await?;
            self.show(|view| view.contenders = contenders);
            match watcher {
                Some(watcher) => _ = watcher.changed().await,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Gives up its place.
    async fn leave(&self, session: &Session) {
        let election = session.root.election();
        let Ok(names) = session.client.list_children(&election).await else {
            return;
        };
        for name in names {
            let path = format!("{election}/{name}");
            let stat = session.client.check_stat(&path).await.ok().flatten();
            if stat.is_some_and(|it| it.ephemeral_owner == session.client.session_id().0) {
                _ = session.client.delete(&path, None).await;
            }
        }
    }

    fn show(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.wake();
    }
}

/// Addresses of all metas that run, the leader first, and what tells of a change; `None`: nobody has ever run.
pub(super) async fn contenders(
    session: &Session,
) -> Result<(Vec<String>, Option<zookeeper_client::OneshotWatcher>), StoreError> {
    let election = session.root.election();
    let (mut names, watcher) = loop {
        match session.client.list_and_watch_children(&election).await {
            Ok((names, watcher)) => break (names, watcher),
            Err(Error::NoNode) => return Ok((Vec::new(), None)),
            Err(Error::ConnectionLoss) if !session.is_over() => {}
            Err(error) => return Err(fault(&election, &error, false)),
        }
    };
    let number = |name: &String| {
        let at = name.len().saturating_sub(DIGITS);
        name.get(at..).and_then(|digits| digits.parse::<u64>().ok())
    };
    names.retain(|name| number(name).is_some());
    names.sort_by_key(number);
    let mut addresses = Vec::new();
    for name in names {
        let path = format!("{election}/{name}");
        // One that has just gone is shown by the watcher.
        if let Some((bytes, _)) = session.get(&path).await? {
            addresses.push(String::from_utf8_lossy(&bytes).chars().take(256).collect());
        }
    }
    Ok((addresses, Some(watcher)))
}
