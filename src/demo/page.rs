//! The page for people: approve, deny, and break things to see what happens. Plain forms; no script runs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::{Form, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;
use url::form_urlencoded;

use super::codes::{Code, Decision};
use super::exchange::Shared;
use super::switches::{Crash, Reach};
use crate::kernel::time::Timestamp;

/// What *let it expire soon* means.
const SOON: Duration = Duration::from_secs(10);

pub fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(async || Redirect::to("/device")))
        .route("/device", get(show).post(press))
        .route("/device/page.css", get(stylesheet))
        .layer(middleware::from_fn(guard))
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    user_code: String,
}

#[derive(Deserialize)]
struct Pressed {
    #[serde(default)]
    user_code: String,
    action: Action,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Approve,
    Deny,
    Crash,
    SlowDown,
    ExpireSoon,
    Up,
    Reset,
    BadGateway,
}

#[derive(Template)]
#[template(config = "src/demo/askama.toml", path = "page.html")]
struct Page {
    typed: String,
    sign_in: Option<SignIn>,
    reach: Reach,
}

/// One sign-in, as the person sees it.
struct SignIn {
    user_code: Arc<str>,
    client: String,
    scopes: Vec<String>,
    stage: Stage,
    minutes_and_seconds_left: String,
    polls: u64,
    required_secs: u64,
    crashes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Approved,
    Redeemed,
    Denied,
    Expired,
}

async fn show(State(shared): State<Arc<Shared>>, Query(shown): Query<Shown>) -> Response {
    let page = Page { sign_in: shared.sign_in(&shown.user_code), reach: shared.switches.reach(), typed: shown.user_code };
    let status = if page.typed.is_empty() || page.sign_in.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn press(State(shared): State<Arc<Shared>>, Form(pressed): Form<Pressed>) -> Redirect {
    shared.act(pressed.action, &pressed.user_code);
    let query: String = form_urlencoded::byte_serialize(pressed.user_code.as_bytes()).collect();
    Redirect::to(&if query.is_empty() { "/device".to_owned() } else { format!("/device?user_code={query}") })
}

async fn stylesheet() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page.css"))
}

impl Shared {
    fn act(&self, action: Action, user_code: &str) {
        match action {
            Action::Up => self.switches.set_reach(Reach::Up),
            Action::Reset => self.switches.set_reach(Reach::Reset),
            Action::BadGateway => self.switches.set_reach(Reach::BadGateway),
            _ => self.act_on_code(action, user_code),
        }
    }

    fn act_on_code(&self, action: Action, user_code: &str) {
        let now = self.clock.now();
        let codes = &mut self.state.lock().codes;
        let Some(code) = codes.by_user_code(user_code) else { return };
        match action {
            Action::Approve => _ = code.approve(now),
            Action::Deny => _ = code.deny(now),
            Action::SlowDown => code.order_slow_down(),
            Action::ExpireSoon => code.expire_at(now + SOON),
            Action::Crash => self.switches.crash(&code.device_code, Crash::BeforeAsking),
            Action::Up | Action::Reset | Action::BadGateway => {}
        }
    }

    fn sign_in(&self, user_code: &str) -> Option<SignIn> {
        let now = self.clock.now();
        let state = &mut *self.state.lock();
        let code = state.codes.by_user_code(user_code)?;
        let client = state.options.clients.iter().find(|client| client.id == code.client);
        let left = code.expires_at.since(now).as_secs();
        Some(SignIn {
            user_code: code.user_code.clone(),
            client: client.map_or_else(|| code.client.clone(), |client| client.name.clone()),
            scopes: code.scope.split_whitespace().map(str::to_owned).collect(),
            stage: Stage::of(code, now),
            minutes_and_seconds_left: format!("{}:{:02}", left / 60, left % 60),
            polls: code.polls,
            required_secs: code.required.as_secs(),
            crashes: self.switches.crashes_left(&code.device_code),
        })
    }
}

impl Stage {
    fn of(code: &Code, now: Timestamp) -> Self {
        match code.decision {
            Decision::Redeemed(_) => Self::Redeemed,
            _ if code.is_expired(now) => Self::Expired,
            Decision::Undecided => Self::Waiting,
            Decision::Approved => Self::Approved,
            Decision::Denied => Self::Denied,
        }
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Approved)
    }
}

/// Keeps other sites out: a name that was rebound to loopback by its `Host`, a form on another page by its `Origin`.
async fn guard(request: Request, next: Next) -> Response {
    if !is_ours(request.method(), request.headers()) {
        return (StatusCode::FORBIDDEN, "Open this page at its loopback address; other sites may not use it.\n").into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    // Not `no-referrer`: with that, browsers send `Origin: null` along with our own forms.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
    );
    response
}

/// A form that comes without `Origin` and `Sec-Fetch-Site` does not come from a browser.
fn is_ours(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("null"));
    let Some(host) = text(HOST.as_str()).filter(|host| is_loopback(host)) else { return false };
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let same_origin = text(ORIGIN.as_str()).is_none_or(|origin| origin.strip_prefix("http://") == Some(host));
    let same_site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    reads || (same_origin && same_site)
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
