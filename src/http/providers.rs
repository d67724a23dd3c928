//! `GET /providers`: what a caller can name in `POST /sessions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Api;

#[derive(Serialize)]
struct List<'a> {
    providers: Vec<ProviderView<'a>>,
}

#[derive(Serialize)]
struct ProviderView<'a> {
    name: &'a str,
    display_name: &'a str,
    reachable: bool,
}

pub async fn list(State(api): State<Arc<Api>>) -> Response {
    let view = api.providers.values().map(|upstream| ProviderView {
        name: &upstream.name,
        display_name: &upstream.display_name,
        reachable: upstream.gate.is_reachable(),
    });
    ([(header::CACHE_CONTROL, "no-cache")], Json(List { providers: view.collect() })).into_response()
}
