//! Meta: which core of which node holds which replica, under which ballot.
//!
//! Reading order: [`state`] decides (a pure state machine: commands in, outcome out), [`place`] chooses cores for new
//! tables, [`store`] keeps every change on disk before anybody is told of it, [`leadership`] says which of several processes
//! decides, [`server`] speaks to nodes, clients and operators; [`recover`] builds the state anew when its store is lost. The
//! simulator drives [`state::State`] directly.
//!
//! The rules that hold whatever happens:
//!
//! 1. Nothing is told before it is durable: the caller of [`state::State::apply`] persists [`state::Outcome::changes`]
//!    first, then sends the answer and the pushes.
//! 2. Ballots are grown here only, by one for each change, and only against the current ballot.
//! 3. Numbers of tables, nodes and replica incarnations are never used twice.
//! 4. A replica is deleted only by an order that names its incarnation.

#![forbid(unsafe_code)]

#[cfg(feature = "stores")]
pub mod export;
#[cfg(feature = "server")]
pub mod group;
pub mod leadership;
pub mod place;
pub mod recover;
#[cfg(feature = "server")]
pub mod server;
pub mod state;
pub mod store;
