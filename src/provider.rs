//! Whoever issues device codes and tokens, and everything that is said to them.
//!
//! [`Provider`] is one exchange at a time: no loops, no timing, no state of a sign-in. What an answer means for the session is
//! the kernel's decision; when the next exchange may happen is its [pace](crate::kernel::pace).

mod body;
pub mod classify;
mod client_auth;
pub mod device;
pub mod dialect;
pub mod discovery;
pub mod egress;
pub mod exchange;
pub mod gate;
pub mod id_token;
pub mod jwks;
pub mod names;
pub mod oauth;
mod pkce;
pub mod presets;
pub mod private_key;
#[cfg(test)]
mod script;
pub mod settings;
pub mod uri;

use core::fmt;
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use self::gate::{Pass, Room};
use crate::kernel::session::Urgency;
use crate::kernel::time::Timestamp;
use crate::kernel::verdict::{Began, DeviceCode, Failure, Grant, Revocation, Verdict};

/// An OAuth 2.0 authorization server with the device authorization grant (RFC 8628), as one client of it.
///
/// Every method is one exchange: at most one request that carries secrets, bounded in time (connect 5 s, total 15 s) and in
/// size (256 KiB), never redirected. Errors are values; none of them carries anything the provider wrote.
pub trait Provider: Send + Sync + 'static {
    /// The device authorization request (RFC 8628 §3.1) for `scope` (space separated, may be empty).
    ///
    /// # Errors
    /// Why there is no code: one of the [`Failure`]s of a session that never began.
    fn begin<'a>(&'a self, scope: &'a str) -> BoxFuture<'a, Result<Began, Failure>>;

    /// One device access token request (RFC 8628 §3.4). Once tokens have come nothing more is waited for: an ID token is verified
    /// with the keys at hand, or the tokens are [`Verdict::Unverified`].
    fn ask<'a>(&'a self, sign_in: SignIn<'a>) -> BoxFuture<'a, Verdict>;

    /// Verifies the ID token of tokens that [`ask`](Provider::ask) gave as [`Verdict::Unverified`]; fetches the provider's keys if
    /// it must. Gives `Authorized`, `Untrusted` or, while the keys cannot be had, `Unverified` again. A provider that never says
    /// `Unverified` is never asked.
    fn verify<'a>(&'a self, grant: &'a Arc<Grant>) -> BoxFuture<'a, Verdict> {
        ready(Verdict::Untrusted(Arc::clone(grant))).boxed()
    }

    /// Whether an exchange would first have to find out where the provider's endpoints are. Then one does that, and others had better
    /// wait until it has ended than for it.
    fn is_unknown(&self) -> bool {
        false
    }

    /// Asks the provider to revoke the tokens (RFC 7009), the refresh token first.
    fn revoke<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Revocation>;
}

/// A sign-in in progress, by all that a provider may want to know of it again.
#[derive(Clone, Copy)]
pub struct SignIn<'a> {
    pub device_code: &'a DeviceCode,
    pub user_code: &'a str,
    /// As it was asked for.
    pub scope: &'a str,
}

/// Without the code that people type.
impl fmt::Debug for SignIn<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SignIn").field("device_code", &self.device_code).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// The configured providers by name.
pub type Providers = BTreeMap<Arc<str>, Arc<Upstream>>;

/// A provider and the limits that all its sessions share.
pub struct Upstream {
    pub name: Arc<str>,
    pub display_name: String,
    /// What is asked for when the caller names no scope, and what a caller may name.
    pub scopes: Vec<String>,
    pub allowed_scopes: Vec<String>,
    /// All of `scopes`, which most sessions have and share.
    pub usual_scope: Arc<str>,
    pub provider: Arc<dyn Provider>,
    pub gate: gate::Gate,
}

impl Upstream {
    /// As [`gate::Gate::room`]. Of those who would only wait for what another finds out, none has a place.
    pub fn room(&self, now: Timestamp, urgency: Urgency) -> Room {
        let may_wait = !matches!(urgency, Urgency::Ordinary | Urgency::Urgent);
        match self.gate.room(now, urgency) {
            Room::Now(_) if may_wait && self.provider.is_unknown() => {
                if self.gate.is_exploring() {
                    Room::WhenOneEnds
                } else {
                    Room::Now(1)
                }
            }
            room => room,
        }
    }

    /// As [`gate::Gate::enter`], under the same condition.
    pub fn enter(&self, now: Timestamp, urgency: Urgency) -> Option<Pass> {
        match self.room(now, urgency) {
            Room::Now(_) => self.gate.enter(now, urgency),
            Room::At(_) | Room::WhenOneEnds => None,
        }
    }
}
