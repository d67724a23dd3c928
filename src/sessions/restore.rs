//! After a start: every sign-in that was acknowledged goes on.

use futures_util::future::join_all;
use tracing::info;

use super::{STORE_RETRY, Sessions, random_jitter};
use crate::kernel::session::record::Record;
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

impl Sessions {
    /// Loads the table from the store. Comes first: nothing may have been begun or set off yet.
    ///
    /// # Errors
    /// The store cannot be read. What was loaded so far must not be used.
    pub async fn restore(&self) -> Result<Restored, StoreError> {
        let mut restored = Restored::default();
        let mut after = None;
        loop {
            let page = self.shared.store.load(after).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id());
            let mut lost = Vec::new();
            for row in page {
                match row {
                    Loaded::Session(record) => self.take_back(*record, &mut restored, &mut lost),
                    Loaded::Unreadable(row) => lost.push(row),
                }
            }
            restored.unreadable += lost.len();
            join_all(lost.into_iter().map(|row| self.fail_unreadable(row))).await;
        }
        let Restored { sessions, unreadable, dropped } = restored;
        info!(sessions, unreadable, dropped, "sessions restored");
        Ok(restored)
    }

    fn take_back(&self, record: Record, restored: &mut Restored, lost: &mut Vec<Unreadable>) {
        let Record { id, version, revision, ref provider, ref caller, .. } = record;
        let row = Unreadable { id, version, revision, provider: provider.clone(), caller: caller.clone() };
        match Session::restored(record, self.now(), random_jitter()) {
            Ok(Some(session)) => {
                restored.sessions += 1;
                self.admit(session);
            }
            Ok(None) => {
                restored.dropped += 1;
                self.erase(id);
            }
            Err(_) => lost.push(row),
        }
    }

    /// The session has failed, and everybody may see it as soon as the store has it.
    async fn fail_unreadable(&self, row: Unreadable) {
        let Unreadable { id, version, revision, provider, caller } = row;
        let failed = Session::unreadable(id, version, revision, provider, caller, self.now());
        self.shared.observer.lost(&failed);
        if self.save(version, &failed).await.is_ok() {
            return self.admit(failed);
        }
        let sessions = self.clone();
        self.shared.tasks.spawn(async move {
            while sessions.save(version, &failed).await.is_err() {
                sessions.shared.clock.sleep_until(sessions.now() + STORE_RETRY).await;
            }
            sessions.admit(failed);
        });
    }

    fn admit(&self, session: Session) {
        if session.is_live() {
            self.shared.quota.readmit(session.opening());
        }
        self.shared.creations.restore(&session);
        let id = session.id();
        if self.shard(id).lock().table.insert(session.clone()).is_ok() {
            self.ring(&session);
        }
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
