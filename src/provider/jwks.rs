//! The provider's public keys (RFC 7517): fetched when an ID token needs them, kept, and fetched again when one comes that they
//! do not explain.
//!
//! A failed fetch never drops keys. What tokens say can cause at most one fetch in [`COOL_DOWN`], however many unknown keys
//! they name; and only keys that were asked for after a token had come can refute it.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto};
use parking_lot::Mutex;
use reqwest::Url;
use serde_json::{Map, Value};

use super::body::Body;
use super::exchange::{Exchange, NoAnswer};
use crate::kernel::time::Timestamp;

/// The signature of a token and what it is said to be made with.
#[derive(Clone, Copy)]
pub struct Signed<'a> {
    pub algorithm: Algorithm,
    pub kid: Option<&'a str>,
    pub message: &'a str,
    pub signature: &'a str,
}

/// Without the token.
impl fmt::Debug for Signed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signed").field("algorithm", &self.algorithm).field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// What a set of keys makes of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    Genuine,
    /// The key that the token names did not make it.
    Forged,
    /// No key that is known could have made it.
    Unexplained,
}

/// Why there are no newer keys; in our own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    NoAnswer(NoAnswer),
    #[error("the answer has status {0} instead of 200")]
    Status(u16),
    #[error("the answer is no JWK set, or none of its keys can verify a signature")]
    NoKeys,
    #[error("the keys were fetched a moment ago")]
    TooSoon,
}

/// The keys of one provider.
pub struct Jwks {
    provider: Arc<str>,
    exchange: Exchange,
    /// The fetches that have begun.
    begun: AtomicU64,
    known: Mutex<Option<Arc<Keys>>>,
    /// Held during a fetch.
    fetching: tokio::sync::Mutex<Fetching>,
}

struct Keys {
    keys: Vec<Key>,
    /// The number of the fetch that brought them.
    fetch: u64,
    fresh_until: Timestamp,
}

#[derive(Default)]
struct Fetching {
    not_before: Timestamp,
    /// The latest failure and the number of its fetch, for those who waited for it.
    failed: Option<(u64, Problem)>,
}

/// A public key that can verify signatures.
pub struct Key {
    kid: Option<String>,
    kind: Kind,
    /// The only algorithm that the key is for, where it says so.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

const FRESH: Duration = Duration::from_secs(3600);
/// Between fetches that did not help.
const COOL_DOWN: Duration = Duration::from_secs(30);
/// After a fetch that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// More keys than this are not looked at.
const MAX_KEYS: usize = 100;

impl Jwks {
    pub fn new(exchange: Exchange, provider: Arc<str>) -> Self {
        Self { provider, exchange, begun: AtomicU64::new(0), known: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// What the keys at hand make of it; [`Finding::Unexplained`] also when they are too old to be asked.
    pub fn judge(&self, signed: &Signed<'_>) -> Finding {
        let known = self.known.lock().clone().filter(|keys| self.exchange.now() < keys.fresh_until);
        known.map_or(Finding::Unexplained, |keys| keys.judge(signed))
    }

    /// As [`Jwks::judge`], but keys that are missing or old are fetched first, and again if they do not explain the token.
    ///
    /// # Errors
    /// When the keys at hand do not explain it and newer ones cannot be had now.
    pub async fn judge_with_newest(&self, uri: &Url, signed: &Signed<'_>) -> Result<Finding, Problem> {
        match self.judge(signed) {
            Finding::Unexplained => {}
            finding => return Ok(finding),
        }
        let renewed = self.renew(uri, signed).await;
        // Old keys go on to vouch for what they explain, but refute nothing.
        let finding = self.known.lock().clone().map_or(Finding::Unexplained, |keys| keys.judge(signed));
        match (finding, renewed) {
            (Finding::Forged | Finding::Unexplained, Err(problem)) => Err(problem),
            (finding, _) => Ok(finding),
        }
    }

    /// Returns once there are keys that explain `signed`, or whose fetch began after this call. Many callers share one fetch, and
    /// its failure.
    async fn renew(&self, uri: &Url, signed: &Signed<'_>) -> Result<(), Problem> {
        let begun = self.begun.load(Ordering::Acquire);
        let mut fetching = self.fetching.lock().await;
        let is_newer = self.known.lock().as_ref().is_some_and(|keys| keys.fetch > begun);
        if is_newer || self.judge(signed) != Finding::Unexplained {
            return Ok(());
        }
        if let Some((_, problem)) = fetching.failed.filter(|(fetch, _)| *fetch > begun) {
            return Err(problem);
        }
        if self.exchange.now() < fetching.not_before {
            return Err(Problem::TooSoon);
        }
        let fetch = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        match self.fetch(uri).await {
            Ok(keys) => {
                let now = self.exchange.now();
                let keys = Arc::new(Keys { keys, fetch, fresh_until: now + FRESH });
                let helped = keys.judge(signed) != Finding::Unexplained;
                fetching.not_before = if helped { now } else { now + COOL_DOWN };
                *self.known.lock() = Some(keys);
                Ok(())
            }
            Err(problem) => {
                tracing::warn!(provider = %self.provider, reason = %problem, "no keys, so ID tokens are not verified and tokens wait");
                fetching.not_before = self.exchange.now() + AFTER_FAILURE;
                fetching.failed = Some((fetch, problem));
                Err(problem)
            }
        }
    }

    async fn fetch(&self, uri: &Url) -> Result<Vec<Key>, Problem> {
        let answer = self.exchange.get(uri.clone()).await.map_err(Problem::NoAnswer)?;
        match answer.status {
            200 => parse(&answer.body).filter(|keys| !keys.is_empty()).ok_or(Problem::NoKeys),
            status => Err(Problem::Status(status)),
        }
    }
}

impl Keys {
    fn judge(&self, signed: &Signed<'_>) -> Finding {
        // A key without a name may be the one that is meant.
        let may_be_meant = |key: &&Key| signed.kid.is_none() || key.kid.is_none() || key.kid.as_deref() == signed.kid;
        let mut candidates = self.keys.iter().filter(may_be_meant).filter(|key| key.fits(signed.algorithm));
        let is_known = signed.kid.is_some() && candidates.clone().any(|key| key.kid.is_some());
        if candidates.any(|key| key.made(signed)) {
            Finding::Genuine
        } else if is_known {
            Finding::Forged
        } else {
            Finding::Unexplained
        }
    }
}

impl Key {
    fn fits(&self, algorithm: Algorithm) -> bool {
        let kind_fits = match self.kind {
            Kind::Rsa => algorithm.family() == AlgorithmFamily::Rsa,
            Kind::P256 => algorithm == Algorithm::ES256,
            Kind::P384 => algorithm == Algorithm::ES384,
            Kind::Ed25519 => algorithm == Algorithm::EdDSA,
        };
        kind_fits && self.algorithm.is_none_or(|only| only == algorithm)
    }

    fn made(&self, signed: &Signed<'_>) -> bool {
        crypto::verify(signed.signature, signed.message.as_bytes(), &self.key, signed.algorithm).unwrap_or(false)
    }
}

/// The algorithms that prove who signed: all are asymmetric (RFC 7518 §3.1, RFC 8037).
pub fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

/// The keys of a set that can be used; the others are passed over (RFC 7517 §5).
pub fn parse(body: &[u8]) -> Option<Vec<Key>> {
    let set = Body::parse(body)?;
    let keys = set.get("keys")?.as_array()?;
    Some(keys.iter().take(MAX_KEYS).filter_map(|key| read(key.as_object()?)).collect())
}

fn read(jwk: &Map<String, Value>) -> Option<Key> {
    let member = |name: &str| jwk.get(name).filter(|value| !value.is_null());
    let text = |name: &str| member(name).and_then(Value::as_str);
    let is_for_signatures = match (member("use"), member("key_ops")) {
        (Some(purpose), _) if purpose != "sig" => false,
        (_, Some(operations)) => operations.as_array()?.iter().any(|operation| operation == "verify"),
        _ => true,
    };
    if !is_for_signatures {
        return None;
    }
    let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
    // RFC 7518 §6.3.1.1: some put a zero octet before it, as their libraries write signed numbers.
    let number = |name: &str| Some(bytes(name)?.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>());
    let point = |length: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        // Uncompressed (SEC 1 §2.3.3).
        (x.len() == length && y.len() == length).then(|| [&[4][..], &x, &y].concat())
    };
    let (kind, key) = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            let (modulus, exponent) = (number("n")?, number("e")?);
            // An exponent of any size would make every verification as slow as its author likes.
            let is_sane = (256..=1024).contains(&modulus.len()) && exponent.len() <= 8;
            (Kind::Rsa, is_sane.then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))?)
        }
        ("EC", Some("P-256")) => (Kind::P256, DecodingKey::from_ec_der(&point(32)?)),
        ("EC", Some("P-384")) => (Kind::P384, DecodingKey::from_ec_der(&point(48)?)),
        ("OKP", Some("Ed25519")) => (Kind::Ed25519, DecodingKey::from_ed_der(&bytes("x").filter(|x| x.len() == 32)?)),
        _ => return None,
    };
    let only = match member("alg") {
        None => None,
        Some(name) => Some(algorithm(name.as_str()?)?),
    };
    Some(Key { kid: text("kid").map(str::to_owned), kind, algorithm: only, key })
}
