//! The tokens that are in force. Random and opaque: they mean nothing anywhere else.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::kernel::time::Timestamp;

pub const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
const REFRESH_TOKEN_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// What one approval gave: revoked as one.
pub type GrantId = u64;

#[derive(Default)]
pub struct Tokens {
    known: HashMap<String, Token>,
    /// In the order of issue, to forget what nobody revoked.
    oldest: VecDeque<(Timestamp, String)>,
    grants: HashMap<GrantId, Vec<String>>,
    next_grant: GrantId,
}

struct Token {
    grant: GrantId,
    client: String,
    scope: String,
    refresh: bool,
    expires_at: Timestamp,
}

/// A token response (RFC 6749 §5.1).
pub struct Issued {
    pub grant: GrantId,
    pub access_token: String,
    pub refresh_token: Option<String>,
    pub scope: String,
}

impl Tokens {
    /// An access token, and a refresh token if the scope says `offline_access`.
    pub fn issue(&mut self, client: &str, scope: &str, now: Timestamp) -> Issued {
        self.forget_expired(now);
        self.next_grant += 1;
        let grant = self.next_grant;
        self.issue_for(grant, client, scope, now)
    }

    /// Exchanges a refresh token for new tokens of the same grant (RFC 6749 §6). The old ones of the grant die: rotation.
    pub fn refresh(&mut self, refresh_token: &str, client: &str, now: Timestamp) -> Option<Issued> {
        let token = self.known.get(refresh_token).filter(|token| token.refresh && token.client == client && now < token.expires_at)?;
        let (grant, scope) = (token.grant, token.scope.clone());
        self.revoke_grant(grant);
        Some(self.issue_for(grant, client, &scope, now))
    }

    /// The scope of an access token that is in force.
    pub fn scope_of(&self, access_token: &str, now: Timestamp) -> Option<&str> {
        self.known.get(access_token).filter(|token| !token.refresh && now < token.expires_at).map(|token| token.scope.as_str())
    }

    /// Revokes a token of this client and, with it, its whole grant (RFC 7009 §2.1). Somebody else's token is left alone.
    pub fn revoke(&mut self, token: &str, client: &str) {
        if let Some(grant) = self.known.get(token).filter(|token| token.client == client).map(|token| token.grant) {
            self.revoke_grant(grant);
        }
    }

    pub fn revoke_grant(&mut self, grant: GrantId) {
        for token in self.grants.remove(&grant).unwrap_or_default() {
            self.known.remove(&token);
        }
    }

    fn issue_for(&mut self, grant: GrantId, client: &str, scope: &str, now: Timestamp) -> Issued {
        let access_token = self.add(grant, client, scope, false, now + ACCESS_TOKEN_LIFETIME);
        let offline = scope.split(' ').any(|scope| scope == "offline_access");
        let refresh_token = offline.then(|| self.add(grant, client, scope, true, now + REFRESH_TOKEN_LIFETIME));
        Issued { grant, access_token, refresh_token, scope: scope.to_owned() }
    }

    fn add(&mut self, grant: GrantId, client: &str, scope: &str, refresh: bool, expires_at: Timestamp) -> String {
        let token = random_text::<32>();
        let entry = Token { grant, client: client.to_owned(), scope: scope.to_owned(), refresh, expires_at };
        self.known.insert(token.clone(), entry);
        self.grants.entry(grant).or_default().push(token.clone());
        if !refresh {
            self.oldest.push_back((expires_at, token.clone()));
        }
        token
    }

    /// Access tokens all live equally long, so the queue is in the order of expiry.
    fn forget_expired(&mut self, now: Timestamp) {
        while let Some((_, token)) = self.oldest.pop_front_if(|(expires_at, _)| *expires_at <= now) {
            let Some(gone) = self.known.remove(&token) else { continue };
            if let Some(left) = self.grants.get_mut(&gone.grant) {
                left.retain(|other| *other != token);
                if left.is_empty() {
                    self.grants.remove(&gone.grant);
                }
            }
        }
    }
}

/// `N` random bytes in base64url.
pub fn random_text<const N: usize>() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<N>())
}

#[expect(clippy::expect_used, reason = "the kernel's generator does not fail once the machine has booted")]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}
