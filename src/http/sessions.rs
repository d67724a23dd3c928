//! `/sessions/{id}` and what is asked of it: watching and checking; claiming, renewing, cancelling.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::conditional::{Format, PREFERENCE_APPLIED, Reading, VARY};
use super::extract::{Id, Key, Owned};
use super::limit::{Client, Exhausted};
use super::problem::{Code, Problem};
use super::view::{GrantView, SessionView};
use super::{Api, create, in_time, page};
use crate::kernel::session::{CHECK_EVERY, Refused, Session, Status};

/// For the store to make a change durable.
const PATIENCE: Duration = Duration::from_secs(10);

/// Room for the headers of a read session, ours and hyper's, so that their map need not grow as they come.
const HEADERS: usize = 10;

/// One session is checked once in [`CHECK_EVERY`].
const TOO_OFTEN: Exhausted =
    Exhausted { policy: "check", per_minute: NonZeroU32::new(60 / CHECK_EVERY.as_secs() as u32).unwrap(), wait: CHECK_EVERY.as_secs() };

/// Answers at once, unless a wait is asked for and the client knows the session as it is.
pub async fn read(State(api): State<Arc<Api>>, Id(id): Id, reading: Result<Reading, Infallible>) -> Result<Response, Problem> {
    let Ok(reading) = reading;
    let unknown = || Problem::from(Code::SessionNotFound);
    let mut session = api.sessions.get(id).ok_or_else(unknown)?;
    let is_news = || !reading.known.is_unsaid() && !reading.known.matches(&tag(&api, &session, &reading));
    if let Some(seconds) = reading.wait
        && !is_news()
    {
        let seen = session.revision();
        // The session may change while this waits; holding the old value would keep it in memory.
        drop(session);
        let until = api.sessions.clock().now() + Duration::from_secs(seconds);
        let changed = tokio::select! {
            changed = api.sessions.wait(id, seen, until) => changed,
            () = api.stopping.cancelled() => api.sessions.get(id),
        };
        session = changed.ok_or_else(unknown)?;
    }
    represent(&api, &session, &reading)
}

pub async fn claim(State(api): State<Arc<Api>>, Owned(id): Owned, Key(key): Key) -> Result<Response, Problem> {
    let grant = in_time(&api, PATIENCE, api.sessions.claim(id, key)).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(GrantView::new(&grant))).into_response())
}

pub async fn cancel(State(api): State<Arc<Api>>, Owned(id): Owned) -> Result<StatusCode, Problem> {
    in_time(&api, PATIENCE, api.sessions.cancel(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A new code under the same id, for its owner.
pub async fn renew(State(api): State<Arc<Api>>, client: Client, Owned(id): Owned) -> Result<Response, Problem> {
    let (before, now) = (api.sessions.get(id).ok_or(Code::SessionNotFound)?, api.sessions.clock().now());
    Session::clone(&before).renew(now)?;
    let opening = before.opening();
    // From here on as when a session begins.
    if let Some(failure) = api.providers.get(&opening.provider).and_then(|upstream| create::refusal(upstream, now)) {
        return Err(failure.into());
    }
    create::admit(&api, opening.caller.as_deref().and_then(|name| api.callers.named(name)), client)?;
    let session = in_time(&api, create::PATIENCE, api.sessions.renew(id)).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], SessionView::new(&session, None, api.sessions.clock().offset())).into_response())
}

/// A watcher who comes back need not wait for our back-off.
pub async fn check(State(api): State<Arc<Api>>, Id(id): Id) -> Result<Response, Problem> {
    api.sessions.get(id).ok_or(Code::SessionNotFound)?;
    api.sessions.check(id).map_err(|refused| match refused {
        Refused::TooOften => Problem::from(TOO_OFTEN),
        refused => refused.into(),
    })?;
    Ok((StatusCode::ACCEPTED, [(header::CACHE_CONTROL, "no-store")]).into_response())
}

fn represent(api: &Api, session: &Session, reading: &Reading) -> Result<Response, Problem> {
    let tag = tag(api, session, reading);
    let mut response = match reading.format {
        _ if reading.known.matches(&tag) => StatusCode::NOT_MODIFIED.into_response(),
        Format::Json => SessionView::new(session, None, api.sessions.clock().offset()).into_response(),
        Format::Page => page::render(api, session, reading.texts, &tag)?,
    };
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(header::ETAG, HeaderValue::try_from(tag).map_err(|_| Code::InternalError)?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static(VARY));
    if let Some(seconds) = reading.wait {
        headers.insert(PREFERENCE_APPLIED, HeaderValue::try_from(format!("wait={seconds}")).map_err(|_| Code::InternalError)?);
    }
    pace(api, session, headers);
    Ok(response)
}

/// Tells a watcher of a session in progress when there can be news.
fn pace(api: &Api, session: &Session, headers: &mut HeaderMap) {
    if matches!(session.status(), Status::Starting | Status::Pending) {
        let wait = session.next_poll_at().map_or(Duration::ZERO, |at| at.since(api.sessions.clock().now()));
        headers.insert(header::RETRY_AFTER, wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1).into());
    }
}

/// The strong ETag (RFC 9110 §8.8.3).
fn tag(api: &Api, session: &Session, reading: &Reading) -> String {
    let (revision, language) = (session.revision(), reading.texts.language);
    match (reading.format, api.restarts_of(session.id())) {
        (Format::Json, _) => format!("\"{revision}\""),
        (Format::Page, None) => format!("\"{revision}-html-{language}\""),
        (Format::Page, Some(restarts)) => format!("\"{revision}-html-{language}-{restarts}\""),
    }
}
