//! The times of a record: told by the one clock or the other, and cut to what can be true.

use core::time::Duration;

use super::{CreationFacts, HeldFacts, Record, StateFacts};
use crate::kernel::session::{CLAIM_WINDOW, REPEATABLE, REVOCATION_PERIOD, Terms, VERIFICATION_PERIOD};
use crate::kernel::time::{Offset, Timestamp, WallTime};

/// No code lives longer.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

impl Record {
    /// As the store has it: the next start begins with the wall clock of then.
    pub fn by_the_wall(mut self, offset: Offset) -> Self {
        if offset != Offset::ZERO {
            self.times().for_each(|time| *time = Timestamp::from_millis(offset.wall(*time).as_millis()));
        }
        self
    }

    /// As we count, of what the store has.
    pub fn by_the_service(mut self, offset: Offset) -> Self {
        if offset != Offset::ZERO {
            self.times().for_each(|time| *time = offset.service(WallTime::from_millis(time.as_millis())));
        }
        self
    }

    /// A clock that was set back since the record was stored makes nothing last longer than it may, counted from `now`. True if that
    /// changed anything; then it is to be stored, or the next start would count anew.
    pub fn cut(&mut self, now: Timestamp, terms: &Terms) -> bool {
        let mut changed = false;
        let mut no_later = |time: &mut Timestamp, limit: Timestamp| {
            changed |= *time > limit;
            *time = limit.min(*time);
        };
        let facts = &mut self.facts;
        let mut longest = LONGEST_LIFETIME;
        match &mut facts.state {
            StateFacts::Starting => {}
            StateFacts::Pending { began_at, .. } => {
                if let Some(prompt) = &facts.prompt
                    && *began_at > now
                {
                    longest = longest.min(prompt.expires_at.since(*began_at));
                }
                no_later(began_at, now);
            }
            StateFacts::Verifying { until } => no_later(until, now + VERIFICATION_PERIOD),
            StateFacts::Authorized { claim_by } => no_later(claim_by, now + terms.claim_ttl),
            StateFacts::Claimed { at, held } => {
                no_later(at, now);
                if let Some(HeldFacts { until, .. }) = held {
                    no_later(until, now + CLAIM_WINDOW);
                }
            }
            StateFacts::Denied { at } | StateFacts::Expired { at } | StateFacts::Cancelled { at } | StateFacts::Failed { at, .. } => {
                no_later(at, now);
            }
        }
        if let Some(prompt) = &mut facts.prompt {
            no_later(&mut prompt.expires_at, now + longest);
        }
        if let Some(CreationFacts { until, .. }) = &mut facts.creation {
            no_later(until, now + REPEATABLE);
        }
        for until in &mut facts.revocations {
            no_later(until, now + REVOCATION_PERIOD);
        }
        self.opened_at = self.opened_at.min(now);
        changed
    }

    fn times(&mut self) -> impl Iterator<Item = &mut Timestamp> {
        let facts = &mut self.facts;
        let (of_state, held) = match &mut facts.state {
            StateFacts::Starting => (None, None),
            StateFacts::Claimed { at, held } => (Some(at), held.as_mut().map(|held| &mut held.until)),
            StateFacts::Pending { began_at: at, .. }
            | StateFacts::Verifying { until: at }
            | StateFacts::Authorized { claim_by: at }
            | StateFacts::Denied { at }
            | StateFacts::Expired { at }
            | StateFacts::Cancelled { at }
            | StateFacts::Failed { at, .. } => (Some(at), None),
        };
        let expiry = facts.prompt.as_mut().map(|prompt| &mut prompt.expires_at);
        let creation = facts.creation.as_mut().map(|creation| &mut creation.until);
        [Some(&mut self.opened_at), of_state, held, expiry, creation].into_iter().flatten().chain(&mut facts.revocations)
    }
}
