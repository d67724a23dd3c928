//! The store over a database: sealed rows, one writer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::row::Row;
use super::seal::Keyring;
use super::writer::{Backend, Op, Writer};
use super::{Loaded, Observer, Store, StoreError, Unreadable};
use crate::clock::Clock;
use crate::kernel::session::{Session, SessionId};

pub struct SealedStore {
    keyring: Keyring,
    writer: Writer,
}

/// A writer that takes longer to say that it is well is not.
const PATIENCE: Duration = Duration::from_secs(1);

impl SealedStore {
    /// Starts the writer's task.
    pub fn start(backend: impl Backend, keyring: Keyring, clock: Arc<dyn Clock>) -> Self {
        Self { keyring, writer: Writer::start(backend, clock) }
    }

    fn read(&self, row: Row) -> Loaded {
        match row.open(&self.keyring) {
            Ok(record) => Loaded::Session(Box::new(record)),
            Err(_) => Loaded::Unreadable(Unreadable {
                id: row.id,
                version: row.version.cast_unsigned(),
                revision: row.revision.cast_unsigned(),
                provider: Arc::from(row.provider),
                caller: row.caller.map(Arc::from),
            }),
        }
    }
}

impl Store for SealedStore {
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let row = Row::seal(&next.record(), &self.keyring).map_err(|_| StoreError::Unavailable)?;
            self.writer.write(Op::Save { expected: expected.cast_signed(), row: Box::new(row) }).await
        }
        .boxed()
    }

    fn version(&self, id: SessionId) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        async move { Ok(self.writer.version(id).await?.map(i64::cast_unsigned)) }.boxed()
    }

    fn remove(&self, id: SessionId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.writer.write(Op::Remove(id)).boxed()
    }

    fn load(&self, after: Option<SessionId>) -> BoxFuture<'_, Result<Vec<Loaded>, StoreError>> {
        async move {
            let page = self.writer.page(after.unwrap_or(Uuid::nil())).await?;
            Ok(page.into_iter().map(|row| row.map_or_else(Loaded::Unreadable, |row| self.read(row))).collect())
        }
        .boxed()
    }

    fn is_ready(&self) -> BoxFuture<'_, bool> {
        async move { matches!(tokio::time::timeout(PATIENCE, self.writer.probe()).await, Ok(Ok(()))) }.boxed()
    }

    fn is_failing(&self) -> bool {
        self.writer.is_failing()
    }

    fn observe(&self, observer: Observer) {
        self.writer.observe(observer);
    }

    fn queue(&self) -> usize {
        self.writer.queue()
    }

    fn broken(&self) -> BoxFuture<'_, ()> {
        self.writer.broken().boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.writer.close().boxed()
    }
}
