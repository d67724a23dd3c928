//! The sign-in page of one session, for a browser that has nothing but its link.
//!
//! The page is the same bytes for the same tag, so its script and style are allowed by hash, not by a nonce, which would be new
//! each time and, in a 304, would lock out the script that a browser has cached.

use std::sync::LazyLock;

use askama::Template;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::Api;
use super::problem::{Code, Problem};
use super::view::{Rfc3339, explain};
use crate::kernel::session::{Session, State, Status};

/// The language of the page, a part of its tag.
pub const LANGUAGE: &str = "en";

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

#[derive(Template)]
#[template(path = "page.html", config = "src/http/askama.toml")]
struct Page<'a> {
    style: &'static str,
    script: &'static str,
    provider: &'a str,
    label: Option<&'a str>,
    status: &'static str,
    says: &'static str,
    is_settled: bool,
    prompt: Option<Shown<'a>>,
    restarts: Option<u32>,
}

/// The code, while it can be used.
struct Shown<'a> {
    code: &'a str,
    uri: &'a str,
    /// Absent when the provider's URI is no web address: it is shown then, but not linked.
    link: Option<&'a str>,
    expires_at: String,
    /// Hours and minutes of `expires_at`.
    expires_at_time: String,
}

pub fn render(api: &Api, session: &Session) -> Result<Response, Problem> {
    let opening = session.opening();
    let provider = api.providers.get(&*opening.provider).map_or(&*opening.provider, |upstream| &upstream.display_name);
    let page = Page {
        style: STYLE,
        script: SCRIPT,
        provider,
        label: opening.label.as_deref().filter(|label| !label.is_empty()),
        status: session.status().as_str(),
        says: says(session),
        is_settled: session.is_settled(),
        prompt: shown(session),
        restarts: api.restarts_of(session.id()),
    };
    let html = page.render().map_err(|_| Code::InternalError)?;
    let policy = HeaderValue::try_from(POLICY.as_str()).map_err(|_| Code::InternalError)?;
    Ok(([(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response())
}

fn shown(session: &Session) -> Option<Shown<'_>> {
    let prompt = session.prompt().filter(|_| session.status() == Status::Pending)?;
    let uri = &*prompt.verification_uri;
    let link = prompt.verification_uri_complete.as_deref().unwrap_or(uri);
    let link = ["https://", "http://"].iter().any(|scheme| link.starts_with(scheme)).then_some(link);
    let expires_at = Rfc3339(prompt.expires_at).to_string();
    let expires_at_time = expires_at.get(11..16).unwrap_or_default().to_owned();
    Some(Shown { code: &prompt.user_code, uri, link, expires_at, expires_at_time })
}

fn says(session: &Session) -> &'static str {
    match session.state() {
        State::Starting => "Asking the provider for a code…",
        State::Pending(_) if session.provider_reachable() => "Waiting for you to enter the code.",
        State::Pending(_) => "The provider cannot be reached at the moment. We keep trying; your code stays as it is.",
        State::Verifying(_) => "You have signed in. The provider's answer is being checked.",
        State::Authorized { .. } => "You have signed in. Go back to your device.",
        State::Claimed { .. } => "You are signed in. You can close this page.",
        State::Denied { .. } => "The sign-in was declined.",
        State::Expired { .. } => "The time for this sign-in is over. Start again on your device.",
        State::Cancelled { .. } => "The sign-in was cancelled.",
        State::Failed { failure, .. } => explain(*failure),
    }
}

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let (style, script) = (hash(STYLE), hash(SCRIPT));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    )
});
