//! `POST /sessions`: begins a sign-in.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::callers::Caller;
use super::extract::{CreationKey, json_object};
use super::limit::Client;
use super::problem::{Code, Problem};
use super::view::SessionView;
use super::{Api, in_time};
use crate::kernel::session::Digest;
use crate::kernel::time::{Offset, Timestamp};
use crate::kernel::verdict::Failure;
use crate::provider::Upstream;
use crate::sessions::{Create, Created, Idempotency};
use crate::shown;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    provider: Option<String>,
    scope: Option<String>,
    label: Option<String>,
}

const PROVIDER: &str = "provider must be the name of a configured provider; it may be left out when there is exactly one.";
const SCOPE: &str = "scope must be one or more scope tokens (RFC 6749 section 3.3), separated by single spaces.";
const LABEL: &str = "label must be a string of 1 to 200 characters with something to see in it, and without any that hide or that pile up.";
const MEMBERS: [(&str, &str); 3] = [("provider", PROVIDER), ("scope", SCOPE), ("label", LABEL)];
const LABEL_LIMIT: usize = 200;
/// For the provider, which is given 20 s, and the store.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub async fn create(
    State(api): State<Arc<Api>>,
    client: Client,
    headers: HeaderMap,
    CreationKey(key): CreationKey,
    body: Body,
) -> Result<Response, Problem> {
    let caller = api.callers.identify(&headers)?;
    let request: Request = json_object(&headers, body, &MEMBERS).await?;
    let create = prepare(request, &api, caller.as_deref(), key)?;
    admit(&api, caller.as_deref(), client)?;
    let created = in_time(&api, PATIENCE, api.sessions.create(create)).await?;
    Ok(answer(&created, api.sessions.clock().offset()))
}

/// Counts one beginning, of the caller or else of the address.
///
/// # Errors
/// `rate_limited`.
pub(super) fn admit(api: &Api, caller: Option<&Caller>, client: Client) -> Result<(), Problem> {
    match (caller, client) {
        (Some(caller), _) => caller.admit()?,
        (None, Client(Some(address))) => api.limits.creates.admit(&address)?,
        (None, Client(None)) => {}
    }
    Ok(())
}

/// Why nothing can begin at this provider now, if it wants to be asked less.
pub(super) fn refusal(upstream: &Upstream, now: Timestamp) -> Option<Failure> {
    let until = upstream.gate.paused_until(now)?;
    let wait = until.since(now).as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX);
    Some(Failure::ProviderRateLimited { retry_after_secs: Some(wait) })
}

fn answer(Created { session, secret, repeated }: &Created, offset: Offset) -> Response {
    let status = if *repeated { StatusCode::OK } else { StatusCode::CREATED };
    let location = format!("/sessions/{}", session.id());
    let headers = [(header::LOCATION, location.as_str()), (header::CACHE_CONTROL, "no-store")];
    (status, headers, SessionView::new(session, Some(secret), offset)).into_response()
}

fn prepare(request: Request, api: &Api, caller: Option<&Caller>, key: Option<Digest>) -> Result<Create, Problem> {
    let (providers, now) = (&api.providers, api.sessions.clock().now());
    let upstream = match &request.provider {
        Some(name) => providers.get(name.as_str()),
        None if providers.len() == 1 => providers.values().next(),
        None => None,
    };
    let upstream = upstream.ok_or(Problem::invalid(PROVIDER))?;
    if caller.is_some_and(|caller| !caller.may_use(&upstream.name)) {
        return Err(Code::ProviderNotAllowed.into());
    }
    let scope = scope(request.scope.as_deref(), upstream, caller)?;
    let label = request.label.map(String::into_boxed_str);
    if label.as_deref().is_some_and(|label| !is_label(label)) {
        return Err(Problem::invalid(LABEL));
    }
    let idempotency = key.map(|key| Idempotency { key, fingerprint: fingerprint(&upstream.name, &scope, label.as_deref()) });
    let caller = caller.map(|caller| Arc::clone(&caller.name));
    let refusal = refusal(upstream, now);
    Ok(Create { provider: Arc::clone(&upstream.name), scope, label, caller, idempotency, refusal })
}

/// The scope to ask for: what the caller names, each token once; else the provider's default, as far as the caller may.
fn scope(wanted: Option<&str>, upstream: &Upstream, caller: Option<&Caller>) -> Result<Arc<str>, Problem> {
    let is_callers = |token: &str| caller.is_none_or(|caller| caller.may_ask(token));
    let Some(wanted) = wanted else {
        let default: Vec<&str> = upstream.scopes.iter().map(String::as_str).filter(|token| is_callers(token)).collect();
        // An empty scope would leave it to the provider, which may give more than the caller should have.
        let is_void = default.is_empty() && !upstream.scopes.is_empty();
        return if is_void { Err(Code::ScopeNotAllowed.into()) } else { Ok(joined(&default, upstream)) };
    };
    let mut tokens: Vec<&str> = Vec::new();
    for token in wanted.split(' ') {
        if !is_scope_token(token) {
            return Err(Problem::invalid(SCOPE));
        }
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    let is_allowed = |token: &&str| is_callers(token) && upstream.allowed_scopes.iter().any(|allowed| allowed == token);
    if tokens.iter().all(is_allowed) { Ok(joined(&tokens, upstream)) } else { Err(Code::ScopeNotAllowed.into()) }
}

fn joined(tokens: &[&str], upstream: &Upstream) -> Arc<str> {
    let scope = tokens.join(" ");
    if *scope == *upstream.usual_scope { Arc::clone(&upstream.usual_scope) } else { scope.into() }
}

/// RFC 6749 §3.3.
fn is_scope_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E))
}

fn is_label(label: &str) -> bool {
    label.chars().count() <= LABEL_LIMIT && shown::is_clear(label)
}

/// What must be equal for a request to count as a repetition.
fn fingerprint(provider: &str, scope: &str, label: Option<&str>) -> Digest {
    let mut hash = Sha256::new();
    for part in [Some(provider), Some(scope), label] {
        let part = part.map(str::as_bytes);
        hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.finalize().into()
}
