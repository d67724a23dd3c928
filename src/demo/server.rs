//! Sockets, and the handle by which everybody else holds the provider.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::clients::Assertions;
use super::codes::{Code, CodeBook, normalise};
use super::exchange::{Shared, State};
use super::keys::SigningKey;
use super::options::Options;
use super::record::{Counts, Exchange, Record, gaps};
use super::script::{Answer, Codes, Endpoint, Script};
use super::switches::{Crash, Reach, Switches};
use super::tokens::Tokens;
use super::wire::Ending;
use super::{endpoints, page};
use crate::clock::Clock;
use crate::kernel::time::Timestamp;

/// A running development provider. Dropping it stops it.
///
/// All its protocol time is that of the clock it is given. User codes are taken in any spelling; one that is not known changes
/// nothing and counts zero.
pub struct DevProvider {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: DropGuard,
}

/// Life.
impl DevProvider {
    /// Binds `addr` and serves at once.
    ///
    /// # Errors
    /// The address is taken, or is not loopback: whoever reaches this provider may approve.
    pub async fn start(addr: SocketAddr, options: Options, clock: Arc<dyn Clock>) -> io::Result<Self> {
        if !addr.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the development provider lets everybody approve, so it listens on loopback only",
            ));
        }
        let listener = TcpListener::bind(addr).await?;
        let shared = Arc::new(Shared {
            issuer: format!("http://{}", listener.local_addr()?),
            clock,
            state: Mutex::new(State {
                options,
                codes: CodeBook::default(),
                tokens: Tokens::default(),
                key: SigningKey::generate(),
                assertions: Assertions::default(),
            }),
            script: Script::default(),
            record: Record::new(),
            switches: Arc::default(),
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(accept(listener, shared.clone(), tasks.clone(), stop.clone()));
        Ok(Self { shared, tasks, stop: stop.drop_guard() })
    }

    /// Closes the listener and all connections, and returns when they are gone.
    pub async fn stop(self) {
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// `http://127.0.0.1:PORT`, for the configuration of a client.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// The address of an endpoint or of the page: a path that begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.shared.issuer)
    }

    /// For a [`Saboteur`](super::Saboteur).
    pub fn switches(&self) -> Arc<Switches> {
        self.shared.switches.clone()
    }

    /// Signs from now on with `key`, and tells of no other.
    pub fn rotate(&self, key: SigningKey) {
        self.shared.state.lock().key = key;
    }

    /// What ID tokens are signed with.
    pub fn key(&self) -> SigningKey {
        self.shared.state.lock().key.clone()
    }

    /// Changes the options for what comes. Codes that are out keep the interval and expiry they were announced with.
    pub fn configure(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.shared.state.lock().options);
    }
}

/// The person's part. Each returns how many codes it changed.
impl DevProvider {
    pub fn approve<'a>(&self, codes: impl Into<Codes<'a>>) -> usize {
        self.change(codes.into(), Code::approve)
    }

    pub fn deny<'a>(&self, codes: impl Into<Codes<'a>>) -> usize {
        self.change(codes.into(), Code::deny)
    }

    /// Brings the expiry forward to `within` from now.
    pub fn expire_soon<'a>(&self, codes: impl Into<Codes<'a>>, within: Duration) -> usize {
        self.change(codes.into(), |code, now| {
            code.expire_at(now + within);
            true
        })
    }

    fn change(&self, codes: Codes<'_>, mut change: impl FnMut(&mut Code, Timestamp) -> bool) -> usize {
        let now = self.shared.clock.now();
        let book = &mut self.shared.state.lock().codes;
        match codes {
            Codes::All => book.all().filter_map(|code| change(code, now).then_some(())).count(),
            Codes::One(user_code) => usize::from(book.by_user_code(user_code).is_some_and(|code| change(code, now))),
        }
    }
}

/// The script.
impl DevProvider {
    /// The next requests to `endpoint` get these answers, one each.
    pub fn script(&self, endpoint: Endpoint, answers: impl IntoIterator<Item = Answer>) {
        self.shared.script.push(endpoint, answers);
    }

    /// The next polls of one code get these answers, one each. False if there is no such code.
    pub fn script_polls(&self, user_code: &str, answers: impl IntoIterator<Item = Answer>) -> bool {
        let known = self.about(user_code, |code| code.user_code.clone());
        let found = known.is_some();
        if let Some(user_code) = known {
            self.shared.script.push_for_code(user_code, answers);
        }
        found
    }

    /// Every request to `endpoint` for which nothing else is queued gets this answer, until it is changed.
    pub fn always(&self, endpoint: Endpoint, answer: Option<Answer>) {
        self.shared.script.set_standing(endpoint, answer);
    }

    pub fn set_reach(&self, reach: Reach) {
        self.shared.switches.set_reach(reach);
    }

    /// Makes the [`Saboteur`](super::Saboteur) panic in the next poll of this code. False if there is no such code.
    pub fn crash_poller(&self, user_code: &str, crash: Crash) -> bool {
        let device_code = self.about(user_code, |code| code.device_code.clone());
        device_code.map(|code| self.shared.switches.crash(&code, crash)).is_some()
    }
}

/// The record.
impl DevProvider {
    pub fn counts(&self) -> Counts {
        self.shared.record.counts()
    }

    /// All exchanges at `endpoint`, in the order of arrival. Empty if only counts are recorded.
    pub fn exchanges(&self, endpoint: Endpoint) -> Vec<Exchange> {
        self.shared.record.exchanges(|exchange| exchange.endpoint == endpoint)
    }

    /// The polls of one code, in the order of arrival.
    pub fn polls(&self, user_code: &str) -> Vec<Exchange> {
        self.exchanges_of(user_code, |endpoint| endpoint == Endpoint::Token)
    }

    /// The time from each answer to the next poll of this code; the first counts from the device authorization response. A client
    /// keeps its promise if none is below the interval plus all `slow_down`s. Zero: it did not wait for the answer.
    pub fn gaps(&self, user_code: &str) -> Vec<Duration> {
        gaps(&self.exchanges_of(user_code, |endpoint| matches!(endpoint, Endpoint::Token | Endpoint::DeviceAuthorization)))
    }

    /// How often this code was polled, also when only counts are recorded.
    pub fn poll_count(&self, user_code: &str) -> u64 {
        self.about(user_code, |code| code.polls).unwrap_or(0)
    }

    /// How often this code was presented once it was approved: more than 1 is a replay.
    pub fn redemptions(&self, user_code: &str) -> u64 {
        self.about(user_code, |code| code.redemptions).unwrap_or(0)
    }

    /// The polls, of all codes, that came sooner after the previous answer than the interval and all `slow_down`s demand.
    pub fn early_polls(&self) -> u64 {
        self.counts().early_polls
    }

    /// The polls, of all codes, that arrived while another one for the same code was open.
    pub fn overlapping_polls(&self) -> u64 {
        self.counts().overlapping_polls
    }

    /// The user codes that are out, in no order.
    pub fn user_codes(&self) -> Vec<String> {
        self.shared.state.lock().codes.all().map(|code| code.user_code.to_string()).collect()
    }

    /// Returns as soon as `satisfied`, which is asked again after every request and answer. Wrap it in a time-out.
    pub async fn wait_for(&self, mut satisfied: impl FnMut(&Self) -> bool) {
        self.shared.record.wait_for(|| satisfied(self)).await;
    }

    fn exchanges_of(&self, user_code: &str, wanted: impl Fn(Endpoint) -> bool) -> Vec<Exchange> {
        let user_code = normalise(user_code);
        self.shared.record.exchanges(|exchange| wanted(exchange.endpoint) && exchange.user_code.as_deref() == Some(&user_code))
    }

    fn about<T>(&self, user_code: &str, look: impl FnOnce(&Code) -> T) -> Option<T> {
        self.shared.state.lock().codes.by_user_code(user_code).map(|code| look(code))
    }
}

/// What a failed accept (no file descriptor left) waits before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn accept(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker, stop: CancellationToken) {
    let router = endpoints::router().merge(page::router()).with_state(shared.clone());
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    shared.record.connected();
                    tasks.spawn(stop.clone().run_until_cancelled_owned(serve(stream, router.clone())));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
}

/// One connection. A response that carries an [`Ending`] is never sent: the connection ends that way instead.
async fn serve(stream: TcpStream, router: Router) {
    _ = stream.set_nodelay(true);
    let (end, mut ends) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, end) = (router.clone(), end.clone());
        async move {
            let response = router.oneshot(request.map(Body::new)).await?;
            if let Some(ending) = response.extensions().get::<Ending>() {
                _ = end.send(*ending).await;
                pending::<()>().await;
            }
            Ok::<_, Infallible>(response)
        }
    });
    // No header time-out: a pooled connection that is closed while idle would be a fault that nobody ordered.
    let mut connection = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service);
    let ending = tokio::select! {
        _ = &mut connection => return,
        Some(ending) = ends.recv() => ending,
    };
    if ending == Ending::Reset {
        _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}
