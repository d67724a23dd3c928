//! What is in somebody's hands while the store stalls, panics or forgets, or while the service stops.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::demo::{Answer, Endpoint, Options};
use anteroom::kernel::pace::Jitter;
use anteroom::kernel::session::{Refused, Session, SessionId, Status};
use anteroom::kernel::time::Timestamp;
use anteroom::kernel::verdict::Failure;
use anteroom::sessions::{ChangeError, Create, CreateError, Idempotency};
use anteroom::store::memory::MemoryStore;
use anteroom::store::{Loaded, Store, StoreError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::sync::Notify;

use crate::clock::ManualClock;
use crate::rig::{PROVIDER, Rig, Setup, SignIn, eventually, within};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A store that keeps whoever saves waiting while it is shut, and panics when it is told to.
#[derive(Default)]
struct Touchy {
    inner: MemoryStore,
    is_shut: AtomicBool,
    opened: Notify,
    waiting: AtomicUsize,
    /// The panics that are still to come, when something is saved.
    panics: AtomicUsize,
    /// Whether it panics when it is asked how it is.
    is_shy: AtomicBool,
}

impl Touchy {
    fn shut(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
    }

    fn open(&self) {
        self.is_shut.store(false, Ordering::SeqCst);
        self.opened.notify_waiters();
    }

    async fn admit(&self) {
        let is_to_panic = self.panics.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        assert!(!is_to_panic, "on purpose, at the store");
        self.waiting.fetch_add(1, Ordering::SeqCst);
        loop {
            let mut opened = pin!(self.opened.notified());
            opened.as_mut().enable();
            if !self.is_shut.load(Ordering::SeqCst) {
                break;
            }
            opened.await;
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Store for Touchy {
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.admit().await;
            self.inner.save(expected, next).await
        }
        .boxed()
    }

    fn version(&self, id: SessionId) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        self.inner.version(id)
    }

    fn remove(&self, id: SessionId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.remove(id)
    }

    fn load(&self) -> BoxStream<'_, Result<Vec<Loaded>, StoreError>> {
        self.inner.load()
    }

    fn read(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        self.inner.read(id)
    }

    fn is_ready(&self) -> BoxFuture<'_, bool> {
        assert!(!self.is_shy.load(Ordering::SeqCst), "on purpose, before it says how it is");
        self.inner.is_ready()
    }

    fn is_failing(&self) -> bool {
        self.is_shy.load(Ordering::SeqCst)
    }
}

async fn with_touchy_store() -> (Arc<Touchy>, Rig) {
    let store = Arc::new(Touchy::default());
    let rig = Rig::with(Setup { store: store.clone(), ..Setup::default() }).await;
    (store, rig)
}

/// A sign-in that was approved; its token response comes in 3 s.
async fn about_to_be_answered(rig: &Rig) -> (SignIn, Timestamp) {
    let sign_in = rig.begin().await;
    rig.provider.approve(&sign_in.user_code);
    rig.provider.script_polls(&sign_in.user_code, [Answer::LateReply(secs(3))]);
    rig.set_off(&sign_in).await;
    within(rig.provider.wait_for(|provider| provider.redemptions(&sign_in.user_code) == 1)).await;
    (sign_in, rig.clock.now() + secs(3))
}

fn has_answered(rig: &Rig, sign_in: &SignIn) -> bool {
    rig.provider.polls(&sign_in.user_code).iter().all(|poll| poll.answered_at.is_some())
}

// === during a change ===

#[tokio::test]
async fn tokens_that_come_while_a_cancel_waits_for_the_store_are_revoked_however_long_that_takes() {
    let (store, rig) = with_touchy_store().await;
    let (sign_in, answered_at) = about_to_be_answered(&rig).await;
    store.shut();
    let cancel = tokio::spawn({
        let sessions = rig.sessions.clone();
        async move { sessions.cancel(sign_in.id).await }
    });
    eventually("the cancel is at the store", || store.waiting.load(Ordering::SeqCst) == 1).await;
    rig.advance_to_sleeper(answered_at).await;
    within(rig.provider.wait_for(|_| has_answered(&rig, &sign_in))).await;
    eventually("the answer is noted", || rig.session(&sign_in).is_answered()).await;
    // Nobody takes the poller for dead, whatever looks at the session meanwhile.
    for _ in 0..30 {
        rig.clock.advance(secs(10));
        rig.sessions.close_abandoned(sign_in.id);
        assert!(rig.sessions.attempt(sign_in.id).is_none());
        assert_eq!(rig.sessions.check(sign_in.id), Ok(()));
        tokio::task::yield_now().await;
    }
    store.open();
    assert_eq!(within(cancel).await.unwrap(), Ok(()));
    within(rig.provider.wait_for(|provider| provider.counts().revocations == 1)).await;
    assert_eq!((rig.status(&sign_in), rig.provider.poll_count(&sign_in.user_code)), (Status::Cancelled, 1));
    assert_eq!(rig.sessions.live(), 0);
}

#[tokio::test]
async fn a_poller_that_dies_while_a_change_waits_for_the_store_comes_back_after_one_gap() {
    let store = Arc::new(Touchy::default());
    let options = Options { expires_in: 3600, ..Options::default() };
    let rig = Rig::with(Setup { store: store.clone(), options, ..Setup::default() }).await;
    let began_at = rig.clock.now();
    let created = rig.sessions.create(create(Some(Idempotency { key: [1; 32], fingerprint: [2; 32] }))).await.unwrap();
    let sign_in = SignIn { id: created.session.id(), user_code: created.session.prompt().unwrap().user_code.to_string() };
    rig.provider.script_polls(&sign_in.user_code, [Answer::Stall]);
    let asked_at = began_at + secs(595);
    rig.clock.advance_to(asked_at);
    within(rig.provider.wait_for(|provider| provider.poll_count(&sign_in.user_code) == 1)).await;
    store.shut();
    rig.advance_to_sleeper(began_at + secs(600)).await;
    eventually("the end of the creation is at the store", || store.waiting.load(Ordering::SeqCst) == 1).await;
    rig.advance_to_sleeper(asked_at + secs(30)).await;
    eventually("the poller is given up", || rig.crashes(&sign_in) == 1).await;
    eventually("the attempt is closed", || rig.session(&sign_in).next_poll_at().is_some()).await;
    store.open();
    eventually("the creation is over", || rig.session(&sign_in).creation().is_none()).await;
    assert_eq!(rig.due(&sign_in), asked_at + secs(30) + secs(6));
}

// === a crash with something in hand ===

#[tokio::test]
async fn a_report_that_crashes_once_is_brought_in_all_the_same() {
    let (store, rig) = with_touchy_store().await;
    let sign_in = rig.begin().await;
    rig.provider.approve(&sign_in.user_code);
    store.panics.store(1, Ordering::SeqCst);
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Authorized);
}

#[tokio::test]
async fn a_report_that_crashes_again_and_again_fails_its_session_and_has_the_tokens_revoked() {
    let (store, rig) = with_touchy_store().await;
    let sign_in = rig.begin().await;
    rig.provider.approve(&sign_in.user_code);
    store.panics.store(2, Ordering::SeqCst);
    rig.poll(&sign_in).await;
    assert_eq!(rig.failure(&sign_in), Some(Failure::InternalError));
    within(rig.provider.wait_for(|provider| provider.counts().revocations == 1)).await;
    assert_eq!(rig.sessions.live(), 0);
}

#[tokio::test]
async fn a_session_whose_report_came_to_nothing_is_due_again_and_gives_its_place_back() {
    let (store, rig) = with_touchy_store().await;
    let sign_in = rig.begin().await;
    rig.provider.deny(&sign_in.user_code);
    store.panics.store(3, Ordering::SeqCst);
    rig.poll(&sign_in).await;
    assert_eq!((rig.status(&sign_in), rig.due(&sign_in)), (Status::Pending, rig.clock.now() + secs(6)));
    rig.poll(&sign_in).await;
    assert_eq!((rig.status(&sign_in), rig.sessions.live()), (Status::Denied, 0));
}

fn create(idempotency: Option<Idempotency>) -> Create {
    Create { provider: PROVIDER.into(), scope: "profile".into(), label: None, caller: None, idempotency, refusal: None }
}

#[tokio::test]
async fn a_creation_that_crashes_leaves_its_key_free() {
    let (store, rig) = with_touchy_store().await;
    let idempotency = Some(Idempotency { key: [1; 32], fingerprint: [2; 32] });
    store.is_shy.store(true, Ordering::SeqCst);
    let crashed = rig.sessions.create(create(idempotency)).await;
    assert_eq!(crashed.unwrap_err(), CreateError::Failed(Failure::InternalError));
    store.is_shy.store(false, Ordering::SeqCst);
    let created = rig.sessions.create(create(idempotency)).await.unwrap();
    assert!(!created.repeated);
    assert_eq!(rig.sessions.live(), 1);
}

/// Panics once, when somebody wants to sleep for as long as a creation waits.
#[derive(Clone, Default)]
struct Nervous {
    inner: ManualClock,
    is_nervous: Arc<AtomicBool>,
}

impl Clock for Nervous {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let is_the_one = deadline == self.now() + secs(20);
        assert!(!(is_the_one && self.is_nervous.swap(false, Ordering::SeqCst)), "on purpose, before it waits");
        self.inner.sleep_until(deadline)
    }
}

#[tokio::test]
async fn a_creation_that_crashes_half_way_leaves_no_session_behind() {
    let clock = Nervous::default();
    let rig = Rig::with(Setup::on(clock.clone())).await;
    // The scheduler sleeps by now.
    rig.begin().await;
    clock.is_nervous.store(true, Ordering::SeqCst);
    let crashed = rig.sessions.create(create(None)).await;
    assert_eq!(crashed.unwrap_err(), CreateError::Failed(Failure::InternalError));
    eventually("it is gone", || (rig.sessions.live(), rig.sessions.all().len()) == (1, 1)).await;
}

// === what the store has is something else ===

#[tokio::test]
async fn a_session_that_the_store_has_lost_is_put_back_with_its_next_change() {
    let (store, rig) = with_touchy_store().await;
    let sign_in = rig.begin().await;
    store.remove(sign_in.id).await.unwrap();
    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Authorized);
    assert_eq!(store.version(sign_in.id).await, Ok(Some(rig.session(&sign_in).version())));

    store.remove(sign_in.id).await.unwrap();
    assert!(rig.sessions.claim(sign_in.id, None).await.is_ok());
    assert_eq!(store.version(sign_in.id).await, Ok(Some(rig.session(&sign_in).version())));
}

/// Changes the session behind the service's back.
async fn change_elsewhere(store: &Touchy, rig: &Rig, sign_in: &SignIn, change: impl FnOnce(Session, Timestamp) -> Session) {
    let Ok(Some(Loaded::Session(record))) = store.read(sign_in.id).await else { panic!("no row") };
    let now = rig.clock.now();
    let stored = Session::restored(*record, now, Jitter(0)).unwrap().unwrap();
    let version = stored.version();
    store.save(version, Arc::new(change(stored, now))).await.unwrap();
}

#[tokio::test]
async fn after_a_conflict_the_session_goes_on_from_what_the_store_has_and_watchers_hear_of_it() {
    let (store, rig) = with_touchy_store().await;
    let sign_in = rig.begin().await;
    let seen = rig.session(&sign_in).revision();
    change_elsewhere(&store, &rig, &sign_in, |session, now| session.cancel(now).unwrap()).await;
    let watcher = tokio::spawn({
        let (sessions, until) = (rig.sessions.clone(), rig.clock.now() + secs(3600));
        async move { sessions.wait(sign_in.id, seen, until).await }
    });
    eventually("somebody watches", || rig.sessions.watchers() == 1).await;
    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    let told = within(watcher).await.unwrap().unwrap();
    assert_eq!(told.status(), Status::Cancelled);
    assert!(told.revision() > seen);
    // Its tokens are of no use to anybody.
    within(rig.provider.wait_for(|provider| provider.counts().revocations == 1)).await;
    assert_eq!(rig.sessions.claim(sign_in.id, None).await.unwrap_err(), ChangeError::Refused(Refused::NotAuthorized));
    assert_eq!(rig.sessions.live(), 0);
}

#[tokio::test]
async fn tokens_are_taken_if_what_the_store_has_still_waits_for_them() {
    let (store, rig) = with_touchy_store().await;
    let sign_in = rig.begin().await;
    let disowned = anteroom::kernel::verdict::Grant {
        access_token: "of another".to_owned().into(),
        token_type: "Bearer".into(),
        expires_at: None,
        refresh_token: None,
        id_token: None,
        scope: None,
        arrived_at: None,
        claims: None,
    };
    change_elsewhere(&store, &rig, &sign_in, |session, now| session.disown(Arc::new(disowned), now)).await;
    rig.provider.approve(&sign_in.user_code);
    rig.poll(&sign_in).await;
    assert_eq!(rig.status(&sign_in), Status::Authorized);
    assert!(rig.sessions.claim(sign_in.id, None).await.is_ok());
}

// === every beginning has an end ===

fn settled(rig: &Rig, outcome: &str) -> bool {
    let line = format!("anteroom_sessions_settled_total{{provider=\"{PROVIDER}\",outcome=\"{outcome}\"}} 1");
    rig.app.metrics.render(&rig.sessions.census()).contains(&line)
}

#[tokio::test]
async fn a_creation_that_waited_in_vain_has_an_end_in_the_metrics() {
    let rig = Rig::start().await;
    rig.provider.script(Endpoint::DeviceAuthorization, [Answer::Stall]);
    let until = rig.clock.now() + secs(20);
    let (begun, ()) = tokio::join!(rig.try_begin(None), async {
        within(rig.provider.wait_for(|provider| provider.counts().device_requests == 1)).await;
        rig.advance_to_sleeper(until).await;
    });
    assert_eq!(begun.unwrap_err(), CreateError::Failed(Failure::ProviderTimeout));
    assert!(settled(&rig, "provider_timeout"), "{}", rig.app.metrics.render(&rig.sessions.census()));
}

#[tokio::test]
async fn a_creation_whose_code_the_store_does_not_take_has_one_too() {
    let (store, rig) = with_touchy_store().await;
    store.shut();
    let until = rig.clock.now() + secs(20);
    let (begun, ()) = tokio::join!(rig.try_begin(None), async {
        eventually("the code is at the store", || store.waiting.load(Ordering::SeqCst) == 1).await;
        rig.advance_to_sleeper(until).await;
    });
    assert_eq!(begun.unwrap_err(), CreateError::Store);
    assert!(settled(&rig, "abandoned"), "{}", rig.app.metrics.render(&rig.sessions.census()));
    store.open();
    eventually("nothing is left in the store", || store.waiting.load(Ordering::SeqCst) == 0).await;
    within(rig.sessions.drain()).await;
    assert_eq!((rig.sessions.live(), rig.sessions.all().len()), (0, 0));
}

#[tokio::test]
async fn a_creation_that_a_stop_cuts_off_has_one_too() {
    let rig = Rig::start().await;
    rig.provider.script(Endpoint::DeviceAuthorization, [Answer::Stall]);
    let begun = tokio::spawn({
        let sessions = rig.sessions.clone();
        async move { sessions.create(create(None)).await }
    });
    within(rig.provider.wait_for(|provider| provider.counts().device_requests == 1)).await;
    let (metrics, sessions, clock) = (Arc::clone(&rig.app.metrics), rig.sessions.clone(), rig.clock.clone());
    let drained = clock.now() + secs(8);
    let stop = tokio::spawn(rig.app.stop());
    within(clock.sleeper(|deadline| deadline == drained)).await;
    clock.advance_to(drained);
    assert_eq!(within(begun).await.unwrap().unwrap_err(), CreateError::Failed(Failure::ProviderTimeout));
    within(stop).await.unwrap();
    assert!(metrics.render(&sessions.census()).contains("outcome=\"provider_timeout\"} 1"));
}

// === too many that are settled ===

#[tokio::test]
async fn of_too_many_settled_sessions_the_oldest_are_forgotten_unless_somebody_needs_them() {
    let store = Arc::new(MemoryStore::default());
    let rig = Rig::with(Setup { max_settled: 2, store: store.clone(), ..Setup::default() }).await;
    let repeatable = create(Some(Idempotency { key: [1; 32], fingerprint: [2; 32] }));
    let kept = rig.sessions.create(repeatable.clone()).await.unwrap().session.id();
    rig.sessions.cancel(kept).await.unwrap();
    let mut settled = Vec::new();
    for _ in 0..5 {
        rig.clock.advance(secs(1));
        let sign_in = rig.begin().await;
        rig.sessions.cancel(sign_in.id).await.unwrap();
        settled.push(sign_in.id);
    }
    let pending = rig.begin().await;
    rig.clock.advance(secs(20));
    eventually("the surplus is gone", || rig.sessions.all().len() == 4).await;
    let (old, new) = settled.split_at(3);
    assert!(old.iter().all(|id| rig.sessions.get(*id).is_none()) && new.iter().all(|id| rig.sessions.get(*id).is_some()));
    assert_eq!(store.version(old[0]).await, Ok(None));
    assert_eq!(rig.status(&pending), Status::Pending);
    let repeated = rig.sessions.create(repeatable).await.unwrap();
    assert_eq!((repeated.session.id(), repeated.repeated), (kept, true));
    let metrics = rig.app.metrics.render(&rig.sessions.census());
    assert!(metrics.contains("anteroom_sessions_forgotten_early_total 3"), "{metrics}");
}
