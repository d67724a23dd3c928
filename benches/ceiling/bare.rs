//! Servers that do what nobody can do without and nothing else: on the accept loop of the service, with its store, with the same
//! client, and with answers of the same bytes. What the service takes longer is its own.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin};
use std::sync::{Arc, Mutex};

use anteroom::clock::SystemClock;
use anteroom::http::serve::serve;
use anteroom::kernel::session::Session;
use anteroom::store::{Store, sqlite};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::child::{Folder, line, ourselves};
use super::fill::{asked, claims, http};
use super::runtime;

/// Status, header and body of an answer.
pub type Recorded = (u16, Vec<(String, String)>, String);

/// What a server is to answer, and where.
#[derive(Serialize, Deserialize)]
enum Plan {
    /// Reads: of a session, and conditional ones.
    Reading { found: Recorded, unchanged: Recorded },
    /// Creations, each with a device authorization request and a commit.
    Beginning { folder: PathBuf, issuer: String, begun: Recorded },
    /// So many claims, each with a commit.
    Claiming { folder: PathBuf, claims: usize, claimed: Recorded },
}

/// A server in a process of its own, which ends with its handle.
pub struct Bare {
    child: Child,
    input: Option<ChildStdin>,
    pub address: SocketAddr,
}

impl Bare {
    pub fn reading(found: Recorded, unchanged: Recorded) -> Self {
        Self::start(&Plan::Reading { found, unchanged })
    }

    pub fn beginning(folder: &Folder, issuer: &str, begun: Recorded) -> Self {
        Self::start(&Plan::Beginning { folder: folder.join("bare"), issuer: issuer.to_owned(), begun })
    }

    pub fn claiming(folder: &Folder, claims: usize, claimed: Recorded) -> Self {
        Self::start(&Plan::Claiming { folder: folder.join("bare"), claims, claimed })
    }

    fn start(plan: &Plan) -> Self {
        let (child, mut input, mut output) = ourselves(&["--bare"]);
        writeln!(input, "{}", serde_json::to_string(plan).expect("JSON")).expect("the server lives");
        let address = line(&mut output).parse().expect("an address");
        Self { child, input: Some(input), address }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// What the server's process does until its input ends.
pub fn answer() {
    let mut input = std::io::stdin().lines();
    let plan = input.next().expect("a plan").expect("text");
    let plan: Plan = serde_json::from_str(&plan).expect("a plan");
    let runtime = runtime();
    let address = runtime.block_on(async {
        let router = match plan {
            Plan::Reading { found, unchanged } => reading(Answer::of(found), Answer::of(unchanged)),
            Plan::Beginning { folder, issuer, begun } => beginning(store(folder).await, issuer, Answer::of(begun)),
            Plan::Claiming { folder, claims: count, claimed } => {
                let store = store(folder).await;
                let changes = claims(&store, count).await;
                claiming(store, changes, Answer::of(claimed))
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, router, Default::default(), Default::default(), Default::default()));
        address
    });
    println!("{address}");
    for _ in input {}
}

fn reading(found: Answer, unchanged: Answer) -> Router {
    let answer =
        async move |headers: HeaderMap| if headers.contains_key(header::IF_NONE_MATCH) { unchanged.again() } else { found.again() };
    Router::new().route("/sessions/{id}", get(answer))
}

fn beginning(store: Arc<dyn Store>, issuer: String, begun: Answer) -> Router {
    let http = http(&issuer);
    let begin = async move || {
        store.save(0, Arc::new(asked(&http, &issuer).await.0)).await.expect("it is the first");
        begun.again()
    };
    Router::new().route("/sessions", post(begin))
}

fn claiming(store: Arc<dyn Store>, changes: Vec<(u64, Session)>, claimed: Answer) -> Router {
    let changes = Arc::new(Mutex::new(changes.into_iter()));
    let claim = async move || {
        let (expected, next) = changes.lock().expect("no panic under it").next().expect("as many as there are requests");
        store.save(expected, Arc::new(next)).await.expect("it is the first");
        claimed.again()
    };
    Router::new().route("/sessions/{id}/claim", post(claim))
}

async fn store(folder: PathBuf) -> Arc<dyn Store> {
    std::fs::create_dir_all(&folder).expect("a folder");
    Arc::new(sqlite::open(&folder.join("a.db"), &folder.join("a.key"), SystemClock::start()).await.expect("a database"))
}

/// An answer that is given again and again.
#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// `Date` and `Content-Length` are written by hyper.
    fn of((status, recorded, body): Recorded) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in recorded.into_iter().filter(|(name, _)| name != "date" && name != "content-length") {
            headers.append(HeaderName::try_from(name).expect("a name"), HeaderValue::try_from(value).expect("a value"));
        }
        Self { status: StatusCode::from_u16(status).expect("a status"), headers, body: Bytes::from(body) }
    }

    fn again(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}
