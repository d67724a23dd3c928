//! HTTP/1.1 clients that cost little, and what they ask the service for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::bare::Recorded;

/// One connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where the body begins.
    body: usize,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a listener of ours");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, buffer: Vec::with_capacity(4096), body: 0 }
    }

    /// The status of the answer, once all of it has arrived.
    pub async fn ask(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.expect("an open connection");
        self.buffer.clear();
        self.body = loop {
            self.receive().await;
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let length = self.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        while self.buffer.len() < self.body + length {
            self.receive().await;
        }
        self.head()[9..12].parse().expect("a status")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find_map(|(known, value)| (known == name).then_some(value))
    }

    pub fn body(&self) -> &[u8] {
        &self.buffer[self.body..]
    }

    fn recorded(&self) -> Recorded {
        let headers = self.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        (self.head()[9..12].parse().expect("a status"), headers, String::from_utf8(self.body().to_vec()).expect("text"))
    }

    /// Bytes of the last answer.
    pub fn length(&self) -> usize {
        self.buffer.len()
    }

    fn head(&self) -> &str {
        std::str::from_utf8(&self.buffer[..self.body]).expect("ASCII")
    }

    fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head().lines().skip(1).filter_map(|line| line.split_once(": "))
    }

    async fn receive(&mut self) {
        let read = self.stream.read_buf(&mut self.buffer).await.expect("an open connection");
        assert!(read > 0, "the connection was closed");
    }
}

/// The answer to `request`, to be given again.
pub async fn recorded(address: SocketAddr, request: &str) -> Recorded {
    let mut client = Client::connect(address).await;
    client.ask(request.as_bytes()).await;
    client.recorded()
}

/// A sign-in, as whoever began it knows it.
#[derive(Clone, Deserialize)]
pub struct Begun {
    pub id: Uuid,
    pub secret: Box<str>,
}

pub const BEGIN: &str = "POST /sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// So many make full batches for the store.
const FILLERS: usize = 256;

/// Begins `count` sign-ins, as fast as that goes. One that gets no code in time, as polls take all places, is begun again.
pub async fn begin(address: SocketAddr, count: usize) -> Vec<Begun> {
    let mut begun = Vec::with_capacity(count);
    while begun.len() < count {
        let missing = vec![(); count - begun.len()];
        let fresh = send(address, FILLERS, missing, |()| BEGIN.to_owned(), code).await;
        assert!(fresh.iter().any(Option::is_some), "no sign-in can begin");
        begun.extend(fresh.into_iter().flatten());
    }
    begun
}

fn code(status: u16, body: &[u8]) -> Option<Begun> {
    (status == 201).then(|| serde_json::from_slice(body).expect("a session"))
}

pub async fn cancel(address: SocketAddr, sessions: Vec<Begun>) {
    send(address, FILLERS, sessions, cancellation, |status, _| assert_eq!(status, 204)).await;
}

pub fn cancellation(Begun { id, secret }: &Begun) -> String {
    format!("DELETE /sessions/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\r\n")
}

/// Sends a request for each item over `clients` connections, each the next one as soon as it has its answer, and gives what is
/// read from the answers, in no order.
pub async fn send<T: Send + 'static, R: Send + 'static>(
    address: SocketAddr,
    clients: usize,
    items: Vec<T>,
    request: fn(&T) -> String,
    read: fn(u16, &[u8]) -> R,
) -> Vec<R> {
    let items = Arc::new(Mutex::new(items.into_iter()));
    let mut loops = JoinSet::new();
    for _ in 0..clients {
        let items = Arc::clone(&items);
        let next = move || items.lock().expect("no panic under it").next();
        loops.spawn(async move {
            let (mut client, mut results) = (Client::connect(address).await, Vec::new());
            while let Some(item) = next() {
                let status = client.ask(request(&item).as_bytes()).await;
                results.push(read(status, client.body()));
            }
            results
        });
    }
    loops.join_all().await.into_iter().flatten().collect()
}
