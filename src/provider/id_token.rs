//! The ID token that comes with a token response (OpenID Connect Core §3.1.3.7): what it claims, and whether that is for us.
//!
//! Pure: times are judged by the wall clock that the caller has read, and the signature by [`Jwks`](super::jwks::Jwks). Nothing is taken
//! from the header but the algorithm and the name of the key; keys that a token brings or points to are no keys to us.

use core::fmt;
use core::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::jwks::{self, Signed};
use super::settings::TENANT;
use crate::kernel::time::WallTime;

/// What a token must agree with.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// May hold `{tenantid}`, which stands for the claim `tid`. Absent: any, the keys are the operator's word for it.
    pub issuer: Option<&'a str>,
    pub client_id: &'a str,
    pub access_token: &'a str,
    pub arrived_at: WallTime,
    pub now: WallTime,
}

/// Without the access token.
impl fmt::Debug for Expected<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Expected")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("arrived_at", &self.arrived_at)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// A token that says what it should. Its signature is still to be judged.
pub struct IdToken<'a> {
    pub signed: Signed<'a>,
    /// The payload as it came.
    pub claims: &'a str,
}

/// The parts of a token, decoded.
pub struct Decoded<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    message: &'a str,
    signature: &'a str,
    claims: Members,
    text: String,
}

/// What is wrong with a token; for the log, so with nothing of the token in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Flaw {
    #[error("it is not three base64url parts with a JSON object in the first two, or longer than 64 KiB")]
    Malformed,
    #[error("its algorithm is none that proves who signed")]
    Algorithm,
    #[error("its header demands what is not understood")]
    Critical,
    #[error("it is another kind of token")]
    Type,
    #[error("`{0}` is missing or of the wrong type")]
    Claim(&'static str),
    #[error("it is from another issuer")]
    Issuer,
    #[error("it is for another client")]
    Audience,
    #[error("it has expired")]
    Expired,
    #[error("it is from the future")]
    Future,
    #[error("`at_hash` is not that of the access token")]
    AccessToken,
    #[error("the signature is not by the provider's key")]
    Signature,
}

const MAX_BYTES: usize = 64 * 1024;
/// Google writes its issuer in two ways.
const GOOGLE: &str = "https://accounts.google.com";
const GOOGLE_BARE: &str = "accounts.google.com";
/// How far the provider's clock and ours may be apart.
const SKEW: Duration = Duration::from_secs(60);

impl<'a> Decoded<'a> {
    /// # Errors
    /// When it is no signed token (RFC 7515 §3.1), or its header is not acceptable.
    pub fn read(token: &'a str) -> Result<Self, Flaw> {
        let (message, signature) = token.rsplit_once('.').filter(|_| token.len() <= MAX_BYTES).ok_or(Flaw::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Flaw::Malformed)?;
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let (header, text) = decode(header).zip(decode(payload)).ok_or(Flaw::Malformed)?;
        let members = |text: &str| serde_json::from_str::<Members>(text).map_err(|_| Flaw::Malformed);
        let (header, claims) = (members(&header)?, members(&text)?);
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(jwks::algorithm).ok_or(Flaw::Algorithm)?;
        // RFC 7515 §4.1.11: we understand no extension.
        if header.get("crit").is_some() || header.get("b64").is_some() {
            return Err(Flaw::Critical);
        }
        let kind = header.get("typ").map_or(Some("JWT"), Value::as_str).ok_or(Flaw::Type)?;
        // RFC 7515 §4.1.9: `JOSE` says no more than how it is written.
        if !["JWT", "application/jwt", "JOSE", "application/jose"].iter().any(|fine| kind.eq_ignore_ascii_case(fine)) {
            return Err(Flaw::Type);
        }
        let kid = header.get("kid").map(|kid| kid.as_str().map(str::to_owned).ok_or(Flaw::Claim("kid"))).transpose()?;
        Ok(Self { algorithm, kid, message, signature, claims, text })
    }

    /// # Errors
    /// When a claim is not as `expected`.
    pub fn check(&self, expected: &Expected<'_>) -> Result<IdToken<'_>, Flaw> {
        self.check_issuer(expected.issuer)?;
        self.check_audience(expected.client_id)?;
        self.check_times(expected)?;
        self.need("sub")?;
        self.may("nonce")?;
        self.check_at_hash(expected.access_token)?;
        let Self { algorithm, message, signature, .. } = *self;
        Ok(IdToken { signed: Signed { algorithm, kid: self.kid.as_deref(), message, signature }, claims: &self.text })
    }

    fn check_issuer(&self, expected: Option<&str>) -> Result<(), Flaw> {
        let issuer = self.need("iss")?;
        let is_expected = match expected {
            None => true,
            Some(template) if template.contains(TENANT) => {
                let tenant = self.need("tid")?;
                let is_name = tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                is_name && template.replace(TENANT, tenant) == issuer
            }
            Some(GOOGLE) => [GOOGLE, GOOGLE_BARE].contains(&issuer),
            Some(exact) => exact == issuer,
        };
        if is_expected { Ok(()) } else { Err(Flaw::Issuer) }
    }

    /// With several audiences, or whenever it says so, the token must have been made for us alone.
    fn check_audience(&self, client_id: &str) -> Result<(), Flaw> {
        let audiences = match self.claims.get("aud") {
            Some(Value::String(audience)) => vec![audience.as_str()],
            Some(Value::Array(list)) => list.iter().map(Value::as_str).collect::<Option<_>>().ok_or(Flaw::Claim("aud"))?,
            _ => return Err(Flaw::Claim("aud")),
        };
        let party = self.may("azp")?;
        let is_for_us = audiences.contains(&client_id) && (party.is_some() || audiences.len() == 1);
        if is_for_us && party.is_none_or(|party| party == client_id) { Ok(()) } else { Err(Flaw::Audience) }
    }

    /// It may grow old while the provider's keys cannot be had. Where the clock was set meanwhile, the time that is kinder counts.
    fn check_times(&self, &Expected { arrived_at, now, .. }: &Expected<'_>) -> Result<(), Flaw> {
        let (expires, issued) = (self.time("exp")?.ok_or(Flaw::Claim("exp"))?, self.time("iat")?.ok_or(Flaw::Claim("iat"))?);
        let not_before = self.time("nbf")?.unwrap_or_default();
        if expires + SKEW <= arrived_at.min(now) {
            return Err(Flaw::Expired);
        }
        if issued.max(not_before) > arrived_at.max(now) + SKEW { Err(Flaw::Future) } else { Ok(()) }
    }

    /// OpenID Connect Core §3.1.3.6: the left half of the digest that belongs to the algorithm.
    fn check_at_hash(&self, access_token: &str) -> Result<(), Flaw> {
        let Some(claimed) = self.may("at_hash")? else { return Ok(()) };
        let digest = match self.algorithm {
            Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => Sha256::digest(access_token).to_vec(),
            Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => Sha384::digest(access_token).to_vec(),
            _ => Sha512::digest(access_token).to_vec(),
        };
        let (left, _) = digest.split_at(digest.len() / 2);
        if BASE64_URL_SAFE_NO_PAD.encode(left) == claimed.trim_end_matches('=') { Ok(()) } else { Err(Flaw::AccessToken) }
    }

    /// Text that is there and says something.
    fn need(&self, name: &'static str) -> Result<&str, Flaw> {
        self.may(name)?.filter(|text| !text.is_empty()).ok_or(Flaw::Claim(name))
    }

    /// Text, if it is there.
    fn may(&self, name: &'static str) -> Result<Option<&str>, Flaw> {
        self.claims.get(name).map(|value| value.as_str().ok_or(Flaw::Claim(name))).transpose()
    }

    /// RFC 7519 §2 `NumericDate`: seconds, perhaps with a fraction; never text.
    fn time(&self, name: &'static str) -> Result<Option<WallTime>, Flaw> {
        let Some(value) = self.claims.get(name) else { return Ok(None) };
        let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0).ok_or(Flaw::Claim(name))?;
        let wait = Duration::try_from_secs_f64(seconds).map_err(|_| Flaw::Claim(name))?;
        Ok(Some(WallTime::default() + wait))
    }
}

/// A JSON object in which no name occurs twice: parsers disagree on which one counts. A member that is null is absent, as many
/// providers write it.
struct Members(Map<String, Value>);

impl Members {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name occurs twice"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Once)
    }
}
