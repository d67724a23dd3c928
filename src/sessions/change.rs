//! Prepare, make durable, publish.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::shard::Inner;
use super::{ChangeError, STORE_RETRY, Sessions};
use crate::kernel::session::{Refused, Session, SessionId};
use crate::kernel::time::Timestamp;
use crate::store::StoreError;

impl Sessions {
    /// Takes the turn, lets `decide` prepare the next session, makes it durable and publishes it. No next session: nothing to
    /// change.
    pub(super) async fn change<T>(
        &self,
        id: SessionId,
        decide: impl Fn(Session, Timestamp) -> Result<(Option<Session>, T), Refused>,
    ) -> Result<T, ChangeError> {
        let _turn = self.shard(id).turn(id).await;
        let current = self.peek(id).ok_or(ChangeError::Refused(Refused::Unknown))?;
        let (next, outcome) = decide(Session::clone(&current), self.now()).map_err(ChangeError::Refused)?;
        if let Some(next) = next {
            self.write(&current, next).await?;
        }
        Ok(outcome)
    }

    /// A change that must not be lost: offered to the store until it is durable or the kernel refuses it. The turn is free in
    /// between. A session that the store has never had is given up instead, so that its creator can be told at once.
    pub(super) async fn persevere(&self, id: SessionId, decide: impl Fn(Session, Timestamp) -> Result<(Option<Session>, ()), Refused>) {
        while self.change(id, &decide).await == Err(ChangeError::Store) {
            if self.peek(id).is_some_and(|session| session.version() == 0) {
                self.forget(id);
                return;
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
        self.publish(&mut inner, current, next).map(|_| ()).map_err(ChangeError::Refused)
    }

    pub(super) async fn save(&self, expected: u64, next: &Session) -> Result<(), ChangeError> {
        match self.shared.store.save(expected, Arc::new(next.clone())).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict | StoreError::Unavailable) => Err(ChangeError::Store),
            Err(StoreError::Unknown) => loop {
                match self.shared.store.version(next.id()).await {
                    Ok(Some(version)) if version == next.version() => return Ok(()),
                    Ok(_) => return Err(ChangeError::Store),
                    Err(_) => self.shared.clock.sleep_until(self.now() + STORE_RETRY).await,
                }
            },
        }
    }

    pub(super) fn publish(&self, inner: &mut Inner, current: &Session, next: Session) -> Result<Arc<Session>, Refused> {
        let next = inner.table.commit(next)?;
        if next.revision() != current.revision() || next.is_renewing() != current.is_renewing() {
            inner.wake_watchers(next.id());
        }
        if current.is_live() && !next.is_live() {
            self.shared.quota.release(next.opening());
        }
        if current.creation().is_some() && next.creation().is_none() {
            self.shared.creations.forget(current);
        }
        if current.status() != next.status() {
            self.shared.observer.moved(current, &next);
        }
        self.ring(&next);
        Ok(next)
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
