//! A new code for a session that was denied or has expired, because its owner asks for one.
//!
//! The request changes nothing that others see. Only when the provider has given a code does the session become pending again,
//! under the same id; if it gives none the session stays as it ended. Attempts keep their numbers, so what is reported for an
//! older code is refused, and tokens for one are revoked.

use super::{Attempt, Refused, Session, State};
use crate::kernel::time::Timestamp;
use crate::kernel::verdict::Failure;

/// What the owner's requests have come to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Renewal {
    pub(super) made: u8,
    /// How often one was asked for, whatever came of it.
    asked: u8,
    /// Attempts up to this number were for older codes.
    fence: u32,
    request: Request,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Request {
    #[default]
    None,
    Asked(Timestamp),
    Failed(Failure),
}

/// How often a new code is asked for, for one session.
pub const MAX_RENEWALS: u8 = 5;

impl Renewal {
    /// After a restart nobody is left to report for an older code.
    pub(super) fn restored(made: u8) -> Option<Self> {
        (made > 0).then(|| Self { made, asked: made, ..Self::default() })
    }
}

impl Session {
    /// Asks for a new code.
    ///
    /// # Errors
    /// [`Refused::NotRenewable`]: it is neither denied nor expired, was to be renewed [`MAX_RENEWALS`] times, or is being renewed.
    pub fn renew(mut self, now: Timestamp) -> Result<Self, Refused> {
        let has_ended = matches!(self.kept.state, State::Denied { .. } | State::Expired { .. });
        let renewal = self.renewal().copied().unwrap_or_default();
        if !has_ended || self.is_renewing() || renewal.asked >= MAX_RENEWALS {
            return Err(Refused::NotRenewable);
        }
        let asked = renewal.asked.saturating_add(1);
        self.change_extras(|extras| extras.renewal = Some(Renewal { asked, request: Request::Asked(now), ..renewal }));
        Ok(self)
    }

    /// Nobody waits for the new code any more; one that still comes is refused.
    ///
    /// # Errors
    /// [`Refused::Stale`] when none was being waited for.
    pub fn forgo_renewal(self) -> Result<Self, Refused> {
        if self.is_renewing() { Ok(self.with_request(Request::None)) } else { Err(Refused::Stale) }
    }

    /// How often it got a new code.
    pub fn renewals(&self) -> u8 {
        self.renewal().map_or(0, |renewal| renewal.made)
    }

    pub fn is_renewing(&self) -> bool {
        self.renewing_since().is_some()
    }

    /// Why the last request for a new code came to nothing.
    pub fn renewal_failure(&self) -> Option<Failure> {
        match self.renewal()?.request {
            Request::Failed(failure) => Some(failure),
            Request::None | Request::Asked(_) => None,
        }
    }

    pub(super) fn renewing_since(&self) -> Option<Timestamp> {
        match self.renewal()?.request {
            Request::Asked(at) => Some(at),
            Request::None | Request::Failed(_) => None,
        }
    }

    pub(super) fn renewal_failed(self, failure: Failure) -> Self {
        self.with_request(Request::Failed(failure))
    }

    /// The code that `attempt` brought takes the place of all earlier ones.
    pub(super) fn renewed(mut self, attempt: Attempt) -> Self {
        if self.is_renewing() {
            let renewal = self.renewal().copied().unwrap_or_default();
            let made = renewal.made.saturating_add(1);
            let renewed = Renewal { made, fence: attempt.0, request: Request::None, ..renewal };
            self.change_extras(|extras| extras.renewal = Some(renewed));
        }
        self
    }

    pub(super) fn is_for_an_older_code(&self, attempt: Attempt) -> bool {
        self.renewal().is_some_and(|renewal| attempt.0 <= renewal.fence)
    }

    fn with_request(mut self, request: Request) -> Self {
        let renewal = self.renewal().copied().unwrap_or_default();
        self.change_extras(|extras| extras.renewal = Some(Renewal { request, ..renewal }));
        self
    }
}
