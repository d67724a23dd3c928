//! What only shows on real connections: time-outs, limits, draining.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anteroom::http::client::Proxies;
use anteroom::http::serve::{Limits, serve};
use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::service::{PATIENCE, Service};

pub struct Server {
    pub address: SocketAddr,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Server {
    pub async fn start(router: Router, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(serve(listener, router, limits, Proxies::default(), stop.clone()));
        Self { address, stop, running }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `bytes` and reads until the server closes.
    pub async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        rest(&mut stream).await
    }

    async fn ended(&mut self) {
        tokio::time::timeout(PATIENCE, self.running.join_next()).await.expect("serving ends").unwrap().unwrap();
    }
}

pub async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset counts as an end: what came before it counts.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server closes");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one answer whose end is marked by `end`.
pub async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&bytes).ends_with(end) {
            let byte = stream.read_u8().await.expect("more of the answer");
            bytes.push(byte);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer in time");
    String::from_utf8(bytes).unwrap()
}

fn short() -> Limits {
    Limits { header_timeout: Duration::from_millis(200), ..Limits::default() }
}

const LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn the_silent_the_slow_and_the_idle_are_closed() {
    let server = Server::start(Service::plain().router, short()).await;
    assert_eq!(server.exchange(b"").await, "");
    assert_eq!(server.exchange(b"GET /livez HTT").await, "");
    let mut idle = server.connect().await;
    idle.write_all(LIVEZ).await.unwrap();
    assert!(until(&mut idle, "}").await.contains("200 OK"));
    assert_eq!(rest(&mut idle).await, "");
}

#[tokio::test]
async fn who_asks_and_never_reads_is_cut_off() {
    let limits = Limits { write_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(Service::plain().router, limits).await;
    let mut stream = server.connect().await;
    let asking = async {
        let request = b"GET /openapi.yaml HTTP/1.1\r\nhost: a\r\n\r\n".repeat(100);
        while stream.write_all(&request).await.is_ok() {}
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the server hangs up");
}

#[tokio::test]
async fn who_reads_slowly_gets_it_all() {
    let limits = Limits { write_timeout: Duration::from_millis(500), ..Limits::default() };
    let long = "x".repeat(20 * 1024 * 1024);
    let length = long.len();
    let server = Server::start(Router::new().route("/", get(async move || long)), limits).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let (mut received, begin) = (0, Instant::now());
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        received += count;
        if count == 0 {
            break;
        }
        // In all it takes longer than the time-out, which only counts while nothing moves.
        if begin.elapsed() < Duration::from_secs(1) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(received > length && begin.elapsed() > Duration::from_secs(1), "{received} bytes in {:?}", begin.elapsed());
}

#[tokio::test]
async fn one_connection_takes_many_requests() {
    let server = Server::start(Service::plain().router, Limits::default()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        stream.write_all(LIVEZ).await.unwrap();
        assert!(until(&mut stream, "}").await.starts_with("HTTP/1.1 200 OK"));
    }
}

#[tokio::test]
async fn headers_have_their_limits() {
    let server = Server::start(Service::plain().router, Limits::default()).await;
    let large = format!("GET /livez HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n", "x".repeat(100 * 1024));
    let many = format!("GET /livez HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(200));
    for request in [large, many] {
        assert!(server.exchange(request.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    }
    assert!(server.exchange(b"nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let smuggled = b"POST /sessions HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}";
    assert!(server.exchange(smuggled).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn a_body_that_is_too_large_still_gets_its_answer() {
    let service = Service::plain();
    let server = Server::start(service.router.clone(), Limits::default()).await;
    let body = "x".repeat(65_537);
    let announced = format!("content-length: 65537\r\n\r\n{body}");
    let chunked = format!("transfer-encoding: chunked\r\n\r\n10001\r\n{body}\r\n0\r\n\r\n");
    for rest in [announced, chunked] {
        let head = "POST /sessions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\n";
        let answer = server.exchange(format!("{head}{rest}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("payload_too_large"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_is_far_too_large_is_not_even_asked_for() {
    let service = Service::plain();
    let server = Server::start(service.router.clone(), Limits::default()).await;
    let request = b"POST /sessions HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 10000000\r\n\r\n";
    assert!(server.exchange(request).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_body_that_dribbles_is_given_15_s() {
    let service = Service::plain();
    let server = Server::start(service.router.clone(), Limits::default()).await;
    let (mut reader, mut writer) = server.connect().await.into_split();
    let mut dribble = JoinSet::new();
    dribble.spawn(async move {
        let head = b"POST /sessions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n";
        let mut sent = writer.write_all(head).await;
        while sent.is_ok() {
            tokio::time::sleep(Duration::from_millis(250)).await;
            sent = writer.write_all(b" ").await;
        }
    });
    let mut start = vec![0; 13];
    tokio::time::timeout(PATIENCE, reader.read_exact(&mut start)).await.expect("an answer in time").unwrap();
    assert_eq!(start, b"HTTP/1.1 408 ");
}

#[tokio::test]
async fn when_every_place_is_taken_probes_are_still_answered_and_others_sent_away() {
    let server = Server::start(Service::plain().router, Limits { max_connections: 1, ..Limits::default() }).await;
    let mut first = server.connect().await;
    first.write_all(LIVEZ).await.unwrap();
    until(&mut first, "}").await;
    let other = b"GET /providers HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    for _ in 0..20 {
        assert!(server.exchange(LIVEZ).await.starts_with("HTTP/1.1 200 OK"));
        let refused = server.exchange(other).await;
        assert!(
            refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: 1") && refused.contains("rate_limited"),
            "{refused}"
        );
    }
    drop(first);
    let served = async { while !server.exchange(other).await.starts_with("HTTP/1.1 200 OK") {} };
    tokio::time::timeout(PATIENCE, served).await.expect("the place is free again");
}

#[tokio::test]
async fn who_has_said_all_and_closed_its_side_gets_the_answer() {
    let service = Service::plain();
    let session = service.pending().await;
    let server = Server::start(service.router.clone(), Limits::default()).await;
    let wait = format!("GET {} HTTP/1.1\r\nhost: a\r\nprefer: wait=1\r\nconnection: close\r\n\r\n", session.path());
    for request in [LIVEZ.to_vec(), b"GET /livez HTTP/1.0\r\n\r\n".to_vec(), wait.into_bytes()] {
        let mut stream = server.connect().await;
        stream.write_all(&request).await.unwrap();
        stream.shutdown().await.unwrap();
        let clock = service.clock.clone();
        let answer = tokio::join!(rest(&mut stream), async {
            if request.len() > LIVEZ.len() {
                tokio::time::timeout(PATIENCE, clock.sleeper(|_| true)).await.expect("it waits");
                tokio::time::sleep(Duration::from_millis(50)).await;
                clock.advance(Duration::from_secs(1));
            }
        });
        assert!(answer.0.contains(" 200 OK"), "{}", answer.0);
    }
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let server = Server::start(Service::plain().router, Limits::default()).await;
    for hosts in ["", "host: a\r\nhost: a\r\n", "host:\r\n", "host: a b\r\n", "host: user@a\r\n"] {
        let answer = server.exchange(format!("GET /livez HTTP/1.1\r\n{hosts}connection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{hosts:?}: {answer}");
    }
    assert!(server.exchange(b"GET /livez HTTP/1.0\r\n\r\n").await.contains(" 200 OK"));
}

#[tokio::test]
async fn handlers_see_who_is_there() {
    let router = Router::new().route("/", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| format!("[{peer}]")));
    let server = Server::start(router, Limits::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(until(&mut stream, "]").await.ends_with(&format!("[{}]", stream.local_addr().unwrap())));
}

#[tokio::test]
async fn a_stop_lets_answers_end_and_closes_the_idle() {
    let service = Service::plain();
    let session = service.pending().await;
    let mut server = Server::start(service.router.clone(), Limits::default()).await;
    let mut idle = server.connect().await;
    idle.write_all(LIVEZ).await.unwrap();
    until(&mut idle, "}").await;
    let mut waiting = server.connect().await;
    let request = format!("GET {} HTTP/1.1\r\nhost: a\r\nprefer: wait=60\r\n\r\n", session.path());
    waiting.write_all(request.as_bytes()).await.unwrap();
    // An answer on a later connection shows that the server has the earlier request.
    let mut later = server.connect().await;
    later.write_all(LIVEZ).await.unwrap();
    until(&mut later, "}").await;
    server.stop.cancel();
    assert_eq!(rest(&mut idle).await, "");
    service.stopping.cancel();
    assert!(rest(&mut waiting).await.contains("\"pending\""));
    server.ended().await;
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_stop_cuts_what_does_not_end() {
    let stuck = Router::new().route("/", get(futures_util::future::pending::<()>));
    let mut server = Server::start(stuck, Limits { drain: Duration::from_millis(100), ..Limits::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut half = server.connect().await;
    half.write_all(b"GET / HT").await.unwrap();
    server.stop.cancel();
    server.ended().await;
    assert_eq!((rest(&mut stream).await, rest(&mut half).await), (String::new(), String::new()));
}
