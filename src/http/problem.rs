//! Errors as answers (RFC 9457).
//!
//! Everything that an answer says is in the one table below; nothing of a request or of a provider ever gets in. Answers with
//! the same code are the same bytes, except that `invalid_request` may name one of our members or headers.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::limit::Exhausted;
use crate::kernel::session::Refused;
use crate::kernel::verdict::Failure;
use crate::sessions::{ChangeError, CreateError, RenewError};

/// The stable member `code`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    InvalidRequest,
    Unauthorized,
    ProviderNotAllowed,
    ScopeNotAllowed,
    OriginNotAllowed,
    MisdirectedRequest,
    SessionNotFound,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    SessionPending,
    SessionNotAuthorized,
    RenewNotPossible,
    AlreadyClaimed,
    PayloadTooLarge,
    UnsupportedMediaType,
    IdempotencyMismatch,
    TooManySessions,
    RateLimited,
    InternalError,
    ProviderRejected,
    ProviderInvalidResponse,
    ProviderUnreachable,
    ProviderRateLimited,
    StoreUnavailable,
    ProviderTimeout,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Problem {
    code: Code,
    detail: Option<&'static str>,
    /// Seconds.
    retry_after: Option<u64>,
    exhausted: Option<Exhausted>,
}

/// Which limit it was, and how much of it is left (draft-ietf-httpapi-ratelimit-headers).
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

struct Entry(StatusCode, &'static str, &'static str, &'static str);

impl Code {
    pub const ALL: [Self; 26] = [
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::ProviderNotAllowed,
        Self::ScopeNotAllowed,
        Self::OriginNotAllowed,
        Self::MisdirectedRequest,
        Self::SessionNotFound,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::SessionPending,
        Self::SessionNotAuthorized,
        Self::RenewNotPossible,
        Self::AlreadyClaimed,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::IdempotencyMismatch,
        Self::TooManySessions,
        Self::RateLimited,
        Self::InternalError,
        Self::ProviderRejected,
        Self::ProviderInvalidResponse,
        Self::ProviderUnreachable,
        Self::ProviderRateLimited,
        Self::StoreUnavailable,
        Self::ProviderTimeout,
    ];

    pub fn as_str(self) -> &'static str {
        self.entry().1
    }

    pub fn status(self) -> StatusCode {
        self.entry().0
    }

    #[rustfmt::skip]
    fn entry(self) -> Entry {
        use StatusCode as S;
        match self {
            Self::InvalidRequest => Entry(S::BAD_REQUEST, "invalid_request",
                "Invalid request", "The request is malformed."),
            Self::Unauthorized => Entry(S::UNAUTHORIZED, "unauthorized",
                "Unauthorized", "A valid caller key is required: Authorization: Bearer <caller key>."),
            Self::ProviderNotAllowed => Entry(S::FORBIDDEN, "provider_not_allowed",
                "Provider not allowed", "This caller may not use this provider."),
            Self::ScopeNotAllowed => Entry(S::FORBIDDEN, "scope_not_allowed",
                "Scope not allowed", "The scope holds a value that is not in the provider's allowed_scopes."),
            Self::OriginNotAllowed => Entry(S::FORBIDDEN, "origin_not_allowed",
                "Origin not allowed", "A page of another site may not do this; http.owner_origins lists those that may, public_url says which is ours."),
            Self::MisdirectedRequest => Entry(S::MISDIRECTED_REQUEST, "misdirected_request",
                "Misdirected request", "This host is not served here; public_url or http.hosts must name it."),
            Self::SessionNotFound => Entry(S::NOT_FOUND, "session_not_found",
                "Session not found", "There is no such session, or the session secret is missing or wrong."),
            Self::NotFound => Entry(S::NOT_FOUND, "not_found",
                "Not found", "There is nothing at this path."),
            Self::MethodNotAllowed => Entry(S::METHOD_NOT_ALLOWED, "method_not_allowed",
                "Method not allowed", "The Allow header lists the methods that this path takes."),
            Self::RequestTimeout => Entry(S::REQUEST_TIMEOUT, "request_timeout",
                "Request timeout", "The request body did not arrive within 15 seconds."),
            Self::SessionPending => Entry(S::CONFLICT, "session_pending",
                "Session pending", "The person has not finished signing in yet."),
            Self::SessionNotAuthorized => Entry(S::CONFLICT, "session_not_authorized",
                "Session not authorized", "The session ended without tokens; its status tells how."),
            Self::RenewNotPossible => Entry(S::CONFLICT, "renew_not_possible",
                "Renewal not possible", "Only a denied or expired session gets a new code, and at most 5 times."),
            Self::AlreadyClaimed => Entry(S::GONE, "already_claimed",
                "Already claimed", "The tokens were handed out to another claim, or may not be read again."),
            Self::PayloadTooLarge => Entry(S::PAYLOAD_TOO_LARGE, "payload_too_large",
                "Payload too large", "A request body may have at most 65536 bytes."),
            Self::UnsupportedMediaType => Entry(S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type",
                "Unsupported media type", "A request body must be sent with Content-Type: application/json."),
            Self::IdempotencyMismatch => Entry(S::UNPROCESSABLE_ENTITY, "idempotency_mismatch",
                "Idempotency mismatch", "This Idempotency-Key was used with another request body."),
            Self::TooManySessions => Entry(S::TOO_MANY_REQUESTS, "too_many_sessions",
                "Too many sessions", "Too many sign-ins are waiting; try again later."),
            Self::RateLimited => Entry(S::TOO_MANY_REQUESTS, "rate_limited",
                "Rate limited", "Too many requests in too short a time; Retry-After says when to come back."),
            Self::InternalError => Entry(S::INTERNAL_SERVER_ERROR, "internal_error",
                "Internal error", "Something went wrong on our side; the log has more."),
            Self::ProviderRejected => Entry(S::BAD_GATEWAY, "provider_rejected",
                "Provider rejected", "The provider refused; check the client's registration and the scope."),
            Self::ProviderInvalidResponse => Entry(S::BAD_GATEWAY, "provider_invalid_response",
                "Provider response invalid", "The provider's answer does not follow the protocol."),
            Self::ProviderUnreachable => Entry(S::SERVICE_UNAVAILABLE, "provider_unreachable",
                "Provider unreachable", "The provider cannot be reached or is out of order."),
            Self::ProviderRateLimited => Entry(S::SERVICE_UNAVAILABLE, "provider_rate_limited",
                "Provider rate limited", "The provider limits how often it may be asked; try again later."),
            Self::StoreUnavailable => Entry(S::SERVICE_UNAVAILABLE, "store_unavailable",
                "Store unavailable", "Changes cannot be stored at the moment; try again later."),
            Self::ProviderTimeout => Entry(S::GATEWAY_TIMEOUT, "provider_timeout",
                "Provider timeout", "The provider did not answer in time."),
        }
    }

    /// When to come back if nobody knows better. Every 429 says when, and so does what a provider's 429 comes to.
    fn default_retry_after(self) -> Option<u64> {
        match self {
            Self::TooManySessions => Some(10),
            Self::RateLimited => Some(1),
            Self::ProviderRateLimited => Some(30),
            Self::StoreUnavailable => Some(1),
            _ => None,
        }
    }
}

impl Problem {
    /// `invalid_request`, with what is wrong and how it should be.
    pub fn invalid(detail: &'static str) -> Self {
        Self { detail: Some(detail), ..Self::from(Code::InvalidRequest) }
    }

    pub fn code(&self) -> Code {
        self.code
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self { code, detail: None, retry_after: code.default_retry_after(), exhausted: None }
    }
}

impl From<Exhausted> for Problem {
    fn from(exhausted: Exhausted) -> Self {
        Self { retry_after: Some(exhausted.wait), exhausted: Some(exhausted), ..Self::from(Code::RateLimited) }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let code = match failure {
            Failure::ProviderRejected => Code::ProviderRejected,
            Failure::ProviderInvalidResponse => Code::ProviderInvalidResponse,
            Failure::ProviderUnreachable => Code::ProviderUnreachable,
            Failure::ProviderRateLimited { retry_after_secs } => {
                let problem = Self::from(Code::ProviderRateLimited);
                return Self { retry_after: retry_after_secs.or(problem.retry_after), ..problem };
            }
            Failure::ProviderTimeout => Code::ProviderTimeout,
            Failure::InternalError | Failure::GrantLost | Failure::IdTokenInvalid => Code::InternalError,
        };
        code.into()
    }
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::TooMany => Code::TooManySessions.into(),
            CreateError::Mismatch => Code::IdempotencyMismatch.into(),
            CreateError::Failed(failure) => failure.into(),
            CreateError::Store => Code::StoreUnavailable.into(),
        }
    }
}

impl From<RenewError> for Problem {
    fn from(error: RenewError) -> Self {
        match error {
            RenewError::Unknown => Code::SessionNotFound.into(),
            RenewError::NotPossible => Code::RenewNotPossible.into(),
            RenewError::TooMany => Code::TooManySessions.into(),
            RenewError::Failed(failure) => failure.into(),
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store | ChangeError::Conflict => Code::StoreUnavailable.into(),
            ChangeError::Refused(refused) => refused.into(),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::Unknown => Code::SessionNotFound,
            Refused::StillPending => Code::SessionPending,
            Refused::NotAuthorized => Code::SessionNotAuthorized,
            Refused::AlreadyClaimed => Code::AlreadyClaimed,
            Refused::NotRenewable => Code::RenewNotPossible,
            Refused::TooOften => Code::RateLimited,
            Refused::Exists | Refused::NotDue | Refused::Stale | Refused::Settled | Refused::Conflict => Code::InternalError,
        };
        code.into()
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: std::fmt::Arguments<'a>,
    title: &'static str,
    status: u16,
    detail: &'static str,
    code: &'static str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Entry(status, code, title, detail) = self.code.entry();
        let detail = self.detail.unwrap_or(detail);
        let document = Document { r#type: format_args!("urn:anteroom:problem:{code}"), title, status: status.as_u16(), detail, code };
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(Exhausted { policy, per_minute, wait }) = self.exhausted {
            let values =
                [(RATE_LIMIT_POLICY, format!("\"{policy}\";q={per_minute};w=60")), (RATE_LIMIT, format!("\"{policy}\";r=0;t={wait}"))];
            headers.extend(values.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))));
        }
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
