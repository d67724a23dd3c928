//! The exchanges with the provider: announced, answered, reported.

use core::time::Duration;
use std::sync::Arc;

use super::{
    Attempt, CHECK_EVERY, Doubt, Errand, Kind, OpenAttempt, Pending, Refused, Session, State, Terms, Urgency, VERIFICATION_PERIOD,
    VERIFICATION_RETRY, Verifying,
};
use crate::kernel::pace::{Jitter, Pace};
use crate::kernel::time::Timestamp;
use crate::kernel::verdict::{Began, Failure, Grant, Verdict};

/// How much earlier than announced a code may expire without being suspect.
const EXPIRY_SLACK: Duration = Duration::from_secs(10);

impl Session {
    /// Announces an exchange with the provider; it is open until it is reported. An attempt found open belongs to a poller
    /// that died: it is closed as ambiguous, the pace counts from `now`, and nothing is asked (`None`).
    ///
    /// # Errors
    /// [`Refused::NotDue`] when there is nothing to ask yet or any more.
    pub fn attempt(mut self, now: Timestamp) -> Result<(Self, Option<(Attempt, Errand)>), Refused> {
        if self.open_attempt.is_some() {
            return Ok((self.close_abandoned(now)?, None));
        }
        let errand = match (&self.state, &self.revocation) {
            (_, Some(revocation)) if revocation.next_at <= now => Errand::Revoke(Arc::clone(&revocation.grant)),
            _ if self.is_beginning() => Errand::Begin,
            (State::Pending(pending), _) if pending.next_poll_at <= now && !pending.is_hopeless() => {
                Errand::Poll(Arc::clone(&pending.device_code))
            }
            (State::Verifying(verifying), _) if verifying.next_at <= now => Errand::Verify(Arc::clone(&verifying.grant)),
            _ => return Err(Refused::NotDue),
        };
        self.attempts = self.attempts.wrapping_add(1);
        self.open_attempt = Some(OpenAttempt { since: now, answered: false, kind: errand.kind() });
        let attempt = Attempt(self.attempts);
        Ok((self, Some((attempt, errand))))
    }

    /// Closes the attempt that a dead poller left open, as ambiguous; the pace counts from `now`.
    ///
    /// # Errors
    /// [`Refused::NotDue`] when none is open, or its answer is being reported.
    pub fn close_abandoned(self, now: Timestamp) -> Result<Self, Refused> {
        match self.open_attempt {
            Some(open) if !open.answered => Ok(self.abandoned(now)),
            _ => Err(Refused::NotDue),
        }
    }

    /// An answer has arrived and is being reported: from here on the attempt does not count as abandoned, however long the
    /// store takes.
    ///
    /// # Errors
    /// [`Refused::Stale`] when the attempt is not the open one.
    pub fn answered(mut self, attempt: Attempt) -> Result<Self, Refused> {
        let is_for_an_older_code = self.is_for_an_older_code(attempt);
        match &mut self.open_attempt {
            Some(open) if self.attempts == attempt.0 => open.answered = true,
            _ if is_for_an_older_code => {}
            _ => return Err(Refused::Stale),
        }
        Ok(self)
    }

    /// Whether an answer has arrived and is being reported.
    pub fn is_answered(&self) -> bool {
        self.open_attempt.is_some_and(|open| open.answered)
    }

    /// The device authorization response (RFC 8628 §3.2): what is `starting` or being renewed becomes `pending`. The first poll
    /// waits one interval.
    ///
    /// # Errors
    /// [`Refused::Stale`] when the attempt is not the open one, or no code is wanted any more.
    pub fn began(self, attempt: Attempt, began: Began, now: Timestamp, jitter: Jitter) -> Result<Self, Refused> {
        let mut next = self.close(attempt)?;
        if !next.is_beginning() {
            return Err(Refused::Stale);
        }
        let Began { device_code, prompt, interval } = began;
        let pace = Pace::new(interval);
        let mut pending = Pending {
            device_code,
            began_at: now,
            expires_at: prompt.expires_at,
            pace,
            next_poll_at: now,
            not_before: now,
            checked_at: Timestamp::default(),
            doubt: Doubt::None,
            failures: 0,
            gibberish: 0,
        };
        pending.schedule(now, 0, None, jitter);
        next.prompt = Some(prompt);
        Ok(next.renewed(attempt).become_visibly(State::Pending(pending)))
    }

    /// The provider gave no code: `starting` becomes `failed`, what was to be renewed stays as it ended.
    ///
    /// # Errors
    /// [`Refused::Stale`] when the attempt is not the open one, or no code is wanted any more.
    pub fn not_begun(self, attempt: Attempt, failure: Failure, now: Timestamp) -> Result<Self, Refused> {
        let next = self.close(attempt)?;
        if !next.is_beginning() {
            return Err(Refused::Stale);
        }
        next.fail(failure, now)
    }

    /// A token response (RFC 8628 §3.5), received at `now`, or the verdict on tokens that were withheld. A grant that comes after
    /// the session was settled, or for an older code, is kept only to be revoked.
    ///
    /// # Errors
    /// [`Refused::Stale`] when the attempt is not the open one.
    pub fn report(self, attempt: Attempt, verdict: Verdict, now: Timestamp, jitter: Jitter, terms: &Terms) -> Result<Self, Refused> {
        if let Verdict::Authorized(grant) | Verdict::Unverified(grant) | Verdict::Untrusted(grant) = &verdict
            && self.is_for_an_older_code(attempt)
        {
            return Ok(self.revoking(Arc::clone(grant), now).durably());
        }
        let (asked, kind) = self.open_attempt.map(|open| (open.since, open.kind)).unzip();
        let next = self.close(attempt)?;
        match (next.state.clone(), verdict) {
            (State::Pending(pending), verdict) => {
                let was_last = asked >= Some(pending.expires_at);
                Ok(next.judged(pending, verdict, was_last, now, jitter, terms))
            }
            (State::Verifying(verifying), verdict) => Ok(next.verified(verifying, verdict, now, terms)),
            // While the tokens were being verified the session was settled, and they are being revoked already.
            _ if kind == Some(Kind::Verify) => Ok(next),
            (_, Verdict::Authorized(grant) | Verdict::Unverified(grant) | Verdict::Untrusted(grant)) if next.is_settled() => {
                Ok(next.revoking(grant, now).durably())
            }
            _ => Ok(next),
        }
    }

    fn judged(self, mut pending: Pending, verdict: Verdict, was_last: bool, now: Timestamp, jitter: Jitter, terms: &Terms) -> Self {
        let failed = |failure| State::Failed { at: now, failure };
        let expired = State::Expired { at: now };
        match verdict {
            Verdict::Authorized(grant) => self.become_visibly(State::Authorized { grant, claim_by: now + terms.claim_ttl }),
            // Due at once: the tokens must be safe before anything else is waited for.
            Verdict::Unverified(grant) => self.withholding(Verifying { grant, next_at: now, until: now + VERIFICATION_PERIOD }),
            Verdict::Untrusted(grant) => self.distrusting(grant, now),
            Verdict::Denied => self.become_visibly(State::Denied { at: now }),
            Verdict::Expired if pending.doubt != Doubt::None && now + EXPIRY_SLACK < pending.expires_at => {
                self.become_visibly(failed(Failure::GrantLost))
            }
            Verdict::Expired => self.become_visibly(expired),
            Verdict::DeadCode if pending.is_suspect(now) => self.become_visibly(failed(Failure::GrantLost)),
            Verdict::DeadCode if now >= pending.expires_at => self.become_visibly(expired),
            Verdict::DeadCode | Verdict::Rejected => self.become_visibly(failed(Failure::ProviderRejected)),
            Verdict::Redirected => self.become_visibly(failed(Failure::ProviderInvalidResponse)),
            _ if was_last => self.become_visibly(expired),
            Verdict::Gibberish { tolerated, .. } if pending.gibberish >= tolerated => {
                self.become_visibly(failed(Failure::ProviderInvalidResponse))
            }
            Verdict::Pending => self.wait(pending.heard(), now, None, jitter),
            Verdict::SlowDown { interval, retry_after } => {
                pending.pace = pending.pace.slow_down(interval, retry_after);
                (pending.failures, pending.gibberish) = (0, 0);
                self.wait(pending, now, retry_after, jitter).durably()
            }
            Verdict::Unreachable { ambiguous, retry_after } => self.wait(pending.unheard(ambiguous, 0), now, retry_after, jitter),
            Verdict::Throttled { retry_after } => self.wait(pending.unheard(false, 0), now, retry_after, jitter),
            Verdict::Gibberish { ambiguous, .. } => self.wait(pending.unheard(ambiguous, 1), now, None, jitter),
        }
    }

    fn verified(self, verifying: Verifying, verdict: Verdict, now: Timestamp, terms: &Terms) -> Self {
        match verdict {
            Verdict::Authorized(grant) => self.become_visibly(State::Authorized { grant, claim_by: now + terms.claim_ttl }),
            Verdict::Unverified(_) if now < verifying.until => self.verifying_later(verifying, now),
            _ => self.distrusting(verifying.grant, now),
        }
    }

    fn withholding(mut self, verifying: Verifying) -> Self {
        let was_reachable = self.provider_reachable();
        self.state = State::Verifying(verifying);
        if !was_reachable {
            self.revision = self.revision.saturating_add(1);
        }
        self.durably()
    }

    fn verifying_later(mut self, verifying: Verifying, now: Timestamp) -> Self {
        self.state = State::Verifying(Verifying { next_at: now + VERIFICATION_RETRY, ..verifying });
        self
    }

    fn distrusting(self, grant: Arc<Grant>, now: Timestamp) -> Self {
        self.revoking(grant, now).become_visibly(State::Failed { at: now, failure: Failure::IdTokenInvalid })
    }

    /// The answer to a revocation request: done, or to be tried again until its period is over.
    ///
    /// # Errors
    /// [`Refused::Stale`] when the attempt is not the open one.
    pub fn revoked(self, attempt: Attempt, done: bool, now: Timestamp) -> Result<Self, Refused> {
        let mut next = self.close(attempt)?;
        match &next.revocation {
            Some(revocation) if !done && now < revocation.until => {
                next.revocation = Some(revocation.tried(now));
                Ok(next)
            }
            revocation => {
                next.revocation = revocation.as_ref().and_then(|revocation| revocation.then.clone());
                Ok(next.durably())
            }
        }
    }

    /// A watcher asks for a poll as soon as the provider's pace allows: our own back-off is cut short, nothing else.
    ///
    /// # Errors
    /// [`Refused::NotDue`] when nothing is polled for, [`Refused::TooOften`] less than [`CHECK_EVERY`] after the last time.
    pub fn check(mut self, now: Timestamp) -> Result<Self, Refused> {
        let State::Pending(pending) = &mut self.state else { return Err(Refused::NotDue) };
        if now < pending.checked_at + CHECK_EVERY {
            return Err(Refused::TooOften);
        }
        pending.checked_at = now;
        pending.next_poll_at = pending.next_poll_at.min(pending.not_before);
        Ok(self)
    }

    /// A code is wanted of the provider.
    fn is_beginning(&self) -> bool {
        matches!(self.state, State::Starting) || self.is_renewing()
    }

    fn abandoned(mut self, now: Timestamp) -> Self {
        let Some(open) = self.open_attempt.take() else { return self };
        if open.kind == Kind::Revoke {
            self.revocation = self
                .revocation
                .and_then(|revocation| if now < revocation.until { Some(revocation.tried(now)) } else { revocation.then.clone() });
        } else if let State::Verifying(verifying) = &mut self.state {
            verifying.next_at = now + VERIFICATION_RETRY;
        } else if let State::Pending(pending) = &mut self.state {
            pending.doubt = Doubt::Sent;
            pending.schedule(now, 0, None, Jitter::default());
        }
        self
    }

    fn close(mut self, attempt: Attempt) -> Result<Self, Refused> {
        if self.open_attempt.is_none() || self.attempts != attempt.0 {
            return Err(Refused::Stale);
        }
        self.open_attempt = None;
        Ok(self)
    }

    fn wait(mut self, mut pending: Pending, now: Timestamp, retry_after: Option<Duration>, jitter: Jitter) -> Self {
        let was_reachable = self.provider_reachable();
        pending.schedule(now, pending.failures, retry_after, jitter);
        self.state = State::Pending(pending);
        if self.provider_reachable() != was_reachable {
            self.revision = self.revision.saturating_add(1);
        }
        self
    }
}

impl Pending {
    pub fn began_at(&self) -> Timestamp {
        self.began_at
    }

    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The next poll after an answer (or what counts as one) at `answered`.
    fn schedule(&mut self, answered: Timestamp, failures: u8, retry_after: Option<Duration>, jitter: Jitter) {
        self.next_poll_at = self.no_later_than_last(self.pace.next(answered, failures, retry_after, jitter), answered);
        self.not_before = self.pace.next(answered, 0, retry_after, Jitter::default());
    }

    /// The last poll comes at the expiry, or one gap after the last answer where that is later; no back-off delays it.
    pub(super) fn no_later_than_last(&self, wanted: Timestamp, answered: Timestamp) -> Timestamp {
        if wanted < self.expires_at { wanted } else { self.expires_at.max(answered + self.pace.gap()) }
    }

    /// Only the last poll cannot wait.
    pub(super) fn urgency(&self) -> Urgency {
        if self.next_poll_at < self.expires_at { Urgency::Ordinary } else { Urgency::Urgent }
    }

    /// The interval is so long that even the last poll would come after twice the code's lifetime: there is none.
    pub(super) fn is_hopeless(&self) -> bool {
        self.next_poll_at > self.expires_at + self.expires_at.since(self.began_at)
    }

    /// Whether a code that is dead at `now` was probably spent by a request whose answer we never saw.
    fn is_suspect(&self, now: Timestamp) -> bool {
        match self.doubt {
            Doubt::None => false,
            Doubt::Sent => true,
            Doubt::Restart => now < self.expires_at,
        }
    }

    /// The provider still knows the code, so no earlier request has spent it.
    fn heard(mut self) -> Self {
        (self.doubt, self.failures, self.gibberish) = (Doubt::None, 0, 0);
        self
    }

    fn unheard(mut self, ambiguous: bool, gibberish: u8) -> Self {
        if ambiguous {
            self.doubt = Doubt::Sent;
        }
        self.failures = self.failures.saturating_add(1);
        self.gibberish = if gibberish == 0 { 0 } else { self.gibberish.saturating_add(gibberish) };
        self
    }
}
