//! What an answer of the token endpoint means (RFC 8628 §3.5), and why a device authorization request got no code.
//!
//! The error code in the body decides, at whatever status it comes: providers send `authorization_pending` with 200, 400, 401,
//! 403, 428 and 429. Only an answer without a code is judged by its status. Pure functions over [`Answer`].

use core::time::Duration;
use std::sync::Arc;

use secrecy::SecretString;
use serde_json::Value;

use super::body::{Body, Number, whole_seconds};
use super::dialect::{Dialect, Meaning};
use super::exchange::{Answer, NoAnswer};
use crate::kernel::time::WallTime;
use crate::kernel::verdict::{Failure, Grant, Revocation, Verdict};

/// The error codes that everybody uses and that do not end a sign-in as rejected.
const VOCABULARY: &[(&str, Meaning)] = &[
    ("authorization_pending", Meaning::Pending),
    ("slow_down", Meaning::SlowDown),
    ("access_denied", Meaning::Denied),
    ("authorization_declined", Meaning::Denied),
    ("expired_token", Meaning::Expired),
    ("token_expired", Meaning::Expired),
    ("code_expired", Meaning::Expired),
    ("invalid_grant", Meaning::DeadCode),
    ("bad_verification_code", Meaning::DeadCode),
    ("incorrect_device_code", Meaning::DeadCode),
    ("invalid_code_pair", Meaning::DeadCode),
    ("rate_limit_exceeded", Meaning::Throttled),
];

/// Entra ID: `invalid_grant` with this number means that we ask too often, not that the code is dead.
const ENTRA_LOOP_DETECTED: &str = "50196";
const ENTRA_LOOP_PAUSE: Duration = Duration::from_secs(60);

/// What the operator should look at, for the codes that are the configuration's fault more often than not.
const COMPLAINTS: &[(&str, &str)] = &[
    ("invalid_client", "invalid_client: check `client_id`, `client_secret` and `client_auth`"),
    ("incorrect_client_credentials", "incorrect_client_credentials: check `client_id` and `client_secret`"),
    ("unauthorized_client", "unauthorized_client: allow this client the device grant, at the provider"),
    ("device_flow_disabled", "device_flow_disabled: enable the device grant for this client, at the provider"),
    ("unsupported_grant_type", "unsupported_grant_type: enable the device grant, at the provider"),
    ("invalid_scope", "invalid_scope: check `scopes` and `allowed_scopes`"),
    ("invalid_target", "invalid_target: check `resource` and `audience`"),
    ("invalid_request", "invalid_request: a parameter is missing or not wanted; check `pkce` and `audience`"),
    ("invalid_grant", "invalid_grant: allow this client the device grant, at the provider"),
    ("access_denied", "access_denied: the provider refuses this client"),
];

/// What the operator can do where tokens are not revoked.
const UNKNOWN_CLIENT: &str = "check `client_id`, `client_secret` and `client_auth`: the revocation endpoint does not accept this client";
const NOT_PERMITTED: &str = "allow this client to revoke its tokens, at the provider";
pub const NOT_REVOKING: &str = "check `revocation_endpoint`: what is there revokes nothing";

/// How many answers without meaning are borne in a row: a portal's page at 200 may go away, a bare 4xx hardly will.
const TOLERATED_SUCCESSES: u8 = 5;
const TOLERATED_REFUSALS: u8 = 2;

const MAX_TOKEN: usize = 64 * 1024;
/// Longer lifetimes are cut, so that every time can be written as a date.
const MAX_LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The verdict on one token request.
pub fn verdict(answered: &Result<Answer, NoAnswer>, dialect: &Dialect) -> Verdict {
    let answer = match answered {
        Ok(answer) => answer,
        Err(NoAnswer::NotConnected(_)) => return Verdict::Unreachable { ambiguous: false, retry_after: None },
        Err(NoAnswer::TimedOut | NoAnswer::Broken) => return Verdict::Unreachable { ambiguous: true, retry_after: None },
    };
    let &Answer { status, retry_after, received_at, .. } = answer;
    if is_redirect(status) {
        return Verdict::Redirected;
    }
    let body = Body::parse(&answer.body);
    let said = body.as_ref().and_then(|body| error_code(body, dialect));
    let meaning = dialect.status(status).or_else(|| meaning(said.as_deref()?, dialect));
    let Some(meaning) = meaning else {
        return match said {
            Some(_) => with_unknown_code(status, retry_after),
            None => without_code(status, retry_after, body.and_then(|body| grant(body, received_at))),
        };
    };
    match meaning {
        Meaning::Pending => Verdict::Pending,
        Meaning::SlowDown => Verdict::SlowDown { interval: body.as_ref().and_then(Body::interval), retry_after },
        Meaning::Denied => Verdict::Denied,
        Meaning::DeniedOrDead => Verdict::DeniedOrDead,
        Meaning::Expired => Verdict::Expired,
        Meaning::DeadCode if body.as_ref().is_some_and(is_entra_loop) => {
            Verdict::Throttled { retry_after: Some(retry_after.unwrap_or_default().max(ENTRA_LOOP_PAUSE)) }
        }
        Meaning::DeadCode => Verdict::DeadCode,
        Meaning::Throttled => Verdict::Throttled { retry_after },
        Meaning::Outage => Verdict::Unreachable { ambiguous: true, retry_after },
    }
}

fn with_unknown_code(status: u16, retry_after: Option<Duration>) -> Verdict {
    match status {
        500.. => Verdict::Unreachable { ambiguous: true, retry_after },
        429 => Verdict::Throttled { retry_after },
        408 | 425 => Verdict::Unreachable { ambiguous: false, retry_after },
        _ => Verdict::Rejected,
    }
}

fn without_code(status: u16, retry_after: Option<Duration>, grant: Option<Grant>) -> Verdict {
    match (status, grant) {
        (200..=299, Some(grant)) => Verdict::Authorized(Arc::new(grant)),
        (500.., _) => Verdict::Unreachable { ambiguous: true, retry_after },
        (429, _) => Verdict::Throttled { retry_after },
        (403 | 408 | 425, _) => Verdict::Unreachable { ambiguous: false, retry_after },
        (400..=499, _) => Verdict::Gibberish { ambiguous: false, tolerated: TOLERATED_REFUSALS },
        _ => Verdict::Gibberish { ambiguous: true, tolerated: TOLERATED_SUCCESSES },
    }
}

/// Why this answer to a device authorization request brings no code; absent when it may bring one: a 2xx without an error.
pub fn refusal(answer: &Answer, dialect: &Dialect) -> Option<Failure> {
    let code = Body::parse(&answer.body).and_then(|body| error_code(&body, dialect));
    let meaning = code.as_deref().and_then(|code| meaning(code, dialect));
    match (answer.status, meaning, code) {
        (300..=399, ..) => Some(Failure::ProviderInvalidResponse),
        (_, Some(Meaning::SlowDown | Meaning::Throttled), _) | (429, ..) => {
            Some(Failure::ProviderRateLimited { retry_after_secs: answer.retry_after.map(|wait| wait.as_secs()) })
        }
        (500.., ..) | (_, Some(Meaning::Outage), _) => Some(Failure::ProviderUnreachable),
        (_, _, Some(_)) => Some(Failure::ProviderRejected),
        (200..=299, _, None) => None,
        _ => Some(Failure::ProviderInvalidResponse),
    }
}

/// What an answer of the revocation endpoint (RFC 7009 §2.2) says of one token. An outage alone is worth another try: whatever else
/// is said, it will be said again.
pub fn revocation(answered: &Result<Answer, NoAnswer>, dialect: &Dialect) -> Revocation {
    let Ok(answer) = answered else { return Revocation::Failed };
    let code = Body::parse(&answer.body).and_then(|body| error_code(&body, dialect));
    match (answer.status, code.as_deref()) {
        (501, _) => Revocation::Unsupported,
        (300..=399 | 408 | 425 | 429 | 500.., _) | (_, Some("temporarily_unavailable" | "server_error")) => Revocation::Failed,
        (_, Some(code)) if matches!(meaning(code, dialect), Some(Meaning::SlowDown | Meaning::Throttled | Meaning::Outage)) => {
            Revocation::Failed
        }
        (_, Some("unauthorized_client")) => Revocation::Refused(NOT_PERMITTED),
        (_, Some("invalid_client" | "incorrect_client_credentials")) => Revocation::Refused(UNKNOWN_CLIENT),
        (_, Some("unsupported_token_type")) => {
            Revocation::Refused("the provider does not revoke this kind of token, it ends when it expires")
        }
        (401, _) => Revocation::Refused(UNKNOWN_CLIENT),
        (403, _) => Revocation::Refused(NOT_PERMITTED),
        (404 | 405, _) => Revocation::Unsupported,
        // A token that the provider does not know, or no more.
        (200..=299 | 400 | 410, _) => Revocation::Revoked,
        _ => Revocation::Refused(NOT_REVOKING),
    }
}

/// Why there is no code when there is no answer. Half an answer counts as an outage, not as nonsense.
pub fn failure(no_answer: NoAnswer) -> Failure {
    match no_answer {
        NoAnswer::NotConnected(_) | NoAnswer::Broken => Failure::ProviderUnreachable,
        NoAnswer::TimedOut => Failure::ProviderTimeout,
    }
}

/// Words for the log about an OAuth error. They are ours: a provider's own text could be anything, so an unknown code is not
/// repeated.
pub fn complaint(answer: &Answer, dialect: &Dialect) -> &'static str {
    let code = Body::parse(&answer.body).and_then(|body| error_code(&body, dialect)).unwrap_or_default();
    COMPLAINTS.iter().find(|(word, _)| *word == code).map_or("another error code", |(_, words)| words)
}

pub fn is_redirect(status: u16) -> bool {
    (300..=399).contains(&status)
}

fn error_code(body: &Body, dialect: &Dialect) -> Option<String> {
    let code = |member: &&str| Some(body.text(member)?.trim().to_ascii_lowercase()).filter(|code| !code.is_empty());
    dialect.error_members.iter().find_map(code)
}

fn meaning(code: &str, dialect: &Dialect) -> Option<Meaning> {
    let usual = || VOCABULARY.iter().find(|(word, _)| *word == code).map(|(_, meaning)| *meaning);
    dialect.word(code).or_else(usual)
}

fn is_entra_loop(body: &Body) -> bool {
    let in_codes = body.get("error_codes").and_then(Value::as_array).is_some_and(|codes| {
        codes.iter().any(|code| code.as_u64().is_some_and(|code| code.to_string() == ENTRA_LOOP_DETECTED) || code == ENTRA_LOOP_DETECTED)
    });
    in_codes || body.text("error_description").is_some_and(|text| text.contains(&format!("AADSTS{ENTRA_LOOP_DETECTED}")))
}

/// RFC 6749 §5.1. Only the access token must be there and sound; the rest is read leniently.
fn grant(mut body: Body, received_at: WallTime) -> Option<Grant> {
    let access_token = body.take_text("access_token").filter(|token| token.len() <= MAX_TOKEN)?;
    let expires_at = match body.number("expires_in") {
        // Some providers write 0 for "never".
        Number::Seconds(seconds) if seconds > 0.0 => Some(received_at + whole_seconds(seconds).min(MAX_LIFETIME)),
        _ => None,
    };
    Some(Grant {
        access_token: access_token.into(),
        token_type: body.take_text("token_type").map_or_else(|| "Bearer".into(), String::into_boxed_str),
        expires_at,
        refresh_token: body.take_text("refresh_token").map(SecretString::from),
        id_token: body.take_text("id_token").map(SecretString::from),
        scope: scope(&body),
        arrived_at: Some(received_at),
        claims: None,
    })
}

/// Space separated, whether it came so, as an array or as a comma list.
fn scope(body: &Body) -> Option<Box<str>> {
    let scopes: Vec<&str> = match (body.text("scope"), body.list("scope")) {
        (Some(text), _) if text.contains(' ') => text.split_whitespace().map(|scope| scope.trim_end_matches(',')).collect(),
        (Some(text), _) => text.split(',').collect(),
        (None, Some(list)) => list,
        (None, None) => return None,
    };
    let scopes: Vec<&str> = scopes.into_iter().map(str::trim).filter(|scope| !scope.is_empty()).collect();
    (!scopes.is_empty()).then(|| scopes.join(" ").into_boxed_str())
}

#[cfg(test)]
mod tests;
