//! Prepare, make durable, publish.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::warn;

use super::shard::Inner;
use super::{ChangeError, STORE_RETRY, Sessions, random_jitter};
use crate::kernel::session::{Refused, Session, SessionId};
use crate::kernel::time::Timestamp;
use crate::store::{Loaded, StoreError, Unreadable};

/// How often a change is decided anew on what the store has.
const CONFLICTS: usize = 3;

impl Sessions {
    /// Takes the turn, lets `decide` prepare the next session, makes it durable and publishes it. No next session: nothing to
    /// change.
    pub(super) async fn change<T>(
        &self,
        id: SessionId,
        decide: impl Fn(Session, Timestamp) -> Result<(Option<Session>, T), Refused>,
    ) -> Result<T, ChangeError> {
        let _turn = self.shard(id).turn(id).await;
        for _ in 0..CONFLICTS {
            let current = self.peek(id).ok_or(ChangeError::Refused(Refused::Unknown))?;
            let (next, outcome) = decide(Session::clone(&current), self.now()).map_err(ChangeError::Refused)?;
            let Some(next) = next else { return Ok(outcome) };
            match self.write(&current, next).await {
                Err(ChangeError::Conflict) => self.reload(&current).await?,
                written => return written.map(|()| outcome),
            }
        }
        Err(ChangeError::Store)
    }

    /// A change that must not be lost: offered to the store until it is durable. The turn is free in between. A session that the
    /// store has never had is given up instead, so that its creator can be told at once.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(super) async fn persevere(
        &self,
        id: SessionId,
        decide: impl Fn(Session, Timestamp) -> Result<(Option<Session>, ()), Refused>,
    ) -> Result<(), Refused> {
        loop {
            match self.change(id, &decide).await {
                Ok(()) => return Ok(()),
                Err(ChangeError::Refused(refused)) => return Err(refused),
                Err(ChangeError::Store | ChangeError::Conflict) => {}
            }
            if self.peek(id).is_some_and(|session| session.version() == 0) {
                self.forget(id);
                return Err(Refused::Unknown);
            }
            self.shared.clock.sleep_until(self.now() + STORE_RETRY).await;
        }
    }

    /// The caller holds the turn.
    pub(super) async fn write(&self, current: &Arc<Session>, next: Session) -> Result<(), ChangeError> {
        if next.version() != current.version() {
            self.save(current.version(), &next).await?;
        }
        let mut inner = self.shard(next.id()).lock();
        let next = inner.table.commit_onto(current, next).map_err(ChangeError::Refused)?;
        self.published(&inner, current, &next);
        Ok(())
    }

    /// # Errors
    /// [`ChangeError::Store`], or [`ChangeError::Conflict`]: the store has another version than `expected`.
    pub(super) async fn save(&self, expected: u64, next: &Session) -> Result<(), ChangeError> {
        match self.shared.store.save(expected, Arc::new(next.clone())).await {
            Ok(()) => Ok(()),
            Err(StoreError::Unavailable) => Err(ChangeError::Store),
            Err(StoreError::Conflict) => Err(ChangeError::Conflict),
            Err(StoreError::Unknown) => loop {
                match self.shared.store.version(next.id()).await {
                    Ok(Some(version)) if version == next.version() => return Ok(()),
                    Ok(_) => return Err(ChangeError::Store),
                    Err(_) => self.shared.clock.sleep_until(self.now() + STORE_RETRY).await,
                }
            },
        }
    }

    /// The table is not what the store has, as after a failover to a standby that lagged behind: from here on it is. The caller
    /// holds the turn.
    ///
    /// # Errors
    /// [`ChangeError::Store`]: the store cannot be read.
    pub(super) async fn reload(&self, stale: &Arc<Session>) -> Result<(), ChangeError> {
        let id = stale.id();
        warn!("the store has another version of a sign-in; it goes on from there");
        let Some(row) = self.shared.store.read(id).await.map_err(|_| ChangeError::Store)? else { return self.put_back(stale).await };
        let unreadable = |row: Unreadable| {
            let Unreadable { id, version, provider, caller } = row;
            Session::unreadable(id, version, provider, caller, self.now())
        };
        let stored = match row {
            Loaded::Session(record) => {
                let row = Unreadable::of(&record);
                Session::restored(*record, self.now(), random_jitter()).unwrap_or_else(|_| Some(unreadable(row)))
            }
            Loaded::Unreadable(row) => Some(unreadable(row)),
            Loaded::Nameless => None,
        };
        let Some(stored) = stored else {
            self.forget(id);
            return Ok(());
        };
        let mut inner = self.shard(id).lock();
        if inner.table.get(id).is_some() {
            let next = inner.table.replace(stored.in_place_of(stale));
            self.shared.creations.restore(&next);
            self.published(&inner, stale, &next);
        }
        Ok(())
    }

    /// The store has lost the session, and somebody was told that it goes on: what the table has is the only copy.
    async fn put_back(&self, session: &Session) -> Result<(), ChangeError> {
        if session.version() == 0 {
            return Ok(());
        }
        match self.save(0, session).await {
            Err(ChangeError::Conflict) => Ok(()),
            saved => saved,
        }
    }

    pub(super) fn publish(&self, inner: &mut Inner, current: &Session, next: Session) -> Result<Arc<Session>, Refused> {
        let next = inner.table.commit(next)?;
        self.published(inner, current, &next);
        Ok(next)
    }

    /// Tells everybody that `next` is in the place of `current`.
    fn published(&self, inner: &Inner, current: &Session, next: &Session) {
        if next.revision() != current.revision() || next.is_renewing() != current.is_renewing() {
            inner.wake_watchers(next.id());
        }
        match (current.is_live(), next.is_live()) {
            (true, false) => self.shared.quota.release(next.opening()),
            // It was admitted when it was renewed, or the store knows better than the table did.
            (false, true) if !next.is_renewing() => self.shared.quota.readmit(next.opening()),
            _ => {}
        }
        if current.creation().is_some() && next.creation().is_none() {
            self.shared.creations.forget(current);
        }
        if current.status() != next.status() {
            self.shared.observer.moved(current, next);
        }
        self.ring(next);
    }

    pub(super) fn forget(&self, id: SessionId) -> Option<Arc<Session>> {
        let mut inner = self.shard(id).lock();
        inner.know(id);
        let gone = inner.table.forget(id)?;
        inner.wake_watchers(id);
        drop(inner);
        if gone.is_live() {
            self.shared.quota.release(gone.opening());
        }
        self.shared.creations.forget(&gone);
        self.shared.observer.gone(&gone);
        Some(gone)
    }

    /// Wakes the scheduler if this session is due before it meant to look again.
    pub(super) fn ring(&self, session: &Session) {
        self.ring_at(session.due(&self.shared.terms).map(|(at, _)| at));
    }

    /// The same for all the sessions of a shard.
    pub(super) fn ring_first(&self, inner: &Inner) {
        self.ring_at(inner.table.deadlines().map(|(_, at)| at).min());
    }

    fn ring_at(&self, due: Option<Timestamp>) {
        if due.is_some_and(|at| at.as_millis() < self.shared.alarm.load(Ordering::SeqCst)) {
            self.shared.bell.notify_one();
        }
    }
}
