//! The store stalls, refuses and answers in doubt, at random and for longer than any poller lives, while owners claim, cancel and
//! renew. Every grant still ends in one hand or at the provider's revocation endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::demo::Options;
use anteroom::kernel::session::{Session, SessionId, Status};
use anteroom::kernel::time::Timestamp;
use anteroom::kernel::verdict::{Began, Failure, Grant, Revocation, Verdict};
use anteroom::provider::gate::Limits;
use anteroom::provider::{Provider, SignIn as AskedAbout};
use anteroom::sessions::{ChangeError, Sessions};
use anteroom::store::memory::MemoryStore;
use anteroom::store::{Loaded, Store, StoreError};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::chaos::until;
use crate::fast_clock::FastClock;
use crate::rig::{Rig, Setup, SignIn, begin};

/// How fast time runs: a minute, after which a poller counts as dead, is a second.
const GEAR: u32 = 60;
const OWNERS: usize = 120;
/// How long the owners go on, by the clock of the service.
const HISTORY: Duration = Duration::from_secs(1200);

fn random(below: u64) -> u64 {
    u64::try_from(Uuid::new_v4().as_u128() % u128::from(below)).unwrap()
}

fn seconds(from: u64, to: u64) -> Duration {
    Duration::from_secs(from + random(to - from))
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    Works,
    /// Locked from outside: says no after a while.
    Refuses,
    /// Answers when this is over.
    Stalls,
    /// Does it or not, and does not say which.
    Doubts,
}

/// A store with moods, which change by its clock.
struct Moody {
    inner: MemoryStore,
    clock: FastClock,
    mood: Mutex<(Mood, Timestamp)>,
    /// From now on it works.
    is_calm: AtomicBool,
}

impl Moody {
    fn new(clock: FastClock) -> Self {
        Self {
            inner: MemoryStore::default(),
            clock,
            mood: Mutex::new((Mood::Works, Timestamp::default())),
            is_calm: AtomicBool::new(false),
        }
    }

    fn mood(&self) -> (Mood, Timestamp) {
        let now = self.clock.now();
        let mut mood = self.mood.lock();
        if self.is_calm.load(Ordering::SeqCst) {
            *mood = (Mood::Works, now);
        } else if mood.1 <= now {
            *mood = match (mood.0, random(3)) {
                (Mood::Works, 0) => (Mood::Refuses, now + seconds(90, 240)),
                (Mood::Works, 1) => (Mood::Stalls, now + seconds(10, 150)),
                (Mood::Works, _) => (Mood::Doubts, now + seconds(5, 30)),
                _ => (Mood::Works, now + seconds(2, 20)),
            };
        }
        *mood
    }

    /// Whether a change is made, and what is said of it.
    async fn admit(&self) -> (bool, Result<(), StoreError>) {
        loop {
            match self.mood() {
                (Mood::Works, _) => return (true, Ok(())),
                (Mood::Refuses, _) => {
                    self.clock.sleep_until(self.clock.now() + Duration::from_secs(2)).await;
                    return (false, Err(StoreError::Unavailable));
                }
                (Mood::Stalls, until) => self.clock.sleep_until(until).await,
                (Mood::Doubts, _) => return (random(2) == 0, Err(StoreError::Unknown)),
            }
        }
    }

    async fn ask<T>(&self, answer: BoxFuture<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
        match self.admit().await {
            (_, Ok(())) => answer.await,
            (_, Err(_)) => Err(StoreError::Unavailable),
        }
    }
}

impl Store for Moody {
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let (is_made, said) = self.admit().await;
            if is_made {
                self.inner.save(expected, next).await?;
            }
            said
        }
        .boxed()
    }

    fn version(&self, id: SessionId) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        self.ask(self.inner.version(id)).boxed()
    }

    fn remove(&self, id: SessionId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.ask(self.inner.remove(id)).boxed()
    }

    fn load(&self) -> BoxStream<'_, Result<Vec<Loaded>, StoreError>> {
        self.inner.load()
    }

    fn read(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        self.ask(self.inner.read(id)).boxed()
    }

    fn is_ready(&self) -> BoxFuture<'_, bool> {
        ready(true).boxed()
    }
}

/// Keeps account of the tokens that the provider gave away and took back.
struct Accountant {
    inner: Arc<dyn Provider>,
    issued: Mutex<BTreeSet<String>>,
    revoked: Mutex<BTreeSet<String>>,
}

impl Provider for Accountant {
    fn begin<'a>(&'a self, scope: &'a str) -> BoxFuture<'a, Result<Began, Failure>> {
        self.inner.begin(scope)
    }

    fn ask<'a>(&'a self, sign_in: AskedAbout<'a>) -> BoxFuture<'a, Verdict> {
        async move {
            let verdict = self.inner.ask(sign_in).await;
            if let Verdict::Authorized(grant) | Verdict::Unverified(grant) | Verdict::Untrusted(grant) = &verdict {
                self.issued.lock().insert(grant.access_token.expose_secret().to_owned());
            }
            verdict
        }
        .boxed()
    }

    fn verify<'a>(&'a self, grant: &'a Arc<Grant>) -> BoxFuture<'a, Verdict> {
        self.inner.verify(grant)
    }

    fn revoke<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Revocation> {
        async move {
            let revocation = self.inner.revoke(grant).await;
            if revocation == Revocation::Revoked {
                self.revoked.lock().insert(grant.access_token.expose_secret().to_owned());
            }
            revocation
        }
        .boxed()
    }
}

#[derive(Default)]
struct Book {
    sign_ins: Mutex<Vec<SignIn>>,
    /// By access token: the session and the claim key.
    handed: Mutex<BTreeMap<String, (SessionId, Option<u8>)>>,
}

impl Book {
    fn hand(&self, id: SessionId, key: Option<u8>, grant: &Grant) {
        let before = self.handed.lock().insert(grant.access_token.expose_secret().to_owned(), (id, key));
        assert!(before.is_none_or(|before| before == (id, key) && key.is_some()), "handed over twice: {before:?}, {key:?}");
    }

    fn any(&self) -> Option<SignIn> {
        let sign_ins = self.sign_ins.lock();
        let latest = sign_ins.len().min(60);
        let back = random(latest.max(1) as u64) as usize;
        sign_ins.iter().rev().nth(back).cloned()
    }
}

async fn own(rig: &Rig<FastClock>, book: &Book, until: Timestamp) {
    let sessions = &rig.sessions;
    while sessions.clock().now() < until {
        let dice = random(100);
        if dice < 40 {
            create(rig, book).await;
        } else if let Some(sign_in) = book.any() {
            match dice {
                40..70 => claim(sessions, book, &sign_in).await,
                70..85 => cancel(rig, book).await,
                85..93 => renew(rig, &sign_in).await,
                _ => drop(sessions.check(sign_in.id)),
            }
        }
        sessions.clock().sleep_until(sessions.clock().now() + seconds(1, 8)).await;
    }
}

async fn create(rig: &Rig<FastClock>, book: &Book) {
    // In the worse moods of the store none begins.
    let Ok(sign_in) = begin(&rig.sessions, None).await else { return };
    decide(rig, &sign_in.user_code);
    book.sign_ins.lock().push(sign_in);
}

/// What the person does, as far as it is decided at once.
fn decide(rig: &Rig<FastClock>, user_code: &str) {
    match random(10) {
        0..4 => drop(rig.provider.approve(user_code)),
        4 => drop(rig.provider.deny(user_code)),
        _ => {}
    }
}

async fn claim(sessions: &Sessions, book: &Book, sign_in: &SignIn) {
    let key = (random(3) > 0).then(|| random(2) as u8);
    if let Ok(grant) = sessions.claim(sign_in.id, key.map(|key| [key; 32])).await {
        book.hand(sign_in.id, key, &grant);
    }
}

/// The person approves just as the owner gives up, who tries again until it is done.
async fn cancel(rig: &Rig<FastClock>, book: &Book) {
    let clock = rig.sessions.clock();
    let is_pending = |sign_in: &SignIn| rig.sessions.peek(sign_in.id).is_some_and(|session| session.status() == Status::Pending);
    let Some(sign_in) = (0..20).filter_map(|_| book.any()).find(is_pending) else { return };
    rig.provider.approve(&sign_in.user_code);
    clock.sleep_until(clock.now() + Duration::from_millis(random(1_200))).await;
    while rig.sessions.cancel(sign_in.id).await == Err(ChangeError::Store) {
        clock.sleep_until(clock.now() + seconds(10, 40)).await;
    }
}

async fn renew(rig: &Rig<FastClock>, sign_in: &SignIn) {
    if let Ok(session) = rig.sessions.renew(sign_in.id).await
        && let Some(prompt) = session.prompt()
    {
        decide(rig, &prompt.user_code);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_store_does_no_grant_is_lost_doubled_or_forgotten_in_silence() {
    let clock = FastClock::new(GEAR);
    let store = Arc::new(Moody::new(clock.clone()));
    let account = Arc::new(Mutex::new(None));
    let around = {
        let account = Arc::clone(&account);
        Box::new(move |inner| {
            let accountant = Arc::new(Accountant { inner, issued: Mutex::default(), revoked: Mutex::default() });
            *account.lock() = Some(Arc::clone(&accountant));
            accountant as _
        })
    };
    let options = Options { interval: Some(1), expires_in: 24 * 3600, ..Options::default() };
    let limits = Limits { max_in_flight: 64, max_per_second: None };
    let setup = Setup { options, limits, store: store.clone(), around, ..Setup::on(clock.clone()) };
    let rig = Rig::with(setup).await;
    let accountant = account.lock().take().unwrap();
    let book = Book::default();

    let end = clock.now() + HISTORY;
    join_all((0..OWNERS).map(|_| own(&rig, &book, end))).await;
    store.is_calm.store(true, Ordering::SeqCst);

    let unaccounted = || {
        let waiting: BTreeSet<String> = rig.sessions.all().iter().filter_map(|session| unclaimed(session)).collect();
        let (issued, revoked, handed) = (accountant.issued.lock(), accountant.revoked.lock(), book.handed.lock());
        issued.iter().filter(|token| !(waiting.contains(*token) || revoked.contains(*token) || handed.contains_key(*token))).count()
    };
    assert!(until(Duration::from_secs(30), || unaccounted() == 0).await, "{} grants are nowhere", unaccounted());

    let (issued, revoked, handed) = (accountant.issued.lock().len(), accountant.revoked.lock().clone(), book.handed.lock().clone());
    let sign_ins = book.sign_ins.lock().clone();
    eprintln!("{} sign-ins, {issued} grants issued, {} handed over, {} revoked", sign_ins.len(), handed.len(), revoked.len());
    assert!(handed.len() > 20 && revoked.len() > 5, "enough has happened");
    assert!(handed.keys().all(|token| !revoked.contains(token)), "what was handed over is left alone");
    let failures: Vec<_> =
        sign_ins.iter().filter_map(|sign_in| rig.sessions.peek(sign_in.id)).filter(|session| session.status() == Status::Failed).collect();
    assert!(failures.is_empty(), "{failures:?}");
    let live = rig.sessions.all().iter().filter(|session| session.is_live()).count();
    assert_eq!(rig.sessions.live(), live, "every place was given back");
    assert_eq!((rig.provider.early_polls(), rig.provider.overlapping_polls()), (0, 0));
}

/// The token that waits for its owner.
fn unclaimed(session: &Session) -> Option<String> {
    match session.state() {
        anteroom::kernel::session::State::Authorized { grant, .. } => Some(grant.access_token.expose_secret().to_owned()),
        _ => None,
    }
}
