//! The durable copy of the sessions: what was acknowledged survives the process.
//!
//! [`sealed`] turns sessions into rows that are safe to keep, [`writer`] commits many of them at once, and a backend, SQLite or
//! PostgreSQL, has the one connection that they go through.

pub mod memory;
pub mod postgres;
pub mod row;
mod schema;
pub mod seal;
pub mod sealed;
pub mod sqlite;
pub mod writer;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};
use futures_util::stream::BoxStream;

use crate::kernel::session::record::Record;
use crate::kernel::session::{Session, SessionId};

/// Keeps one row for each session. A change is written before anybody sees it, and only onto the version it was made from.
pub trait Store: Send + Sync + 'static {
    /// Writes `next` if the stored version is still `expected`; 0 means that there must be no row yet.
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The stored version, for the caller that does not know whether its save went through.
    fn version(&self, id: SessionId) -> BoxFuture<'_, Result<Option<u64>, StoreError>>;

    /// Removes the row. A row that is not there is no error.
    fn remove(&self, id: SessionId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Every row, many at a time and in no particular order. One that is written, changed or removed meanwhile may come as it
    /// was, as it is, or not at all.
    fn load(&self) -> BoxStream<'_, Result<Vec<Loaded>, StoreError>>;

    /// The row of one session.
    fn read(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>>;

    /// Whether changes can be written now; for readiness, so it must be quick.
    fn is_ready(&self) -> BoxFuture<'_, bool>;

    /// Whether the last change could not be written, or the present one takes far too long. Known without asking the database;
    /// [`Store::is_ready`] tells whether it still is so.
    fn is_failing(&self) -> bool {
        false
    }

    /// From here on `observer` is told of every commit. Only the first to ask is told.
    fn observe(&self, _observer: Observer) {}

    /// How many changes wait for their commit to begin.
    fn queue(&self) -> usize {
        0
    }

    /// Completes when nobody can say any more what is durable: the process must end, and the next one read it back.
    fn broken(&self) -> BoxFuture<'_, ()> {
        pending().boxed()
    }

    /// Writes what was asked for so far and lets go of the database. Nothing can be saved afterwards.
    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// Told of a commit: how many changes were in it and how long it took. Must be quick and must not panic.
pub type Observer = Box<dyn Fn(usize, Duration) + Send + Sync>;

/// A row as it came back.
#[derive(Clone, Debug)]
pub enum Loaded {
    Session(Box<Record>),
    Unreadable(Unreadable),
    /// Not even its id can be read.
    Nameless,
}

/// What is left of a row that cannot be read. None of it can be trusted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    pub id: SessionId,
    pub version: u64,
    pub provider: Arc<str>,
    pub caller: Option<Arc<str>>,
}

impl Unreadable {
    /// For a record whose parts contradict each other.
    pub fn of(record: &Record) -> Self {
        let Record { id, version, ref provider, ref caller, .. } = *record;
        Self { id, version, provider: Arc::clone(provider), caller: caller.clone() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("another change came first")]
    Conflict,
    #[error("the store cannot be written now; nothing was changed")]
    Unavailable,
    #[error("the store did not say whether the change was written")]
    Unknown,
}

/// Why a store was not opened and what to do about it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(String);

impl OpenError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
