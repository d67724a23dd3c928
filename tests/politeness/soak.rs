//! A thousand sign-ins at a provider of which three polls in ten fail, in every way in which a poll can fail.

use std::time::{Instant, SystemTime};

use anteroom::app::{App, Parts};
use anteroom::demo::{Answer, Codes, Recording};
use anteroom::kernel::session::{State, Terms};
use anteroom::kernel::verdict::Failure;
use anteroom::provider::Provider;
use anteroom::provider::exchange::{Patience, client_with};
use anteroom::provider::oauth::OAuthProvider;
use anteroom::sessions::Quota;
use anteroom::store::memory::MemoryStore;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;

use super::*;

/// The real clock, and from some moment on a much faster one.
#[derive(Clone, Default)]
struct FastClock {
    fast_since: Arc<Mutex<Option<Instant>>>,
}

const SPEED: u32 = 12;

impl FastClock {
    fn go_fast(&self) {
        *self.fast_since.lock() = Some(Instant::now());
    }
}

impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        let won = self.fast_since.lock().map_or(Duration::ZERO, |since| since.elapsed() * (SPEED - 1));
        let real = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp::default() + real + won
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        async move {
            while clock.now() < deadline {
                tokio::time::sleep((deadline.since(clock.now()) / SPEED).min(Duration::from_millis(50))).await;
            }
        }
        .boxed()
    }
}

/// Polls that are failed in any way, before the person decides. From then on only in ways that leave the code alone: whoever
/// spends it and loses the answer has lost the grant, and no client can do anything about it.
const BEFORE: u64 = 2;
const AFTER: usize = 40;

fn faults(spoiling: bool) -> Vec<Answer> {
    let page = |status| Answer::text(status, "<html><h1>Bad Gateway</h1></html>");
    let retry_later = Answer::Raw { status: 503, headers: vec![("retry-after".to_owned(), "2".to_owned())], body: b"busy".to_vec() };
    let rare = Answer::Stall;
    let lost = vec![
        Answer::Reset,
        Answer::CloseWithoutAnswer,
        Answer::Stall,
        page(502),
        page(200),
        Answer::error(500, "server_error"),
        retry_later,
    ];
    let spoilt = vec![Answer::HalfBody, Answer::DropReply, Answer::ResetReply];
    if spoiling { [vec![rare], lost, spoilt].concat() } else { [vec![rare], lost.clone(), lost].concat() }
}

/// Three in ten, each fault as often as another; `seed` makes every session's share its own.
fn share(seed: usize, polls: usize, spoiling: bool) -> Vec<Answer> {
    let faults = faults(spoiling);
    // A stride that is coprime to ten visits all tenths, in an order that differs from session to session.
    let fails = |poll: usize| (seed * 3 + poll * 7) % 10 < 3;
    (0..polls).map(|poll| if fails(poll) { faults[(seed / 10 + poll) % faults.len()].clone() } else { Answer::Normal }).collect()
}

struct Soak {
    clock: FastClock,
    app: App,
    provider: DevProvider,
}

/// With `approve_at_poll` nobody has to approve: the provider takes that poll, or the first after it that reaches it, for a yes.
async fn soak(approve_at_poll: Option<u64>) -> Soak {
    let fast = FastClock::default();
    let clock: Arc<dyn Clock> = Arc::new(fast.clone());
    let options = Options { interval: Some(5), expires_in: 3600, approve_at_poll, recording: Recording::Counts, ..Options::default() };
    let provider = DevProvider::start(([127, 0, 0, 1], 0).into(), options, Arc::clone(&clock)).await.unwrap();
    let keys = [("ISSUER", provider.issuer()), ("CLIENT_ID", "demo-tv"), ("MAX_IN_FLIGHT", "64")];
    let environment = keys.map(|(key, value)| (format!("ANTEROOM_PROVIDERS__A__{key}"), value.to_owned()));
    let settings = Config::load(None, environment.into_iter()).unwrap().providers.remove(0);
    let patience = Patience { connect: secs(2), total: secs(2) };
    let client = OAuthProvider::new(settings.clone(), client_with(patience, None).unwrap(), Arc::clone(&clock));
    let app = App::start(Parts {
        clock,
        store: Arc::new(MemoryStore::default()),
        terms: Terms { claim_ttl: secs(36_000), retention: secs(36_000) },
        quota: Quota::new(10_000, []),
        providers: vec![(settings, Arc::new(client) as Arc<dyn Provider>)],
    });
    app.restored().await.unwrap();
    Soak { clock: fast, app, provider }
}

impl Soak {
    async fn begin(&self, count: usize) -> Vec<SessionId> {
        let create = || Create { provider: "a".into(), scope: "".into(), label: None, caller: None, idempotency: None, refusal: None };
        let mut ids = Vec::new();
        while ids.len() < count {
            let begun = join_all((ids.len()..count).take(50).map(|_| self.app.sessions.create(create()))).await;
            ids.extend(begun.into_iter().map(|created| created.expect("it begins").session.id()));
        }
        ids
    }

    fn user_code(&self, id: SessionId) -> String {
        self.app.sessions.peek(id).unwrap().prompt().unwrap().user_code.to_string()
    }

    /// What became of them, once nothing more can.
    async fn ends(&self, ids: &[SessionId]) -> Vec<Result<(), Option<Failure>>> {
        let ended = |session: &Session| !matches!(session.state(), State::Starting | State::Pending(_));
        for id in ids {
            let mut session = self.app.sessions.peek(*id).unwrap();
            while !ended(&session) {
                let until = self.app.sessions.clock().now() + secs(600);
                session = self.app.sessions.wait(*id, session.revision(), until).await.unwrap();
            }
        }
        let end = |id: &SessionId| match self.app.sessions.peek(*id).unwrap().state() {
            State::Authorized { .. } => Ok(()),
            State::Failed { failure, .. } => Err(Some(*failure)),
            _ => Err(None),
        };
        ids.iter().map(end).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_approved_sign_ins_at_a_provider_that_fails_three_polls_in_ten_nearly_all_succeed() {
    let soak = soak(Some(BEFORE + 1)).await;
    let ids = soak.begin(1000).await;
    let codes: Vec<String> = ids.iter().map(|id| soak.user_code(*id)).collect();
    for (seed, code) in codes.iter().enumerate() {
        let before = share(seed, usize::try_from(BEFORE).unwrap(), true);
        assert!(soak.provider.script_polls(code, before.into_iter().chain(share(seed + 7, AFTER, false))));
    }
    soak.clock.go_fast();
    let ends = tokio::time::timeout(secs(60), soak.ends(&ids)).await.expect("every sign-in comes to an end");

    let lost: Vec<_> = ends.iter().filter_map(|end| end.err()).collect();
    assert!(lost.len() <= ids.len() / 1000, "lost {}: {lost:?}", lost.len());
    assert!(lost.iter().all(|failure| *failure == Some(Failure::GrantLost)), "{lost:?}");
    assert_eq!((soak.provider.early_polls(), soak.provider.overlapping_polls()), (0, 0));
    soak.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_whose_answer_never_arrives_are_known_to_be_lost_and_are_counted() {
    let soak = soak(None).await;
    let ids = soak.begin(30).await;
    for (at, id) in ids.iter().enumerate() {
        let answer = [Answer::DropReply, Answer::ResetReply, Answer::HalfBody][at % 3].clone();
        assert!(soak.provider.script_polls(&soak.user_code(*id), [answer]));
    }
    assert_eq!(soak.provider.approve(Codes::All), 30);
    soak.clock.go_fast();
    let ends = within(soak.ends(&ids)).await;
    assert_eq!(ends, vec![Err(Some(Failure::GrantLost)); 30]);
    let metrics = soak.app.metrics.render(&std::collections::BTreeMap::new());
    assert!(metrics.contains("anteroom_grant_lost_total{provider=\"a\"} 30"), "{metrics}");
    soak.app.stop().await;
}
