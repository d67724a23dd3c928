//! What can be asked for, and what happens, while the store is still being loaded.

use std::sync::Arc;
use std::time::Duration;

use anteroom::clock::Clock;
use anteroom::kernel::session::{Refused, Session, SessionId, Status};
use anteroom::sessions::{Answer, ChangeError, Create, Idempotency, Observer, Quota, Restored, Sessions};
use anteroom::store::memory::MemoryStore;
use anteroom::store::{Loaded, Store, StoreError, Unreadable};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

use crate::clock::ManualClock;
use crate::conformance::contents;
use crate::restart::Heard;
use crate::sample::{self, START, TERMS};

const LONGEST: Duration = Duration::from_secs(20);

/// Its pages are read at once, and arrive when they may.
struct Slow {
    rows: Arc<MemoryStore>,
    pages: Semaphore,
    /// So many saves are answered.
    answers: Semaphore,
    /// Rows that come back unreadable, whatever is stored.
    broken: Mutex<Vec<SessionId>>,
    /// How often a single row was read.
    reads: Mutex<usize>,
    is_down: Mutex<bool>,
}

impl Slow {
    fn with_answers(count: usize) -> Self {
        Self {
            rows: Arc::default(),
            pages: Semaphore::new(0),
            answers: Semaphore::new(count),
            broken: Mutex::default(),
            reads: Mutex::default(),
            is_down: Mutex::default(),
        }
    }

    fn read_back(&self, row: Loaded) -> Loaded {
        match row {
            Loaded::Session(record) if record.version == 1 && self.broken.lock().contains(&record.id) => {
                Loaded::Unreadable(Unreadable { id: record.id, version: record.version, provider: record.provider, caller: record.caller })
            }
            row => row,
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        if *self.is_down.lock() { Err(StoreError::Unavailable) } else { Ok(()) }
    }
}

impl Store for Slow {
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.rows.save(expected, next).await?;
            self.answers.acquire().await.expect("it is open").forget();
            Ok(())
        }
        .boxed()
    }

    fn version(&self, id: SessionId) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        self.rows.version(id)
    }

    fn remove(&self, id: SessionId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.rows.remove(id)
    }

    fn load(&self) -> BoxStream<'_, Result<Vec<Loaded>, StoreError>> {
        let arrive = async |page: Vec<Loaded>| {
            self.pages.acquire().await.expect("it is open").forget();
            self.check()?;
            Ok(page.into_iter().map(|row| self.read_back(row)).collect())
        };
        self.rows.load().and_then(arrive).boxed()
    }

    fn read(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        async move {
            *self.reads.lock() += 1;
            self.check()?;
            Ok(self.rows.read(id).await?.map(|row| self.read_back(row)))
        }
        .boxed()
    }

    fn is_ready(&self) -> BoxFuture<'_, bool> {
        self.rows.is_ready()
    }
}

/// A service that has begun to load: its page has been read and has not arrived.
struct Start {
    store: Arc<Slow>,
    sessions: Sessions,
    heard: Arc<Heard>,
    clock: ManualClock,
    restoring: tokio::task::JoinHandle<Result<Restored, StoreError>>,
}

impl Start {
    async fn with(before: &[Session]) -> Self {
        let store = Arc::new(Slow::with_answers(100));
        for session in before {
            store.rows.save(0, Arc::new(session.clone())).await.expect("a new row");
        }
        let (clock, heard) = (ManualClock::starting_at(START + Duration::from_secs(60)), Arc::default());
        let sessions = sessions(&store, &clock, &heard);
        let restoring = tokio::spawn({
            let sessions = sessions.clone();
            async move { sessions.restore().await }
        });
        // The page is read by now.
        tokio::task::yield_now().await;
        Self { store, sessions, heard, clock, restoring }
    }

    async fn finish(self) -> (Sessions, Restored) {
        self.store.pages.add_permits(1);
        let restored = within(self.restoring).await.expect("no panic");
        (self.sessions, restored.expect("the store can be read"))
    }

    fn status(&self, id: SessionId) -> Option<Status> {
        self.sessions.peek(id).map(|session| session.status())
    }
}

fn sessions(store: &Arc<Slow>, clock: &ManualClock, heard: &Arc<Heard>) -> Sessions {
    let (store, heard) = (Arc::clone(store) as Arc<dyn Store>, Arc::clone(heard) as Arc<dyn Observer>);
    Sessions::new(TERMS, Quota::new(3, []), clock.as_clock(), store, Arc::new(Notify::new()), heard)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONGEST, future).await.expect("it happens in time")
}

async fn eventually(happened: impl AsyncFn() -> bool) {
    let looking = async {
        while !happened().await {
            tokio::task::yield_now().await;
        }
    };
    within(looking).await;
}

fn create(idempotency: Option<Idempotency>) -> Create {
    Create { provider: "acme".into(), scope: "".into(), label: None, caller: Some("tv-backend".into()), idempotency, refusal: None }
}

#[tokio::test]
async fn a_session_is_there_as_soon_as_it_is_asked_for() {
    let [asked, other] = [sample::pending(Uuid::new_v4()), sample::authorized(Uuid::new_v4())];
    let start = Start::with(&[asked.clone(), other.clone()]).await;
    assert!(start.sessions.is_loading());
    assert_eq!(start.status(asked.id()), None);
    start.sessions.fetch(asked.id()).await.expect("it can be read");
    assert_eq!(start.status(asked.id()), Some(Status::Pending));
    assert_eq!((start.status(other.id()), start.sessions.live()), (None, 1));
    start.sessions.fetch(Uuid::new_v4()).await.expect("nobody has it, and that is known");

    let (sessions, restored) = start.finish().await;
    assert_eq!((restored.sessions, sessions.live(), sessions.is_loading()), (2, 2, false), "each counts once");
    assert_eq!(sessions.peek(other.id()).map(|session| session.status()), Some(Status::Authorized));
}

#[tokio::test]
async fn what_changed_meanwhile_stays_as_it_is() {
    let session = sample::authorized(Uuid::new_v4());
    let start = Start::with(std::slice::from_ref(&session)).await;
    start.sessions.fetch(session.id()).await.expect("it can be read");
    start.sessions.claim(session.id(), None).await.expect("it is authorized");
    let (sessions, _) = start.finish().await;
    assert_eq!(sessions.peek(session.id()).map(|session| session.status()), Some(Status::Claimed));
    assert_eq!(sessions.claim(session.id(), None).await.map(|_| ()), Err(ChangeError::Refused(Refused::AlreadyClaimed)));
}

#[tokio::test]
async fn what_was_forgotten_meanwhile_does_not_come_back() {
    let session = sample::pending(Uuid::new_v4());
    let start = Start::with(std::slice::from_ref(&session)).await;
    start.sessions.fetch(session.id()).await.expect("it can be read");
    start.sessions.cancel(session.id()).await.expect("it is pending");
    start.clock.advance(TERMS.retention + Duration::from_secs(60));
    eventually(async || {
        start.sessions.lapse_due(start.clock.now());
        start.status(session.id()).is_none()
    })
    .await;
    let rows = Arc::clone(&start.store.rows) as Arc<dyn Store>;
    let (sessions, _) = start.finish().await;
    assert_eq!(sessions.peek(session.id()).map(|session| session.status()), None, "an old page brings nothing back");
    assert_eq!(sessions.live(), 0);
    sessions.fetch(session.id()).await.expect("all is known");
    assert!(contents(&rows).await.is_empty());
}

#[tokio::test]
async fn a_creation_under_way_is_not_taken_for_one_of_before() {
    let (store, clock) = (Arc::new(Slow::with_answers(0)), ManualClock::starting_at(START));
    let sessions = sessions(&store, &clock, &Arc::default());
    let creating = tokio::spawn({
        let sessions = sessions.clone();
        async move { sessions.create(create(None)).await }
    });
    eventually(async || sessions.all().len() == 1).await;
    let id = sessions.all()[0].id();
    let (attempt, _) = sessions.attempt(id).expect("the provider is to be asked");
    sessions.report(id, attempt, Answer::Begun(Ok(sample::began()))).expect("it was asked");
    let rows = Arc::clone(&store.rows) as Arc<dyn Store>;
    eventually(async || contents(&rows).await.len() == 1).await;
    let status = || sessions.peek(id).map(|session| session.status());
    assert_eq!(status(), Some(Status::Starting), "its row is written, and nobody knows yet");

    store.pages.add_permits(1);
    let restored = sessions.restore().await.expect("the store can be read");
    assert_eq!((restored.sessions, restored.dropped, sessions.live()), (0, 0, 1));
    assert_eq!(status(), Some(Status::Starting));
    store.answers.add_permits(100);
    let created = within(creating).await.expect("no panic").expect("it has a code");
    assert_eq!((created.session.id(), created.session.version()), (id, 1));
    assert_eq!(contents(&rows).await.len(), 1);
}

#[tokio::test]
async fn a_repeated_creation_waits_until_its_session_is_known() {
    let session = sample::pending(Uuid::new_v4());
    let start = Start::with(std::slice::from_ref(&session)).await;
    let again = create(Some(Idempotency { key: [1; 32], fingerprint: [2; 32] }));
    let sessions = start.sessions.clone();
    let mut creating = Box::pin(sessions.create(again));
    assert!(creating.as_mut().now_or_never().is_none(), "nobody knows yet whether it is the first");
    tokio::task::yield_now().await;
    assert!(start.heard.is_silent(), "nothing was begun");
    start.finish().await;
    let created = within(creating).await.expect("it is there");
    assert_eq!((created.session.id(), created.repeated), (session.id(), true));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_once_however_it_comes() {
    let session = sample::pending(Uuid::new_v4());
    let start = Start::with(std::slice::from_ref(&session)).await;
    start.store.broken.lock().push(session.id());
    start.sessions.fetch(session.id()).await.expect("it can be told");
    assert_eq!(start.status(session.id()), Some(Status::Failed));
    let heard = Arc::clone(&start.heard);
    let (sessions, restored) = start.finish().await;
    assert_eq!((restored.sessions, restored.unreadable), (0, 1));
    assert_eq!(heard.lost(), [session.id()]);
    let failed = sessions.peek(session.id()).expect("it is there");
    assert_eq!((failed.version(), failed.status()), (session.version() + 1, Status::Failed));
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_no_store_without_the_session() {
    let session = sample::pending(Uuid::new_v4());
    let start = Start::with(std::slice::from_ref(&session)).await;
    *start.store.is_down.lock() = true;
    assert_eq!(start.sessions.fetch(session.id()).await, Err(ChangeError::Store));
    start.store.pages.add_permits(1);
    let restored = within(start.restoring).await.expect("no panic");
    assert_eq!(restored, Err(StoreError::Unavailable));
    assert!(start.sessions.is_loading(), "it is not known what there is");
}

#[tokio::test]
async fn what_is_loaded_is_not_looked_for() {
    let session = sample::pending(Uuid::new_v4());
    let start = Start::with(std::slice::from_ref(&session)).await;
    for _ in 0..2 {
        start.sessions.fetch(session.id()).await.expect("it can be read");
    }
    let store = Arc::clone(&start.store);
    assert_eq!(*store.reads.lock(), 1);
    let (sessions, _) = start.finish().await;
    sessions.fetch(Uuid::new_v4()).await.expect("all is known");
    assert_eq!(*store.reads.lock(), 1);
}
