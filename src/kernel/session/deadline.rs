//! When something is to happen to a session next, and what.

use super::{ABANDONED, Session, State, Terms};
use crate::kernel::time::Timestamp;

/// What is to happen to a session when its time has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// The provider is to be asked: a poller runs.
    Ask(Urgency),
    /// Time alone decides: [`Session::lapse`].
    Lapse,
}

/// What a request may expect of its provider's room: whether it waits while the provider wants to be left alone, and what share it
/// has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    Ordinary,
    /// The last poll: later would be too late.
    Urgent,
    /// Somebody waits for the code.
    Beginning,
    /// The tokens are here and withheld.
    Verification,
    /// Nobody waits for it.
    Background,
}

impl Session {
    /// When the provider will be asked next; absent while it is being asked and when it will not be.
    pub fn next_poll_at(&self) -> Option<Timestamp> {
        match (&self.kept.state, self.open_attempt) {
            (State::Pending(_), None) => Some(self.polling.next_at),
            (State::Verifying(verifying), None) => Some(verifying.next_at),
            _ => None,
        }
    }

    /// When something is to happen next, and what. An open attempt has no due time of its own, only the moment after which
    /// its poller must be dead.
    pub fn due(&self, terms: &Terms) -> Option<(Timestamp, Due)> {
        let ask = self.asks_at().map(|(at, urgency)| (at, Due::Ask(urgency)));
        let lapse = self.lapses_at(terms).map(|at| (at, Due::Lapse));
        [lapse, ask].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn asks_at(&self) -> Option<(Timestamp, Urgency)> {
        if let Some(open) = self.open_attempt {
            return (!open.answered).then_some((open.since + ABANDONED, Urgency::Urgent));
        }
        let revocations = || self.revocations().iter().map(|revocation| (revocation.next_at, Urgency::Background));
        match &self.kept.state {
            State::Starting => Some((self.opened_at(), Urgency::Beginning)),
            // A revocation that waits for its share must not keep the sign-in waiting, so it comes after that.
            State::Pending(pending) if !self.polling.is_hopeless(pending) => Some((self.polling.next_at, self.polling.urgency(pending))),
            State::Verifying(verifying) => Some((verifying.next_at, Urgency::Verification)),
            _ => self.renewing_since().map(|at| (at, Urgency::Beginning)).or_else(|| revocations().min_by_key(|(at, _)| *at)),
        }
    }

    pub(super) fn lapses_at(&self, terms: &Terms) -> Option<Timestamp> {
        let own = match &self.kept.state {
            _ if self.open_attempt.is_some() || self.is_renewing() => None,
            State::Starting | State::Verifying(_) => None,
            State::Pending(pending) => self.polling.is_hopeless(pending).then_some(pending.expires_at),
            State::Authorized { claim_by, .. } => Some(*claim_by),
            State::Claimed { held: Some(held), .. } => Some(held.until),
            // What is to be revoked is not forgotten, nor what a repeated request asks for.
            _ if !self.revocations().is_empty() || self.creation().is_some() => None,
            State::Claimed { at, held: None }
            | State::Denied { at }
            | State::Expired { at }
            | State::Cancelled { at }
            | State::Failed { at, .. } => Some(*at + terms.retention),
        };
        let creation = self.creation().map(|creation| creation.until);
        // Tried or not: at a provider that is configured no more nobody tries.
        let revocations = self.revocations().iter().filter(|_| self.open_attempt.is_none()).map(|revocation| revocation.until);
        own.into_iter().chain(creation).chain(revocations).min()
    }
}
