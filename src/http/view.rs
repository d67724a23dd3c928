//! What others get to see of a session: members, names and times as JSON.

use std::fmt::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::kernel::session::{Session, State};
use crate::kernel::time::{Offset, WallTime};
use crate::kernel::verdict::{Failure, Grant};

/// The watcher's view. With the secret it is the owner's, which exists only in the answer to `POST /sessions`.
pub struct SessionView<'a> {
    id: uuid::Uuid,
    secret: Option<&'a str>,
    status: &'static str,
    provider: &'a str,
    label: Option<&'a str>,
    user_code: Option<&'a str>,
    verification_uri: Option<&'a str>,
    verification_uri_complete: Option<&'a str>,
    expires_at: Option<Rfc3339>,
    provider_reachable: bool,
    revision: u64,
    claim_by: Option<Rfc3339>,
    failure: Option<Failure>,
}

/// A JSON object, member by member. Serde takes twice as long: it looks at every byte of every name for what to escape.
struct Object(String);

/// As much as a session takes with addresses of ordinary length.
const ROOM: usize = 640;

/// The tokens, as their owner gets them.
#[derive(Serialize)]
pub struct GrantView<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_at: Option<Rfc3339>,
    refresh_token: Option<&'a str>,
    id_token: Option<&'a str>,
    scope: Option<&'a str>,
    claims: Option<&'a RawValue>,
}

/// A moment in RFC 3339, UTC; with milliseconds unless it is a whole second.
#[derive(Clone, Copy)]
pub struct Rfc3339(pub WallTime);

impl<'a> SessionView<'a> {
    pub fn new(session: &'a Session, secret: Option<&'a SecretString>, offset: Offset) -> Self {
        let opening = session.opening();
        let prompt = session.prompt();
        let (claim_by, failure) = match session.state() {
            State::Authorized { claim_by, .. } => (Some(Rfc3339(offset.wall(*claim_by))), None),
            State::Failed { failure, .. } => (None, Some(*failure)),
            _ => (None, None),
        };
        Self {
            id: opening.id,
            secret: secret.map(ExposeSecret::expose_secret),
            status: session.status().as_str(),
            provider: &opening.provider,
            label: opening.label.as_deref(),
            user_code: prompt.map(|prompt| &*prompt.user_code),
            verification_uri: prompt.map(|prompt| &*prompt.verification_uri),
            verification_uri_complete: prompt.and_then(|prompt| prompt.verification_uri_complete.as_deref()),
            expires_at: prompt.map(|prompt| Rfc3339(offset.wall(prompt.expires_at))),
            provider_reachable: session.provider_reachable(),
            revision: session.revision(),
            claim_by,
            failure,
        }
    }
}

impl SessionView<'_> {
    pub fn to_json(&self) -> String {
        let mut json = Object(String::with_capacity(ROOM));
        json.quoted("id", self.id);
        if let Some(secret) = self.secret {
            json.text("secret", Some(secret));
        }
        json.text("status", Some(self.status));
        json.text("provider", Some(self.provider));
        json.text("label", self.label);
        json.text("user_code", self.user_code);
        json.text("verification_uri", self.verification_uri);
        json.text("verification_uri_complete", self.verification_uri_complete);
        match self.expires_at {
            Some(at) => json.quoted("expires_at", at),
            None => json.text("expires_at", None),
        }
        json.plain("provider_reachable", self.provider_reachable);
        json.plain("revision", self.revision);
        if let Some(at) = self.claim_by {
            json.quoted("claim_by", at);
        }
        if let Some(failure) = self.failure {
            let mut inner = Object(String::new());
            inner.text("code", Some(failure.code()));
            inner.text("detail", Some(explain(failure)));
            json.plain("failure", inner.end());
        }
        json.end()
    }
}

impl IntoResponse for SessionView<'_> {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

impl Object {
    fn name(&mut self, name: &'static str) -> &mut String {
        self.0.push_str(if self.0.is_empty() { "{\"" } else { ",\"" });
        self.0.push_str(name);
        self.0.push_str("\":");
        &mut self.0
    }

    /// A member that is a string or null.
    fn text(&mut self, name: &'static str, value: Option<&str>) {
        let json = self.name(name);
        let Some(value) = value else { return json.push_str("null") };
        // All of it at once, eight bytes and more in a step.
        let is_odd = value.bytes().fold(false, |odd, byte| odd | (byte < b' ') | (byte == b'"') | (byte == b'\\'));
        if is_odd {
            self.plain_value(serde_json::Value::from(value));
        } else {
            json.push('"');
            json.push_str(value);
            json.push('"');
        }
    }

    /// A member that is a string, of something that needs no escaping.
    fn quoted(&mut self, name: &'static str, value: impl fmt::Display) {
        self.name(name).push('"');
        self.plain_value(value);
        self.0.push('"');
    }

    /// A member that is JSON as it is written.
    fn plain(&mut self, name: &'static str, value: impl fmt::Display) {
        self.name(name);
        self.plain_value(value);
    }

    fn plain_value(&mut self, value: impl fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{value}");
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

impl<'a> GrantView<'a> {
    pub fn new(grant: &'a Grant) -> Self {
        Self {
            access_token: grant.access_token.expose_secret(),
            token_type: &grant.token_type,
            expires_at: grant.expires_at.map(Rfc3339),
            refresh_token: grant.refresh_token.as_ref().map(ExposeSecret::expose_secret),
            id_token: grant.id_token.as_ref().map(ExposeSecret::expose_secret),
            scope: grant.scope.as_deref(),
            claims: grant.claims.as_ref().and_then(|claims| serde_json::from_str(claims.expose_secret()).ok()),
        }
    }
}

/// Why a sign-in failed, for the person who looks into it.
pub fn explain(failure: Failure) -> &'static str {
    match failure {
        Failure::GrantLost => "The provider spent the code, but its answer with the tokens never arrived. Sign in again.",
        Failure::IdTokenInvalid => "The provider's ID token did not pass verification.",
        Failure::ProviderRejected => "The provider refused the sign-in.",
        Failure::ProviderInvalidResponse => "The provider's answer does not follow the protocol.",
        Failure::InternalError => "Something went wrong on our side.",
        Failure::ProviderUnreachable => "The provider could not be reached.",
        Failure::ProviderRateLimited { .. } => "The provider limits how often it may be asked.",
        Failure::ProviderTimeout => "The provider did not answer in time.",
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// 9999-12-31T23:59:59Z, the last second that the format can hold.
        const LAST: u64 = 253_402_300_799_000;
        let millis = self.0.as_millis().min(LAST);
        let time = UNIX_EPOCH + Duration::from_millis(millis);
        if millis.is_multiple_of(1000) {
            humantime::format_rfc3339_seconds(time).fmt(f)
        } else {
            humantime::format_rfc3339_millis(time).fmt(f)
        }
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
