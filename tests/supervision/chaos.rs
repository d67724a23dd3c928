//! Ten thousand deaths, and every sign-in still ends as it should.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anteroom::demo::{Codes, Endpoint, Options, Outcome};
use anteroom::kernel::session::{SessionId, Status};
use anteroom::kernel::verdict::Failure;
use anteroom::provider::gate::Limits;
use anteroom::sessions::Sessions;
use futures_util::future::ready;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use parking_lot::Mutex;

use crate::crew::{Crew, Notary};
use crate::fast_clock::FastClock;
use crate::ledger::Ledger;
use crate::panic_at::{Deadly, Dice};
use crate::rig::{Rig, Setup, SignIn, begin_with_scope};

const PANICS: u64 = 10_000;
const SESSIONS: usize = 600;
/// The person approves with this many panics to come, so that answers with tokens are lost as well.
const APPROVED_AT: u64 = 500;
/// How fast time runs while sessions begin, whose callers wait no longer than 20 s, and how fast later.
const FIRST_GEAR: u32 = 4;
const SECOND_GEAR: u32 = 16;

pub fn options() -> Options {
    Options { expires_in: 24 * 3600, ..Options::default() }
}

pub async fn begin_all(sessions: &Sessions, number: usize) -> Vec<SignIn> {
    let scopes: Vec<String> = (0..number).map(|number| format!("scope-{number}")).collect();
    let begun = stream::iter(&scopes).map(|scope| begin_with_scope(sessions, None, scope)).buffer_unordered(64);
    begun.try_collect().await.expect("every session gets its code")
}

pub async fn until(longest: Duration, mut happened: impl FnMut() -> bool) -> bool {
    let looking = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !happened() {
            look.tick().await;
        }
    };
    tokio::time::timeout(longest, looking).await.is_ok()
}

/// Every durable change came once and in order, and nothing followed the outcome.
pub fn settled_once(ledger: &Ledger, id: SessionId) {
    let history = ledger.history(id);
    let versions: Vec<u64> = history.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, (1..=history.len() as u64).collect::<Vec<_>>(), "{history:?}");
    let outcomes: Vec<Status> =
        history.into_iter().map(|(_, status)| status).filter(|status| !matches!(status, Status::Starting | Status::Pending)).collect();
    assert!(matches!(outcomes[..], [Status::Authorized, Status::Claimed] | [Status::Failed]), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pollers_that_die_10_000_times_at_every_point_lose_no_session_and_never_ask_too_early() {
    let (dice, ledger) = (Dice::new(PANICS), Arc::new(Ledger::default()));
    let around = {
        let dice = dice.clone();
        Box::new(move |inner| Arc::new(Deadly { inner, dice }) as _)
    };
    let limits = Limits { max_in_flight: 16, max_per_second: None };
    let rig = Rig::with(Setup { options: options(), limits, store: ledger.clone(), around, ..Setup::on(FastClock::new(FIRST_GEAR)) }).await;
    let sign_ins = begin_all(&rig.sessions, SESSIONS).await;
    rig.clock.shift(SECOND_GEAR);
    assert!(until(Duration::from_secs(60), || dice.left() <= APPROVED_AT).await, "{} panics are still to come", dice.left());
    rig.provider.approve(Codes::All);
    let pending = || sign_ins.iter().filter(|sign_in| rig.status(sign_in) == Status::Pending).count();
    assert!(until(Duration::from_secs(60), || pending() == 0).await, "{} of {SESSIONS} are still pending", pending());

    assert_eq!(dice.left(), 0);
    let crashes: u32 = sign_ins.iter().map(|sign_in| rig.crashes(sign_in)).sum();
    assert_eq!(u64::from(crashes), PANICS, "every panic, and nothing else, counts as a crash");
    assert_eq!((rig.provider.early_polls(), rig.provider.counts().slow_downs), (0, 0));

    let mut answers: HashMap<String, Vec<Outcome>> = HashMap::new();
    for exchange in rig.provider.exchanges(Endpoint::Token) {
        answers.entry(exchange.user_code.unwrap().to_string()).or_default().extend(exchange.outcome);
    }
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for sign_in in &sign_ins {
        let issued = answers[&sign_in.user_code].iter().filter(|outcome| matches!(outcome, Outcome::Tokens | Outcome::TokensLost)).count();
        assert_eq!(issued, 1, "the code was redeemed once");
        let presented = rig.provider.redemptions(&sign_in.user_code);
        match (rig.status(sign_in), rig.failure(sign_in)) {
            (Status::Authorized, None) => assert_eq!(presented, 1),
            // The answer with the tokens died with a poller, and the code was found spent.
            (Status::Failed, Some(Failure::GrantLost)) => assert!(presented >= 2, "{presented}"),
            other => panic!("{other:?}"),
        }
        *outcomes.entry(rig.status(sign_in).as_str()).or_default() += 1;
    }
    assert!(outcomes.values().all(|number| *number > SESSIONS / 20), "both happen often: {outcomes:?}");

    // Everything still works: every lock can be taken, every place is given back.
    for sign_in in &sign_ins {
        assert_eq!(rig.sessions.claim(sign_in.id, None).await.is_ok(), rig.status(sign_in) == Status::Claimed);
        settled_once(&ledger, sign_in.id);
    }
    assert_eq!(rig.sessions.live(), 0);
    rig.begin().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_that_dies_10_000_times_loses_no_session_and_never_asks_too_early() {
    const GAP: Duration = Duration::from_secs(6);
    let (clock, ledger) = (FastClock::new(FIRST_GEAR), Arc::new(Ledger::default()));
    let notary = Arc::new(Notary { clock: Arc::new(clock.clone()), approves: AtomicBool::new(false), asked: Mutex::default() });
    let around = {
        let notary = notary.clone();
        Box::new(move |_| notary as _)
    };
    let setup = Setup { store: ledger.clone(), around, ..Setup::on(clock.clone()) };
    let crew = Crew::start(setup.build().await.1, PANICS);
    let sign_ins = begin_all(&crew.sessions, SESSIONS).await;
    clock.shift(2 * FIRST_GEAR);
    let deaths = || crew.deaths.load(Ordering::SeqCst);
    // Each of these wakes the scheduler, and most find it dead or dying.
    let coming_and_going = stream::iter(0_usize..).take_while(|_| ready(deaths() < PANICS)).for_each_concurrent(8, |number| {
        let sessions = &crew.sessions;
        async move {
            let sign_in = begin_with_scope(sessions, None, &format!("guest-{number}")).await.unwrap();
            sessions.cancel(sign_in.id).await.unwrap();
        }
    });
    assert!(tokio::time::timeout(Duration::from_secs(60), coming_and_going).await.is_ok(), "{} deaths", deaths());
    notary.approves.store(true, Ordering::SeqCst);
    let status = |sign_in: &SignIn| crew.sessions.peek(sign_in.id).unwrap().status();
    let pending = || sign_ins.iter().filter(|sign_in| status(sign_in) == Status::Pending).count();
    assert!(until(Duration::from_secs(20), || pending() == 0).await, "{} of {SESSIONS} are still pending", pending());

    assert_eq!((deaths(), crew.gave_up.load(Ordering::SeqCst)), (PANICS, false));
    for (code, asked) in &*notary.asked.lock() {
        assert!(asked.windows(2).all(|pair| pair[1].since(pair[0]) >= GAP), "{code}: {asked:?}");
    }
    for sign_in in &sign_ins {
        crew.sessions.claim(sign_in.id, None).await.unwrap();
        settled_once(&ledger, sign_in.id);
    }
    assert_eq!(crew.sessions.live(), 0);
}
