//! The store over a database: sealed rows, one writer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

use super::row::Row;
use super::seal::Keyring;
use super::writer::{Backend, Op, Page, Rows, Writer};
use super::{Loaded, Observer, Store, StoreError, Unreadable};
use crate::clock::Clock;
use crate::kernel::session::{Session, SessionId};
use crate::kernel::time::Offset;

pub struct SealedStore {
    keyring: Arc<Keyring>,
    writer: Writer,
    /// Times are stored by its wall clock.
    clock: Arc<dyn Clock>,
}

/// A writer that takes longer to say that it is well is not.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many pages are opened while the next one is read.
const PAGES_OPENED: usize = 4;

impl SealedStore {
    /// Starts the writer's task.
    pub fn start(backend: impl Backend, keyring: Keyring, clock: Arc<dyn Clock>) -> Self {
        Self { keyring: Arc::new(keyring), writer: Writer::start(backend, Arc::clone(&clock)), clock }
    }

    /// Off the tasks that answer requests: a page takes milliseconds.
    fn open_all(&self, rows: Rows) -> impl Future<Output = Result<Vec<Loaded>, StoreError>> + use<> {
        let (keyring, offset) = (Arc::clone(&self.keyring), self.clock.offset());
        spawn_blocking(move || rows.map(|row| open(row, &keyring, offset)).collect()).map(|opened| opened.map_err(|_| StoreError::Unknown))
    }
}

fn open(row: Result<Row, Unreadable>, keyring: &Keyring, offset: Offset) -> Loaded {
    let row = match row {
        Ok(row) => row,
        Err(unreadable) => return Loaded::Unreadable(unreadable),
    };
    match row.open(keyring) {
        Ok(record) => Loaded::Session(Box::new(record.by_the_service(offset))),
        Err(_) => Loaded::Unreadable(Unreadable {
            id: row.id,
            version: row.version.cast_unsigned(),
            revision: row.revision.cast_unsigned(),
            provider: Arc::from(row.provider),
            caller: row.caller.map(Arc::from),
        }),
    }
}

impl Store for SealedStore {
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let row = Row::seal(&next.record().by_the_wall(self.clock.offset()), &self.keyring).map_err(|_| StoreError::Unavailable)?;
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

    fn load(&self) -> BoxStream<'_, Result<Vec<Loaded>, StoreError>> {
        let pages = stream::try_unfold(None, async |after| {
            let Page { rows, end } = self.writer.page(after).await?;
            Ok(end.map(|end| (rows, Some(end))))
        });
        pages.map_ok(|rows| self.open_all(rows)).try_buffered(PAGES_OPENED).boxed()
    }

    fn read(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        async move { Ok(self.writer.row(id).await?.map(|row| open(row, &self.keyring, self.clock.offset()))) }.boxed()
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
