//! Tokens made to order, good and bad.

use std::fs;

use anteroom::demo::{Answer, DevProvider, Endpoint};
use anteroom::kernel::time::Timestamp;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::{der, fixture};

/// The name of the key that [`Forge::key`] is published under.
pub const KID: &str = "known";

/// What is special about a token, and how to make it.
pub type Vector = (&'static str, fn(&Forge) -> String);

/// What a token is about, and the keys of both sides.
pub struct Forge {
    pub issuer: String,
    pub now: u64,
    pub access_token: String,
}

impl Forge {
    /// The next token response brings what `make` makes.
    pub fn script(idp: &DevProvider, now: Timestamp, make: impl Fn(&Self) -> String + Send + Sync + 'static) {
        let (issuer, now) = (idp.issuer().to_owned(), now.as_millis() / 1000);
        let edit = Answer::edit(move |members| {
            let access_token = members["access_token"].as_str().unwrap().to_owned();
            let token = make(&Self { issuer: issuer.clone(), now, access_token });
            members.insert("id_token".to_owned(), token.into());
        });
        idp.script(Endpoint::Token, [edit]);
    }

    pub fn header(&self) -> Value {
        json!({ "alg": "RS256", "typ": "JWT", "kid": KID })
    }

    pub fn claims(&self) -> Value {
        json!({ "iss": self.issuer, "sub": "1", "aud": "demo-tv", "iat": self.now, "exp": self.now + 600 })
    }

    /// The good token with one claim set; null removes it.
    pub fn claiming(&self, name: &str, value: Value) -> String {
        sign(&self.header(), &with(self.claims(), name, value))
    }

    /// The good token with one header member set; null removes it.
    pub fn heading(&self, name: &str, value: Value) -> String {
        sign(&with(self.header(), name, value), &self.claims())
    }

    pub fn at_hash(&self, algorithm: Algorithm) -> String {
        let digest = match algorithm {
            Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => Sha256::digest(&self.access_token).to_vec(),
            Algorithm::ES384 => Sha384::digest(&self.access_token).to_vec(),
            _ => Sha512::digest(&self.access_token).to_vec(),
        };
        encode(&digest[..digest.len() / 2])
    }
}

pub fn key() -> EncodingKey {
    EncodingKey::from_rsa_der(&der("rsa-pkcs1.pem"))
}

/// A key of the same kind that nobody published.
pub fn stranger() -> EncodingKey {
    EncodingKey::from_ed_der(&der("ed25519.pem"))
}

/// What somebody could take for a shared secret: the published key in its spellings.
pub fn public_pem() -> Vec<u8> {
    fs::read(fixture("rsa-public.pem")).unwrap()
}

pub fn modulus() -> Vec<u8> {
    let jwk: Value = serde_json::from_slice(&fs::read(fixture("rsa.json")).unwrap()).unwrap();
    BASE64_URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap()
}

pub fn with(mut object: Value, name: &str, value: Value) -> Value {
    let members = object.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(name)
    } else {
        members.insert(name.to_owned(), value)
    };
    object
}

pub fn sign(header: &Value, claims: &Value) -> String {
    sign_text(&header.to_string(), &claims.to_string())
}

pub fn sign_text(header: &str, claims: &str) -> String {
    sign_as(header, claims.as_bytes(), Algorithm::RS256, &key())
}

pub fn sign_as(header: &str, claims: &[u8], algorithm: Algorithm, key: &EncodingKey) -> String {
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims));
    let signature = crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

pub fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
