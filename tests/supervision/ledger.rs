//! A store that remembers everything it was ever told.

use std::collections::HashMap;
use std::sync::Arc;

use anteroom::kernel::session::{Session, SessionId, Status};
use anteroom::store::memory::MemoryStore;
use anteroom::store::{Loaded, Store, StoreError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;

#[derive(Default)]
pub struct Ledger {
    store: MemoryStore,
    saved: Mutex<HashMap<SessionId, Vec<(u64, Status)>>>,
}

impl Ledger {
    /// Every version of the session that became durable, and its status.
    pub fn history(&self, id: SessionId) -> Vec<(u64, Status)> {
        self.saved.lock().get(&id).cloned().unwrap_or_default()
    }
}

impl Store for Ledger {
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>> {
        let (id, entry) = (next.id(), (next.version(), next.status()));
        async move {
            self.store.save(expected, next).await?;
            self.saved.lock().entry(id).or_default().push(entry);
            Ok(())
        }
        .boxed()
    }

    fn version(&self, id: SessionId) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        self.store.version(id)
    }

    fn remove(&self, id: SessionId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.remove(id)
    }

    fn load(&self) -> BoxStream<'_, Result<Vec<Loaded>, StoreError>> {
        self.store.load()
    }

    fn read(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        self.store.read(id)
    }

    fn is_ready(&self) -> BoxFuture<'_, bool> {
        self.store.is_ready()
    }
}
