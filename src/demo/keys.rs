//! What the provider signs ID tokens with, and what it tells of that at `/jwks`.

use std::fmt;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value, json};

use super::tokens::{random_bytes, random_text};

/// A private key, the algorithm it is used with, and its name.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
    public: Jwk,
}

impl SigningKey {
    /// A new Ed25519 key.
    #[expect(clippy::expect_used, reason = "32 random bytes are an Ed25519 key")]
    pub fn generate() -> Self {
        // RFC 8410 §7: everything of the PKCS#8 form but the key itself.
        const PREFIX: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        let der = [&PREFIX[..], &random_bytes::<32>()].concat();
        Self::from_der(Algorithm::EdDSA, &der).expect("an Ed25519 key")
    }

    /// A key in DER: PKCS#1 for RSA, PKCS#8 for the others. Absent if it does not fit the algorithm.
    pub fn from_der(algorithm: Algorithm, der: &[u8]) -> Option<Self> {
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(der),
            Algorithm::EdDSA => EncodingKey::from_ed_der(der),
            _ => EncodingKey::from_rsa_der(der),
        };
        let kid = random_text::<8>();
        let mut public = Jwk::from_encoding_key(&key, algorithm).ok()?;
        public.common.key_id = Some(kid.clone());
        Some(Self { kid, algorithm, key, public })
    }

    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The same key under another name.
    pub fn named(mut self, kid: &str) -> Self {
        self.kid = kid.to_owned();
        self.public.common.key_id = Some(kid.to_owned());
        self
    }

    pub fn public(&self) -> Jwk {
        self.public.clone()
    }

    /// A signed token (RFC 7519) with these claims.
    #[expect(clippy::expect_used, reason = "a key from which a public key was made can sign")]
    pub fn sign(&self, claims: &Map<String, Value>) -> String {
        encode(&Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) }, claims, &self.key).expect("a signature")
    }

    /// The JWK set (RFC 7517 §5) of this key alone.
    pub fn set(&self) -> Value {
        json!({ "keys": [self.public] })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
