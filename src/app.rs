//! The composition root: builds the parts, connects them, starts and stops them in order. Nobody imports it but the binary.

#[cfg(feature = "demo")]
pub mod demo;
mod files;
pub mod lockup;
mod observer;
mod parting;
pub mod service;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug_span, error};

use self::observer::{Crashes, Witness};
use self::parting::Parting;
use crate::clock::Clock;
use crate::http::health::StoreHealth;
use crate::kernel::session::{SessionId, Terms};
use crate::metrics::{Asked, Metrics};
use crate::poller;
use crate::provider::gate::{Gate, Pass};
use crate::provider::settings::Settings;
use crate::provider::{Provider, Providers, Upstream};
use crate::scheduler;
use crate::sessions::{Quota, Restored, Sessions};
use crate::store::{Store, StoreError};
use crate::watchdog::{Beat, Children, Event, Rounds, Watchdog, watchdog};

/// What a running service is made of.
pub struct Parts {
    pub clock: Arc<dyn Clock>,
    pub store: Arc<dyn Store>,
    pub terms: Terms,
    pub quota: Quota,
    pub providers: Vec<(Settings, Arc<dyn Provider>)>,
}

/// The sessions and everything that keeps them going; the listeners come on top.
pub struct App {
    pub sessions: Sessions,
    pub providers: Arc<Providers>,
    pub metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
    watchdog: Watchdog<Crew>,
    crashes: Arc<Crashes>,
    supervision: JoinHandle<()>,
    loading: AbortHandle,
    restoration: Restoration,
    broken: CancellationToken,
}

/// What came back from the store, once all of it has; or that the store cannot be read, and then the process must not go on.
pub type Restoration = Shared<BoxFuture<'static, Result<Restored, StoreError>>>;

/// Who can be asked whether all is well.
#[derive(Clone)]
pub struct Health {
    store: Arc<dyn Store>,
    sessions: Sessions,
    watchdog: Watchdog<Crew>,
    clock: Arc<dyn Clock>,
    broken: CancellationToken,
}

/// What the watchdog keeps alive.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Child {
    Scheduler,
    Poller(SessionId),
}

struct Crew {
    sessions: Sessions,
    providers: Arc<Providers>,
    watchdog: Watchdog<Crew>,
    metrics: Arc<Metrics>,
    crashes: Arc<Crashes>,
    parting: Arc<Parting>,
    broken: CancellationToken,
}

/// The hard deadline of one exchange with a provider.
const POLLER_PATIENCE: Duration = Duration::from_secs(30);
const SCHEDULER_PATIENCE: Duration = Duration::from_secs(60);
/// How long pollers may finish what they have begun when the service stops.
const DRAIN: Duration = Duration::from_secs(8);
/// How long the last changes may take to become durable, and the store to close.
const SAVE: Duration = Duration::from_millis(900);

impl App {
    /// Starts in order: store, table, watchdog, scheduler. What the store has goes on as it is loaded; see [`App::restored`].
    pub fn start(parts: Parts) -> Self {
        let Parts { clock, store, terms, quota, providers } = parts;
        let bell = Arc::new(Notify::new());
        let upstream = |(settings, provider): (Settings, Arc<dyn Provider>)| {
            let Settings { name, display_name, scopes, allowed_scopes, limits, .. } = settings;
            let gate = Gate::new(limits, Arc::clone(&bell));
            let usual_scope = scopes.join(" ").into();
            (Arc::clone(&name), Arc::new(Upstream { name, display_name, scopes, allowed_scopes, usual_scope, provider, gate }))
        };
        let providers: Arc<Providers> = Arc::new(providers.into_iter().map(upstream).collect());

        let (watchdog, kennel) = watchdog();
        let (metrics, crashes, broken) = (Arc::<Metrics>::default(), Arc::<Crashes>::default(), CancellationToken::new());
        store.observe(Box::new({
            let metrics = Arc::clone(&metrics);
            move |changes, took| metrics.committed(changes, took)
        }));
        let witness = Witness { metrics: Arc::clone(&metrics), crashes: Arc::clone(&crashes), watchdog: watchdog.clone() };
        let sessions = Sessions::new(terms, quota, Arc::clone(&clock), Arc::clone(&store), bell, Arc::new(witness));
        let crew = Crew {
            sessions: sessions.clone(),
            providers: Arc::clone(&providers),
            watchdog: watchdog.clone(),
            metrics: Arc::clone(&metrics),
            crashes: Arc::clone(&crashes),
            parting: Arc::default(),
            broken: broken.clone(),
        };
        let supervised = kennel.run(Arc::new(crew), Arc::clone(&clock));
        #[expect(clippy::disallowed_methods, reason = "the watchdog itself: its end is awaited and ends the process")]
        let supervision = tokio::spawn({
            // However the watchdog ends, nothing is supervised any more.
            let unsupervised = broken.clone().drop_guard();
            async move {
                supervised.await;
                drop(unsupervised);
            }
        });
        watchdog.start(Child::Scheduler, None);
        #[expect(clippy::disallowed_methods, reason = "its end is noticed by everybody who waits for the restoration")]
        let loading = tokio::spawn(restore(sessions.clone(), Arc::clone(&providers)));
        let abort = loading.abort_handle();
        let restoration = loading.map(|ended| ended.unwrap_or(Err(StoreError::Unknown))).boxed().shared();
        Self { sessions, providers, metrics, clock, store, watchdog, crashes, supervision, loading: abort, restoration, broken }
    }

    /// Completes when every session of the store is in the table, or cannot be.
    pub fn restored(&self) -> Restoration {
        self.restoration.clone()
    }

    /// Completes when nothing supervises the pollers any more or the store is broken; the process must not go on.
    pub async fn broken(&self) {
        tokio::select! {
            () = self.broken.cancelled() => {}
            () = self.store.broken() => {}
        }
    }

    pub fn health(&self) -> Health {
        Health {
            store: Arc::clone(&self.store),
            sessions: self.sessions.clone(),
            watchdog: self.watchdog.clone(),
            clock: Arc::clone(&self.clock),
            broken: self.broken.clone(),
        }
    }

    /// For [`lockup::guard`].
    pub fn rounds(&self) -> Rounds {
        self.watchdog.rounds()
    }

    /// How often the poller of a session crashed so far.
    pub fn crashes(&self) -> impl Fn(SessionId) -> u32 + Send + Sync + 'static {
        let crashes = Arc::clone(&self.crashes);
        move |id| crashes.of(id)
    }

    /// Stops in reverse order. Requests under way get 8 s; an exchange cut off then counts as ambiguous.
    pub async fn stop(self) {
        self.loading.abort();
        self.watchdog.stop(self.clock.now() + DRAIN);
        // It was told to end; a panic in it has been logged.
        let _ = self.supervision.await;
        self.sessions.give_up_starting();
        if tokio::time::timeout(SAVE, self.sessions.drain()).await.is_err() {
            let changes = self.sessions.under_way();
            error!(changes, "the store did not take the last changes in time; what they brought is lost");
        }
        let _ = tokio::time::timeout(SAVE, self.store.close()).await;
    }
}

/// Loads the sessions. Those of a provider that is configured no more have nobody to ask, and fail.
async fn restore(sessions: Sessions, providers: Arc<Providers>) -> Result<Restored, StoreError> {
    let restored = sessions.restore().await?;
    let give_up_orphans = move || {
        for orphan in sessions.all().iter().filter(|session| !providers.contains_key(&session.opening().provider)) {
            sessions.give_up(orphan.id());
        }
    };
    // Looks at every session, so it is kept off the tasks that answer requests.
    spawn_blocking(give_up_orphans).await.map_err(|_| StoreError::Unknown)?;
    Ok(restored)
}

impl Health {
    pub async fn store(&self) -> StoreHealth {
        match self.store.is_ready().await {
            false => StoreHealth::Unavailable,
            true if self.sessions.is_loading() => StoreHealth::Loading,
            true => StoreHealth::Ok,
        }
    }

    /// False while pollers crash in a storm, and once nothing supervises them.
    pub fn watchdog_is_ready(&self) -> bool {
        !self.broken.is_cancelled() && self.watchdog.is_calm(self.clock.now())
    }
}

impl Children for Crew {
    type Key = Child;
    type Ticket = Pass;

    fn start(&self, key: Child, ticket: Option<Pass>, beat: Beat) -> BoxFuture<'static, ()> {
        let (sessions, providers) = (self.sessions.clone(), Arc::clone(&self.providers));
        match key {
            Child::Poller(id) => {
                let metrics = Arc::clone(&self.metrics);
                let observe = move |asked: Asked<'_>| observer::asked(id, asked, &metrics);
                // Dear, as there are many polls; what comes of them is in the audit log anyway.
                let span = debug_span!("poller", session = observer::fingerprint(id));
                poller::run(id, sessions, providers, ticket, beat, observe).instrument(span).boxed()
            }
            Child::Scheduler => {
                let watchdog = self.watchdog.clone();
                let start = move |id, pass| watchdog.start(Child::Poller(id), Some(pass));
                let (parting, clock) = (Arc::clone(&self.parting), Arc::clone(sessions.clock()));
                let look = move || parting.look(clock.as_ref());
                scheduler::run(sessions, providers, start, look, beat).boxed()
            }
        }
    }

    fn patience(&self, key: &Child) -> Duration {
        match key {
            Child::Poller(_) => POLLER_PATIENCE,
            Child::Scheduler => SCHEDULER_PATIENCE,
        }
    }

    fn ends(&self, key: &Child) -> bool {
        matches!(key, Child::Poller(_))
    }

    fn give_up(&self, key: Child) {
        match key {
            Child::Poller(id) => self.sessions.give_up(id),
            Child::Scheduler => self.broken.cancel(),
        }
    }

    fn observe(&self, event: &Event<Child>) {
        observer::observe(event, &self.metrics, &self.crashes);
        // Nobody can start another beside it, so no sign-in is polled any more.
        if matches!(event, Event::Stuck { key: Child::Scheduler }) {
            self.broken.cancel();
        }
    }
}
