//! What is done for every request, whatever it asks for: it gets an id, is held against the limits, named in the log, timed, and
//! answered even if its handler panics.
//!
//! All of it is one layer: each layer of a router costs every request a copy of all that is below, and a boxed future.

use std::convert::Infallible;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::Route;
use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use tokio::time::Instant;
use tower::layer::layer_fn;
use tower::{Service, service_fn};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span, debug, error_span};
use uuid::Uuid;

use super::Api;
use super::problem::{Code, Problem};

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    pub method: &'a Method,
    /// The pattern of its path, never the path; absent where there is nothing.
    pub route: Option<&'a str>,
    pub status: StatusCode,
    /// Until the answer's header.
    pub took: Duration,
}

/// A request, as the log names it: by its route, never by the path or the query, so ids and whatever people put there stay out.
struct Visit {
    method: Method,
    route: Option<MatchedPath>,
    id: HeaderValue,
    begun: Instant,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static VISIT: Arc<Visit>;
}

/// Has `router` do all that. `count` is told of every answer.
pub fn entrance(router: Router, api: Arc<Api>, count: impl Fn(Answered<'_>) + Clone + Send + Sync + 'static) -> Router {
    router.layer(layer_fn(move |mut inner: Route| {
        let (api, count) = (Arc::clone(&api), count.clone());
        service_fn(move |request: Request| {
            let visit = Visit::new(&request);
            let admitted = api.site.admit(&request).and_then(|()| Ok(api.limits.admit(&request)?));
            let answer = match admitted {
                Ok(()) => Either::Left(inner.call(request)),
                Err(problem) => Either::Right(ready(Ok(problem.into_response()))),
            };
            visit.end(answer, count.clone())
        })
    }))
}

/// Names the request in full in what the log says of a panic. To be called after the log has begun.
pub fn name_panics() {
    let log = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        VISIT.try_with(|visit| visit.full_span()).unwrap_or_else(|_| Span::none()).in_scope(|| log(info));
    }));
}

impl Visit {
    fn new(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            route: request.extensions().get().cloned(),
            id: request_id(request),
            begun: Instant::now(),
        }
    }

    async fn end(
        self,
        answer: impl Future<Output = Result<Response, Infallible>>,
        count: impl Fn(Answered<'_>),
    ) -> Result<Response, Infallible> {
        // Whoever only reads gives the log nothing to say, unless it is to say everything; and a span is dear.
        let is_silent = matches!(self.method, Method::GET | Method::HEAD) && LevelFilter::current() < LevelFilter::DEBUG;
        let span = if is_silent { Span::none() } else { self.span() };
        debug!(parent: &span, method = %self.method, route = self.route(), "started processing request");
        let visit = Arc::new(self);
        let answer = VISIT.scope(Arc::clone(&visit), answer.instrument(span.clone()));
        let mut response = match AssertUnwindSafe(answer).catch_unwind().await {
            Ok(Ok(response)) => response,
            Err(_panic) => Problem::from(Code::InternalError).into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, visit.id.clone());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        let (status, took) = (response.status(), visit.begun.elapsed());
        debug!(parent: &span, status = status.as_u16(), ?took, "finished processing request");
        count(Answered { method: &visit.method, route: visit.route(), status, took });
        Ok(response)
    }

    fn route(&self) -> Option<&str> {
        self.route.as_ref().map(MatchedPath::as_str)
    }

    /// Of the highest level, so that a line has its request's id whatever else is logged. No more than that: each is written down,
    /// whether there are lines or not.
    fn span(&self) -> Span {
        error_span!("request", request_id = self.id.to_str().ok())
    }

    /// In place of the other.
    fn full_span(&self) -> Span {
        error_span!(parent: None, "request", method = %self.method, route = self.route(), request_id = self.id.to_str().ok())
    }
}

/// The client's own id comes back in the answer and in logs, so one that does not look like an id is replaced.
fn request_id(request: &Request) -> HeaderValue {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_sane = |id: &&HeaderValue| !id.is_empty() && id.len() <= 64 && id.as_bytes().iter().all(plain);
    let random = || HeaderValue::from_str(Uuid::new_v4().hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    match request.headers().get(REQUEST_ID).filter(is_sane) {
        Some(id) => id.clone(),
        None => random().unwrap_or(HeaderValue::from_static("none")),
    }
}
