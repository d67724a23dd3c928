//! The one path from a request to its answer: note it, ask the script, answer or break, note what came of it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::Response;
use parking_lot::Mutex;
use serde_json::Value;

use super::clients::Assertions;
use super::codes::{CodeBook, Manners};
use super::form::Form;
use super::keys::SigningKey;
use super::options::{Options, Recording};
use super::record::{Entry, Exchange, Outcome, Record};
use super::script::{Answer, Endpoint, Script};
use super::switches::{Reach, Switches};
use super::tokens::Tokens;
use super::wire::{self, Reply};
use crate::clock::Clock;
use crate::kernel::time::Timestamp;

/// What all connections share. The locks are short; under `state` only that of `switches` is taken.
pub struct Shared {
    pub clock: Arc<dyn Clock>,
    pub issuer: String,
    pub state: Mutex<State>,
    pub script: Script,
    pub record: Record,
    pub switches: Arc<Switches>,
}

pub struct State {
    pub options: Options,
    pub codes: CodeBook,
    pub tokens: Tokens,
    pub key: SigningKey,
    pub assertions: Assertions,
}

/// A request that has arrived whole.
pub struct Received {
    pub parts: Parts,
    /// Empty for a GET.
    pub form: Result<Form, &'static str>,
    pub at: Timestamp,
}

const MAX_BODY: usize = 64 * 1024;

pub async fn exchange(
    shared: Arc<Shared>,
    endpoint: Endpoint,
    request: Request,
    handle: impl FnOnce(&Shared, &Received) -> Reply,
) -> Response {
    let received = receive(&shared, request).await;
    let mut open = Open::note(&shared, endpoint, &received);
    let answer = match shared.switches.reach() {
        Reach::Up => shared.script.next(endpoint, open.user_code.as_deref()),
        Reach::Reset => Answer::Reset,
        Reach::BadGateway => Answer::text(502, BAD_GATEWAY),
    };
    let real = || handle(&shared, &received);
    let delivery = wire::deliver(answer, shared.clock.as_ref(), &mut open.at_stake, real).await;
    open.close(delivery.outcome, delivery.slow_down, delivery.user_code);
    delivery.response
}

const BAD_GATEWAY: &str = "<!doctype html><title>502 Bad Gateway</title><h1>502 Bad Gateway</h1><p>The development provider is down.</p>";

async fn receive(shared: &Shared, request: Request) -> Received {
    let at = shared.clock.now();
    let (parts, body) = request.into_parts();
    let form = match to_bytes(body, MAX_BODY).await {
        Ok(_) if parts.method == "GET" => Ok(Form::default()),
        Ok(body) => Form::parse(&parts, &body),
        Err(_) => Err("the body is too large or did not arrive"),
    };
    Received { parts, form, at }
}

/// An exchange without an end yet. If its connection dies first, dropping it notes what was lost.
struct Open<'a> {
    shared: &'a Shared,
    entry: Entry,
    /// Set while a poll of ours is in flight.
    device_code: Option<Arc<str>>,
    user_code: Option<Arc<str>>,
    /// The outcome if the connection dies now.
    at_stake: Outcome,
    closed: bool,
}

impl<'a> Open<'a> {
    fn note(shared: &'a Shared, endpoint: Endpoint, received: &Received) -> Self {
        let form = received.form.as_ref().ok();
        let presented = form.filter(|_| endpoint == Endpoint::Token).and_then(|form| form.get("device_code"));
        let (keep, poll) = shared.note_arrival(presented, received.at);
        let (manners, codes) = poll.map_or((Manners::default(), None), |(manners, device, user)| (manners, Some((device, user))));
        let (device_code, user_code) = codes.unzip();
        let entry = shared.record.arrived(endpoint, manners, keep, || Exchange {
            endpoint,
            user_code: user_code.clone(),
            at: received.at,
            answered_at: None,
            authorization: received.parts.headers.contains_key(AUTHORIZATION),
            params: form.cloned().unwrap_or_default().into_redacted(),
            outcome: None,
        });
        Self { shared, entry, device_code, user_code, at_stake: Outcome::NoAnswer, closed: false }
    }

    fn close(&mut self, outcome: Outcome, slow_down: Option<Option<Duration>>, issued: Option<Arc<str>>) {
        self.closed = true;
        let now = self.shared.clock.now();
        {
            let codes = &mut self.shared.state.lock().codes;
            if let Some(code) = self.device_code.as_deref().and_then(|code| codes.by_device_code(code)) {
                code.poll_ends(now, slow_down);
            } else if let Some(code) = issued.as_deref().and_then(|code| codes.by_user_code(code)) {
                code.answered(now);
            }
        }
        self.shared.record.ended(self.entry, now, outcome, slow_down.is_some(), issued);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.closed {
            self.close(self.at_stake.clone(), None, None);
        }
    }
}

/// The audit of a poll, and the device code and user code it is about.
type Poll = (Manners, Arc<str>, Arc<str>);

impl Shared {
    fn note_arrival(&self, device_code: Option<&str>, at: Timestamp) -> (Recording, Option<Poll>) {
        let state = &mut *self.state.lock();
        let code = device_code.and_then(|code| state.codes.by_device_code(code));
        let poll = code.map(|code| (code.poll_arrives(at), code.device_code.clone(), code.user_code.clone()));
        (state.options.recording, poll)
    }
}

/// Whether a body says `slow_down`, and with which interval.
pub fn slow_down_in(body: &Value) -> Option<Option<Duration>> {
    let said = body.get("error").and_then(Value::as_str) == Some("slow_down");
    said.then(|| body.get("interval").and_then(Value::as_u64).map(Duration::from_secs))
}
