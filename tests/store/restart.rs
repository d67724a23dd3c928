//! What a restart makes of the sessions.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anteroom::kernel::pace::Jitter;
use anteroom::kernel::session::record::Record;
use anteroom::kernel::session::{Due, Errand, Refused, Session, SessionId, State, Status};
use anteroom::kernel::time::{Offset, Timestamp};
use anteroom::kernel::verdict::{Failure, Verdict};
use anteroom::sessions::{Create, CreateError, Idempotency, Observer, Quota, Restored, Sessions};
use anteroom::store::Store;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::ManualClock;
use crate::conformance::{contents, put};
use crate::database::{Database, on_every_database};
use crate::sample::{self, LIFETIME, START, Stage, TERMS};

const ID: Uuid = Uuid::from_u128(0x4711);
const INTERVAL: Duration = Duration::from_secs(5);
const GAP: Duration = Duration::from_secs(6);

fn restored(record: Record, now: Timestamp, jitter: u8) -> Option<Session> {
    Session::restored(record, now, Jitter(jitter)).expect("our own record")
}

/// A pending session that was loaded at `now` and asked about when it was due.
fn first_answer(now: Timestamp, verdict: Verdict) -> Session {
    sample::polled(restored(sample::pending(ID).record(), now, 0).expect("it goes on"), verdict)
}

fn failure(session: &Session) -> Option<Failure> {
    match session.state() {
        State::Failed { failure, .. } => Some(*failure),
        _ => None,
    }
}

// === one session ===

#[test]
fn first_polls_are_never_early_and_spread_over_one_interval() {
    let loaded = START + Duration::from_secs(60);
    let at = |jitter| restored(sample::pending(ID).record(), loaded, jitter).and_then(|session| session.next_poll_at()).expect("pending");
    assert_eq!(at(0), loaded + GAP);
    assert!((0..255).all(|jitter| at(jitter) < at(jitter + 1)));
    assert!(at(255) < loaded + GAP + INTERVAL && at(255) > loaded + GAP + INTERVAL - Duration::from_millis(50));
}

#[test]
fn a_slowed_pace_survives() {
    let slowed = sample::polled(sample::pending(ID), Verdict::SlowDown { interval: None, retry_after: None });
    let loaded = START + Duration::from_secs(60);
    let next = restored(slowed.record(), loaded, 0).and_then(|session| session.next_poll_at());
    assert_eq!(next, Some(loaded + Duration::from_secs(14)), "10 s × 1.4");
}

#[test]
fn a_code_that_died_before_its_time_lost_its_grant() {
    for verdict in [Verdict::DeadCode, Verdict::Expired] {
        assert_eq!(failure(&first_answer(START + GAP, verdict)), Some(Failure::GrantLost));
    }
    let unheard = first_answer(START + GAP, Verdict::Unreachable { ambiguous: false, retry_after: None });
    assert_eq!(failure(&sample::polled(unheard, Verdict::DeadCode)), Some(Failure::GrantLost), "still in doubt");
}

#[test]
fn a_code_that_died_in_its_time_has_expired() {
    let close = START + LIFETIME - Duration::from_secs(1);
    for verdict in [Verdict::DeadCode, Verdict::Expired] {
        assert_eq!(first_answer(close, verdict).status(), Status::Expired);
    }
}

#[test]
fn a_code_that_the_provider_still_knew_is_not_in_doubt() {
    let heard = first_answer(START + GAP, Verdict::Pending);
    assert_eq!(failure(&sample::polled(heard, Verdict::DeadCode)), Some(Failure::ProviderRejected));
}

#[test]
fn tokens_that_are_still_to_be_had_are_taken() {
    assert_eq!(first_answer(START + GAP, Verdict::Authorized(sample::grant())).status(), Status::Authorized);
}

#[test]
fn what_expired_meanwhile_lapses_at_once() {
    for (stage, becomes) in [(Stage::Pending, Status::Expired), (Stage::Authorized, Status::Expired), (Stage::Held, Status::Claimed)] {
        let loaded = START + LIFETIME;
        let session = restored(sample::in_stage(stage, ID).record(), loaded, 200).expect("it goes on");
        assert!(matches!(session.due(&TERMS), Some((at, Due::Lapse)) if at <= loaded), "{stage:?}");
        let lapsed = sample::lapsed(session, loaded);
        assert_eq!(lapsed.status(), becomes, "{stage:?}");
        assert!(lapsed.record().secrets.grant.is_none());
    }
}

/// What readers see change and nothing saves is saved before it is more than a restart makes up for.
#[test]
fn no_more_revisions_are_seen_unsaved_than_a_restart_adds() {
    let mut session = sample::pending(ID);
    let mut saved = session.record();
    for flip in 0..2_500 {
        let verdict = |failed| if failed { Verdict::Unreachable { ambiguous: false, retry_after: None } } else { Verdict::Pending };
        for failed in [true, true, true, false] {
            let Ok((announced, Some((attempt, _)))) = session.clone().attempt(session.next_poll_at().expect("pending")) else { break };
            let next = announced.report(attempt, verdict(failed), START, Jitter(0), &TERMS).expect("the attempt is open");
            if next.version() != session.version() {
                saved = next.record();
            }
            session = next;
        }
        let unsaved = session.revision() - saved.revision;
        assert!(unsaved < 1_000, "{unsaved} after {flip} times");
    }
    assert!(session.revision() > 4_000, "{}", session.revision());
}

#[test]
fn a_clock_that_was_set_back_makes_nothing_last_longer_than_it_may() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    for stage in Stage::ALL {
        let mut record = sample::in_stage(stage, ID).record();
        // The longest that is left of each, once the clock was set back by a day.
        let now = START - DAY;
        assert!(record.cut(now, &TERMS) || stage == Stage::Starting, "{stage:?}");
        assert!(record.opened_at <= now);
        assert!(!record.clone().cut(now, &TERMS), "{stage:?}: once is enough");
        let Some(session) = restored(record.clone(), now, 0) else { continue };
        let prompt = session.prompt().expect("it has a code");
        assert_eq!(prompt.expires_at <= now + LIFETIME, stage == Stage::Pending, "{stage:?}");
        assert!(prompt.expires_at <= now + DAY, "{stage:?}");
        assert!(session.creation().is_none_or(|creation| creation.until <= now + minutes(10)), "{stage:?}");
        match session.state() {
            State::Authorized { claim_by, .. } => assert_eq!(*claim_by, now + TERMS.claim_ttl),
            State::Claimed { at, held } => {
                assert_eq!(*at, now);
                assert!(held.as_ref().is_none_or(|held| held.until == now + minutes(1)));
            }
            State::Denied { at } | State::Expired { at } | State::Cancelled { at } | State::Failed { at, .. } => assert_eq!(*at, now),
            State::Starting | State::Pending(_) | State::Verifying(_) => {}
        }
        // Whatever it is, time alone ends it.
        let over = sample::lapsed(session, now + DAY + minutes(61));
        assert!(over.is_settled() || matches!(stage, Stage::Pending | Stage::Verifying), "{stage:?}");
    }
}

#[test]
fn what_cannot_last_too_long_is_as_it_was() {
    for stage in Stage::ALL {
        let mut record = sample::in_stage(stage, ID).record();
        let before = sample::told(&record);
        assert!(!record.cut(START + Duration::from_secs(30), &TERMS), "{stage:?}");
        assert_eq!(sample::told(&record), before, "{stage:?}");
    }
}

#[tokio::test]
async fn times_are_stored_by_the_wall_clock() {
    let (database, clock) = (Database::sqlite(), ManualClock::starting_at(START));
    let id = |stage: Stage| Uuid::from_u128(stage as u128);
    let as_they_were = |shift: i64| {
        let told = |stage| sample::told(&sample::in_stage(stage, id(stage)).record().by_the_wall(Offset::from_millis(shift)));
        Stage::ALL.map(|stage| (id(stage), told(stage))).to_vec()
    };
    let store = database.open(clock.as_clock()).await.expect("a new database");
    clock.set_wall_ahead(120_000);
    for stage in Stage::ALL {
        put(&store, &sample::in_stage(stage, id(stage))).await;
    }
    assert_eq!(contents(&store).await, as_they_were(0), "for whoever counts on, nothing has changed");
    store.close().await;
    drop(store);
    let next = database.open(ManualClock::starting_at(START + Duration::from_secs(120)).as_clock()).await.expect("the same database");
    assert_eq!(contents(&next).await, as_they_were(120_000), "the next start begins with the right time");
}

#[test]
fn a_creation_that_was_cut_off_is_dropped() {
    assert!(restored(sample::opened(ID).record(), START, 0).is_none());
    let abandoned = sample::opened(ID).fail(Failure::ProviderTimeout, START).expect("it was starting");
    assert!(restored(abandoned.record(), START, 0).is_none(), "its creator heard of no session");
}

#[test]
fn a_pending_revocation_goes_on() {
    let session = restored(sample::in_stage(Stage::Revoking, ID).record(), START + Duration::from_secs(60), 0).expect("it goes on");
    let (_, announced) = session.attempt(START + Duration::from_secs(60)).expect("it is due");
    assert!(matches!(announced, Some((_, Errand::Revoke(_)))));
}

#[test]
fn a_revocation_whose_time_is_over_is_dropped() {
    let session = restored(sample::in_stage(Stage::Revoking, ID).record(), START + Duration::from_secs(2 * 3600), 0).expect("it goes on");
    assert!(session.record().secrets.revocations.is_empty());
    assert!(matches!(session.due(&TERMS), Some((_, Due::Lapse))));
}

#[test]
fn tokens_that_wait_for_their_verification_go_on_waiting() {
    let soon = START + Duration::from_secs(30);
    let session = restored(sample::in_stage(Stage::Verifying, ID).record(), soon, 0).expect("it goes on");
    let (session, announced) = session.attempt(soon).expect("it is due");
    let Some((attempt, Errand::Verify(grant))) = announced else { panic!("not to be verified") };
    let verified = session.verified(attempt, Verdict::Authorized(grant), soon, &TERMS).expect("the attempt is open");
    assert_eq!(verified.status(), Status::Authorized);
}

#[test]
fn the_first_claim_key_may_still_read_and_no_other() {
    let soon = START + Duration::from_secs(30);
    let session = restored(sample::in_stage(Stage::Held, ID).record(), soon, 0).expect("it goes on");
    assert!(session.clone().claim(Some([9; 32]), soon).is_ok());
    assert_eq!(session.clone().claim(Some([8; 32]), soon).expect_err("another key"), Refused::AlreadyClaimed);
    assert_eq!(session.claim(Some([9; 32]), START + Duration::from_secs(70)).expect_err("too late"), Refused::AlreadyClaimed);
}

#[test]
fn a_record_that_contradicts_itself_is_refused() {
    let without = |stage, remove: fn(&mut Record)| {
        let mut record = sample::in_stage(stage, ID).record();
        remove(&mut record);
        Session::restored(record, START, Jitter(0)).is_err()
    };
    assert!(without(Stage::Pending, |record| record.secrets.device_code = None));
    assert!(without(Stage::Pending, |record| record.secrets.creation = None));
    assert!(without(Stage::Pending, |record| record.secrets.grant = Some(sample::grant())));
    assert!(without(Stage::Authorized, |record| record.secrets.grant = None));
    assert!(without(Stage::Held, |record| record.secrets.grant = None));
    assert!(without(Stage::Denied, |record| record.secrets.grant = Some(sample::grant())));
    assert!(without(Stage::Revoking, |record| record.secrets.revocations.clear()));
}

// === all of them ===

#[derive(Default)]
pub struct Heard(Mutex<Vec<(&'static str, SessionId)>>);

impl Heard {
    pub fn is_silent(&self) -> bool {
        self.0.lock().expect("no panic").is_empty()
    }

    pub fn lost(&self) -> Vec<SessionId> {
        self.0.lock().expect("no panic").iter().filter(|(what, _)| *what == "lost").map(|(_, id)| *id).collect()
    }
}

impl Observer for Heard {
    fn opened(&self, session: &Session) {
        self.0.lock().expect("no panic").push(("opened", session.id()));
    }
    fn moved(&self, _: &Session, after: &Session) {
        self.0.lock().expect("no panic").push(("moved", after.id()));
    }
    fn lost(&self, session: &Session) {
        self.0.lock().expect("no panic").push(("lost", session.id()));
    }
    fn gone(&self, session: &Session) {
        self.0.lock().expect("no panic").push(("gone", session.id()));
    }
    fn forgotten_early(&self, _: usize) {}
    fn stranded(&self, id: SessionId) {
        self.0.lock().expect("no panic").push(("stranded", id));
    }
}

struct Service {
    sessions: Sessions,
    heard: Arc<Heard>,
    restored: Restored,
}

/// Restores from `store` one minute after the sample sessions were opened.
async fn restart(store: &Arc<dyn Store>, most: usize) -> Service {
    let clock = ManualClock::starting_at(START + Duration::from_secs(60)).as_clock();
    let heard = Arc::<Heard>::default();
    let sessions = Sessions::new(
        TERMS,
        Quota::new(most, []),
        clock,
        Arc::clone(store),
        Arc::new(Notify::new()),
        Arc::clone(&heard) as Arc<dyn Observer>,
    );
    let restored = sessions.restore().await.expect("the store can be read");
    Service { sessions, heard, restored }
}

async fn open(database: &Database) -> Arc<dyn Store> {
    database.open(ManualClock::default().as_clock()).await.expect("it opens")
}

on_every_database!(every_acknowledged_session_goes_on, a_repeated_creation_gets_the_same_session);

/// Two starts without a save between them, too.
async fn revisions_over_restarts(database: Database) {
    let store = open(&database).await;
    put(&store, &sample::pending(ID)).await;
    let (mut store, mut database, mut seen) = (store, database, Vec::new());
    for round in 0..6 {
        let Service { sessions, .. } = restart(&store, 10).await;
        let before = sessions.peek(ID).expect("it goes on");
        seen.push(before.revision());
        if round == 3 {
            sessions.cancel(ID).await.expect("it is pending");
            seen.push(sessions.peek(ID).expect("it is there").revision());
        }
        database = database.crash(store).await;
        store = open(&database).await;
    }
    assert!(seen.is_sorted_by(|before, after| before + 1_000 <= *after || before + 1 == *after), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_revision_repeats_with_sqlite() {
    revisions_over_restarts(Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_revision_repeats_with_postgres() {
    if let Some(database) = crate::database::postgres().await {
        revisions_over_restarts(database).await;
    }
}

async fn every_acknowledged_session_goes_on(database: Database) {
    let store = open(&database).await;
    let before: Vec<_> = Stage::ALL.into_iter().map(|stage| sample::in_stage(stage, Uuid::new_v4())).collect();
    for session in &before {
        put(&store, session).await;
    }
    let database = database.crash(store).await;
    let store = open(&database).await;
    let Service { sessions, heard, restored } = restart(&store, 3).await;
    assert_eq!(restored, Restored { sessions: 10, unreadable: 0, dropped: 1 });
    assert!(heard.lost().is_empty());
    for session in &before {
        let after = sessions.peek(session.id());
        match session.status() {
            Status::Starting => assert!(after.is_none()),
            status => assert_eq!(after.map(|after| after.status()), Some(status)),
        }
    }
    assert_eq!(sessions.live(), 3, "the pending, the verifying and the authorized one");
    let create = Create { provider: "acme".into(), scope: "".into(), label: None, caller: None, idempotency: None, refusal: None };
    assert_eq!(sessions.create(create).await.err(), Some(CreateError::TooMany), "they count against the limit");
    sessions.drain().await;
    assert_eq!(contents(&store).await.len(), 10, "the row of the cut off creation is gone");
}

async fn a_repeated_creation_gets_the_same_session(database: Database) {
    let store = open(&database).await;
    put(&store, &sample::pending(ID)).await;
    let Service { sessions, .. } = restart(&store, 10).await;
    let idempotency = Some(Idempotency { key: [1; 32], fingerprint: [2; 32] });
    let create =
        Create { provider: "acme".into(), scope: "".into(), label: None, caller: Some("tv-backend".into()), idempotency, refusal: None };
    let created = sessions.create(create.clone()).await.expect("it is there already");
    assert_eq!((created.session.id(), created.repeated), (ID, true));
    assert_eq!(secrecy::ExposeSecret::expose_secret(&created.secret), sample::SECRETS[5]);
    let mismatch = Create { idempotency: Some(Idempotency { key: [1; 32], fingerprint: [3; 32] }), ..create };
    assert_eq!(sessions.create(mismatch).await.err(), Some(CreateError::Mismatch));
}

/// As somebody does who has the file.
async fn tamper(path: &std::path::Path, sql: &'static str, id: SessionId) {
    let mut file = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.expect("the file");
    assert_eq!(sqlx::query(sql).bind(id).execute(&mut file).await.expect("the statement").rows_affected(), 1);
    file.close().await.expect("it closes");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_that_session_for_good_and_no_other() {
    const TAMPERINGS: &[&str] = &[
        "UPDATE sessions SET key_id = 'another' WHERE id = ?",
        "UPDATE sessions SET key_id = '' WHERE id = ?",
        "UPDATE sessions SET key_id = CAST(x'ff' AS TEXT) WHERE id = ?",
        "UPDATE sessions SET epoch = epoch + 1 WHERE id = ?",
        "UPDATE sessions SET epoch = 0 WHERE id = ?",
        "UPDATE sessions SET device_code = zeroblob(80) WHERE id = ?",
        "UPDATE sessions SET facts = '{}' WHERE id = ?",
        "UPDATE sessions SET facts = CAST(x'ff' AS TEXT) WHERE id = ?",
        "UPDATE sessions SET provider = CAST(x'ff' AS TEXT) WHERE id = ?",
        "UPDATE sessions SET version = -5 WHERE id = ?",
        "UPDATE sessions SET status = 'paused', facts = replace(facts, 'pending', 'paused') WHERE id = ?",
    ];
    for &tampering in TAMPERINGS {
        let database = Database::sqlite();
        let store = open(&database).await;
        let [healthy, broken] = [sample::pending(Uuid::new_v4()), sample::pending(Uuid::new_v4())];
        put(&store, &healthy).await;
        put(&store, &broken).await;
        store.close().await;
        let Database::Sqlite(scratch) = &database else { unreachable!() };
        tamper(&scratch.join("a.db"), tampering, broken.id()).await;

        let store = open(&database).await;
        let Service { sessions, heard, restored } = restart(&store, 10).await;
        assert_eq!(restored, Restored { sessions: 1, unreadable: 1, dropped: 0 }, "{tampering}");
        assert_eq!(heard.lost(), [broken.id()]);
        let failed = sessions.get(broken.id()).expect("it can be seen");
        assert_eq!(failure(&failed), Some(Failure::InternalError));
        assert_eq!(sessions.get(healthy.id()).map(|session| session.status()), Some(Status::Pending));
        store.close().await;

        let store = open(&database).await;
        let Service { sessions, restored, .. } = restart(&store, 10).await;
        assert_eq!(restored, Restored { sessions: 2, unreadable: 0, dropped: 0 }, "it is durable: {tampering}");
        assert_eq!(sessions.get(broken.id()).as_deref().and_then(failure), Some(Failure::InternalError));
    }
}

/// What a table with types would never take, and a damaged file has nevertheless.
#[tokio::test]
async fn a_cell_of_the_wrong_kind_is_one_bad_row() {
    const COLUMNS: [&str; 15] = [
        "id",
        "version",
        "revision",
        "provider",
        "caller",
        "status",
        "opened_at",
        "facts",
        "key_id",
        "device_code",
        "tokens",
        "secret",
        "revocation",
        "seal",
        "epoch",
    ];
    for column in COLUMNS {
        for value in ["NULL", "x'00ff'", "'text'", "1.5"] {
            if (column, value) == ("caller", "'text'") || value == "NULL" && ["caller", "tokens", "revocation"].contains(&column) {
                continue;
            }
            let database = Database::sqlite();
            let store = open(&database).await;
            let [healthy, broken] = [sample::pending(Uuid::new_v4()), sample::pending(Uuid::new_v4())];
            put(&store, &healthy).await;
            put(&store, &broken).await;
            store.close().await;
            let Database::Sqlite(scratch) = &database else { unreachable!() };
            loosen(&scratch.join("a.db"), true).await;
            let sql = format!("UPDATE sessions SET {column} = {value} WHERE id = ?");
            let mut file = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(scratch.join("a.db"))).await.expect("it");
            sqlx::query(sqlx::AssertSqlSafe(sql.clone())).bind(broken.id()).execute(&mut file).await.expect("the statement");
            file.close().await.expect("it closes");
            loosen(&scratch.join("a.db"), false).await;

            let store = open(&database).await;
            let Service { sessions, heard, restored } = restart(&store, 10).await;
            assert_eq!(restored, Restored { sessions: 1, unreadable: 1, dropped: 0 }, "{sql}");
            assert_eq!(heard.lost().len(), 1, "{sql}");
            if column != "id" {
                assert_eq!(sessions.get(broken.id()).as_deref().and_then(failure), Some(Failure::InternalError), "{sql}");
            }
            assert_eq!(sessions.get(healthy.id()).map(|session| session.status()), Some(Status::Pending), "{sql}");
            store.close().await;
        }
    }
}

/// Takes the types and conditions of the columns away, or puts them back.
async fn loosen(path: &std::path::Path, loose: bool) {
    let mut file = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.expect("the file");
    let (kept, table) = ("kept_schema", "type = 'table' AND name = 'sessions'");
    let sql = if loose {
        format!(
            "CREATE TABLE {kept} AS SELECT sql FROM sqlite_schema WHERE {table}; PRAGMA writable_schema = on; \
             UPDATE sqlite_schema SET sql = 'CREATE TABLE sessions (id PRIMARY KEY, version, revision, provider, caller, status, opened_at, \
             facts, key_id, device_code, tokens, secret, revocation, seal, epoch)' WHERE {table}; PRAGMA writable_schema = off"
        )
    } else {
        format!(
            "PRAGMA writable_schema = on; UPDATE sqlite_schema SET sql = (SELECT sql FROM {kept}) WHERE {table}; \
             PRAGMA writable_schema = reset; DROP TABLE {kept}"
        )
    };
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut file).await.expect("the statements");
    file.close().await.expect("it closes");
}

/// The same in PostgreSQL, whose columns hold fast to their types.
#[tokio::test]
async fn a_damaged_cell_is_one_bad_row_in_postgres() {
    for damage in ["key_id = 'another'", "key_id = ''", "facts = '{'", "seal = ''", "epoch = 9", "version = NULL", "key_id = NULL"] {
        let Some(database) = crate::database::postgres().await else { return };
        let store = open(&database).await;
        let [healthy, broken] = [sample::pending(Uuid::new_v4()), sample::pending(Uuid::new_v4())];
        put(&store, &healthy).await;
        put(&store, &broken).await;
        store.close().await;
        let Database::Postgres(schema) = &database else { unreachable!() };
        let mut beside = schema.connect().await;
        let sql = format!(
            "ALTER TABLE sessions ALTER version DROP NOT NULL, ALTER key_id DROP NOT NULL; \
             UPDATE sessions SET {damage} WHERE id = '{}'",
            broken.id()
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut beside).await.expect("the statements");

        let store = open(&database).await;
        let Service { sessions, restored, .. } = restart(&store, 10).await;
        assert_eq!(restored, Restored { sessions: 1, unreadable: 1, dropped: 0 }, "{damage}");
        assert_eq!(sessions.get(broken.id()).as_deref().and_then(failure), Some(Failure::InternalError), "{damage}");
        store.close().await;
    }
}
