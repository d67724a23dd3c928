//! A TCP proxy that can go away, come back, and lose answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it does to a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Forward,
    BadGateway,
    ComeBackIn1Second,
}

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: String,
    mode: Mutex<Mode>,
    /// The answer to the next request that begins like this is lost.
    lose: Mutex<Option<&'static str>>,
    /// Of every request its first line and that of its answer.
    seen: Mutex<Vec<(String, String)>>,
}

impl Proxy {
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared { upstream: upstream.to_owned(), mode: Mode::Forward.into(), lose: None.into(), seen: Vec::new().into() };
        let shared = Arc::new(shared);
        let accepting = Some(tokio::spawn(accept(listener, Arc::clone(&shared))));
        Self { address, shared, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes every connection and refuses new ones.
    pub async fn go_away(&mut self) {
        let accepting = self.accepting.take().unwrap();
        accepting.abort();
        _ = accepting.await;
    }

    pub async fn come_back(&mut self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.accepting = Some(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
    }

    pub fn lose_answer_to(&self, request: &'static str) {
        *self.shared.lose.lock().unwrap() = Some(request);
    }

    /// The status lines that requests beginning like this got, lost ones included.
    pub fn answers_to(&self, request: &str) -> Vec<String> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|(line, _)| line.starts_with(request)).map(|(_, status)| status.clone()).collect()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped, and with it every connection, when this task is aborted.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(serve(client, Arc::clone(&shared)));
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mode = *shared.mode.lock().unwrap();
    let (mut request, mut answer) = (vec![0; 65536], vec![0; 65536]);
    if mode != Mode::Forward {
        _ = client.read(&mut request).await;
        let head = match mode {
            Mode::ComeBackIn1Second => "503 Service Unavailable\r\nRetry-After: 1",
            _ => "502 Bad Gateway",
        };
        client.write_all(format!("HTTP/1.1 {head}\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<p/>").as_bytes()).await.ok()?;
        return None;
    }
    let mut upstream = TcpStream::connect(&shared.upstream).await.ok()?;
    let mut first_line = String::new();
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let sent = &request[..read.ok().filter(|read| *read > 0)?];
                first_line = line(sent);
                upstream.write_all(sent).await.ok()?;
            }
            read = upstream.read(&mut answer) => {
                let got = &answer[..read.ok().filter(|read| *read > 0)?];
                shared.seen.lock().unwrap().push((first_line.clone(), line(got)));
                if shared.lose.lock().unwrap().take_if(|request| first_line.starts_with(*request) && first_line.ends_with(" HTTP/1.1")).is_some() {
                    return None;
                }
                client.write_all(got).await.ok()?;
            }
        }
    }
}

fn line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned()
}
