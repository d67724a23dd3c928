//! Client authentication (RFC 6749 §2.3, RFC 7523): exactly the one method that the client is registered for.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::Value;
use subtle::ConstantTimeEq;
use url::form_urlencoded;

use super::form::Form;
use super::options::{Client, ClientAuth};
use crate::kernel::time::WallTime;

/// Why a client is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// `invalid_request`: no client, two methods at once, or two different clients.
    Malformed(&'static str),
    /// `invalid_client`. The answer challenges whoever used the `Authorization` header (RFC 6749 §5.2).
    Unknown { challenge: bool },
}

/// The assertions that were taken, while they could be used again.
#[derive(Default)]
pub struct Assertions(HashMap<String, WallTime>);

/// Whom an assertion may be for, and now.
pub struct Here<'a> {
    pub audiences: [&'a str; 2],
    pub now: WallTime,
}

/// Finds the client that sent the request and checks its credentials.
pub fn authenticate<'a>(
    clients: &'a [Client],
    assertions: &mut Assertions,
    headers: &HeaderMap,
    form: &Form,
    here: &Here<'_>,
) -> Result<&'a Client, Refused> {
    let basic = match headers.get(AUTHORIZATION) {
        None => None,
        Some(value) => Some(value.to_str().ok().and_then(parse_basic).ok_or(Refused::Unknown { challenge: true })?),
    };
    let posted = form.get("client_secret");
    let id = match (&basic, form.get("client_id")) {
        (Some(_), _) if posted.is_some() => return Err(Refused::Malformed("only one way of client authentication may be used")),
        (Some((id, _)), Some(in_body)) if id != in_body => {
            return Err(Refused::Malformed("client_id differs from the authorization header"));
        }
        (Some((id, _)), _) => id.as_str(),
        (None, Some(in_body)) => in_body,
        (None, None) => return Err(Refused::Malformed("client_id is missing")),
    };
    let client = clients.iter().find(|client| client.id == id);
    let asserted = form.get("client_assertion").filter(|_| form.get("client_assertion_type") == Some(JWT_BEARER));
    let proven = client.is_some_and(|client| match (&client.auth, &basic, posted, asserted) {
        (ClientAuth::None, None, None, None) => true,
        (ClientAuth::SecretBasic(secret), Some((_, given)), _, None) => same(secret, given),
        (ClientAuth::SecretPost(secret), None, Some(given), None) => same(secret, given),
        (ClientAuth::PrivateKeyJwt(key), None, None, Some(assertion)) => assertions.accept(assertion, key, id, here),
        _ => false,
    });
    client.filter(|_| proven).ok_or(Refused::Unknown { challenge: basic.is_some() })
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const LONGEST_ASSERTION: Duration = Duration::from_secs(300);

impl Assertions {
    /// RFC 7523 §3: signed by the client, about the client, for us, short-lived, and never seen before.
    fn accept(&mut self, assertion: &str, key: &Jwk, client: &str, here: &Here<'_>) -> bool {
        let &Here { audiences, now } = here;
        let Some((claims, expires_at)) = claims(assertion, key, client, audiences) else { return false };
        self.0.retain(|_, expires_at| *expires_at > now);
        let is_fresh = now < expires_at && expires_at <= now + LONGEST_ASSERTION;
        let Some(id) = claims.get("jti").and_then(Value::as_str) else { return false };
        is_fresh && !id.is_empty() && self.0.insert(id.to_owned(), expires_at).is_none()
    }
}

fn claims(assertion: &str, key: &Jwk, client: &str, audiences: [&str; 2]) -> Option<(Value, WallTime)> {
    let mut validation = Validation::new(decode_header(assertion).ok()?.alg);
    validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
    // The time is that of our clock.
    validation.validate_exp = false;
    validation.set_issuer(&[client]);
    validation.sub = Some(client.to_owned());
    validation.set_audience(&audiences);
    let claims: Value = decode(assertion, &DecodingKey::from_jwk(key).ok()?, &validation).ok()?.claims;
    let expires_at = WallTime::default() + Duration::from_secs(claims.get("exp")?.as_u64()?);
    Some((claims, expires_at))
}

/// Id and secret, each form-encoded before they were joined (RFC 6749 §2.3.1).
fn parse_basic(value: &str) -> Option<(String, String)> {
    let (scheme, credentials) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decode(id)?, form_decode(secret)?))
}

/// A raw `&` or `=` was not encoded, so it is taken as it is by nobody: refused.
fn form_decode(text: &str) -> Option<String> {
    if text.contains(['&', '=']) {
        return None;
    }
    Some(form_urlencoded::parse(text.as_bytes()).map(|(name, _)| name.into_owned()).next().unwrap_or_default())
}

fn same(known: &str, given: &str) -> bool {
    known.as_bytes().ct_eq(given.as_bytes()).into()
}
