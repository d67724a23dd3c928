//! What is counted, and how Prometheus is told. Labels are bounded: providers, states, verdicts and routes, never an id.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::kernel::session::Status;
use crate::kernel::time::Offset;

type Labels<const N: usize> = [(&'static str, String); N];
/// The provider, and what needs no copy because it is ours.
type AskedLabels<const N: usize> = ([(&'static str, String); 1], [(&'static str, &'static str); N]);

pub struct Metrics {
    registry: Registry,
    sessions: Family<Labels<1>, Gauge<i64, AtomicI64>>,
    created: Family<Labels<1>, Counter>,
    settled: Family<Labels<2>, Counter>,
    grant_lost: Family<Labels<1>, Counter>,
    asked: Family<AskedLabels<2>, Counter>,
    answer_seconds: Family<AskedLabels<1>, Histogram>,
    lateness_seconds: Histogram,
    crashes: Family<Labels<2>, Counter>,
    restarts: Counter,
    give_ups: Counter,
    stuck_tasks: Family<Labels<1>, Counter>,
    unreadable_rows: Counter,
    forgotten_early: Counter,
    stranded: Counter,
    requests: Family<Labels<3>, Counter>,
    request_seconds: Family<Labels<1>, Histogram>,
    routes: RwLock<BTreeMap<Box<str>, Route>>,
    exchanges: RwLock<BTreeMap<Box<str>, Exchanges>>,
    commit_seconds: Histogram,
    batch_size: Histogram,
    store_queue: Gauge,
    open_streams: Gauge,
    reachable: Family<Labels<1>, Gauge<i64, AtomicI64>>,
    log_lines_dropped: Counter,
    clock_offset: Gauge<f64, AtomicU64>,
}

/// Where the requests to one route are counted; looked up by every request, so nothing is copied or hashed for it.
struct Route {
    seconds: Histogram,
    /// By method and status.
    answers: BTreeMap<(&'static str, u16), Counter>,
}

/// Where the exchanges with one provider are counted, by errand and answer; looked up by every poll.
type Exchanges = BTreeMap<(&'static str, &'static str), (Counter, Histogram)>;

/// One exchange with a provider, as the poller saw it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub provider: &'a str,
    /// `begin`, `poll` or `revoke`.
    pub errand: &'static str,
    /// What the answer was classified as.
    pub answer: &'static str,
    pub took: Duration,
    /// How long after its due time it was set off.
    pub late: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("anteroom");
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.5, 12));
        let metrics = Self {
            sessions: Family::default(),
            created: Family::default(),
            settled: Family::default(),
            grant_lost: Family::default(),
            asked: Family::default(),
            answer_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.5, 12))),
            lateness_seconds: seconds(),
            crashes: Family::default(),
            restarts: Counter::default(),
            give_ups: Counter::default(),
            stuck_tasks: Family::default(),
            unreadable_rows: Counter::default(),
            forgotten_early: Counter::default(),
            stranded: Counter::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.0005, 3.0, 11))),
            routes: RwLock::default(),
            exchanges: RwLock::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.0005, 2.5, 12)),
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            store_queue: Gauge::default(),
            open_streams: Gauge::default(),
            reachable: Family::default(),
            log_lines_dropped: Counter::default(),
            clock_offset: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("build", "Which Anteroom this is", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("sessions", "Sessions in the table, by state", metrics.sessions.clone());
        registry.register("sessions_created", "Sign-ins begun", metrics.created.clone());
        registry.register("sessions_settled", "Sign-ins ended, by outcome; of failed ones the failure code", metrics.settled.clone());
        registry.register("grant_lost", "Tokens that a provider issued and whose answer never arrived", metrics.grant_lost.clone());
        registry.register(
            "provider_requests",
            "Exchanges with providers, by what the answer was; of revocations revoked, refused, unsupported or not_revoked (tried again)",
            metrics.asked.clone(),
        );
        registry.register_with_unit("provider_answer", "Time until a provider's answer", Unit::Seconds, metrics.answer_seconds.clone());
        registry.register_with_unit(
            "poll_lateness",
            "How long after its due time an exchange was set off",
            Unit::Seconds,
            metrics.lateness_seconds.clone(),
        );
        registry.register("crashes", "Supervised tasks that panicked or hung", metrics.crashes.clone());
        registry.register("restarts", "Supervised tasks that were started again", metrics.restarts.clone());
        registry.register("give_ups", "Supervised tasks that crashed too often", metrics.give_ups.clone());
        registry.register("stuck_tasks", "Supervised tasks that hung and could not be dropped", metrics.stuck_tasks.clone());
        registry.register("unreadable_rows", "Sessions that failed because the store could not be read", metrics.unreadable_rows.clone());
        registry.register(
            "sessions_forgotten_early",
            "Settled sessions that were forgotten before their time, as there were too many",
            metrics.forgotten_early.clone(),
        );
        registry.register("grants_stranded", "Grants that came for a session that was gone and were not revoked", metrics.stranded.clone());
        registry.register("http_requests", "Requests to the public API", metrics.requests.clone());
        registry.register_with_unit(
            "http_request",
            "Time until the answer's header, long polls included",
            Unit::Seconds,
            metrics.request_seconds.clone(),
        );
        registry.register_with_unit(
            "store_commit",
            "Time for one commit, and with it for all changes in it",
            Unit::Seconds,
            metrics.commit_seconds.clone(),
        );
        registry.register("store_batch_size", "Changes in one commit", metrics.batch_size.clone());
        registry.register("store_queue", "Changes that wait for their commit to begin", metrics.store_queue.clone());
        registry.register("open_streams", "Clients that wait for news of a session", metrics.open_streams.clone());
        registry.register("provider_reachable", "0 once a provider was not heard three times in a row", metrics.reachable.clone());
        registry.register(
            "log_lines_dropped",
            "Log lines that nobody took in time, or nobody reads any more",
            metrics.log_lines_dropped.clone(),
        );
        registry.register_with_unit(
            "clock_offset",
            "How far the wall clock was set forward since the start",
            Unit::Seconds,
            metrics.clock_offset.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    pub fn created(&self, provider: &str) {
        self.created.get_or_create(&[("provider", provider.to_owned())]).inc();
    }

    /// `outcome` is a state, or the failure code of a failed session.
    pub fn settled(&self, provider: &str, outcome: &str) {
        self.settled.get_or_create(&[("provider", provider.to_owned()), ("outcome", outcome.to_owned())]).inc();
        if outcome == "grant_lost" {
            self.grant_lost.get_or_create(&[("provider", provider.to_owned())]).inc();
        }
    }

    pub fn asked(&self, asked: Asked<'_>) {
        let Asked { provider, errand, answer, took, late } = asked;
        self.lateness_seconds.observe(late.as_secs_f64());
        if let Some((counter, seconds)) = self.exchanges.read().get(provider).and_then(|known| known.get(&(errand, answer))) {
            counter.inc();
            return seconds.observe(took.as_secs_f64());
        }
        let (provider, errand) = ([("provider", provider.to_owned())], ("errand", errand));
        let counter = self.asked.get_or_create_owned(&(provider.clone(), [errand, ("answer", answer)]));
        let seconds = self.answer_seconds.get_or_create_owned(&(provider, [errand]));
        counter.inc();
        seconds.observe(took.as_secs_f64());
        self.exchanges.write().entry(asked.provider.into()).or_default().insert((asked.errand, answer), (counter, seconds));
    }

    /// `task` is `poller` or `scheduler`, `cause` is `panicked` or `hung`.
    pub fn crashed(&self, task: &'static str, cause: &'static str) {
        self.crashes.get_or_create(&[("task", task.to_owned()), ("cause", cause.to_owned())]).inc();
    }

    pub fn restarted(&self) {
        self.restarts.inc();
    }

    pub fn gave_up(&self) {
        self.give_ups.inc();
    }

    /// `task` is `poller` or `scheduler`.
    pub fn stuck(&self, task: &'static str) {
        self.stuck_tasks.get_or_create(&[("task", task.to_owned())]).inc();
    }

    pub fn lost(&self) {
        self.unreadable_rows.inc();
    }

    pub fn forgotten_early(&self, sessions: usize) {
        self.forgotten_early.inc_by(sessions as u64);
    }

    pub fn stranded(&self) {
        self.stranded.inc();
    }

    /// `route` is the pattern, never the path.
    pub fn answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let took = took.as_secs_f64();
        if let Some(Route { seconds, answers }) = self.routes.read().get(route)
            && let Some(counter) = answers.get(&(method, status))
        {
            counter.inc();
            return seconds.observe(took);
        }
        let counter = self.requests.get_or_create_owned(&[
            ("method", method.to_owned()),
            ("route", route.to_owned()),
            ("status", status.to_string()),
        ]);
        let seconds = self.request_seconds.get_or_create_owned(&[("route", route.to_owned())]);
        counter.inc();
        seconds.observe(took);
        let mut routes = self.routes.write();
        routes.entry(route.into()).or_insert(Route { seconds, answers: BTreeMap::new() }).answers.insert((method, status), counter);
    }

    pub fn committed(&self, changes: usize, took: Duration) {
        self.batch_size.observe(changes as f64);
        self.commit_seconds.observe(took.as_secs_f64());
    }

    pub fn queued(&self, changes: usize) {
        self.store_queue.set(i64::try_from(changes).unwrap_or(i64::MAX));
    }

    pub fn streams(&self, open: usize) {
        self.open_streams.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    pub fn reachable(&self, provider: &str, is_reachable: bool) {
        self.reachable.get_or_create(&[("provider", provider.to_owned())]).set(is_reachable.into());
    }

    /// `lines` since the process began.
    pub fn log_lines_dropped(&self, lines: u64) {
        self.log_lines_dropped.inner().store(lines, Ordering::Relaxed);
    }

    pub fn clock_offset(&self, offset: Offset) {
        self.clock_offset.set(offset.as_millis() as f64 / 1000.0);
    }

    /// All of it in the text format of OpenMetrics.
    pub fn render(&self, census: &BTreeMap<Status, usize>) -> String {
        for status in Status::ALL {
            let count = census.get(&status).copied().unwrap_or(0);
            self.sessions.get_or_create(&[("state", status.as_str().to_owned())]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
