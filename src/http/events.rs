//! `GET /sessions/{id}/events`: a session as it changes, as Server-Sent Events (WHATWG HTML §9.2).
//!
//! Every event is the whole session, so whoever was away misses nothing that still counts, and the revision is the event's id.
//! A stream is no more than the future of its response: it holds an id and a number, and looks when the session has changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::Api;
use super::conditional::VARY;
use super::extract::Id;
use super::limit::Client;
use super::problem::{Code, Problem};
use super::streams::Open;
use super::view::SessionView;
use crate::kernel::session::{Session, SessionId};
use crate::kernel::time::Offset;

pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Some proxies hold answers back until they are whole.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How long a client waits before it connects again, in milliseconds.
const OPENING: &str = "retry: 2000\n\n";
/// Keeps proxies and phones from taking the silence for an end.
const HEARTBEAT: &str = ": still waiting\n\n";
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

struct Stream {
    api: Arc<Api>,
    id: SessionId,
    /// The revision that the client has; 0, which no session has, for none.
    seen: u64,
    stage: Stage,
    _open: Open,
}

enum Stage {
    Opening,
    Watching,
    Over,
}

pub async fn read(State(api): State<Arc<Api>>, Id(id): Id, client: Client, headers: HeaderMap) -> Result<Response, Problem> {
    let session = api.sessions.get(id).ok_or(Code::SessionNotFound)?;
    let seen = last_event_id(&headers).unwrap_or(0);
    if session.is_settled() && session.revision() == seen {
        // 204 tells an EventSource to stop connecting.
        return Ok((StatusCode::NO_CONTENT, fixed_headers()).into_response());
    }
    let open = api.streams.open(client, id)?;
    let events = stream::unfold(Stream { api, id, seen, stage: Stage::Opening, _open: open }, Stream::next);
    let media = [(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
    Ok((fixed_headers(), media, Body::from_stream(events)).into_response())
}

fn fixed_headers() -> [(HeaderName, HeaderValue); 3] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::VARY, HeaderValue::from_static(VARY)),
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ]
}

fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    headers.get(LAST_EVENT_ID)?.to_str().ok()?.parse().ok()
}

impl Stream {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        let chunk = match self.stage {
            Stage::Opening => {
                self.stage = Stage::Watching;
                Bytes::from_static(OPENING.as_bytes())
            }
            Stage::Watching => self.news().await?,
            Stage::Over => return None,
        };
        Some((Ok(chunk), self))
    }

    /// The next event, or a heartbeat when there is none for a while; `None` once the session is gone or the service stops.
    async fn news(&mut self) -> Option<Bytes> {
        let sessions = &self.api.sessions;
        let until = sessions.clock().now() + HEARTBEAT_EVERY;
        let session = tokio::select! {
            session = sessions.wait(self.id, self.seen, until) => session?,
            () = self.api.stopping.cancelled() => return None,
        };
        if session.is_settled() {
            self.stage = Stage::Over;
        }
        if session.revision() == self.seen {
            return Some(Bytes::from_static(HEARTBEAT.as_bytes()));
        }
        self.seen = session.revision();
        Some(event(&session, sessions.clock().offset()))
    }
}

fn event(session: &Session, offset: Offset) -> Bytes {
    // JSON has no line breaks outside strings and escapes them inside, so it is one line.
    let data = SessionView::new(session, None, offset).to_json();
    Bytes::from(format!("id: {}\nevent: session\ndata: {data}\n\n", session.revision()))
}
