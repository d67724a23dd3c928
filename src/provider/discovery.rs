//! Where a provider's endpoints are: OpenID Connect Discovery, then RFC 8414.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Url;
use tokio::sync::Mutex;

use super::body::Body;
use super::classify;
use super::exchange::{Answer, Exchange, NoAnswer, in_time};
use super::uri;
use crate::kernel::time::{Offset, Timestamp};
use crate::kernel::verdict::Failure;

/// What the provider says of itself. Every endpoint may be asked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Metadata {
    pub device_authorization_endpoint: Option<Url>,
    pub token_endpoint: Option<Url>,
    pub revocation_endpoint: Option<Url>,
    pub jwks_uri: Option<Url>,
    /// The rest is for reports; it is often incomplete and nothing is refused for it. Absent where the document is silent.
    pub token_endpoint_auth_methods: Option<Vec<String>>,
    pub code_challenge_methods: Option<Vec<String>>,
    pub grant_types: Option<Vec<String>>,
    /// How far its clock is ahead of ours.
    pub clock_ahead: Option<Offset>,
}

/// Why nothing is known of the provider's endpoints; in words for the operator, with nothing of what was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem {
    #[error("there is no `issuer` to ask: set it, or both `device_authorization_endpoint` and `token_endpoint`")]
    NoIssuer,
    #[error("`issuer` is not an https URL without query and fragment; plain http is for loopback, or needs `allow_http = true`")]
    UnsafeIssuer,
    #[error("{0}")]
    NoAnswer(NoAnswer),
    #[error("the answer is a redirect, which is never followed")]
    Redirected,
    #[error("the provider limits how often it may be asked (429)")]
    Throttled(Option<Duration>),
    #[error("the answer has status {0} instead of 200")]
    Status(u16),
    #[error("the answer is not a JSON object, or is longer than 256 KiB")]
    NotMetadata,
    #[error("the document is for another issuer: write `issuer` exactly as the provider does")]
    OtherIssuer,
    #[error("the provider writes its issuer {0} a slash at the end: write `issuer` exactly so")]
    Slash(&'static str),
    #[error("`{0}` in the document is not an https URL; plain http is for loopback, or needs `allow_http = true`")]
    UnsafeEndpoint(&'static str),
    #[error("the document names no `{0}`: set it in the configuration, if the provider has one")]
    Missing(&'static str),
}

/// The documents of one provider, fetched when they are first needed and kept for an hour. A failure is never kept; what was
/// once fetched outlives later failures.
pub struct Discovery {
    exchange: Exchange,
    issuer: Option<String>,
    allow_http: bool,
    fetches: AtomicU64,
    latest: parking_lot::Mutex<Option<Arc<Metadata>>>,
    /// Held during a fetch.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    fresh_until: Timestamp,
    /// What the latest fetch came to, for those who waited for it.
    outcome: Option<Problem>,
}

/// For both documents together, so that enough of the caller's time is left for the request itself.
const PATIENCE: Duration = Duration::from_secs(10);
const FRESH: Duration = Duration::from_secs(3600);
/// How long to go on with old metadata before a provider that failed to renew it is asked again.
const STALE: Duration = Duration::from_secs(60);

impl Discovery {
    pub fn new(exchange: Exchange, issuer: Option<String>, allow_http: bool) -> Self {
        Self { exchange, issuer, allow_http, fetches: AtomicU64::new(0), latest: parking_lot::Mutex::default(), known: Mutex::default() }
    }

    /// Whether there is metadata, however old.
    pub fn is_known(&self) -> bool {
        self.latest.lock().is_some()
    }

    /// The metadata, from memory if it is less than an hour old. Many callers at once cost one fetch and share what it came to; nobody
    /// waits for another's fetch where there is something older.
    ///
    /// # Errors
    /// When the fetch failed and none before has succeeded.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, Problem> {
        let fetches = self.fetches.load(Ordering::Acquire);
        let latest = self.latest.lock().clone();
        let mut known = match (self.known.try_lock(), latest) {
            (Ok(known), _) => known,
            (Err(_), Some(metadata)) => return Ok(metadata),
            (Err(_), None) => self.known.lock().await,
        };
        let latest = self.latest.lock().clone();
        if let Some(metadata) = latest.as_ref().filter(|_| self.exchange.now() < known.fresh_until) {
            return Ok(Arc::clone(metadata));
        }
        if let Some(problem) = known.outcome.filter(|_| self.fetches.load(Ordering::Acquire) != fetches) {
            return Err(problem);
        }
        let fetched = self.look_up().await;
        self.fetches.fetch_add(1, Ordering::Release);
        match (fetched, latest) {
            (Ok(metadata), _) => {
                let metadata = Arc::new(metadata);
                *known = Known { fresh_until: self.exchange.now() + FRESH, outcome: None };
                *self.latest.lock() = Some(Arc::clone(&metadata));
                Ok(metadata)
            }
            (Err(_), Some(metadata)) => {
                known.fresh_until = self.exchange.now() + STALE;
                Ok(metadata)
            }
            (Err(problem), None) => {
                known.outcome = Some(problem);
                Err(problem)
            }
        }
    }

    /// Asks the provider now, past the memory. The OpenID Connect document counts first; RFC 8414's where that is missing,
    /// unusable or silent about the device grant.
    ///
    /// # Errors
    /// The problem that tells the operator most.
    pub async fn look_up(&self) -> Result<Metadata, Problem> {
        let issuer = self.issuer.as_deref().ok_or(Problem::NoIssuer)?;
        let documents = Documents::of(issuer, self.allow_http).ok_or(Problem::UnsafeIssuer)?;
        let both = async {
            let openid = self.fetch(documents.openid, issuer).await;
            if matches!(&openid, Ok(metadata) if metadata.device_authorization_endpoint.is_some())
                || matches!(&openid, Err(Problem::NoAnswer(_) | Problem::Throttled(_)))
            {
                return openid;
            }
            better(openid, self.fetch(documents.oauth, issuer).await)
        };
        in_time(PATIENCE, both).await.unwrap_or(Err(Problem::NoAnswer(NoAnswer::TimedOut)))
    }

    async fn fetch(&self, url: Url, issuer: &str) -> Result<Metadata, Problem> {
        let answer = self.exchange.get(url).await.map_err(Problem::NoAnswer)?;
        parse(&answer, issuer, self.allow_http)
    }
}

fn better(openid: Result<Metadata, Problem>, oauth: Result<Metadata, Problem>) -> Result<Metadata, Problem> {
    match (openid, oauth) {
        (Ok(openid), Ok(oauth)) => Ok(if oauth.device_authorization_endpoint.is_some() { oauth } else { openid }),
        (Ok(only), Err(_)) | (Err(_), Ok(only)) => Ok(only),
        (Err(Problem::Status(404)), Err(problem)) | (Err(problem), Err(_)) => Err(problem),
    }
}

struct Documents {
    openid: Url,
    oauth: Url,
}

impl Documents {
    /// OpenID Connect appends its path to the issuer, RFC 8414 §3.1 inserts its own before the issuer's.
    fn of(issuer: &str, allow_http: bool) -> Option<Self> {
        let issuer = uri::endpoint(issuer, allow_http).filter(|issuer| issuer.query().is_none())?;
        let path = issuer.path().trim_end_matches('/').to_owned();
        let at = |path: &str| {
            let mut url = issuer.clone();
            url.set_path(path);
            url
        };
        Some(Self {
            openid: at(&format!("{path}/.well-known/openid-configuration")),
            oauth: at(&format!("/.well-known/oauth-authorization-server{path}")),
        })
    }
}

/// Reads one document. It counts only if it names exactly `issuer` (RFC 8414 §3.3).
pub fn parse(answer: &Answer, issuer: &str, allow_http: bool) -> Result<Metadata, Problem> {
    match answer.status {
        200 => {}
        429 => return Err(Problem::Throttled(answer.retry_after)),
        status if classify::is_redirect(status) => return Err(Problem::Redirected),
        status => return Err(Problem::Status(status)),
    }
    let document = Body::parse(&answer.body).ok_or(Problem::NotMetadata)?;
    match document.text("issuer") {
        Some(named) if named == issuer => {}
        Some(named) if named.strip_suffix('/') == Some(issuer) => return Err(Problem::Slash("with")),
        Some(named) if issuer.strip_suffix('/') == Some(named) => return Err(Problem::Slash("without")),
        _ => return Err(Problem::OtherIssuer),
    }
    let endpoint = |name: &'static str| match document.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_str().and_then(|text| uri::endpoint(text, allow_http)) {
            Some(url) => Ok(Some(url)),
            None => Err(Problem::UnsafeEndpoint(name)),
        },
    };
    Ok(Metadata {
        device_authorization_endpoint: endpoint("device_authorization_endpoint")?,
        token_endpoint: endpoint("token_endpoint")?,
        revocation_endpoint: endpoint("revocation_endpoint")?,
        jwks_uri: endpoint("jwks_uri")?,
        token_endpoint_auth_methods: words(&document, "token_endpoint_auth_methods_supported"),
        code_challenge_methods: words(&document, "code_challenge_methods_supported"),
        grant_types: words(&document, "grant_types_supported"),
        clock_ahead: answer.date.map(|date| Offset::ahead(date, answer.received_at)),
    })
}

/// Names that are fit to be printed.
fn words(document: &Body, name: &str) -> Option<Vec<String>> {
    let is_fit = |word: &&str| (1..=100).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic());
    Some(document.list(name)?.into_iter().filter(is_fit).map(str::to_owned).collect())
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::NoAnswer(no_answer) => classify::failure(no_answer),
            Problem::Throttled(wait) => Self::ProviderRateLimited { retry_after_secs: wait.map(|wait| wait.as_secs()) },
            Problem::Status(500..) => Self::ProviderUnreachable,
            _ => Self::ProviderInvalidResponse,
        }
    }
}

#[cfg(test)]
mod tests;
