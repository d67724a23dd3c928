//! A session, as a watcher sees it.

use std::time::{SystemTime, UNIX_EPOCH};

use secrecy::SecretString;
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use super::text::printable;
use crate::kernel::time::Timestamp;

pub struct Session {
    pub status: Status,
    pub prompt: Option<Prompt>,
    pub provider_reachable: bool,
    pub failure: Option<Failure>,
    /// By the clock of this machine.
    pub claim_by: Option<Timestamp>,
    /// The entity tag (RFC 9110 §8.8.3), with its quotes.
    pub tag: String,
    /// When it makes sense to ask again.
    pub ask_again_at: Timestamp,
}

/// What the person needs. Every text may be printed.
#[derive(Clone, Debug)]
pub struct Prompt {
    pub id: Uuid,
    pub provider: String,
    pub user_code: String,
    pub verification_uri: String,
    pub verification_uri_complete: Option<String>,
    /// What to open or to scan: with the code in it if there is such an address. Always http or https.
    pub link: Url,
    /// As the service said it, and by the clock of this machine to the second.
    pub expiry: String,
    pub expires_at: Timestamp,
}

impl PartialEq for Prompt {
    /// Whether the person would see the same. The answers of the service give the expiry by our clock only to the second.
    fn eq(&self, other: &Self) -> bool {
        (&self.user_code, &self.link, &self.expiry) == (&other.user_code, &other.link, &other.expiry)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Starting,
    Pending,
    Authorized,
    Claimed,
    Denied,
    Expired,
    Cancelled,
    Failed,
    /// A newer service may know more.
    #[serde(other)]
    Unknown,
}

/// Both texts may be printed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub code: String,
    pub detail: String,
}

/// The members of the answer.
#[derive(Deserialize)]
pub struct Body {
    pub id: Uuid,
    pub secret: Option<SecretString>,
    status: Status,
    provider: String,
    user_code: Option<String>,
    verification_uri: Option<String>,
    verification_uri_complete: Option<String>,
    expires_at: Option<String>,
    #[serde(default = "reachable")]
    provider_reachable: bool,
    pub revision: u64,
    claim_by: Option<String>,
    failure: Option<FailureBody>,
}

#[derive(Deserialize)]
struct FailureBody {
    code: String,
    detail: String,
}

/// The same moment by two clocks, so that a wrong clock on this machine does not make a code look expired.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub here: Timestamp,
    pub at_service: Timestamp,
}

const CODE_LIMIT: usize = 100;
const URI_LIMIT: usize = 2048;
const TEXT_LIMIT: usize = 300;

impl Body {
    /// # Errors
    /// What the answer has wrong.
    pub fn into_session(self, now: Now, tag: String, ask_again_at: Timestamp) -> Result<Session, &'static str> {
        let failure = self
            .failure
            .as_ref()
            .map(|failure| Failure { code: printable(&failure.code, CODE_LIMIT), detail: printable(&failure.detail, TEXT_LIMIT) });
        let claim_by = self.claim_by.as_deref().and_then(|text| now.convert(text));
        let prompt = self.prompt(now)?;
        let Self { status, provider_reachable, .. } = self;
        Ok(Session { status, prompt, provider_reachable, failure, claim_by, tag, ask_again_at })
    }

    fn prompt(&self, now: Now) -> Result<Option<Prompt>, &'static str> {
        let (Some(user_code), Some(uri)) = (&self.user_code, &self.verification_uri) else { return Ok(None) };
        let link = web_address(uri).ok_or("its verification address is not a web address")?;
        let complete = self.verification_uri_complete.as_deref();
        let complete = complete.and_then(|complete| Some((complete, web_address(complete)?)));
        let expiry = self.expires_at.as_deref().unwrap_or_default();
        Ok(Some(Prompt {
            id: self.id,
            provider: printable(&self.provider, CODE_LIMIT),
            user_code: printable(user_code, CODE_LIMIT),
            verification_uri: printable(uri, URI_LIMIT),
            verification_uri_complete: complete.as_ref().map(|(text, _)| printable(text, URI_LIMIT)),
            link: complete.map_or(link, |(_, url)| url),
            expiry: printable(expiry, CODE_LIMIT),
            expires_at: now.convert(expiry).ok_or("it does not say when the code expires")?,
        }))
    }
}

impl Now {
    /// A moment that the service named (RFC 3339, UTC), by the clock of this machine.
    fn convert(self, text: &str) -> Option<Timestamp> {
        let moment = timestamp(humantime::parse_rfc3339(text).ok()?);
        Some(self.here + moment.since(self.at_service) - self.at_service.since(moment))
    }
}

/// Zero for what was before 1970.
pub fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::default() + time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn web_address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= URI_LIMIT)?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.has_host();
    (is_plain && matches!(url.scheme(), "http" | "https")).then_some(url)
}

fn reachable() -> bool {
    true
}
