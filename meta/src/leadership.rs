//! Who may decide: of the meta processes of a cluster, one at a time.
//!
//! ```text
//! following --it is made leader--> leading, with a store for this term --Deposed--> following
//! ```
//!
//! Between two terms nothing is remembered: what another leader has decided in the meantime is read again by
//! [`Leadership::begin`], and what nodes report is asked of them anew.
//!
//! What every implementation has to keep:
//!
//! 1. After [`Leadership::begin`] has returned, no store of an earlier term, of this process or another one, makes anything
//!    durable any more: its [`Store::append`] fails by [`StoreError::Deposed`].
//! 2. A batch whose fate is unknown (the connection broke, no majority answered in time) ends the term.
//! 3. [`Store::confirm`] succeeds only if no later term can have begun when it was called.

use crate::state::{ClusterId, Durable};
use crate::store::{Store, StoreError};
use std::fmt;
use std::sync::Arc;

/// Finds out whether this process leads, and gives its decider what it decides on.
pub trait Leadership: Send {
    /// The cluster that this is a meta of; known before anybody leads, and the same for good.
    fn cluster(&self) -> ClusterId;

    /// Called once, before anything else is asked. `wake` is to be called, from any
    /// thread, whenever [`Leadership::standing`] may have changed.
    fn start(&mut self, wake: Wake);

    /// Whether this process leads, as far as it knows now. Does not wait.
    ///
    /// # Errors
    /// Final: this process can never lead again, and ends.
    fn standing(&mut self) -> Result<Standing, StoreError>;

    /// Begins a term: reads everything that any leader has made durable. Called when `standing` says [`Standing::Leads`];
    /// may wait for some seconds.
    ///
    /// # Errors
    /// [`StoreError::Deposed`]: not now, ask `standing` again. Everything else is final.
    fn begin(&mut self) -> Result<Term, StoreError>;

    /// All meta processes of the cluster, as far as is known: for status, redirects and metrics. Does not wait.
    fn members(&self) -> Vec<MetaMember>;

    /// An operator wants the members to be others. Does not wait: `done` is called, from any thread, once it is so, or with a
    /// sentence that says what is wrong.
    fn change_members(&mut self, change: MemberChange, done: ChangeDone);

    /// This process ends: another one may lead at once.
    fn resign(&mut self);
}

/// What a term begins with. Dropping the store ends it.
pub struct Term {
    pub store: Box<dyn Store + Send>,
    /// The fold of everything durable.
    pub durable: Durable,
    /// Grows with every term of the cluster; 0 where there is only one for good.
    pub number: u64,
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, .. } = self;
        f.debug_struct("Term")
            .field("number", number)
            .finish_non_exhaustive()
    }
}

/// Whether a process leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does, or may begin to.
    Leads,
    /// Somebody else does.
    Follows {
        /// `ip:port` of the leader's clients; `None`: nobody is known to lead.
        leader: Option<String>,
    },
}

/// Calls the decider's attention; cheap, from any thread.
#[derive(Clone)]
pub struct Wake(Arc<dyn Fn() + Send + Sync>);

impl Wake {
    /// One that calls `wake`, which must not wait.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Wakes the decider.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake")
    }
}

/// A meta process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaMember {
    /// Number of the member, from 1; 0 where members have none.
    pub id: u64,
    /// `ip:port` of its clients.
    pub address: String,
    /// `ip:port` of its peers; empty where members do not talk to each other.
    pub peer_address: String,
    pub leads: bool,
    /// Whether it answers, as far as this process knows; `None`: it cannot tell.
    pub is_up: Option<bool>,
    /// It only copies what is decided so far, and does not count for a majority.
    pub is_learner: bool,
}

/// What an operator wants of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A further member, with the address of its peers.
    Add { id: u64, peer_address: String },
    /// One member less, which may be gone for good.
    Remove { id: u64 },
}

/// Told what has come of a change of members.
pub type ChangeDone = Box<dyn FnOnce(Result<(), String>) + Send>;

/// The only meta process there is: it leads from start to end, with one store.
pub struct Alone {
    cluster: ClusterId,
    term: Option<(Box<dyn Store + Send>, Durable)>,
}

impl Alone {
    /// One that decides on `durable`, which is what `store` holds.
    #[must_use]
    pub fn new(store: Box<dyn Store + Send>, durable: Durable) -> Self {
        Self {
            cluster: durable.cluster().id,
            term: Some((store, durable)),
        }
    }
}

impl fmt::Debug for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alone")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Leadership for Alone {
    fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn start(&mut self, _wake: Wake) {}

    fn standing(&mut self) -> Result<Standing, StoreError> {
        Ok(Standing::Leads)
    }

    fn begin(&mut self) -> Result<Term, StoreError> {
        let (store, durable) = self
            .term
            .take()
            .expect("a store that is alone is never deposed");
        Ok(Term {
            store,
            durable,
            number: 0,
        })
    }

    fn members(&self) -> Vec<MetaMember> {
        Vec::new()
    }

    fn change_members(&mut self, _change: MemberChange, done: ChangeDone) {
        done(Err(
            "this meta is no member of a group: it keeps its state alone; \
                  `pegasus-meta export` and `import` bring it into one"
                .to_owned(),
        ));
    }

    fn resign(&mut self) {}
}
