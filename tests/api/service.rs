//! A whole service without sockets: real sessions, pollers, watchdog and router; a provider that does as it is told, a clock
//! that is advanced by hand and a store that can be broken.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anteroom::app::{App, Parts};
use anteroom::clock::Clock;
use anteroom::http::callers::{Caller, Callers};
use anteroom::http::client::{ForwardedBy, Proxies};
use anteroom::http::cors::Origins;
use anteroom::http::health::Health;
use anteroom::http::limit::Rates;
use anteroom::http::site::Site;
use anteroom::http::streams::Streams;
use anteroom::http::{self, Api, router};
use anteroom::kernel::session::{Session, SessionId, Terms};
use anteroom::kernel::time::{Timestamp, WallTime};
use anteroom::kernel::verdict::{Began, DeviceCode, Failure, Grant, Prompt, Revocation, Verdict};
use anteroom::provider::dialect::Dialect;
use anteroom::provider::gate::Limits;
use anteroom::provider::settings::{ClientAuth, Settings};
use anteroom::provider::{Provider, SignIn};
use anteroom::sessions::Quota;
use anteroom::store::memory::MemoryStore;
use anteroom::store::{Loaded, Store, StoreError};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::clock::ManualClock;
use crate::contract::Contract;

pub struct Service {
    pub app: App,
    pub router: Router,
    pub clock: ManualClock,
    pub provider: Arc<Obedient>,
    pub store: Arc<Brittle>,
    pub stopping: CancellationToken,
}

/// How a service differs from the plain one.
pub struct Setup {
    pub providers: &'static [&'static str],
    pub callers: Vec<Caller>,
    pub max_sessions: usize,
    pub restarts: Option<Arc<dyn Fn(SessionId) -> u32 + Send + Sync>>,
    pub origins: Origins,
    pub rates: Rates,
    pub proxies: &'static [&'static str],
    pub forwarded_by: ForwardedBy,
    pub site: Site,
    pub max_streams: usize,
    pub store: Arc<Brittle>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// A session that was just created.
#[derive(Clone, Debug)]
pub struct Ours {
    pub id: String,
    pub secret: String,
}

pub const PATIENCE: Duration = Duration::from_secs(25);
/// Enough for every test that is not about them.
pub const RATES: Rates = Rates { requests: NonZeroU32::MAX, creates: NonZeroU32::MAX, reads: NonZeroU32::MAX };
pub const CALLER_KEY: &str = "a-caller-key";

impl Default for Setup {
    fn default() -> Self {
        Self {
            providers: &["acme"],
            callers: Vec::new(),
            max_sessions: 1000,
            restarts: None,
            origins: Origins::default(),
            rates: RATES,
            proxies: &[],
            forwarded_by: ForwardedBy::default(),
            site: Site::default(),
            max_streams: usize::MAX,
            store: Arc::default(),
        }
    }
}

pub fn caller(providers: Option<&[&str]>) -> Caller {
    Caller {
        name: "tv".into(),
        key_sha256: Sha256::digest(CALLER_KEY).into(),
        providers: providers.map(|names| names.iter().map(|name| Arc::from(*name)).collect()),
        scopes: None,
        creates: None,
    }
}

impl Service {
    pub fn plain() -> Self {
        Self::start(Setup::default())
    }

    pub fn start(setup: Setup) -> Self {
        let clock = ManualClock::default();
        let store = setup.store;
        let provider = Arc::new(Obedient::new(clock.clone()));
        let providers = setup.providers.iter().map(|name| (settings(name), Arc::clone(&provider) as Arc<dyn Provider>)).collect();
        let app = App::start(Parts {
            clock: clock.as_clock(),
            store: Arc::clone(&store) as Arc<dyn Store>,
            terms: Terms { claim_ttl: Duration::from_secs(300), retention: Duration::from_secs(600) },
            quota: Quota::new(setup.max_sessions, []),
            providers,
        });
        let (health, restored, loaded_from) = (app.health(), app.restored(), Arc::clone(&store));
        let stopping = CancellationToken::new();
        let router = router(Api {
            sessions: app.sessions.clone(),
            providers: Arc::clone(&app.providers),
            callers: Callers::new(setup.callers),
            limits: http::limit::Limits::new(
                setup.rates,
                Proxies::new(setup.proxies.iter().map(|it| it.parse().unwrap()), setup.forwarded_by),
                &clock.as_clock(),
            ),
            health: Arc::new(move || {
                let (health, restored, store) = (health.clone(), restored.clone(), Arc::clone(&loaded_from));
                async move {
                    if !store.loads_for_ever.load(Ordering::SeqCst) {
                        restored.await.expect("the store can be read");
                    }
                    Health { store: health.store().await, watchdog: health.watchdog_is_ready() }
                }
                .boxed()
            }),
            restarts: setup.restarts,
            site: Site { origins: setup.origins, ..setup.site },
            streams: Streams::new(setup.max_streams),
            stopping: stopping.clone(),
        });
        Self { app, router, clock, provider, store, stopping }
    }

    /// Sends a request and holds the answer against the contract.
    pub fn send(&self, request: Request<Body>) -> impl Future<Output = Answer> + Send + use<> {
        let router = self.router.clone();
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let answered = tokio::time::timeout(PATIENCE, async {
                let (parts, body) = router.oneshot(request).await.expect("a router always answers").into_parts();
                (parts, axum::body::to_bytes(body, usize::MAX).await.expect("a whole body").to_vec())
            });
            let (parts, body) = answered.await.unwrap_or_else(|_| panic!("no answer to {method} {path}"));
            Contract::get().check(&method, &path, parts.status, &parts.headers, &body);
            Answer { status: parts.status, headers: parts.headers, body }
        }
    }

    pub async fn post(&self, body: &str) -> Answer {
        self.send(json("/sessions", body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = headers.iter().fold(request(Method::GET, path), |request, (name, value)| request.header(*name, *value));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn claim(&self, session: &Ours, key: Option<&str>) -> Answer {
        self.send(claim(session, key)).await
    }

    pub async fn delete(&self, session: &Ours) -> Answer {
        self.send(owned(Method::DELETE, &session.path(), session).body(Body::empty()).unwrap()).await
    }

    /// A new session, pending, at revision 2.
    pub async fn pending(&self) -> Ours {
        let answer = self.post("{}").await;
        assert_eq!(answer.status, 201);
        let session = answer.json();
        assert_eq!((&session["status"], &session["revision"]), (&Value::from("pending"), &Value::from(2)));
        Ours { id: session["id"].as_str().unwrap().to_owned(), secret: session["secret"].as_str().unwrap().to_owned() }
    }

    /// A new session that has moved on because of `verdict`, to revision 3.
    pub async fn polled(&self, verdict: Verdict) -> Ours {
        let session = self.pending().await;
        self.answered(&session, verdict).await;
        session
    }

    /// The only session that is pending gets this answer to its poll.
    pub async fn answered(&self, session: &Ours, verdict: Verdict) {
        self.provider.says(verdict);
        self.clock.advance(Duration::from_secs(7));
        let answer = self.get_with(&session.path(), &[("if-none-match", "\"2\""), ("prefer", "wait=60")]).await;
        assert_eq!(answer.json()["revision"], 3);
    }

    pub async fn authorized(&self) -> Ours {
        self.polled(Verdict::Authorized(grant())).await
    }

    /// Watches the session until it is as wanted.
    pub async fn until_status(&self, session: &Ours, wanted: &str) {
        let reading = async {
            while self.get(&session.path()).await.json()["status"] != wanted {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("it comes to that");
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets time go by, in small steps, until `done`.
    pub async fn advance_until(&self, mut done: impl FnMut() -> bool) {
        let advancing = async {
            while !done() {
                self.clock.advance(Duration::from_millis(100));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, advancing).await.expect("it happens in time");
    }
}

impl Ours {
    pub fn path(&self) -> String {
        format!("/sessions/{}", self.id)
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.json()["code"].as_str()), (status, Some(code)));
    }
}

pub fn request(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

pub fn json(path: &str, body: &str) -> Request<Body> {
    request(Method::POST, path).header("content-type", "application/json").body(body.to_owned().into()).unwrap()
}

pub fn owned(method: Method, path: &str, session: &Ours) -> axum::http::request::Builder {
    request(method, path).header("authorization", format!("Bearer {}", session.secret))
}

pub fn claim(session: &Ours, key: Option<&str>) -> Request<Body> {
    let request = owned(Method::POST, &format!("{}/claim", session.path()), session);
    let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
    request.body(Body::empty()).unwrap()
}

pub fn grant() -> Arc<Grant> {
    Arc::new(Grant {
        access_token: "an-access-token".into(),
        token_type: "Bearer".into(),
        expires_at: Some(WallTime::from_millis(4_102_444_800_000)),
        refresh_token: None,
        id_token: Some("an.id.token".into()),
        scope: Some("openid".into()),
        arrived_at: None,
        claims: Some(r#"{"sub":"248289","n":1.0}"#.into()),
    })
}

fn settings(name: &str) -> Settings {
    let scopes = |list: &[&str]| list.iter().map(|scope| (*scope).to_owned()).collect();
    Settings {
        name: name.into(),
        display_name: format!("The <{name}> ID"),
        preset: None,
        dialect: Dialect::RFC8628,
        issuer: None,
        endpoints: Default::default(),
        client_id: "tv-app".into(),
        client_secret: None,
        client_auth: ClientAuth::None,
        private_key: None,
        assertion_audience: Default::default(),
        scopes: scopes(&["openid"]),
        allowed_scopes: scopes(&["openid", "profile"]),
        audience: None,
        resource: Vec::new(),
        pkce: false,
        allow_http: false,
        allow_networks: Vec::new(),
        proxy: None,
        limits: Limits { max_in_flight: 8, max_per_second: None },
        allow_anonymous: false,
    }
}

// === provider ===

/// What the provider does when it is asked for a code.
#[derive(Clone, Debug)]
pub enum Beginning {
    Fail(Failure),
    Hang,
    Panic,
    /// A code, shown like this.
    Prompt {
        user_code: &'static str,
        uri: &'static str,
        complete: Option<&'static str>,
    },
}

pub struct Obedient {
    clock: ManualClock,
    beginning: Mutex<Beginning>,
    verdicts: Mutex<VecDeque<Verdict>>,
    scopes: Mutex<Vec<String>>,
    begun: watch::Sender<usize>,
}

impl Obedient {
    fn new(clock: ManualClock) -> Self {
        let plain = Beginning::Prompt { user_code: "WDJB-MJHT", uri: "https://id.acme.test/device", complete: None };
        let (verdicts, scopes) = Default::default();
        Self { clock, beginning: Mutex::new(plain), verdicts, scopes, begun: watch::Sender::new(0) }
    }

    pub fn begins(&self, beginning: Beginning) {
        *self.beginning.lock() = beginning;
    }

    /// The answer to the next poll; after that `authorization_pending` again.
    pub fn says(&self, verdict: Verdict) {
        self.verdicts.lock().push_back(verdict);
    }

    /// How often it was asked for a code.
    pub fn begun(&self) -> usize {
        *self.begun.borrow()
    }

    pub async fn was_asked(&self) {
        let mut begun = self.begun.subscribe();
        let asked = begun.wait_for(|begun| *begun > 0);
        tokio::time::timeout(PATIENCE, asked).await.expect("the provider is asked").expect("the provider lives");
    }

    /// The scope of every request for a code.
    pub fn scopes(&self) -> Vec<String> {
        self.scopes.lock().clone()
    }

    fn began(&self, user_code: &str, uri: &str, complete: Option<&str>) -> Began {
        Began {
            device_code: Arc::new(DeviceCode::new("a-device-code", None, "https://id.acme.test/token".into())),
            prompt: Prompt {
                user_code: user_code.into(),
                verification_uri: uri.into(),
                verification_uri_complete: complete.map(Into::into),
                expires_at: self.clock.now() + Duration::from_secs(900),
            },
            interval: None,
        }
    }
}

impl Provider for Obedient {
    fn begin<'a>(&'a self, scope: &'a str) -> BoxFuture<'a, Result<Began, Failure>> {
        self.scopes.lock().push(scope.to_owned());
        self.begun.send_modify(|begun| *begun += 1);
        let beginning = self.beginning.lock().clone();
        async move {
            match beginning {
                Beginning::Prompt { user_code, uri, complete } => Ok(self.began(user_code, uri, complete)),
                Beginning::Fail(failure) => Err(failure),
                Beginning::Hang => futures_util::future::pending().await,
                Beginning::Panic => panic!("the provider was told to panic"),
            }
        }
        .boxed()
    }

    fn ask<'a>(&'a self, _: SignIn<'a>) -> BoxFuture<'a, Verdict> {
        ready(self.verdicts.lock().pop_front().unwrap_or(Verdict::Pending)).boxed()
    }

    fn verify<'a>(&'a self, grant: &'a Arc<Grant>) -> BoxFuture<'a, Verdict> {
        ready(Verdict::Authorized(Arc::clone(grant))).boxed()
    }

    fn revoke<'a>(&'a self, _: &'a Grant) -> BoxFuture<'a, Revocation> {
        ready(Revocation::Revoked).boxed()
    }
}

// === store ===

#[derive(Default)]
pub struct Brittle {
    rows: MemoryStore,
    broken: AtomicBool,
    failing: AtomicBool,
    buggy: AtomicBool,
    stuck: watch::Sender<bool>,
    loads_for_ever: AtomicBool,
}

impl Brittle {
    pub fn fail(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    pub fn mend(&self) {
        self.broken.store(false, Ordering::SeqCst);
    }

    /// It does not answer until it goes on.
    pub fn hang(&self) {
        self.stuck.send_replace(true);
    }

    pub fn go_on(&self) {
        self.stuck.send_replace(false);
    }

    /// How many rows it has.
    pub async fn rows(&self) -> usize {
        self.rows.load().try_concat().await.expect("it can be read").len()
    }

    /// Whoever starts with it gets no page.
    pub fn load_for_ever(&self) {
        self.loads_for_ever.store(true, Ordering::SeqCst);
    }

    pub fn panic(&self) {
        self.buggy.store(true, Ordering::SeqCst);
    }

    fn works(&self) -> bool {
        assert!(!self.buggy.load(Ordering::SeqCst), "the store was told to panic");
        !self.broken.load(Ordering::SeqCst)
    }
}

impl Store for Brittle {
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut stuck = self.stuck.subscribe();
        if *stuck.borrow_and_update() {
            return async move {
                let _ = stuck.wait_for(|stuck| !stuck).await;
                self.rows.save(expected, next).await
            }
            .boxed();
        }
        self.failing.store(!self.works(), Ordering::SeqCst);
        if self.works() { self.rows.save(expected, next) } else { ready(Err(StoreError::Unavailable)).boxed() }
    }

    fn version(&self, id: SessionId) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        if self.works() { self.rows.version(id) } else { ready(Err(StoreError::Unavailable)).boxed() }
    }

    fn remove(&self, id: SessionId) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.works() { self.rows.remove(id) } else { ready(Err(StoreError::Unavailable)).boxed() }
    }

    fn load(&self) -> BoxStream<'_, Result<Vec<Loaded>, StoreError>> {
        if self.loads_for_ever.load(Ordering::SeqCst) { stream::pending().boxed() } else { self.rows.load() }
    }

    fn read(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        if self.works() { self.rows.read(id) } else { ready(Err(StoreError::Unavailable)).boxed() }
    }

    fn is_ready(&self) -> BoxFuture<'_, bool> {
        ready(self.works()).boxed()
    }

    fn is_failing(&self) -> bool {
        self.failing.load(Ordering::SeqCst)
    }
}
