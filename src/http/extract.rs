//! What handlers take from a request: ids, secrets, keys and bodies, or the [`Problem`] that is wrong with them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::problem::{Code, Problem};
use super::{Api, in_time};
use crate::kernel::session::{Digest, SessionId};

/// The session id of the path. Only the canonical form of RFC 9562 §4 counts: lower case, with hyphens. Whether there is such a
/// session, the table knows from here on.
pub struct Id(pub SessionId);

/// The session of the path, asked for with its own secret. Whatever is wrong, the answer is the same.
pub struct Owned(pub SessionId);

/// The `Idempotency-Key`, as its digest.
pub struct Key(pub Option<Digest>);

/// The same of a creation, whose repetition hands out the session secret: too long to be guessed.
pub struct CreationKey(pub Option<Digest>);

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The most that a request body may have, in bytes.
const BODY_LIMIT: usize = 64 * 1024;
/// How much of a body that is too large is still read, so that its sender gets to see the answer.
const BODY_DISCARD: usize = 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// For the store to say whether it has a session that has not been loaded yet.
const PATIENCE: Duration = Duration::from_secs(10);

impl FromRequestParts<Arc<Api>> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let unknown = || Problem::from(Code::SessionNotFound);
        let Path(text) = Path::<String>::from_request_parts(parts, api).await.map_err(|_| unknown())?;
        let id = Uuid::try_parse(&text).map_err(|_| unknown())?;
        let canonical = *id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text;
        if !canonical {
            return Err(unknown());
        }
        if api.sessions.is_loading() {
            in_time(api, PATIENCE, api.sessions.fetch(id)).await?;
        }
        Ok(Self(id))
    }
}

impl FromRequestParts<Arc<Api>> for Owned {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let Id(id) = Id::from_request_parts(parts, api).await?;
        let presented: Digest = Sha256::digest(bearer(&parts.headers).unwrap_or_default()).into();
        let session = api.sessions.get(id);
        let expected = session.as_ref().map_or([0; 32], |session| session.opening().secret);
        if session.is_some() & bool::from(expected.ct_eq(&presented)) { Ok(Self(id)) } else { Err(Code::SessionNotFound.into()) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let detail = "Idempotency-Key must be given once and have 1 to 255 visible ASCII characters.";
        idempotency_key(&parts.headers, 1).map(Self).map_err(|Malformed| Problem::invalid(detail))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CreationKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let detail =
            "Idempotency-Key must be given once and have 16 to 255 visible ASCII characters that nobody can guess, such as a fresh UUID.";
        idempotency_key(&parts.headers, 16).map(Self).map_err(|Malformed| Problem::invalid(detail))
    }
}

struct Malformed;

fn idempotency_key(headers: &HeaderMap, shortest: usize) -> Result<Option<Digest>, Malformed> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bytes = value.as_bytes();
    let key = bytes.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(bytes);
    if values.next().is_some() || !(shortest..=255).contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
        return Err(Malformed);
    }
    Ok(Some(Sha256::digest(key).into()))
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1), if there is exactly one.
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// The request body as the JSON object `T`, whose members are `members`; an empty body counts as `{}`.
///
/// # Errors
/// `payload_too_large`, `request_timeout`, `unsupported_media_type`, or `invalid_request` with the detail of the member that
/// is wrong.
pub async fn json_object<T: DeserializeOwned>(headers: &HeaderMap, body: Body, members: &[(&str, &'static str)]) -> Result<T, Problem> {
    let bytes = tokio::time::timeout(BODY_TIMEOUT, read(body)).await.map_err(|_| Code::RequestTimeout)??;
    if bytes.is_empty() {
        return parse(b"{}", members);
    }
    if !is_json(headers) {
        return Err(Code::UnsupportedMediaType.into());
    }
    parse(&bytes, members)
}

async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    // Announced to be far too large: not even asked for (`Expect: 100-continue`).
    if body.size_hint().lower() > BODY_DISCARD as u64 {
        return Err(Code::PayloadTooLarge.into());
    }
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut length = 0_usize;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::invalid("The request body broke off."))?;
        length = length.saturating_add(chunk.len());
        if length <= BODY_LIMIT {
            bytes.extend_from_slice(&chunk);
        } else if length > BODY_DISCARD {
            break;
        }
    }
    if length > BODY_LIMIT { Err(Code::PayloadTooLarge.into()) } else { Ok(bytes) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

fn parse<T: DeserializeOwned>(bytes: &[u8], members: &[(&str, &'static str)]) -> Result<T, Problem> {
    let malformed = Problem::invalid("The body must be one JSON object with known members, each at most once.");
    // Serde would take an array for a struct.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(malformed);
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let at = error.path().to_string();
        members.iter().find(|(name, _)| *name == at).map_or(malformed, |(_, detail)| Problem::invalid(detail))
    })?;
    json.end().map_err(|_| malformed)?;
    Ok(value)
}
