//! What the configuration says of one provider, checked.

use std::sync::Arc;

use reqwest::Url;
use secrecy::SecretString;

use super::gate::Limits;

#[derive(Clone, Debug)]
pub struct Settings {
    pub name: Arc<str>,
    pub display_name: String,
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

/// Endpoints named in the configuration; each wins over discovery.
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
