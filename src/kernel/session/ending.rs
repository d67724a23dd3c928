//! How a session ends, by its owner, by a failure of ours, or by time.

use std::sync::Arc;

use super::{CLAIM_WINDOW, Claimed, Digest, Held, Lapsed, Refused, Session, State, Terms, Verifying};
use crate::kernel::time::Timestamp;
use crate::kernel::verdict::{Failure, Grant};

impl Session {
    /// Hands the tokens to their owner, once: to the first claim key that asks, which may read them again for
    /// [`CLAIM_WINDOW`]; without a key, never again.
    ///
    /// # Errors
    /// [`Refused::StillPending`], [`Refused::NotAuthorized`], [`Refused::AlreadyClaimed`].
    pub fn claim(self, key: Option<Digest>, now: Timestamp) -> Result<Claimed, Refused> {
        match &self.kept.state {
            State::Starting | State::Pending(_) | State::Verifying(_) => Err(Refused::StillPending),
            State::Authorized { claim_by, .. } if *claim_by <= now => Err(Refused::NotAuthorized),
            State::Authorized { grant, .. } => {
                let grant = Arc::clone(grant);
                let held = key.map(|key| Box::new(Held { key, grant: Arc::clone(&grant), until: now + CLAIM_WINDOW }));
                Ok((grant, Some(self.become_visibly(State::Claimed { at: now, held }))))
            }
            State::Claimed { held: Some(held), .. } if key == Some(held.key) && now < held.until => Ok((Arc::clone(&held.grant), None)),
            State::Claimed { .. } => Err(Refused::AlreadyClaimed),
            State::Denied { .. } | State::Expired { .. } | State::Cancelled { .. } | State::Failed { .. } => Err(Refused::NotAuthorized),
        }
    }

    /// The owner wants no more of it: what waits is cancelled, what has tokens is cancelled and revoked, what is claimed is
    /// acknowledged (its tokens erased); a new code is not waited for. Anything else is left as it is.
    ///
    /// # Errors
    /// [`Refused::Settled`] when there was nothing to do.
    pub fn cancel(mut self, now: Timestamp) -> Result<Self, Refused> {
        match self.kept.state.clone() {
            State::Starting | State::Pending(_) => Ok(self.become_visibly(State::Cancelled { at: now })),
            State::Authorized { grant, .. } | State::Verifying(Verifying { grant, .. }) => {
                Ok(self.revoking(grant, now).become_visibly(State::Cancelled { at: now }))
            }
            State::Claimed { at, held: Some(_) } => {
                self.kept_mut().state = State::Claimed { at, held: None };
                Ok(self.durably())
            }
            _ => self.forgo_renewal().map_err(|_| Refused::Settled),
        }
    }

    /// Tokens came that nobody asks for any more, whatever the session has become: they are to be revoked, unless they have got
    /// into the session already.
    pub fn disown(self, grant: Arc<Grant>, now: Timestamp) -> Self {
        if self.has(&grant) {
            return self;
        }
        self.revoking(grant, now).durably()
    }

    /// Ends a session that cannot go on, for a reason on our side or before it had a code; then there is nothing to store. One
    /// that is being renewed stays as it ended.
    ///
    /// # Errors
    /// [`Refused::Settled`], also for an authorized session: its tokens wait for their owner whatever happens to pollers.
    pub fn fail(self, failure: Failure, now: Timestamp) -> Result<Self, Refused> {
        match &self.kept.state {
            State::Starting => Ok(self.showing(State::Failed { at: now, failure })),
            State::Pending(_) => Ok(self.become_visibly(State::Failed { at: now, failure })),
            State::Verifying(Verifying { grant, .. }) => {
                let grant = Arc::clone(grant);
                Ok(self.revoking(grant, now).become_visibly(State::Failed { at: now, failure }))
            }
            _ if self.is_renewing() => Ok(self.renewal_failed(failure)),
            _ => Err(Refused::Settled),
        }
    }

    /// Does what time alone demands: expires what nobody claimed, erases what may not be read any more, forgets what is over.
    ///
    /// # Errors
    /// [`Refused::NotDue`] when time demands nothing yet.
    pub fn lapse(mut self, now: Timestamp, terms: &Terms) -> Result<Lapsed, Refused> {
        if self.creation().is_some_and(|creation| creation.until <= now) {
            self.change_extras(|extras| extras.creation = None);
            return Ok(Lapsed::Kept(self.durably()));
        }
        if self.open_attempt.is_none() && self.revocations().iter().any(|revocation| revocation.until <= now) {
            self.change_extras(|extras| extras.revocations.retain(|revocation| now < revocation.until));
            return Ok(Lapsed::Kept(self.durably()));
        }
        if self.lapses_at(terms).is_none_or(|at| now < at) {
            return Err(Refused::NotDue);
        }
        match self.kept.state.clone() {
            State::Starting | State::Verifying(_) => Err(Refused::NotDue),
            State::Pending(_) => Ok(Lapsed::Kept(self.become_visibly(State::Expired { at: now }))),
            State::Authorized { grant, .. } => Ok(Lapsed::Kept(self.revoking(grant, now).become_visibly(State::Expired { at: now }))),
            State::Claimed { at, held: Some(_) } => {
                self.kept_mut().state = State::Claimed { at, held: None };
                Ok(Lapsed::Kept(self.durably()))
            }
            _ => Ok(Lapsed::Forgotten),
        }
    }
}
