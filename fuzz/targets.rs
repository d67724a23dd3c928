//! What must hold whatever a provider answers. `cargo fuzz run device_answer`, and so on; `tests/fuzz_corpus.rs` runs the same
//! functions, bounded, on stable.

use std::time::Duration;

use anteroom::kernel::time::WallTime;
use anteroom::kernel::verdict::{Failure, Verdict};
use anteroom::provider::dialect::Dialect;
use anteroom::provider::exchange::Answer;
use anteroom::provider::id_token::{Decoded, Expected};
use anteroom::provider::presets::PRESETS;
use anteroom::provider::{classify, device, discovery, jwks};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);
const ISSUER: &str = "https://id.example.com";

/// A device authorization response: what people are shown is fit to be shown, or nothing is.
pub fn device_answer(data: &[u8]) {
    for allow_http in [false, true] {
        let Ok(device) = device::parse(data, allow_http, Duration::from_secs(1800)) else { continue };
        let shown = [Some(&device.verification_uri), device.verification_uri_complete.as_ref()];
        for uri in shown.into_iter().flatten() {
            assert!(uri.starts_with("https://") || uri.starts_with("http://"));
            assert!(uri.bytes().all(|byte| byte.is_ascii_graphic()) && uri.len() <= 2048);
        }
        assert!(!device.user_code.trim().is_empty() && !device.user_code.chars().any(char::is_control));
        assert!((Duration::from_secs(1)..=Duration::from_secs(24 * 3600)).contains(&device.expires_in));
        assert!(device.interval.is_none_or(|interval| !interval.is_zero()));
    }
}

/// A token response, at any status, in every dialect: tokens only where there are tokens.
pub fn token_answer(data: &[u8]) {
    let answered = Ok(answer(data));
    let Ok(Answer { status, .. }) = answered else { return };
    for dialect in dialects() {
        match classify::verdict(&answered, dialect) {
            Verdict::Authorized(grant) => {
                assert!((200..300).contains(&status));
                assert!(!grant.token_type.is_empty() && grant.claims.is_none());
                assert!(grant.expires_at.is_none_or(|at| at > NOW));
            }
            Verdict::SlowDown { interval, .. } => assert!(interval.is_none_or(|interval| !interval.is_zero())),
            Verdict::Gibberish { tolerated, .. } => assert!(tolerated <= 5),
            Verdict::Redirected => assert!((300..400).contains(&status)),
            _ => {}
        }
    }
}

/// Why there is no device code: never a reason that a session could not have, and none where there may be a code.
pub fn error_body(data: &[u8]) {
    let answer = answer(data);
    for dialect in dialects() {
        match classify::refusal(&answer, dialect) {
            None => assert!((200..300).contains(&answer.status)),
            Some(failure) => assert!(!matches!(failure, Failure::GrantLost | Failure::IdTokenInvalid | Failure::InternalError)),
        }
        assert!(!classify::complaint(&answer, dialect).is_empty());
    }
}

/// The provider's metadata: every endpoint that is believed is safe to be asked.
pub fn discovery(data: &[u8]) {
    let answer = Answer { status: 200, received_at: NOW, date: None, retry_after: None, body: data.to_vec() };
    let Ok(metadata) = discovery::parse(&answer, ISSUER, false) else { return };
    let endpoints = [metadata.device_authorization_endpoint, metadata.token_endpoint, metadata.revocation_endpoint, metadata.jwks_uri];
    for endpoint in endpoints.into_iter().flatten() {
        let is_loopback =
            matches!(endpoint.host_str(), Some(host) if host.starts_with("127.") || host == "[::1]" || host.ends_with("localhost"));
        assert!(endpoint.scheme() == "https" || is_loopback, "{endpoint}");
        assert!(endpoint.username().is_empty() && endpoint.password().is_none());
    }
}

/// A set of keys: never more of them than are looked at.
pub fn jwks(data: &[u8]) {
    if let Some(keys) = jwks::parse(data) {
        assert!(keys.len() <= 100);
    }
}

/// An ID token, taken as it is and as the payload of an otherwise acceptable one: nothing in it breaks what reads it.
pub fn id_token(data: &[u8]) {
    let expected = Expected { issuer: Some(ISSUER), client_id: "tv-app", access_token: "an-access-token", arrived_at: NOW, now: NOW };
    let encoded = BASE64_URL_SAFE_NO_PAD.encode(data);
    let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA"}"#);
    for token in [String::from_utf8_lossy(data).into_owned(), format!("{header}.{encoded}.AA"), format!("{encoded}.{encoded}.AA")] {
        let Ok(decoded) = Decoded::read(&token) else { continue };
        if let Ok(good) = decoded.check(&expected) {
            assert!(good.claims.len() <= 64 * 1024);
        }
    }
}

/// The first byte chooses the status and whether there is a Retry-After.
fn answer(data: &[u8]) -> Answer {
    const STATUSES: [u16; 16] = [200, 400, 200, 400, 201, 302, 401, 403, 404, 408, 409, 418, 428, 429, 500, 503];
    let (first, body) = data.split_first().map_or((0, data), |(first, body)| (*first, body));
    let retry_after = (first >= 128).then(|| Duration::from_secs(u64::from(first)));
    Answer { status: STATUSES[usize::from(first) % STATUSES.len()], received_at: NOW, date: None, retry_after, body: body.to_vec() }
}

fn dialects() -> impl Iterator<Item = &'static Dialect> {
    PRESETS.iter().map(|preset| &preset.dialect).chain([&Dialect::RFC8628])
}
