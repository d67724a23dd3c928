//! The store over a database: sealed rows, one writer.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

use super::row::Row;
use super::seal::Keyring;
use super::writer::{Backend, Op, Page, Read, Rows, Writer};
use super::{Loaded, Observer, OpenError, Store, StoreError, Unreadable};
use crate::clock::Clock;
use crate::kernel::session::{Session, SessionId};
use crate::kernel::time::Offset;

pub struct SealedStore {
    keyring: Arc<Keyring>,
    /// The number of this start.
    epoch: i64,
    writer: Writer,
    /// Times are stored by its wall clock.
    clock: Arc<dyn Clock>,
}

/// A writer that takes longer to say that it is well is not.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many pages are opened while the next one is read.
const PAGES_OPENED: usize = 4;

impl SealedStore {
    /// Starts the writer's task. `epoch` is the number of this start, which no earlier one of this database had.
    pub fn start(backend: impl Backend, keyring: Keyring, epoch: i64, clock: Arc<dyn Clock>) -> Self {
        Self { keyring: Arc::new(keyring), epoch, writer: Writer::start(backend, Arc::clone(&clock)), clock }
    }

    /// Off the tasks that answer requests: a page takes milliseconds.
    fn open_all(&self, rows: Rows) -> impl Future<Output = Result<Vec<Loaded>, StoreError>> + use<> {
        let (keyring, epoch, offset) = (Arc::clone(&self.keyring), self.epoch, self.clock.offset());
        let open_rows = move || rows.map(|row| open(row, &keyring, epoch, offset)).collect();
        spawn_blocking(open_rows).map(|opened| opened.map_err(|_| StoreError::Unknown))
    }
}

fn open(row: Read, keyring: &Keyring, epoch: i64, offset: Offset) -> Loaded {
    let row = match row {
        Some(Ok(row)) => row,
        Some(Err(unreadable)) => return Loaded::Unreadable(unreadable),
        None => return Loaded::Nameless,
    };
    match row.open(keyring, epoch) {
        Ok(record) => Loaded::Session(Box::new(record.by_the_service(offset))),
        Err(_) => Loaded::Unreadable(Unreadable {
            id: row.id,
            version: row.version.cast_unsigned(),
            provider: Arc::from(row.provider),
            caller: row.caller.map(Arc::from),
        }),
    }
}

impl Store for SealedStore {
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let record = next.record().by_the_wall(self.clock.offset());
            let row = Row::seal(&record, &self.keyring, self.epoch).map_err(|_| StoreError::Unavailable)?;
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
        async move { Ok(self.writer.row(id).await?.map(|row| open(Some(row), &self.keyring, self.epoch, self.clock.offset()))) }.boxed()
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

/// Refuses a key file that opens none of the rows. Where another row opens, one that does not is damaged.
///
/// # Errors
/// The rows cannot be read, or none of them opens.
pub async fn try_keys<E>(
    keyring: &Keyring,
    key_file: &Path,
    rows: impl Stream<Item = Result<Read, E>>,
    cannot_read: impl Fn(E) -> OpenError,
) -> Result<(), OpenError> {
    let (mut rows, mut lacking, mut closed) = (pin!(rows), None, 0);
    while let Some(row) = rows.try_next().await.map_err(&cannot_read)? {
        let Some(Ok(row)) = row else { continue };
        match keyring.get(&row.key_id) {
            Some(_) if row.open(keyring, row.epoch).is_ok() => return Ok(()),
            Some(_) => closed += 1,
            None => lacking = lacking.or(Some(row.key_id)),
        }
    }
    let refusal = |what: &str| Err(OpenError::new(format!("key file {}: {what}; put back the right file", key_file.display())));
    match lacking {
        Some(id) => refusal(&format!("lacks key {}, with which sessions in the store are sealed", id.escape_default())),
        // A single row is more likely damaged than all keys wrong that have the right names.
        None if closed > 1 => refusal("opens none of the sessions in the store"),
        None => Ok(()),
    }
}
