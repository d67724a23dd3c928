//! Readers: what a watcher's question costs, beside a handler that only writes the same bytes.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anteroom::app::App;
use anteroom::http::callers::Callers;
use anteroom::http::client::Proxies;
use anteroom::http::health::{Health, StoreHealth};
use anteroom::http::limit::{Limits, Rates};
use anteroom::http::{Api, router};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use futures_util::FutureExt;
use uuid::Uuid;

use super::load::{Client, median, throughput};
use super::table::Table;
use super::{Options, rig};

const CLIENTS: usize = 64;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);

pub fn measure(options: &Options, table: &mut Table) {
    rig::runtime().block_on(async {
        let beside = rig::Beside::start(5);
        let app = rig::app(&beside, 1_000).await;
        let id = rig::begin(&app, 1, 1).await[0];
        let ours = rig::listen(router(api(&app))).await;
        let (ratio_of, bare) = (Ratio { ours, id }, bare(ours, id).await);

        let (mine, ceiling) = ratio_of.read(bare, "", 200).await;
        table.ratio("GET a session, 64 connections", mine, ceiling, "/s", 0.90);
        let tag = "If-None-Match: \"2\"\r\n";
        let (mine, ceiling) = ratio_of.read(bare, tag, 304).await;
        table.ratio("GET with If-None-Match: 304", mine, ceiling, "/s", 0.95);

        let count = if options.full { 10_000 } else { 5_000 };
        rig::begin(&app, count, 128).await;
        let (mine, ceiling) = ratio_of.read(bare, "", 200).await;
        table.ratio(format!("the same while {count} sessions are polled every 5 s"), mine, ceiling, "/s", 0.80);
    });
}

struct Ratio {
    ours: SocketAddr,
    id: Uuid,
}

impl Ratio {
    /// Ours and the ceiling, taken in turns so that both meet the same moods of the machine.
    async fn read(&self, bare: SocketAddr, header: &str, status: u16) -> (f64, f64) {
        let request = format!("GET /sessions/{} HTTP/1.1\r\nHost: x\r\n{header}\r\n", self.id);
        let (mut mine, mut ceiling) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            mine.push(throughput(self.ours, &request, status, CLIENTS, ROUND).await);
            ceiling.push(throughput(bare, &request, status, CLIENTS, ROUND).await);
        }
        (median(mine), median(ceiling))
    }
}

pub fn api(app: &App) -> Api {
    Api {
        sessions: app.sessions.clone(),
        providers: Arc::clone(&app.providers),
        callers: Callers::default(),
        limits: Limits::new(
            Rates { requests: NonZeroU32::MAX, creates: NonZeroU32::MAX, reads: NonZeroU32::MAX },
            Proxies::default(),
            app.sessions.clock(),
        ),
        health: Arc::new(|| async { Health { store: StoreHealth::Ok, watchdog: true } }.boxed()),
        restarts: None,
        origins: Default::default(),
        stopping: Default::default(),
    }
}

/// A handler on the same accept loop that answers with the same bytes and does nothing else.
async fn bare(ours: SocketAddr, id: Uuid) -> SocketAddr {
    let mut client = Client::connect(ours).await;
    client.ask(format!("GET /sessions/{id} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    let body: &'static [u8] = client.body().to_vec().leak();
    let headers = [
        (header::ETAG, "\"2\""),
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::VARY, "Accept, Accept-Language, Prefer, Origin"),
        (header::RETRY_AFTER, "6"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let answer = async move |request: axum::http::HeaderMap| {
        let known = request.contains_key(header::IF_NONE_MATCH);
        let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        (status, headers, [(header::CONTENT_TYPE, "application/json")], if known { &[] } else { body })
    };
    rig::listen(Router::new().route("/sessions/{id}", get(answer))).await
}
