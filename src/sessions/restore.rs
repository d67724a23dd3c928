//! After a start: every sign-in that was acknowledged goes on.
//!
//! The table is loaded while requests are answered. A session that somebody asks for is fetched ahead of the rest. So a row can
//! come late: it never takes the place of what is in the table, and what left the table does not come back with it.

use std::ops::AddAssign;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{FutureExt, TryStreamExt};
use tokio::task::spawn_blocking;
use tracing::info;

use super::shard::Inner;
use super::{ChangeError, SHARDS, STORE_RETRY, Sessions};
use crate::kernel::pace::Jitter;
use crate::kernel::session::record::Common;
use crate::kernel::session::{Session, SessionId};
use crate::store::{Loaded, StoreError, Unreadable};

/// What came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Sessions that go on, settled ones included.
    pub sessions: usize,
    /// Rows that could not be read; their sessions have failed.
    pub unreadable: usize,
    /// Creations that were cut off; nobody ever heard of them.
    pub dropped: usize,
}

/// How many pages are put into the table at once.
const PAGES_AT_ONCE: usize = 2;

impl Sessions {
    /// Loads the table from the store, once.
    ///
    /// # Errors
    /// The store cannot be read. The process must end: what has not been loaded would be lost to those who wait for it.
    pub async fn restore(&self) -> Result<Restored, StoreError> {
        info!("loading the sessions");
        let take_back = |page| {
            let sessions = self.clone();
            // Off the tasks that answer requests.
            spawn_blocking(move || sessions.take_back(page)).map(|taken| taken.map_err(|_| StoreError::Unknown))
        };
        let mut pages = self.shared.store.load().map_ok(take_back).try_buffer_unordered(PAGES_AT_ONCE);
        while let Some(lost) = pages.try_next().await? {
            join_all(lost.into_iter().map(|row| self.fail_unreadable(row))).await;
        }
        for shard in &self.shared.shards {
            shard.lock().loaded();
        }
        let restored = *self.shared.counted.lock();
        let Restored { sessions, unreadable, dropped } = restored;
        info!(sessions, unreadable, dropped, "sessions restored");
        // Only the first to load tells.
        let _ = self.shared.restored.set(restored);
        Ok(restored)
    }

    /// Whether there may be sessions that are not in the table yet.
    pub fn is_loading(&self) -> bool {
        !self.shared.restored.initialized()
    }

    /// Completes once every session is in the table.
    pub(super) async fn loaded(&self) {
        self.shared.restored.wait().await;
    }

    /// Sees to it that the session is in the table if there is one, without waiting for all the others.
    ///
    /// # Errors
    /// [`ChangeError::Store`]: nobody can say now whether there is one.
    pub async fn fetch(&self, id: SessionId) -> Result<(), ChangeError> {
        if !self.is_loading() || !self.shard(id).lock().may_come(id) {
            return Ok(());
        }
        let Some(row) = self.shared.store.read(id).await.map_err(|_| ChangeError::Store)? else { return Ok(()) };
        for row in self.take_back(vec![row]) {
            let sessions = self.clone();
            // In a task: the row is failed as a whole even if the caller goes away.
            let failed = self.shared.tasks.spawn(async move { sessions.fail_unreadable(row).await });
            failed.await.map_err(|_| ChangeError::Store)?;
        }
        Ok(())
    }

    /// Puts the sessions of these rows into the table. Returns the rows that make no session.
    fn take_back(&self, page: Vec<Loaded>) -> Vec<Unreadable> {
        let now = self.now();
        let mut jitter = vec![0; page.len()];
        // Without randomness there is no jitter; nothing depends on it.
        let _ = getrandom::fill(&mut jitter);
        let (mut lost, mut cut, mut restored, mut common) = (Vec::new(), Vec::new(), Restored::default(), Common::default());
        let mut parts: [Vec<Session>; SHARDS] = Default::default();
        for (row, jitter) in page.into_iter().zip(jitter) {
            let mut record = match row {
                Loaded::Session(record) => *record,
                Loaded::Unreadable(row) => {
                    lost.push(row);
                    continue;
                }
                Loaded::Nameless => {
                    restored.unreadable += 1;
                    self.shared.observer.lost(&Session::unreadable(SessionId::nil(), 0, "".into(), None, now));
                    continue;
                }
            };
            record.share(&mut common);
            let is_cut = record.cut(now, &self.shared.terms);
            let (id, row) = (record.id, Unreadable::of(&record));
            match Session::restored(record, now, Jitter(jitter)) {
                Ok(Some(session)) => {
                    #[expect(clippy::indexing_slicing, reason = "there is one for each place")]
                    parts[self.place(id)].push(session);
                    cut.extend(is_cut.then_some(id));
                }
                Ok(None) if self.drop_cut_off(id) => restored.dropped += 1,
                Ok(None) => {}
                Err(_) => lost.push(row),
            }
        }
        for (shard, part) in self.shared.shards.iter().zip(parts).filter(|(_, part)| !part.is_empty()) {
            let mut inner = shard.lock();
            for session in part {
                if inner.may_come(session.id()) {
                    restored.sessions += 1;
                    self.admit(&mut inner, session);
                }
            }
            self.ring_first(&inner);
        }
        *self.shared.counted.lock() += restored;
        self.store_again(cut);
        lost
    }

    /// What was cut is so for good: if only the table had it, each start would count anew.
    fn store_again(&self, cut: Vec<SessionId>) {
        if cut.is_empty() {
            return;
        }
        let sessions = self.clone();
        self.shared.tasks.spawn(async move {
            for id in cut {
                // Refused only where it is gone.
                let _ = sessions.persevere(id, |session, _| Ok((Some(session.stored_again()), ()))).await;
            }
        });
    }

    /// The session has failed, and everybody may see it as soon as the store has it.
    async fn fail_unreadable(&self, row: Unreadable) {
        let Unreadable { id, version, provider, caller } = row;
        // Whoever comes second finds it in the table.
        let turn = self.shard(id).turn(id).await;
        if !self.shard(id).lock().may_come(id) {
            return;
        }
        self.shared.counted.lock().unreadable += 1;
        let failed = Session::unreadable(id, version, provider, caller, self.now());
        self.shared.observer.lost(&failed);
        if self.replace_unreadable(version, &failed).await.is_ok() {
            return self.admit(&mut self.shard(id).lock(), failed);
        }
        let sessions = self.clone();
        self.shared.tasks.spawn(async move {
            while sessions.replace_unreadable(version, &failed).await.is_err() {
                sessions.shared.clock.sleep_until(sessions.now() + STORE_RETRY).await;
            }
            sessions.admit(&mut sessions.shard(id).lock(), failed);
            drop(turn);
        });
    }

    /// Its version may be what cannot be read: then nothing can be written onto it, and it is removed first.
    async fn replace_unreadable(&self, version: u64, failed: &Session) -> Result<(), ChangeError> {
        let store = &self.shared.store;
        match store.save(version, Arc::new(failed.clone())).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict) => {
                store.remove(failed.id()).await.map_err(|_| ChangeError::Store)?;
                self.save(0, failed).await
            }
            Err(_) => Err(ChangeError::Store),
        }
    }

    fn admit(&self, inner: &mut Inner, session: Session) {
        let Ok(session) = inner.table.insert(session) else { return };
        if session.is_live() {
            self.shared.quota.readmit(session.opening());
        }
        self.shared.creations.restore(&session);
    }

    /// Nobody ever heard of this session, unless it is being created now.
    fn drop_cut_off(&self, id: SessionId) -> bool {
        let mut inner = self.shard(id).lock();
        let is_cut_off = inner.may_come(id);
        if is_cut_off {
            inner.know(id);
            self.erase(id);
        }
        is_cut_off
    }

    /// Removes the row of a session that nobody will ask for, as soon as that can be.
    pub(super) fn erase(&self, id: SessionId) {
        let sessions = self.clone();
        self.shared.tasks.spawn(async move {
            while sessions.shared.store.remove(id).await.is_err() {
                sessions.shared.clock.sleep_until(sessions.now() + STORE_RETRY).await;
            }
        });
    }
}

impl AddAssign for Restored {
    fn add_assign(&mut self, more: Self) {
        self.sessions += more.sessions;
        self.unreadable += more.unreadable;
        self.dropped += more.dropped;
    }
}
