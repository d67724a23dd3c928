//! The handle everyone holds: the only lock, the only writer.
//!
//! A change is prepared by the kernel, made durable where it must survive, then published to the table and to those who watch.
//! Nobody ever sees a state that the store does not have. Changes of one session happen one at a time: a durable one holds the
//! session's [turn](shard::Turn) while it is on its way to the store, any other is one step under the lock. Durable changes run
//! in tracked tasks, so whoever asked may go away and the change is still whole.

mod create;
mod quota;
mod renew;
mod restore;
mod shard;

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use self::create::{Create, CreateError, Created, Idempotency};
pub use self::quota::Quota;
pub use self::renew::RenewError;
pub use self::restore::Restored;
use self::shard::Shard;
use crate::clock::Clock;
use crate::kernel::pace::Jitter;
use crate::kernel::session::{Attempt, Digest, Errand, Lapsed, Refused, Session, SessionId, Status, Terms};
use crate::kernel::table::Lane;
use crate::kernel::time::Timestamp;
use crate::kernel::verdict::{Began, Failure, Grant, Verdict};
use crate::store::{Store, StoreError};

#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    shards: Box<[Arc<Shard>]>,
    hasher: std::hash::RandomState,
    terms: Terms,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
    quota: Quota,
    creations: create::Creations,
    tasks: TaskTracker,
    /// Rings when something is due before the scheduler meant to look again.
    bell: Arc<Notify>,
    /// When the scheduler looks again, in milliseconds since the epoch.
    alarm: AtomicU64,
    /// How many sessions may be lapsing at once.
    lapsing: Arc<Semaphore>,
    observer: Arc<dyn Observer>,
}

/// Told of what has happened, after it has: for metrics, the audit log, and whoever keeps something for a session. Must be
/// quick and must not panic.
pub trait Observer: Send + Sync + 'static {
    /// A session was opened; the provider is about to be asked.
    fn opened(&self, session: &Session);
    /// A session is in another state than before.
    fn moved(&self, before: &Session, after: &Session);
    /// A session has failed because its row in the store cannot be read.
    fn lost(&self, session: &Session);
    /// A session has left the table.
    fn gone(&self, session: &Session);
}

/// What a poller brings back.
#[derive(Debug)]
pub enum Answer {
    Begun(Result<Began, Failure>),
    Verdict(Verdict),
    Revoked(bool),
}

impl Answer {
    /// For metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Begun(Ok(_)) => "begun",
            Self::Begun(Err(failure)) => failure.code(),
            Self::Verdict(verdict) => verdict.name(),
            Self::Revoked(true) => "revoked",
            Self::Revoked(false) => "not_revoked",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeError {
    Refused(Refused),
    /// The change could not be made durable, so it did not happen.
    Store,
}

const SHARDS: usize = 16;
const LAPSING: usize = 256;
/// How long to wait before a change that must not be lost is offered to the store again.
const STORE_RETRY: Duration = Duration::from_millis(500);

// === reading ===

impl Sessions {
    pub fn new(
        terms: Terms,
        quota: Quota,
        clock: Arc<dyn Clock>,
        store: Arc<dyn Store>,
        bell: Arc<Notify>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let shared = Shared {
            shards: (0..SHARDS).map(|_| Arc::new(Shard::new(terms))).collect(),
            hasher: std::hash::RandomState::new(),
            terms,
            clock,
            store,
            quota,
            creations: create::Creations::default(),
            tasks: TaskTracker::new(),
            bell,
            alarm: AtomicU64::new(u64::MAX),
            lapsing: Arc::new(Semaphore::new(LAPSING)),
            observer,
        };
        Self { shared: Arc::new(shared) }
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    pub fn terms(&self) -> Terms {
        self.shared.terms
    }

    /// How many sessions wait for the provider, the person or the owner.
    pub fn live(&self) -> usize {
        self.shared.quota.live()
    }

    /// The session, unless it is unknown or its retention is over.
    pub fn get(&self, id: SessionId) -> Option<Arc<Session>> {
        let session = Arc::clone(self.shard(id).lock().table.get(id)?);
        session.is_readable(self.now(), &self.shared.terms).then_some(session)
    }

    /// The session as it stands in the table, readable or not.
    pub fn peek(&self, id: SessionId) -> Option<Arc<Session>> {
        self.shard(id).lock().table.get(id).cloned()
    }

    /// How many wait for news of a session: long polls, event streams, and creations that wait for the provider.
    pub fn watchers(&self) -> usize {
        self.shared.shards.iter().map(|shard| shard.lock().watchers()).sum()
    }

    /// How many sessions are in each state.
    pub fn census(&self) -> BTreeMap<Status, usize> {
        let mut census = BTreeMap::new();
        for shard in &self.shared.shards {
            for (status, count) in shard.lock().table.census() {
                *census.entry(*status).or_default() += count;
            }
        }
        census
    }

    /// Every session in the table, in no particular order.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.shared.shards.iter().flat_map(|shard| shard.lock().table.iter().cloned().collect::<Vec<_>>()).collect()
    }

    /// The session as soon as its revision is not `seen` or it is settled, at the latest at `until`; absent once it is gone.
    pub async fn wait(&self, id: SessionId, seen: u64, until: Timestamp) -> Option<Arc<Session>> {
        self.wait_until(id, until, |session| session.revision() != seen || session.is_settled()).await
    }

    async fn wait_until(&self, id: SessionId, until: Timestamp, done: impl Fn(&Session) -> bool) -> Option<Arc<Session>> {
        let watch = self.shard(id).watch(id);
        let mut too_late = self.shared.clock.sleep_until(until);
        loop {
            let mut changed = std::pin::pin!(watch.changed.notified());
            changed.as_mut().enable();
            let session = self.get(id)?;
            if done(&session) {
                return Some(session);
            }
            tokio::select! {
                () = changed => {}
                () = &mut too_late => return self.get(id),
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn shard(&self, id: SessionId) -> &Arc<Shard> {
        let at = self.shared.hasher.hash_one(id) as usize % SHARDS;
        #[expect(clippy::indexing_slicing, reason = "a remainder of the number of shards is below it")]
        &self.shared.shards[at]
    }
}

// === what owners ask for ===

impl Sessions {
    /// Hands the tokens over; see [`Session::claim`].
    ///
    /// # Errors
    /// What the kernel refuses, or [`ChangeError::Store`]: then nothing was handed over.
    pub async fn claim(&self, id: SessionId, key: Option<Digest>) -> Result<Arc<Grant>, ChangeError> {
        self.tracked(id, move |session, now| {
            let (grant, next) = session.claim(key, now)?;
            Ok((next, grant))
        })
        .await
    }

    /// Ends the session for its owner; see [`Session::cancel`]. Settled already is fine.
    ///
    /// # Errors
    /// [`Refused::Unknown`], or [`ChangeError::Store`]: then it goes on.
    pub async fn cancel(&self, id: SessionId) -> Result<(), ChangeError> {
        match self.tracked(id, |session, now| Ok((Some(session.cancel(now)?), ()))).await {
            Err(ChangeError::Refused(Refused::Settled)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Asks for a poll as soon as the provider's pace allows; see [`Session::check`].
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::TooOften`]; nothing to poll for is fine.
    pub fn check(&self, id: SessionId) -> Result<(), Refused> {
        let mut inner = self.shard(id).lock();
        let current = Arc::clone(inner.table.get(id).ok_or(Refused::Unknown)?);
        if inner.is_being_changed(id) {
            return Ok(());
        }
        match Session::clone(&current).check(self.now()) {
            Ok(next) => self.publish(&mut inner, &current, next).map(|_| ()),
            Err(Refused::NotDue) => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    /// One durable change in a task of its own, so that it is whole even if the caller goes away.
    async fn tracked<T, F>(&self, id: SessionId, decide: F) -> Result<T, ChangeError>
    where
        T: Send + 'static,
        F: Fn(Session, Timestamp) -> Result<(Option<Session>, T), Refused> + Send + 'static,
    {
        let sessions = self.clone();
        let change = self.shared.tasks.spawn(async move { sessions.change(id, decide).await }.in_current_span());
        change.await.unwrap_or(Err(ChangeError::Store))
    }
}

// === what pollers and the scheduler ask for ===

impl Sessions {
    /// Announces an exchange with the provider; see [`Session::attempt`]. `None`: there is nothing to ask.
    pub fn attempt(&self, id: SessionId) -> Option<(Attempt, Errand)> {
        let mut inner = self.shard(id).lock();
        if inner.is_being_changed(id) {
            return None;
        }
        let current = Arc::clone(inner.table.get(id)?);
        let (next, announced) = Session::clone(&current).attempt(self.now()).ok()?;
        self.publish(&mut inner, &current, next).ok()?;
        announced
    }

    /// Closes the attempt that a dead poller left open, as ambiguous; see [`Session::close_abandoned`]. Only for the poller that
    /// takes its place: there is never another one.
    pub fn close_abandoned(&self, id: SessionId) {
        let mut inner = self.shard(id).lock();
        if inner.is_being_changed(id) {
            return;
        }
        let Some(current) = inner.table.get(id).cloned() else { return };
        if let Ok(next) = Session::clone(&current).close_abandoned(self.now()) {
            // Under one lock nobody else can have changed it.
            let _ = self.publish(&mut inner, &current, next);
        }
    }

    /// Takes over what a poller brings back. Once this has returned `Ok` the answer is safe from the poller's death: it is in
    /// the table, or in a task that offers it to the store until it is.
    ///
    /// # Errors
    /// [`Refused`] when the report is for a session or an attempt that is over.
    pub fn report(&self, id: SessionId, attempt: Attempt, answer: Answer) -> Result<(), Refused> {
        let now = self.now();
        let jitter = random_jitter();
        let terms = self.shared.terms;
        let decide = move |session: Session| match &answer {
            Answer::Begun(Ok(began)) => session.began(attempt, began.clone(), now, jitter),
            Answer::Begun(Err(failure)) => session.not_begun(attempt, *failure, now),
            Answer::Verdict(verdict) => session.report(attempt, verdict.clone(), now, jitter, &terms),
            Answer::Revoked(done) => session.revoked(attempt, *done, now),
        };

        let mut inner = self.shard(id).lock();
        let current = Arc::clone(inner.table.get(id).ok_or(Refused::Unknown)?);
        let next = decide(Session::clone(&current))?;
        if !inner.is_being_changed(id) {
            if next.version() == current.version() {
                return self.publish(&mut inner, &current, next).map(|_| ());
            }
            self.publish(&mut inner, &current, Session::clone(&current).answered(attempt)?)?;
        }
        drop(inner);

        let sessions = self.clone();
        let keep = async move {
            let kept = AssertUnwindSafe(sessions.persevere(id, |session, _| Ok((Some(decide(session)?), ()))));
            if kept.catch_unwind().await.is_err() {
                sessions.fail(id, Failure::InternalError).await;
            }
        };
        self.shared.tasks.spawn(keep.in_current_span());
        Ok(())
    }

    /// Ends a session whose poller cannot be kept alive; what is settled or authorized stays as it is.
    pub fn give_up(&self, id: SessionId) {
        let sessions = self.clone();
        self.shared.tasks.spawn(async move { sessions.fail(id, Failure::InternalError).await });
    }

    /// The earliest deadline of each lane. Until [`sleep`](Self::sleep) is called every change rings the bell.
    pub fn deadlines(&self) -> BTreeMap<Lane, Timestamp> {
        self.shared.alarm.store(u64::MAX, Ordering::SeqCst);
        let mut earliest = BTreeMap::new();
        for shard in &self.shared.shards {
            for (lane, at) in shard.lock().table.deadlines() {
                earliest.entry(lane.clone()).and_modify(|known: &mut Timestamp| *known = at.min(*known)).or_insert(at);
            }
        }
        earliest
    }

    /// The scheduler sleeps until `alarm`, or until something is due earlier.
    pub async fn sleep(&self, alarm: Timestamp) {
        self.shared.alarm.store(alarm.as_millis(), Ordering::SeqCst);
        tokio::select! {
            () = self.shared.bell.notified() => {}
            () = self.shared.clock.sleep_until(alarm) => {}
        }
    }

    /// Whether a session of `lanes` is due.
    pub fn is_due(&self, lanes: &[Lane], now: Timestamp) -> bool {
        self.longest_due(lanes).is_some_and(|(at, ..)| at <= now)
    }

    /// The session of `lanes` that has been due for longest; see [`Table::set_off`](crate::kernel::table::Table::set_off).
    pub fn set_off_next(&self, lanes: &[Lane], now: Timestamp) -> Option<SessionId> {
        let (_, shard, lane) = self.longest_due(lanes)?;
        shard.lock().table.set_off(lane, now, 1).pop()
    }

    fn longest_due<'a>(&self, lanes: &'a [Lane]) -> Option<(Timestamp, &Shard, &'a Lane)> {
        let first = |shard: &'_ Arc<Shard>, lane: &'a Lane| Some((shard.lock().table.deadline(lane)?, lane));
        let in_shard = |shard| lanes.iter().filter_map(|lane| first(shard, lane)).min_by_key(|(at, _)| *at);
        let firsts = self.shared.shards.iter().filter_map(|shard| in_shard(shard).map(|(at, lane)| (at, &**shard, lane)));
        firsts.min_by_key(|(at, ..)| *at)
    }

    /// What is due in `lane` before `from` becomes due at some time in `over` from then on.
    pub fn spread(&self, lane: &Lane, from: Timestamp, over: Duration) {
        for shard in &self.shared.shards {
            shard.lock().table.spread(lane, from, over);
        }
    }

    /// Does what time alone demands of the sessions that are due, in tasks of their own and not too many at once.
    pub fn lapse_due(&self, now: Timestamp) {
        while let Ok(permit) = Arc::clone(&self.shared.lapsing).try_acquire_owned()
            && let Some(id) = self.set_off_next(&[Lane::Time], now)
        {
            let sessions = self.clone();
            self.shared.tasks.spawn(async move {
                sessions.lapse(id).await;
                drop(permit);
                sessions.shared.bell.notify_one();
            });
        }
    }

    /// Whether more sessions may lapse now.
    pub fn may_lapse(&self) -> bool {
        self.shared.lapsing.available_permits() > 0
    }

    /// Waits for the changes that are on their way to the store.
    pub async fn drain(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    async fn lapse(&self, id: SessionId) {
        let _turn = self.shard(id).turn(id).await;
        let Some(current) = self.peek(id) else { return };
        match Session::clone(&current).lapse(self.now(), &self.shared.terms) {
            Ok(Lapsed::Kept(next)) => {
                // Where the store refuses, the agenda brings the session back.
                let _ = self.write(&current, next).await;
            }
            Ok(Lapsed::Forgotten) => {
                if self.shared.store.remove(id).await.is_ok() {
                    self.forget(id);
                }
            }
            Err(_) => {}
        }
    }

    async fn fail(&self, id: SessionId, failure: Failure) {
        self.persevere(id, move |session, now| Ok((Some(session.fail(failure, now)?), ()))).await;
    }
}

// === prepare, make durable, publish ===

impl Sessions {
    /// Takes the turn, lets `decide` prepare the next session, makes it durable and publishes it. No next session: nothing to
    /// change.
    async fn change<T>(
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
    /// between.
    async fn persevere(&self, id: SessionId, decide: impl Fn(Session, Timestamp) -> Result<(Option<Session>, ()), Refused>) {
        while self.change(id, &decide).await == Err(ChangeError::Store) {
            self.shared.clock.sleep_until(self.now() + STORE_RETRY).await;
        }
    }

    /// The caller holds the turn.
    async fn write(&self, current: &Arc<Session>, next: Session) -> Result<(), ChangeError> {
        if next.version() != current.version() {
            self.save(current.version(), &next).await?;
        }
        let mut inner = self.shard(next.id()).lock();
        self.publish(&mut inner, current, next).map(|_| ()).map_err(ChangeError::Refused)
    }

    async fn save(&self, expected: u64, next: &Session) -> Result<(), ChangeError> {
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

    fn publish(&self, inner: &mut shard::Inner, current: &Session, next: Session) -> Result<Arc<Session>, Refused> {
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

    fn forget(&self, id: SessionId) {
        let mut inner = self.shard(id).lock();
        let Some(gone) = inner.table.forget(id) else { return };
        inner.wake_watchers(id);
        drop(inner);
        if gone.is_live() {
            self.shared.quota.release(gone.opening());
        }
        self.shared.creations.forget(&gone);
        self.shared.observer.gone(&gone);
    }

    /// Wakes the scheduler if this session is due before it meant to look again.
    fn ring(&self, session: &Session) {
        if let Some((at, _)) = session.due(&self.shared.terms)
            && at.as_millis() < self.shared.alarm.load(Ordering::SeqCst)
        {
            self.shared.bell.notify_one();
        }
    }
}

pub fn random_jitter() -> Jitter {
    let mut byte = [0];
    // Without randomness there is no jitter; nothing depends on it.
    let _ = getrandom::fill(&mut byte);
    Jitter(byte[0])
}
