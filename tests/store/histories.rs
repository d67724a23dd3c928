//! Any history of changes, races, crashes and restarts leaves what a map would have.

use std::sync::Arc;

use anteroom::clock::{Clock, SystemClock};
use anteroom::kernel::session::{Lapsed, Session, SessionId, State};
use anteroom::kernel::verdict::Verdict;
use anteroom::store::{Store, StoreError};
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use crate::conformance::contents;
use crate::database::{self, Database};
use crate::sample::{self, TERMS};

#[derive(Clone, Debug)]
enum Step {
    Open(usize),
    Change(usize, u8),
    /// A change from a version that is not the stored one.
    Stale(usize, u64),
    /// Different changes from the same version, all at once.
    Race(usize),
    Remove(usize),
    Crash,
    Restart,
}

const SLOTS: usize = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..SLOTS).prop_map(Step::Open),
        12 => (0..SLOTS, any::<u8>()).prop_map(|(slot, choice)| Step::Change(slot, choice)),
        2 => (0..SLOTS, prop_oneof![Just(0), 1u64..6]).prop_map(|(slot, version)| Step::Stale(slot, version)),
        3 => (0..SLOTS).prop_map(Step::Race),
        1 => (0..SLOTS).prop_map(Step::Remove),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..50)
}

/// Every durable change that the session can make, each a different next version.
fn changes(session: &Session) -> Vec<Session> {
    let now = sample::START + std::time::Duration::from_secs(20);
    let key = |key: u8| sample::claimed(session.clone(), Some([key; 32]));
    let mut changes = match session.state() {
        State::Pending(_) => {
            let slow_down = Verdict::SlowDown { interval: None, retry_after: None };
            let verdicts = [
                slow_down,
                Verdict::Authorized(sample::grant()),
                Verdict::Unverified(sample::grant()),
                Verdict::Denied,
                Verdict::Expired,
                Verdict::Rejected,
            ];
            verdicts.into_iter().map(|verdict| sample::polled(session.clone(), verdict)).collect()
        }
        State::Verifying(_) => vec![
            sample::polled(session.clone(), Verdict::Authorized(sample::grant())),
            session.clone().cancel(now).expect("it is verifying"),
        ],
        State::Authorized { .. } => {
            vec![key(1), key(2), key(3), sample::claimed(session.clone(), None), session.clone().cancel(now).expect("it is authorized")]
        }
        _ => Vec::new(),
    };
    let far = now + TERMS.retention / 2;
    changes.extend(session.clone().cancel(far).ok().filter(|_| changes.is_empty()));
    changes.extend(match session.clone().lapse(far, &TERMS) {
        Ok(Lapsed::Kept(next)) => Some(next),
        _ => None,
    });
    changes
}

/// The store under test, and what it should hold.
struct Run {
    database: Database,
    store: Arc<dyn Store>,
    model: [Option<Session>; SLOTS],
}

impl Run {
    async fn start(database: Database) -> Self {
        let store = database.open(clock()).await.expect("it opens");
        Self { database, store, model: Default::default() }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Open(slot) if self.model[slot].is_none() => {
                let session = sample::pending(Uuid::new_v4());
                assert_eq!(self.save(0, &session).await, Ok(()));
                self.model[slot] = Some(session);
            }
            Step::Change(slot, choice) => {
                let Some(session) = &self.model[slot] else { return };
                let changes = changes(session);
                let Some(next) = changes.get(usize::from(choice) % changes.len().max(1)) else { return };
                assert_eq!(self.save(session.version(), next).await, Ok(()));
                self.model[slot] = Some(next.clone());
            }
            Step::Stale(slot, version) => {
                let Some(session) = &self.model[slot] else { return };
                if session.version() != version {
                    assert_eq!(self.save(version, session).await, Err(StoreError::Conflict));
                }
            }
            Step::Race(slot) => {
                let Some(session) = self.model[slot].clone() else { return };
                let changes = changes(&session);
                let saved = join_all(changes.iter().map(|next| self.save(session.version(), next))).await;
                let won: Vec<_> = changes.iter().zip(&saved).filter(|(_, saved)| saved.is_ok()).map(|(next, _)| next).collect();
                assert_eq!(won.len(), changes.len().min(1), "{saved:?}");
                assert!(saved.iter().all(|saved| matches!(saved, Ok(()) | Err(StoreError::Conflict))), "{saved:?}");
                if let [winner] = won[..] {
                    self.model[slot] = Some(winner.clone());
                }
            }
            Step::Remove(slot) => {
                let Some(session) = self.model[slot].take() else { return };
                assert_eq!(self.store.remove(session.id()).await, Ok(()));
            }
            Step::Crash => {
                let unused = Arc::new(anteroom::store::memory::MemoryStore::default());
                let store = std::mem::replace(&mut self.store, unused);
                let database = std::mem::replace(&mut self.database, Database::memory());
                self.database = database.crash(store).await;
                self.store = self.database.open(clock()).await.expect("it opens again");
            }
            Step::Restart => {
                self.store.close().await;
                self.store = self.database.open(clock()).await.expect("it opens again");
            }
            Step::Open(_) => {}
        }
    }

    async fn save(&self, expected: u64, next: &Session) -> Result<(), StoreError> {
        self.store.save(expected, Arc::new(next.clone())).await
    }

    fn expected(&self) -> Vec<(SessionId, String)> {
        let mut expected: Vec<_> = self.model.iter().flatten().map(|session| (session.id(), sample::told(&session.record()))).collect();
        expected.sort();
        expected
    }
}

fn clock() -> Arc<dyn Clock> {
    SystemClock::start()
}

/// `ANTEROOM_TEST_HISTORIES=10000` for the long version.
fn histories(usual: u32) -> u32 {
    std::env::var("ANTEROOM_TEST_HISTORIES").ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

fn check(usual: u32, database: impl Fn() -> Database) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut runner = TestRunner::new(Config { cases: histories(usual), failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&steps(), |steps| {
        let database = database();
        runtime.block_on(async {
            let mut run = Run::start(database).await;
            for step in steps {
                let told = format!("{step:?}");
                run.take(step).await;
                assert_eq!(contents(&run.store).await, run.expected(), "after {told}");
            }
        });
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn any_history_on_memory() {
    check(200, Database::memory);
}

#[test]
fn any_history_on_sqlite() {
    check(60, Database::sqlite);
}

#[test]
fn any_history_on_postgres() {
    let connected = || tokio::runtime::Runtime::new().expect("a runtime").block_on(database::postgres());
    if connected().is_some() {
        check(8, || connected().expect("it was there just now"));
    }
}
