//! From a reply to bytes on the wire, or to their loss.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::stream;
use serde_json::Value;

use super::exchange::slow_down_in;
use super::record::Outcome;
use super::script::Answer;
use crate::clock::Clock;

/// What the provider really answers.
pub struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
    pub challenge: Option<&'static str>,
    pub outcome: Outcome,
    /// The user code in a device authorization response.
    pub user_code: Option<Arc<str>>,
}

/// What goes to the connection, and what is to be noted.
pub struct Delivery {
    pub response: Response,
    pub outcome: Outcome,
    /// Present if the client was told to slow down, with the interval it was told.
    pub slow_down: Option<Option<Duration>>,
    pub user_code: Option<Arc<str>>,
}

/// In the extensions of a response: the connection ends instead of sending it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Close,
    Reset,
}

/// Carries out what `answer` says. `at_stake` is kept true for the case that the client hangs up before this returns.
pub async fn deliver(answer: Answer, clock: &dyn Clock, at_stake: &mut Outcome, real: impl FnOnce() -> Reply) -> Delivery {
    match answer {
        Answer::Normal => real().delivered(),
        Answer::Edited(change) => real().edited(change.as_ref()).delivered(),
        Answer::Delay(wait) => {
            clock.sleep_until(clock.now() + wait).await;
            real().delivered()
        }
        Answer::LateReply(wait) => {
            let reply = real();
            *at_stake = reply.outcome.clone().lost();
            clock.sleep_until(clock.now() + wait).await;
            reply.delivered()
        }
        Answer::DropReply => real().lost_with(Ending::Close.response()),
        Answer::ResetReply => real().lost_with(Ending::Reset.response()),
        Answer::HalfBody => {
            let reply = real();
            let response = reply.response(halved(reply.body.clone()));
            reply.lost_with(response)
        }
        Answer::SlowBody(pause) => {
            let reply = real();
            let response = reply.response(dripping(reply.body.clone(), pause));
            Delivery { response, ..reply.delivered() }
        }
        Answer::Json(status, body) => scripted(status, &[], body.to_string().into(), slow_down_in(&body)),
        Answer::Raw { status, headers, body } => {
            let slow_down = serde_json::from_slice(&body).ok().as_ref().and_then(slow_down_in);
            scripted(status, &headers, body.into(), slow_down)
        }
        Answer::CloseWithoutAnswer => Delivery::nothing(Ending::Close),
        Answer::Reset => Delivery::nothing(Ending::Reset),
        Answer::Stall => pending().await,
        Answer::EndlessBody(bytes) => {
            let mut response = Response::new(endless(bytes));
            response.headers_mut().insert(CONTENT_TYPE, JSON);
            Delivery { response, outcome: Outcome::Scripted(200), slow_down: None, user_code: None }
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Reply {
    pub fn json(status: StatusCode, body: &Value, outcome: Outcome) -> Self {
        Self { status, body: body.to_string().into(), challenge: None, outcome, user_code: None }
    }

    fn edited(mut self, change: &dyn Fn(&mut serde_json::Map<String, Value>)) -> Self {
        if let Ok(Value::Object(mut members)) = serde_json::from_slice(&self.body) {
            change(&mut members);
            self.body = Value::Object(members).to_string().into();
        }
        self
    }

    fn delivered(self) -> Delivery {
        let slow_down = (self.outcome == Outcome::Error("slow_down".into())).then_some(None);
        let response = self.response(self.body.clone().into());
        Delivery { response, outcome: self.outcome, slow_down, user_code: self.user_code }
    }

    fn lost_with(self, response: Response) -> Delivery {
        Delivery { response, outcome: self.outcome.lost(), slow_down: None, user_code: self.user_code }
    }

    fn response(&self, body: Body) -> Response {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_LENGTH, self.body.len().into());
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl Delivery {
    fn nothing(ending: Ending) -> Self {
        Self { response: ending.response(), outcome: Outcome::NoAnswer, slow_down: None, user_code: None }
    }
}

impl Outcome {
    /// The same, when the answer does not get through.
    fn lost(self) -> Self {
        match self {
            Self::Tokens | Self::TokensLost => Self::TokensLost,
            _ => Self::NoAnswer,
        }
    }
}

impl Ending {
    fn response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(self);
        response
    }
}

fn scripted(status: u16, headers: &[(String, String)], body: Bytes, slow_down: Option<Option<Duration>>) -> Delivery {
    let mut response = Response::new(Body::from(body));
    // A script with an impossible status or header shows up as a 508, which nobody expects.
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(IMPOSSIBLE_SCRIPT);
    if headers.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, JSON);
    }
    for (name, value) in headers {
        match (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
            (Ok(name), Ok(value)) => _ = response.headers_mut().append(name, value),
            _ => *response.status_mut() = IMPOSSIBLE_SCRIPT,
        }
    }
    let outcome = Outcome::Scripted(response.status().as_u16());
    Delivery { response, outcome, slow_down, user_code: None }
}

const IMPOSSIBLE_SCRIPT: StatusCode = StatusCode::LOOP_DETECTED;

/// The first half, then an error, upon which hyper drops the connection. Between them the half must reach the socket: hyper
/// flushes whenever a body has nothing to give.
fn halved(body: Bytes) -> Body {
    let half = body.slice(..body.len() / 2);
    Body::from_stream(stream::unfold(Some(half), |left| async move {
        match left {
            Some(half) if !half.is_empty() => Some((Ok(half), Some(Bytes::new()))),
            Some(_) => {
                tokio::task::yield_now().await;
                Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None))
            }
            None => None,
        }
    }))
}

/// A byte at a time. Real time: how slow a socket may be is not for the protocol's clock to say.
fn dripping(body: Bytes, pause: Duration) -> Body {
    Body::from_stream(stream::unfold(body, move |mut left| async move {
        if left.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let byte = left.split_to(1);
        Some((Ok::<_, Infallible>(byte), left))
    }))
}

fn endless(bytes: u64) -> Body {
    const OPENING: &[u8] = b"{\"error\":\"";
    static FILLER: [u8; 16 * 1024] = [b'x'; 16 * 1024];
    Body::from_stream(stream::unfold((OPENING, bytes), |(next, left)| async move {
        let chunk = next.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(next);
        let left = left - chunk.len() as u64;
        (!chunk.is_empty()).then(|| (Ok::<_, Infallible>(Bytes::from_static(chunk)), (FILLER.as_slice(), left)))
    }))
}
