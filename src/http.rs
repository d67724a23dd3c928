//! The public HTTP API, on one page. `openapi.yaml` is the truth about it, and is served with it.
//!
//! Nobody here changes a session: handlers ask [`Sessions`], which survives whatever happens to them. Three capabilities are
//! kept apart: a caller key begins sign-ins ([`callers`]), a session secret claims and cancels ([`extract::Owned`]), an id
//! only watches ([`extract::Id`]). What is done for every request alike stands in [`entrance`].

pub mod callers;
pub mod client;
mod conditional;
pub mod cors;
mod create;
mod entrance;
mod events;
mod extract;
pub mod health;
pub mod limit;
mod page;
pub mod problem;
mod providers;
mod qr;
pub mod serve;
mod sessions;
pub mod site;
pub mod streams;
mod texts;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;

use self::callers::Callers;
pub use self::entrance::{Answered, name_panics};
use self::health::HealthCheck;
use self::limit::Limits;
use self::problem::{Code, Problem};
use self::site::Site;
use self::streams::Streams;
use crate::kernel::session::SessionId;
use crate::provider::Providers;
use crate::sessions::Sessions;

pub const OPENAPI: &str = include_str!("../openapi.yaml");

/// What the handlers are given.
pub struct Api {
    pub sessions: Sessions,
    pub providers: Arc<Providers>,
    pub callers: Callers,
    pub limits: Limits,
    pub health: HealthCheck,
    /// How often the pollers of a session were restarted, where the page is to show it.
    pub restarts: Option<Arc<dyn Fn(SessionId) -> u32 + Send + Sync>>,
    pub site: Site,
    pub streams: Streams,
    /// Once cancelled, nobody is kept waiting for news.
    pub stopping: CancellationToken,
}

pub fn router(api: Api) -> Router {
    counted_router(api, |_| {})
}

/// The router; `count` is told of every answer, and must be quick.
pub fn counted_router(api: Api, count: impl Fn(Answered<'_>) + Clone + Send + Sync + 'static) -> Router {
    let api = Arc::new(api);
    let mut watching = Router::new()
        .route("/sessions/{id}", get(sessions::read).delete(sessions::cancel))
        .route("/sessions/{id}/events", get(events::read))
        .route("/sessions/{id}/qr.svg", get(qr::svg))
        .route("/sessions/{id}/qr.png", get(qr::png))
        .route("/sessions/{id}/check", post(sessions::check))
        .method_not_allowed_fallback(async || Problem::from(Code::MethodNotAllowed));
    let mut owning = Router::new()
        .route("/sessions", post(create::create))
        .route("/sessions/{id}/claim", post(sessions::claim))
        .route("/sessions/{id}/renew", post(sessions::renew))
        .method_not_allowed_fallback(async || Problem::from(Code::MethodNotAllowed));
    if let Some(cors) = api.site.origins.watching() {
        watching = watching.layer(cors);
    }
    if let Some(cors) = api.site.origins.owning() {
        owning = owning.layer(cors);
    }
    let router = Router::new()
        .route("/", get(page::start))
        .route("/providers", get(providers::list))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/openapi.yaml", get(openapi))
        .method_not_allowed_fallback(async || Problem::from(Code::MethodNotAllowed))
        .merge(watching)
        .merge(owning)
        .fallback(async || Problem::from(Code::NotFound))
        .with_state(Arc::clone(&api));
    entrance::entrance(router, api, count)
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/yaml"), (header::CACHE_CONTROL, "no-cache")], OPENAPI).into_response()
}

/// Waits for a change as long as a client can be expected to. It goes on without us, and may yet happen.
async fn in_time<T, E: Into<Problem>>(api: &Api, patience: Duration, change: impl Future<Output = Result<T, E>>) -> Result<T, Problem> {
    let clock = api.sessions.clock();
    tokio::select! {
        biased;
        changed = change => changed.map_err(Into::into),
        () = clock.sleep_until(clock.now() + patience) => Err(Code::StoreUnavailable.into()),
    }
}

impl Api {
    fn restarts_of(&self, id: SessionId) -> Option<u32> {
        self.restarts.as_ref().map(|restarts| restarts(id))
    }
}
