//! A closed loop of HTTP/1.1 clients: each sends its request again as soon as it has the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Answers per second of `clients` connections that repeat `request`, after a short warm-up.
pub async fn throughput(address: SocketAddr, request: &str, status: u16, clients: usize, time: Duration) -> f64 {
    let (answers, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut loops = JoinSet::new();
    for _ in 0..clients {
        let (answers, stop, request) = (Arc::clone(&answers), Arc::clone(&stop), request.to_owned());
        loops.spawn(async move {
            let mut client = Client::connect(address).await;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client.ask(request.as_bytes()).await, status);
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(time / 4).await;
    let (begun, before) = (Instant::now(), answers.load(Ordering::Relaxed));
    tokio::time::sleep(time).await;
    let rate = (answers.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = loops.join_next().await {
        ended.expect("a client's loop");
    }
    rate
}

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("our own listener");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, buffer: Vec::with_capacity(4096) }
    }

    /// The status of the answer, once all of it has arrived.
    pub async fn ask(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.expect("an open connection");
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.expect("an open connection");
            assert!(read > 0, "the connection was closed");
            let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let header = std::str::from_utf8(&self.buffer[..head]).expect("ASCII");
            let status = header[9..12].parse().expect("a status");
            let length = header.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            while self.buffer.len() < head + 4 + length {
                assert!(self.stream.read_buf(&mut self.buffer).await.expect("an open connection") > 0, "the connection was closed");
            }
            return status;
        }
    }

    pub fn body(&self) -> &[u8] {
        let head = self.buffer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
        &self.buffer[head..]
    }
}

/// The value below which the given share of `sample` lies.
pub fn percentile(sample: &mut [f64], share: f64) -> f64 {
    sample.sort_by(f64::total_cmp);
    let last = sample.len().saturating_sub(1);
    sample.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

pub fn median(mut sample: Vec<f64>) -> f64 {
    percentile(&mut sample, 0.5)
}
