//! `GET /livez` and `GET /readyz`: whether to restart us, and whether to send us requests.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::Api;

/// What must work for requests to be served well. A provider that is down is not part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    pub store: StoreHealth,
    /// No storm of crashes.
    pub watchdog: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreHealth {
    /// Every session is known, and changes can be written.
    Ok,
    /// Sessions are still being loaded after a start. Each can be asked for all the same.
    Loading,
    /// Changes cannot be written.
    Unavailable,
}

/// Asks the service whether it is well.
pub type HealthCheck = Arc<dyn Fn() -> BoxFuture<'static, Health> + Send + Sync>;

#[derive(Serialize)]
struct HealthView {
    status: &'static str,
    store: StoreHealth,
    watchdog: &'static str,
}

/// Touches nothing: only a process that cannot answer this is worth a restart.
pub async fn livez() -> Response {
    #[derive(Serialize)]
    struct Alive {
        status: &'static str,
    }
    ([(header::CACHE_CONTROL, "no-store")], Json(Alive { status: "ok" })).into_response()
}

pub async fn readyz(State(api): State<Arc<Api>>) -> Response {
    ready((api.health)().await)
}

/// Both probes, for a listener of their own.
pub fn probes(health: HealthCheck) -> Router {
    Router::new().route("/livez", get(livez)).route("/readyz", get(async move || ready(health().await)))
}

/// Probes are answered whatever the limits say.
pub fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz")
}

fn ready(Health { store, watchdog }: Health) -> Response {
    let word = |ready| if ready { "ok" } else { "unavailable" };
    let ready = store == StoreHealth::Ok && watchdog;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let view = HealthView { status: word(ready), store, watchdog: word(watchdog) };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(view)).into_response()
}
