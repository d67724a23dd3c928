//! How often one may ask.
//!
//! A limiter is a fixed number of cells, and a key falls into one of them: ten million addresses take no more memory than ten.
//! Keys that share a cell share its limit; which ones do is drawn at start, so nobody can aim at somebody else's.

use std::convert::Infallible;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method};
use governor::clock::Clock as Ticks;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use uuid::Uuid;

use super::Api;
use super::client::Proxies;
use super::health::is_probe;
use crate::clock::Clock;
use crate::kernel::session::SessionId;

/// What one key may do in a minute. A minute's worth may come at once; then it comes back bit by bit (GCRA).
pub struct Limiter<K: Hash + Eq + Clone> {
    policy: &'static str,
    per_minute: NonZeroU32,
    rate: RateLimiter<K, Cells<K>, Since, NoOpMiddleware<Nanos>>,
}

/// There has been too much of it; the names and numbers are for the headers of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhausted {
    pub policy: &'static str,
    pub per_minute: NonZeroU32,
    /// Seconds until one more is allowed, at least 1.
    pub wait: u64,
}

/// The limits of the public API.
pub struct Limits {
    proxies: Proxies,
    /// Requests of one client address.
    requests: Limiter<IpAddr>,
    /// Sign-ins begun without a caller key, of one client address.
    pub creates: Limiter<IpAddr>,
    /// Reads of one session. Claims and cancellations are not counted: whoever knows the id could keep the owner from them.
    reads: Limiter<SessionId>,
}

/// Per minute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    pub requests: NonZeroU32,
    pub creates: NonZeroU32,
    pub reads: NonZeroU32,
}

/// Who a request is from, as far as limits go; `None`: not limited by address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client(pub Option<IpAddr>);

const ADDRESS_CELLS: usize = 1 << 18;
const CREATE_CELLS: usize = 1 << 16;
const SESSION_CELLS: usize = 1 << 16;

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// `policy` names the limit in the answer's headers.
    pub fn new(policy: &'static str, per_minute: NonZeroU32, cells: usize, clock: Arc<dyn Clock>) -> Self {
        let cells = Cells::new(cells);
        Self { policy, per_minute, rate: RateLimiter::new(Quota::per_minute(per_minute), cells, Since(clock)) }
    }

    /// # Errors
    /// The key has used up what it may do at the moment.
    pub fn admit(&self, key: &K) -> Result<(), Exhausted> {
        self.rate.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(self.rate.clock().now());
            let wait = wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1);
            Exhausted { policy: self.policy, per_minute: self.per_minute, wait }
        })
    }
}

impl Limiter<()> {
    /// For the one caller that has it.
    pub fn of_caller(per_minute: NonZeroU32, clock: Arc<dyn Clock>) -> Self {
        Self::new("caller", per_minute, 1, clock)
    }
}

impl Limits {
    pub fn new(rates: Rates, proxies: Proxies, clock: &Arc<dyn Clock>) -> Self {
        Self {
            proxies,
            requests: Limiter::new("address", rates.requests, ADDRESS_CELLS, Arc::clone(clock)),
            creates: Limiter::new("creates", rates.creates, CREATE_CELLS, Arc::clone(clock)),
            reads: Limiter::new("session", rates.reads, SESSION_CELLS, Arc::clone(clock)),
        }
    }

    /// Whether the client's address and the session may be asked once more. Probes always may.
    ///
    /// # Errors
    /// Not now.
    pub fn admit(&self, request: &Request) -> Result<(), Exhausted> {
        if is_probe(request.uri().path()) {
            return Ok(());
        }
        if let Client(Some(address)) = self.client(request.extensions(), request.headers()) {
            self.requests.admit(&address)?;
        }
        match read_session(request) {
            Some(id) => self.reads.admit(&id),
            None => Ok(()),
        }
    }

    fn client(&self, extensions: &Extensions, headers: &HeaderMap) -> Client {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>();
        Client(peer.and_then(|ConnectInfo(peer)| self.proxies.client(peer.ip(), headers)))
    }
}

impl FromRequestParts<Arc<Api>> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Infallible> {
        Ok(api.limits.client(&parts.extensions, &parts.headers))
    }
}

/// The session that the request only reads, if there can be such a one.
fn read_session(request: &Request) -> Option<SessionId> {
    let id = request.uri().path().strip_prefix("/sessions/")?.split('/').next()?;
    matches!(*request.method(), Method::GET | Method::HEAD).then(|| Uuid::try_parse(id).ok())?
}

// === what governor needs ===

/// Governor's state of one key, a few thousand times; a key's place is secret.
struct Cells<K> {
    hasher: RandomState,
    cells: Box<[InMemoryState]>,
    key: PhantomData<fn(&K)>,
}

struct Since(Arc<dyn Clock>);

impl<K> Cells<K> {
    fn new(count: usize) -> Self {
        Self { hasher: RandomState::new(), cells: (0..count.max(1)).map(|_| InMemoryState::default()).collect(), key: PhantomData }
    }
}

impl<K: Hash> StateStore for Cells<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let at = self.hasher.hash_one(key) as usize % self.cells.len();
        #[expect(clippy::indexing_slicing, reason = "a remainder of the number of cells is below it")]
        let cell = &self.cells[at];
        cell.measure_and_replace(&NotKeyed::NonKey, decide)
    }
}

impl Ticks for Since {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Duration::from_millis(self.0.now().as_millis()).into()
    }
}

impl Clone for Since {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
