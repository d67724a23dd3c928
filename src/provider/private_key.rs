//! The key that a client proves itself with (`private_key_jwt`): read from a PEM or a JWK file, used to sign.

use std::fmt;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto, encode};
use serde_json::{Map, Value};

use super::jwks;

/// An RSA key of 2048 bits or more, a P-256 or P-384 key, or an Ed25519 key.
pub struct PrivateKey {
    algorithm: Algorithm,
    key: EncodingKey,
    id: Option<String>,
}

/// Why a file holds no key; with the remedy, and nothing of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("holds no private key; expected PKCS#8 PEM (\"BEGIN PRIVATE KEY\") or a private JWK")]
    NoKey,
    #[error("is of a kind that cannot be read here; convert it with \"openssl pkcs8 -topk8 -nocrypt\"")]
    Kind,
    #[error("holds a key that cannot be used; expected RSA of 2048 bits or more, P-256, P-384 or Ed25519")]
    Unusable,
}

impl PrivateKey {
    /// Reads the text of a file. `id` becomes the `kid` of what is signed; without it that of the JWK does.
    ///
    /// # Errors
    /// See [`Unreadable`].
    pub fn read(text: &str, id: Option<String>) -> Result<Self, Unreadable> {
        if !text.trim_start().starts_with('{') {
            return Self::from_der(&pem(text)?, None, id);
        }
        let jwk: Map<String, Value> = serde_json::from_str(text).map_err(|_| Unreadable::NoKey)?;
        let member = |name: &str| jwk.get(name).and_then(Value::as_str);
        let only = member("alg").map(|name| jwks::algorithm(name).ok_or(Unreadable::Unusable)).transpose()?;
        let der = der_of(member).ok_or(Unreadable::NoKey)?;
        Self::from_der(&der, only, id.or_else(|| member("kid").map(str::to_owned)))
    }

    /// The algorithm is the first that the key can sign with.
    fn from_der(der: &[u8], only: Option<Algorithm>, id: Option<String>) -> Result<Self, Unreadable> {
        let candidates = [
            (Algorithm::RS256, EncodingKey::from_rsa_der(unwrapped(der).unwrap_or(der))),
            (Algorithm::ES256, EncodingKey::from_ec_der(der)),
            (Algorithm::ES384, EncodingKey::from_ec_der(der)),
            (Algorithm::EdDSA, EncodingKey::from_ed_der(der)),
        ];
        let usable = candidates.into_iter().find_map(|(algorithm, key)| {
            let algorithm = only.unwrap_or(algorithm);
            crypto::sign(b"probe", &key, algorithm).is_ok().then_some((algorithm, key))
        });
        let (algorithm, key) = usable.ok_or(Unreadable::Unusable)?;
        Ok(Self { algorithm, key, id })
    }

    /// A signed token (RFC 7519) with these claims; absent if the signature cannot be made.
    pub fn sign(&self, claims: &Value) -> Option<String> {
        encode(&Header { kid: self.id.clone(), ..Header::new(self.algorithm) }, claims, &self.key).ok()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PrivateKey").field("algorithm", &self.algorithm).field("id", &self.id).finish_non_exhaustive()
    }
}

/// The first private key of a PEM file (RFC 7468).
fn pem(text: &str) -> Result<Vec<u8>, Unreadable> {
    let blocks = text.split("-----BEGIN ").skip(1).filter_map(|block| block.split_once("-----"));
    let (label, rest) = blocks.into_iter().find(|(label, _)| label.ends_with("PRIVATE KEY")).ok_or(Unreadable::NoKey)?;
    if !matches!(label, "PRIVATE KEY" | "RSA PRIVATE KEY") {
        return Err(Unreadable::Kind);
    }
    let body = rest.split("-----END").next().unwrap_or_default();
    let body: String = body.chars().filter(|char| !char.is_whitespace()).collect();
    BASE64_STANDARD.decode(body).map_err(|_| Unreadable::NoKey)
}

/// A private JWK (RFC 7518 §6, RFC 8037) in the DER form that the cryptography takes: PKCS#1 or PKCS#8.
fn der_of<'a>(member: impl Fn(&str) -> Option<&'a str>) -> Option<Vec<u8>> {
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
    const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(member(name)?).ok();
    let ec = |curve: &[u8]| {
        let point = [&[0, 4][..], &bytes("x")?, &bytes("y")?].concat();
        let key = sequence(&[&integer(&[1]), &octets(&bytes("d")?), &der(CONTEXT_1, &[&der(BIT_STRING, &[&point])])]);
        Some(pkcs8(&[&der(OID, &[EC]), &der(OID, &[curve])], &key))
    };
    match (member("kty")?, member("crv")) {
        ("RSA", _) => {
            let parts: Option<Vec<Vec<u8>>> = ["n", "e", "d", "p", "q", "dp", "dq", "qi"].iter().map(|name| bytes(name)).collect();
            let parts = parts?.iter().flat_map(|part| integer(part)).collect::<Vec<u8>>();
            Some(sequence(&[&integer(&[0]), &parts]))
        }
        ("EC", Some("P-256")) => ec(P256),
        ("EC", Some("P-384")) => ec(P384),
        ("OKP", Some("Ed25519")) => Some(pkcs8(&[&der(OID, &[ED25519])], &octets(&bytes("d")?))),
        _ => None,
    }
}

/// RFC 5208: version, algorithm, key.
fn pkcs8(algorithm: &[&[u8]], key: &[u8]) -> Vec<u8> {
    sequence(&[&integer(&[0]), &sequence(algorithm), &octets(key)])
}

/// The key in a PKCS#8 wrapping: for RSA the cryptography takes PKCS#1 only.
fn unwrapped(pkcs8: &[u8]) -> Option<&[u8]> {
    let (content, _) = value(pkcs8, SEQUENCE)?;
    let (_, rest) = value(content, INTEGER)?;
    let (_, rest) = value(rest, SEQUENCE)?;
    Some(value(rest, OCTETS)?.0)
}

/// The content of the first value if it has this tag, and what follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (_, rest) = der.split_first().filter(|(first, _)| **first == tag)?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..0x80 => (usize::from(*length), rest),
        count => {
            let (bytes, rest) = rest.split_at_checked(usize::from(count - 0x80)).filter(|(bytes, _)| bytes.len() <= 4)?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
    };
    rest.split_at_checked(length)
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const CONTEXT_1: u8 = 0xa1;

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(SEQUENCE, parts)
}

fn octets(content: &[u8]) -> Vec<u8> {
    der(OCTETS, &[content])
}

/// Not negative: a leading bit would be a sign.
fn integer(magnitude: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if magnitude.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
    der(INTEGER, &[sign, magnitude])
}

/// X.690 §8.1: tag, length, content.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let bytes = content.len().to_be_bytes();
    let length: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    let length = match (content.len(), u8::try_from(length.len())) {
        (0..0x80, _) | (_, Err(_)) => vec![u8::try_from(content.len()).unwrap_or(0)],
        (_, Ok(count)) => [&[0x80 | count][..], &length].concat(),
    };
    [&[tag][..], &length, &content].concat()
}
