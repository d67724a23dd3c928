//! The exchanges with the provider: announced, answered, reported.

use core::time::Duration;
use std::sync::Arc;

use super::{
    Attempt, CHECK_EVERY, Doubt, Errand, Kind, OpenAttempt, Pending, Polling, Refused, Session, State, Terms, Urgency, VERIFICATION_PERIOD,
    VERIFICATION_RETRY, Verifying,
};
use crate::kernel::pace::{Jitter, Pace};
use crate::kernel::time::Timestamp;
use crate::kernel::verdict::{Began, Failure, Grant, Verdict};

/// How much earlier than announced a code may expire without being suspect.
const EXPIRY_SLACK: Duration = Duration::from_secs(10);
/// A revision that is a multiple of this is saved though nothing else is; far below what a restart adds to the saved one.
const MOST_UNSAVED: u64 = 250;
/// A code that lives no longer than usual intervals has its last poll all the same.
const SHORT_LIFETIME: Duration = Duration::from_secs(30);

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
        let errand = match &self.kept.state {
            _ if self.is_beginning() => Errand::Begin,
            State::Pending(pending) if self.polling.next_at <= now && !self.polling.is_hopeless(pending) => {
                Errand::Poll(Arc::clone(&pending.device_code))
            }
            State::Verifying(verifying) if verifying.next_at <= now => Errand::Verify(Arc::clone(&verifying.grant)),
            _ => {
                let grant = self.due_revocation(now).ok_or(Refused::NotDue)?;
                self.change_extras(|extras| extras.put_first(&grant));
                Errand::Revoke(grant)
            }
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

    /// As [`close_abandoned`](Self::close_abandoned), while a change is on its way to the store: only what the store does not keep
    /// may change meanwhile, so what is to be verified or revoked is due again at once.
    ///
    /// # Errors
    /// As there.
    pub fn close_abandoned_during_a_change(mut self, now: Timestamp) -> Result<Self, Refused> {
        match self.open_attempt {
            Some(OpenAttempt { answered: false, kind: Kind::Verify | Kind::Revoke, .. }) => {
                self.open_attempt = None;
                Ok(self)
            }
            _ => self.close_abandoned(now),
        }
    }

    /// An answer was being reported, and whoever did that is gone without an outcome: it counts as never seen.
    ///
    /// # Errors
    /// [`Refused::Stale`] when this answer is not being reported.
    pub fn answer_lost(mut self, attempt: Attempt, now: Timestamp) -> Result<Self, Refused> {
        match &mut self.open_attempt {
            Some(open) if open.answered && self.attempts == attempt.0 => open.answered = false,
            _ => return Err(Refused::Stale),
        }
        self.close_abandoned_during_a_change(now)
    }

    /// An answer has arrived and is being reported: from here on the attempt does not count as abandoned, however long the
    /// store takes.
    ///
    /// # Errors
    /// [`Refused::Stale`] when the attempt is not the open one or asked for something else.
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
    /// [`Refused::Stale`] when the attempt is not the open one or asked for something else, or no code is wanted any more.
    pub fn began(self, attempt: Attempt, began: Began, now: Timestamp, jitter: Jitter) -> Result<Self, Refused> {
        let mut next = self.close(attempt, &[Kind::Begin])?;
        if !next.is_beginning() {
            return Err(Refused::Stale);
        }
        let Began { device_code, prompt, interval } = began;
        if prompt.expires_at <= now {
            // It came too late to be shown to anybody.
            return next.fail(Failure::ProviderTimeout, now);
        }
        let pending = Pending { device_code, began_at: now, expires_at: prompt.expires_at, pace: Pace::new(interval) };
        next.polling = Polling::default();
        next.polling.schedule(&pending, now, 0, None, jitter);
        next.kept_mut().prompt = Some(prompt);
        Ok(next.renewed(attempt).become_visibly(State::Pending(pending)))
    }

    /// The provider gave no code: `starting` becomes `failed`, what was to be renewed stays as it ended.
    ///
    /// # Errors
    /// [`Refused::Stale`] when the attempt is not the open one or asked for something else, or no code is wanted any more.
    pub fn not_begun(self, attempt: Attempt, failure: Failure, now: Timestamp) -> Result<Self, Refused> {
        let next = self.close(attempt, &[Kind::Begin])?;
        if !next.is_beginning() {
            return Err(Refused::Stale);
        }
        next.fail(failure, now)
    }

    /// A token response (RFC 8628 §3.5), received at `now`. Tokens are taken also if their attempt was given up for dead; those that
    /// come after the session was settled, or for an older code, are kept only to be revoked.
    ///
    /// # Errors
    /// [`Refused::Stale`] when the attempt is not the open one or asked for something else, and no tokens came.
    pub fn report(self, attempt: Attempt, verdict: Verdict, now: Timestamp, jitter: Jitter, terms: &Terms) -> Result<Self, Refused> {
        let grant = verdict.grant().map(Arc::clone);
        if let Some(grant) = &grant
            && self.is_for_an_older_code(attempt)
        {
            return Ok(self.disown(Arc::clone(grant), now));
        }
        let asked = self.open_attempt.map(|open| open.since);
        let next = match self.open_attempt {
            Some(open) if self.attempts == attempt.0 && open.kind == Kind::Poll => Self { open_attempt: None, ..self },
            _ if grant.is_some() => self,
            _ => return Err(Refused::Stale),
        };
        match (next.kept.state.clone(), grant) {
            (State::Pending(pending), _) => {
                let was_last = asked >= Some(pending.expires_at);
                Ok(next.judged(pending, verdict, was_last, now, jitter, terms))
            }
            // A code brings tokens once, so these are the ones that are here already.
            (State::Verifying(_) | State::Authorized { .. } | State::Claimed { .. }, _) | (_, None) => Ok(next),
            (_, Some(grant)) => Ok(next.disown(grant, now)),
        }
    }

    /// The verdict on tokens that were withheld. Where the session was settled meanwhile they are being revoked already.
    ///
    /// # Errors
    /// [`Refused::Stale`] when the attempt is not the open one or asked for something else.
    pub fn verified(self, attempt: Attempt, verdict: Verdict, now: Timestamp, terms: &Terms) -> Result<Self, Refused> {
        let next = self.close(attempt, &[Kind::Verify])?;
        Ok(match next.kept.state.clone() {
            State::Verifying(verifying) => next.judged_again(verifying, verdict, now, terms),
            _ => next,
        })
    }

    fn judged(self, mut pending: Pending, verdict: Verdict, was_last: bool, now: Timestamp, jitter: Jitter, terms: &Terms) -> Self {
        let failed = |failure| State::Failed { at: now, failure };
        let expired = State::Expired { at: now };
        let polling = self.polling;
        match verdict {
            Verdict::Authorized(grant) => self.become_visibly(State::Authorized { grant, claim_by: now + terms.claim_ttl }),
            // Due at once: the tokens must be safe before anything else is waited for.
            Verdict::Unverified(grant) => self.withholding(Verifying { grant, next_at: now, until: now + VERIFICATION_PERIOD }),
            Verdict::Untrusted(grant) => self.distrusting(grant, now),
            Verdict::Denied => self.become_visibly(State::Denied { at: now }),
            Verdict::Expired if polling.doubt != Doubt::None && now + EXPIRY_SLACK < pending.expires_at => {
                self.become_visibly(failed(Failure::GrantLost))
            }
            Verdict::Expired => self.become_visibly(expired),
            // Whatever ends the code: an earlier request may have spent it.
            Verdict::DeadCode | Verdict::DeniedOrDead | Verdict::Rejected if polling.is_suspect(&pending, now) => {
                self.become_visibly(failed(Failure::GrantLost))
            }
            Verdict::DeniedOrDead => self.become_visibly(State::Denied { at: now }),
            Verdict::DeadCode if now + EXPIRY_SLACK >= pending.expires_at => self.become_visibly(expired),
            Verdict::DeadCode | Verdict::Rejected => self.become_visibly(failed(Failure::ProviderRejected)),
            Verdict::Redirected => self.become_visibly(failed(Failure::ProviderInvalidResponse)),
            _ if was_last => self.become_visibly(expired),
            Verdict::Gibberish { tolerated, .. } if polling.gibberish >= tolerated => {
                self.become_visibly(failed(Failure::ProviderInvalidResponse))
            }
            Verdict::Pending => self.wait(&pending, polling.heard(), now, None, jitter),
            Verdict::SlowDown { interval, retry_after } => {
                pending.pace = pending.pace.slow_down(interval, retry_after);
                let polling = Polling { failures: 0, gibberish: 0, ..polling };
                let mut next = self.wait(&pending, polling, now, retry_after, jitter).durably();
                next.kept_mut().state = State::Pending(pending);
                next
            }
            Verdict::Unreachable { ambiguous, retry_after } => self.wait(&pending, polling.unheard(ambiguous, 0), now, retry_after, jitter),
            Verdict::Throttled { retry_after } => self.wait(&pending, polling.unheard(false, 0), now, retry_after, jitter),
            Verdict::Gibberish { ambiguous, .. } => self.wait(&pending, polling.unheard(ambiguous, 1), now, None, jitter),
        }
    }

    fn judged_again(self, verifying: Verifying, verdict: Verdict, now: Timestamp, terms: &Terms) -> Self {
        match verdict {
            Verdict::Authorized(grant) => self.become_visibly(State::Authorized { grant, claim_by: now + terms.claim_ttl }),
            Verdict::Unverified(_) if now < verifying.until => self.verifying_later(verifying, now),
            _ => self.distrusting(verifying.grant, now),
        }
    }

    fn withholding(mut self, verifying: Verifying) -> Self {
        let was_reachable = self.provider_reachable();
        self.kept_mut().state = State::Verifying(verifying);
        if was_reachable { self.durably() } else { self.visibly().durably() }
    }

    fn verifying_later(mut self, verifying: Verifying, now: Timestamp) -> Self {
        self.kept_mut().state = State::Verifying(Verifying { next_at: now + VERIFICATION_RETRY, ..verifying });
        self
    }

    fn distrusting(self, grant: Arc<Grant>, now: Timestamp) -> Self {
        self.revoking(grant, now).become_visibly(State::Failed { at: now, failure: Failure::IdTokenInvalid })
    }

    /// The answer to a revocation request: done, or to be tried again until its period is over.
    ///
    /// # Errors
    /// [`Refused::Stale`] when the attempt is not the open one or asked for something else.
    pub fn revoked(self, attempt: Attempt, done: bool, now: Timestamp) -> Result<Self, Refused> {
        let mut next = self.close(attempt, &[Kind::Revoke])?;
        let mut is_over = false;
        next.change_extras(|extras| is_over = extras.tried_to_revoke(done, now));
        Ok(if is_over { next.durably() } else { next })
    }

    /// A watcher asks for a poll as soon as the provider's pace allows: our own back-off is cut short, nothing else.
    ///
    /// # Errors
    /// [`Refused::NotDue`] when nothing is polled for, [`Refused::TooOften`] less than [`CHECK_EVERY`] after the last time.
    pub fn check(mut self, now: Timestamp) -> Result<Self, Refused> {
        if !matches!(self.kept.state, State::Pending(_)) || self.is_answered() {
            return Err(Refused::NotDue);
        }
        let polling = &mut self.polling;
        if now < polling.checked_at + CHECK_EVERY {
            return Err(Refused::TooOften);
        }
        polling.checked_at = now;
        polling.next_at = polling.next_at.min(polling.not_before);
        Ok(self)
    }

    /// A code is wanted of the provider.
    fn is_beginning(&self) -> bool {
        matches!(self.kept.state, State::Starting) || self.is_renewing()
    }

    fn abandoned(mut self, now: Timestamp) -> Self {
        let Some(open) = self.open_attempt.take() else { return self };
        if open.kind == Kind::Revoke {
            self.change_extras(|extras| {
                extras.tried_to_revoke(false, now);
            });
        } else if let State::Pending(pending) = &self.kept.state {
            self.polling.doubt = Doubt::Sent;
            self.polling.schedule(pending, now, 0, None, Jitter::default());
        } else if let State::Verifying(verifying) = &mut self.kept_mut().state {
            verifying.next_at = now + VERIFICATION_RETRY;
        }
        self
    }

    fn due_revocation(&self, now: Timestamp) -> Option<Arc<Grant>> {
        let due = self.revocations().iter().find(|revocation| revocation.next_at <= now)?;
        Some(Arc::clone(&due.grant))
    }

    /// Closes the open attempt, if it is this one and of one of these kinds.
    fn close(mut self, attempt: Attempt, kinds: &[Kind]) -> Result<Self, Refused> {
        match self.open_attempt {
            Some(open) if self.attempts == attempt.0 && kinds.contains(&open.kind) => {
                self.open_attempt = None;
                Ok(self)
            }
            _ => Err(Refused::Stale),
        }
    }

    fn wait(mut self, pending: &Pending, polling: Polling, now: Timestamp, retry_after: Option<Duration>, jitter: Jitter) -> Self {
        let was_reachable = self.provider_reachable();
        self.polling = polling;
        self.polling.schedule(pending, now, polling.failures, retry_after, jitter);
        if self.provider_reachable() == was_reachable {
            return self;
        }
        let next = self.visibly();
        // Seen and not saved, but never so often that a restart could count to what was seen.
        if next.revision().is_multiple_of(MOST_UNSAVED) { next.durably() } else { next }
    }
}

impl Pending {
    pub fn began_at(&self) -> Timestamp {
        self.began_at
    }

    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// The last poll comes at the expiry, or one gap after the last answer where that is later; no back-off delays it.
    fn no_later_than_last(&self, wanted: Timestamp, answered: Timestamp) -> Timestamp {
        if wanted < self.expires_at { wanted } else { self.expires_at.max(answered + self.pace.gap()) }
    }
}

impl Polling {
    /// Sets the next poll after an answer (or what counts as one) at `answered`.
    fn schedule(&mut self, pending: &Pending, answered: Timestamp, failures: u8, retry_after: Option<Duration>, jitter: Jitter) {
        self.next_at = pending.no_later_than_last(pending.pace.next(answered, failures, retry_after, jitter), answered);
        self.not_before = pending.pace.next(answered, 0, retry_after, Jitter::default());
    }

    /// What a restart at `now` knows: a request may have been under way.
    pub(super) fn after_restart(pending: &Pending, now: Timestamp, jitter: Jitter) -> Self {
        let mut polling = Self { next_at: NEVER, not_before: NEVER, doubt: Doubt::Restart, ..Self::default() };
        if now < pending.expires_at {
            polling.not_before = pending.pace.after_restart(now, Jitter::default());
            polling.next_at = pending.no_later_than_last(pending.pace.after_restart(now, jitter), now);
        }
        polling
    }

    /// Only the last poll cannot wait.
    pub(super) fn urgency(&self, pending: &Pending) -> Urgency {
        if self.next_at < pending.expires_at { Urgency::Ordinary } else { Urgency::Urgent }
    }

    /// The interval is so long that even the last poll would come after twice the code's lifetime: there is none.
    pub(super) fn is_hopeless(&self, pending: &Pending) -> bool {
        self.next_at > pending.expires_at + pending.expires_at.since(pending.began_at).max(SHORT_LIFETIME)
    }

    /// Whether a code that is dead at `now` was probably spent by a request whose answer we never saw.
    fn is_suspect(&self, pending: &Pending, now: Timestamp) -> bool {
        match self.doubt {
            Doubt::None => false,
            Doubt::Sent => true,
            Doubt::Restart => now < pending.expires_at,
        }
    }

    /// The provider still knows the code, so no earlier request has spent it.
    fn heard(self) -> Self {
        Self { doubt: Doubt::None, failures: 0, gibberish: 0, ..self }
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

/// Beyond any last poll, so that only time is left to decide.
const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);
