//! What scripts of other origins may do with our answers (CORS, WHATWG Fetch §3.2).
//!
//! Watching and owning are allowed apart, as they are everywhere: an origin that shows the code on a screen need not be trusted
//! with tokens.

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use tower_http::cors::{AllowMethods, AllowOrigin, CorsLayer};

use super::conditional::{PREFER, PREFERENCE_APPLIED};
use super::events::LAST_EVENT_ID;
use super::extract::IDEMPOTENCY_KEY;

/// Origins as browsers send them. Empty: none but our own pages.
#[derive(Clone, Default)]
pub struct Origins {
    /// May watch sessions, and ask for a poll.
    pub watchers: Vec<HeaderValue>,
    /// May also begin, claim, renew and cancel them.
    pub owners: Vec<HeaderValue>,
}

impl Origins {
    /// For what watchers and owners ask for.
    pub fn watching(&self) -> Option<CorsLayer> {
        (!self.watchers.is_empty() || !self.owners.is_empty()).then(|| self.layer())
    }

    /// For what only owners, and callers, ask for.
    pub fn owning(&self) -> Option<CorsLayer> {
        (!self.owners.is_empty()).then(|| self.layer())
    }

    /// `Vary` is complete already.
    fn layer(&self) -> CorsLayer {
        let origins = self.clone();
        let headers = [
            PREFER,
            header::IF_NONE_MATCH,
            LAST_EVENT_ID,
            IDEMPOTENCY_KEY,
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::CACHE_CONTROL,
        ];
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(move |origin, request| origins.allow(origin, request)))
            // Only the one that was asked for: browsers remember what they were told.
            .allow_methods(AllowMethods::mirror_request())
            .allow_headers(headers)
            .expose_headers([header::ETAG, header::RETRY_AFTER, header::LOCATION, PREFERENCE_APPLIED])
            .max_age(Duration::from_secs(600))
            .vary([])
    }

    /// Whether a page of this origin may have `path` change something.
    pub fn allow_change(&self, origin: &HeaderValue, path: &str) -> bool {
        self.owners.contains(origin) || (path.ends_with("/check") && self.watchers.contains(origin))
    }

    fn allow(&self, origin: &HeaderValue, request: &Parts) -> bool {
        let asked = request.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD).filter(|_| request.method == Method::OPTIONS);
        let method = asked.map_or(request.method.as_str().as_bytes(), HeaderValue::as_bytes);
        let path = request.uri.path();
        match method {
            b"GET" | b"HEAD" => self.owners.contains(origin) || self.watchers.contains(origin),
            b"POST" => self.allow_change(origin, path),
            _ => self.owners.contains(origin),
        }
    }
}
