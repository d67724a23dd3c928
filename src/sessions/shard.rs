//! The lock, and what stands behind it: one part of the table, the turns to change its sessions, and those who watch them.
//!
//! Only kernel code and map look-ups run under the lock; it is never held across an `.await`. It does not poison, and needs
//! not to: the kernel computes the next session before it puts it in place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedMutexGuard};

use crate::kernel::session::{SessionId, Terms};
use crate::kernel::table::Table;

pub struct Shard(Mutex<Inner>);

pub struct Inner {
    pub table: Table,
    /// Present only while somebody has or wants the turn.
    turns: HashMap<SessionId, Arc<tokio::sync::Mutex<()>>>,
    /// Present only while somebody waits.
    watchers: HashMap<SessionId, Arc<Notify>>,
    /// Present only while the store is being loaded: the sessions that were begun or forgotten meanwhile. What was read of them
    /// is out of date.
    known: Option<HashSet<SessionId>>,
}

/// The exclusive right to change one session, held while a change is on its way to the store. Without it a session changes only
/// in one step under the lock, and only while [`Inner::is_being_changed`] is false.
pub struct Turn {
    shard: Arc<Shard>,
    id: SessionId,
    guard: Option<OwnedMutexGuard<()>>,
}

/// Registered interest in one session. Enable a `notified()` before looking at the session, then no change is missed.
pub struct Watch {
    shard: Arc<Shard>,
    id: SessionId,
    pub changed: Arc<Notify>,
}

impl Shard {
    pub fn new(terms: Terms) -> Self {
        let inner = Inner { table: Table::new(terms), turns: HashMap::new(), watchers: HashMap::new(), known: Some(HashSet::new()) };
        Self(Mutex::new(inner))
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock()
    }

    pub async fn turn(self: &Arc<Self>, id: SessionId) -> Turn {
        let mutex = Arc::clone(self.lock().turns.entry(id).or_default());
        // Made before the wait, so that a caller who gives up waiting cleans up as well.
        let mut turn = Turn { shard: Arc::clone(self), id, guard: None };
        turn.guard = Some(mutex.lock_owned().await);
        turn
    }

    pub fn watch(self: &Arc<Self>, id: SessionId) -> Watch {
        let changed = Arc::clone(self.lock().watchers.entry(id).or_default());
        Watch { shard: Arc::clone(self), id, changed }
    }
}

impl Inner {
    pub fn is_being_changed(&self, id: SessionId) -> bool {
        self.turns.contains_key(&id)
    }

    /// Whether a row that was read may become a session: while loading, unless we know more than the row says.
    pub fn may_come(&self, id: SessionId) -> bool {
        self.known.as_ref().is_some_and(|known| !known.contains(&id)) && self.table.get(id).is_none()
    }

    /// From here on no row that was read says anything about this session.
    pub fn know(&mut self, id: SessionId) {
        if let Some(known) = &mut self.known {
            known.insert(id);
        }
    }

    /// Everything has been loaded.
    pub fn loaded(&mut self) {
        self.known = None;
    }

    pub fn watchers(&self) -> usize {
        // One is the map's own.
        self.watchers.values().map(|changed| Arc::strong_count(changed) - 1).sum()
    }

    pub fn wake_watchers(&self, id: SessionId) {
        if let Some(changed) = self.watchers.get(&id) {
            changed.notify_waiters();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.shard.lock();
        drop(self.guard.take());
        if inner.turns.get(&self.id).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
            inner.turns.remove(&self.id);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut inner = self.shard.lock();
        // Two: the map's and ours.
        if inner.watchers.get(&self.id).is_some_and(|changed| Arc::strong_count(changed) == 2) {
            inner.watchers.remove(&self.id);
        }
    }
}
