//! What holds for the kernel whatever comes.

use std::sync::Arc;
use std::time::Duration;

use anteroom::kernel::pace::{Jitter, Pace};
use anteroom::kernel::restarts::{Decision, Restarts, Storm};
use anteroom::kernel::session::record::Common;
use anteroom::kernel::session::{
    Attempt, Creation, Digest, Due, Errand, Lapsed, MAX_RENEWALS, Opening, Refused, Session, State, Status, Terms, Urgency,
};
use anteroom::kernel::table::{Lane, Table};
use anteroom::kernel::time::Timestamp;
use anteroom::kernel::verdict::{Began, DeviceCode, Failure, Grant, Prompt, Verdict};
use proptest::prelude::*;
use uuid::Uuid;

const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const TERMS: Terms = Terms { claim_ttl: Duration::from_secs(300), retention: Duration::from_secs(600) };

// === vocabulary ===

fn opened(now: Timestamp) -> Session {
    let (provider, scope) = (Arc::from("acme"), Arc::from("openid"));
    Session::open(Opening { id: Uuid::from_u128(7), provider, caller: None, scope, label: None, secret: [0; 32] }, None, now)
}

fn began(now: Timestamp, lifetime: Duration, interval: Option<Duration>) -> Began {
    let device_code = DeviceCode::new("device", None, Arc::from("https://id.test/token"));
    let prompt = Prompt {
        user_code: "WDJB-MJHT".into(),
        verification_uri: Arc::from("https://id.test/device"),
        verification_uri_complete: None,
        expires_at: now + lifetime,
    };
    Began { device_code: Arc::new(device_code), prompt, interval }
}

fn grant() -> Arc<Grant> {
    Arc::new(Grant {
        access_token: "access".to_owned().into(),
        token_type: "Bearer".into(),
        expires_at: None,
        refresh_token: None,
        id_token: None,
        scope: None,
        arrived_at: None,
        claims: None,
    })
}

fn announced(session: Session, now: Timestamp) -> (Session, Attempt) {
    let (session, announced) = session.attempt(now).expect("an attempt is due");
    (session, announced.expect("no attempt was open").0)
}

/// A session that began at [`START`] with the default interval and a life of 600 s.
fn pending() -> Session {
    let (session, attempt) = announced(opened(START), START);
    session.began(attempt, began(START, secs(600), None), START, Jitter(0)).expect("it was starting")
}

/// Polls at the moment the session is due and reports `verdict` at once.
fn polled(session: Session, verdict: Verdict) -> Session {
    let now = session.next_poll_at().expect("it is pending");
    let (session, announced) = session.attempt(now).expect("an attempt is due");
    let (attempt, errand) = announced.expect("no attempt was open");
    let reported = match errand {
        Errand::Verify(_) => session.verified(attempt, verdict, now, &TERMS),
        _ => session.report(attempt, verdict, now, Jitter(0), &TERMS),
    };
    reported.expect("the attempt is open")
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn failure(session: &Session) -> Option<Failure> {
    match session.state() {
        State::Failed { failure, .. } => Some(*failure),
        _ => None,
    }
}

// === any sequence of inputs ===

#[derive(Clone, Debug)]
enum Input {
    Advance(u64),
    AdvanceToDue,
    Attempt,
    Begun { lifetime: u64, interval: Option<u64> },
    NotBegun,
    Answer(Verdict),
    StaleAnswer,
    Claim(Option<u8>),
    Cancel,
    GiveUp,
    Lapse,
    Renew,
    Forgo,
    Check,
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    let wait = || prop::option::of(0u64..100_000).prop_map(|secs| secs.map(Duration::from_secs));
    prop_oneof![
        6 => Just(Verdict::Pending),
        2 => (wait(), wait()).prop_map(|(interval, retry_after)| Verdict::SlowDown { interval, retry_after }),
        1 => Just(()).prop_map(|()| Verdict::Authorized(grant())),
        1 => Just(()).prop_map(|()| Verdict::Unverified(grant())),
        1 => Just(()).prop_map(|()| Verdict::Untrusted(grant())),
        1 => Just(Verdict::Denied),
        1 => Just(Verdict::Expired),
        1 => Just(Verdict::DeadCode),
        1 => Just(Verdict::Rejected),
        3 => (any::<bool>(), wait()).prop_map(|(ambiguous, retry_after)| Verdict::Unreachable { ambiguous, retry_after }),
        1 => wait().prop_map(|retry_after| Verdict::Throttled { retry_after }),
        2 => (any::<bool>(), 0u8..6).prop_map(|(ambiguous, tolerated)| Verdict::Gibberish { ambiguous, tolerated }),
        1 => Just(Verdict::Redirected),
    ]
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        3 => (0u64..20_000).prop_map(Input::Advance),
        8 => Just(Input::AdvanceToDue),
        8 => Just(Input::Attempt),
        4 => (0u64..100_000, prop::option::of(0u64..u64::MAX / 1000)).prop_map(|(lifetime, interval)| Input::Begun { lifetime, interval }),
        1 => Just(Input::NotBegun),
        8 => verdicts().prop_map(Input::Answer),
        1 => Just(Input::StaleAnswer),
        2 => prop::option::of(0u8..3).prop_map(Input::Claim),
        1 => Just(Input::Cancel),
        1 => Just(Input::GiveUp),
        2 => Just(Input::Lapse),
        3 => Just(Input::Renew),
        1 => Just(Input::Forgo),
        3 => Just(Input::Check),
    ]
}

/// What a reader can see, without the counters.
fn visible(session: &Session) -> (Status, bool, bool, Option<Failure>) {
    (session.status(), session.prompt().is_some(), session.provider_reachable(), failure(session))
}

fn pace(session: &Session) -> Option<Pace> {
    match session.state() {
        State::Pending(pending) => Some(pending.pace()),
        _ => None,
    }
}

fn retry_after(verdict: &Verdict) -> Duration {
    match verdict {
        Verdict::SlowDown { retry_after, .. } | Verdict::Unreachable { retry_after, .. } | Verdict::Throttled { retry_after } => {
            retry_after.unwrap_or_default()
        }
        _ => Duration::ZERO,
    }
}

/// One session under test, with what the invariants need to remember.
struct Run {
    session: Session,
    now: Timestamp,
    jitter: Jitter,
    open: Option<Attempt>,
    /// Whether the open attempt is a poll.
    polls: bool,
    closed: Option<Attempt>,
    /// Attempts for codes that were renewed since.
    older: Vec<Attempt>,
    last_answer: Option<Timestamp>,
    /// What the provider's last Retry-After forbids.
    forbidden_until: Timestamp,
    expires_at: Timestamp,
    claimed_by: Option<Option<Digest>>,
    forgotten: bool,
}

impl Run {
    fn new(jitter: Jitter) -> Self {
        Self {
            session: opened(START),
            now: START,
            jitter,
            open: None,
            polls: false,
            closed: None,
            older: Vec::new(),
            last_answer: None,
            forbidden_until: START,
            expires_at: START,
            claimed_by: None,
            forgotten: false,
        }
    }

    fn feed(&mut self, input: Input) {
        let before = self.session.clone();
        let next = self.apply(input);
        let Ok(next) = next else { return };
        assert!(next.version() >= before.version());
        assert!(next.renewals() <= MAX_RENEWALS);
        let renewed = next.renewals() > before.renewals();
        assert_eq!(next.revision() - before.revision(), u64::from(renewed || visible(&next) != visible(&before)));
        if renewed {
            assert!(before.is_renewing() && matches!(before.status(), Status::Denied | Status::Expired));
            assert!(next.status() == Status::Pending && next.version() > before.version());
        } else if before.is_settled() {
            assert_eq!(next.status(), before.status(), "nothing leaves a settled state");
            assert_eq!(failure(&next), failure(&before));
        }
        if before.status() == next.status() {
            assert!(before.prompt() == next.prompt(), "the code changes only with the state");
        }
        if let (Some(before), Some(next)) = (pace(&before), pace(&next)) {
            assert!(next.interval() >= before.interval() && next.gap() >= before.gap(), "the interval never shrinks");
        }
        if visible(&next) != visible(&before) {
            let is_unstored_failure = next.version() == 0 && next.status() == Status::Failed;
            assert!(
                next.version() > before.version() || next.status() == before.status() || is_unstored_failure,
                "a change of status is durable"
            );
        }
        self.session = next;
    }

    fn apply(&mut self, input: Input) -> Result<Session, Refused> {
        let session = self.session.clone();
        match input {
            Input::Advance(millis) => self.now = self.now + Duration::from_millis(millis),
            Input::AdvanceToDue => {
                if let Some((due, _)) = session.due(&TERMS) {
                    self.now = self.now.max(due);
                }
            }
            Input::Attempt => return self.attempt(session),
            Input::Begun { lifetime, interval } => {
                let began = began(self.now, secs(lifetime), interval.map(secs));
                let expires_at = began.prompt.expires_at;
                let next = session.began(self.open.ok_or(Refused::Stale)?, began, self.now, self.jitter)?;
                (self.expires_at, self.forbidden_until, self.claimed_by) = (expires_at, START, None);
                if next.renewals() > 0 {
                    self.older.extend(self.closed);
                }
                return self.reported(next);
            }
            Input::NotBegun => {
                let next = session.not_begun(self.open.ok_or(Refused::Stale)?, Failure::ProviderUnreachable, self.now)?;
                return self.reported(next);
            }
            Input::Answer(verdict) => {
                let authorized = matches!(verdict, Verdict::Authorized(_));
                let retry_after = retry_after(&verdict);
                let was_pending = session.status() == Status::Pending;
                let open = self.open.ok_or(Refused::Stale)?;
                let next = match session.state() {
                    State::Verifying(_) => session.verified(open, verdict, self.now, &TERMS)?,
                    _ if self.polls => session.report(open, verdict, self.now, self.jitter, &TERMS)?,
                    _ => return Err(Refused::Stale),
                };
                assert_eq!(was_pending && authorized, next.status() == Status::Authorized, "tokens come from a pending session only");
                self.forbidden_until = self.now + retry_after;
                return self.reported(next);
            }
            Input::StaleAnswer => {
                for stale in self.older.iter().copied() {
                    assert_eq!(session.clone().report(stale, Verdict::Denied, self.now, self.jitter, &TERMS).err(), Some(Refused::Stale));
                    let late = session.clone().report(stale, Verdict::Authorized(grant()), self.now, self.jitter, &TERMS);
                    assert_eq!(visible(&late.expect("taken, to be revoked")), visible(&session));
                }
                if let Some(stale) = self.closed.filter(|stale| !self.older.contains(stale)) {
                    let refused = session.clone().report(stale, Verdict::Denied, self.now, self.jitter, &TERMS);
                    assert_eq!(refused.err(), Some(Refused::Stale));
                    let late = session.clone().report(stale, Verdict::Authorized(grant()), self.now, self.jitter, &TERMS);
                    let late = late.expect("no tokens are thrown away");
                    match session.state() {
                        State::Pending(_) => assert_eq!(late.status(), Status::Authorized),
                        _ => assert_eq!(visible(&late), visible(&session)),
                    }
                }
            }
            Input::Renew => {
                let may_renew = matches!(session.status(), Status::Denied | Status::Expired) && session.renewals() < MAX_RENEWALS;
                let next = session.clone().renew(self.now);
                assert_eq!(next.is_ok(), may_renew && !session.is_renewing());
                return next;
            }
            Input::Forgo => return session.forgo_renewal(),
            Input::Check => return session.check(self.now),
            Input::Claim(key) => return self.claim(session, key.map(|key| [key; 32])),
            Input::Cancel => return session.cancel(self.now),
            Input::GiveUp => return session.fail(Failure::InternalError, self.now),
            Input::Lapse => match session.clone().lapse(self.now, &TERMS)? {
                Lapsed::Kept(next) => return Ok(next),
                Lapsed::Forgotten => {
                    assert!(session.is_settled() && !session.is_readable(self.now, &TERMS));
                    self.forgotten = true;
                }
            },
        }
        Err(Refused::NotDue)
    }

    fn attempt(&mut self, session: Session) -> Result<Session, Refused> {
        let (next, announced) = session.clone().attempt(self.now)?;
        match announced {
            Some((attempt, errand)) => {
                if let Errand::Poll(_) = errand {
                    let gap = pace(&session).expect("only a pending session polls").gap();
                    let answered = self.last_answer.expect("it began");
                    assert!(self.now >= answered + gap, "a poll is never early");
                    assert!(self.now >= self.forbidden_until.min(self.expires_at), "Retry-After is obeyed, except by the last poll");
                }
                (self.open, self.polls) = (Some(attempt), matches!(errand, Errand::Poll(_)));
            }
            // The open attempt counted as dead: if it was a poll, the pace counts from here.
            None => {
                self.closed = self.open.take();
                if self.polls {
                    self.last_answer = Some(self.now);
                }
            }
        }
        Ok(next)
    }

    /// The kernel took the report of the open attempt: it is closed.
    fn reported(&mut self, next: Session) -> Result<Session, Refused> {
        self.last_answer = Some(self.now);
        self.closed = self.open.take();
        if next.renewals() > self.session.renewals() {
            self.older.extend(self.closed);
        }
        Ok(next)
    }

    fn claim(&mut self, session: Session, key: Option<Digest>) -> Result<Session, Refused> {
        let before = session.status();
        let (_, next) = session.clone().claim(key, self.now)?;
        assert!(matches!(before, Status::Authorized | Status::Claimed), "tokens are reached from authorized or claimed only");
        let holder = *self.claimed_by.get_or_insert(key);
        assert_eq!(holder, key, "one claim has the tokens, no other ever gets them");
        assert!(before == Status::Authorized || key.is_some(), "without a key, once");
        next.ok_or(Refused::NotDue)
    }
}

/// What is revoked belongs to an earlier code, and may have to wait for long.
#[test]
fn a_revocation_that_is_due_does_not_put_off_the_next_poll() {
    let mut run = Run::new(Jitter::default());
    let begun = || Input::Begun { lifetime: 60, interval: None };
    let unclaimed = [Input::Attempt, begun(), Input::AdvanceToDue, Input::Attempt, Input::Answer(Verdict::Authorized(grant()))];
    let renewed = [Input::AdvanceToDue, Input::Lapse, Input::Attempt, Input::Attempt, Input::Renew, Input::Attempt, begun()];
    for input in unclaimed.into_iter().chain(renewed).chain([Input::Advance(30_000)]) {
        run.feed(input);
    }
    let due = run.session.due(&TERMS);
    assert!(matches!(due, Some((_, Due::Ask(Urgency::Ordinary)))), "it is the poll's time, not the revocation's: {due:?}");
    run.feed(Input::Attempt);
    assert!(run.polls && run.session.status() == Status::Pending);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_inputs_keeps_the_invariants(inputs in prop::collection::vec(inputs(), 1..120), jitter in any::<u8>()) {
        let mut run = Run::new(Jitter(jitter));
        for input in inputs {
            run.feed(input);
            if run.forgotten {
                break;
            }
            prop_assert!(run.session.due(&TERMS).is_some(), "a session is never left without a deadline");
        }
    }

    #[test]
    fn the_next_poll_is_never_earlier_than_the_interval(
        interval in prop::option::of(any::<u64>()), slow_downs in 0usize..5, failures in any::<u8>(),
        retry_after in prop::option::of(any::<u64>()), jitter in any::<u8>(),
    ) {
        let mut pace = Pace::new(interval.map(Duration::from_millis));
        for _ in 0..slow_downs {
            let slower = pace.slow_down(None, None);
            prop_assert!(slower.interval() >= pace.interval().saturating_add(secs(5)).min(Duration::from_millis(u64::MAX)));
            pace = slower;
        }
        let next = pace.next(START, failures, retry_after.map(Duration::from_secs), Jitter(jitter));
        prop_assert!(next >= START + pace.interval());
    }

    #[test]
    fn the_agenda_names_every_session_at_its_own_deadline(delays in prop::collection::vec(0u64..10_000, 1..60)) {
        let mut table = Table::new(TERMS);
        let lane = Lane::Beginning(Arc::from("acme"), None);
        for (n, delay) in delays.iter().enumerate() {
            let opening = Opening {
                id: Uuid::from_u128(n as u128), provider: Arc::from("acme"), caller: None, scope: Arc::from(""), label: None, secret: [0; 32],
            };
            table.insert(Session::open(opening, None, START + Duration::from_millis(*delay))).expect("new");
        }
        let earliest = START + Duration::from_millis(*delays.iter().min().expect("some"));
        prop_assert_eq!(table.deadlines().collect::<Vec<_>>(), vec![(&lane, earliest)]);
        let now = START + Duration::from_millis(5_000);
        let due = table.set_off(&lane, now, usize::MAX);
        prop_assert_eq!(due.len(), delays.iter().filter(|delay| **delay <= 5_000).count());
        prop_assert!(table.set_off(&lane, now, usize::MAX).is_empty(), "set off once");
        for id in due {
            table.forget(id);
        }
        prop_assert_eq!(table.len(), delays.iter().filter(|delay| **delay > 5_000).count());
    }

    #[test]
    fn a_backlog_is_spread_and_nothing_else_is_moved(delays in prop::collection::vec(0u64..10_000, 1..60), seed in any::<u128>()) {
        let mut table = Table::new(TERMS);
        let lane = Lane::Beginning(Arc::from("acme"), None);
        for (n, delay) in delays.iter().enumerate() {
            let id = Uuid::from_u128(seed.wrapping_add((n as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let opening = Opening {
                id, provider: Arc::from("acme"), caller: None, scope: Arc::from(""), label: None, secret: [0; 32],
            };
            table.insert(Session::open(opening, None, START + Duration::from_millis(*delay))).expect("new");
        }
        let from = START + Duration::from_millis(5_000);
        table.spread(&lane, from, secs(10));
        prop_assert!(table.deadlines_in(&lane).all(|at| at >= from), "nothing is due before");
        let done = table.set_off(&lane, from + secs(10), usize::MAX).len();
        prop_assert_eq!(done, delays.len(), "and all of it is due in time");
    }
}

// === records ===

#[test]
fn sessions_that_come_back_share_what_they_have_in_common() {
    let mut common = Common::default();
    let mut restored = || {
        let mut record = pending().record();
        record.share(&mut common);
        Session::restored(record, START, Jitter(0)).expect("it holds together").expect("somebody heard of it")
    };
    let (one, other) = (restored(), restored());
    assert!(Arc::ptr_eq(&one.opening().provider, &other.opening().provider));
    assert!(Arc::ptr_eq(&one.opening().scope, &other.opening().scope));
    let uri = |session: &Session| Arc::clone(&session.prompt().expect("pending").verification_uri);
    assert!(Arc::ptr_eq(&uri(&one), &uri(&other)));
}

// === pace ===

#[test]
fn an_absent_or_zero_interval_is_five_seconds_and_none_is_below_one() {
    assert_eq!(Pace::new(None).interval(), secs(5));
    assert_eq!(Pace::new(Some(Duration::ZERO)).interval(), secs(5));
    assert_eq!(Pace::new(Some(Duration::from_millis(1))).interval(), secs(1));
    assert_eq!(Pace::new(Some(secs(3600))).interval(), secs(3600));
}

#[test]
fn slow_down_adds_five_seconds_for_good_and_widens_the_margin() {
    let mut session = pending();
    for (interval, gap) in [(10, 14_000), (15, 21_000), (20, 28_000)] {
        session = polled(session, Verdict::SlowDown { interval: Some(secs(1)), retry_after: None });
        let pace = pace(&session).expect("still pending");
        assert_eq!((pace.interval(), pace.gap()), (secs(interval), Duration::from_millis(gap)));
    }
    session = polled(session, Verdict::Unreachable { ambiguous: true, retry_after: None });
    session = polled(session, Verdict::Pending);
    assert_eq!(pace(&session).expect("still pending").interval(), secs(20));
}

#[test]
fn failures_back_off_to_a_minute_and_one_good_answer_ends_it() {
    let mut session = pending();
    let mut waits = Vec::new();
    for _ in 0..5 {
        let asked = session.next_poll_at().expect("pending");
        session = polled(session, Verdict::Unreachable { ambiguous: false, retry_after: None });
        waits.push(session.next_poll_at().expect("pending").since(asked).as_secs());
    }
    assert_eq!(waits, [10, 20, 40, 60, 60]);
    let asked = session.next_poll_at().expect("pending");
    session = polled(session, Verdict::Pending);
    assert_eq!(session.next_poll_at().expect("pending").since(asked), secs(6));
}

// === outcomes ===

#[test]
fn a_dead_code_is_a_lost_grant_only_after_an_answer_went_missing() {
    assert_eq!(failure(&polled(pending(), Verdict::DeadCode)), Some(Failure::ProviderRejected));
    let doubtful = polled(pending(), Verdict::Unreachable { ambiguous: true, retry_after: None });
    assert_eq!(failure(&polled(doubtful.clone(), Verdict::DeadCode)), Some(Failure::GrantLost));
    let reassured = polled(doubtful, Verdict::Pending);
    assert_eq!(failure(&polled(reassured, Verdict::DeadCode)), Some(Failure::ProviderRejected));
}

#[test]
fn an_attempt_whose_poller_died_is_closed_as_ambiguous_and_keeps_the_pace() {
    let session = pending();
    let now = session.next_poll_at().expect("pending");
    let (session, dead) = announced(session, now);
    let crash = now + secs(1);
    let (session, again) = session.attempt(crash).expect("closed");
    assert!(again.is_none());
    assert_eq!(session.next_poll_at(), Some(crash + secs(6)));
    assert_eq!(session.clone().report(dead, Verdict::Denied, crash, Jitter(0), &TERMS).err(), Some(Refused::Stale));
    assert_eq!(failure(&polled(session, Verdict::DeadCode)), Some(Failure::GrantLost));
}

#[test]
fn the_last_poll_comes_at_expiry_and_its_tokens_are_taken() {
    let mut session = pending();
    while session.next_poll_at().expect("pending") < START + secs(600) {
        session = polled(session, Verdict::Unreachable { ambiguous: false, retry_after: Some(secs(100_000)) });
    }
    assert_eq!(session.next_poll_at(), Some(START + secs(600)));
    assert_eq!(polled(session.clone(), Verdict::Pending).status(), Status::Expired);
    assert_eq!(polled(session.clone(), Verdict::DeadCode).status(), Status::Expired);
    assert_eq!(polled(session, Verdict::Authorized(grant())).status(), Status::Authorized);
}

#[test]
fn an_interval_far_beyond_the_codes_life_still_lets_the_session_expire() {
    let (session, attempt) = announced(opened(START), START);
    let session = session.began(attempt, began(START, secs(600), Some(secs(u64::MAX / 1000))), START, Jitter(0)).expect("starting");
    assert_eq!(session.due(&TERMS).expect("a deadline").0, START + secs(600));
    let Lapsed::Kept(session) = session.lapse(START + secs(600), &TERMS).expect("due") else { panic!("forgotten") };
    assert_eq!(session.status(), Status::Expired);
}

#[test]
fn a_grant_that_comes_after_the_cancel_is_kept_only_to_be_revoked() {
    let session = pending();
    let now = session.next_poll_at().expect("pending");
    let (session, attempt) = announced(session, now);
    let session = session.cancel(now).expect("it was pending");
    let session = session.report(attempt, Verdict::Authorized(grant()), now, Jitter(0), &TERMS).expect("the attempt is open");
    assert_eq!(session.status(), Status::Cancelled);
    assert_eq!(session.clone().claim(None, now).err(), Some(Refused::NotAuthorized));
    let (session, revoking) = session.attempt(now).expect("a revocation is due");
    let Some((attempt, Errand::Revoke(_))) = revoking else { panic!("not a revocation") };
    let session = session.revoked(attempt, true, now).expect("open");
    assert!(session.attempt(now + secs(3600)).is_err(), "revoked once");
}

fn is_revoking(session: &Session, now: Timestamp) -> bool {
    matches!(session.clone().attempt(now), Ok((_, Some((_, Errand::Revoke(_))))))
}

#[test]
fn tokens_are_withheld_until_they_are_verified() {
    let session = pending();
    let (now, revision, version) = (session.next_poll_at().expect("pending"), session.revision(), session.version());
    let session = polled(session, Verdict::Unverified(grant()));
    assert_eq!((session.status(), session.revision()), (Status::Pending, revision), "a reader sees no change");
    assert!(session.version() > version, "the tokens must survive");
    assert_eq!(session.clone().claim(None, now).err(), Some(Refused::StillPending));
    let (_, Some((_, Errand::Verify(_)))) = session.clone().attempt(now).expect("due at once") else { panic!("not verified") };

    let session = polled(session, Verdict::Unverified(grant()));
    assert_eq!(session.next_poll_at(), Some(now + secs(5)));
    let session = polled(session, Verdict::Authorized(grant()));
    assert_eq!(session.status(), Status::Authorized);
    assert!(session.claim(None, now + secs(5)).is_ok());
}

#[test]
fn tokens_that_cannot_be_verified_for_ten_minutes_are_revoked() {
    let mut session = polled(pending(), Verdict::Unverified(grant()));
    let since = session.next_poll_at().expect("withheld");
    while session.status() == Status::Pending {
        session = polled(session, Verdict::Unverified(grant()));
    }
    assert_eq!(failure(&session), Some(Failure::IdTokenInvalid));
    assert!(is_revoking(&session, since + secs(600)) && !is_revoking(&session, since + secs(599)));
}

#[test]
fn untrusted_tokens_are_handed_to_nobody_and_revoked() {
    for session in [pending(), polled(pending(), Verdict::Unverified(grant()))] {
        let now = session.next_poll_at().expect("pending");
        let session = polled(session, Verdict::Untrusted(grant()));
        assert_eq!(failure(&session), Some(Failure::IdTokenInvalid));
        assert_eq!(session.clone().claim(None, now).err(), Some(Refused::NotAuthorized));
        assert!(is_revoking(&session, now));
    }
}

#[test]
fn withheld_tokens_are_revoked_when_their_session_ends() {
    let session = polled(pending(), Verdict::Unverified(grant()));
    let now = session.next_poll_at().expect("withheld");
    assert!(is_revoking(&session.clone().cancel(now).expect("pending"), now));
    assert!(is_revoking(&session.clone().fail(Failure::InternalError, now).expect("pending"), now));

    let (session, attempt) = announced(session, now);
    let session = session.cancel(now).expect("pending");
    let session = session.verified(attempt, Verdict::Authorized(grant()), now, &TERMS).expect("the attempt is open");
    assert_eq!(session.status(), Status::Cancelled);
    assert!(is_revoking(&session, now));
}

#[test]
fn a_poller_that_dies_while_it_verifies_loses_no_token() {
    let session = polled(pending(), Verdict::Unverified(grant()));
    let now = session.next_poll_at().expect("withheld");
    let (session, _) = announced(session, now);
    let (session, announced) = session.attempt(now + secs(1)).expect("the open attempt is dead");
    assert!(announced.is_none());
    assert_eq!(session.next_poll_at(), Some(now + secs(6)));
    assert!(matches!(session.attempt(now + secs(6)), Ok((_, Some((_, Errand::Verify(_)))))));
}

#[test]
fn untrusted_tokens_that_come_after_the_cancel_are_revoked_too() {
    for verdict in [Verdict::Unverified(grant()), Verdict::Untrusted(grant())] {
        let session = pending();
        let now = session.next_poll_at().expect("pending");
        let (session, attempt) = announced(session, now);
        let session = session.cancel(now).expect("it was pending");
        let session = session.report(attempt, verdict, now, Jitter(0), &TERMS).expect("the attempt is open");
        assert!(is_revoking(&session, now));
    }
}

#[test]
fn unclaimed_tokens_expire_and_are_revoked() {
    let session = polled(pending(), Verdict::Authorized(grant()));
    let (due, _) = session.due(&TERMS).expect("a deadline");
    assert_eq!(session.clone().claim(None, due).err(), Some(Refused::NotAuthorized));
    let Lapsed::Kept(session) = session.lapse(due, &TERMS).expect("due") else { panic!("forgotten") };
    assert_eq!(session.status(), Status::Expired);
    assert!(matches!(session.attempt(due), Ok((_, Some((_, Errand::Revoke(_)))))));
}

#[test]
fn three_failed_polls_in_a_row_make_the_provider_unreachable_until_a_good_answer() {
    let mut session = pending();
    let revision = session.revision();
    for reachable in [true, true, false, false] {
        session = polled(session, Verdict::Unreachable { ambiguous: false, retry_after: None });
        assert_eq!(session.provider_reachable(), reachable);
    }
    assert_eq!(session.revision(), revision + 1);
    session = polled(session, Verdict::Pending);
    assert!(session.provider_reachable());
    assert_eq!(session.revision(), revision + 2);
}

#[test]
fn the_claim_window_ends_by_time_and_by_acknowledgement() {
    let key = Some([1; 32]);
    let session = polled(pending(), Verdict::Authorized(grant()));
    let now = START + secs(10);
    let (_, claimed) = session.claim(key, now).expect("authorized");
    let claimed = claimed.expect("changed");
    assert!(claimed.clone().claim(key, now + secs(59)).is_ok());
    assert_eq!(claimed.clone().claim(key, now + secs(60)).err(), Some(Refused::AlreadyClaimed));
    assert_eq!(claimed.clone().claim(Some([2; 32]), now).err(), Some(Refused::AlreadyClaimed));
    let acknowledged = claimed.cancel(now).expect("tokens were held");
    assert_eq!(acknowledged.status(), Status::Claimed);
    assert_eq!(acknowledged.claim(key, now).err(), Some(Refused::AlreadyClaimed));
}

// === renewal ===

/// Gets a denied or expired session a new code at `now`.
fn renewed(session: Session, now: Timestamp) -> Session {
    let (session, attempt) = announced(session.renew(now).expect("it has ended without tokens"), now);
    session.began(attempt, began(now, secs(600), None), now, Jitter(0)).expect("a code is wanted")
}

#[test]
fn a_denied_session_gets_a_new_code_at_most_five_times() {
    let mut session = polled(pending(), Verdict::Denied);
    for _ in 0..MAX_RENEWALS {
        let now = START + secs(60);
        assert_eq!(session.clone().renew(now).expect("denied").status(), Status::Denied, "asking alone changes nothing that is seen");
        session = renewed(session, now);
        assert_eq!(session.status(), Status::Pending);
        session = polled(session, Verdict::Denied);
    }
    assert_eq!(session.renew(START).err(), Some(Refused::NotRenewable));
}

#[test]
fn what_is_reported_for_an_older_code_is_refused_and_its_tokens_are_revoked() {
    let session = pending();
    let now = session.next_poll_at().expect("pending");
    // The poller of this attempt dies; the next one hears no.
    let (session, zombie) = announced(session, now);
    let (session, _) = session.attempt(now).expect("closed");
    let session = renewed(polled(session, Verdict::Denied), now + secs(60));
    assert_eq!(session.clone().report(zombie, Verdict::Denied, now, Jitter(0), &TERMS).err(), Some(Refused::Stale));

    let late = now + secs(61);
    let session = session.report(zombie, Verdict::Authorized(grant()), late, Jitter(0), &TERMS).expect("kept to be revoked");
    assert_eq!(session.status(), Status::Pending);
    let (session, revoking) = session.attempt(late).expect("a revocation is due");
    let Some((attempt, Errand::Revoke(_))) = revoking else { panic!("not a revocation") };
    let session = session.revoked(attempt, false, late).expect("open");
    assert_eq!(polled(session, Verdict::Authorized(grant())).status(), Status::Authorized, "the new code goes on meanwhile");
}

#[test]
fn without_a_new_code_a_session_stays_as_it_ended() {
    let denied = polled(pending(), Verdict::Denied);
    let now = START + secs(60);
    let (session, attempt) = announced(denied.clone().renew(now).expect("denied"), now);
    let failed = session.clone().not_begun(attempt, Failure::ProviderTimeout, now).expect("open");
    assert_eq!((failed.status(), failed.revision()), (Status::Denied, denied.revision()));
    assert_eq!(failed.renewal_failure(), Some(Failure::ProviderTimeout));
    assert!(failed.renew(now).is_ok(), "it may be tried again");

    let given_up = session.clone().fail(Failure::InternalError, now).expect("renewing");
    assert_eq!((given_up.status(), given_up.renewal_failure()), (Status::Denied, Some(Failure::InternalError)));

    let forgone = session.cancel(now).expect("renewing");
    let late = forgone.began(attempt, began(now, secs(600), None), now, Jitter(0));
    assert_eq!(late.err(), Some(Refused::Stale), "nobody waits for this code");
}

#[test]
fn several_tokens_are_revoked_one_after_another() {
    let mut session = pending();
    for _ in 0..2 {
        session = polled(session, Verdict::Authorized(grant()));
        let State::Authorized { claim_by: due, .. } = *session.state() else { panic!("not authorized") };
        let Lapsed::Kept(expired) = session.lapse(due, &TERMS).expect("due") else { panic!("forgotten") };
        let (retry, attempt) = announced(expired, due);
        session = renewed(retry.revoked(attempt, false, due).expect("open"), due);
    }
    let mut revoked = 0;
    let mut now = START + secs(3000);
    // Until here the sign-in came first.
    session = session.cancel(now).expect("pending");
    while let Ok((next, Some((attempt, Errand::Revoke(_))))) = session.clone().attempt(now) {
        session = next.revoked(attempt, true, now).expect("open");
        now = now + secs(60);
        revoked += 1;
    }
    assert_eq!(revoked, 2);
}

// === checking now ===

#[test]
fn a_check_cuts_our_back_off_short_and_nothing_else() {
    let mut session = pending();
    for _ in 0..4 {
        session = polled(session, Verdict::Unreachable { ambiguous: false, retry_after: None });
    }
    let answered = session.next_poll_at().expect("pending") - secs(60);
    let checked = session.check(answered + secs(1)).expect("pending");
    assert_eq!(checked.next_poll_at(), Some(answered + secs(6)), "the interval times the margin");
    assert_eq!(checked.clone().check(answered + secs(5)).err(), Some(Refused::TooOften));
    assert!(checked.check(answered + secs(6)).is_ok());

    let told = polled(pending(), Verdict::Unreachable { ambiguous: false, retry_after: Some(secs(40)) });
    let next = told.next_poll_at();
    assert_eq!(told.check(START + secs(20)).expect("pending").next_poll_at(), next, "Retry-After is obeyed");
    assert_eq!(polled(pending(), Verdict::Denied).check(START).err(), Some(Refused::NotDue));
}

// === restarts ===

#[test]
fn the_sixth_crash_gives_up() {
    let mut restarts = Restarts::default();
    let delays: Vec<_> = (0..6).map(|_| restarts.crashed()).collect();
    let after = |delay| Decision::RestartAfter(secs(delay));
    assert_eq!(delays, [after(0), after(1), after(2), after(4), after(4), Decision::GiveUp]);
}

#[test]
fn more_than_fifty_crashes_in_a_minute_are_a_storm_until_a_quiet_minute() {
    let mut storm = Storm::default();
    for n in 0..50 {
        storm.crashed(START + Duration::from_millis(n));
    }
    assert!(!storm.is_raging(START + secs(1)));
    storm.crashed(START + secs(30));
    assert!(storm.is_raging(START + secs(90)));
    storm.crashed(START + secs(80));
    assert!(storm.is_raging(START + secs(140)));
    assert!(!storm.is_raging(START + secs(141)));
}

// === doubt ===

/// Polls, and the answer never comes.
fn unanswered(session: Session) -> Session {
    polled(session, Verdict::Unreachable { ambiguous: true, retry_after: None })
}

#[test]
fn after_a_lost_answer_whatever_ends_the_code_is_a_lost_grant() {
    for verdict in [Verdict::DeadCode, Verdict::Rejected, Verdict::DeniedOrDead, Verdict::Expired] {
        assert_eq!(failure(&polled(unanswered(pending()), verdict.clone())), Some(Failure::GrantLost), "{verdict:?}");
        let heard = polled(unanswered(pending()), Verdict::Pending);
        assert_ne!(failure(&polled(heard, verdict.clone())), Some(Failure::GrantLost), "{verdict:?}");
    }
    assert_eq!(polled(unanswered(pending()), Verdict::Denied).status(), Status::Denied);
    assert_eq!(polled(pending(), Verdict::DeniedOrDead).status(), Status::Denied);
}

#[test]
fn a_code_that_is_dead_a_little_before_its_expiry_has_expired() {
    let polled_at = |at: Timestamp| {
        let mut session = pending();
        while session.next_poll_at().expect("pending") < at {
            session = polled(session, Verdict::Pending);
        }
        polled(session, Verdict::DeadCode)
    };
    assert_eq!(failure(&polled_at(START + secs(560))), Some(Failure::ProviderRejected));
    assert_eq!(polled_at(START + secs(592)).status(), Status::Expired);
    assert_eq!(polled_at(START + secs(600)).status(), Status::Expired);
}

// === what arrives during a change ===

/// As when a change is on its way to the store: `during` happens to the session in the table, then the change comes back.
fn changed_meanwhile(session: Session, change: impl Fn(Session) -> Session, during: impl Fn(Session) -> Session) -> Session {
    let mut table = Table::new(TERMS);
    let base = table.insert(session).expect("the first");
    let next = change(Session::clone(&base));
    table.commit(during(Session::clone(&base))).expect("it follows");
    Session::clone(&table.commit_onto(&base, next).expect("it follows"))
}

#[test]
fn an_answer_that_arrives_during_a_change_stays_in_hand() {
    let session = pending();
    let now = session.next_poll_at().expect("pending");
    let (session, attempt) = announced(session, now);
    let late = now + secs(3600);
    let session =
        changed_meanwhile(session, |session| session.cancel(now).expect("pending"), |session| session.answered(attempt).expect("open"));
    assert_eq!((session.status(), session.is_answered()), (Status::Cancelled, true));
    assert_eq!(session.clone().attempt(late).err(), Some(Refused::NotDue), "nobody takes it for abandoned");
    let session = session.report(attempt, Verdict::Authorized(grant()), late, Jitter(0), &TERMS).expect("in hand");
    assert!(is_revoking(&session, late));
}

#[test]
fn a_poller_that_dies_during_a_change_comes_back_after_one_gap() {
    let (session, attempt) = announced(opened(START), START);
    let creation = Creation { key: [1; 32], fingerprint: [2; 32], secret: "ars_a".into(), until: START + secs(5) };
    let session = Session::open(session.opening().clone(), Some(creation), START);
    let (session, _) = session.attempt(START).expect("starting");
    let session = session.began(attempt, began(START, secs(600), None), START, Jitter(0)).expect("starting");
    let now = session.next_poll_at().expect("pending");
    let (session, _) = announced(session, now);
    let lapsed = |session: Session| match session.lapse(now, &TERMS).expect("the creation has lapsed") {
        Lapsed::Kept(next) => next,
        Lapsed::Forgotten => panic!("forgotten"),
    };
    let session = changed_meanwhile(session, lapsed, |session| session.close_abandoned_during_a_change(now).expect("open"));
    assert_eq!(session.next_poll_at(), Some(now + secs(6)));
    assert!(session.creation().is_none());
}

#[test]
fn an_answer_whose_report_came_to_nothing_leaves_a_session_that_is_due() {
    let session = pending();
    let now = session.next_poll_at().expect("pending");
    let (session, attempt) = announced(session, now);
    let answered = session.answered(attempt).expect("open");
    assert_eq!(answered.due(&TERMS), None);
    let lost = answered.answer_lost(attempt, now).expect("in hand");
    assert_eq!(lost.next_poll_at(), Some(now + secs(6)));
    assert_eq!(failure(&polled(lost, Verdict::DeadCode)), Some(Failure::GrantLost), "and it is said");
}

#[test]
fn tokens_whose_attempt_was_given_up_are_taken_all_the_same() {
    let session = pending();
    let now = session.next_poll_at().expect("pending");
    let (session, zombie) = announced(session, now);
    let session = session.close_abandoned(now + secs(30)).expect("open");
    let session = session.report(zombie, Verdict::Authorized(grant()), now + secs(31), Jitter(0), &TERMS).expect("taken");
    assert_eq!(session.status(), Status::Authorized);
    let again = session.clone().report(zombie, Verdict::Authorized(grant()), now + secs(32), Jitter(0), &TERMS).expect("known");
    assert!(!is_revoking(&again, now + secs(32)), "these are the tokens that wait for their owner");
}

// === what is kept ===

#[test]
fn every_grant_that_waits_for_its_revocation_survives_a_restart() {
    let session = (0..3).fold(pending(), |session, _| session.disown(grant(), START));
    let now = START + secs(1200);
    assert_eq!(session.record().secrets.revocations.len(), 3);
    let mut session = Session::restored(session.record(), now, Jitter(0)).expect("sound").expect("known");
    let mut revoked = 0;
    while let Ok((next, Some((attempt, Errand::Revoke(_))))) = session.clone().attempt(now) {
        session = next.revoked(attempt, true, now).expect("open");
        revoked += 1;
    }
    assert_eq!(revoked, 3);
}

#[test]
fn a_settled_session_is_not_forgotten_while_its_creation_may_be_repeated() {
    let creation = Creation { key: [1; 32], fingerprint: [2; 32], secret: "ars_a".into(), until: START + secs(600) };
    let terms = Terms { retention: secs(1), ..TERMS };
    let session = Session::open(opened(START).opening().clone(), Some(creation), START);
    let (session, attempt) = announced(session, START);
    let session = session.began(attempt, began(START, secs(60), None), START, Jitter(0)).expect("starting");
    let session = session.cancel(START + secs(5)).expect("pending");
    assert_eq!(session.forgettable_since(), None);
    let (due, _) = session.due(&terms).expect("a deadline");
    assert_eq!(due, START + secs(600));
    let Lapsed::Kept(session) = session.lapse(due, &terms).expect("due") else { panic!("forgotten too early") };
    assert!(matches!(session.lapse(due, &terms), Ok(Lapsed::Forgotten)));
}

#[test]
fn what_the_store_has_takes_the_place_of_what_the_table_had_with_a_later_revision() {
    let stored = polled(pending(), Verdict::Denied);
    let mut stale = pending();
    for _ in 0..3 {
        stale = polled(stale, Verdict::Unreachable { ambiguous: false, retry_after: None });
    }
    let now = START + secs(100);
    let restored = Session::restored(stored.record(), now, Jitter(0)).expect("sound").expect("known");
    let revision = restored.revision().max(stale.revision() + 1);
    let session = restored.in_place_of(&stale);
    assert_eq!((session.status(), session.revision()), (Status::Denied, revision));
    assert!(session.revision() > stale.revision());
}

#[test]
fn after_a_reload_no_answer_about_one_grant_is_taken_for_another() {
    let stored = (0..2).fold(pending(), |session, _| session.disown(grant(), START));
    let (stale, announced) = stored.clone().attempt(START).expect("due");
    let (attempt, Errand::Revoke(_)) = announced.expect("no attempt was open") else { panic!("not to be revoked") };
    let restored = Session::restored(stored.record(), START, Jitter(0)).expect("sound").expect("known");
    let session = restored.in_place_of(&stale);
    assert_eq!(session.clone().revoked(attempt, true, START).err(), Some(Refused::Stale));
    assert_eq!(session.record().secrets.revocations.len(), 2);
}

#[test]
fn tokens_that_have_got_into_the_session_are_not_disowned() {
    let tokens = grant();
    let authorized = polled(pending(), Verdict::Authorized(Arc::clone(&tokens)));
    assert!(authorized.disown(Arc::clone(&tokens), START).record().secrets.revocations.is_empty());
    let twice = pending().disown(Arc::clone(&tokens), START).disown(tokens, START);
    assert_eq!(twice.record().secrets.revocations.len(), 1);
}

#[test]
fn what_nobody_revokes_is_given_up_when_its_time_is_over_and_the_session_can_be_forgotten() {
    let session = pending().cancel(START).expect("pending").disown(grant(), START);
    let over = START + secs(3600);
    assert!(matches!(session.clone().lapse(START + secs(3599), &TERMS), Err(Refused::NotDue)));
    let (_, attempt) = announced(session.clone(), START + secs(3599));
    let Lapsed::Kept(session) = session.lapse(over, &TERMS).expect("due") else { panic!("forgotten with tokens to revoke") };
    assert!(session.record().secrets.revocations.is_empty());
    assert_eq!(session.clone().revoked(attempt, true, over).err(), Some(Refused::Stale));
    assert!(matches!(session.lapse(over, &TERMS), Ok(Lapsed::Forgotten)));
}

// === short lives ===

#[test]
fn a_code_that_is_over_when_it_comes_begins_nothing() {
    let (session, attempt) = announced(opened(START), START);
    let session = session.began(attempt, began(START, secs(3), None), START + secs(3), Jitter(0)).expect("starting");
    assert_eq!(failure(&session), Some(Failure::ProviderTimeout));
}

#[test]
fn a_code_that_lives_shorter_than_its_interval_has_one_poll() {
    for lifetime in [1, 3, 5, 6] {
        let (session, attempt) = announced(opened(START), START);
        let received = START + Duration::from_millis(500);
        let session = session.began(attempt, began(START, secs(lifetime), None), received, Jitter(255)).expect("starting");
        let (at, due) = session.due(&TERMS).expect("something");
        assert!(at >= received + secs(6) && matches!(due, Due::Ask(_)), "{lifetime}: {at:?} {due:?}");
        assert_eq!(polled(session, Verdict::Pending).status(), Status::Expired, "it was the last");
    }
}

// === spreading ===

#[test]
fn after_a_restart_polls_come_one_gap_later_and_are_spread_over_one_interval() {
    let pace = Pace::new(Some(secs(10)));
    for (jitter, wait) in [(0, 12_000), (128, 17_000), (255, 21_960)] {
        assert_eq!(pace.after_restart(START, Jitter(jitter)), START + Duration::from_millis(wait), "{jitter}");
    }
}

#[test]
fn jitter_stretches_a_wait_by_up_to_a_tenth() {
    for (jitter, stretched) in [(0, 10_000), (128, 10_500), (255, 10_996)] {
        assert_eq!(Jitter(jitter).stretch(secs(10)), Duration::from_millis(stretched), "{jitter}");
    }
}
