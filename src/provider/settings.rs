//! What the configuration says of one provider, checked.

use std::sync::Arc;

use reqwest::Url;
use secrecy::SecretString;

use super::dialect::Dialect;
use super::egress::Network;
use super::gate::Limits;
use super::presets::Preset;
use super::private_key::PrivateKey;

#[derive(Clone, Debug)]
pub struct Settings {
    pub name: Arc<str>,
    pub display_name: String,
    pub preset: Option<&'static Preset>,
    pub dialect: Dialect,
    /// Compared byte for byte with what discovery answers (RFC 8414 §3.3), so it is kept as written. One that many tenants share
    /// has `{tenantid}` in it, for which ID tokens have what they claim as `tid` (Entra ID).
    pub issuer: Option<String>,
    pub endpoints: Endpoints,
    pub client_id: String,
    pub client_secret: Option<SecretString>,
    pub client_auth: ClientAuth,
    /// For [`ClientAuth::PrivateKeyJwt`].
    pub private_key: Option<Arc<PrivateKey>>,
    pub assertion_audience: AssertionAudience,
    pub scopes: Vec<String>,
    pub allowed_scopes: Vec<String>,
    pub audience: Option<String>,
    /// RFC 8707.
    pub resource: Vec<String>,
    /// RFC 7636, method S256.
    pub pkce: bool,
    /// Plain `http` to addresses that are not loopback.
    pub allow_http: bool,
    /// Networks that the provider's endpoints may be in although they are not public.
    pub allow_networks: Vec<Network>,
    pub proxy: Option<Url>,
    pub limits: Limits,
    /// Callers without a key may use this confidential client.
    pub allow_anonymous: bool,
}

impl Settings {
    /// Whether there is an address at which the provider tells what it is.
    pub fn is_discoverable(&self) -> bool {
        self.issuer.as_ref().is_some_and(|issuer| !issuer.contains(TENANT))
    }

    /// Whether the client has something to prove itself with.
    pub fn is_confidential(&self) -> bool {
        self.client_secret.is_some() || self.private_key.is_some()
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
    /// `client_secret_basic` as it was before RFC 6749: id and secret are not form-encoded.
    ClientSecretBasicRaw,
    ClientSecretPost,
    /// RFC 7523.
    PrivateKeyJwt,
}

impl ClientAuth {
    /// As metadata documents name it (RFC 8414 §2).
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic | Self::ClientSecretBasicRaw => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }
}

/// Whom a client assertion is for. Without an issuer, or with one for many tenants, it is the token endpoint in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AssertionAudience {
    #[default]
    Issuer,
    TokenEndpoint,
}

/// Stands for a tenant in [`Settings::issuer`].
pub const TENANT: &str = "{tenantid}";
