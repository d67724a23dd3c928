//! How a sign-in ended, in words for people and in a code for scripts.

use std::fmt;

use super::session::Failure;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    SignedIn,
    Denied,
    Expired,
    /// The code ran out while the service did not answer, for this reason.
    ExpiredUnheard(String),
    /// By somebody else.
    Cancelled,
    /// By Ctrl-C. The service may not have heard of it.
    Interrupted {
        is_cancelled: bool,
    },
    Failed(Option<Failure>),
    /// The service no longer knows the session.
    Forgotten,
    /// The tokens were claimed by somebody else, or were not claimed in time.
    TooLate,
    /// The tokens are here, and could not be written.
    Undelivered(String),
    /// The service refuses, or cannot be reached.
    Service(String),
}

impl Ending {
    /// The member `reason` of the last line in JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SignedIn => "signed_in",
            Self::Denied => "denied",
            Self::Expired | Self::ExpiredUnheard(_) => "expired",
            Self::Cancelled | Self::Interrupted { .. } => "cancelled",
            Self::Failed(_) => "failed",
            Self::Forgotten => "forgotten",
            Self::TooLate => "too_late",
            Self::Undelivered(_) => "undelivered",
            Self::Service(_) => "service",
        }
    }

    /// Whether nothing is left to be cancelled or acknowledged.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Denied | Self::Expired | Self::Cancelled | Self::Failed(_) | Self::Forgotten | Self::TooLate => true,
            Self::SignedIn | Self::ExpiredUnheard(_) | Self::Interrupted { .. } | Self::Undelivered(_) | Self::Service(_) => false,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SignedIn => f.write_str("Signed in."),
            Self::Denied => f.write_str("The sign-in was denied."),
            Self::Expired => f.write_str("The code has expired. Run this again for a new one."),
            Self::ExpiredUnheard(why) => write!(f, "The code has expired without a word from the service: {why}."),
            Self::Cancelled => f.write_str("The sign-in was cancelled."),
            Self::Interrupted { is_cancelled: true } => f.write_str("Cancelled."),
            Self::Interrupted { is_cancelled: false } => {
                f.write_str("Stopped, but the service could not be told: do not enter the code any more.")
            }
            Self::Failed(Some(failure)) => write!(f, "The sign-in failed ({}): {}", failure.code, failure.detail),
            Self::Failed(None) => f.write_str("The sign-in failed."),
            Self::Forgotten => f.write_str("The service has forgotten this sign-in, probably because it was restarted. Run this again."),
            Self::TooLate => f.write_str("The tokens were handed out already, or waited too long. Run this again."),
            Self::Undelivered(why) => write!(f, "Signed in, but the tokens are lost: {why}."),
            Self::Service(why) => write!(f, "Not signed in: {why}."),
        }
    }
}
