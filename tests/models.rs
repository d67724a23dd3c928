//! The two ways into the table, on the kernel itself, under schedules that a random scheduler picks: an answer that is brought in against
//! an owner's change, and the turn of a change against a creation that is given up. Each model finds its fault when that is put back.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::time::Duration;

use anteroom::kernel::pace::Jitter;
use anteroom::kernel::session::{Attempt, Opening, Session, SessionId, State, Terms};
use anteroom::kernel::table::Table;
use anteroom::kernel::time::Timestamp;
use anteroom::kernel::verdict::{Began, DeviceCode, Grant, Prompt, Verdict};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;
use uuid::Uuid;

const START: Timestamp = Timestamp::from_millis(1_795_341_600_000);
const TERMS: Terms = Terms { claim_ttl: Duration::from_secs(300), retention: Duration::from_secs(600) };
const ID: SessionId = Uuid::from_u128(7);
const SCHEDULES: usize = 5_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    Ours,
    /// As once: an answer is a fact only where nobody holds the turn, and one that nobody expects any more is refused.
    AnswersGoUnnoted,
    /// As it must not be: who gives a creation up does not wait for a change that is on its way.
    TurnsAreIgnored,
}

/// The table, the turn of the one session, and the ids of the rows that the store has.
struct World {
    rules: Rules,
    inner: Mutex<Inner>,
    turn: Mutex<()>,
    store: Mutex<BTreeSet<SessionId>>,
}

struct Inner {
    table: Table,
    /// Who holds or wants the turn.
    wanting: usize,
}

impl World {
    fn new(rules: Rules, session: Session) -> Arc<Self> {
        let mut table = Table::new(TERMS);
        table.insert(session).expect("the first");
        let inner = Mutex::new(Inner { table, wanting: 0 });
        Arc::new(Self { rules, inner, turn: Mutex::new(()), store: Mutex::new(BTreeSet::new()) })
    }

    fn peek(&self) -> Option<Session> {
        self.inner.lock().unwrap().table.get(ID).map(|session| Session::clone(session))
    }

    /// One durable change, offered until the store takes it. `None`: there was nothing to change.
    fn change(&self, decide: impl Fn(Session) -> Option<Session>) -> Option<()> {
        loop {
            self.inner.lock().unwrap().wanting += 1;
            let turn = self.turn.lock().unwrap();
            let taken = self.peek().and_then(|base| decide(base.clone()).map(|next| (base, next)));
            let is_saved = taken.as_ref().is_some_and(|_| {
                thread::yield_now();
                let takes_it = thread_rng().gen_bool(0.5);
                if takes_it {
                    self.store.lock().unwrap().insert(ID);
                }
                takes_it
            });
            let mut inner = self.inner.lock().unwrap();
            inner.wanting -= 1;
            let (base, next) = taken?;
            if is_saved {
                // The session may be gone by now.
                let _ = inner.table.commit_onto(&base, next);
                return Some(());
            }
            drop(inner);
            drop(turn);
            thread::yield_now();
        }
    }
}

fn opened() -> Session {
    let scope = std::sync::Arc::<str>::from("openid");
    let opening = Opening { id: ID, provider: "acme".into(), caller: None, scope, label: None, secret: [7; 32] };
    Session::open(opening, None, START)
}

fn began() -> Began {
    let prompt = Prompt {
        user_code: "WDJB-MJHT".into(),
        verification_uri: "https://id.acme.test/device".into(),
        verification_uri_complete: None,
        expires_at: START + Duration::from_secs(600),
    };
    Began { device_code: DeviceCode::new("a-code", None, "".into()).into(), prompt, interval: None }
}

fn announced(session: Session, now: Timestamp) -> (Session, Attempt) {
    let (session, announced) = session.attempt(now).expect("due");
    (session, announced.expect("no attempt was open").0)
}

fn grant() -> std::sync::Arc<Grant> {
    let grant = Grant {
        access_token: "an-access-token".into(),
        token_type: "Bearer".into(),
        expires_at: None,
        refresh_token: None,
        id_token: None,
        scope: None,
        arrived_at: None,
        claims: None,
    };
    grant.into()
}

/// Tokens arrive while the owner cancels, the store refuses now and then, and the scheduler takes the poller for dead.
fn report_against_change(rules: Rules) {
    let (session, attempt) = announced(opened(), START);
    let session = session.began(attempt, began(), START, Jitter(0)).expect("starting");
    let polled_at = session.next_poll_at().expect("pending");
    let (session, attempt) = announced(session, polled_at);
    let (world, late) = (World::new(rules, session), polled_at + Duration::from_secs(3600));

    let reporter = thread::spawn({
        let world = world.clone();
        move || {
            {
                let mut inner = world.inner.lock().unwrap();
                let is_noted = world.rules != Rules::AnswersGoUnnoted || inner.wanting == 0;
                let current = inner.table.get(ID).map(|session| Session::clone(session)).expect("nobody forgets it");
                if let Ok(answered) = current.answered(attempt)
                    && is_noted
                {
                    inner.table.commit(answered).expect("it follows");
                }
            }
            let expects_it = |session: &Session| world.rules != Rules::AnswersGoUnnoted || session.clone().answered(attempt).is_ok();
            world.change(|session| {
                if !expects_it(&session) {
                    return None;
                }
                session.report(attempt, Verdict::Authorized(grant()), late, Jitter(0), &TERMS).ok()
            })
        }
    });
    let owner = thread::spawn({
        let world = world.clone();
        move || world.change(|session| session.cancel(late).ok())
    });
    let scheduler = thread::spawn({
        let world = world.clone();
        move || {
            for _ in 0..4 {
                let mut inner = world.inner.lock().unwrap();
                let current = inner.table.get(ID).map(|session| Session::clone(session)).expect("nobody forgets it");
                if inner.wanting == 0
                    && let Ok((next, _)) = current.attempt(late)
                {
                    inner.table.commit(next).expect("it follows");
                }
                drop(inner);
                thread::yield_now();
            }
        }
    });
    let _ = reporter.join().unwrap();
    owner.join().unwrap();
    scheduler.join().unwrap();
    let session = world.peek().expect("nobody forgets it");
    let is_kept = matches!(session.state(), State::Authorized { .. }) || session.record().secrets.revocations.len() == 1;
    assert!(is_kept, "the tokens are nowhere: {:?}", session.status());
}

/// A code arrives just as its creation is given up.
fn turn_against_abandonment(rules: Rules) {
    let (session, attempt) = announced(opened(), START);
    let world = World::new(rules, session);
    let beginner = thread::spawn({
        let world = world.clone();
        move || world.change(|session| session.began(attempt, began(), START, Jitter(0)).ok())
    });
    let creator = thread::spawn({
        let world = world.clone();
        move || {
            world.inner.lock().unwrap().table.forget(ID);
            let turn = (world.rules != Rules::TurnsAreIgnored).then(|| world.turn.lock().unwrap());
            world.store.lock().unwrap().remove(&ID);
            drop(turn);
        }
    });
    beginner.join().unwrap();
    creator.join().unwrap();
    assert!(world.peek().is_none());
    assert!(world.store.lock().unwrap().is_empty(), "a row is left that nobody ever heard of");
}

fn holds(model: fn(Rules), rules: Rules) -> bool {
    catch_unwind(|| shuttle::check_random(move || model(rules), SCHEDULES)).is_ok()
}

#[test]
fn tokens_that_arrive_during_a_change_are_kept_under_every_schedule() {
    shuttle::check_random(|| report_against_change(Rules::Ours), SCHEDULES);
    shuttle::check_pct(|| report_against_change(Rules::Ours), SCHEDULES, 3);
}

#[test]
fn a_creation_that_is_given_up_leaves_no_row_under_every_schedule() {
    shuttle::check_random(|| turn_against_abandonment(Rules::Ours), SCHEDULES);
    shuttle::check_pct(|| turn_against_abandonment(Rules::Ours), SCHEDULES, 3);
}

#[test]
fn the_models_find_the_faults_that_are_put_back() {
    assert!(!holds(report_against_change, Rules::AnswersGoUnnoted));
    assert!(!holds(turn_against_abandonment, Rules::TurnsAreIgnored));
}
