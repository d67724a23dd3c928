//! Connections: accepting, limiting and draining them.
//!
//! One timer closes whoever is silent, sends half a header or idles; another whoever does not read. HTTP/1.1 only. Nobody takes all
//! the places: one address has its share, and when all are taken a few more are there for probes.

mod impatient;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Version, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use self::impatient::Impatient;
use super::client::Proxies;
use super::health::is_probe;
use super::problem::{Code, Problem};
use super::site::HostName;
use super::streams::{Place, Places};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at a time. On a few more only probes are answered, and everything else is sent away; the rest waits.
    pub max_connections: usize,
    /// Of these, of one client address or IPv6 /64; more are closed at once. Does not hold for this machine and for proxies.
    pub max_per_address: usize,
    /// For a request's header to arrive, from the connection's start or the end of the last answer.
    pub header_timeout: Duration,
    /// For a peer to take some of an answer; then the connection is cut.
    pub write_timeout: Duration,
    /// For answers under way to end once we stop; then connections are cut.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_per_address: usize::MAX,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(8),
        }
    }
}

/// The most that a request's header may have, in bytes; more is answered 431.
const MAX_HEADER: usize = 32 * 1024;
/// Accepting fails when file descriptors run out; how long to let connections end before trying again.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);

/// How many connections are accepted beyond the places, and how long each may take to ask.
const RESERVE: usize = 8;
const RESERVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The places for connections.
struct Door {
    places: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    addresses: Places<IpAddr>,
    proxies: Proxies,
}

/// A place is given back when this is dropped.
struct Admitted {
    _place: OwnedSemaphorePermit,
    _address: Option<Place<IpAddr>>,
    is_reserve: bool,
}

/// Serves until `stop` is cancelled, then lets requests under way finish for at most `limits.drain`. Handlers find the peer's
/// address as [`ConnectInfo<SocketAddr>`].
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, proxies: Proxies, stop: CancellationToken) {
    let door = Door {
        places: Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS))),
        reserve: Arc::new(Semaphore::new(RESERVE)),
        addresses: Places::new(limits.max_per_address),
        proxies,
    };
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    while let Some((stream, peer, admitted)) = next(&listener, &door, &stop).await {
        let serving = connection(stream, peer, admitted, router.clone(), limits, stop.clone());
        let cut = cut.clone();
        connections.spawn(async move {
            tokio::select! { () = serving => {}, () = cut.cancelled() => {} }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "cutting connections that did not end in time");
        cut.cancel();
        connections.wait().await;
    }
}

impl Door {
    /// One of the places, or else of the reserve; waits until there is one.
    async fn place(&self) -> Option<(OwnedSemaphorePermit, bool)> {
        tokio::select! {
            biased;
            place = Arc::clone(&self.places).acquire_owned() => Some((place.ok()?, false)),
            place = Arc::clone(&self.reserve).acquire_owned() => Some((place.ok()?, true)),
        }
    }
}

/// The next connection, once there is a place for it; `None` when it is time to stop.
async fn next(listener: &TcpListener, door: &Door, stop: &CancellationToken) -> Option<(TcpStream, SocketAddr, Admitted)> {
    let accepted = async {
        let (mut place, mut is_reserve) = door.place().await?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if is_reserve && let Ok(free) = Arc::clone(&door.places).try_acquire_owned() {
                        (place, is_reserve) = (free, false);
                    }
                    let address = match door.proxies.counted(peer.ip()) {
                        None => None,
                        Some(address) => match door.addresses.take(address) {
                            // It has as many as it may; this one is closed.
                            None => continue,
                            taken => taken,
                        },
                    };
                    return Some((stream, peer, Admitted { _place: place, _address: address, is_reserve }));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections now");
                    tokio::time::sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    };
    tokio::select! { biased; () = stop.cancelled() => None, accepted = accepted => accepted }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}

async fn connection(stream: TcpStream, peer: SocketAddr, admitted: Admitted, router: Router, limits: Limits, stop: CancellationToken) {
    // Answers are small and written at once; waiting for more only delays them.
    let _ = stream.set_nodelay(true);
    let is_reserve = admitted.is_reserve;
    let service = service_fn(move |request| answer(router.clone(), peer, is_reserve, request));
    let patience = if is_reserve { limits.header_timeout.min(RESERVE_TIMEOUT) } else { limits.header_timeout };
    let mut builder = http1::Builder::new();
    // Whoever has said all may have closed its side, and still waits for the answer.
    builder.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(MAX_HEADER).half_close(true).keep_alive(!is_reserve);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(Impatient::new(stream, limits.write_timeout)), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}

async fn answer(router: Router, peer: SocketAddr, is_reserve: bool, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if !names_one_host(&request) {
        return Ok(Problem::invalid("A request names its host once, in the header Host.").into_response());
    }
    if is_reserve && !is_probe(request.uri().path()) {
        return Ok(Problem::from(Code::RateLimited).into_response());
    }
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request).await
}

/// RFC 9112 §3.2. Before HTTP/1.1 there need be none.
fn names_one_host(request: &Request<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok().and_then(HostName::read).is_some(),
        (None, _) => request.version() < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}
