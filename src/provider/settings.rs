//! What the configuration says of one provider, checked.

use std::sync::Arc;

use reqwest::Url;
use secrecy::SecretString;

use super::dialect::Dialect;
use super::gate::Limits;
use super::presets::Preset;

#[derive(Clone, Debug)]
pub struct Settings {
    pub name: Arc<str>,
    pub display_name: String,
    pub preset: Option<&'static Preset>,
    pub dialect: Dialect,
    /// Compared byte for byte with what discovery answers (RFC 8414 §3.3), so it is kept as written.
    pub issuer: Option<String>,
    pub endpoints: Endpoints,
    pub client_id: String,
    pub client_secret: Option<SecretString>,
    pub client_auth: ClientAuth,
    pub scopes: Vec<String>,
    pub allowed_scopes: Vec<String>,
    pub audience: Option<String>,
    /// RFC 8707.
    pub resource: Vec<String>,
    /// RFC 7636, method S256.
    pub pkce: bool,
    /// Plain `http` to addresses that are not loopback.
    pub allow_http: bool,
    pub proxy: Option<Url>,
    pub limits: Limits,
    /// Callers without a key may use this confidential client.
    pub allow_anonymous: bool,
}

impl Settings {
    /// Whether the provider can be asked what it is: an issuer with a placeholder in it is only there to be compared.
    pub fn is_discoverable(&self) -> bool {
        self.issuer.as_ref().is_some_and(|issuer| !issuer.contains('{'))
    }
}

/// Endpoints named in the configuration, or by its preset; each wins over discovery.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    pub device_authorization: Option<Url>,
    pub token: Option<Url>,
    pub revocation: Option<Url>,
    pub jwks: Option<Url>,
}

/// How the client authenticates at every endpoint (RFC 6749 §2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAuth {
    None,
    ClientSecretBasic,
    ClientSecretPost,
}
