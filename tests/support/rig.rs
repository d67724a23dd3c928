//! The product in this process, as the binary composes it, and the development provider on the same clock.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anteroom::app::{App, Parts};
use anteroom::clock::Clock;
use anteroom::config::Config;
use anteroom::demo::{DevProvider, Options, Saboteur};
use anteroom::kernel::session::{Session, SessionId, State, Status, Terms};
use anteroom::kernel::time::Timestamp;
use anteroom::kernel::verdict::Failure;
use anteroom::provider::Provider;
use anteroom::provider::exchange::{Patience, client_with};
use anteroom::provider::gate::Limits;
use anteroom::provider::oauth::OAuthProvider;
use anteroom::provider::settings::Settings;
use anteroom::sessions::{Create, CreateError, Quota, Sessions};
use anteroom::store::Store;
use anteroom::store::memory::MemoryStore;

use crate::clock::ManualClock;

pub const TERMS: Terms = Terms { claim_ttl: Duration::from_secs(300), retention: Duration::from_secs(600) };
pub const PROVIDER: &str = "dev";

pub struct Rig<C = ManualClock> {
    pub app: App,
    pub sessions: Sessions,
    pub provider: Arc<DevProvider>,
    pub clock: C,
}

/// How the rig is built; [`Setup::default`] is a strict provider, the memory store and no decoration.
pub struct Setup<C = ManualClock> {
    pub clock: C,
    pub options: Options,
    pub limits: Limits,
    pub pkce: bool,
    pub patience: Patience,
    pub max_sessions: usize,
    /// In place of `max_sessions`.
    pub quota: Option<Quota>,
    pub terms: Terms,
    pub max_settled: usize,
    pub store: Arc<dyn Store>,
    /// Wraps the real client of the provider.
    pub around: Box<Around>,
}

type Around = dyn FnOnce(Arc<dyn Provider>) -> Arc<dyn Provider>;

/// A session that has its code.
#[derive(Clone, Debug)]
pub struct SignIn {
    pub id: SessionId,
    pub user_code: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self::on(ManualClock::default())
    }
}

impl<C: Clock + Clone> Setup<C> {
    pub fn on(clock: C) -> Self {
        Self {
            clock,
            options: Options::default(),
            limits: Limits { max_in_flight: 64, max_per_second: None },
            pkce: false,
            patience: Patience::default(),
            max_sessions: 100_000,
            quota: None,
            terms: TERMS,
            max_settled: usize::MAX,
            store: Arc::new(MemoryStore::default()),
            around: Box::new(|provider| provider),
        }
    }

    /// The development provider, and the parts of an [`App`] that has it as its only provider.
    pub async fn build(self) -> (Arc<DevProvider>, Parts) {
        quiet();
        let Self { clock, options, limits, pkce, patience, max_sessions, max_settled, quota, terms, store, around } = self;
        let clock: Arc<dyn Clock> = Arc::new(clock);
        let provider = DevProvider::start(([127, 0, 0, 1], 0).into(), options, Arc::clone(&clock)).await.unwrap();
        let settings = settings(provider.issuer(), limits, pkce);
        let http = client_with(patience, None).unwrap();
        let real = OAuthProvider::new(settings.clone(), http, Arc::clone(&clock));
        let wired = around(Arc::new(Saboteur::new(Arc::new(real), provider.switches())));
        let quota = quota.unwrap_or_else(|| Quota::new(max_sessions, [("limited".into(), 2)]).with_settled(max_settled));
        (Arc::new(provider), Parts { clock, store, terms, quota, providers: vec![(settings, wired)] })
    }
}

fn settings(issuer: &str, limits: Limits, pkce: bool) -> Settings {
    let environment = [
        ("ANTEROOM_PROVIDERS__DEV__ISSUER", issuer),
        ("ANTEROOM_PROVIDERS__DEV__CLIENT_ID", "demo-tv"),
        ("ANTEROOM_PROVIDERS__DEV__SCOPES", r#"["profile"]"#),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(None, environment.into_iter()).unwrap();
    Settings { limits, pkce, ..config.providers.into_iter().next().unwrap() }
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with_options(options: Options) -> Self {
        Self::with(Setup { options, ..Setup::default() }).await
    }
}

impl<C: Clock + Clone> Rig<C> {
    pub async fn with(setup: Setup<C>) -> Self {
        let clock = setup.clock.clone();
        let (provider, parts) = setup.build().await;
        let app = App::start(parts);
        app.restored().await.unwrap();
        Self { sessions: app.sessions.clone(), app, provider, clock }
    }

    pub async fn begin(&self) -> SignIn {
        begin(&self.sessions, None).await.unwrap()
    }

    pub async fn try_begin(&self, caller: Option<&str>) -> Result<SignIn, CreateError> {
        begin(&self.sessions, caller).await
    }

    /// As the table has it, readable or not.
    pub fn session(&self, sign_in: &SignIn) -> Arc<Session> {
        self.sessions.peek(sign_in.id).expect("the session is in the table")
    }

    pub fn status(&self, sign_in: &SignIn) -> Status {
        self.session(sign_in).status()
    }

    pub fn failure(&self, sign_in: &SignIn) -> Option<Failure> {
        match self.session(sign_in).state() {
            State::Failed { failure, .. } => Some(*failure),
            _ => None,
        }
    }

    /// When the session is to be asked about next.
    pub fn due(&self, sign_in: &SignIn) -> Timestamp {
        self.session(sign_in).next_poll_at().expect("it waits for its next poll")
    }

    /// Whether nothing is under way for this session, nor has to be by now.
    pub fn is_at_rest(&self, sign_in: &SignIn) -> bool {
        let session = self.session(sign_in);
        session.status() != Status::Pending || session.next_poll_at().is_some_and(|at| at > self.clock.now())
    }

    /// The crashes of this session's poller.
    pub fn crashes(&self, sign_in: &SignIn) -> u32 {
        self.app.crashes()(sign_in.id)
    }
}

impl Rig {
    /// Advances to the session's next poll and waits until that exchange is over.
    pub async fn poll(&self, sign_in: &SignIn) {
        self.clock.advance_to(self.due(sign_in));
        self.rest(sign_in).await;
    }

    pub async fn polls(&self, times: usize, sign_in: &SignIn) {
        for _ in 0..times {
            self.poll(sign_in).await;
        }
    }

    pub async fn rest(&self, sign_in: &SignIn) {
        eventually("the exchange is over", || self.is_at_rest(sign_in)).await;
    }

    /// Sets the next poll off and returns as soon as the provider has it.
    pub async fn set_off(&self, sign_in: &SignIn) {
        let before = self.provider.poll_count(&sign_in.user_code);
        self.clock.advance_to(self.due(sign_in));
        within(self.provider.wait_for(|provider| provider.poll_count(&sign_in.user_code) > before)).await;
    }

    /// Waits until somebody sleeps for exactly this moment, then makes it come.
    pub async fn advance_to_sleeper(&self, at: Timestamp) {
        within(self.clock.sleeper(|deadline| deadline == at)).await;
        self.clock.advance_to(at);
    }
}

pub async fn begin(sessions: &Sessions, caller: Option<&str>) -> Result<SignIn, CreateError> {
    begin_with_scope(sessions, caller, "profile").await
}

pub async fn begin_with_scope(sessions: &Sessions, caller: Option<&str>, scope: &str) -> Result<SignIn, CreateError> {
    let create = Create {
        provider: PROVIDER.into(),
        scope: scope.into(),
        label: None,
        caller: caller.map(Into::into),
        idempotency: None,
        refusal: None,
    };
    let created = sessions.create(create).await?;
    let user_code = created.session.prompt().expect("a session that began has a code").user_code.to_string();
    Ok(SignIn { id: created.session.id(), user_code })
}

/// Fails a test that would hang.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONGEST, future).await.expect("it happens in time")
}

/// Looks again and again, for what nobody announces.
pub async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let looking = async {
        let mut look = tokio::time::interval(Duration::from_millis(1));
        while !happened() {
            look.tick().await;
        }
    };
    tokio::time::timeout(LONGEST, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

const LONGEST: Duration = Duration::from_secs(20);

/// Panics that are meant stay out of the output: their messages say "on purpose".
pub fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let message = panic.payload_as_str().unwrap_or_default();
            if !message.contains("on purpose") {
                loud(panic);
            }
        }));
    });
}
