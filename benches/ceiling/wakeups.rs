//! From the provider's yes to the last byte that a waiting client gets, without the time that the store takes to keep it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anteroom::clock::SystemClock;
use anteroom::kernel::session::{Session, SessionId, Status};
use anteroom::store::{Loaded, Store, StoreError, sqlite};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::task::JoinSet;

use super::child::Folder;
use super::client::Client;
use super::inside::{app, create, listen};
use super::rate::percentile;
use super::table::Table;
use super::{Options, runtime};

const WAITERS: usize = 64;
const ROUNDS: usize = 16;

pub fn measure(_: &Options, table: &mut Table) {
    let folder = Folder::new();
    runtime().block_on(async {
        let file = sqlite::open(&folder.join("anteroom.db"), &folder.join("anteroom.key"), SystemClock::start()).await;
        let store = Arc::new(Timed { store: file.expect("a database"), took: Mutex::default() });
        let (app, oracle) = app(store.clone(), Duration::from_secs(1)).await;
        let address = listen(&app).await;
        let mut waiters = JoinSet::new();
        for _ in 0..WAITERS {
            let (sessions, oracle, store) = (app.sessions.clone(), Arc::clone(&oracle), Arc::clone(&store));
            waiters.spawn(async move {
                let (mut client, mut sample) = (Client::connect(address).await, Vec::new());
                for _ in 0..ROUNDS {
                    let session = sessions.create(create()).await.expect("a session").session;
                    let (id, tag) = (session.id(), session.revision());
                    let wait = format!("GET /sessions/{id} HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\nIf-None-Match: \"{tag}\"\r\n\r\n");
                    assert_eq!(client.ask(wait.as_bytes()).await, 200);
                    let received = Instant::now();
                    let since = received - oracle.said_yes(&session.prompt().expect("a code").user_code);
                    sample.push((since.saturating_sub(store.took(id))).as_secs_f64() * 1e3);
                }
                sample
            });
        }
        let sample: Vec<f64> = waiters.join_all().await.concat();
        let what = format!("verdict to a waiting client's last byte, over the commit, p99 of {}", sample.len());
        table.at_most(what, percentile(sample, 0.99), "ms", 2.0);
        app.stop().await;
    });
}

/// A store that notes how long it takes to keep tokens.
struct Timed<S> {
    store: S,
    took: Mutex<HashMap<SessionId, Duration>>,
}

impl<S> Timed<S> {
    fn took(&self, id: SessionId) -> Duration {
        self.took.lock().expect("no panic under it").remove(&id).expect("it was saved")
    }
}

impl<S: Store> Store for Timed<S> {
    fn save(&self, expected: u64, next: Arc<Session>) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let (id, has_tokens) = (next.id(), next.status() == Status::Authorized);
            let begun = Instant::now();
            let saved = self.store.save(expected, next).await;
            if has_tokens {
                self.took.lock().expect("no panic under it").insert(id, begun.elapsed());
            }
            saved
        }
        .boxed()
    }

    fn version(&self, id: SessionId) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        self.store.version(id)
    }

    fn remove(&self, id: SessionId) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.remove(id)
    }

    fn load(&self) -> BoxStream<'_, Result<Vec<Loaded>, StoreError>> {
        self.store.load()
    }

    fn read(&self, id: SessionId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        self.store.read(id)
    }

    fn is_ready(&self) -> BoxFuture<'_, bool> {
        self.store.is_ready()
    }
}
