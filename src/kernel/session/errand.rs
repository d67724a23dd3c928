//! What the provider is asked, and the attempts to ask it.

use std::sync::Arc;

use crate::kernel::time::Timestamp;
use crate::kernel::verdict::{DeviceCode, Grant};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OpenAttempt {
    pub(super) since: Timestamp,
    pub(super) answered: bool,
    pub(super) kind: Kind,
}

/// Which [`Errand`] an attempt is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Begin,
    Poll,
    Verify,
    Revoke,
}

/// The number of an exchange with the provider. Only the latest, while it is open, may be reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt(pub(super) u32);

/// What an attempt is for.
#[derive(Clone, Debug)]
pub enum Errand {
    /// The device authorization request (RFC 8628 §3.1).
    Begin,
    /// A device access token request (RFC 8628 §3.4).
    Poll(Arc<DeviceCode>),
    /// To verify the ID token that came with these tokens.
    Verify(Arc<Grant>),
    /// A token revocation request (RFC 7009 §2.1).
    Revoke(Arc<Grant>),
}

impl Errand {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Begin => Kind::Begin,
            Self::Poll(_) => Kind::Poll,
            Self::Verify(_) => Kind::Verify,
            Self::Revoke(_) => Kind::Revoke,
        }
    }

    /// For metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Poll(_) => "poll",
            Self::Verify(_) => "verify",
            Self::Revoke(_) => "revoke",
        }
    }
}
