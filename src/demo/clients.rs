//! Client authentication (RFC 6749 §2.3): exactly the one method that the client is registered for.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use url::form_urlencoded;

use super::form::Form;
use super::options::{Client, ClientAuth};

/// Why a client is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// `invalid_request`: no client, two methods at once, or two different clients.
    Malformed(&'static str),
    /// `invalid_client`. The answer challenges whoever used the `Authorization` header (RFC 6749 §5.2).
    Unknown { challenge: bool },
}

/// Finds the client that sent the request and checks its credentials.
pub fn authenticate<'a>(clients: &'a [Client], headers: &HeaderMap, form: &Form) -> Result<&'a Client, Refused> {
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
    let proven = client.is_some_and(|client| match (&client.auth, &basic, posted) {
        (ClientAuth::None, None, None) => true,
        (ClientAuth::SecretBasic(secret), Some((_, given)), _) => same(secret, given),
        (ClientAuth::SecretPost(secret), None, Some(given)) => same(secret, given),
        _ => false,
    });
    client.filter(|_| proven).ok_or(Refused::Unknown { challenge: basic.is_some() })
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
