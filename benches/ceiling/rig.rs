//! The service under measurement, and the provider as a process beside it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anteroom::app::service::providers;
use anteroom::app::{App, Parts};
use anteroom::clock::{Clock, SystemClock};
use anteroom::config::Config;
use anteroom::demo::{DevProvider, Options, Recording};
use anteroom::kernel::session::Terms;
use anteroom::provider::Provider;
use anteroom::sessions::{Create, Quota};
use anteroom::store::Store;
use anteroom::store::memory::MemoryStore;
use futures_util::{StreamExt, stream};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// The provider's process; it ends with us.
pub struct Beside {
    child: Child,
    pub issuer: String,
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// What the provider's process does: serve until its standard input is closed.
pub fn provide(interval: u64) {
    runtime().block_on(async {
        let options =
            Options { interval: Some(interval), expires_in: 86_400, recording: Recording::Counts, rate_check: None, ..Options::default() };
        let provider = DevProvider::start(([127, 0, 0, 1], 0).into(), options, SystemClock::start()).await.expect("a free port");
        println!("{}", provider.issuer());
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.expect("a thread").expect("standard input");
    });
}

impl Beside {
    /// `interval` in seconds.
    pub fn start(interval: u64) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["--provider", &interval.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program again");
        let mut issuer = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut issuer).expect("the issuer");
        Self { child, issuer: issuer.trim().to_owned() }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// An app whose one provider is `beside`.
pub async fn app(beside: &Beside, max_in_flight: usize) -> App {
    app_on(beside, max_in_flight, Arc::new(MemoryStore::default())).await
}

pub async fn app_on(beside: &Beside, max_in_flight: usize, store: Arc<dyn Store>) -> App {
    let clock: Arc<dyn Clock> = SystemClock::start();
    let settings = [
        ("ANTEROOM_STORE__URL", "memory:".to_owned()),
        ("ANTEROOM_PROVIDERS__DEMO__ISSUER", beside.issuer.clone()),
        ("ANTEROOM_PROVIDERS__DEMO__CLIENT_ID", "demo-tv".to_owned()),
        ("ANTEROOM_PROVIDERS__DEMO__MAX_IN_FLIGHT", max_in_flight.to_string()),
    ];
    let config = Config::load(None, settings.into_iter().map(|(name, value)| (name.to_owned(), value))).expect("a configuration");
    let providers = providers(&config.providers, &clock).expect("a client");
    let providers = providers.into_iter().map(|(settings, provider)| (settings, provider as Arc<dyn Provider>)).collect();
    let terms = Terms { claim_ttl: Duration::from_secs(300), retention: Duration::from_secs(1) };
    let app = App::start(Parts { clock, store, terms, quota: Quota::new(usize::MAX, []), providers });
    app.restored().await.expect("the store can be read");
    app
}

pub fn create() -> Create {
    Create { provider: "demo".into(), scope: "".into(), label: None, caller: None, idempotency: None, refusal: None }
}

/// Begins `count` sign-ins, `at_once` at a time.
pub async fn begin(app: &App, count: usize, at_once: usize) -> Vec<Uuid> {
    stream::iter(0..count)
        .map(|_| async { app.sessions.create(create()).await.expect("a session").session.id() })
        .buffer_unordered(at_once)
        .collect()
        .await
}

/// The public API of `app` on a port of its own.
pub async fn listen(router: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(anteroom::http::serve::serve(listener, router, Default::default(), Default::default()));
    address
}

/// The sum of a series of `app`'s metrics over all labels that contain `label`.
pub fn series(app: &App, name: &str, label: &str) -> f64 {
    let text = app.metrics.render(&app.sessions.census());
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
