//! The parts as the composition root wires them, with a scheduler that dies on the way.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anteroom::app::Parts;
use anteroom::clock::Clock;
use anteroom::kernel::session::{Session, SessionId};
use anteroom::kernel::time::Timestamp;
use anteroom::kernel::verdict::{Began, DeviceCode, Failure, Grant, Prompt, Revocation, Verdict};
use anteroom::provider::gate::{Gate, Pass};
use anteroom::provider::{Provider, Providers, Upstream};
use anteroom::sessions::{Observer, Sessions};
use anteroom::watchdog::{Beat, Cause, Children, Event, Watchdog};
use anteroom::{poller, scheduler};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Child {
    Scheduler,
    Poller(SessionId),
}

pub struct Crew {
    pub sessions: Sessions,
    pub watchdog: Watchdog<Crew>,
    pub deaths: AtomicU64,
    pub most_deaths: u64,
    pub gave_up: AtomicBool,
    providers: Arc<Providers>,
    lives: AtomicU64,
}

struct Unobserved;

impl Observer for Unobserved {
    fn opened(&self, _: &Session) {}
    fn moved(&self, _: &Session, _: &Session) {}
    fn lost(&self, _: &Session) {}
    fn gone(&self, _: &Session) {}
    fn forgotten_early(&self, _: usize) {}
    fn stranded(&self, _: SessionId) {}
}

/// Lets its future run `turns` times and panics: before the last turn, or after it, when all that it did is done.
struct Mortal {
    inner: BoxFuture<'static, ()>,
    turns: u64,
    after: bool,
}

impl Future for Mortal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.turns -= 1;
        assert!(self.turns > 0 || self.after, "on purpose, before its turn");
        let turn = self.inner.as_mut().poll(context);
        assert!(self.turns > 0, "on purpose, after its turn");
        turn
    }
}

impl Crew {
    /// Started, with its watchdog running.
    pub fn start(parts: Parts, most_deaths: u64) -> Arc<Self> {
        let Parts { clock, store, terms, quota, providers } = parts;
        let bell = Arc::new(Notify::new());
        let sessions = Sessions::new(terms, quota, clock.clone(), store, bell.clone(), Arc::new(Unobserved));
        let upstream = |(settings, provider): (anteroom::provider::settings::Settings, Arc<dyn Provider>)| {
            let anteroom::provider::settings::Settings { name, display_name, scopes, allowed_scopes, limits, .. } = settings;
            let gate = Gate::new(limits, bell.clone());
            (
                name.clone(),
                Arc::new(Upstream { name, display_name, usual_scope: scopes.join(" ").into(), scopes, allowed_scopes, provider, gate }),
            )
        };
        let providers = Arc::new(providers.into_iter().map(upstream).collect());
        let (watchdog, kennel) = anteroom::watchdog::watchdog();
        let crew = Arc::new(Self {
            sessions,
            watchdog,
            deaths: AtomicU64::new(0),
            most_deaths,
            gave_up: AtomicBool::new(false),
            providers,
            lives: AtomicU64::new(0),
        });
        tokio::spawn(kennel.run(crew.clone(), clock));
        crew.watchdog.start(Child::Scheduler, None);
        crew
    }

    /// Nearly every life ends after some whole rounds. Some end before they began: mostly one, seldom four in a row.
    fn doom(&self, scheduler: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        let life = self.lives.fetch_add(1, Ordering::SeqCst);
        match life {
            _ if life >= self.most_deaths => scheduler,
            _ if life % 400 == 399 || life % 5_000 >= 4_996 => Mortal { inner: scheduler, turns: 1, after: life.is_multiple_of(2) }.boxed(),
            _ => Mortal { inner: scheduler, turns: 2 + life % 7 / 6, after: true }.boxed(),
        }
    }
}

impl Children for Crew {
    type Key = Child;
    type Ticket = Pass;

    fn start(&self, key: Child, ticket: Option<Pass>, beat: Beat) -> BoxFuture<'static, ()> {
        let (sessions, providers) = (self.sessions.clone(), self.providers.clone());
        match key {
            Child::Poller(id) => poller::run(id, sessions, providers, ticket, beat, |_| ()).boxed(),
            Child::Scheduler => {
                let watchdog = self.watchdog.clone();
                let start = move |id, pass| watchdog.start(Child::Poller(id), Some(pass));
                self.doom(scheduler::run(sessions, providers, start, || {}, beat).boxed())
            }
        }
    }

    fn ends(&self, key: &Child) -> bool {
        *key != Child::Scheduler
    }

    fn patience(&self, _: &Child) -> Duration {
        Duration::from_secs(60)
    }

    fn give_up(&self, _: Child) {
        self.gave_up.store(true, Ordering::SeqCst);
    }

    fn observe(&self, event: &Event<Child>) {
        if matches!(event, Event::Crashed { key: Child::Scheduler, cause: Cause::Panicked }) {
            self.deaths.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Answers at once, notes when it is asked, and approves everybody when it is told to.
pub struct Notary {
    pub clock: Arc<dyn Clock>,
    pub approves: AtomicBool,
    pub asked: Mutex<HashMap<String, Vec<Timestamp>>>,
}

impl Provider for Notary {
    fn begin<'a>(&'a self, scope: &'a str) -> BoxFuture<'a, Result<Began, Failure>> {
        let device_code = DeviceCode::new(scope, None, "".into());
        let prompt = Prompt {
            user_code: scope.into(),
            verification_uri: "https://id.test/device".into(),
            verification_uri_complete: None,
            expires_at: self.clock.now() + Duration::from_secs(24 * 3600),
        };
        self.asked.lock().insert(scope.to_owned(), vec![self.clock.now()]);
        ready(Ok(Began { device_code: device_code.into(), prompt, interval: None })).boxed()
    }

    fn ask<'a>(&'a self, sign_in: anteroom::provider::SignIn<'a>) -> BoxFuture<'a, Verdict> {
        let now = self.clock.now();
        self.asked.lock().get_mut(sign_in.device_code.expose_code()).unwrap().push(now);
        let grant = || Grant {
            access_token: "token".to_owned().into(),
            token_type: "Bearer".into(),
            expires_at: None,
            refresh_token: None,
            id_token: None,
            scope: None,
            arrived_at: None,
            claims: None,
        };
        let approved = self.approves.load(Ordering::SeqCst);
        ready(if approved { Verdict::Authorized(grant().into()) } else { Verdict::Pending }).boxed()
    }

    fn verify<'a>(&'a self, grant: &'a Arc<Grant>) -> BoxFuture<'a, Verdict> {
        ready(Verdict::Authorized(grant.clone())).boxed()
    }

    fn revoke<'a>(&'a self, _: &'a Grant) -> BoxFuture<'a, Revocation> {
        ready(Revocation::Revoked).boxed()
    }
}
