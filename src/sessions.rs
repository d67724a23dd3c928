//! The handle everyone holds: the only lock, the only writer.
//!
//! A change is prepared by the kernel, made durable where it must survive, then published to the table and to those who watch.
//! Nobody ever sees a state that the store does not have. Changes of one session happen one at a time: a durable one holds the
//! session's [turn](shard::Turn) while it is on its way to the store, any other is one step under the lock. Whoever asked for a
//! durable change may go away, and the change is still [whole](whole::Whole).

mod agenda;
mod change;
mod create;
mod quota;
mod renew;
mod restore;
mod shard;
mod whole;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SetOnce};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use self::create::{Create, CreateError, Created, Idempotency};
pub use self::quota::Quota;
pub use self::renew::RenewError;
pub use self::restore::Restored;
use self::shard::Shard;
use self::whole::Whole;
use crate::clock::Clock;
use crate::kernel::pace::Jitter;
use crate::kernel::session::{Attempt, Digest, Errand, Refused, Session, SessionId, Status, Terms};
use crate::kernel::time::Timestamp;
use crate::kernel::verdict::{Began, Failure, Grant, Revocation, Verdict};
use crate::store::Store;

#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    shards: Box<[Arc<Shard>]>,
    hasher: RandomState,
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
    /// Held while settled sessions are forgotten early.
    forgetting: Arc<Semaphore>,
    observer: Arc<dyn Observer>,
    /// What has been restored so far.
    counted: Mutex<Restored>,
    /// Known once everything is.
    restored: SetOnce<Restored>,
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
    /// So many settled sessions were forgotten before their time, as there were too many.
    fn forgotten_early(&self, sessions: usize);
    /// Tokens came for a session that is gone, and nobody can revoke them.
    fn stranded(&self, id: SessionId);
}

/// What a poller brings back.
#[derive(Debug)]
pub enum Answer {
    Begun(Result<Began, Failure>),
    /// Of the token endpoint.
    Verdict(Verdict),
    /// On tokens that were withheld.
    Verified(Verdict),
    Revoked(Revocation),
}

impl Answer {
    /// The tokens that this answer brought; nobody else has them.
    pub fn grant(&self) -> Option<&Arc<Grant>> {
        match self {
            Self::Verdict(verdict) => verdict.grant(),
            Self::Begun(_) | Self::Verified(_) | Self::Revoked(_) => None,
        }
    }

    /// For metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Begun(Ok(_)) => "begun",
            Self::Begun(Err(failure)) => failure.code(),
            Self::Verdict(verdict) | Self::Verified(verdict) => verdict.name(),
            Self::Revoked(revocation) => revocation.name(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeError {
    Refused(Refused),
    /// The change could not be made durable, so it did not happen.
    Store,
    /// It was made from a session that is not what the store has.
    Conflict,
}

const SHARDS: usize = 16;
const LAPSING: usize = 256;
/// How often an answer is brought in, should that crash.
const KEEPING: usize = 2;
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
            hasher: RandomState::new(),
            terms,
            clock,
            store,
            quota,
            creations: create::Creations::default(),
            tasks: TaskTracker::new(),
            bell,
            alarm: AtomicU64::new(u64::MAX),
            lapsing: Arc::new(Semaphore::new(LAPSING)),
            forgetting: Arc::new(Semaphore::new(1)),
            observer,
            counted: Mutex::default(),
            restored: SetOnce::new(),
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
        #[expect(clippy::indexing_slicing, reason = "there is one for each place")]
        &self.shared.shards[self.place(id)]
    }

    /// Below [`SHARDS`].
    fn place(&self, id: SessionId) -> usize {
        self.shared.hasher.hash_one(id) as usize % SHARDS
    }
}

// === what owners ask for ===

impl Sessions {
    /// Hands the tokens over; see [`Session::claim`].
    ///
    /// # Errors
    /// What the kernel refuses, or [`ChangeError::Store`]: then nothing was handed over.
    pub async fn claim(&self, id: SessionId, key: Option<Digest>) -> Result<Arc<Grant>, ChangeError> {
        self.whole(id, move |session, now| {
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
        match self.whole(id, |session, now| Ok((Some(session.cancel(now)?), ()))).await {
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

    /// One durable change, whole even if the caller goes away.
    async fn whole<T, F>(&self, id: SessionId, decide: F) -> Result<T, ChangeError>
    where
        T: Send + 'static,
        F: Fn(Session, Timestamp) -> Result<(Option<Session>, T), Refused> + Send + 'static,
    {
        let sessions = self.clone();
        let change = Whole::new(&self.shared.tasks, async move { sessions.change(id, decide).await });
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
        let Some(current) = inner.table.get(id).cloned() else { return };
        let session = Session::clone(&current);
        let closed = match inner.is_being_changed(id) {
            true => session.close_abandoned_during_a_change(self.now()),
            false => session.close_abandoned(self.now()),
        };
        if let Ok(next) = closed {
            // Under one lock nobody else can have changed it.
            let _ = self.publish(&mut inner, &current, next);
        }
    }

    /// Takes over what a poller brings back. Once this has returned `Ok` the answer is safe from the poller's death: it is in
    /// the table, or in a task that offers it to the store until it is.
    ///
    /// # Errors
    /// [`Refused`] when the report is for a session or an attempt that is over. Tokens are refused for a session that is gone, and
    /// for no other.
    pub fn report(&self, id: SessionId, attempt: Attempt, answer: Answer) -> Result<(), Refused> {
        let now = self.now();
        let jitter = random_jitter();
        let terms = self.shared.terms;
        let grant = answer.grant().map(Arc::clone);
        let decide = move |session: Session| match &answer {
            Answer::Begun(Ok(began)) => session.began(attempt, began.clone(), now, jitter),
            Answer::Begun(Err(failure)) => session.not_begun(attempt, *failure, now),
            Answer::Verdict(verdict) => session.report(attempt, verdict.clone(), now, jitter, &terms),
            Answer::Verified(verdict) => session.verified(attempt, verdict.clone(), now, &terms),
            Answer::Revoked(revocation) => session.revoked(attempt, *revocation != Revocation::Failed, now),
        };

        let mut inner = self.shard(id).lock();
        let current = Arc::clone(inner.table.get(id).ok_or(Refused::Unknown)?);
        let next = decide(Session::clone(&current))?;
        if !inner.is_being_changed(id) && next.version() == current.version() {
            return self.publish(&mut inner, &current, next).map(|_| ());
        }
        // A fact from here on, whoever is changing the session: nobody takes the attempt for abandoned.
        if let Ok(answered) = Session::clone(&current).answered(attempt) {
            self.publish(&mut inner, &current, answered)?;
        }
        drop(inner);

        let sessions = self.clone();
        let keep = async move {
            let _answered = Answered { sessions: &sessions, id, attempt };
            for _ in 0..KEEPING {
                if survives(sessions.keep(id, grant.as_ref(), &decide)).await {
                    return;
                }
            }
            survives(sessions.fail(id, Failure::InternalError)).await;
            // The session is of no use any more, but tokens do not end with it.
            let refuse = |_| Err(Refused::Stale);
            if grant.is_some() && !survives(sessions.keep(id, grant.as_ref(), refuse)).await {
                sessions.stranded(id);
            }
        };
        self.shared.tasks.spawn(keep.in_current_span());
        Ok(())
    }

    /// Brings an answer into the table. Tokens that it has no use for any more are put among those to be revoked.
    async fn keep(&self, id: SessionId, grant: Option<&Arc<Grant>>, decide: impl Fn(Session) -> Result<Session, Refused>) {
        let reported = self.persevere(id, |session, _| Ok((Some(decide(session)?), ()))).await;
        let (Err(_), Some(grant)) = (reported, grant) else { return };
        let disown = |session: Session, now| Ok((Some(session.disown(Arc::clone(grant), now)), ()));
        if self.persevere(id, disown).await.is_err() {
            self.stranded(id);
        }
    }

    /// Tokens came that nobody can keep or revoke.
    pub fn stranded(&self, id: SessionId) {
        self.shared.observer.stranded(id);
    }

    /// Ends a session whose poller cannot be kept alive; what is settled or authorized stays as it is.
    pub fn give_up(&self, id: SessionId) {
        let sessions = self.clone();
        self.shared.tasks.spawn(async move { sessions.fail(id, Failure::InternalError).await });
    }

    /// How many changes are under way.
    pub fn under_way(&self) -> usize {
        self.shared.tasks.len()
    }

    /// Waits for the changes that are on their way to the store.
    pub async fn drain(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    async fn fail(&self, id: SessionId, failure: Failure) {
        // What is settled or authorized stays so.
        let _ = self.persevere(id, move |session, now| Ok((Some(session.fail(failure, now)?), ()))).await;
    }
}

/// Stands for an answer that is being reported. However that ends, the session is left with something that is due.
struct Answered<'a> {
    sessions: &'a Sessions,
    id: SessionId,
    attempt: Attempt,
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        let mut inner = self.sessions.shard(self.id).lock();
        let Some(current) = inner.table.get(self.id).cloned() else { return };
        // Refused where the answer has got into the table, as it should.
        if let Ok(lost) = Session::clone(&current).answer_lost(self.attempt, self.sessions.now()) {
            let _ = self.sessions.publish(&mut inner, &current, lost);
        }
    }
}

/// Whether `work` comes to its end without a panic.
async fn survives(work: impl Future<Output = ()>) -> bool {
    AssertUnwindSafe(work).catch_unwind().await.is_ok()
}

/// Of the kind that is good enough to spread requests, and costs no call of the system.
pub fn random_jitter() -> Jitter {
    let [byte, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    Jitter(byte)
}
