//! The service within this process, for what can only be seen from inside. Its provider is no server: it answers at once and
//! notes when it said yes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anteroom::app::{App, Parts};
use anteroom::clock::{Clock, SystemClock};
use anteroom::config::Config;
use anteroom::http::callers::Callers;
use anteroom::http::client::Proxies;
use anteroom::http::health::{Health, StoreHealth};
use anteroom::http::limit::{Limits, Rates};
use anteroom::http::streams::Streams;
use anteroom::http::{Api, router};
use anteroom::kernel::verdict::{Began, Failure, Grant, Revocation, Verdict};
use anteroom::provider::{Provider, SignIn};
use anteroom::sessions::{Create, Quota};
use anteroom::store::Store;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::{StreamExt, stream};

use super::sample;

/// Says yes to the first poll of every code.
pub struct Oracle {
    clock: Arc<dyn Clock>,
    interval: Duration,
    said_yes: Mutex<HashMap<Box<str>, Instant>>,
}

impl Oracle {
    /// When it said yes to this user code.
    pub fn said_yes(&self, user_code: &str) -> Instant {
        self.said_yes.lock().expect("no panic under it").remove(user_code).expect("it was asked")
    }
}

impl Provider for Oracle {
    fn begin<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Began, Failure>> {
        ready(Ok(sample::began(self.clock.now(), self.interval))).boxed()
    }

    fn ask<'a>(&'a self, sign_in: SignIn<'a>) -> BoxFuture<'a, Verdict> {
        let verdict = Verdict::Authorized(sample::grant(self.clock.now()));
        self.said_yes.lock().expect("no panic under it").insert(sign_in.user_code.into(), Instant::now());
        ready(verdict).boxed()
    }

    fn revoke<'a>(&'a self, _: &'a Grant) -> BoxFuture<'a, Revocation> {
        ready(Revocation::Revoked).boxed()
    }
}

/// An app on `store` whose provider announces `interval`.
pub async fn app(store: Arc<dyn Store>, interval: Duration) -> (App, Arc<Oracle>) {
    let clock = SystemClock::start();
    let oracle = Arc::new(Oracle { clock: Arc::clone(&clock), interval, said_yes: Mutex::default() });
    let settings = [
        ("ANTEROOM_STORE__URL", "memory:"),
        ("ANTEROOM_PROVIDERS__DEMO__ISSUER", "http://127.0.0.1:1"),
        ("ANTEROOM_PROVIDERS__DEMO__CLIENT_ID", "demo-tv"),
        ("ANTEROOM_PROVIDERS__DEMO__MAX_IN_FLIGHT", "256"),
    ];
    let config = Config::load(None, settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    let settings = config.expect("a configuration").providers.remove(0);
    let providers = vec![(settings, Arc::clone(&oracle) as Arc<dyn Provider>)];
    let parts = Parts { clock, store, terms: sample::TERMS, quota: Quota::new(usize::MAX, []), providers };
    let app = App::start(parts);
    app.restored().await.expect("the store can be read");
    (app, oracle)
}

pub fn create() -> Create {
    Create { provider: "demo".into(), scope: "".into(), label: None, caller: None, idempotency: None, refusal: None }
}

/// Begins `count` sign-ins, `at_once` at a time.
pub async fn begin(app: &App, count: usize, at_once: usize) {
    let begun = stream::iter(0..count).map(|_| app.sessions.create(create())).buffer_unordered(at_once);
    begun.for_each(async |created| drop(created.expect("a session"))).await;
}

/// The public API of `app`, without limits, on a port of its own.
pub async fn listen(app: &App) -> SocketAddr {
    let rates = Rates { requests: NonZeroU32::MAX, creates: NonZeroU32::MAX, reads: NonZeroU32::MAX };
    let api = Api {
        sessions: app.sessions.clone(),
        providers: Arc::clone(&app.providers),
        callers: Callers::default(),
        limits: Limits::new(rates, Proxies::default(), app.sessions.clock()),
        health: Arc::new(|| ready(Health { store: StoreHealth::Ok, watchdog: true }).boxed()),
        restarts: None,
        site: Default::default(),
        streams: Streams::new(usize::MAX),
        stopping: Default::default(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(anteroom::http::serve::serve(listener, router(api), Default::default(), Default::default(), Default::default()));
    address
}
