//! A store that forgets with the process: for tests and for trying things out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;

use super::{Loaded, Store, StoreError};
use crate::kernel::session::{Kept, Session, SessionId};

#[derive(Default)]
pub struct MemoryStore {
    /// Shared with the sessions in use.
    rows: Mutex<BTreeMap<SessionId, Arc<Kept>>>,
}

impl Store for MemoryStore {
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>> {
        let saved = match self.rows.lock().entry(next.id()) {
            Entry::Vacant(row) if expected == 0 => {
                row.insert(Arc::clone(next.kept()));
                Ok(())
            }
            Entry::Occupied(mut row) if row.get().version() == expected => {
                row.insert(Arc::clone(next.kept()));
                Ok(())
            }
            _ => Err(StoreError::Conflict),
        };
        ready(saved).boxed()
    }

    fn version(&self, id: SessionId) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        ready(Ok(self.rows.lock().get(&id).map(|row| row.version()))).boxed()
    }

    fn remove(&self, id: SessionId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.rows.lock().remove(&id);
        ready(Ok(())).boxed()
    }

    fn load(&self) -> BoxStream<'_, Result<Vec<Loaded>, StoreError>> {
        stream::once(async { Ok(self.rows.lock().values().map(|row| loaded(row)).collect()) }).boxed()
    }

    fn read(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        ready(Ok(self.rows.lock().get(&id).map(|row| loaded(row)))).boxed()
    }

    fn is_ready(&self) -> BoxFuture<'_, bool> {
        ready(true).boxed()
    }
}

fn loaded(row: &Kept) -> Loaded {
    Loaded::Session(Box::new(row.record()))
}
