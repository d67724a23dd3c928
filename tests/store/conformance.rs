//! The same behaviour on every store.

use std::sync::Arc;

use anteroom::clock::SystemClock;
use anteroom::kernel::session::{Session, SessionId};
use anteroom::store::{Loaded, Store, StoreError};
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use uuid::Uuid;

use crate::database::{Database, on_every_database};
use crate::sample::{self, Stage};

async fn open(database: &Database) -> Arc<dyn Store> {
    database.open(SystemClock::start()).await.expect("it opens")
}

/// Writes `session` where there is none.
pub async fn put(store: &Arc<dyn Store>, session: &Session) {
    store.save(0, Arc::new(session.clone())).await.expect("a new row");
}

/// Everything in the store, told, by id.
pub async fn contents(store: &Arc<dyn Store>) -> Vec<(SessionId, String)> {
    let pages: Vec<_> = store.load().try_collect().await.expect("it can be read");
    let mut all: Vec<_> = pages.into_iter().flatten().map(told).collect();
    all.sort();
    for (id, told_of) in &all {
        assert_eq!(store.read(*id).await.expect("it can be read").map(told), Some((*id, told_of.clone())), "alone as with the others");
    }
    all
}

fn told(row: Loaded) -> (SessionId, String) {
    match row {
        Loaded::Session(record) => (record.id, sample::told(&record)),
        Loaded::Unreadable(row) => (row.id, "unreadable".to_owned()),
        Loaded::Nameless => (SessionId::nil(), "nameless".to_owned()),
    }
}

on_every_database!(
    a_row_is_written_only_onto_the_expected_version,
    in_a_batch_each_row_is_judged_by_itself,
    sessions_in_every_state_survive_a_restart,
    sessions_in_every_state_survive_a_crash,
    more_than_a_page_is_loaded,
    a_removed_row_is_gone,
    one_of_64_claimers_wins,
    concurrent_changes_of_many_sessions_are_all_kept,
    it_is_ready,
);

async fn a_row_is_written_only_onto_the_expected_version(database: Database) {
    let store = open(&database).await;
    let id = Uuid::new_v4();
    let (pending, authorized) = (Arc::new(sample::pending(id)), Arc::new(sample::authorized(id)));
    assert_eq!(store.version(id).await, Ok(None));
    assert_eq!(store.save(1, Arc::clone(&authorized)).await, Err(StoreError::Conflict), "there is no row");
    assert_eq!(store.save(0, Arc::clone(&pending)).await, Ok(()));
    assert_eq!(store.save(0, pending).await, Err(StoreError::Conflict), "there is a row");
    assert_eq!(store.save(2, Arc::clone(&authorized)).await, Err(StoreError::Conflict), "it is at 1");
    assert_eq!(store.save(1, Arc::clone(&authorized)).await, Ok(()));
    assert_eq!(store.save(1, authorized).await, Err(StoreError::Conflict), "it is at 2");
    assert_eq!(store.version(id).await, Ok(Some(2)));
}

async fn in_a_batch_each_row_is_judged_by_itself(database: Database) {
    let store = open(&database).await;
    let ids: Vec<_> = (0..20).map(|_| Uuid::new_v4()).collect();
    for id in &ids {
        put(&store, &sample::pending(*id)).await;
    }
    let save = |(place, id): (usize, &Uuid)| store.save(if place % 3 == 1 { 0 } else { 1 }, Arc::new(sample::authorized(*id)));
    let saved = join_all(ids.iter().enumerate().map(save)).await;
    for (place, (id, saved)) in ids.iter().zip(saved).enumerate() {
        let (expected, version) = if place % 3 == 1 { (Err(StoreError::Conflict), 1) } else { (Ok(()), 2) };
        assert_eq!((saved, store.version(*id).await), (expected, Ok(Some(version))), "{place}");
    }
}

async fn in_every_state(store: &Arc<dyn Store>) -> Vec<(SessionId, String)> {
    let mut expected = Vec::new();
    for stage in Stage::ALL {
        let session = sample::in_stage(stage, Uuid::new_v4());
        put(store, &session).await;
        expected.push((session.id(), sample::told(&session.record())));
    }
    expected.sort();
    expected
}

async fn sessions_in_every_state_survive_a_restart(database: Database) {
    let store = open(&database).await;
    let expected = in_every_state(&store).await;
    store.close().await;
    drop(store);
    assert_eq!(contents(&open(&database).await).await, expected);
}

async fn sessions_in_every_state_survive_a_crash(database: Database) {
    let store = open(&database).await;
    let expected = in_every_state(&store).await;
    let database = database.crash(store).await;
    assert_eq!(contents(&open(&database).await).await, expected);
}

async fn more_than_a_page_is_loaded(database: Database) {
    let store = open(&database).await;
    let sessions: Vec<_> = (0..1_234).map(|_| Arc::new(sample::pending(Uuid::new_v4()))).collect();
    for saved in join_all(sessions.iter().map(|session| store.save(0, Arc::clone(session)))).await {
        assert_eq!(saved, Ok(()));
    }
    let mut expected: Vec<_> = sessions.iter().map(|session| (session.id(), sample::told(&session.record()))).collect();
    expected.sort();
    assert_eq!(contents(&store).await, expected);
}

async fn a_removed_row_is_gone(database: Database) {
    let store = open(&database).await;
    let [kept, removed] = [sample::pending(Uuid::new_v4()), sample::pending(Uuid::new_v4())];
    put(&store, &kept).await;
    put(&store, &removed).await;
    for _ in 0..2 {
        assert_eq!(store.remove(removed.id()).await, Ok(()), "also where it is not there");
    }
    assert_eq!(contents(&store).await.len(), 1);
    assert_eq!(store.version(removed.id()).await, Ok(None));
    put(&store, &removed).await;
}

/// `ANTEROOM_TEST_ROUNDS=1000` for the long version.
fn rounds() -> usize {
    std::env::var("ANTEROOM_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(60)
}

async fn one_of_64_claimers_wins(database: Database) {
    let store = open(&database).await;
    for round in 0..rounds() {
        let session = sample::authorized(Uuid::new_v4());
        put(&store, &session).await;
        let claims: Vec<_> = (0..64).map(|key| Arc::new(sample::claimed(session.clone(), Some([key; 32])))).collect();
        let tasks: Vec<_> = claims
            .iter()
            .map(|claim| {
                let (store, claim, expected) = (Arc::clone(&store), Arc::clone(claim), session.version());
                tokio::spawn(async move { store.save(expected, claim).await })
            })
            .collect();
        let outcomes: Vec<_> = join_all(tasks).await.into_iter().map(|outcome| outcome.expect("no panic")).collect();
        let winners: Vec<_> = outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_ok()).map(|(at, _)| at).collect();
        let [winner] = winners[..] else { panic!("round {round}: {} winners", winners.len()) };
        assert!(outcomes.iter().filter(|outcome| **outcome == Err(StoreError::Conflict)).count() == 63, "{outcomes:?}");
        let expected = sample::told(&claims[winner].record());
        assert_eq!(contents(&store).await, [(session.id(), expected)], "the winner is what the store has");
        store.remove(session.id()).await.expect("it is there");
    }
}

async fn concurrent_changes_of_many_sessions_are_all_kept(database: Database) {
    let store = open(&database).await;
    let lives = (0..300).map(|_| {
        let store = Arc::clone(&store);
        async move {
            let id = Uuid::new_v4();
            let steps = [sample::pending(id), sample::authorized(id), sample::claimed(sample::authorized(id), None)];
            let mut expected = 0;
            for step in steps {
                let version = step.version();
                store.save(expected, Arc::new(step)).await.expect("nobody else changes it");
                expected = version;
            }
            (id, sample::told(&sample::claimed(sample::authorized(id), None).record()))
        }
    });
    let mut expected = join_all(lives).await;
    expected.sort();
    assert_eq!(contents(&store).await, expected);
}

async fn it_is_ready(database: Database) {
    assert!(open(&database).await.is_ready().await);
}
