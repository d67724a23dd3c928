//! The public HTTP API, on one page. `openapi.yaml` is the truth about it, and is served with it.
//!
//! Nobody here changes a session: handlers ask [`Sessions`], which survives whatever happens to them. Three capabilities are
//! kept apart: a caller key begins sign-ins ([`callers`]), a session secret claims and cancels ([`extract::Owned`]), an id
//! only watches ([`extract::Id`]).

pub mod callers;
pub mod client;
mod conditional;
pub mod cors;
mod create;
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
mod texts;
pub mod view;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::{DefaultOnFailure, TraceLayer};
use tracing::{Level, Span, error_span};

use self::callers::Callers;
use self::cors::Origins;
use self::health::Health;
use self::limit::{Limits, limited};
use self::problem::{Code, Problem};
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
    pub health: Arc<dyn Fn() -> BoxFuture<'static, Health> + Send + Sync>,
    /// How often the pollers of a session were restarted, where the page is to show it.
    pub restarts: Option<Arc<dyn Fn(SessionId) -> u32 + Send + Sync>>,
    pub origins: Origins,
    /// Once cancelled, nobody is kept waiting for news.
    pub stopping: CancellationToken,
}

pub fn router(api: Api) -> Router {
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
    if let Some(cors) = api.origins.watching() {
        watching = watching.layer(cors);
    }
    if let Some(cors) = api.origins.owning() {
        owning = owning.layer(cors);
    }
    Router::new()
        .route("/", get(page::start))
        .route("/providers", get(providers::list))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/openapi.yaml", get(openapi))
        .method_not_allowed_fallback(async || Problem::from(Code::MethodNotAllowed))
        .merge(watching)
        .merge(owning)
        .fallback(async || Problem::from(Code::NotFound))
        .with_state(Arc::clone(&api))
        .layer(from_fn_with_state(api, limited))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(DefaultOnFailure::new().level(Level::DEBUG)))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(SetResponseHeaderLayer::if_not_present(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .layer(SetResponseHeaderLayer::if_not_present(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")))
        .layer(map_request(only_sane_request_ids))
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/yaml"), (header::CACHE_CONTROL, "no-cache")], OPENAPI).into_response()
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::from(Code::InternalError).into_response()
}

/// Names the route, never the path or the query: ids and whatever people put there stay out of logs.
fn span(request: &Request) -> Span {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let request_id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    // Of the highest level, so that a line has its request's id whatever else is logged.
    error_span!("request", method = %request.method(), route, request_id)
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request id comes back in the answer and in logs, so one that does not look like an id is replaced.
async fn only_sane_request_ids(mut request: Request) -> Request {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if request.headers().get(REQUEST_ID).is_some_and(|id| id.is_empty() || id.len() > 64 || !id.as_bytes().iter().all(plain)) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
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
