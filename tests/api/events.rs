//! `GET /sessions/{id}/events`: a session as a stream of events.

use std::time::Duration;

use anteroom::kernel::verdict::Verdict;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, Method, StatusCode};
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;
use tower::ServiceExt;

use crate::contract::Contract;
use crate::service::{Ours, PATIENCE, Service, grant, request};

/// An open stream.
struct Stream {
    path: String,
    status: StatusCode,
    headers: HeaderMap,
    chunks: BodyDataStream,
    text: String,
}

#[tokio::test]
async fn every_change_is_an_event_until_the_session_is_settled() {
    let service = Service::plain();
    let session = service.pending().await;
    let mut stream = Stream::open(&service, &session, None).await;
    assert_eq!(stream.chunk().await.as_deref(), Some("retry: 2000\n\n"));
    assert_eq!(stream.session().await, service.get(&session.path()).await.json());

    service.provider.says(Verdict::Authorized(grant()));
    service.clock.advance(Duration::from_secs(7));
    assert_eq!(stream.session().await["status"], "authorized");
    assert_eq!(service.claim(&session, None).await.status, 200);
    let last = stream.session().await;
    assert_eq!((&last["status"], &last["revision"]), (&"claimed".into(), &4.into()));
    assert_eq!(stream.chunk().await, None, "nothing follows the settled state");
    stream.check();
    assert!(!stream.text.contains(&session.secret) && !stream.text.contains("an-access-token"));
}

#[tokio::test]
async fn who_comes_back_gets_only_what_is_new() {
    let service = Service::plain();
    let session = service.pending().await;
    let mut behind = Stream::open(&service, &session, Some("1")).await;
    let mut current = Stream::open(&service, &session, Some("2")).await;
    behind.chunk().await;
    current.chunk().await;
    assert_eq!(behind.session().await["revision"], 2);
    assert!(current.is_silent());
    assert_eq!(service.delete(&session).await.status, 204);
    assert_eq!(current.session().await["status"], "cancelled");
    assert_eq!(behind.session().await["status"], "cancelled");
}

#[tokio::test]
async fn who_knows_the_end_is_told_to_stop() {
    let service = Service::plain();
    let session = service.polled(Verdict::Denied).await;
    let path = format!("{}/events", session.path());
    assert_eq!(service.get_with(&path, &[("last-event-id", "3")]).await.status, 204);
    for ignorant in [&[("last-event-id", "2")][..], &[("last-event-id", "<script>")], &[]] {
        let answer = service.get_with(&path, ignorant).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("id: 3\nevent: session\ndata: {") && answer.text().contains("\"denied\""));
    }
}

#[tokio::test]
async fn silence_is_broken_every_15_s() {
    let service = Service::plain();
    let session = service.pending().await;
    let mut stream = Stream::open(&service, &session, Some("2")).await;
    stream.chunk().await;
    for _ in 0..3 {
        assert!(stream.is_silent());
        service.clock.advance(Duration::from_secs(14));
        assert!(stream.is_silent());
        service.clock.advance(Duration::from_secs(1));
        assert_eq!(stream.chunk().await.as_deref(), Some(": still waiting\n\n"));
    }
}

#[tokio::test]
async fn streams_end_when_the_service_stops() {
    let service = Service::plain();
    let session = service.pending().await;
    let mut stream = Stream::open(&service, &session, Some("2")).await;
    stream.chunk().await;
    service.stopping.cancel();
    assert_eq!(stream.chunk().await, None);
}

/// Neither a task nor anything that is left behind.
#[tokio::test]
async fn ten_thousand_streams_are_told_and_leave_nothing_behind() {
    let service = Service::plain();
    let session = service.pending().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut streams = Vec::new();
    for _ in 0..10_000 {
        let mut stream = Stream::open(&service, &session, Some("2")).await;
        stream.chunk().await;
        assert!(stream.is_silent());
        streams.push(stream);
    }
    assert_eq!(tasks(), before);
    assert_eq!(service.delete(&session).await.status, 204);
    for stream in &mut streams {
        assert_eq!(stream.session().await["status"], "cancelled");
        assert_eq!(stream.chunk().await, None);
    }
}

impl Stream {
    async fn open(service: &Service, session: &Ours, last_event_id: Option<&str>) -> Self {
        let path = format!("{}/events", session.path());
        let request = last_event_id.into_iter().fold(request(Method::GET, &path), |request, id| request.header("last-event-id", id));
        let (parts, body) = service.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().into_parts();
        Self { path, status: parts.status, headers: parts.headers, chunks: body.into_data_stream(), text: String::new() }
    }

    /// The next piece; `None` when the stream has ended.
    async fn chunk(&mut self) -> Option<String> {
        let chunk = tokio::time::timeout(PATIENCE, self.chunks.next()).await.expect("something comes")?.expect("a whole chunk");
        let chunk = String::from_utf8(chunk.to_vec()).unwrap();
        self.text.push_str(&chunk);
        Some(chunk)
    }

    /// The session of the next event, whose id is its revision.
    async fn session(&mut self) -> Value {
        let chunk = self.chunk().await.expect("an event");
        let lines: Vec<_> = chunk.split('\n').collect();
        let [id, "event: session", data, "", ""] = lines[..] else { panic!("no event: {chunk}") };
        let session: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(id, format!("id: {}", session["revision"]));
        session
    }

    fn is_silent(&mut self) -> bool {
        self.chunks.next().now_or_never().is_none()
    }

    /// Holds what has come against the contract.
    fn check(&self) {
        Contract::get().check(&Method::GET, &self.path, self.status, &self.headers, self.text.as_bytes());
    }
}
