//! What a provider can say, and what comes of it, free of wire formats.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::time::{Timestamp, WallTime};

/// A provider's answer to one token request (RFC 8628 §3.5), classified.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// `authorization_pending`.
    Pending,
    /// `slow_down`, with the interval and Retry-After that came along.
    SlowDown { interval: Option<Duration>, retry_after: Option<Duration> },
    /// The tokens; what their ID token claims is verified, unless there is none or nothing to verify it with.
    Authorized(Arc<Grant>),
    /// Tokens whose ID token cannot be verified yet: the provider's keys are not at hand.
    Unverified(Arc<Grant>),
    /// Tokens whose ID token is not what it should be: nobody may have them.
    Untrusted(Arc<Grant>),
    /// `access_denied` and its synonyms.
    Denied,
    /// The same, of a provider that says it of a code that was spent as well.
    DeniedOrDead,
    /// `expired_token` and its synonyms.
    Expired,
    /// `invalid_grant` and its synonyms: the provider does not know the code any more.
    DeadCode,
    /// Any other OAuth error: polling must stop (RFC 8628 §3.5).
    Rejected,
    /// No answer, or one that says nothing of the sign-in (5xx, a proxy's page). `ambiguous`: the request may have reached the
    /// provider, so the code may be spent.
    Unreachable { ambiguous: bool, retry_after: Option<Duration> },
    /// The provider limits our rate (429) without saying `slow_down`.
    Throttled { retry_after: Option<Duration> },
    /// An answer that is no OAuth. Up to `tolerated` in a row count as unreachable; one more fails the session.
    Gibberish { ambiguous: bool, tolerated: u8 },
    /// A redirect: secrets are not sent elsewhere, so no sign-in can work.
    Redirected,
}

/// A device authorization response (RFC 8628 §3.2), checked and clamped.
#[derive(Clone, Debug)]
pub struct Began {
    pub device_code: Arc<DeviceCode>,
    pub prompt: Prompt,
    /// Absent: the default of 5 s.
    pub interval: Option<Duration>,
}

/// What only Anteroom and the provider know of a sign-in in progress.
#[derive(Clone, Debug)]
pub struct DeviceCode {
    /// The code and the verifier behind it, as one text: each waiting person costs one of these.
    texts: SecretString,
    verifier_at: usize,
    /// The endpoint that the code belongs to; it is asked nowhere else.
    pub token_endpoint: Arc<str>,
}

/// What the person is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    pub user_code: Box<str>,
    pub verification_uri: Arc<str>,
    pub verification_uri_complete: Option<Box<str>>,
    pub expires_at: Timestamp,
}

/// Without the code: whoever has it can approve.
impl fmt::Debug for Prompt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Prompt").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// A token response (RFC 6749 §5.1), with its lifetime made absolute so that it stays true.
#[derive(Clone, Debug)]
pub struct Grant {
    pub access_token: SecretString,
    pub token_type: Box<str>,
    pub expires_at: Option<WallTime>,
    pub refresh_token: Option<SecretString>,
    pub id_token: Option<SecretString>,
    pub scope: Option<Box<str>>,
    /// When it arrived: its ID token is judged by that. Absent for one that an older version stored.
    pub arrived_at: Option<WallTime>,
    /// The verified claims of the ID token, as JSON text. Absent when none was verified. They say who somebody is.
    pub claims: Option<SecretString>,
}

/// Why a session is `failed`. The last three can only end a session that never got a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The provider has spent the code, but its answer with the tokens never arrived.
    GrantLost,
    IdTokenInvalid,
    ProviderRejected,
    ProviderInvalidResponse,
    InternalError,
    ProviderUnreachable,
    ProviderRateLimited {
        retry_after_secs: Option<u64>,
    },
    ProviderTimeout,
}

impl DeviceCode {
    /// With a PKCE `code_verifier` (RFC 7636) where the provider takes it. An empty one is none.
    pub fn new(code: &str, code_verifier: Option<&str>, token_endpoint: Arc<str>) -> Self {
        let texts = [code, code_verifier.unwrap_or_default()].concat();
        Self { texts: texts.into(), verifier_at: code.len(), token_endpoint }
    }

    pub fn expose_code(&self) -> &str {
        self.exposed().0
    }

    pub fn expose_code_verifier(&self) -> Option<&str> {
        Some(self.exposed().1).filter(|verifier| !verifier.is_empty())
    }

    fn exposed(&self) -> (&str, &str) {
        self.texts.expose_secret().split_at_checked(self.verifier_at).unwrap_or_default()
    }
}

impl Verdict {
    /// The tokens that came, if any did.
    pub fn grant(&self) -> Option<&Arc<Grant>> {
        match self {
            Self::Authorized(grant) | Self::Unverified(grant) | Self::Untrusted(grant) => Some(grant),
            _ => None,
        }
    }

    /// For metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::SlowDown { .. } => "slow_down",
            Self::Authorized(_) => "authorized",
            Self::Unverified(_) => "unverified",
            Self::Untrusted(_) => "untrusted",
            Self::Denied => "denied",
            Self::DeniedOrDead => "denied_or_dead",
            Self::Expired => "expired",
            Self::DeadCode => "dead_code",
            Self::Rejected => "rejected",
            Self::Unreachable { .. } => "unreachable",
            Self::Throttled { .. } => "throttled",
            Self::Gibberish { .. } => "gibberish",
            Self::Redirected => "redirected",
        }
    }
}

impl Failure {
    /// The stable code of the public API.
    pub fn code(self) -> &'static str {
        match self {
            Self::GrantLost => "grant_lost",
            Self::IdTokenInvalid => "id_token_invalid",
            Self::ProviderRejected => "provider_rejected",
            Self::ProviderInvalidResponse => "provider_invalid_response",
            Self::InternalError => "internal_error",
            Self::ProviderUnreachable => "provider_unreachable",
            Self::ProviderRateLimited { .. } => "provider_rate_limited",
            Self::ProviderTimeout => "provider_timeout",
        }
    }
}

/// What came of an attempt to revoke tokens; of several, the last of these that befell one of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Revocation {
    /// They are worth nothing any more.
    Revoked,
    /// Nobody was asked, as the provider has no endpoint for it.
    NoEndpoint,
    /// What is at its address revokes nothing.
    Unsupported,
    /// The provider will not. With what the operator can do about it.
    Refused(&'static str),
    /// As yet; worth another try.
    Failed,
}

impl Revocation {
    /// For metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::NoEndpoint | Self::Unsupported => "unsupported",
            Self::Refused(_) => "refused",
            Self::Failed => "not_revoked",
        }
    }
}
