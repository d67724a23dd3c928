//! `GET /livez` and `GET /readyz`: whether to restart us, and whether to send us requests.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
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
    let Health { store, watchdog } = (api.health)().await;
    let word = |ready| if ready { "ok" } else { "unavailable" };
    let ready = store == StoreHealth::Ok && watchdog;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let view = HealthView { status: word(ready), store, watchdog: word(watchdog) };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(view)).into_response()
}
