//! The durable copy of the sessions: what was acknowledged survives the process.

pub mod memory;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::kernel::session::{Session, SessionId};

/// Keeps one row for each session. A change is written before anybody sees it, and only onto the version it was made from.
pub trait Store: Send + Sync + 'static {
    /// Writes `next` if the stored version is still `expected`; 0 means that there must be no row yet.
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The stored version, for the caller that does not know whether its save went through.
    fn version(&self, id: SessionId) -> BoxFuture<'_, Result<Option<u64>, StoreError>>;

    /// Removes the row. A row that is not there is no error.
    fn remove(&self, id: SessionId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether changes can be written now; for readiness, so it must be quick.
    fn is_ready(&self) -> BoxFuture<'_, bool>;
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
