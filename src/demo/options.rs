//! How strict the provider is, and who its clients are.

use std::fmt;

use jsonwebtoken::jwk::Jwk;

/// The default is a strict RFC 8628 server. Everything but `clients` may be changed while it runs
/// ([`DevProvider::configure`](super::DevProvider::configure)).
#[derive(Clone, Debug)]
pub struct Options {
    pub clients: Vec<Client>,
    /// Seconds, as announced. `None` leaves the member out, which means 5 (RFC 8628 §3.2).
    pub interval: Option<u64>,
    /// Seconds that a code lives.
    pub expires_in: u64,
    /// Whether early polls are answered with `slow_down`. `None`: never; they are counted all the same.
    pub rate_check: Option<RateCheck>,
    pub replay: Replay,
    pub after_expiry: AfterExpiry,
    /// Whether a code that was approved in time still yields tokens after its expiry.
    pub redeems_late: bool,
    /// The HTTP status of `authorization_pending`: RFC 8628 says 400, others say 403, 428 or 200.
    pub pending_status: u16,
    /// The HTTP status of `slow_down`: 400, 403 or 429 in the wild.
    pub slow_down_status: u16,
    /// Approves every new code at its n-th poll, for load without people. `Some(1)`: the first poll gets the tokens.
    pub approve_at_poll: Option<u64>,
    pub id_tokens: IdTokens,
    pub recording: Recording,
}

/// A poll is early when it comes sooner after the one before (the first: after the device response) than the interval in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RateCheck {
    /// An approved code yields its tokens even to an early poll (oidc-provider, Keycloak).
    WhilePending(Window),
    /// An early poll gets `slow_down` whatever the person decided (GitHub, IdentityServer4).
    BeforeApproval(Window),
}

/// From where the interval counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// The last poll that was not early.
    Fixed,
    /// The last poll: an early one starts the wait again (IdentityServer4, Dex), so a hasty client starves.
    Sliding,
}

/// What happens when a code that has yielded its tokens is presented again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replay {
    /// `invalid_grant`; the tokens live on.
    Refuse,
    /// `invalid_grant`, and the tokens are revoked (oidc-provider, fosite).
    Revoke,
}

/// What a poll after expiry gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterExpiry {
    ExpiredToken,
    /// The code is gone from the provider's cache (Keycloak).
    InvalidGrant,
    /// For ever `authorization_pending` (old Spring Authorization Server).
    Pending,
}

/// What comes with the tokens if the scope says `openid`. For worse ones edit the answer ([`Answer::edit`](super::Answer::edit))
/// and sign with [`DevProvider::key`](super::DevProvider::key).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdTokens {
    Sound,
    /// Signed by a key that nobody knows, in the name of the one that `/jwks` shows.
    Forged,
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recording {
    /// Every exchange, for tests.
    Full,
    /// Only the counts: memory stays flat under load.
    Counts,
}

/// A registered client.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    /// What the page calls it.
    pub name: String,
    pub auth: ClientAuth,
}

/// The one way in which a client authenticates (RFC 6749 §2.3).
#[derive(Clone, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    SecretBasic(String),
    SecretPost(String),
    /// RFC 7523 with this public key.
    PrivateKeyJwt(Box<Jwk>),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clients: vec![Client::public("demo-tv", "Demo TV")],
            interval: Some(5),
            expires_in: 600,
            rate_check: Some(RateCheck::WhilePending(Window::Fixed)),
            replay: Replay::Revoke,
            after_expiry: AfterExpiry::ExpiredToken,
            redeems_late: false,
            pending_status: 400,
            slow_down_status: 400,
            approve_at_poll: None,
            id_tokens: IdTokens::Sound,
            recording: Recording::Full,
        }
    }
}

impl Client {
    pub fn public(id: &str, name: &str) -> Self {
        Self { id: id.to_owned(), name: name.to_owned(), auth: ClientAuth::None }
    }

    pub fn with_basic(id: &str, name: &str, secret: &str) -> Self {
        Self { auth: ClientAuth::SecretBasic(secret.to_owned()), ..Self::public(id, name) }
    }

    pub fn with_key(id: &str, name: &str, public: Jwk) -> Self {
        Self { auth: ClientAuth::PrivateKeyJwt(Box::new(public)), ..Self::public(id, name) }
    }

    pub fn with_post(id: &str, name: &str, secret: &str) -> Self {
        Self { auth: ClientAuth::SecretPost(secret.to_owned()), ..Self::public(id, name) }
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::SecretBasic(_) => "SecretBasic(…)",
            Self::SecretPost(_) => "SecretPost(…)",
            Self::PrivateKeyJwt(_) => "PrivateKeyJwt(…)",
        })
    }
}
