//! A configured service: its providers, its sessions, its listener, from the first line to the last.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Method, header};
use axum::routing::get;
use futures_util::FutureExt;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::{App, Parts, files};
use crate::clock::Clock;
use crate::config::{ADMIN_LISTEN, Config, HttpSettings, StoreSettings};
use crate::http::callers::{Caller, Callers};
use crate::http::client::Proxies;
use crate::http::cors::Origins;
use crate::http::health::{self, Health};
use crate::http::limit::{Limiter, Rates};
use crate::http::serve::{Limits, serve};
use crate::http::site::{HostName, Site};
use crate::http::streams::Streams;
use crate::http::{self, Answered, Api, counted_router};
use crate::metrics::Metrics;
use crate::provider::Provider;
use crate::provider::exchange::{ClientError, client_for};
use crate::provider::oauth::OAuthProvider;
use crate::provider::settings::Settings;
use crate::sessions::Quota;
use crate::shutdown::Shutdown;
use crate::store::memory::MemoryStore;
use crate::store::{OpenError, Store, StoreError, postgres, sqlite};
use crate::telemetry::lines_dropped;

/// A service that is bound to its address and not yet serving.
pub struct Service {
    app: App,
    listener: TcpListener,
    limits: Limits,
    router: Router,
    proxies: Proxies,
    admin: Option<TcpListener>,
    admin_router: Router,
    stopping: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{key}: cannot listen on {address} ({reason}); stop what uses it, or choose another address")]
    Listen { key: &'static str, address: SocketAddr, reason: io::ErrorKind },
    #[error("the HTTP client for providers cannot be made: {0}")]
    Client(#[from] ClientError),
    #[error("{0}")]
    Store(#[from] OpenError),
}

/// Why the service must not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The pollers are not supervised or nothing is durable any more.
    #[error("the watchdog, the scheduler or the store is gone; start the service again")]
    Unsupervised,
    #[error("store.url: the sessions cannot be read: {0}")]
    Load(StoreError),
}

/// Connections to the admin listener at a time.
const ADMIN_CONNECTIONS: usize = 16;
/// Files that are open whatever happens: the standard three, the runtime's, the listeners, the store.
const ALWAYS_OPEN: usize = 48;

/// For all that is to end, once it was told to.
const LONGEST_STOP: Duration = Duration::from_secs(10);

/// The configured providers, each as one OAuth client with an HTTP client of its own: it reaches only what that provider may
/// lead to.
///
/// # Errors
/// The HTTP client cannot be made.
pub fn providers(settings: &[Settings], clock: &Arc<dyn Clock>) -> Result<Vec<(Settings, Arc<OAuthProvider>)>, ClientError> {
    let provider = |settings: &Settings| {
        let http = client_for(settings)?;
        Ok((settings.clone(), Arc::new(OAuthProvider::new(settings.clone(), http, Arc::clone(clock)))))
    };
    settings.iter().map(provider).collect()
}

impl Service {
    /// Builds everything and binds the address.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let providers = providers(&config.providers, &clock)?;
        let providers = providers.into_iter().map(|(settings, provider)| (settings, provider as Arc<dyn Provider>)).collect();
        Self::assemble(config, clock, providers, false).await
    }

    pub(super) async fn assemble(
        config: Config,
        clock: Arc<dyn Clock>,
        providers: Vec<(Settings, Arc<dyn Provider>)>,
        shows_restarts: bool,
    ) -> Result<Self, StartError> {
        for warning in &config.warnings {
            warn!("{warning}");
        }
        let listener = bind("listen", config.listen).await?;
        let admin = match config.admin_listen {
            Some(address) => match bind("admin_listen", address).await {
                Ok(listener) => Some(listener),
                // Nobody asked for just this address, so a second service on one machine does without.
                Err(error) if address == ADMIN_LISTEN => {
                    warn!("{error}; there are no metrics");
                    None
                }
                Err(error) => return Err(error),
            },
            None => None,
        };
        let store = store(&config.store, &clock).await?;
        let shares = config.callers.iter().filter_map(|caller| Some((Arc::clone(&caller.name), caller.max_sessions?)));
        let quota = Quota::new(config.max_sessions, shares).with_settled(config.max_settled_sessions);
        let max_connections = files::connections(config.http.max_connections, ours(&config));
        let limits = Limits { max_connections, max_per_address: share(&config.http, max_connections), ..Limits::default() };
        let app = App::start(Parts { clock, store, terms: config.terms, quota, providers });
        let stopping = CancellationToken::new();
        let api = api(&app, &config, &stopping, shows_restarts, limits.max_per_address);
        let is_loopback = admin.as_ref().and_then(|admin| admin.local_addr().ok()).is_some_and(|admin| is_loopback(&admin));
        let site = Site { is_loopback, ..api.site.clone() };
        let admin_router = site.guard(metrics(&app).merge(health::probes(Arc::clone(&api.health))));
        let proxies = proxies(&config.http);
        let router = counted_router(api, counting(Arc::clone(&app.metrics)));
        Ok(Self { app, listener, limits, router, proxies, admin, admin_router, stopping })
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    /// Where the metrics are, if they are anywhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// # Errors
    /// The operating system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves, also while the sessions are still being loaded, until it is told to stop; then nothing new begins, and what is
    /// under way has 10 s in all.
    ///
    /// # Errors
    /// [`RunError`]: the process should exit with a failure.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let Self { app, listener, limits, router, proxies, admin, admin_router, stopping } = self;
        let tasks = TaskTracker::new();
        if let Some(listener) = admin {
            let limits = Limits { max_connections: ADMIN_CONNECTIONS, max_per_address: usize::MAX, ..limits };
            tasks.spawn(serve(listener, admin_router, limits, Proxies::default(), stopping.clone()));
        }
        tasks.spawn(serve(listener, router, limits, proxies, stopping.clone()));
        tasks.close();
        let outcome = tokio::select! {
            () = shutdown.requested() => Ok(()),
            () = app.broken() => Err(RunError::Unsupervised),
            Err(error) = app.restored() => Err(RunError::Load(error)),
        };
        match &outcome {
            Ok(()) => {}
            Err(RunError::Unsupervised) => error!("the watchdog, the scheduler or the store is gone"),
            Err(RunError::Load(_)) => error!("the sessions cannot be read from the store"),
        }
        stopping.cancel();
        let ended = async { tokio::join!(tasks.wait(), app.stop()) };
        tokio::select! {
            ended = tokio::time::timeout(LONGEST_STOP, ended) => match ended {
                Ok(_) => info!("stopped"),
                Err(_) => warn!("stopped, though not everything had ended"),
            },
            () = shutdown.aborted() => warn!("stopped at once"),
        }
        outcome
    }
}

/// How many files may be open beside the connections of clients.
fn ours(config: &Config) -> usize {
    let to_providers: usize = config.providers.iter().map(|provider| provider.limits.max_in_flight).sum();
    ALWAYS_OPEN.saturating_add(ADMIN_CONNECTIONS).saturating_add(to_providers)
}

async fn store(settings: &StoreSettings, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Store>, OpenError> {
    let clock = Arc::clone(clock);
    Ok(match settings {
        StoreSettings::Memory => Arc::new(MemoryStore::default()),
        StoreSettings::Sqlite { path, key_file } => Arc::new(sqlite::open(path, key_file, clock).await?),
        StoreSettings::Postgres { url, key_file, allow_data_loss } => {
            Arc::new(postgres::open(url.expose_secret(), key_file, *allow_data_loss, clock).await?)
        }
    })
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Listen { key, address, reason: error.kind() })
}

/// Counts the answers of each route.
fn counting(metrics: Arc<Metrics>) -> impl Fn(Answered<'_>) + Clone {
    move |Answered { method, route, status, took }| {
        let method = match *method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::DELETE => "DELETE",
            _ => "other",
        };
        metrics.answered(method, route.unwrap_or("none"), status.as_u16(), took);
    }
}

/// The admin listener's own route, beside the probes.
fn metrics(app: &App) -> Router {
    let (metrics, store) = (Arc::clone(&app.metrics), Arc::clone(&app.store));
    let (sessions, providers) = (app.sessions.clone(), Arc::clone(&app.providers));
    let content_type = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let clock = Arc::clone(&app.clock);
    let render = async move || {
        metrics.clock_offset(clock.offset());
        metrics.streams(sessions.watchers());
        metrics.queued(store.queue());
        metrics.log_lines_dropped(lines_dropped());
        for upstream in providers.values() {
            metrics.reachable(&upstream.name, upstream.gate.is_reachable());
        }
        (content_type, metrics.render(&sessions.census()))
    };
    Router::new().route("/metrics", get(render))
}

/// How many connections one address may have. Where the limit of open files allows fewer in all, it is fewer as well.
fn share(http: &HttpSettings, max_connections: usize) -> usize {
    let is_as_configured = max_connections >= http.max_connections;
    if is_as_configured { http.max_connections_per_address } else { http.max_connections_per_address.min(max_connections.div_ceil(4)) }
}

fn proxies(http: &HttpSettings) -> Proxies {
    Proxies::new(http.trusted_proxies.iter().filter_map(|network| network.parse().ok()), http.forwarded_by)
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn origins(texts: &[String]) -> Vec<HeaderValue> {
    texts.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect()
}

fn api(app: &App, config: &Config, stopping: &CancellationToken, shows_restarts: bool, max_per_address: usize) -> Api {
    let health = app.health();
    let stopped = stopping.clone();
    let callers = config.callers.iter().map(|caller| Caller {
        name: Arc::clone(&caller.name),
        key_sha256: caller.key_sha256,
        providers: caller.providers.clone(),
        scopes: caller.scopes.clone(),
        creates: caller.max_creates_per_minute.map(|rate| Limiter::of_caller(rate, Arc::clone(app.sessions.clock()))),
    });
    let HttpSettings { max_requests_per_minute: requests, max_creates_per_minute: creates, max_reads_per_minute: reads, .. } = config.http;
    let public = config.public_url.as_ref().and_then(|url| {
        let host = HostName::read(url.authority())?;
        Some((host, HeaderValue::from_str(&url.origin().ascii_serialization()).ok()?))
    });
    Api {
        sessions: app.sessions.clone(),
        providers: Arc::clone(&app.providers),
        callers: Callers::new(callers),
        limits: http::limit::Limits::new(Rates { requests, creates, reads }, proxies(&config.http), app.sessions.clock()),
        health: Arc::new(move || {
            let (health, stopped) = (health.clone(), stopped.clone());
            async move {
                let watchdog = health.watchdog_is_ready() && !stopped.is_cancelled();
                Health { store: health.store().await, watchdog }
            }
            .boxed()
        }),
        restarts: shows_restarts.then(|| Arc::new(app.crashes()) as _),
        site: Site {
            public,
            hosts: config.http.hosts.clone(),
            is_loopback: is_loopback(&config.listen),
            origins: Origins { watchers: origins(&config.http.allowed_origins), owners: origins(&config.http.owner_origins) },
        },
        streams: Streams::new(max_per_address),
        stopping: stopping.clone(),
    }
}
