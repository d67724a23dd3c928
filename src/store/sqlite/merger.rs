//! Merges the WAL into the file while another connection goes on writing to it: it takes tens of milliseconds, and nobody has to
//! wait for them.

use std::pin::Pin;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, MaybeDone, maybe_done, ready};
use sqlx::{Connection, SqliteConnection};

/// The merge that was begun last, and then its connection again.
pub struct Merger(MaybeDone<Merge>);

type Merge = BoxFuture<'static, (SqliteConnection, sqlx::Result<()>)>;

impl Merger {
    /// # Errors
    /// The connection does not obey.
    pub async fn new(mut connection: SqliteConnection) -> sqlx::Result<Self> {
        // Whatever a merge would have to wait for, those who commit would wait for it too.
        sqlx::raw_sql("PRAGMA busy_timeout = 0").execute(&mut connection).await?;
        Ok(Self::idle(connection))
    }

    fn idle(connection: SqliteConnection) -> Self {
        Self(maybe_done(ready((connection, Ok(()))).boxed()))
    }

    /// Begins the next merge. `None`: the last one goes on.
    ///
    /// # Errors
    /// The last one failed, and none was begun. Told once.
    pub fn begin(&mut self) -> Option<sqlx::Result<()>> {
        self.go_on();
        let (connection, ended) = Pin::new(&mut self.0).take_output()?;
        match ended {
            Ok(()) => self.0 = maybe_done(merge(connection).boxed()),
            Err(_) => *self = Self::idle(connection),
        }
        self.go_on();
        Some(ended)
    }

    /// Waits until the last merge has ended.
    ///
    /// # Errors
    /// It failed. Told once.
    pub async fn end(&mut self) -> sqlx::Result<()> {
        (&mut self.0).await;
        let Some((connection, ended)) = Pin::new(&mut self.0).take_output() else { return Ok(()) };
        *self = Self::idle(connection);
        ended
    }

    /// Merges all and leaves an empty WAL, unless somebody reads it: then false.
    ///
    /// # Errors
    /// This merge failed, or the last one.
    pub async fn empty(&mut self) -> sqlx::Result<bool> {
        (&mut self.0).await;
        let Some((mut connection, ended)) = Pin::new(&mut self.0).take_output() else { return Ok(false) };
        let emptied = match ended {
            Ok(()) => sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut connection).await,
            Err(error) => Err(error),
        };
        *self = Self::idle(connection);
        emptied.map(|(is_busy, ..)| is_busy == 0)
    }

    pub async fn close(mut self) {
        (&mut self.0).await;
        if let Some((connection, _)) = Pin::new(&mut self.0).take_output() {
            let _ = connection.close().await;
        }
    }

    /// The connection's own thread does the work; here it only gets its order, and is asked whether it is done.
    fn go_on(&mut self) {
        let _ = (&mut self.0).now_or_never();
    }
}

async fn merge(mut connection: SqliteConnection) -> (SqliteConnection, sqlx::Result<()>) {
    let merged = sqlx::raw_sql("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut connection).await.map(drop);
    (connection, merged)
}
