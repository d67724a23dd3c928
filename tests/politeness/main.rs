//! How providers are treated by all sessions together: by the whole service, with real sockets, on a clock of the test's.
#![cfg(feature = "demo")]

#[path = "../support/clock.rs"]
mod clock;
mod gate;
mod outage;
mod shares;
mod sharing;
mod soak;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anteroom::app::service::Service;
use anteroom::clock::Clock;
use anteroom::config::Config;
use anteroom::demo::{DevProvider, Endpoint, Options};
use anteroom::kernel::session::{Session, SessionId, Status, Urgency};
use anteroom::kernel::time::Timestamp;
use anteroom::provider::Providers;
use anteroom::provider::gate::Room;
use anteroom::sessions::{Create, CreateError, Sessions};
use anteroom::shutdown::Shutdown;

use clock::ManualClock;

/// A running service and the providers that it asks, called `a`, `b` and so on.
struct Bench {
    clock: ManualClock,
    sessions: Sessions,
    upstreams: Arc<Providers>,
    address: SocketAddr,
    providers: Vec<DevProvider>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Each provider has its options and further keys of its section.
async fn start(providers: &[(Options, &[(&str, &str)])]) -> Bench {
    let clock = ManualClock::default();
    let mut keys = vec![("LISTEN".to_owned(), "127.0.0.1:0".to_owned()), ("ADMIN_LISTEN".to_owned(), String::new())];
    keys.push(("STORE__URL".to_owned(), "memory:".to_owned()));
    let mut running = Vec::new();
    for ((options, more), name) in providers.iter().zip(NAMES) {
        let provider = DevProvider::start(([127, 0, 0, 1], 0).into(), options.clone(), clock.as_clock()).await.unwrap();
        let own = [("ISSUER", provider.issuer()), ("CLIENT_ID", "demo-tv")];
        let all = own.iter().chain(*more).map(|(key, value)| (format!("PROVIDERS__{name}__{key}").to_uppercase(), (*value).to_owned()));
        keys.extend(all);
        running.push(provider);
    }
    let environment = keys.into_iter().map(|(key, value)| (format!("ANTEROOM_{key}"), value));
    let service = Service::start(Config::load(None, environment).unwrap(), clock.as_clock()).await.unwrap();
    let (sessions, upstreams) = (service.app().sessions.clone(), Arc::clone(&service.app().providers));
    let address = service.address().unwrap();
    tokio::spawn(service.run(Shutdown::default()));
    Bench { clock, sessions, upstreams, address, providers: running }
}

impl Bench {
    async fn begin(&self, provider: &str) -> SessionId {
        self.try_begin(provider).await.unwrap()
    }

    async fn try_begin(&self, provider: &str) -> Result<SessionId, CreateError> {
        let provider = Arc::clone(&self.upstreams[provider].name);
        let create = Create { provider, scope: "".into(), label: None, caller: None, idempotency: None, refusal: None };
        let sessions = self.sessions.clone();
        let creation = tokio::spawn(async move { sessions.create(create).await.map(|created| created.session.id()) });
        while !creation.is_finished() {
            // At the rate limit even this may have to wait its turn.
            tokio::task::yield_now().await;
            self.settle().await;
            if !creation.is_finished() && self.sessions.all().iter().any(|session| session.status() == Status::Starting) {
                self.clock.tick();
            }
        }
        within(creation).await.unwrap()
    }

    /// So many sessions, so far apart.
    async fn begin_many(&self, provider: &str, count: usize, apart: Duration) -> Vec<SessionId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.begin(provider).await);
            self.run_for(apart).await;
        }
        ids
    }

    fn session(&self, id: SessionId) -> Arc<Session> {
        self.sessions.peek(id).unwrap()
    }

    fn statuses(&self, ids: &[SessionId]) -> Vec<Status> {
        ids.iter().map(|id| self.session(*id).status()).collect()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets the time pass, stopping at every moment at which something is due and until all of that is done.
    async fn run_for(&self, time: Duration) {
        let end = self.now() + time;
        loop {
            self.settle().await;
            match self.clock.next_deadline() {
                Some(deadline) if deadline <= end => self.clock.advance_to(deadline),
                _ => break,
            }
        }
        self.clock.advance_to(end);
        self.settle().await;
    }

    async fn settle(&self) {
        let settled = async {
            while !self.is_settled() {
                tokio::task::yield_now().await;
            }
        };
        within(settled).await;
    }

    /// Nobody is being asked, nobody that might be asked is due, and the scheduler sleeps.
    fn is_settled(&self) -> bool {
        let now = self.now();
        let all = self.sessions.all();
        // The scheduler, the watchdog for the scheduler, and whoever waits for a session to begin.
        let sleepers = 2 + all.iter().filter(|session| session.status() == Status::Starting).count();
        let is_waiting = |session: &Arc<Session>| {
            let gate = &self.upstreams[&session.opening().provider].gate;
            let has_room = |urgency| matches!(gate.room(now, urgency), Room::Now(_));
            let expires_at = session.prompt().map(|prompt| prompt.expires_at);
            match (session.status(), session.next_poll_at()) {
                (Status::Pending, None) => false,
                (Status::Starting, _) => !has_room(Urgency::Beginning),
                (Status::Pending, Some(due)) if due <= now && Some(due) >= expires_at => !has_room(Urgency::Urgent),
                (Status::Pending, Some(due)) if due <= now => {
                    !has_room(Urgency::Ordinary) || self.sessions.deadlines().values().all(|deadline| *deadline > now)
                }
                _ => true,
            }
        };
        self.clock.sleepers() == sleepers
            && self.upstreams.values().all(|upstream| upstream.gate.in_flight() == 0)
            && all.iter().all(is_waiting)
    }

    /// When this provider was polled.
    fn polls(&self, provider: usize) -> Vec<Timestamp> {
        self.providers[provider].exchanges(Endpoint::Token).iter().map(|exchange| exchange.at).collect()
    }

    fn polls_since(&self, provider: usize, since: Timestamp) -> Vec<Timestamp> {
        self.polls(provider).into_iter().filter(|at| *at >= since).collect()
    }
}

/// The most of these moments in any one second.
fn most_in_a_second(moments: &[Timestamp]) -> usize {
    let second = |from: &Timestamp| moments.iter().filter(|at| *at >= from && **at < *from + Duration::from_secs(1)).count();
    moments.iter().map(second).max().unwrap_or(0)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Fails a test that would hang.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens within 20 s")
}
