//! The pages for people: a sign-in as its watchers see it, and where one can begin.
//!
//! The server writes every page whole, in the reader's language; the script only fetches them again and fits in what is new. So
//! there is one place that knows how things look, and no JavaScript is needed to watch.

use std::sync::{Arc, LazyLock};

use askama::Template;
use axum::extract::State as Extracted;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::conditional::{Format, Reading};
use super::problem::{Code, Problem};
use super::texts::Texts;
use super::view::Rfc3339;
use super::{Api, qr};
use crate::kernel::session::{Session, State};
use crate::kernel::time::Offset;
use crate::kernel::verdict::Prompt;
use crate::provider::Upstream;

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

#[derive(Template)]
#[template(path = "session.html", config = "src/http/askama.toml")]
struct SessionPage<'a> {
    t: &'static Texts,
    style: &'static str,
    script: &'static str,
    nonce: &'a str,
    title: String,
    label: Option<&'a str>,
    status: &'static str,
    is_settled: bool,
    is_reachable: bool,
    prompt: Option<Shown<'a>>,
    says: String,
    mood: &'static str,
    sign: &'static str,
    headline: &'static str,
    meaning: String,
    restarts: Option<u32>,
}

/// The code, while it can be used.
struct Shown<'a> {
    code: &'a str,
    size: &'static str,
    /// As it is read and typed.
    address: &'a str,
    /// Absent when it is no web address: it is shown then, but not linked.
    link: Option<&'a str>,
    complete: Option<&'a str>,
    qr: Option<String>,
    /// Milliseconds since the epoch.
    began_at: u64,
    expires_at_millis: u64,
    expires_at: String,
    /// Hours and minutes of `expires_at`.
    expires_at_time: String,
}

#[derive(Template)]
#[template(path = "start.html", config = "src/http/askama.toml")]
struct StartPage<'a> {
    t: &'static Texts,
    style: &'static str,
    script: &'static str,
    nonce: &'a str,
    /// Whether everybody may begin sign-ins.
    is_open: bool,
    providers: Vec<Choice<'a>>,
    is_demo: bool,
}

struct Choice<'a> {
    name: &'a str,
    title: String,
    monogram: char,
    is_reachable: bool,
}

/// What a settled session, or one without a code, looks like: its colour, its sign (SVG path data), its words.
struct Outcome(&'static str, &'static str, [&'static str; 2]);

const TICK: &str = "M14 25l7 7 13-15";
const CROSS: &str = "M17 17l14 14M31 17L17 31";
const HANDS: &str = "M24 13v12l8 5";
const DASH: &str = "M15 24h18";
const ALARM: &str = "M24 13v14M24 34v.5";
const DOTS: &str = "M15 24h.5M24 24h.5M33 24h.5";

/// `GET /`, for people only.
pub async fn start(Extracted(api): Extracted<Arc<Api>>, reading: Reading) -> Result<Response, Problem> {
    if reading.format == Format::Json {
        return Err(Code::NotFound.into());
    }
    let t = reading.texts;
    let nonce = nonce("start");
    let page = StartPage {
        t,
        style: STYLE,
        script: SCRIPT,
        nonce: &nonce,
        is_open: api.callers.are_anonymous(),
        providers: api.providers.values().map(|upstream| choice(upstream, t)).collect(),
        is_demo: api.restarts.is_some(),
    };
    let caching = [(header::CACHE_CONTROL, "no-store"), (header::VARY, "Accept, Accept-Language")];
    Ok((caching, html(&page, &nonce)?).into_response())
}

/// The page of one session; the same bytes for the same `tag`.
pub fn render(api: &Api, session: &Session, t: &'static Texts, tag: &str) -> Result<Response, Problem> {
    let opening = session.opening();
    let provider = api.providers.get(&*opening.provider).map_or(&*opening.provider, |upstream| &upstream.display_name);
    let Outcome(mood, sign, [headline, meaning]) = outcome(session, t);
    let meaning = t.about(meaning, provider);
    let prompt = session.prompt().and_then(|prompt| shown(session, prompt, api.sessions.clock().offset()));
    let says = match &prompt {
        Some(_) if session.provider_reachable() => t.waiting.to_owned(),
        Some(_) => t.about(t.unreachable, provider),
        None => format!("{}. {meaning}", headline.trim_end_matches('.')),
    };
    let nonce = nonce(&format!("{} {tag}", session.id()));
    let page = SessionPage {
        t,
        style: STYLE,
        script: SCRIPT,
        nonce: &nonce,
        title: t.about(t.title, provider),
        label: opening.label.as_deref().filter(|label| !label.is_empty()),
        // Readers of the JSON see it as pending, but there is no more for the person to do.
        status: if matches!(session.state(), State::Verifying(_)) { "verifying" } else { session.status().as_str() },
        is_settled: session.is_settled(),
        is_reachable: session.provider_reachable(),
        prompt,
        says,
        mood,
        sign,
        headline,
        meaning,
        restarts: api.restarts_of(session.id()),
    };
    html(&page, &nonce)
}

fn choice<'a>(upstream: &'a Upstream, t: &'static Texts) -> Choice<'a> {
    Choice {
        name: &upstream.name,
        title: t.about(t.start_with, &upstream.display_name),
        monogram: monogram(&upstream.display_name),
        is_reachable: upstream.gate.is_reachable(),
    }
}

fn shown<'a>(session: &Session, prompt: &'a Prompt, offset: Offset) -> Option<Shown<'a>> {
    let State::Pending(pending) = session.state() else { return None };
    let uri = &*prompt.verification_uri;
    let wall_expiry = offset.wall(prompt.expires_at);
    let expires_at = Rfc3339(wall_expiry).to_string();
    let size = match prompt.user_code.chars().count() {
        0..=9 => "",
        10..=15 => "long",
        _ => "longer",
    };
    Some(Shown {
        code: &prompt.user_code,
        size,
        address: uri.strip_prefix("https://").unwrap_or(uri).trim_end_matches('/'),
        link: web(uri),
        complete: prompt.verification_uri_complete.as_deref().and_then(web),
        qr: qr::encode(qr::address(prompt)).map(|code| qr::to_svg(&code)),
        began_at: offset.wall(pending.began_at()).as_millis(),
        expires_at_millis: wall_expiry.as_millis(),
        expires_at_time: expires_at.get(11..16).unwrap_or_default().to_owned(),
        expires_at,
    })
}

fn web(uri: &str) -> Option<&str> {
    ["https://", "http://"].iter().any(|scheme| uri.starts_with(scheme)).then_some(uri)
}

fn outcome(session: &Session, t: &'static Texts) -> Outcome {
    match session.state() {
        State::Starting | State::Pending(_) => Outcome("", DOTS, t.starting),
        State::Verifying(_) => Outcome("", DOTS, t.verifying),
        State::Authorized { .. } => Outcome("good", TICK, t.authorized),
        State::Claimed { .. } => Outcome("good", TICK, t.claimed),
        State::Denied { .. } => Outcome("bad", CROSS, t.denied),
        State::Expired { .. } => Outcome("care", HANDS, t.expired),
        State::Cancelled { .. } => Outcome("", DASH, t.cancelled),
        State::Failed { failure, .. } => Outcome("bad", ALARM, [t.failed, t.explain(*failure)]),
    }
}

fn monogram(name: &str) -> char {
    name.chars().find(|c| c.is_alphanumeric()).and_then(|c| c.to_uppercase().next()).unwrap_or('?')
}

fn html(page: &impl Template, nonce: &str) -> Result<Response, Problem> {
    let html = page.render().map_err(|_| Code::InternalError)?;
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::try_from(policy).map_err(|_| Code::InternalError)?;
    let opener = (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    Ok(([(header::CONTENT_SECURITY_POLICY, policy), opener], Html(html)).into_response())
}

/// The nonce of one page in our content security policy. It cannot be new each time: the same strong tag means the same bytes,
/// and a browser that is told 304 keeps the page with the policy that it has. Whoever wrote a label or a code before there was
/// the page can guess it as little as a random one.
fn nonce(page: &str) -> String {
    static KEY: LazyLock<[u8; 32]> = LazyLock::new(|| {
        let mut key = [0; 32];
        // Without randomness there are no session secrets, so no sessions and no pages of them.
        let _ = getrandom::fill(&mut key);
        key
    });
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::new().chain_update(*KEY).chain_update(page).finalize())
}
